//! What a shell would execute for a command text, told without running it (exec and approvals §8.3).
//!
//! [`analyse`] takes the text exactly as the shell is given it, untrimmed, and the [`Dialect`] of
//! that shell. The answer is a [`Script`], a list of [`Segment`]s, or a [`Refusal`] that says what
//! was not understood and where. It is fail-closed: whatever is not part of the small language
//! below, or might mean something else to another shell of the same dialect, is refused.
//!
//! Understood are simple commands joined by `&&`, `||`, `;`, newline, `|` (and `|&` where the shell
//! has it); quotes and backslashes; comments; globs, `~` and braces in arguments; the harmless
//! redirections of D6. A variable may only be expanded in a segment that needs a human anyway.
//! Substitutions, compound commands, functions, here-documents, background jobs and every other
//! redirection are refused.
//!
//! A segment holds the words as the program would get them ([`Segment::argv`], parallel to
//! [`Segment::words`], which knows where each stands in the text), what stands around the command
//! ([`Segment::plan`]), and a [`Kind`] that says how policy must treat it:
//!
//! - [`Kind::Command`]: the words behind the wrappers are judged as if they were run directly.
//! - [`Kind::SafeBuiltin`]: as a command, but it also passes without any entry.
//! - [`Kind::PromptOnly`]: no allowlist ever satisfies it.
//! - [`Kind::Nested`]: judge the inner script in place of the shell.
//! - [`Kind::Shell`]: a shell with a command text that was not opened; only an entry that names
//!   the exact words may satisfy it.
//!
//! A command satisfied by a file must not be run by its bare name if the file could change under
//! it: [`rewrite::replace`] puts other text where words stood. Where
//! [`Segment::after_directory_change`] is set, relative paths do not count from the directory that
//! the request names.

mod lexer;
mod operands;
mod parser;
pub mod rewrite;
mod segment;
mod vocabulary;

use std::ops::Range;

use crate::wrapper::{TrustPlan, executable_name};

/// How long a command text may be, in characters (exec and approvals §8.3).
pub const MAX_PAYLOAD_CHARS: usize = 131_072;

/// How deep command texts may stand in one another, the outermost included (exec and approvals §8.3).
pub const MAX_PAYLOAD_DEPTH: usize = 2;

/// The family of shells that reads a command text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// `sh`, `ash`, `dash` and `yash`. Which shell `sh` is differs by system, so only what all
    /// agree on counts.
    Posix,
    /// `bash`.
    Bash,
    /// `ksh` and `mksh`.
    Korn,
    /// `zsh`.
    Zsh,
    /// `fish`, of which only words without escapes or expansions are understood.
    Fish,
}

impl Dialect {
    /// The dialect of the shell that an executable word names, with or without a path; `None`
    /// where its command texts cannot be analysed (exec and approvals §3.4).
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        match executable_name(token).as_str() {
            "sh" | "ash" | "dash" | "yash" => Some(Self::Posix),
            "bash" => Some(Self::Bash),
            "ksh" | "mksh" => Some(Self::Korn),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }
}

/// A command text that was understood: at least one segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Script {
    /// The commands, in the order they stand in the text.
    pub segments: Vec<Segment>,
}

/// How a segment is joined to the one before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Joint {
    /// It is the first.
    First,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `;` or newline
    Then,
    /// `|`
    Pipe,
    /// `|&`
    PipeBoth,
}

/// One simple command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segment {
    /// How it is joined to the segment before.
    pub joint: Joint,
    /// The words after quote removal, the executable first; what a glob, a brace, a tilde or a
    /// variable would become is not told, they stand as they are written. Empty only if the
    /// segment does nothing but assign.
    pub argv: Vec<String>,
    /// Where each word of [`argv`](Self::argv) stands and what the shell would still do to it.
    pub words: Vec<Word>,
    /// Where the assignments before the command stand, as bytes of the text.
    pub assignments: Vec<Range<usize>>,
    /// What stands around the command.
    pub plan: TrustPlan,
    /// How policy treats it.
    pub kind: Kind,
    /// Whether an earlier segment may have changed the working directory, so that a relative path
    /// in this one (or a relative entry of `PATH`) says nothing about which file is meant.
    pub after_directory_change: bool,
}

impl Segment {
    /// Where the segment stands in the text, in bytes, redirections not counted.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        let spans = || {
            let words = self.words.iter().map(|word| &word.span);
            self.assignments.iter().chain(words)
        };
        let start = spans().map(|span| span.start).min().unwrap_or_default();
        let end = spans().map(|span| span.end).max().unwrap_or_default();
        start..end
    }

    /// The words that policy judges: those behind transparent wrappers.
    #[must_use]
    pub fn policy_argv(&self) -> &[String] {
        self.plan.policy_argv(&self.argv)
    }

    /// The innermost command.
    #[must_use]
    pub fn execution_argv(&self) -> &[String] {
        self.plan.execution_argv(&self.argv)
    }

    /// Whether what the program gets are exactly the words of [`argv`](Self::argv).
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.words.iter().all(Word::is_literal)
    }
}

/// A word as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word {
    /// Where it stands in the text, quotes included, in bytes.
    pub span: Range<usize>,
    /// It holds an unquoted `*`, `?` or `[`.
    pub glob: bool,
    /// It holds an unquoted `~`.
    pub tilde: bool,
    /// It holds an unquoted `{` or `}`.
    pub brace: bool,
    /// It holds a variable or an arithmetic expansion. Only in segments that are prompt-only.
    pub expansion: bool,
}

impl Word {
    /// Whether the shell passes it on as one word that is known.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !(self.glob || self.tilde || self.brace || self.expansion)
    }
}

/// How policy treats a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The words behind its wrappers are judged as if they were run directly.
    Command,
    /// A builtin that only looks at things or changes the directory. It may match an entry, but
    /// passes without one too (exec and approvals §8.2).
    SafeBuiltin,
    /// Nothing but a human satisfies it, not even `*`.
    PromptOnly(PromptOnly),
    /// A shell, named without a path, whose command text was understood: the inner segments are
    /// judged in its place.
    Nested(Box<Nested>),
    /// A shell with a command text that is judged as a whole.
    Shell,
}

/// A command text inside a command text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nested {
    /// Which word of the segment the text is.
    pub payload_index: usize,
    /// What it says. Spans in it count from the start of that word's value.
    pub script: Script,
}

/// Why a segment always needs a human (exec and approvals §8.3).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PromptOnly {
    /// It sets a variable for the command or the shell.
    #[error("it assigns a variable")]
    Assignment,
    /// It makes the shell run other text, or changes what later words mean to the shell.
    #[error("the shell builtin {0} runs or redefines commands")]
    Builtin(String),
    /// It runs commands that it reads.
    #[error("{0} runs commands that it is given later")]
    CommandCarrier(String),
    /// `find` with an action that runs commands.
    #[error("find may run a command for each file")]
    FindAction,
    /// A wrapper that hides or changes its command.
    #[error("what {0} runs cannot be told")]
    BlockedWrapper(String),
    /// A shell with a command text behind another program.
    #[error("a shell's command text stands behind {0}")]
    ShellBehindWrapper(String),
    /// A builtin whose operands the shell may evaluate, and with them commands inside them.
    #[error("the shell may evaluate operands of {0}")]
    EvaluatedOperand(String),
}

/// Why a command text is not analysable, and where that shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason} at byte {position}")]
pub struct Refusal {
    /// What was found.
    pub reason: Reason,
    /// Where, in bytes from the start of the text.
    pub position: usize,
}

/// What makes a command text unanalysable (exec and approvals §8.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Reason {
    /// The text is longer than [`MAX_PAYLOAD_CHARS`].
    #[error("more than {MAX_PAYLOAD_CHARS} characters")]
    TooLong,
    /// No command where one is due.
    #[error("missing command")]
    MissingCommand,
    /// A control character other than tab and newline.
    #[error("control character")]
    ControlCharacter,
    /// A character that some character set reads together with the next one.
    #[error("special character directly after a non-ASCII one")]
    AmbiguousEncoding,
    /// A quote without its counterpart.
    #[error("unbalanced quote")]
    UnbalancedQuote,
    /// A backslash at the end of the text or of a line.
    #[error("backslash at the end of a line")]
    LineContinuation,
    /// `$(…)` or backticks.
    #[error("command substitution")]
    CommandSubstitution,
    /// `<(…)` or `>(…)`.
    #[error("process substitution")]
    ProcessSubstitution,
    /// `$'…'` or `$"…"`.
    #[error("dollar quote")]
    DollarQuote,
    /// `$name`, `${…}` or `$((…))`.
    #[error("variable or arithmetic expansion")]
    Expansion,
    /// A redirection that is not one of the harmless ones (D6).
    #[error("redirection")]
    Redirection,
    /// `<<` or `<<<`.
    #[error("here-document")]
    HereDocument,
    /// `&`.
    #[error("background job")]
    Background,
    /// An unquoted parenthesis: a subshell, a function or a pattern.
    #[error("parenthesis")]
    Parenthesis,
    /// `;;`, `;&` and the like.
    #[error("operator of a case command")]
    CaseOperator,
    /// A word that begins a compound command or changes how the next one is read.
    #[error("reserved word")]
    ReservedWord,
    /// The executable, or a word before it, is not written literally.
    #[error("executable that is only known at run time")]
    DynamicExecutable,
    /// The executable's name means different things to different shells.
    #[error("unusual executable name")]
    UnusualExecutable,
    /// Something that this shell, or some shell of its kind, reads differently.
    #[error("syntax that differs between shells")]
    Unportable,
}

/// Tells what `payload` would execute when a shell of `dialect` is given it.
///
/// Linear in the length of `payload`, which should be the argument itself, untrimmed.
///
/// # Errors
/// What was not understood, and where.
pub fn analyse(payload: &str, dialect: Dialect) -> Result<Script, Refusal> {
    parser::parse(payload, dialect, parser::Context::OUTERMOST)
}

#[cfg(test)]
mod tests;
