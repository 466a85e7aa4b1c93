//! The node under test: this project's program, or upstream's node host.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};

use gateway::Release;

use crate::lab;
use crate::process::{Folder, Process};
use crate::waiting::{PATIENCE, eventually};

/// Which program is the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// This project's.
    Ours,
    /// Upstream's of a release.
    Upstream(Release),
}

/// How a node is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// The gateway, or a relay in front of it.
    pub(crate) gateway: SocketAddr,
    /// The shared token, if it is configured.
    pub(crate) token: Option<&'a str>,
    /// More of its environment.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// The command that starts it, such as `ip netns exec NAME`.
    pub(crate) launcher: &'a [&'a str],
}

impl<'a> Start<'a> {
    /// With a shared token, as an operator first does it.
    pub(crate) fn with_token(gateway: SocketAddr, token: &'a str) -> Self {
        Self {
            gateway,
            token: Some(token),
            environment: &[],
            launcher: &[],
        }
    }

    /// With what the node has kept.
    pub(crate) fn without_token(gateway: SocketAddr) -> Self {
        Self {
            gateway,
            token: None,
            environment: &[],
            launcher: &[],
        }
    }
}

/// A node's home, which outlives its processes.
pub(crate) struct NodeHome {
    host: Host,
    /// The name that operators see; different for every home.
    name: String,
    folder: Folder,
}

impl NodeHome {
    /// An empty home.
    pub(crate) fn new(host: Host) -> Self {
        let folder = Folder::new();
        let name = folder.path().file_name().unwrap().display().to_string();
        Self { host, name, folder }
    }

    /// The name that operators see.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The home folder, in which commands start too.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The same home for another program.
    pub(crate) fn taken_over_by(self, host: Host) -> Self {
        Self { host, ..self }
    }

    /// Starts the node with nothing but what its home holds.
    pub(crate) fn start_as_it_is(&self) -> Node {
        self.start_with(&["run"], &[])
    }

    /// Starts the program with these arguments, and this beside its environment.
    pub(crate) fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Node {
        let mut command = self.command(&[]);
        command.args(arguments).envs(environment.iter().copied());
        self.spawn(command)
    }

    /// What the program prints with these arguments, if it does what it should.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(&[]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the node.
    pub(crate) fn start(&self, start: Start<'_>) -> Node {
        let mut command = self.command(start.launcher);
        command
            .args(["run", "--host", &start.gateway.ip().to_string()])
            .args(["--port", &start.gateway.port().to_string()])
            .args(["--display-name", &self.name])
            .envs(start.environment.iter().copied());
        if let Some(token) = start.token {
            command.env("OPENCLAW_GATEWAY_TOKEN", token);
        }
        self.spawn(command)
    }

    fn spawn(&self, command: Command) -> Node {
        // A transcript of its own for every process, or the lines of the last one would count.
        let transcript = tempfile::Builder::new()
            .prefix("node-")
            .suffix(".log")
            .tempfile_in(self.path())
            .unwrap()
            .into_temp_path()
            .keep()
            .unwrap();
        Node {
            process: Process::start(command, transcript),
        }
    }

    fn command(&self, launcher: &[&str]) -> Command {
        let home = self.path();
        let state = home.join("state");
        std::fs::create_dir_all(&state).unwrap();
        match self.host {
            Host::Upstream(release) => {
                let mut command = lab::openclaw(release, home, launcher);
                command.arg("node");
                command
            }
            Host::Ours => {
                let words: Vec<&str> = launcher
                    .iter()
                    .copied()
                    .chain([env!("CARGO_BIN_EXE_openclaw-node")])
                    .collect();
                let mut command = Command::new(words[0]);
                command
                    .args(&words[1..])
                    .env_clear()
                    .env(
                        "PATH",
                        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    )
                    .env("HOME", home)
                    .env("OPENCLAW_STATE_DIR", state)
                    .current_dir(home);
                command
            }
        }
    }
}

/// A running node. It is killed when this is dropped.
pub(crate) struct Node {
    process: Process,
}

impl Node {
    /// The lines that it has written so far and that contain `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        let transcript = self.process.transcript();
        // The last piece is no line until its end is written.
        let lines = transcript
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .filter(|line| line.contains(text))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Waits until it has written `count` lines that contain `text`, and returns the last of them.
    pub(crate) async fn wait_for_line(&mut self, text: &str, count: usize) -> String {
        let what = format!("the node writes {text:?}, {count} times");
        eventually(&what, PATIENCE, async || {
            let ended = self.process.ended();
            let lines = self.lines(text);
            if lines.len() >= count {
                return Ok(lines[count - 1].clone());
            }
            assert!(
                ended.is_none(),
                "the node ended ({ended:?}) and did not write {text:?}"
            );
            Err(lines)
        })
        .await
    }

    /// Waits until it has ended, and expects a line that contains `text` of it.
    pub(crate) async fn wait_for_end_with(&mut self, text: &str) {
        self.end().await;
        assert_ne!(self.lines(text), [""; 0], "the node wrote no {text:?}");
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        self.process.end(PATIENCE).await
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.process.terminate(PATIENCE).await
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }
}
