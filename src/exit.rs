//! How a command ends, as an exit code that scripts and service managers hold on to.

use std::process::ExitCode;

use node_config::Environment;
use state::{ExitClass, StateError};

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done.
    Done,
    /// 1: a refused configuration, a usage error or a failure that the operator has to look at.
    Failure,
    /// 3: a command that was asked about would need a human.
    WouldAsk,
    /// 4: a command that was asked about would be denied.
    WouldDeny,
    /// 78: nothing that a restart can mend; the unit's `RestartPreventExitStatus`.
    NoRestart,
    /// What a running node ended with.
    Node(actors::Exit),
}

impl Exit {
    /// The code that scripts see.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failure => 1,
            Self::WouldAsk => 3,
            Self::WouldDeny => 4,
            Self::NoRestart => 78,
            Self::Node(exit) => exit.code(),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that could not do its work: what the operator reads, and how the process ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    /// How the process ends.
    pub(crate) exit: Exit,
    /// Whether the arguments were at fault, and so nothing about the node is told.
    pub(crate) is_usage: bool,
}

impl Failure {
    /// A failure that the operator has to look at.
    pub(crate) fn new(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: Exit::Failure,
            is_usage: false,
        }
    }

    /// Wrong arguments: 78 in a unit, where the same arguments would only fail again.
    pub(crate) fn usage(message: impl std::fmt::Display, environment: &Environment) -> Self {
        let in_unit = environment.text("NOTIFY_SOCKET").is_some();
        let exit = if in_unit {
            Exit::NoRestart
        } else {
            Exit::Failure
        };
        Self {
            message: message.to_string(),
            exit,
            is_usage: true,
        }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let exit = match error.exit_class() {
            ExitClass::Failure => Exit::Failure,
            ExitClass::NoRestart => Exit::NoRestart,
        };
        Self {
            message: error.to_string(),
            exit,
            is_usage: false,
        }
    }
}
