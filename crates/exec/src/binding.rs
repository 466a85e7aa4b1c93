//! What ties an approval to this machine: the working directory, the executable, and the file that
//! could change under it (exec and approvals §7, §10).

mod cwd;
mod held;
mod mutability;
mod operand;
mod runtime;

use std::path::Path;

use approvals::command::CommandLine;
use approvals::wrapper::TrustPlan;

pub use self::cwd::CwdSnapshot;
pub(crate) use self::cwd::resolve_unchecked;
pub(crate) use self::held::{Handover, HeldFile, descriptor_path};
pub(crate) use self::operand::{bind_operand, operand_index};

use crate::host::Host;

/// Why a command cannot be tied down, or is no longer what it was tied to. The text is what the
/// gateway is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindingRefusal {
    /// The working directory is not there.
    #[error("SYSTEM_RUN_DENIED: approval requires an existing canonical cwd")]
    CwdMissing,
    /// The working directory is a file.
    #[error("SYSTEM_RUN_DENIED: approval requires cwd to be a directory")]
    CwdNotDirectory,
    /// The working directory is reached through a symlink that could be changed.
    #[error("SYSTEM_RUN_DENIED: approval requires canonical cwd (no symlink path components)")]
    CwdNotCanonical,
    /// The working directory was replaced while it was looked at.
    #[error("SYSTEM_RUN_DENIED: approval cwd identity mismatch")]
    CwdMismatch,
    /// The working directory is not there, and nothing needs to be tied to it.
    #[error("SYSTEM_RUN_DENIED: working directory does not exist or is inaccessible")]
    CwdInaccessible,
    /// The working directory is no longer the one that was checked.
    #[error("SYSTEM_RUN_DENIED: approval cwd changed before execution")]
    CwdChanged,
    /// The executable is not found.
    #[error("SYSTEM_RUN_DENIED: approval requires a stable executable path")]
    NoExecutable,
    /// `env -C` moves the command elsewhere.
    #[error("SYSTEM_RUN_DENIED: approval cannot safely bind dispatch cwd options")]
    DispatchCwd,
    /// A shell is told to read more than its script.
    #[error("SYSTEM_RUN_DENIED: approval cannot safely bind shell startup files")]
    ShellStartupFiles,
    /// A shell would read a file that the environment names.
    #[error("SYSTEM_RUN_DENIED: approval cannot safely bind shell startup environment")]
    ShellStartupEnvironment,
    /// A runtime is told to load more than its script or to run elsewhere.
    #[error("SYSTEM_RUN_DENIED: approval cannot safely bind runtime code-loading or cwd options")]
    RuntimeOptions,
    /// What the command runs cannot be told.
    #[error("SYSTEM_RUN_DENIED: approval cannot safely bind this interpreter/runtime command")]
    Unbindable,
    /// The script is not there.
    #[error("SYSTEM_RUN_DENIED: approval requires an existing script operand")]
    OperandMissing,
    /// The script is not a file.
    #[error("SYSTEM_RUN_DENIED: approval requires a file script operand")]
    OperandNotFile,
    /// The script cannot be read, or is larger than anything that is hashed.
    #[error("SYSTEM_RUN_DENIED: approval requires a readable script operand")]
    OperandUnreadable,
    /// The script is no longer the one that was approved.
    #[error("SYSTEM_RUN_DENIED: approval script operand changed before execution")]
    OperandChanged,
    /// The plan does not name the script that the command runs.
    #[error("SYSTEM_RUN_DENIED: approval missing script operand binding")]
    OperandNotBound,
}

/// The argv with its executable replaced by its real path, where it is a direct command: no shell
/// payload and no wrapper that can be seen through. Otherwise the argv as it is.
pub(crate) fn pin_executable(
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &Path,
) -> Result<Vec<String>, BindingRefusal> {
    let mut argv = command.argv().to_vec();
    if command.payload().is_some() || !TrustPlan::of(&argv).wrappers.is_empty() {
        return Ok(argv);
    }
    if let Some(executable) = argv.first_mut() {
        let resolution = host.resolve(executable, Some(cwd));
        let path = resolution.trusted_path().and_then(Path::to_str);
        *executable = path.ok_or(BindingRefusal::NoExecutable)?.to_owned();
    }
    Ok(argv)
}
