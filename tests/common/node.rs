//! A running node as its operator sees it: lines, signals, an exit code.

use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::DEADLINE;

/// How many of its last lines are shown beside a failure.
const LINES_SHOWN: usize = 50;

/// A running node. Dropping it kills it.
pub(crate) struct Node {
    child: Child,
    pid: Pid,
    lines: watch::Receiver<Vec<String>>,
}

impl Node {
    pub(super) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
        let lines = follow(child.stderr.take().unwrap());
        Self { child, pid, lines }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// What it has written to standard error so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// The lines so far that contain `text`.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        self.lines
            .borrow()
            .iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }

    /// Waits for a line that contains `text`.
    pub(crate) async fn line(&self, text: &str) -> String {
        self.lines_until(text, 1).await.pop().unwrap_or_default()
    }

    /// Waits until `count` lines contain `text`.
    pub(crate) async fn lines_until(&self, text: &str, count: usize) -> Vec<String> {
        let matching = |lines: &Vec<String>| -> Vec<String> {
            lines
                .iter()
                .filter(|line| line.contains(text))
                .cloned()
                .collect()
        };
        let mut lines = self.lines.clone();
        let enough = lines.wait_for(|lines| matching(lines).len() >= count);
        match timeout(DEADLINE, enough).await {
            Ok(Ok(lines)) => matching(&lines),
            Ok(Err(_)) | Err(_) => panic!("no {count} lines with {text:?}; it wrote:\n{self}"),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(self.pid, signal).unwrap();
    }

    /// Waits until it has ended by itself, and says with which code. Every line is there then.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = timeout(DEADLINE, self.child.wait()).await;
        let status = status
            .unwrap_or_else(|_| panic!("it does not end; it wrote:\n{self}"))
            .unwrap();
        // Whoever holds the pipe longer than the node is a command that outlived it.
        while timeout(DEADLINE, self.lines.changed())
            .await
            .expect("its pipe closes")
            .is_ok()
        {}
        status
            .code()
            .unwrap_or_else(|| panic!("it died of a signal: {status}\n{self}"))
    }

    /// Kills it as a power loss would, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.exit_code().await, 143, "{self}");
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.lines.borrow().join("\n"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines();
            let last = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            println!("--- node {} wrote last:\n{last}\n---", self.pid);
        }
    }
}

fn follow(stream: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<Vec<String>> {
    let (sender, receiver) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|lines: &mut Vec<String>| lines.push(line));
        }
    });
    receiver
}
