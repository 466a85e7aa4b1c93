//! Which programs take code as an argument, and how (exec and approvals §11, strictInlineEval table).

/// A program that takes code behind an option.
pub(super) struct FlagProgram {
    pub(super) names: &'static [&'static str],
    /// Options, lower-case; they are known in any case. A long one may have its value behind `=`.
    pub(super) flags: &'static [&'static str],
    /// Options that mean code in this spelling only. A short one may have the code attached.
    pub(super) exact_case: &'static [&'static str],
    /// Whether code may be attached to a short one of `flags`: `-ecode`.
    pub(super) joins: bool,
    /// Whether that holds for the upper-case letter too.
    pub(super) joins_any_case: bool,
    /// What attached text does not mean code with, lower-case.
    pub(super) never: &'static [&'static str],
    /// Short options that may share a word with the code's.
    pub(super) cluster: Option<Cluster>,
    /// Words that mean code as the first argument.
    pub(super) subcommands: &'static [&'static str],
    /// Whether options count behind `--` too.
    pub(super) ignores_terminator: bool,
}

/// A word of short options with the code's letter behind others, such as `-ne`.
#[derive(Clone, Copy)]
pub(super) struct Cluster {
    pub(super) label: &'static str,
    /// The letters that mean code.
    pub(super) letters: &'static str,
    /// The letters that may stand before.
    pub(super) before: &'static str,
    /// Whether digits may.
    pub(super) digits: bool,
}

/// A program that takes code as its first argument that is no option.
pub(super) struct PositionalProgram {
    pub(super) names: &'static [&'static str],
    /// Options that take the code from a file instead.
    pub(super) file_flags: &'static [&'static str],
    /// The same with the file attached.
    pub(super) file_prefixes: &'static [&'static str],
    /// Options whose value is the next word.
    pub(super) value_flags: &'static [&'static str],
    /// Whether the code is a command line.
    pub(super) is_command: bool,
}

const PLAIN: FlagProgram = FlagProgram {
    names: &[],
    flags: &[],
    exact_case: &[],
    joins: true,
    joins_any_case: false,
    never: &[],
    cluster: None,
    subcommands: &[],
    ignores_terminator: false,
};

const AWKS: &[&str] = &["awk", "gawk", "mawk", "nawk"];
const SEDS: &[&str] = &["sed", "gsed"];

pub(super) const FLAG_PROGRAMS: &[FlagProgram] = &[
    FlagProgram {
        names: &["python", "python2", "python3", "pypy", "pypy3"],
        flags: &["-c"],
        cluster: Some(Cluster {
            label: "-c",
            letters: "c",
            before: "BEIOPRSbdiqsuvx",
            digits: false,
        }),
        ..PLAIN
    },
    FlagProgram {
        names: &["node", "nodejs", "bun", "deno"],
        flags: &["-e", "--eval", "-p", "--print"],
        subcommands: &["eval"],
        ..PLAIN
    },
    FlagProgram {
        names: AWKS,
        flags: &["-e", "--source"],
        ..PLAIN
    },
    FlagProgram {
        names: &["ruby"],
        flags: &["-e"],
        cluster: Some(Cluster {
            label: "-e",
            letters: "e",
            before: "SUWacdlnpsvw",
            digits: true,
        }),
        ..PLAIN
    },
    FlagProgram {
        names: &["perl"],
        flags: &["-e"],
        joins_any_case: true,
        cluster: Some(Cluster {
            label: "-e",
            letters: "eE",
            before: "STWXUVacdflnpstuw",
            digits: true,
        }),
        ..PLAIN
    },
    FlagProgram {
        names: &["php"],
        flags: &["-r"],
        exact_case: &["-B", "-E", "-R"],
        ..PLAIN
    },
    FlagProgram {
        names: &["r", "rscript"],
        flags: &["-e"],
        ..PLAIN
    },
    FlagProgram {
        names: &["julia"],
        flags: &["-e", "--eval", "--print"],
        exact_case: &["-E"],
        ..PLAIN
    },
    FlagProgram {
        names: &["elixir", "iex"],
        flags: &["-e", "--eval", "--rpc-eval"],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["guile"],
        flags: &["-c", "-e"],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["groovy"],
        flags: &["-e"],
        never: &["-encoding"],
        ..PLAIN
    },
    FlagProgram {
        names: &["scala", "scala-cli"],
        flags: &[
            "-e",
            "--script-snippet",
            "--execute-script",
            "--execute-sc",
            "--execute-scala-script",
            "--scala-snippet",
            "--execute-scala",
            "--java-snippet",
            "--execute-java",
            "--markdown-snippet",
            "--md-snippet",
            "--execute-markdown",
            "--execute-md",
        ],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["clojure", "clj"],
        flags: &["-e", "--eval"],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["raku", "perl6"],
        flags: &["-e"],
        joins: false,
        cluster: Some(Cluster {
            label: "-e",
            letters: "e",
            before: "np",
            digits: false,
        }),
        ..PLAIN
    },
    FlagProgram {
        names: &["ghc", "ghci"],
        flags: &["-e"],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["erl", "werl"],
        flags: &["-eval", "-run", "-s"],
        joins: false,
        ..PLAIN
    },
    FlagProgram {
        names: &["gdb"],
        flags: &[
            "-ex",
            "-iex",
            "-eiex",
            "-eval-command",
            "-init-eval-command",
            "-early-init-eval-command",
            "--ex",
            "--iex",
            "--eiex",
            "--eval-command",
            "--init-eval-command",
            "--early-init-eval-command",
        ],
        ..PLAIN
    },
    FlagProgram {
        names: &["expect"],
        flags: &["-c"],
        ..PLAIN
    },
    FlagProgram {
        names: &["lua"],
        flags: &["-e"],
        ..PLAIN
    },
    FlagProgram {
        names: &["osascript"],
        flags: &["-e"],
        ..PLAIN
    },
    FlagProgram {
        names: &["find"],
        flags: &["-exec", "-execdir", "-ok", "-okdir"],
        ignores_terminator: true,
        ..PLAIN
    },
    FlagProgram {
        names: &["make", "gmake"],
        flags: &["-f", "--file", "--makefile", "--eval"],
        exact_case: &["-E"],
        joins_any_case: true,
        ..PLAIN
    },
    FlagProgram {
        names: SEDS,
        flags: &["--expression"],
        exact_case: &["-e"],
        ..PLAIN
    },
];

pub(super) const POSITIONAL_PROGRAMS: &[PositionalProgram] = &[
    PositionalProgram {
        names: AWKS,
        file_flags: &["-f", "--file"],
        file_prefixes: &["-f", "--file="],
        value_flags: &[
            "-F",
            "--field-separator",
            "-v",
            "--assign",
            "-i",
            "--include",
            "-l",
            "--load",
            "-W",
        ],
        is_command: false,
    },
    PositionalProgram {
        names: &["xargs"],
        file_flags: &[],
        file_prefixes: &[],
        value_flags: &[
            "-a",
            "--arg-file",
            "-d",
            "--delimiter",
            "-E",
            "-I",
            "-L",
            "--max-lines",
            "-n",
            "--max-args",
            "-P",
            "--max-procs",
            "-s",
            "--max-chars",
        ],
        is_command: true,
    },
    PositionalProgram {
        names: SEDS,
        file_flags: &["-f", "--file"],
        file_prefixes: &["-f", "--file="],
        value_flags: &["-l", "--line-length"],
        is_command: false,
    },
];
