//! `env`: its options, its assignments, and the command line hidden in `-S`.
//!
//! Options are exec and approvals §3.3; the string after `-S` is split by the rules of GNU env, so
//! that the words seen here are the words that run (D5).

use super::Inner;

/// How many `-S` strings may stand inside one another.
const MAX_SPLITS: usize = 32;

const SHORT_VALUES: &str = "CPua";
const SHORT_FLAGS: &str = "0iv";
const CHDIR: &str = "--chdir";
const SPLIT: &str = "--split-string";
const LONG_VALUES: [&str; 7] = [
    "--argv0",
    "--block-signal",
    CHDIR,
    "--default-signal",
    "--ignore-signal",
    SPLIT,
    "--unset",
];
const LONG_FLAGS: [&str; 4] = [
    "--debug",
    "--ignore-environment",
    "--list-signal-handling",
    "--null",
];

/// What stands between `env` and its command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prelude {
    /// The names that are assigned, in order, also those inside `-S` strings.
    pub assigned: Vec<String>,
    /// Whether the command sees another environment, directory or signal mask than without `env`.
    pub changes_environment: bool,
    /// Whether the command runs in another directory (`-C`).
    pub changes_directory: bool,
    /// Where the command is.
    pub inner: Inner,
}

impl Prelude {
    /// Reads the prelude of an argv whose first word is `env`; `None` if no command can be told.
    #[must_use]
    pub fn of(argv: &[String]) -> Option<Self> {
        Self::read(argv, 0)
    }

    fn read(argv: &[String], splits: usize) -> Option<Self> {
        let mut assigned = Vec::new();
        let mut changes_environment = false;
        let mut changes_directory = false;
        let mut options = true;
        let mut position = 1;
        loop {
            let word = argv.get(position).filter(|word| !word.is_empty())?;
            if options && (word == "--" || word == "-") {
                options = false;
                position += 1;
            } else if options && word.starts_with('-') {
                changes_environment = true;
                let option = EnvOption::read(word)?;
                changes_directory |= option.changes_directory;
                match option.argument {
                    Argument::None => position += 1,
                    Argument::Next => position += 2,
                    Argument::Split(attached) => {
                        let (string, rest) = match attached {
                            Some(string) => (string, position + 1),
                            None => (argv.get(position + 1)?.as_str(), position + 2),
                        };
                        let trailing = argv.get(rest..).unwrap_or_default();
                        let nested = Self::behind_split(string, trailing, splits)?;
                        assigned.extend(nested.assigned);
                        changes_directory |= nested.changes_directory;
                        return Some(Self {
                            assigned,
                            changes_directory,
                            ..nested
                        });
                    }
                }
            } else if let Some(name) = assigned_name(word) {
                assigned.push(name.to_owned());
                changes_environment = true;
                position += 1;
            } else {
                let inner = Inner::At(position);
                return Some(Self {
                    assigned,
                    changes_environment,
                    changes_directory,
                    inner,
                });
            }
        }
    }

    /// `env` reads the words of the string as if they stood in its own argv, options included.
    fn behind_split(string: &str, trailing: &[String], splits: usize) -> Option<Self> {
        if splits == MAX_SPLITS {
            return None;
        }
        let mut words = vec!["env".to_owned()];
        words.extend(split(string)?);
        words.extend_from_slice(trailing);
        let nested = Self::read(&words, splits + 1)?;
        let (words, own) = match nested.inner {
            Inner::At(position) => {
                let words = words.get(position..).unwrap_or_default().to_vec();
                let own = words.len();
                (words, own)
            }
            Inner::Rewritten { words, trailing } => (words, trailing),
        };
        let inner = Inner::Rewritten {
            words,
            trailing: own.min(trailing.len()),
        };
        Some(Self {
            changes_environment: true,
            inner,
            ..nested
        })
    }
}

/// The name in `NAME=value`. As for `env` itself, any word with a `=` assigns, whatever its name.
fn assigned_name(word: &str) -> Option<&str> {
    word.split_once('=')
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty())
}

/// What one option word of `env` says.
struct EnvOption<'a> {
    argument: Argument<'a>,
    changes_directory: bool,
}

enum Argument<'a> {
    /// The option stands alone, or holds its value.
    None,
    /// The next word is its value.
    Next,
    /// A command line is its value, which may be attached.
    Split(Option<&'a str>),
}

impl<'a> EnvOption<'a> {
    fn read(word: &'a str) -> Option<Self> {
        if word.starts_with("--") {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let name = long_name(name)?;
            let argument = if name == SPLIT {
                Argument::Split(value)
            } else if LONG_FLAGS.contains(&name) || value.is_some() {
                Argument::None
            } else {
                Argument::Next
            };
            return Some(Self {
                argument,
                changes_directory: name == CHDIR,
            });
        }
        let letters = word.strip_prefix('-')?;
        for (position, letter) in letters.char_indices() {
            let attached = letters
                .get(position + letter.len_utf8()..)
                .filter(|rest| !rest.is_empty());
            let argument = match letter {
                'S' | 's' => Argument::Split(attached),
                _ if SHORT_FLAGS.contains(letter) => continue,
                _ if !SHORT_VALUES.contains(letter) => return None,
                _ if attached.is_some() => Argument::None,
                _ => Argument::Next,
            };
            return Some(Self {
                argument,
                changes_directory: letter == 'C',
            });
        }
        Some(Self {
            argument: Argument::None,
            changes_directory: false,
        })
    }
}

/// The long option that `name` spells, in full or by an unambiguous beginning as getopt allows.
fn long_name(name: &str) -> Option<&'static str> {
    let known = || LONG_FLAGS.into_iter().chain(LONG_VALUES);
    known().find(|option| *option == name).or_else(|| {
        let mut meant = known().filter(|option| option.starts_with(name));
        meant.next().filter(|_| meant.next().is_none())
    })
}

/// Splits a `-S` string as GNU env does; `None` where env itself would refuse it.
///
/// `${NAME}` stays as it is written: which value it would take is not known here.
fn split(string: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = string.chars();
    while let Some(letter) = rest.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r') => words.extend(word.take()),
            (Some('\''), '\\') => {
                let escaped = rest.next()?;
                let word = word.get_or_insert_default();
                if !matches!(escaped, '\\' | '\'') {
                    word.push('\\');
                }
                word.push(escaped);
            }
            (_, '\\') => match rest.next()? {
                '_' if quote.is_none() => words.extend(word.take()),
                'c' if quote.is_none() => break,
                escaped => word.get_or_insert_default().push(unescaped(escaped)?),
            },
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return None;
    }
    words.extend(word);
    Some(words)
}

fn unescaped(letter: char) -> Option<char> {
    Some(match letter {
        '"' | '#' | '$' | '\'' | '\\' => letter,
        '_' => ' ',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Option<(Vec<String>, bool, Vec<String>)> {
        let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Prelude::of(&argv).map(|prelude| {
            let command = match prelude.inner {
                Inner::At(position) => argv[position..].to_vec(),
                Inner::Rewritten { words, .. } => words,
            };
            (prelude.assigned, prelude.changes_environment, command)
        })
    }

    #[test]
    fn a_command_is_found_behind_options_and_assignments() {
        type Case = (
            &'static [&'static str],
            &'static [&'static str],
            bool,
            &'static [&'static str],
        );
        #[rustfmt::skip]
        let cases: &[Case] = &[
            (&["env", "echo", "a"], &[], false, &["echo", "a"]),
            (&["env", "--", "echo", "a"], &[], false, &["echo", "a"]),
            (&["env", "-", "echo"], &[], false, &["echo"]),
            (&["env", "A=1", "B=", "echo"], &["A", "B"], true, &["echo"]),
            (&["env", "--", "A=1", "echo"], &["A"], true, &["echo"]),
            (&["env", "BASH_FUNC_ls%%=() { :; }", "ls"], &["BASH_FUNC_ls%%"], true, &["ls"]),
            (&["env", "-i", "echo"], &[], true, &["echo"]),
            (&["env", "-iu", "HOME", "echo"], &[], true, &["echo"]),
            (&["env", "-uHOME", "-C", "/", "echo"], &[], true, &["echo"]),
            (&["env", "--chdir=/", "--unset", "A", "echo"], &[], true, &["echo"]),
            (&["env", "--ignore-e", "--chd", "/", "echo"], &[], true, &["echo"]),
            (&["env", "-v", "A=1", "echo"], &["A"], true, &["echo"]),
        ];
        for (argv, assigned, changes, command) in cases {
            let (found, changed, words) = read(argv).unwrap_or_else(|| panic!("{argv:?}"));
            assert_eq!(found, *assigned, "{argv:?}");
            assert_eq!(changed, *changes, "{argv:?}");
            assert_eq!(words, *command, "{argv:?}");
        }
    }

    #[test]
    fn the_words_of_a_split_string_are_read_as_env_would() {
        #[rustfmt::skip]
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["env", "-S", "LD_PRELOAD=z echo hi"], &["LD_PRELOAD"], &["echo", "hi"]),
            (&["env", "-SA=1 echo", "hi"], &["A"], &["echo", "hi"]),
            (&["env", "-iS", "A=1 echo"], &["A"], &["echo"]),
            (&["env", "--split-string=A=1", "B=2", "echo"], &["A", "B"], &["echo"]),
            (&["env", "--sp", "A=1 echo"], &["A"], &["echo"]),
            (&["env", "C=3", "-S", "-u X A=1 echo 'a b'"], &["C", "A"], &["echo", "a b"]),
            (&["env", "-S", r#"-S "A=1 echo" x"#], &["A"], &["echo", "x"]),
            (&["env", "-S", r"'LD_PRELOAD'=x echo a\_b\tc"], &["LD_PRELOAD"], &["echo", "a", "b\tc"]),
            (&["env", "-S", r"echo \c A=1"], &[], &["echo"]),
            (&["env", "-S", "echo # A=1"], &[], &["echo"]),
            (&["env", "-S", r#"echo "" a"#], &[], &["echo", "", "a"]),
        ];
        for (argv, assigned, command) in cases {
            let (found, _, words) = read(argv).unwrap_or_else(|| panic!("{argv:?}"));
            assert_eq!(found, *assigned, "{argv:?}");
            assert_eq!(words, *command, "{argv:?}");
        }
    }

    #[test]
    fn no_command_is_told_where_env_would_refuse_or_print() {
        for argv in [
            &["env"][..],
            &["env", "A=1"],
            &["env", "-Z", "echo"],
            &["env", "--i", "echo"],
            &["env", "-u"],
            &["env", "", "echo"],
            &["env", "-S", "'open"],
            &["env", "-S"],
        ] {
            assert_eq!(read(argv), None, "{argv:?}");
        }
    }

    #[test]
    fn a_change_of_directory_is_told() {
        for (words, expected) in [
            (&["env", "-C", "/", "echo"][..], true),
            (&["env", "-iC/", "echo"], true),
            (&["env", "--chdir=/", "echo"], true),
            (&["env", "-S", "-C / echo"], true),
            (&["env", "-C", "/", "-S", "echo"], true),
            (&["env", "-u", "-C", "echo"], false),
            (&["env", "echo", "-C", "/"], false),
        ] {
            let argv: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(
                Prelude::of(&argv).unwrap().changes_directory,
                expected,
                "{words:?}"
            );
        }
    }

    #[test]
    fn split_strings_nest_only_so_deep() {
        let mut argv = vec!["env".to_owned()];
        argv.extend(std::iter::repeat_n("-S".to_owned(), 100));
        argv.push("echo".to_owned());
        assert_eq!(Prelude::of(&argv), None);
    }

    #[test]
    fn trailing_words_keep_their_place() {
        let argv: Vec<String> = ["env", "-S", "sh -x", "run.sh"].map(str::to_owned).to_vec();
        let prelude = Prelude::of(&argv).unwrap();
        let words = ["sh", "-x", "run.sh"].map(str::to_owned).to_vec();
        assert_eq!(prelude.inner, Inner::Rewritten { words, trailing: 1 });
    }
}
