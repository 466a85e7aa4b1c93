//! What an "allow always" would remember of a command (exec and approvals §10, §11).

use approvals::allowlist::{Analysis, Invocation, cwd_argv_binding};
use approvals::command::CommandLine;
use approvals::wrapper::executable_name;
use serde::Serialize;

use crate::host::Host;

/// Programs that run whatever their arguments say, so that no "allow always" is remembered for them
/// (the names of exec and approvals §11, "strictInlineEval table", and the multiplexers). A version
/// may follow the name.
const NEVER_REMEMBERED: [&str; 45] = [
    "awk",
    "bun",
    "busybox",
    "clj",
    "clojure",
    "deno",
    "elixir",
    "erl",
    "expect",
    "find",
    "gawk",
    "gdb",
    "ghc",
    "ghci",
    "gmake",
    "groovy",
    "gsed",
    "guile",
    "iex",
    "julia",
    "lua",
    "make",
    "mawk",
    "nawk",
    "node",
    "nodejs",
    "osascript",
    "perl",
    "perl6",
    "php",
    "pypy",
    "pypy3",
    "python",
    "python2",
    "python3",
    "r",
    "raku",
    "rscript",
    "ruby",
    "scala",
    "scala-cli",
    "sed",
    "toybox",
    "werl",
    "xargs",
];

/// What an "allow always" would remember of a command.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Coverage {
    /// Whether the command would not be asked about again.
    complete: bool,
    patterns: Vec<CoveredPattern>,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct CoveredPattern {
    pattern: String,
    arg_pattern: String,
}

/// What an "allow always" would remember of `command`, pinned as `argv`, in the canonical directory
/// `cwd`. For a shell payload that is nothing.
pub(super) fn coverage(
    argv: &[String],
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &str,
) -> Coverage {
    if command.payload().is_some() {
        return Coverage::default();
    }
    let Ok(pinned) = CommandLine::new(argv.to_vec(), None) else {
        return Coverage::default();
    };
    let covered = match host.analyse(&pinned, Some(cwd)) {
        Analysis::Program(program) => Some(program),
        Analysis::Shell { shell, script } => script.filter(|_| is_found(&shell)),
        Analysis::Unanalysable(_) => None,
    };
    match covered.and_then(|invocation| covered_pattern(&invocation, cwd)) {
        Some(pattern) => Coverage {
            complete: !pinned.is_shell_wrapper(),
            patterns: vec![pattern],
        },
        None => Coverage::default(),
    }
}

fn is_found(invocation: &Invocation) -> bool {
    invocation.resolution.trusted_path().is_some()
}

fn covered_pattern(invocation: &Invocation, cwd: &str) -> Option<CoveredPattern> {
    let pattern = invocation.resolution.trusted_path()?.to_str()?;
    if is_never_remembered(&executable_name(pattern)) {
        return None;
    }
    let arg_pattern = cwd_argv_binding(cwd, &invocation.argv);
    Some(CoveredPattern {
        pattern: pattern.to_owned(),
        arg_pattern,
    })
}

fn is_never_remembered(name: &str) -> bool {
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let stem = stem.strip_suffix('-').unwrap_or(stem);
    NEVER_REMEMBERED.contains(&name) || (stem.len() > 1 && NEVER_REMEMBERED.contains(&stem))
}
