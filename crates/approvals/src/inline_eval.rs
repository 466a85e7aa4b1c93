//! Inline code: programs that are given a program as an argument, such as `python3 -c …`
//! (exec and approvals §11, strictInlineEval table; divergence D4).
//!
//! Looked for behind everything that only starts another program, in what a shell is told to run,
//! and in the arguments that a shell's command line passes on. A word too many is a question too
//! many; a word too few is a bypass, so whatever is in doubt counts.

use std::fmt;

use crate::wrapper::shell::{self, Invocation, Shell};
use crate::wrapper::{InnerArgv, dispatch, executable_name};

mod table;
mod text;

use self::table::{FLAG_PROGRAMS, POSITIONAL_PROGRAMS};

/// How many shells, wrappers and runners are looked through, together.
const MAX_DEPTH: usize = 8;

/// How many words are looked at in all. A word counts each time it is.
const MAX_WORDS: usize = 65_536;

/// How many words behind an opaque wrapper are tried as the start of its command.
const MAX_STARTS: usize = 64;

/// Inline code in a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineEval {
    program: String,
    form: Form,
}

/// How the code is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Behind this option.
    Flag(&'static str),
    /// As the first argument that is no option.
    Program,
    /// As a command line of its own.
    Command,
}

impl fmt::Display for InlineEval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = &self.program;
        match self.form {
            Form::Flag(flag) => write!(formatter, "{program} {flag}"),
            Form::Program => write!(formatter, "{program} inline program"),
            Form::Command => write!(formatter, "{program} inline command"),
        }
    }
}

/// Whether a program of this name runs whatever its arguments or its input say, so that trusting
/// its file says nothing about what it does. A version may follow the name.
#[must_use]
pub fn is_interpreter(name: &str) -> bool {
    let name = executable_name(name);
    flag_program(&name).is_some()
        || positional_program(&name).is_some()
        || crate::wrapper::is_multiplexer(&name)
}

/// The first inline code in a command, given as its words.
#[must_use]
pub fn find(words: &[String]) -> Option<InlineEval> {
    Search {
        words_left: MAX_WORDS,
    }
    .in_argv(&InnerArgv::whole(words), 0)
}

/// A search through commands that may stand inside one another many times over.
struct Search {
    /// How many more words are looked at.
    words_left: usize,
}

impl Search {
    fn in_argv(&mut self, argv: &InnerArgv<'_>, depth: usize) -> Option<InlineEval> {
        let words = argv.words();
        let token = words.first()?;
        if let Some(found) = in_program(words) {
            return Some(found);
        }
        if depth >= MAX_DEPTH || words.len() > self.words_left {
            // Nobody hides an honest command this deep.
            return Some(InlineEval {
                program: executable_name(token),
                form: Form::Command,
            });
        }
        self.words_left -= words.len();
        if let Some(shell) = Shell::named(token)
            && let Some(found) = self.in_shell(shell, words, depth)
        {
            return Some(found);
        }
        let inner = argv
            .behind_dispatch()
            .or_else(|| argv.behind_carrier())
            .or_else(|| argv.behind_multiplexer())
            .or_else(|| argv.behind_runner());
        if let Some(inner) = inner {
            return self.in_argv(&inner, depth + 1);
        }
        if dispatch::is_dispatch(token) {
            return self.behind_opaque(argv, depth);
        }
        None
    }

    /// What an opaque wrapper starts cannot be told, so every word may be it, alone or with those
    /// behind it.
    fn behind_opaque(&mut self, argv: &InnerArgv<'_>, depth: usize) -> Option<InlineEval> {
        (1..argv.words().len().min(MAX_STARTS)).find_map(|start| {
            let inner = argv.suffix(start);
            let word = inner.executable();
            if word.contains(crate::command::is_space) {
                return self.in_text(word, &[], depth);
            }
            let name = executable_name(word);
            let may_run_code = flag_program(&name).is_some()
                || positional_program(&name).is_some()
                || Shell::named(&name).is_some();
            may_run_code
                .then(|| self.in_argv(&inner, depth + 1))
                .flatten()
        })
    }

    fn in_shell(&mut self, shell: Shell, words: &[String], depth: usize) -> Option<InlineEval> {
        // Whether the shell is a login shell changes nothing about the code that it is given.
        let raw = crate::command::command_text(words);
        match shell::classify(shell, words, Some(&raw)) {
            Invocation::Payload(payload) => {
                self.in_text(&payload.source, &payload.arguments, depth)
            }
            // Its command line is among the words, wherever.
            Invocation::Opaque => {
                let mut words = words.iter().skip(1).take(MAX_STARTS);
                words.find_map(|word| self.in_text(word, &[], depth))
            }
            Invocation::Script => None,
        }
    }

    /// Looks through a command line that a shell is told to run with `positional` as its `$0`, `$1`
    /// and so on. It need not be one that can be analysed.
    fn in_text(&mut self, text: &str, positional: &[String], depth: usize) -> Option<InlineEval> {
        text::commands(text, positional, self.words_left)
            .iter()
            .find_map(|words| self.in_argv(&InnerArgv::whole(words), depth + 1))
    }
}

fn flag_program(name: &str) -> Option<&'static table::FlagProgram> {
    variants(name).find_map(|name| {
        FLAG_PROGRAMS
            .iter()
            .find(|program| program.names.contains(&name))
    })
}

fn positional_program(name: &str) -> Option<&'static table::PositionalProgram> {
    variants(name).find_map(|name| {
        POSITIONAL_PROGRAMS
            .iter()
            .find(|program| program.names.contains(&name))
    })
}

/// A name, and the same without what names its version: `python3.11`, `node-20`.
fn variants(name: &str) -> impl Iterator<Item = &str> {
    let bare = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let bare = bare.strip_suffix('-').unwrap_or(bare);
    // One letter is no name: r2 is not a version of R.
    let bare = Some(bare).filter(|bare| bare.len() > 1 && bare.len() < name.len());
    std::iter::once(name).chain(bare)
}

fn in_program(words: &[String]) -> Option<InlineEval> {
    let program = executable_name(words.first()?);
    let by_flag = flag_program(&program).and_then(|known| known.flag_in(words));
    let form = match by_flag {
        Some(flag) => Form::Flag(flag),
        None => positional_program(&program)?.form_in(words)?,
    };
    Some(InlineEval { program, form })
}

impl table::FlagProgram {
    /// The option that gives code, as messages call it.
    fn flag_in(&self, words: &[String]) -> Option<&'static str> {
        for word in words.iter().skip(1) {
            let word = crate::command::trim(word);
            if word == "--" {
                if self.ignores_terminator {
                    continue;
                }
                return None;
            }
            if let Some(flag) = self.flag_of(word) {
                return Some(flag);
            }
        }
        self.subcommand_in(words)
    }

    fn flag_of(&self, word: &str) -> Option<&'static str> {
        let is_exact = |flag: &&&'static str| **flag == word;
        if let Some(flag) = self.exact_case.iter().find(is_exact) {
            return Some(flag);
        }
        let joined = |flag: &&&'static str| flag.len() == 2 && word.starts_with(**flag);
        if let Some(flag) = self.exact_case.iter().find(joined) {
            return Some(flag);
        }
        let lower = word.to_lowercase();
        if let Some(flag) = self.flags.iter().find(|flag| **flag == lower) {
            return Some(flag);
        }
        let with_value = |flag: &&&'static str| {
            lower
                .strip_prefix(**flag)
                .is_some_and(|rest| rest.starts_with('='))
        };
        if let Some(flag) = self
            .flags
            .iter()
            .filter(|flag| flag.len() > 2)
            .find(with_value)
        {
            return Some(flag);
        }
        if self.joins && !self.never.iter().any(|never| lower.starts_with(never)) {
            // `-E` joins for perl as `-e` does.
            let is_joined = |flag: &&&'static str| {
                flag.len() == 2
                    && (word.starts_with(**flag)
                        || (self.joins_any_case && lower.starts_with(**flag)))
            };
            if let Some(flag) = self.flags.iter().find(is_joined) {
                return Some(flag);
            }
        }
        self.cluster
            .filter(|cluster| cluster.is_in(word))
            .map(|cluster| cluster.label)
    }

    fn subcommand_in(&self, words: &[String]) -> Option<&'static str> {
        let first = words.iter().skip(1).find(|word| !word.starts_with('-'))?;
        self.subcommands
            .iter()
            .find(|subcommand| *subcommand == first)
            .copied()
    }
}

impl table::Cluster {
    /// Whether the word is a cluster of short options with the code's letter behind others.
    fn is_in(&self, word: &str) -> bool {
        let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            return false;
        };
        for letter in letters.chars() {
            if self.letters.contains(letter) {
                return true;
            }
            let is_known = self.before.contains(letter) || (self.digits && letter.is_ascii_digit());
            if !is_known {
                return false;
            }
        }
        false
    }
}

impl table::PositionalProgram {
    fn form_in(&self, words: &[String]) -> Option<Form> {
        let form = if self.is_command {
            Form::Command
        } else {
            Form::Program
        };
        let mut rest = words.iter().skip(1).map(|word| crate::command::trim(word));
        while let Some(word) = rest.next() {
            let starts = |prefixes: &[&str]| {
                prefixes
                    .iter()
                    .any(|prefix| word.len() > prefix.len() && word.starts_with(prefix))
            };
            if word.is_empty() {
                continue;
            }
            if word == "--" {
                return rest.next().filter(|next| !next.is_empty()).map(|_| form);
            }
            if self.file_flags.contains(&word) || starts(self.file_prefixes) {
                return None;
            }
            if self.value_flags.contains(&word) {
                rest.next();
            } else if !word.starts_with('-') {
                return Some(form);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
