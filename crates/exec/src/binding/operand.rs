//! The file that a command would run and that could change between approval and execution
//! (exec and approvals §10).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use approvals::command::CommandLine;
use approvals::plan::FileOperand;
use approvals::wrapper::shell::{self, Shell};
use approvals::wrapper::{InnerArgv, env, executable_name, is_multiplexer, runner};
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use super::{BindingRefusal, mutability, runtime};
use crate::host::Host;

/// The largest file that is hashed. Hashing happens while a gateway waits, which it does for 15 s.
const MAX_OPERAND_BYTES: u64 = 2 << 30;

/// How much of a file is hashed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How many wrappers and runners are taken off; each is at least one word of the command.
const MAX_LAYERS: usize = 64;

/// The file that running `argv` in `cwd` would run, with its content's digest; `None` if what runs
/// cannot be changed by this user.
///
/// `command` is the command that `argv` was pinned from.
pub(crate) fn bind_operand(
    argv: &[String],
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &Path,
) -> Result<Option<FileOperand>, BindingRefusal> {
    let Some(argv_index) = operand_index(argv, command, host, cwd)? else {
        return Ok(None);
    };
    let word = argv.get(argv_index).map_or("", String::as_str);
    let path = real_path(word, cwd).ok_or(BindingRefusal::OperandMissing)?;
    let sha256 = hash(&path)?;
    let path = path
        .into_os_string()
        .into_string()
        .map_err(|_| BindingRefusal::OperandMissing)?;
    Ok(Some(FileOperand {
        argv_index,
        path,
        sha256,
    }))
}

/// Whether the word that named the operand still leads to the same file with the same content.
pub(crate) fn is_unchanged(operand: &FileOperand, argv: &[String], cwd: &Path) -> bool {
    argv.get(operand.argv_index)
        .and_then(|word| real_path(word, cwd))
        .filter(|path| path.to_str() == Some(&operand.path))
        .is_some_and(|path| hash(&path).is_ok_and(|sha256| sha256 == operand.sha256))
}

pub(super) fn real_path(word: &str, cwd: &Path) -> Option<PathBuf> {
    Host::absolute(cwd, word).canonicalize().ok()
}

/// Lower-case hex SHA-256 of what the open file holds, whatever its name comes to mean meanwhile.
fn hash(path: &Path) -> Result<String, BindingRefusal> {
    let missing = |_| BindingRefusal::OperandMissing;
    let unreadable = |_| BindingRefusal::OperandUnreadable;
    let is_file = |metadata: Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(BindingRefusal::OperandNotFile),
    };
    is_file(path.metadata().map_err(missing)?)?;
    let file = open(path).map_err(unreadable)?;
    is_file(file.metadata().map_err(unreadable)?)?;
    let mut file = file;
    hash_from(Vec::new(), &mut file).map_err(unreadable)
}

/// Lower-case hex SHA-256 of what was read already and what is left of an open file.
///
/// # Errors
/// The file cannot be read, or is larger than anything that is hashed.
pub(super) fn hash_from(read: Vec<u8>, rest: &mut File) -> io::Result<String> {
    let mut total = read.len() as u64;
    let mut hash = Sha256::new_with_prefix(&read);
    let mut content = rest.take(MAX_OPERAND_BYTES + 1);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = content.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        total += length as u64;
        hash.update(chunk.get(..length).unwrap_or_default());
    }
    if total > MAX_OPERAND_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Opens a file that is expected to be a regular one, without waiting if it has become a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Which word of `argv` names the file that would run, if there is such a file.
///
/// # Errors
/// What the command runs depends on more than one file, or cannot be told.
pub(crate) fn operand_index(
    argv: &[String],
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &Path,
) -> Result<Option<usize>, BindingRefusal> {
    let innermost = Innermost::of(argv);
    if innermost.changes_directory {
        return Err(BindingRefusal::DispatchCwd);
    }
    let words = innermost.argv.words();
    if innermost.shell().is_some_and(Shell::is_posix_like) {
        if shell::loads_more_than_its_script(words) {
            return Err(BindingRefusal::ShellStartupFiles);
        }
        if host.has_shell_startup() || assigns_shell_startup(argv, command) {
            return Err(BindingRefusal::ShellStartupEnvironment);
        }
    }
    if runtime::has_unbindable_option(&innermost.name(), words) {
        return Err(BindingRefusal::RuntimeOptions);
    }
    match innermost.operand(cwd) {
        Operand::Word(index) => Ok(Some(index)),
        Operand::Synthetic => Err(BindingRefusal::OperandMissing),
        Operand::None => {
            let unbindable = innermost.is_multiplexed()
                || match command.payload() {
                    Some(payload) => payload_runs_files(payload, cwd),
                    None => innermost.must_have_operand(argv, cwd),
                };
            if unbindable {
                Err(BindingRefusal::Unbindable)
            } else {
                Ok(None)
            }
        }
    }
}

fn assigns_shell_startup(argv: &[String], command: &CommandLine) -> bool {
    argv.iter()
        .any(|word| word.starts_with("BASH_ENV=") || word.starts_with("ENV="))
        || command
            .assigned_names()
            .iter()
            .any(|name| name == "BASH_ENV" || name == "ENV")
}

/// Where the operand stands.
enum Operand {
    /// There is none.
    None,
    /// At this position of the full argv.
    Word(usize),
    /// Inside a string that `env -S` takes apart, where it cannot be pointed at.
    Synthetic,
}

/// A command without everything that only starts it.
struct Innermost<'a> {
    argv: InnerArgv<'a>,
    changes_directory: bool,
    behind_multiplexer: bool,
}

impl<'a> Innermost<'a> {
    fn of(argv: &'a [String]) -> Self {
        let mut innermost = Self {
            argv: InnerArgv::whole(argv),
            changes_directory: false,
            behind_multiplexer: false,
        };
        for _ in 0..MAX_LAYERS {
            let argv = &innermost.argv;
            let prelude = (executable_name(argv.executable()) == "env")
                .then(|| env::Prelude::of(argv.words()))
                .flatten();
            innermost.changes_directory |= prelude.is_some_and(|prelude| prelude.changes_directory);
            let multiplexed = argv.behind_multiplexer();
            innermost.behind_multiplexer |= multiplexed.is_some();
            let Some(next) = argv
                .behind_dispatch()
                .or(multiplexed)
                .or_else(|| argv.behind_runner())
            else {
                break;
            };
            innermost.argv = next;
        }
        innermost
    }

    fn name(&self) -> String {
        executable_name(self.argv.executable())
    }

    fn shell(&self) -> Option<Shell> {
        Shell::named(self.argv.executable())
    }

    /// busybox and toybox are one file with many programs in it.
    fn is_multiplexed(&self) -> bool {
        self.behind_multiplexer
    }

    fn operand(&self, cwd: &Path) -> Operand {
        let name = self.name();
        let words = self.argv.words();
        if self.behind_multiplexer || is_multiplexer(self.argv.executable()) {
            return Operand::None;
        }
        let position = if let Some(shell) = self.shell().filter(|shell| shell.is_posix_like()) {
            shell::script_position(shell, words)
        } else if runtime::is_script_runner(&name) {
            runtime::script_position(&name, words, &|word| is_file(word, cwd))
        } else {
            self.is_mutable_program(cwd).then_some(0)
        };
        match position {
            None => Operand::None,
            Some(position) => self
                .argv
                .index_of(position)
                .map_or(Operand::Synthetic, Operand::Word),
        }
    }

    /// Whether the executable is an existing file, named by its path, that this user could change.
    fn is_mutable_program(&self, cwd: &Path) -> bool {
        let executable = self.argv.executable();
        let package_manager = runner::package_manager(executable);
        !matches!(
            package_manager.as_str(),
            "corepack" | "npm" | "npx" | "pnpm" | "yarn"
        ) && is_path(executable)
            && is_file(executable, cwd)
            && mutability::looks_mutable(&Host::absolute(cwd, executable))
    }

    /// Whether a command without an operand is one that should have had one.
    fn must_have_operand(&self, argv: &[String], cwd: &Path) -> bool {
        let executable = self.argv.executable();
        runner::is_unreadable_dlx(argv)
            || (is_path(executable) && !is_file(executable, cwd))
            || (!self.shell().is_some_and(Shell::is_posix_like)
                && runtime::is_script_runner(&self.name()))
    }
}

/// Whether a shell payload runs something that would have to be bound itself, which a plan cannot
/// do: several commands, redirections, a script, an interpreter.
fn payload_runs_files(payload: &str, cwd: &Path) -> bool {
    if payload.contains([';', '&', '|', '<', '>']) {
        return true;
    }
    let Some(words) = split_words(payload).filter(|words| !words.is_empty()) else {
        return false;
    };
    let innermost = Innermost::of(&words);
    let first = words.first().map_or("", String::as_str);
    match innermost.operand(cwd) {
        Operand::Word(_) | Operand::Synthetic => return true,
        Operand::None => {}
    }
    if innermost.is_multiplexed()
        || innermost.must_have_operand(&words, cwd)
        || matches!(first, "." | "source")
    {
        return true;
    }
    if !is_file(first, cwd) {
        return false;
    }
    let path = Host::absolute(cwd, first);
    !first.starts_with('/') || mutability::looks_mutable(&path) || mutability::is_script_like(&path)
}

fn is_path(word: &str) -> bool {
    word.starts_with('.') || word.contains(['/', '\\'])
}

fn is_file(word: &str, cwd: &Path) -> bool {
    !word.is_empty()
        && Host::absolute(cwd, word)
            .metadata()
            .is_ok_and(|found| found.is_file())
}

/// Splits one simple command into words as a POSIX shell would, without expanding anything; `None`
/// if a quote or an escape is not finished.
fn split_words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = command.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '\'' => break,
                        quoted => word.push(quoted),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' if matches!(rest.peek(), Some('"' | '\\' | '$' | '`' | '\n')) => {
                            word.push(rest.next()?);
                        }
                        quoted => word.push(quoted),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next()?),
            '#' if word.is_none() => break,
            _ if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Some(words)
}
