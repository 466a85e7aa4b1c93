//! What every service manager can do for the node, and what it is called there.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::agent::UnrenderableAgent;
use crate::availability::Unavailable;
use crate::definition::{Definition, Owner};
use crate::drift::Drift;
use crate::environment_file::{EnvironmentFile, EnvironmentFileError};
use crate::hint::Hint;
use crate::tools::ToolError;
use crate::unit::UnrenderableUnit;

/// What a manager calls a service and its two states; texts are upstream's (service §1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// `systemd` or `LaunchAgent`.
    pub label: &'static str,
    /// What a service is that starts by itself.
    pub loaded: &'static str,
    /// What one is that does not.
    pub not_loaded: &'static str,
}

/// An installed service, whoever installed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs, if the manager says.
    pub working_directory: Option<PathBuf>,
    /// Variables that the definition itself sets.
    pub environment: Vec<(String, String)>,
    /// Names of the variables that come from a file.
    pub file_variables: Vec<String>,
    /// The definition.
    pub source: PathBuf,
    /// The definition and everything that overrides it.
    pub sources: Vec<PathBuf>,
    /// Who wrote it.
    pub owner: Owner,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeStatus {
    /// It has a process.
    Running,
    /// It has none.
    Stopped,
    /// The manager cannot be asked.
    Unknown,
}

/// How a service is doing, in upstream's members and their order (service §1.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runtime {
    /// In short.
    pub status: RuntimeStatus,
    /// The manager's own word, such as `active`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// In more detail, such as `auto-restart`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_state: Option<String>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Exit code or signal of the process before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit_status: Option<i32>,
    /// Which of the two it is, as the number that `waitid` gives (`CLD_EXITED` is 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit_reason: Option<String>,
    /// Whether the manager does not know the service; never `Some(false)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_unit: Option<bool>,
    /// Why the manager cannot be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The same as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection_reason: Option<&'static str>,
    /// What only systemd knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<SystemdRuntime>,
}

impl Runtime {
    /// Only the short form.
    #[must_use]
    pub const fn of(status: RuntimeStatus) -> Self {
        Self {
            status,
            state: None,
            sub_state: None,
            pid: None,
            last_exit_status: None,
            last_exit_reason: None,
            missing_unit: None,
            detail: None,
            inspection_reason: None,
            systemd: None,
        }
    }

    /// The manager cannot be asked.
    #[must_use]
    pub fn unknown(detail: impl std::fmt::Display) -> Self {
        Self {
            detail: Some(detail.to_string()),
            inspection_reason: Some("service-manager-unavailable"),
            ..Self::of(RuntimeStatus::Unknown)
        }
    }
}

/// What only systemd knows about a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemdRuntime {
    /// `user` or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    /// How the manager was asked.
    pub transport: Transport,
    /// The unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `KillMode=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kill_mode: Option<String>,
    /// Processes and threads, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks_current: Option<u64>,
    /// Bytes, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_current: Option<u64>,
    /// How the last start ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Restarts since it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_restarts: Option<u64>,
    /// `StartLimitBurst=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_limit_burst: Option<u64>,
}

/// How a service manager is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// `session-bus`, `private-socket` or `system-bus`.
    pub kind: &'static str,
    /// D-Bus address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_dir: Option<String>,
}

/// What an install left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// What the operator reads about it.
    pub lines: Vec<String>,
    /// What the operator should still do.
    pub warnings: Vec<String>,
}

/// Why a service could not be managed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The manager cannot be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A tool of the manager gave no answer.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The manager refused.
    #[error("{command} failed: {reason}")]
    Refused {
        /// What was asked, as typed in a shell.
        command: String,
        /// What it said.
        reason: String,
    },
    /// A service file cannot be read or written.
    #[error("{path} cannot be used: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of secrets cannot be used.
    #[error(transparent)]
    EnvironmentFile(#[from] EnvironmentFileError),
    /// What is to be installed has no place in a unit.
    #[error(transparent)]
    Unit(#[from] UnrenderableUnit),
    /// What is to be installed has no place in a launchd agent.
    #[error(transparent)]
    Agent(#[from] UnrenderableAgent),
    /// Only root may do that.
    #[error("only root may manage a system unit; run: sudo {command}")]
    NotRoot {
        /// The same command.
        command: String,
    },
    /// The account that a system unit needs cannot be made.
    #[error("the user {user} cannot be made: {reason}; make it yourself: {command}")]
    NoAccount {
        /// The user.
        user: &'static str,
        /// What was said.
        reason: String,
        /// What to type.
        command: &'static str,
    },
    /// Lingering was asked for and refused.
    #[error("lingering cannot be enabled: {reason}; run: sudo loginctl enable-linger {user}")]
    Linger {
        /// The account.
        user: String,
        /// What was said.
        reason: String,
    },
    /// The label is somebody else's on this machine.
    #[error(
        "a LaunchDaemon of this machine owns the label {label}; remove it first: sudo launchctl bootout system/{label}"
    )]
    DaemonOwnsLabel {
        /// The label.
        label: &'static str,
    },
}

impl ServiceError {
    /// What the operator can do about it, beyond what the text says.
    #[must_use]
    pub fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unavailable(unavailable) => unavailable.hints(),
            _ => Vec::new(),
        }
    }
}

/// A service manager that can hold the node.
pub trait ServiceManager {
    /// What things are called there.
    fn vocabulary(&self) -> Vocabulary;

    /// Whether the manager can be asked at all.
    ///
    /// # Errors
    /// [`Unavailable`], with what to do.
    fn check_available(&self) -> Result<(), Unavailable>;

    /// Whether the service starts by itself.
    fn is_loaded(&self) -> bool;

    /// Whether `start` has something to start.
    fn is_startable(&self) -> bool;

    /// What a command of this program needs behind it to mean this manager: nothing, or a flag
    /// with a space in front.
    fn flag(&self) -> &'static str;

    /// The installed service, read from its files.
    ///
    /// # Errors
    /// When they are there and cannot be read.
    fn installed(&self) -> Result<Option<Installed>, ServiceError>;

    /// How the service is doing.
    fn runtime(&self) -> Runtime;

    /// The secrets that an earlier install stored.
    ///
    /// # Errors
    /// When they cannot be read.
    fn stored_secrets(&self) -> Result<EnvironmentFile, ServiceError>;

    /// Writes the service and (re)starts it. What was there is kept as a backup, unless it is this
    /// program's own and the only copy of somebody else's would be lost for it.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn install(
        &self,
        definition: &Definition,
        secrets: &EnvironmentFile,
    ) -> Result<Placed, ServiceError>;

    /// Starts the service, and gives the line that says so.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn start(&self) -> Result<String, ServiceError>;

    /// Restarts the service, and gives the line that says so.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn restart(&self) -> Result<String, ServiceError>;

    /// Stops the service, and gives the line that says so.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn stop(&self) -> Result<String, ServiceError>;

    /// Stops the service, whoever wrote it, and keeps it from starting by itself.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn disable(&self) -> Result<(), ServiceError>;

    /// Stops the service and removes everything that install wrote; gives the lines that say so.
    ///
    /// # Errors
    /// [`ServiceError`].
    fn uninstall(&self) -> Result<Vec<String>, ServiceError>;

    /// Where the service differs from what this version would write for the same command.
    ///
    /// # Errors
    /// When the files cannot be read.
    fn drift(&self, installed: &Installed, program: &Path) -> Result<Vec<Drift>, ServiceError>;

    /// How to start the service by hand.
    fn start_command(&self) -> String;

    /// How to read what the service wrote.
    fn log_command(&self) -> String;

    /// Whether the service outlives a logout, where that is a question.
    fn linger(&self) -> Option<crate::linger::Linger>;

    /// Makes the service outlive a logout.
    ///
    /// # Errors
    /// [`ServiceError::Linger`].
    fn enable_linger(&self) -> Result<(), ServiceError>;
}
