//! Whether an entry of the allowlist names a command (exec and approvals §8.1).

mod miss;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::arg_pattern::ArgPattern;
use crate::command::trim;
use crate::digest::{sha256_hex, sha256_hex16};
use crate::document::Entry;
use crate::glob::Glob;
use crate::lexical;
use crate::shell;

pub use self::miss::Miss;

/// What an `argPattern` starts with that binds an entry to a working directory and arguments.
pub const CWD_ARGV_PREFIX: &str = "sha256:cwd-argv:v1:";

/// What an `argPattern` starts with that releases before 2026.9 wrote. It binds no working
/// directory, and no longer matches.
const ARGV_PREFIX: &str = "sha256:argv:";

/// What the pattern of an entry starts with that grants one exact command text.
const EXACT_COMMAND_PREFIX: &str = "=command:";

/// What a command's first word stands for on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The word as it was given: a name or a path.
    pub raw_token: String,
    /// The executable file it names, found on `PATH` or at that path. Symlinks are not resolved.
    pub resolved_path: Option<PathBuf>,
    /// The same file with every symlink resolved, where that could be done.
    pub real_path: Option<PathBuf>,
}

impl Resolution {
    /// The path that an entry must name: the real one, else the one that was found.
    pub fn trusted_path(&self) -> Option<&Path> {
        self.real_path.as_deref().or(self.resolved_path.as_deref())
    }
}

/// One executable with its arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The words, the executable's first, without transparent wrappers before it.
    pub argv: Vec<String>,
    /// What the first word stands for.
    pub resolution: Resolution,
}

/// One command as an allowlist judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An executable that is no shell.
    Program(Invocation),
    /// What a package runner such as `npx` would start: the executable of this name, or one that
    /// the runner finds or fetches itself.
    Package(Invocation),
    /// A shell that is given no command text, or one that is not looked into.
    Shell {
        /// The shell itself.
        shell: Invocation,
        /// The script it is given, with the script's arguments, if it is given one and no option
        /// makes it read anything else. Its first word and its resolution hold the script's
        /// absolute path, whether or not the file is executable.
        script: Option<Invocation>,
    },
    /// Nothing that an entry could name: no allowlist satisfies this, not even `*`.
    Unanalysable(Unanalysable),
}

impl Target {
    /// What the first word of the command stands for, where that is told.
    pub fn resolution(&self) -> Option<&Resolution> {
        match self {
            Self::Program(program) | Self::Package(program) => Some(&program.resolution),
            Self::Shell { shell, .. } => Some(&shell.resolution),
            Self::Unanalysable(_) => None,
        }
    }
}

/// Why no allowlist satisfies a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanalysable {
    /// The command text that it hands a shell is not understood.
    #[error("the shell's command text is not analysable: {0}")]
    Payload(shell::Refusal),
    /// It hands a shell a command text in a way that hides what the shell does with it.
    #[error("what the shell is told cannot be taken out of the command")]
    ShellPayload,
    /// It needs a human whatever the allowlist says.
    #[error("{0}")]
    PromptOnly(shell::PromptOnly),
    /// It runs through a wrapper that changes what the command may do, such as `sudo`.
    #[error("it runs through a wrapper that hides or changes the command")]
    BlockedWrapper,
    /// It runs through a file that only bears the name of a shell or wrapper.
    #[error("its shell or wrapper is not the one that PATH or the system has under that name")]
    ForeignWrapper,
    /// It asks a package runner to fetch or to choose what runs.
    #[error("what the package runner would run cannot be told")]
    PackageRunner,
}

/// What the arguments of a command mean to an entry that binds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments<'a> {
    /// The working directory that the request names, if the command runs in it.
    pub cwd: Option<&'a str>,
    /// Whether a shell makes other arguments of those that are written, so that nothing can be
    /// bound to them.
    pub expand: bool,
}

/// The entries that apply to one agent, ready to be searched. Positions are those in
/// [`ResolvedPolicy::allowlist`](crate::policy::ResolvedPolicy::allowlist).
///
/// Made once per revision of the document, because parsing patterns costs more than matching them.
#[derive(Debug, Default)]
pub struct Allowlist {
    rules: Vec<Rule>,
    /// The first bare `*`.
    any: Option<usize>,
    /// Rules whose pattern is one path, by that path.
    paths: HashMap<String, Vec<usize>>,
    /// Rules whose pattern is one name, by that name.
    names: HashMap<String, Vec<usize>>,
    /// Rules whose pattern has wildcards, in order.
    globs: Vec<(usize, Pattern)>,
    /// Exact command texts that are granted, by the pattern that grants them.
    exact_commands: HashMap<String, usize>,
}

/// What a rule says besides its pattern.
#[derive(Debug)]
struct Rule {
    arguments: ArgumentRule,
    is_any: bool,
}

#[derive(Debug)]
enum ArgumentRule {
    /// Any will do.
    Any,
    /// None will do.
    Never,
    /// The directory and the arguments of this `argPattern`.
    Bound(String),
    /// Those that this expression matches.
    Matching(ArgPattern),
}

/// A pattern with wildcards.
#[derive(Debug)]
enum Pattern {
    Path(Glob),
    Name(Glob),
}

impl Allowlist {
    /// Prepares entries for searching. `home` is what a leading `~` in a pattern stands for.
    #[must_use]
    pub fn new(entries: &[&Entry], home: Option<&str>) -> Self {
        let mut allowlist = Self::default();
        for (index, entry) in entries.iter().enumerate() {
            allowlist.add(index, entry, home);
        }
        allowlist
    }

    fn add(&mut self, index: usize, entry: &Entry, home: Option<&str>) {
        let pattern = trim(&entry.pattern);
        let arguments = ArgumentRule::of(entry);
        let is_any = pattern == "*" && matches!(arguments, ArgumentRule::Any);
        if is_any {
            self.any.get_or_insert(index);
        }
        if entry.allow_always && pattern.starts_with(EXACT_COMMAND_PREFIX) {
            self.exact_commands
                .entry(entry.pattern.clone())
                .or_insert(index);
        }
        self.rules.push(Rule { arguments, is_any });
        if has_path_selector(pattern) {
            let glob = Glob::parse(without_private_var(pattern), home);
            match glob.literal() {
                Some(path) => self.paths.entry(path).or_default().push(index),
                None => self.globs.push((index, Pattern::Path(glob))),
            }
        } else if pattern != "*" {
            let glob = Glob::parse(pattern, home);
            match glob.literal() {
                Some(name) => self.names.entry(name).or_default().push(index),
                None => self.globs.push((index, Pattern::Name(glob))),
            }
        }
    }

    /// The entry that names a command.
    ///
    /// An entry whose `argPattern` matches wins over one without, the first over a later one; a bare
    /// `*` wins over all.
    #[must_use]
    pub fn find(&self, target: &Target, arguments: Arguments<'_>) -> Option<usize> {
        match target {
            Target::Program(program) | Target::Package(program) => {
                self.find_invocation(program, arguments)
            }
            Target::Shell { shell, script } => self
                .find_invocation(shell, arguments)
                // Trusting a shell is not trusting whatever it is told to read.
                .filter(|&index| shell.argv.len() < 2 || self.holds_for_shells(index))
                .or_else(|| self.find_target(script.as_ref()?, arguments, ByName::No)),
            Target::Unanalysable(_) => None,
        }
    }

    /// The entry that grants exactly this command text.
    ///
    /// Such grants hold for what cannot be analysed too. Only generated entries count.
    #[must_use]
    pub fn find_exact_command(&self, command_text: &str) -> Option<usize> {
        let text = trim(command_text);
        if text.is_empty() || self.exact_commands.is_empty() {
            return None;
        }
        let pattern = format!("{EXACT_COMMAND_PREFIX}{}", sha256_hex16(text));
        self.exact_commands.get(&pattern).copied()
    }

    /// Whether a rule may stand for a shell that is told something.
    fn holds_for_shells(&self, index: usize) -> bool {
        self.rules
            .get(index)
            .is_some_and(|rule| match &rule.arguments {
                ArgumentRule::Bound(_) => true,
                ArgumentRule::Matching(pattern) => !pattern.is_blank(),
                ArgumentRule::Any | ArgumentRule::Never => rule.is_any,
            })
    }

    fn find_invocation(&self, invocation: &Invocation, arguments: Arguments<'_>) -> Option<usize> {
        self.find_target(invocation, arguments, ByName::of(invocation))
    }

    fn find_target(
        &self,
        invocation: &Invocation,
        arguments: Arguments<'_>,
        by_name: ByName,
    ) -> Option<usize> {
        if let Some(any) = self.any {
            return Some(any);
        }
        let mut facts = Facts {
            invocation,
            arguments,
            binding: None,
            text: None,
        };
        let mut plain = None;
        for index in self.named(&invocation.resolution, by_name) {
            match self.rules.get(index).map(|rule| &rule.arguments) {
                Some(ArgumentRule::Any) => plain = plain.or(Some(index)),
                Some(ArgumentRule::Bound(binding)) if facts.are_bound_by(binding) => {
                    return Some(index);
                }
                Some(ArgumentRule::Matching(pattern)) if facts.match_pattern(pattern) => {
                    return Some(index);
                }
                Some(_) | None => {}
            }
        }
        plain
    }

    /// The rules whose pattern names the executable, in order.
    fn named(&self, resolution: &Resolution, by_name: ByName) -> Vec<usize> {
        let (Some(found), Some(trusted)) = (&resolution.resolved_path, resolution.trusted_path())
        else {
            return Vec::new();
        };
        // A path that is not UTF-8 cannot be named by a pattern that is.
        let path = trusted.to_str().map(without_private_var);
        let name = Some(found)
            .filter(|_| by_name == ByName::Yes)
            .and_then(|found| found.file_name()?.to_str());
        let mut named: Vec<usize> = Vec::new();
        named.extend(
            path.and_then(|path| self.paths.get(path))
                .into_iter()
                .flatten(),
        );
        named.extend(
            name.and_then(|name| self.names.get(name))
                .into_iter()
                .flatten(),
        );
        let normal = path.map(normal_path);
        for (index, pattern) in &self.globs {
            let matches = match pattern {
                Pattern::Path(glob) => normal.as_deref().is_some_and(|path| glob.matches(path)),
                Pattern::Name(glob) => name.is_some_and(|name| glob.matches(name)),
            };
            if matches {
                named.push(*index);
            }
        }
        named.sort_unstable();
        named
    }
}

impl ArgumentRule {
    fn of(entry: &Entry) -> Self {
        let Some(pattern) = entry
            .arg_pattern
            .as_deref()
            .filter(|pattern| !pattern.is_empty())
        else {
            return if entry.allow_always {
                Self::Never
            } else {
                Self::Any
            };
        };
        if pattern.starts_with(CWD_ARGV_PREFIX) {
            Self::Bound(pattern.to_owned())
        } else if entry.allow_always || pattern.starts_with(ARGV_PREFIX) {
            Self::Never
        } else {
            Self::Matching(ArgPattern::new(pattern))
        }
    }
}

/// What rules about arguments are compared with, worked out when it is first needed.
struct Facts<'a> {
    invocation: &'a Invocation,
    arguments: Arguments<'a>,
    binding: Option<String>,
    text: Option<String>,
}

impl Facts<'_> {
    fn are_bound_by(&mut self, binding: &str) -> bool {
        let Some(cwd) = self.arguments.cwd.filter(|_| !self.arguments.expand) else {
            return false;
        };
        let argv = &self.invocation.argv;
        self.binding
            .get_or_insert_with(|| cwd_argv_binding(cwd, argv))
            == binding
    }

    fn match_pattern(&mut self, pattern: &ArgPattern) -> bool {
        if self.arguments.expand {
            return false;
        }
        let arguments = self.invocation.argv.get(1..).unwrap_or_default();
        if pattern.separates_by_nul() {
            let text = match arguments {
                [] => String::from("\0\0"),
                arguments => arguments.join("\0") + "\0",
            };
            return pattern.is_match(&text);
        }
        pattern.is_match(self.text.get_or_insert_with(|| arguments.join(" ")))
    }
}

/// A path as patterns with wildcards see it.
fn normal_path(path: &str) -> Cow<'_, str> {
    let mut segments = path.split('/');
    if segments.any(|segment| matches!(segment, "." | "..")) {
        Cow::Owned(lexical::normalise(path))
    } else {
        Cow::Borrowed(path)
    }
}

/// The `argPattern` that binds an entry to a working directory and to the arguments behind
/// `argv[0]`.
///
/// The hashed text is, with lengths in bytes and NUL after every part: the length of the
/// normalised directory, the directory, the number of arguments, and for each argument its length
/// and itself (exec and approvals §8.1).
pub fn cwd_argv_binding(cwd: &str, argv: &[String]) -> String {
    let cwd = lexical::normalise(cwd).replace('\\', "/");
    let arguments = argv.get(1..).unwrap_or_default();
    let mut subject = format!("{}\0{cwd}\0{}\0", cwd.len(), arguments.len());
    for argument in arguments {
        subject.push_str(&format!("{}\0{argument}\0", argument.len()));
    }
    format!("{CWD_ARGV_PREFIX}{}", sha256_hex(subject))
}

/// Whether an `argPattern` is a generated hash, of whichever release.
pub(crate) fn is_hashed(arg_pattern: Option<&str>) -> bool {
    arg_pattern.is_some_and(|pattern| {
        pattern.starts_with(CWD_ARGV_PREFIX) || pattern.starts_with(ARGV_PREFIX)
    })
}

/// Whether a pattern that is a bare name may name a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByName {
    /// It was looked up on `PATH` by its name.
    Yes,
    /// It was given as a path, or is a script, which no shell looks up by name alone.
    No,
}

impl ByName {
    fn of(invocation: &Invocation) -> Self {
        if has_path_selector(&invocation.resolution.raw_token) {
            Self::No
        } else {
            Self::Yes
        }
    }
}

fn has_path_selector(text: &str) -> bool {
    text.contains(['/', '\\', '~'])
}

/// On macOS `/var` is a symlink to `/private/var`; patterns name the former.
fn without_private_var(path: &str) -> &str {
    let rest = path.strip_prefix("/private");
    match rest.filter(|rest| *rest == "/var" || rest.starts_with("/var/")) {
        Some(rest) if cfg!(target_os = "macos") => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests;
