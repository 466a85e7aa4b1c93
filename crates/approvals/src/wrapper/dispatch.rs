//! Programs that start another program: which option spellings let one see the command behind them.
//!
//! The table is exec and approvals §3.3, read with D8: an option's value may be attached to it
//! (`timeout -k1 5 …`) and short flags may share a word. Anything else hides the command.

use super::{Inner, env, executable_name};

/// What an argv's first word means for what follows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dispatch {
    /// It is not a dispatch wrapper.
    Absent,
    /// It is one, and what it would start cannot be told.
    Opaque {
        /// Its normalised name.
        name: String,
    },
    /// It is one around a command that can be told.
    Around {
        /// Its normalised name.
        name: String,
        /// Where the command is.
        inner: Inner,
        /// Whether it leaves the command's meaning alone, so that policy may look through it.
        transparent: bool,
    },
}

/// Wrappers whose command is never looked at: they change who runs it, where, or what it sees.
///
/// `arch`, `script` and `xcrun` start a positional command on other systems only.
const OPAQUE: [&str; 35] = [
    "arch",
    "bwrap",
    "catchsegv",
    "chroot",
    "chrt",
    "cpulimit",
    "doas",
    "eatmydata",
    "firejail",
    "gosu",
    "ionice",
    "linux32",
    "linux64",
    "nsenter",
    "numactl",
    "pkexec",
    "proot",
    "proxychains",
    "proxychains4",
    "runuser",
    "script",
    "setarch",
    "setpriv",
    "setsid",
    "su",
    "sudo",
    "systemd-run",
    "taskset",
    "torify",
    "torsocks",
    "unbuffer",
    "unshare",
    "watch",
    "xcrun",
    "xvfb-run",
];

/// The options of one wrapper that keep its command visible.
struct Grammar {
    name: &'static str,
    short_flags: &'static str,
    short_values: &'static str,
    long_flags: &'static [&'static str],
    long_values: &'static [&'static str],
    /// `-5` is an option of its own.
    digits: bool,
    /// Short options are told apart by case.
    case_matters: bool,
    /// What stands between the options and the command.
    operand: Operand,
    /// Options that make the wrapper itself act on the machine.
    acting: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operand {
    None,
    /// A duration.
    Skipped,
    /// A lock file, after which an option would change how the command is given.
    BeforeBareCommand,
}

const PLAIN: Grammar = Grammar {
    name: "",
    short_flags: "",
    short_values: "",
    long_flags: &[],
    long_values: &[],
    digits: false,
    case_matters: false,
    operand: Operand::None,
    acting: &[],
};

const GRAMMARS: [Grammar; 8] = [
    Grammar {
        name: "caffeinate",
        short_flags: "dimsu",
        short_values: "tw",
        ..PLAIN
    },
    Grammar {
        name: "flock",
        short_flags: "eFnsxo",
        short_values: "Ew",
        long_flags: &[
            "--close",
            "--exclusive",
            "--nb",
            "--no-fork",
            "--nonblock",
            "--shared",
            "--verbose",
        ],
        long_values: &["--conflict-exit-code", "--timeout", "--wait"],
        case_matters: true,
        operand: Operand::BeforeBareCommand,
        ..PLAIN
    },
    Grammar {
        name: "nice",
        short_values: "n",
        long_values: &["--adjustment", "--priority"],
        digits: true,
        ..PLAIN
    },
    Grammar {
        name: "nohup",
        long_flags: &["--help", "--version"],
        ..PLAIN
    },
    Grammar {
        name: "sandbox-exec",
        short_values: "fpd",
        ..PLAIN
    },
    Grammar {
        name: "stdbuf",
        short_values: "ioe",
        long_values: &["--input", "--output", "--error"],
        ..PLAIN
    },
    Grammar {
        name: "time",
        short_flags: "ahlpqv",
        short_values: "fo",
        long_flags: &["--append", "--help", "--quiet", "--verbose", "--version"],
        long_values: &["--format", "--output"],
        acting: &["-o", "--output"],
        ..PLAIN
    },
    Grammar {
        name: "timeout",
        short_flags: "v",
        short_values: "ks",
        long_flags: &["--foreground", "--preserve-status", "--verbose"],
        long_values: &["--kill-after", "--signal"],
        operand: Operand::Skipped,
        ..PLAIN
    },
];

/// Looks behind the first word of `words`.
#[must_use]
pub fn unwrap(words: &[String]) -> Dispatch {
    let Some(token) = words.first() else {
        return Dispatch::Absent;
    };
    let name = executable_name(token);
    if name == "env" {
        return match env::Prelude::of(words) {
            Some(prelude) => Dispatch::Around {
                name,
                transparent: !prelude.changes_environment,
                inner: prelude.inner,
            },
            None => Dispatch::Opaque { name },
        };
    }
    if OPAQUE.contains(&name.as_str()) {
        return Dispatch::Opaque { name };
    }
    let Some(grammar) = GRAMMARS.iter().find(|grammar| grammar.name == name) else {
        return Dispatch::Absent;
    };
    match grammar.command_position(words) {
        Some((position, acts)) => Dispatch::Around {
            name,
            inner: Inner::At(position),
            transparent: !acts,
        },
        None => Dispatch::Opaque { name },
    }
}

/// Whether an executable word names a dispatch wrapper, with or without a path.
#[must_use]
pub fn is_dispatch(token: &str) -> bool {
    let name = executable_name(token);
    name == "env"
        || OPAQUE.contains(&name.as_str())
        || GRAMMARS.iter().any(|grammar| grammar.name == name)
}

/// What one option word does to the words after it.
struct OptionWord {
    takes_next: bool,
    acts: bool,
}

impl Grammar {
    /// Where the command starts, and whether the wrapper acts by itself.
    fn command_position(&self, words: &[String]) -> Option<(usize, bool)> {
        let mut position = 1;
        let mut acts = false;
        while let Some(word) = words.get(position) {
            if word == "--" {
                position += 1;
                break;
            }
            if !word.starts_with('-') || word == "-" {
                break;
            }
            let option = self.option(word)?;
            acts |= option.acts;
            position += if option.takes_next { 2 } else { 1 };
        }
        position += usize::from(self.operand != Operand::None);
        let command = words.get(position)?;
        if self.operand == Operand::BeforeBareCommand
            && (command.is_empty() || (command.starts_with('-') && command != "-"))
        {
            return None;
        }
        Some((position, acts))
    }

    fn option(&self, word: &str) -> Option<OptionWord> {
        if word.starts_with("--") {
            return self.long_option(&word.to_lowercase());
        }
        let letters = word.strip_prefix('-')?;
        if self.digits && letters.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(OptionWord {
                takes_next: false,
                acts: false,
            });
        }
        for (position, letter) in letters.char_indices() {
            let letter = if self.case_matters {
                letter
            } else {
                letter.to_ascii_lowercase()
            };
            if self.short_values.contains(letter) {
                let attached = letters.len() > position + letter.len_utf8();
                let acts = self.acting.iter().any(|option| {
                    option.strip_prefix('-') == Some(letter.encode_utf8(&mut [0; 4]))
                });
                return Some(OptionWord {
                    takes_next: !attached,
                    acts,
                });
            }
            if !self.short_flags.contains(letter) {
                return None;
            }
        }
        Some(OptionWord {
            takes_next: false,
            acts: false,
        })
    }

    fn long_option(&self, word: &str) -> Option<OptionWord> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if self.long_flags.contains(&name) {
            return Some(OptionWord {
                takes_next: false,
                acts: false,
            });
        }
        self.long_values.contains(&name).then(|| OptionWord {
            takes_next: value.is_none(),
            acts: self.acting.contains(&name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn command(line: &str) -> Option<(String, bool)> {
        let words = words(line);
        match unwrap(&words) {
            Dispatch::Around {
                inner: Inner::At(position),
                transparent,
                ..
            } => Some((words[position..].join(" "), transparent)),
            Dispatch::Around {
                inner: Inner::Rewritten { words, .. },
                transparent,
                ..
            } => Some((words.join(" "), transparent)),
            Dispatch::Opaque { .. } => None,
            Dispatch::Absent => panic!("{line}: not a wrapper"),
        }
    }

    #[test]
    fn known_options_leave_the_command_visible() {
        for line in [
            "nice echo a",
            "nice -n 5 echo a",
            "nice -n5 echo a",
            "nice -5 echo a",
            "nice --adjustment=5 echo a",
            "nice --priority 5 -- echo a",
            "/usr/bin/nohup echo a",
            "stdbuf -o L echo a",
            "stdbuf -oL -e0 echo a",
            "stdbuf --output=L echo a",
            "timeout 5 echo a",
            "timeout -k 1 5 echo a",
            "timeout -k1 -sKILL 5 echo a",
            "timeout -K 1 5 echo a",
            "timeout --foreground --kill-after=1 -v 5s echo a",
            "timeout -vk1 5 echo a",
            "time -p echo a",
            "time -V -f %e echo a",
            "flock /tmp/lock echo a",
            "flock -n /tmp/lock echo a",
            "flock -w 1 -E5 /tmp/lock echo a",
            "flock -xn --wait 1 /tmp/lock echo a",
            "caffeinate -di -t 5 echo a",
            "sandbox-exec -f p.sb echo a",
        ] {
            assert_eq!(command(line), Some(("echo a".to_owned(), true)), "{line}");
        }
    }

    #[test]
    fn anything_else_hides_the_command() {
        for line in [
            "nice",
            "nice -x 5 echo a",
            "nice -n",
            "nohup -x echo a",
            "stdbuf -x echo a",
            "timeout 5",
            "timeout --nope 5 echo a",
            "flock /tmp/lock -c echo",
            "flock -u 9",
            "flock -N /tmp/lock echo a",
            "flock 9",
            "time --nope echo a",
            "sudo echo a",
            "xcrun echo a",
            "arch -x86_64 echo a",
            "systemd-run echo a",
            "SUDO.EXE echo a",
        ] {
            assert_eq!(command(line), None, "{line}");
        }
    }

    #[test]
    fn a_wrapper_that_writes_a_file_is_not_transparent() {
        for line in [
            "time -o f echo a",
            "time -of echo a",
            "time --output=f echo a",
            "time -po f echo a",
        ] {
            assert_eq!(command(line), Some(("echo a".to_owned(), false)), "{line}");
        }
    }

    #[test]
    fn other_programs_are_no_wrappers() {
        for line in ["echo nice", "./nicer echo", "xargs echo"] {
            assert_eq!(unwrap(&words(line)), Dispatch::Absent, "{line}");
        }
        assert_eq!(unwrap(&[]), Dispatch::Absent);
    }
}
