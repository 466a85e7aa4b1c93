//! Package runners: `npx eslint` runs eslint, not npx (exec and approvals §8.1).

use super::{Inner, executable_name};

/// What an argv that may start with a package runner does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Runner {
    /// It does not start with a package manager.
    Absent,
    /// A package manager that does not run a program of a package, such as `npm install`.
    Other,
    /// A package manager that runs something that cannot be told.
    Opaque,
    /// A package manager around a program that can be told.
    Around {
        /// Where the program and its arguments are.
        inner: Inner,
        /// Whether an option says from which package, folder or configuration the program is
        /// taken, so that its name alone does not say what runs.
        in_context: bool,
    },
}

/// Options that a runner may carry before the program. Names are compared lower-cased, but `-C`
/// counts as itself.
struct Options {
    values: &'static [&'static str],
    flags: &'static [&'static str],
    context: &'static [&'static str],
}

const NPM: Options = Options {
    values: &[
        "--cache",
        "--loglevel",
        "--package",
        "--prefix",
        "--script-shell",
        "--userconfig",
        "--workspace",
        "-p",
        "-w",
        "-C",
    ],
    flags: &[
        "--no",
        "--quiet",
        "--ws",
        "--workspaces",
        "--yes",
        "-q",
        "-y",
    ],
    context: &[
        "--cache",
        "--package",
        "--prefix",
        "--script-shell",
        "--userconfig",
        "--workspace",
        "--workspaces",
        "--ws",
        "-p",
        "-w",
        "-C",
    ],
};

const PNPM: Options = Options {
    values: &[
        "--allow-build",
        "--config",
        "--dir",
        "--filter",
        "--package",
        "--reporter",
        "--stream",
        "--test-pattern",
        "--workspace-concurrency",
        "-p",
        "-C",
    ],
    flags: &[
        "--aggregate-output",
        "--color",
        "--parallel",
        "--recursive",
        "--silent",
        "--workspace-root",
        "-r",
        "-s",
        "-w",
    ],
    context: &[
        "--allow-build",
        "--config",
        "--dir",
        "--filter",
        "--package",
        "--recursive",
        "--workspace-root",
        "-p",
        "-r",
        "-w",
        "-C",
    ],
};

const YARN: Options = Options {
    values: &["--cwd"],
    flags: &["--immutable", "--silent", "-s"],
    context: &["--cwd"],
};

const YARN_DLX: Options = Options {
    values: &["--package", "-p"],
    flags: &["--quiet", "-q"],
    context: &["--package", "-p"],
};

/// Subcommands of pnpm that run scripts of the project or no program at all.
const PNPM_OTHER: [&str; 31] = [
    "add", "audit", "bin", "config", "dedupe", "deploy", "help", "import", "init", "install",
    "licenses", "link", "list", "outdated", "patch", "prune", "publish", "rebuild", "remove",
    "restart", "root", "run", "server", "start", "stop", "store", "test", "unlink", "update",
    "view", "why",
];

/// Subcommands of yarn that run no program of a package.
const YARN_OTHER: [&str; 37] = [
    "add",
    "audit",
    "autoclean",
    "bin",
    "cache",
    "check",
    "config",
    "create",
    "dedupe",
    "generate-lock-entry",
    "global",
    "help",
    "import",
    "info",
    "init",
    "install",
    "licenses",
    "link",
    "list",
    "login",
    "logout",
    "outdated",
    "owner",
    "pack",
    "policies",
    "prune",
    "publish",
    "remove",
    "self-update",
    "tag",
    "team",
    "unlink",
    "upgrade",
    "upgrade-interactive",
    "version",
    "versions",
    "why",
];

/// What a bare `--` means while options are skipped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Terminator {
    /// It is passed over.
    Skipped,
    /// The next word is the operand, whatever it looks like.
    Ends,
    /// It is not expected.
    Refused,
}

/// Looks behind the package runner at the start of `words`.
#[must_use]
pub fn unwrap(words: &[String]) -> Runner {
    let Some(token) = words.first() else {
        return Runner::Absent;
    };
    match package_manager(token).as_str() {
        "npm" => npm(words),
        "npx" | "bunx" => match NPM.operand(words, 1, Terminator::Refused) {
            Some(found) => Runner::around(found.position, found.in_context),
            None => Runner::Opaque,
        },
        "pnpm" => pnpm(words),
        "yarn" => yarn(words),
        _ => Runner::Absent,
    }
}

/// The normalised name of a package manager's executable, which may be one of its script files.
#[must_use]
pub fn package_manager(token: &str) -> String {
    let name = executable_name(token);
    [".cjs", ".mjs", ".js"]
        .iter()
        .find_map(|suffix| name.strip_suffix(suffix))
        .map_or_else(|| name.clone(), str::to_owned)
}

/// Whether a `pnpm dlx` carries an option that is not known, so that its program cannot be told
/// even though the rest looks like one (exec and approvals §10).
#[must_use]
pub fn is_unreadable_dlx(words: &[String]) -> bool {
    if words
        .first()
        .is_none_or(|token| package_manager(token) != "pnpm")
    {
        return false;
    }
    match PNPM.operand(words, 1, Terminator::Skipped) {
        None => words.iter().skip(1).any(|word| word.starts_with('-')),
        Some(found) => {
            words.get(found.position).is_some_and(|word| word == "dlx")
                && PNPM
                    .operand(words, found.position + 1, Terminator::Ends)
                    .is_none()
        }
    }
}

impl Runner {
    fn around(position: usize, in_context: bool) -> Self {
        Self::Around {
            inner: Inner::At(position),
            in_context,
        }
    }
}

fn npm(words: &[String]) -> Runner {
    let is_exec = |word: &String| word == "exec" || word == "x";
    let Some(subcommand) = NPM.operand(words, 1, Terminator::Refused) else {
        return opaque_if(words.iter().any(|word| is_exec(&word.to_lowercase())));
    };
    if !words.get(subcommand.position).is_some_and(is_exec) {
        return Runner::Other;
    }
    let start = subcommand.position + 1;
    let program = if words.get(start).is_some_and(|word| word == "--") {
        words.get(start + 1).map(|_| start + 1)
    } else {
        NPM.operand(words, start, Terminator::Refused)
            .map(|found| found.position)
    };
    let Some(program) = program else {
        return Runner::Opaque;
    };
    // npm takes its own options also after the program's name, up to `--`.
    let later = words.iter().skip(start).take_while(|word| *word != "--");
    let in_context = subcommand.in_context
        || later
            .filter(|word| word.starts_with('-'))
            .any(|word| NPM.is_context(word));
    Runner::around(program, in_context)
}

fn pnpm(words: &[String]) -> Runner {
    let Some(subcommand) = PNPM.operand(words, 1, Terminator::Skipped) else {
        let runs = |word: &String| matches!(word.to_lowercase().as_str(), "exec" | "dlx" | "node");
        return opaque_if(words.iter().skip(1).any(runs));
    };
    let start = subcommand.position + 1;
    let name = words.get(subcommand.position).map_or("", String::as_str);
    match name {
        "exec" => match program_after(words, start) {
            Some(program) if !is_shell_mode(words.get(program)) => {
                Runner::around(program, subcommand.in_context)
            }
            _ => Runner::Opaque,
        },
        "dlx" => match PNPM.operand(words, start, Terminator::Ends) {
            Some(found) => {
                Runner::around(found.position, subcommand.in_context || found.in_context)
            }
            None => Runner::Opaque,
        },
        "node" => {
            let tail = program_after(words, start)
                .and_then(|program| words.get(program..))
                .unwrap_or_default();
            let mut node = vec!["node".to_owned()];
            node.extend_from_slice(tail);
            let inner = Inner::Rewritten {
                words: node,
                trailing: tail.len(),
            };
            Runner::Around {
                inner,
                in_context: subcommand.in_context,
            }
        }
        _ => opaque_if(!PNPM_OTHER.contains(&name.to_lowercase().as_str())),
    }
}

fn yarn(words: &[String]) -> Runner {
    let Some(subcommand) = YARN.operand(words, 1, Terminator::Skipped) else {
        let runs = |word: &String| matches!(word.to_lowercase().as_str(), "exec" | "dlx");
        return opaque_if(words.iter().skip(1).any(runs));
    };
    let start = subcommand.position + 1;
    let name = words.get(subcommand.position).map_or("", String::as_str);
    match name {
        "exec" => match program_after(words, start) {
            Some(program) => Runner::around(program, subcommand.in_context),
            None => Runner::Opaque,
        },
        "dlx" => match YARN_DLX.operand(words, start, Terminator::Ends) {
            Some(found) => {
                Runner::around(found.position, subcommand.in_context || found.in_context)
            }
            None => Runner::Opaque,
        },
        "workspace" => Runner::Other,
        _ => opaque_if(!YARN_OTHER.contains(&name.to_lowercase().as_str())),
    }
}

fn opaque_if(opaque: bool) -> Runner {
    if opaque {
        Runner::Opaque
    } else {
        Runner::Other
    }
}

/// The word at `start`, or the one after it if that is `--`.
fn program_after(words: &[String], start: usize) -> Option<usize> {
    let skipped = usize::from(words.get(start).is_some_and(|word| word == "--"));
    words.get(start + skipped).map(|_| start + skipped)
}

fn is_shell_mode(word: Option<&String>) -> bool {
    word.is_some_and(|word| matches!(name(word).as_str(), "-c" | "--shell-mode"))
}

struct Found {
    position: usize,
    in_context: bool,
}

impl Options {
    /// The first word from `start` on that is no option; `None` if there is none or an option is
    /// unknown.
    fn operand(&self, words: &[String], start: usize, terminator: Terminator) -> Option<Found> {
        let mut position = start;
        let mut in_context = false;
        loop {
            let word = words.get(position)?;
            if word == "--" {
                match terminator {
                    Terminator::Refused => return None,
                    Terminator::Skipped => position += 1,
                    Terminator::Ends => {
                        let position = words.get(position + 1).map(|_| position + 1)?;
                        return Some(Found {
                            position,
                            in_context,
                        });
                    }
                }
                continue;
            }
            if !word.starts_with('-') {
                return Some(Found {
                    position,
                    in_context,
                });
            }
            in_context |= self.is_context(word);
            let name = name(word);
            if self.values.contains(&name.as_str()) {
                position += if word.contains('=') { 1 } else { 2 };
            } else if self.flags.contains(&name.as_str()) {
                position += 1;
            } else {
                return None;
            }
        }
    }

    fn is_context(&self, word: &str) -> bool {
        self.context.contains(&name(word).as_str())
    }
}

fn name(word: &str) -> String {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    if name == "-C" {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn program(line: &str) -> Option<(String, bool)> {
        let words = words(line);
        match unwrap(&words) {
            Runner::Around {
                inner: Inner::At(position),
                in_context,
            } => Some((words[position..].join(" "), in_context)),
            Runner::Around {
                inner: Inner::Rewritten { words, .. },
                in_context,
            } => Some((words.join(" "), in_context)),
            Runner::Absent | Runner::Other | Runner::Opaque => None,
        }
    }

    #[test]
    fn the_program_behind_a_runner_is_found() {
        for line in [
            "npx tsx a",
            "npx --yes tsx a",
            "/opt/bunx.cmd tsx a",
            "npm exec tsx a",
            "npm exec -- tsx a",
            "npm --quiet x tsx a",
            "pnpm exec tsx a",
            "pnpm --silent exec -- tsx a",
            "pnpm dlx tsx a",
            "yarn exec tsx a",
            "yarn -s dlx -q tsx a",
        ] {
            assert_eq!(program(line), Some(("tsx a".to_owned(), false)), "{line}");
        }
        assert_eq!(
            program("pnpm node -- a.js"),
            Some(("node a.js".to_owned(), false))
        );
    }

    #[test]
    fn options_that_say_where_the_program_comes_from_are_noticed() {
        for line in [
            "npx --package=x tsx a",
            "npx -p x tsx a",
            "npm --prefix /x exec tsx a",
            "npm exec --workspace w tsx a",
            "pnpm -C /x exec tsx a",
            "pnpm dlx --package x tsx a",
            "yarn --cwd /x exec tsx a",
            "yarn dlx -p x tsx a",
        ] {
            assert_eq!(program(line), Some(("tsx a".to_owned(), true)), "{line}");
        }
        assert_eq!(
            program("npm exec tsx a --prefix /x"),
            Some(("tsx a --prefix /x".to_owned(), true))
        );
    }

    #[test]
    fn what_cannot_be_told_is_kept_apart_from_what_runs_nothing() {
        for (line, expected) in [
            ("npx", Runner::Opaque),
            ("npx --unknown tsx", Runner::Opaque),
            ("npx -- tsx", Runner::Opaque),
            ("npm exec", Runner::Opaque),
            ("npm --unknown exec tsx", Runner::Opaque),
            ("npm install", Runner::Other),
            ("npm", Runner::Other),
            ("pnpm exec -c tsx", Runner::Opaque),
            ("pnpm tsx", Runner::Opaque),
            ("pnpm install", Runner::Other),
            ("yarn tsx", Runner::Opaque),
            ("yarn run tsx", Runner::Opaque),
            ("yarn add x", Runner::Other),
            ("echo npx", Runner::Absent),
        ] {
            assert_eq!(unwrap(&words(line)), expected, "{line}");
        }
    }

    #[test]
    fn an_unknown_option_makes_a_dlx_unreadable() {
        for (line, expected) in [
            ("pnpm dlx --unknown tsx a.ts", true),
            ("pnpm --unknown dlx tsx a.ts", true),
            ("pnpm dlx", true),
            ("pnpm dlx tsx a.ts", false),
            ("pnpm exec --unknown", false),
            ("npm --unknown", false),
        ] {
            assert_eq!(is_unreadable_dlx(&words(line)), expected, "{line}");
        }
    }
}
