//! This program as a child: a node that the demo can watch.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gateway::GatewayHandle;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::STEP_DEADLINE;

/// How many of the node's last lines an error shows.
const SHOWN_LINES: usize = 5;

/// Why a node did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum NodeError {
    #[error("the node cannot be started: {0}")]
    Start(io::Error),
    #[error("the node's output cannot be read: {0}")]
    Read(io::Error),
    #[error("the node did not say \"{expected}\" in time; it said: {said}")]
    Silent { expected: String, said: String },
    #[error("the node did not end in time")]
    Lingers,
}

/// A running node. Dropping it kills it.
pub(super) struct NodeProcess {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    last_lines: VecDeque<String>,
}

impl NodeProcess {
    /// Starts `run` with state of its own.
    pub(super) fn start(
        state_dir: &Path,
        gateway: &GatewayHandle,
        token: &str,
    ) -> Result<Self, NodeError> {
        let mut child = Command::new(std::env::current_exe().map_err(NodeError::Start)?)
            .args([
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &gateway.port().to_string(),
            ])
            .args(["--display-name", "demo"])
            .env("OPENCLAW_STATE_DIR", state_dir)
            .env_remove("OPENCLAW_CONFIG_PATH")
            .env_remove("OPENCLAW_GATEWAY_PASSWORD")
            .env("OPENCLAW_GATEWAY_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NodeError::Start)?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| NodeError::Start(io::Error::other("no standard error")))?;
        Ok(Self {
            child,
            lines: BufReader::new(stderr).lines(),
            last_lines: VecDeque::new(),
        })
    }

    /// Waits for a line that contains `text`, and gives it.
    pub(super) async fn wait_for_line(&mut self, text: &str) -> Result<String, NodeError> {
        let found = timeout(STEP_DEADLINE, async {
            while let Some(line) = self.lines.next_line().await.map_err(NodeError::Read)? {
                if line.contains(text) {
                    return Ok(Some(line));
                }
                self.last_lines.push_back(line);
                if self.last_lines.len() > SHOWN_LINES {
                    self.last_lines.pop_front();
                }
            }
            Ok(None)
        })
        .await;
        match found {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) | Err(_) => {
                let said = Vec::from(self.last_lines.clone()).join(" / ");
                Err(NodeError::Silent {
                    expected: text.to_owned(),
                    said,
                })
            }
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(super) async fn terminate(&mut self) -> Result<Option<i32>, NodeError> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            kill(Pid::from_raw(pid), Signal::SIGTERM)
                .map_err(|errno| NodeError::Start(errno.into()))?;
        }
        self.exit_code().await
    }

    /// Waits for the end; the exit code, unless a signal ended it.
    pub(super) async fn exit_code(&mut self) -> Result<Option<i32>, NodeError> {
        let ended = timeout(
            STEP_DEADLINE.min(Duration::from_secs(10)),
            self.child.wait(),
        )
        .await;
        let status = ended
            .map_err(|_| NodeError::Lingers)?
            .map_err(NodeError::Read)?;
        Ok(status.code())
    }
}
