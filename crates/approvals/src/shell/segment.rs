//! What a simple command is to policy.

use std::ops::Range;

use super::lexer::refusal;
use super::parser::{self, Context};
use super::{
    Dialect, Joint, Kind, Nested, PromptOnly, Reason, Refusal, Script, Segment, Word, operands,
    vocabulary,
};
use crate::wrapper::runner::{self, Runner};
use crate::wrapper::shell::{self, Invocation, Payload, Shell};
use crate::wrapper::{TrustPlan, WrapperKind, executable_name};

/// A simple command as it was read.
#[derive(Debug, Default)]
pub(super) struct SimpleCommand {
    pub(super) argv: Vec<String>,
    pub(super) words: Vec<Word>,
    pub(super) assignments: Vec<Range<usize>>,
    /// Where the first expansion in it stands, assignments included.
    pub(super) expansion: Option<usize>,
}

/// What became of the words, before it is known whether they may hold expansions.
enum Class {
    Ordinary(Kind),
    PromptOnly(PromptOnly),
}

/// Says how policy treats a command that is not empty.
///
/// # Errors
/// Its executable cannot be told, or it expands a variable where no human is asked.
pub(super) fn classify(
    command: SimpleCommand,
    joint: Joint,
    source: &str,
    dialect: Dialect,
    context: Context,
) -> Result<Segment, Refusal> {
    let plan = TrustPlan::of(&command.argv);
    require_same_keyword(&command, joint, source, dialect)?;
    let class = if command.assignments.is_empty() {
        class_of(&command, &plan, joint, dialect, context)?
    } else {
        Class::PromptOnly(PromptOnly::Assignment)
    };
    let kind = match class {
        Class::PromptOnly(why) => Kind::PromptOnly(why),
        Class::Ordinary(kind) => match command.expansion {
            Some(position) => return Err(refusal(Reason::Expansion, position)),
            None => kind,
        },
    };
    Ok(Segment {
        joint,
        argv: command.argv,
        words: command.words,
        assignments: command.assignments,
        plan,
        kind,
        after_directory_change: context.directory_changed(),
    })
}

/// Whether what follows a segment may run in another directory.
pub(super) fn changes_directory(segment: &Segment) -> bool {
    let executable = segment.execution_argv().first();
    executable.is_some_and(|word| vocabulary::changes_directory(word))
}

/// Passes a word that every shell takes for the name of a program or builtin.
///
/// # Errors
/// What else it may be.
pub(super) fn require_plain_executable(
    name: &str,
    word: &Word,
    dialect: Dialect,
) -> Result<(), Refusal> {
    let refuse = |reason| Err(refusal(reason, word.span.start));
    if word.expansion {
        return refuse(Reason::DynamicExecutable);
    }
    if vocabulary::is_reserved(name, dialect) {
        return refuse(Reason::ReservedWord);
    }
    if !word.is_literal() {
        return refuse(Reason::DynamicExecutable);
    }
    let is_unusual = name.is_empty()
        || !name.is_ascii()
        || name.contains('=')
        || name.starts_with(['-', '+', '%', '!', '^', '@']);
    if is_unusual {
        return refuse(Reason::UnusualExecutable);
    }
    Ok(())
}

/// `time` is a keyword to some shells, which take other options than the program, judge the word
/// behind it as the start of a command, and want it at the start of a pipeline.
fn require_same_keyword(
    command: &SimpleCommand,
    joint: Joint,
    source: &str,
    dialect: Dialect,
) -> Result<(), Refusal> {
    let written = |position: usize| {
        let word = command.words.get(position);
        word.and_then(|word| source.get(word.span.clone()))
    };
    let Some(keyword) = command.words.first() else {
        return Ok(());
    };
    if written(0) != Some("time") {
        return Ok(());
    }
    let refuse = || Err(refusal(Reason::Unportable, keyword.span.start));
    if matches!(joint, Joint::Pipe | Joint::PipeBoth) {
        return refuse();
    }
    let mut position = 1;
    let has_option = matches!(dialect, Dialect::Posix | Dialect::Bash);
    if has_option && written(position) == Some("-p") {
        position += 1;
    }
    let (Some(name), Some(word)) = (command.argv.get(position), command.words.get(position)) else {
        return refuse();
    };
    // A redirection between them would end what belongs to the keyword.
    let between = source.get(keyword.span.start..word.span.start);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"- \t".contains(&byte);
    if name == "time" || !between.is_some_and(|between| between.bytes().all(is_plain)) {
        return refuse();
    }
    require_plain_executable(name, word, dialect)
}

fn class_of(
    command: &SimpleCommand,
    plan: &TrustPlan,
    joint: Joint,
    dialect: Dialect,
    context: Context,
) -> Result<Class, Refusal> {
    let argv = command.argv.as_slice();
    let inner = plan.execution_argv(argv);
    let name = inner.first().map_or("", String::as_str);
    let shell = Shell::named(name);
    if let Some(why) = prompt_only(command, plan, shell, dialect) {
        return Ok(Class::PromptOnly(why));
    }
    let is_fed = context.may_be_fed() || matches!(joint, Joint::Pipe | Joint::PipeBoth);
    if is_fed && shell.is_some_and(|shell| reads_standard_input(shell, inner)) {
        return Ok(Class::PromptOnly(PromptOnly::CommandCarrier(
            executable_name(name),
        )));
    }
    let literal_until = literal_words(argv, plan, shell);
    let mut before = command.words.iter().take(literal_until);
    if let Some(word) = before.find(|word| !word.is_literal()) {
        return Err(refusal(Reason::DynamicExecutable, word.span.start));
    }
    if !name.is_ascii() || name.is_empty() {
        let position = command.words.get(plan.execution_index);
        let position = position.map_or(0, |word| word.span.start);
        return Err(refusal(Reason::UnusualExecutable, position));
    }
    if plan.wrappers.is_empty() {
        if vocabulary::is_safe(name) {
            return Ok(Class::Ordinary(Kind::SafeBuiltin));
        }
        if let Some(kind) = shell.and_then(|shell| shell_kind(shell, argv, context)) {
            return Ok(Class::Ordinary(kind));
        }
    }
    Ok(Class::Ordinary(Kind::Command))
}

/// How many words, from the first, must be known for the innermost executable to be known.
fn literal_words(argv: &[String], plan: &TrustPlan, shell: Option<Shell>) -> usize {
    let inner = plan.execution_argv(argv);
    if let Some(shell) = shell {
        // An option or a command text must not come out of an expansion.
        let script = shell::script_position(shell, inner);
        return script.map_or(argv.len(), |position| plan.execution_index + position + 1);
    }
    match runner::unwrap(inner) {
        Runner::Absent => plan.execution_index + 1,
        Runner::Other | Runner::Opaque | Runner::Around { .. } => argv.len(),
    }
}

/// `shell` is what the innermost executable is, if it is one.
fn prompt_only(
    command: &SimpleCommand,
    plan: &TrustPlan,
    shell: Option<Shell>,
    dialect: Dialect,
) -> Option<PromptOnly> {
    let argv = command.argv.as_slice();
    if let Some(name) = &plan.blocked {
        return Some(PromptOnly::BlockedWrapper(name.clone()));
    }
    let inner = plan.execution_argv(argv);
    let token = inner.first()?;
    if vocabulary::redefines(token, dialect) {
        return Some(PromptOnly::Builtin(token.clone()));
    }
    if let Some(wrapper) = plan.wrappers.last() {
        if let Some(name) = unportable_carrier(argv, plan, dialect) {
            return Some(PromptOnly::BlockedWrapper(name));
        }
        let is_script = |shell| shell::classify(shell, inner, None) == Invocation::Script;
        if shell.is_some_and(|shell| !is_script(shell)) {
            return Some(PromptOnly::ShellBehindWrapper(wrapper.name.clone()));
        }
    }
    let words = command
        .words
        .get(plan.execution_index..)
        .unwrap_or_default();
    if ends_with_ignoring_case(token, "xargs") {
        let name = executable_name(token);
        if matches!(name.as_str(), "xargs" | "gxargs") {
            return Some(PromptOnly::CommandCarrier(name));
        }
    }
    if ends_with_ignoring_case(token, "find") {
        let name = executable_name(token);
        if matches!(name.as_str(), "find" | "gfind") && operands::may_run_commands(inner, words) {
            return Some(PromptOnly::FindAction);
        }
    }
    let is_builtin = plan
        .wrappers
        .iter()
        .all(|wrapper| wrapper.kind == WrapperKind::Carrier);
    if is_builtin && operands::may_be_evaluated(inner, words, dialect) {
        return Some(PromptOnly::EvaluatedOperand(token.clone()));
    }
    None
}

/// A carrier builtin that some shell of the dialect does not have, or that takes other options.
fn unportable_carrier(argv: &[String], plan: &TrustPlan, dialect: Dialect) -> Option<String> {
    if !matches!(dialect, Dialect::Posix | Dialect::Fish) {
        return None;
    }
    let is_unportable = |position: usize| match argv.get(position).map(String::as_str) {
        Some("builtin") => true,
        Some("exec") => argv
            .get(position + 1)
            .is_some_and(|word| word.starts_with('-') && word != "--"),
        _ => false,
    };
    plan.wrappers
        .iter()
        .filter(|wrapper| wrapper.kind == WrapperKind::Carrier)
        .find(|wrapper| is_unportable(wrapper.index))
        .map(|wrapper| wrapper.name.clone())
}

/// Whether a word, less a Windows suffix, can have a normalised name that ends like this. Spares
/// most words the making of that name.
fn ends_with_ignoring_case(token: &str, name: &str) -> bool {
    let lower = |byte: &u8| byte.to_ascii_lowercase();
    token
        .as_bytes()
        .windows(name.len())
        .any(|window| window.iter().map(lower).eq(name.bytes()))
}

/// Whether a shell may take commands from standard input, which another command writes.
fn reads_standard_input(shell: Shell, words: &[String]) -> bool {
    shell::classify(shell, words, None) == Invocation::Script
        && shell::sole_script_position(shell, words).is_none()
}

/// What a shell without wrappers is to policy, if it is given a command text.
fn shell_kind(shell: Shell, argv: &[String], context: Context) -> Option<Kind> {
    match shell::classify(shell, argv, None) {
        Invocation::Script => None,
        Invocation::Opaque => Some(Kind::Shell),
        Invocation::Payload(payload) => Some(
            open_nested(argv, &payload, context)
                .map_or(Kind::Shell, |nested| Kind::Nested(Box::new(nested))),
        ),
    }
}

fn open_nested(argv: &[String], payload: &Payload, context: Context) -> Option<Nested> {
    let token = argv.first()?;
    if token.contains(['/', '\\']) || !shell::has_plain_start(argv, payload.position) {
        return None;
    }
    let dialect = Dialect::of(token)?;
    let script = parser::parse(&payload.source, dialect, context.nested()?).ok()?;
    has_bare_commands(&script).then_some(Nested {
        payload_index: payload.position,
        script,
    })
}

/// Whether every command is looked up by its name, and none is known to start another
/// (exec and approvals §8.3).
fn has_bare_commands(script: &Script) -> bool {
    script.segments.iter().all(|segment| {
        let executable = segment.execution_argv().first();
        [segment.argv.first(), executable]
            .into_iter()
            .flatten()
            .all(|word| !word.contains(['/', '\\']) && !word.ends_with("-wrapper"))
    })
}
