//! Runs the service managers' own tools, each with a deadline and without this process's secrets.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::runtime::{Builder, Runtime};

/// For questions, which a manager answers at once.
pub const QUESTION: Duration = Duration::from_secs(20);
/// For jobs, which last as long as the unit allows (`TimeoutStartSec=`, `TimeoutStopSec=`).
pub const JOB: Duration = Duration::from_secs(150);
/// For stopping a service that somebody else wrote; upstream's unit grants it 330 s.
pub const FOREIGN_STOP: Duration = Duration::from_secs(360);

/// What a tool said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, trimmed.
    pub stderr: String,
}

impl Answer {
    /// Whether it exited with 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Why a tool gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed.
    #[error("{tool} is not installed")]
    Missing {
        /// The tool.
        tool: String,
    },
    /// It could not be run.
    #[error("{tool} cannot be run: {source}")]
    Unusable {
        /// The tool.
        tool: String,
        /// What the system said.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("{tool} did not end within {} s", .deadline.as_secs())]
    Slow {
        /// The tool.
        tool: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// Runs tools in an environment of their own.
#[derive(Debug)]
pub struct Tools {
    runtime: Runtime,
    environment: Vec<(OsString, OsString)>,
}

impl Tools {
    /// Tools will see these variables and no others.
    ///
    /// # Errors
    /// When the system gives no event loop.
    pub fn new<K, V>(environment: impl IntoIterator<Item = (K, V)>) -> io::Result<Self>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Ok(Self {
            runtime: Builder::new_current_thread().enable_all().build()?,
            environment: environment
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        })
    }

    /// What a variable of the tools is.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// Runs a tool to its end.
    ///
    /// # Errors
    /// [`ToolError`]; that it exits with another code than 0 is an answer.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        tool: &str,
        arguments: impl IntoIterator<Item = A>,
        deadline: Duration,
    ) -> Result<Answer, ToolError> {
        let mut command = Command::new(tool);
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = self
            .runtime
            .block_on(async { tokio::time::timeout(deadline, command.output()).await });
        let tool = tool.to_owned();
        match ended {
            Ok(Ok(output)) => Ok(Answer {
                code: output.status.code(),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(ToolError::Missing { tool })
            }
            Ok(Err(source)) => Err(ToolError::Unusable { tool, source }),
            Err(_) => Err(ToolError::Slow { tool, deadline }),
        }
    }

    /// Lets time pass between two looks at something that cannot be waited for.
    pub fn pause(&self, length: Duration) {
        self.runtime
            .block_on(async { tokio::time::sleep(length).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Tools {
        Tools::new([("PATH", "/usr/bin:/bin"), ("SEEN", "yes")]).unwrap()
    }

    #[test]
    fn an_answer_has_code_and_both_streams_and_only_the_given_variables() {
        let script = "env | grep -c . ; echo $SEEN >&2; exit 3";
        let answer = tools().run("sh", ["-c", script], QUESTION).unwrap();
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(3), "yes"));
        assert!(!answer.is_success());
    }

    #[test]
    fn what_is_missing_or_slow_is_named() {
        let missing = tools()
            .run("not-installed-anywhere", [""; 0], QUESTION)
            .unwrap_err();
        assert_eq!(
            missing.to_string(),
            "not-installed-anywhere is not installed"
        );
        let slow = tools()
            .run("sleep", ["600"], Duration::from_millis(20))
            .unwrap_err();
        assert!(matches!(slow, ToolError::Slow { .. }), "{slow}");
    }
}
