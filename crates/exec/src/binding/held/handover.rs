//! Putting a descriptor in the place of a name in a command.

use std::path::PathBuf;

use approvals::wrapper::{TrustPlan, executable_name};

use crate::run::HeldDescriptor;

/// The shells that source a script as they would run it.
const SOURCING_SHELLS: [&str; 4] = ["ash", "bash", "dash", "sh"];

/// The short options that may stand between such a shell and its script without changing what
/// sourcing means.
const SOURCING_OPTIONS: &str = "Caefux";

/// What runs a script that does not name its interpreter, as in `execvp`.
const DEFAULT_SHELL: &str = "/bin/sh";

/// The longest first line that names an interpreter, in bytes; Linux reads no more.
const MAX_INTERPRETER_LINE: usize = 255;

/// A command that gets its file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Handover {
    /// What is executed.
    pub(crate) argv: Vec<String>,
    /// The file to execute, where it is not looked up by the first word.
    pub(crate) program: Option<PathBuf>,
    /// What must stay open until the command is over.
    pub(crate) held: Option<HeldDescriptor>,
}

impl Handover {
    /// The command as it is, which opens the file itself.
    pub(super) fn by_name(argv: &[String]) -> Self {
        Self {
            argv: argv.to_vec(),
            program: None,
            held: None,
        }
    }
}

/// A path to what a descriptor is open on, for this process and for a child of it that has not
/// executed anything yet; `None` where the system has no such paths.
pub(crate) fn descriptor_path(descriptor: &HeldDescriptor) -> Option<PathBuf> {
    existing(format!("/proc/self/fd/{}", descriptor.number()))
}

/// The same for every process of this user.
fn shared_descriptor_path(descriptor: &HeldDescriptor) -> Option<PathBuf> {
    existing(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        descriptor.number()
    ))
}

fn existing(path: String) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    (cfg!(target_os = "linux") && path.metadata().is_ok()).then_some(path)
}

/// A copy in memory that nobody can change any more.
#[cfg(target_os = "linux")]
pub(super) fn sealed_copy(bytes: &[u8]) -> Option<HeldDescriptor> {
    use std::fs::File;
    use std::io::Write as _;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create("approved script", flags).ok()?);
    copy.write_all(bytes).ok()?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).ok()?;
    Some(HeldDescriptor::from(copy))
}

/// Other systems have no sealed memory.
#[cfg(not(target_os = "linux"))]
pub(super) fn sealed_copy(_: &[u8]) -> Option<HeldDescriptor> {
    None
}

/// Executes a binary through its descriptor.
pub(super) fn program(descriptor: &HeldDescriptor, argv: &[String]) -> Option<Handover> {
    Some(Handover {
        argv: argv.to_vec(),
        program: Some(descriptor_path(descriptor)?),
        held: Some(descriptor.clone()),
    })
}

/// Has a shell source the sealed copy of the script that stands at `index` of `argv`.
pub(super) fn script(
    copy: &HeldDescriptor,
    bytes: &[u8],
    argv: &[String],
    index: usize,
) -> Option<Handover> {
    let shell = TrustPlan::of(argv).execution_index;
    let before = argv.get(..index)?;
    let script_and_arguments = argv.get(index..)?;
    let mut words = before.to_vec();
    let shell = if shell == index {
        let interpreter = interpreter(bytes)?;
        words.extend(interpreter.words);
        interpreter.shell
    } else {
        let (name, options) = argv.get(shell..index)?.split_first()?;
        if !options.iter().all(|option| is_sourcing_option(option)) {
            return None;
        }
        sourcing_shell(name)?
    };
    if shell == "bash" && asks_for_its_source(bytes) {
        return None;
    }
    let path = shared_descriptor_path(copy)?;
    words.push("-c".to_owned());
    words.push(format!(". {}", path.to_str()?));
    words.extend_from_slice(script_and_arguments);
    Some(Handover {
        argv: words,
        program: None,
        held: Some(copy.clone()),
    })
}

/// What a script's first line says should run it.
struct Interpreter {
    words: Vec<String>,
    shell: String,
}

fn interpreter(bytes: &[u8]) -> Option<Interpreter> {
    let Some(line) = bytes.strip_prefix(b"#!") else {
        // A file that is neither a binary nor names an interpreter.
        return Some(Interpreter {
            words: vec![DEFAULT_SHELL.to_owned()],
            shell: sourcing_shell(DEFAULT_SHELL)?,
        });
    };
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line)
        .ok()
        .filter(|line| line.len() <= MAX_INTERPRETER_LINE)?;
    let words: Vec<String> = line
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let shell = match words.as_slice() {
        [program] => sourcing_shell(program)?,
        [env, shell] if executable_name(env) == "env" => sourcing_shell(shell)?,
        [program, option] if is_sourcing_option(option) => sourcing_shell(program)?,
        _ => return None,
    };
    Some(Interpreter { words, shell })
}

fn sourcing_shell(program: &str) -> Option<String> {
    Some(executable_name(program)).filter(|name| SOURCING_SHELLS.contains(&name.as_str()))
}

fn is_sourcing_option(word: &str) -> bool {
    word.strip_prefix(['-', '+']).is_some_and(|letters| {
        !letters.is_empty()
            && letters
                .chars()
                .all(|letter| SOURCING_OPTIONS.contains(letter))
    })
}

/// Whether a script looks at where it was read from, which sourcing changes.
fn asks_for_its_source(bytes: &[u8]) -> bool {
    [&b"BASH_SOURCE"[..], b"caller"]
        .iter()
        .any(|name| bytes.windows(name.len()).any(|window| window == *name))
}
