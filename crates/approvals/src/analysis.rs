//! What a command would execute, as far as an allowlist can judge it (exec and approvals §3.3, §4,
//! §8.1, §8.3).
//!
//! Looking up which file a word stands for is left to [`Programs`]; everything else is told from
//! the words.

use std::ops::Range;
use std::path::Path;

use crate::allowlist::{Arguments, Invocation, Resolution, Target, Unanalysable};
use crate::command::{CommandLine, ShellPayload, ShellUse};
use crate::decision::Satisfier;
use crate::shell::{self as script, Dialect, Kind, rewrite};
use crate::wrapper::runner::{self, Runner};
use crate::wrapper::shell::{self, Shell};
use crate::wrapper::{InnerArgv, TrustPlan, WrapperKind, executable_name};

/// How many package runners may stand inside one another (exec and approvals §8.1).
const MAX_RUNNERS: usize = 6;

/// The folders in which a shell or wrapper is what its name says, wherever `PATH` leads.
const SYSTEM_FOLDERS: [&str; 2] = ["/bin", "/usr/bin"];

/// What a relative path counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Directory {
    /// The directory in which the command starts.
    Start,
    /// Another one, which is not known: the command changed it before.
    Unknown,
}

/// Which files words stand for on this machine.
pub trait Programs {
    /// Looks up an executable word.
    fn resolve(&self, token: &str, directory: Directory) -> Resolution;

    /// Looks up a script, which need not be executable: its absolute path, and where that leads.
    fn resolve_script(&self, token: &str, directory: Directory) -> Resolution;
}

/// What a command would execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Analysis {
    /// One program, behind wrappers or not.
    Direct(Target),
    /// The commands of a shell's command line.
    Payload(Payload),
}

/// The commands of a shell's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The command line.
    pub source: String,
    /// Its commands, in their order; never empty.
    pub commands: Vec<Command>,
    /// Whether the shell reads command lines in a language of its own, so that what was analysed
    /// may not be what it runs.
    pub is_foreign: bool,
}

/// One command of a shell's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A simple command.
    Simple(Simple),
    /// A shell that is given a command line of its own, which is judged in its place.
    Nested {
        /// Where that command line stands in the outer one, quotes included, in bytes.
        span: Range<usize>,
        /// What it would execute.
        payload: Payload,
    },
}

/// A simple command of a shell's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simple {
    /// The words of the command, wrappers included.
    pub argv: Vec<String>,
    /// What is judged.
    pub target: Target,
    /// Where the executable that is judged stands in the command line, quotes included, in bytes.
    pub word: Range<usize>,
    /// Whether it is a builtin that may run without an entry.
    pub is_safe_builtin: bool,
    /// Whether the shell makes other arguments of those that are written.
    pub expands: bool,
    /// Whether it may run in another directory than the first command.
    pub is_moved: bool,
}

impl Payload {
    /// Every simple command, also those of nested command lines, in their order.
    pub fn simple_commands(&self) -> Vec<&Simple> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Simple>) {
        for command in &self.commands {
            match command {
                Command::Simple(simple) => found.push(simple),
                Command::Nested { payload, .. } => payload.collect(found),
            }
        }
    }
}

impl Simple {
    /// What the arguments mean to an entry; `cwd` is where the first command runs.
    #[must_use]
    pub fn arguments<'a>(&self, cwd: Option<&'a str>) -> Arguments<'a> {
        Arguments {
            cwd: cwd.filter(|_| !self.is_moved),
            expand: self.expands,
        }
    }
}

/// A command line whose safe bins cannot be pinned to their files: the shell would make other
/// arguments of those that were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPinned;

impl Payload {
    /// The command line with every safe bin replaced by its file, so that no function, alias or
    /// other `PATH` of the shell can put something else in its place; `None` if it holds none.
    /// `satisfied` is [`Allowed::satisfied`](crate::decision::Allowed::satisfied) of this payload.
    ///
    /// # Errors
    /// [`NotPinned`].
    pub fn with_safe_bins_pinned(
        &self,
        satisfied: &[Option<Satisfier>],
    ) -> Result<Option<String>, NotPinned> {
        self.pinned(&mut satisfied.iter())
    }

    fn pinned(
        &self,
        satisfied: &mut std::slice::Iter<'_, Option<Satisfier>>,
    ) -> Result<Option<String>, NotPinned> {
        let mut replacements = Vec::new();
        for command in &self.commands {
            match command {
                Command::Nested { span, payload } => {
                    if let Some(inner) = payload.pinned(satisfied)? {
                        replacements.push((span.clone(), rewrite::quote(&inner)));
                    }
                }
                Command::Simple(simple) => {
                    let Some(Some(Satisfier::SafeBin)) = satisfied.next() else {
                        continue;
                    };
                    let path = match &simple.target {
                        Target::Program(program) => program.resolution.trusted_path(),
                        Target::Package(_) | Target::Shell { .. } | Target::Unanalysable(_) => None,
                    };
                    let path = path.and_then(Path::to_str).filter(|_| !simple.expands);
                    let path = path.ok_or(NotPinned)?;
                    replacements.push((simple.word.clone(), rewrite::quote(path)));
                }
            }
        }
        if replacements.is_empty() {
            return Ok(None);
        }
        rewrite::replace(&self.source, &replacements)
            .map(Some)
            .ok_or(NotPinned)
    }
}

impl Analysis {
    /// Tells what a command would execute.
    pub fn of(command: &CommandLine, programs: &dyn Programs) -> Self {
        let ShellUse::Payload(payload) = command.shell() else {
            return Self::Direct(direct(command.argv(), programs));
        };
        let refused = |why| Self::Direct(Target::Unanalysable(why));
        let plan = TrustPlan::of(command.argv());
        if plan.blocked.is_some() {
            return refused(Unanalysable::BlockedWrapper);
        }
        if !are_genuine(command.argv(), &plan, Carriers::Programs, programs) {
            return refused(Unanalysable::ForeignWrapper);
        }
        let is_multiplexed = plan
            .wrappers
            .iter()
            .any(|wrapper| wrapper.kind == WrapperKind::Multiplexer);
        let shell = plan.execution_argv(command.argv()).first();
        let is_shell = shell.is_some_and(|token| Shell::named(token).is_some());
        if is_multiplexed || !is_shell || !payload.has_plain_start {
            return refused(Unanalysable::ShellPayload);
        }
        if !shell.is_some_and(|token| is_genuine(token, programs)) {
            return refused(Unanalysable::ForeignWrapper);
        }
        match analyse_payload(payload, programs) {
            Ok(payload) => Self::Payload(payload),
            Err(refusal) => refused(Unanalysable::Payload(refusal)),
        }
    }
}

fn analyse_payload(
    payload: &ShellPayload,
    programs: &dyn Programs,
) -> Result<Payload, script::Refusal> {
    let dialect = payload.dialect.unwrap_or(Dialect::Posix);
    let script = script::analyse(&payload.source, dialect)?;
    Ok(Payload {
        source: payload.source.clone(),
        commands: commands(&script, programs),
        is_foreign: payload.dialect.is_none(),
    })
}

fn commands(script: &script::Script, programs: &dyn Programs) -> Vec<Command> {
    let segments = script.segments.iter();
    segments.map(|segment| command(segment, programs)).collect()
}

fn command(segment: &script::Segment, programs: &dyn Programs) -> Command {
    let directory = if segment.after_directory_change {
        Directory::Unknown
    } else {
        Directory::Start
    };
    if let Kind::Nested(nested) = &segment.kind
        && let Some(word) = segment.words.get(nested.payload_index)
        && let Some(source) = segment.argv.get(nested.payload_index)
        && is_system_shell(segment, programs)
    {
        return Command::Nested {
            span: word.span.clone(),
            payload: Payload {
                source: source.clone(),
                commands: commands(&nested.script, programs),
                is_foreign: false,
            },
        };
    }
    let target = match &segment.kind {
        Kind::Command | Kind::SafeBuiltin => in_payload(segment, directory, programs),
        Kind::Shell => {
            let argv = segment.policy_argv();
            Target::Shell {
                shell: invocation(argv, directory, programs),
                script: None,
            }
        }
        Kind::PromptOnly(why) => Target::Unanalysable(Unanalysable::PromptOnly(why.clone())),
        Kind::Nested(_) => Target::Unanalysable(Unanalysable::ForeignWrapper),
    };
    let index = segment.plan.policy_index;
    let arguments = segment.words.get(index + 1..).unwrap_or_default();
    let word = segment.words.get(index);
    Command::Simple(Simple {
        argv: segment.argv.clone(),
        target,
        word: word.map_or_else(|| segment.span(), |word| word.span.clone()),
        is_safe_builtin: segment.kind == Kind::SafeBuiltin,
        expands: !arguments.iter().all(script::Word::is_literal),
        is_moved: segment.after_directory_change,
    })
}

fn is_system_shell(segment: &script::Segment, programs: &dyn Programs) -> bool {
    are_genuine(&segment.argv, &segment.plan, Carriers::Builtins, programs)
        && segment
            .execution_argv()
            .first()
            .is_some_and(|token| is_genuine(token, programs))
}

fn in_payload(segment: &script::Segment, directory: Directory, programs: &dyn Programs) -> Target {
    if !are_genuine(&segment.argv, &segment.plan, Carriers::Builtins, programs) {
        return Target::Unanalysable(Unanalysable::ForeignWrapper);
    }
    // Where a word before the program could become several, every later one moves.
    let is_literal = |count| {
        let words = segment.words.get(..count).unwrap_or_default();
        words.iter().all(script::Word::is_literal)
    };
    let target = target(&segment.argv, Carriers::Builtins, directory, programs);
    let fixed = match &target {
        Target::Program(program) | Target::Package(program) => {
            segment.argv.len() - program.argv.len() + 1
        }
        Target::Shell {
            script: Some(script),
            ..
        } => segment.argv.len() - script.argv.len() + 1,
        Target::Shell { script: None, .. } => segment.argv.len(),
        Target::Unanalysable(_) => 0,
    };
    if is_literal(fixed) {
        target
    } else {
        Target::Unanalysable(Unanalysable::ShellPayload)
    }
}

fn direct(argv: &[String], programs: &dyn Programs) -> Target {
    target(argv, Carriers::Programs, Directory::Start, programs)
}

/// What `command`, `builtin` and `exec` are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carriers {
    /// Programs, if there are any of that name.
    Programs,
    /// Builtins of the shell.
    Builtins,
}

fn target(
    argv: &[String],
    carriers: Carriers,
    directory: Directory,
    programs: &dyn Programs,
) -> Target {
    let mut argv = InnerArgv::whole(argv);
    for runners in 0..=MAX_RUNNERS {
        let plan = TrustPlan::of(argv.words());
        if plan.blocked.is_some() {
            return Target::Unanalysable(Unanalysable::BlockedWrapper);
        }
        if !are_genuine(argv.words(), &plan, carriers, programs) {
            return Target::Unanalysable(Unanalysable::ForeignWrapper);
        }
        let inner = plan.execution_argv(argv.words());
        match runner::unwrap(inner) {
            Runner::Absent | Runner::Other => {
                return match innermost(argv.words(), &plan, directory, programs) {
                    Target::Program(program) if runners > 0 => Target::Package(program),
                    target => target,
                };
            }
            Runner::Around {
                in_context: false, ..
            } => {
                let is_genuine = inner
                    .first()
                    .is_some_and(|token| is_genuine(token, programs));
                let next = argv.suffix(plan.execution_index).behind_runner();
                match next.filter(|_| is_genuine) {
                    Some(next) => argv = next,
                    None => return Target::Unanalysable(Unanalysable::ForeignWrapper),
                }
            }
            Runner::Opaque
            | Runner::Around {
                in_context: true, ..
            } => break,
        }
    }
    Target::Unanalysable(Unanalysable::PackageRunner)
}

fn innermost(
    words: &[String],
    plan: &TrustPlan,
    directory: Directory,
    programs: &dyn Programs,
) -> Target {
    let inner = plan.execution_argv(words);
    let target = plan.policy_argv(words);
    let shell = inner.first().and_then(|token| Shell::named(token));
    let is_hidden = match shell.map(|shell| shell::classify(shell, inner, None)) {
        Some(shell::Invocation::Payload(_)) => true,
        // The multiplexer is judged, and what its shell is told is not part of that.
        Some(shell::Invocation::Opaque) => inner.len() != target.len(),
        Some(shell::Invocation::Script) | None => false,
    };
    if is_hidden {
        return Target::Unanalysable(Unanalysable::ShellPayload);
    }
    let judged = invocation(target, directory, programs);
    match shell {
        Some(shell) if inner.len() == target.len() => {
            let script = shell::sole_script_position(shell, target)
                .and_then(|position| target.get(position..))
                .filter(|_| {
                    target
                        .first()
                        .is_some_and(|token| is_genuine(token, programs))
                })
                .map(|words| script_invocation(words, directory, programs));
            Target::Shell {
                shell: judged,
                script,
            }
        }
        Some(_) | None => Target::Program(judged),
    }
}

fn invocation(argv: &[String], directory: Directory, programs: &dyn Programs) -> Invocation {
    let token = argv.first().map_or("", String::as_str);
    Invocation {
        argv: argv.to_vec(),
        resolution: programs.resolve(token, directory),
    }
}

/// A script with its arguments, as if it were run by itself.
fn script_invocation(
    words: &[String],
    directory: Directory,
    programs: &dyn Programs,
) -> Invocation {
    let token = words.first().map_or("", String::as_str);
    let resolution = programs.resolve_script(token, directory);
    let mut argv = words.to_vec();
    if let (Some(first), Some(path)) = (argv.first_mut(), &resolution.resolved_path) {
        *first = path.to_string_lossy().into_owned();
    }
    Invocation { argv, resolution }
}

/// Whether every wrapper that policy looks through is the program that it is taken for. It stays
/// where it is when the command runs (divergence D7), so it must not be just any file of that name.
fn are_genuine(
    argv: &[String],
    plan: &TrustPlan,
    carriers: Carriers,
    programs: &dyn Programs,
) -> bool {
    plan.wrappers
        .iter()
        .filter(|wrapper| {
            wrapper.kind == WrapperKind::Dispatch
                || (wrapper.kind == WrapperKind::Carrier && carriers == Carriers::Programs)
        })
        .filter_map(|wrapper| argv.get(wrapper.index))
        .all(|token| is_genuine(token, programs))
}

/// Whether a word names the program that its base name stands for on `PATH`, or one in the system's
/// own folders. A name that is not found is not this question's business.
fn is_genuine(token: &str, programs: &dyn Programs) -> bool {
    if !token.contains(['/', '\\']) {
        return true;
    }
    let named = programs.resolve(token, Directory::Start);
    let Some(path) = named.trusted_path() else {
        return true;
    };
    let name = executable_name(token);
    SYSTEM_FOLDERS
        .iter()
        .map(|folder| format!("{folder}/{name}"))
        .chain([name.clone()])
        .any(|known| {
            let known = programs.resolve(&known, Directory::Start);
            known.trusted_path() == Some(path)
        })
}
