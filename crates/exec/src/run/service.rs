//! A program that runs on beside the commands, such as a browser: it is marked and ended like a
//! command, but its output is only kept to explain a failed start.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, timeout};

use super::REAP_LIMIT;
use super::process_tree::ProcessTree;
use crate::mark::{RunMark, while_marked};

/// How many service processes can be waited for at a time; more are refused.
const MOST_SERVICES: usize = 64;

/// The leaders that this module waits for, so that nobody else does; 0 is a free place.
static WAITED_FOR: [AtomicI32; MOST_SERVICES] = [const { AtomicI32::new(0) }; MOST_SERVICES];

/// Whether a service process waits for this child itself, or may: a place that names no process yet
/// stands for any.
#[cfg(target_os = "linux")]
pub(crate) fn is_waited_for(pid: nix::unistd::Pid) -> bool {
    WAITED_FOR.iter().any(|place| {
        let leader = place.load(Ordering::Acquire);
        leader == pid.as_raw() || leader == Place::TAKEN
    })
}

/// A place in [`WAITED_FOR`]; taken before the spawn, because a child can end before anybody looks.
#[derive(Debug)]
struct Place(&'static AtomicI32);

impl Place {
    /// A place that is taken, but names no process yet.
    const TAKEN: i32 = -1;

    fn take() -> io::Result<Self> {
        WAITED_FOR
            .iter()
            .find(|place| {
                place
                    .compare_exchange(0, Self::TAKEN, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok()
            })
            .map(Self)
            .ok_or_else(|| io::Error::other("too many service processes"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A service process and everything that it started. Dropping it kills all of that.
#[derive(Debug)]
pub struct ServiceProcess {
    // Killed before the place is free, so fields are in this order.
    tree: ProcessTree,
    child: Child,
    stderr: Option<ChildStderr>,
    _place: Place,
}

impl ServiceProcess {
    /// Starts a program as the leader of a new process group, marked, without standard input and
    /// output, and with its standard error piped.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn(spec: &ServiceSpec) -> io::Result<Self> {
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .env_clear()
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let place = Place::take()?;
        let mark = RunMark::next_service();
        let (child, is_marked) = while_marked(mark, || command.spawn());
        let mut child = child?;
        let tree = ProcessTree::led_by(&child, is_marked.then_some(mark))
            .ok_or_else(|| io::Error::other("the process ended at once"))?;
        place.0.store(tree.group().as_raw(), Ordering::Release);
        Ok(Self {
            stderr: child.stderr.take(),
            child,
            tree,
            _place: place,
        })
    }

    /// The leader's process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.tree.group().as_raw()
    }

    /// Its standard error, once. It has to be read, or the process may block.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// Waits for the leader to end; safe to drop while it is waited for.
    ///
    /// # Errors
    /// The system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Whether the leader has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the leader and everything it started: TERM, `grace`, KILL.
    pub async fn stop(mut self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        self.tree.signal(Signal::SIGTERM).await;
        let ended = timeout(grace, self.child.wait()).await.is_ok();
        if !ended || !self.tree.is_gone_by(kill_at).await {
            self.tree.kill().await;
        }
        if timeout(REAP_LIMIT, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.pid(), "a service process cannot be ended");
        }
        self.tree.release();
    }
}
