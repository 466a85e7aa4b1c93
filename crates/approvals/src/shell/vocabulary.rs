//! Words that a shell itself gives a meaning.

use super::Dialect;

/// Whether `word`, as a command, begins a compound command or changes how the rest is read, in any
/// shell of the dialect. Quoting would mostly take that meaning away, but no program needs such a
/// name.
pub(super) fn is_reserved(word: &str, dialect: Dialect) -> bool {
    match word {
        "!" | "{" | "}" | "[[" | "]]" | "case" | "coproc" | "do" | "done" | "elif" | "else"
        | "end" | "esac" | "fi" | "for" | "foreach" | "function" | "if" | "in" | "namespace"
        | "nocorrect" | "noglob" | "repeat" | "select" | "then" | "until" | "while" => true,
        "always" => dialect == Dialect::Zsh,
        "and" | "begin" | "not" | "or" | "switch" => dialect == Dialect::Fish,
        _ => false,
    }
}

/// Whether `word` is a builtin that runs text as commands, or that changes variables, functions,
/// aliases, options, remembered paths or traps, and so what later words mean.
///
/// Only names that are builtins of some shell of the dialect count; a program of the same name can
/// still be run by its path.
pub(super) fn redefines(word: &str, dialect: Dialect) -> bool {
    match word {
        "." | "alias" | "bind" | "compgen" | "complete" | "compopt" | "declare" | "enable"
        | "eval" | "export" | "fc" | "getopts" | "hash" | "history" | "let" | "local"
        | "mapfile" | "read" | "readarray" | "readonly" | "set" | "shopt" | "source" | "trap"
        | "typeset" | "unalias" | "unset" => true,
        "float" | "integer" | "nameref" | "print" => {
            matches!(dialect, Dialect::Korn | Dialect::Zsh)
        }
        "autoload" | "disable" | "emulate" | "functions" | "hist" | "r" | "redirect" | "sched"
        | "setopt" | "unfunction" | "unhash" | "unsetopt" | "vared" | "zle" | "zmodload" => {
            matches!(dialect, Dialect::Korn | Dialect::Zsh)
        }
        "abbr" | "argparse" | "emit" | "fish_add_path" | "funced" | "funcsave" | "string" => {
            dialect == Dialect::Fish
        }
        _ => false,
    }
}

/// Whether `word` is a builtin that changes the working directory.
pub(super) fn changes_directory(word: &str) -> bool {
    matches!(
        word,
        "cd" | "cdh" | "chdir" | "dirh" | "nextd" | "popd" | "prevd" | "pushd"
    )
}

/// Whether `word` is one of the builtins that need no entry inside a command text
/// (exec and approvals §8.2).
pub(super) fn is_safe(word: &str) -> bool {
    matches!(word, ":" | "[" | "cd" | "false" | "pwd" | "test" | "true")
}
