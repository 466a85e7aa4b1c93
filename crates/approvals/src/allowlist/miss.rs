//! Why no entry of an allowlist names a command, in words that help to write one that does.

use std::path::PathBuf;

use super::{Allowlist, ArgumentRule, Arguments, ByName, Invocation, Target, Unanalysable};
use crate::document::Entry;

/// Why no entry names a command: the nearest thing to a match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Miss {
    /// No entry could.
    #[error("{0}")]
    Unanalysable(#[from] Unanalysable),
    /// There is no such program.
    #[error("{token} is not found; only the entry * would name it")]
    NotFound {
        /// The word that names it.
        token: String,
    },
    /// An entry names the program with other arguments.
    #[error("the entry {pattern} names it, but its argPattern does not match these arguments")]
    OtherArguments {
        /// The entry's pattern.
        pattern: String,
    },
    /// An entry names the program in one directory with certain arguments.
    #[error("the entry {pattern} names it, but is bound to other arguments or another directory")]
    OtherBinding {
        /// The entry's pattern.
        pattern: String,
    },
    /// The same, and no directory is known.
    #[error(
        "the entry {pattern} names it, but is bound to a directory, and it is not known in which one this runs"
    )]
    NoDirectory {
        /// The entry's pattern.
        pattern: String,
    },
    /// An entry is about arguments that the shell has yet to make.
    #[error(
        "the entry {pattern} names it, but is about arguments, and the shell makes other ones of these"
    )]
    Expands {
        /// The entry's pattern.
        pattern: String,
    },
    /// An entry can never match.
    #[error(
        "the entry {pattern} names it, but is bound to nothing that this node checks, and so never matches"
    )]
    Inactive {
        /// The entry's pattern.
        pattern: String,
    },
    /// An entry names a shell that is told something.
    #[error(
        "the entry {pattern} names the shell, which does not cover what the shell is told; name the script, or bind the entry with an argPattern"
    )]
    ShellIsTold {
        /// The entry's pattern.
        pattern: String,
    },
    /// An entry names what the command names by its path.
    #[error(
        "the entry {pattern} names programs by name, and this one is given by its path; name {path}",
        path = .path.display()
    )]
    GivenByPath {
        /// The entry's pattern.
        pattern: String,
        /// The real path.
        path: PathBuf,
    },
    /// An entry names a symlink.
    #[error(
        "the entry {pattern} names a link; entries must name the file behind it, {path}",
        path = .path.display()
    )]
    NamesLink {
        /// The entry's pattern.
        pattern: String,
        /// The real path.
        path: PathBuf,
    },
    /// No entry comes near.
    #[error("no entry names {path}", path = .path.display())]
    NoEntry {
        /// The real path.
        path: PathBuf,
    },
}

impl Allowlist {
    /// Why [`find`](Self::find) finds nothing. `entries` are those that this was made of.
    #[must_use]
    pub fn explain_miss(
        &self,
        entries: &[&Entry],
        target: &Target,
        arguments: Arguments<'_>,
    ) -> Miss {
        match target {
            Target::Unanalysable(why) => Miss::Unanalysable(why.clone()),
            Target::Program(program) | Target::Package(program) => {
                self.miss_of(entries, program, arguments)
            }
            Target::Shell { shell, script } => {
                // An entry that is only too weak for a shell with arguments would match otherwise.
                if let Some(index) = self.find_invocation(shell, arguments) {
                    let pattern = pattern(entries, index);
                    return Miss::ShellIsTold { pattern };
                }
                self.miss_of(entries, script.as_ref().unwrap_or(shell), arguments)
            }
        }
    }

    fn miss_of(
        &self,
        entries: &[&Entry],
        invocation: &Invocation,
        arguments: Arguments<'_>,
    ) -> Miss {
        let resolution = &invocation.resolution;
        let (Some(found), Some(path)) = (&resolution.resolved_path, resolution.trusted_path())
        else {
            return Miss::NotFound {
                token: resolution.raw_token.clone(),
            };
        };
        let by_name = ByName::of(invocation);
        if let Some(index) = self.named(resolution, by_name).first().copied() {
            let pattern = pattern(entries, index);
            return match self.rules.get(index).map(|rule| &rule.arguments) {
                Some(ArgumentRule::Never) => Miss::Inactive { pattern },
                Some(ArgumentRule::Bound(_) | ArgumentRule::Matching(_)) if arguments.expand => {
                    Miss::Expands { pattern }
                }
                Some(ArgumentRule::Bound(_)) if arguments.cwd.is_none() => {
                    Miss::NoDirectory { pattern }
                }
                Some(ArgumentRule::Bound(_)) => Miss::OtherBinding { pattern },
                Some(ArgumentRule::Matching(_) | ArgumentRule::Any) | None => {
                    Miss::OtherArguments { pattern }
                }
            };
        }
        let path = path.to_owned();
        if by_name == ByName::No
            && let Some(index) = self.named(resolution, ByName::Yes).first().copied()
        {
            let pattern = pattern(entries, index);
            return Miss::GivenByPath { pattern, path };
        }
        let mut link = resolution.clone();
        link.real_path = Some(found.clone());
        if let Some(index) = self.named(&link, by_name).first().copied() {
            let pattern = pattern(entries, index);
            return Miss::NamesLink { pattern, path };
        }
        Miss::NoEntry { path }
    }
}

fn pattern(entries: &[&Entry], index: usize) -> String {
    entries
        .get(index)
        .map(|entry| entry.pattern.clone())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Resolution, cwd_argv_binding};
    use super::*;

    fn invocation(words: &[&str], found: Option<&str>, real: Option<&str>) -> Invocation {
        Invocation {
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            resolution: Resolution {
                raw_token: words[0].to_owned(),
                resolved_path: found.map(PathBuf::from),
                real_path: real.map(PathBuf::from),
            },
        }
    }

    fn entry(pattern: &str, arg_pattern: Option<&str>, allow_always: bool) -> Entry {
        Entry {
            pattern: pattern.to_owned(),
            arg_pattern: arg_pattern.map(str::to_owned),
            allow_always,
            ..Entry::default()
        }
    }

    #[test]
    fn every_near_miss_is_told_apart() {
        let echo = |word: &str| {
            Target::Program(invocation(
                &[word, "a"],
                Some("/bin/echo"),
                Some("/usr/bin/echo"),
            ))
        };
        let shell = |words: &[&str], script: Option<&str>| Target::Shell {
            shell: invocation(words, Some("/bin/sh"), Some("/usr/bin/dash")),
            script: script.map(|path| invocation(&[path], Some(path), Some(path))),
        };
        let here = Arguments {
            cwd: Some("/w"),
            expand: false,
        };
        let nowhere = Arguments {
            cwd: None,
            expand: false,
        };
        let expanding = Arguments {
            cwd: Some("/w"),
            expand: true,
        };
        let elsewhere = cwd_argv_binding("/x", &["echo".to_owned(), "a".to_owned()]);
        let bound = || entry("/usr/bin/echo", Some(&elsewhere), true);
        let cases = [
            (
                entry("/bin/echo", None, false),
                echo("echo"),
                here,
                "names a link; entries must name the file behind it, /usr/bin/echo",
            ),
            (
                entry("echo", None, false),
                echo("/bin/echo"),
                here,
                "this one is given by its path; name /usr/bin/echo",
            ),
            (
                entry("/usr/bin/cat", None, false),
                echo("echo"),
                here,
                "no entry names /usr/bin/echo",
            ),
            (
                entry("/usr/bin/echo", Some("^b$"), false),
                echo("echo"),
                here,
                "its argPattern does not match",
            ),
            (
                entry("/usr/bin/echo", Some("a"), false),
                echo("echo"),
                expanding,
                "the shell makes other ones",
            ),
            (bound(), echo("echo"), here, "bound to other arguments"),
            (bound(), echo("echo"), nowhere, "is bound to a directory"),
            (
                entry("/usr/bin/echo", None, true),
                echo("echo"),
                here,
                "never matches",
            ),
            (
                entry("/usr/bin/dash", None, false),
                shell(&["sh", "./x"], None),
                here,
                "does not cover what the shell is told",
            ),
            (
                entry("/usr/bin/echo", None, false),
                shell(&["sh", "/x.sh"], Some("/x.sh")),
                here,
                "no entry names /x.sh",
            ),
            (
                entry("nosuch", None, false),
                Target::Program(invocation(&["nosuch"], None, None)),
                here,
                "nosuch is not found",
            ),
            (
                entry("*", None, false),
                Target::Unanalysable(Unanalysable::BlockedWrapper),
                here,
                "through a wrapper",
            ),
        ];
        for (entry, target, arguments, words) in cases {
            let entries = [&entry];
            let allowlist = Allowlist::new(&entries, None);
            assert_eq!(allowlist.find(&target, arguments), None, "{words}");
            let miss = allowlist.explain_miss(&entries, &target, arguments);
            let text = miss.to_string();
            assert!(text.contains(words), "{text}: {words}");
        }
    }
}
