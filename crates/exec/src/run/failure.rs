//! Why a command could not be started, in the words the gateway's users know
//! (exec and approvals §11).

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{Ending, RunOutcome, RunPayload};

/// A command that could not be started. `Display` is the exact `error` text of the payload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpawnFailure {
    /// The system refused; the errno names the reason (`ENOENT`, `EACCES`, `E2BIG`, …).
    #[error("{}", text(*.0))]
    Launch(Errno),
    /// The folder to run in does not exist.
    #[error(
        "node exec working directory does not exist on the node host: {} (os reported: {})",
        .cwd.display(),
        text(*.errno)
    )]
    MissingCwd {
        /// The folder as the request named it.
        cwd: PathBuf,
        /// What the system reported.
        errno: Errno,
    },
    /// The folder to run in is something else.
    #[error(
        "node exec working directory is not a directory on the node host: {} (os reported: {})",
        .cwd.display(),
        text(*.errno)
    )]
    CwdNotDirectory {
        /// The path as the request named it.
        cwd: PathBuf,
        /// What the system reported.
        errno: Errno,
    },
}

impl SpawnFailure {
    /// The system reports a bad folder and a bad program alike, so the folder is looked at after
    /// the fact.
    pub(super) fn new(errno: Errno, cwd: Option<&Path>) -> Self {
        let Some(cwd) = cwd else {
            return Self::Launch(errno);
        };
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
            return Self::Launch(errno);
        }
        match cwd.metadata() {
            Ok(found) if found.is_dir() => Self::Launch(errno),
            Ok(_) => Self::CwdNotDirectory {
                cwd: cwd.to_owned(),
                errno: Errno::ENOTDIR,
            },
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(errno @ Errno::ENOENT) => Self::MissingCwd {
                    cwd: cwd.to_owned(),
                    errno,
                },
                Some(errno @ Errno::ENOTDIR) => Self::CwdNotDirectory {
                    cwd: cwd.to_owned(),
                    errno,
                },
                _ => Self::Launch(errno),
            },
        }
    }
}

/// The text for an errno of starting a command or reading its output.
pub(super) fn text(errno: Errno) -> String {
    format!("Command failed during launch or output capture ({errno:?})")
}

impl From<SpawnFailure> for RunOutcome {
    fn from(failure: SpawnFailure) -> Self {
        let payload = RunPayload {
            error: Some(failure.to_string()),
            ..RunPayload::default()
        };
        Self {
            payload,
            ending: Ending::NotStarted,
            signal: None,
        }
    }
}
