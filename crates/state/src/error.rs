//! What can go wrong with the state, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Error, ErrorCode};

/// How a process that met a [`StateError`] at start should end (design, "Exit codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitClass {
    /// Exit code 1: an operator, another process or time may mend it, so a restart makes sense.
    Failure,
    /// Exit code 78: no restart can mend it; the unit has `RestartPreventExitStatus=78`.
    NoRestart,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Something that is no folder stands where a folder is needed.
    #[error(
        "{path} is not a directory; move it away or point OPENCLAW_STATE_DIR at another folder",
        path = .path.display()
    )]
    NotADirectory {
        /// What stands there.
        path: PathBuf,
    },
    /// The folder or the file cannot be read, written or made.
    #[error(
        "cannot use {path}: {source}; let this user read and write it, or point \
         OPENCLAW_STATE_DIR at another folder",
        path = .path.display()
    )]
    Unusable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is a database, but not one that this program made.
    #[error(
        "{path} belongs to another program (application id {application_id:#010x}); move it away \
         or point OPENCLAW_STATE_DIR at another folder",
        path = .path.display()
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// The application id in its header; 0 when it has none.
        application_id: i32,
    },
    /// A newer release of this program has already migrated the database.
    #[error(
        "{path} has schema version {found}, this openclaw-node knows up to {supported}; install \
         the newer openclaw-node again or restore a backup of the file",
        path = .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// The version in its header.
        found: i32,
        /// The newest version that this program can read.
        supported: i32,
    },
    /// The file, or a row that only this program writes, makes no sense.
    #[error(
        "{path} is corrupt ({detail}); restore a backup of the file, or move it away and pair \
         this node again",
        path = .path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What was found; never a stored value.
        detail: String,
    },
    /// Another process kept the database busy for longer than the busy timeout.
    #[error("{path} is kept busy by another process; try again when it is done", path = .path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// Another node runs on this state, with the same identity.
    #[error(
        "another openclaw-node ({holder}) is using {path}; stop it first, or give this one its \
         own OPENCLAW_STATE_DIR",
        path = .path.display(),
        holder = .pid.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"))
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it; `None` in the instant before it has written its id.
        pid: Option<u32>,
    },
    /// The system gave no random bytes.
    #[error("no randomness from the system: {0}")]
    NoRandomness(getrandom::Error),
    /// Anything else that SQLite reports: a full disk, an I/O error.
    #[error("cannot read or write {path}: {source}", path = .path.display())]
    Storage {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: Error,
    },
}

impl StateError {
    /// How a process that cannot start because of this should end.
    #[must_use]
    pub const fn exit_class(&self) -> ExitClass {
        match self {
            Self::Foreign { .. } | Self::Newer { .. } | Self::Corrupt { .. } => {
                ExitClass::NoRestart
            }
            Self::NotADirectory { .. }
            | Self::Unusable { .. }
            | Self::Busy { .. }
            | Self::Locked { .. }
            | Self::NoRandomness(_)
            | Self::Storage { .. } => ExitClass::Failure,
        }
    }

    pub(crate) fn unusable(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotADirectory => Self::NotADirectory {
                path: path.to_owned(),
            },
            _ => Self::Unusable {
                path: path.to_owned(),
                source,
            },
        }
    }

    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_owned(),
            detail: detail.into(),
        }
    }

    pub(crate) fn sqlite(path: &Path, source: Error) -> Self {
        let path = path.to_owned();
        match (source.sqlite_error_code(), &source) {
            // The statements are fixed, so one that does not fit means tables that are not ours.
            (
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown),
                _,
            )
            | (
                None,
                Error::FromSqlConversionFailure(..)
                | Error::IntegralValueOutOfRange(..)
                | Error::InvalidColumnType(..),
            ) => Self::Corrupt {
                path,
                detail: one_line(&source),
            },
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => Self::Busy { path },
            (
                Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly),
                _,
            ) => Self::Unusable {
                path,
                source: io::Error::other(one_line(&source)),
            },
            _ => Self::Storage { path, source },
        }
    }
}

/// SQLite's messages about a statement quote it over several lines.
fn one_line(error: &Error) -> String {
    error
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
