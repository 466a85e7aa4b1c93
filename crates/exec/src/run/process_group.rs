//! The processes that a command consists of.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

/// How often a group is looked at that is expected to vanish. Nothing reports the end of processes
/// that are not our children.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// A process group that is killed when this is dropped, unless it was released.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    id: Pid,
    is_ours: bool,
}

impl ProcessGroup {
    /// The group of a child that was started as the leader of its own; `None` if the child was
    /// waited for already.
    pub(super) fn led_by(child: &Child) -> Option<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok())?;
        Some(Self {
            id: Pid::from_raw(id),
            is_ours: true,
        })
    }

    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// Signals every member. That there is none left, or one that may not be signalled, is no
    /// concern of the run.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(errno) = killpg(self.id, signal) {
            tracing::debug!(group = %self.id, %signal, %errno, "no process was signalled");
        }
    }

    /// Waits for the last member to end, at most until `deadline`.
    pub(super) async fn is_gone_by(&self, deadline: Instant) -> bool {
        loop {
            if killpg(self.id, None).is_err() {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            sleep_until(deadline.min(now + PROBE_INTERVAL)).await;
        }
    }

    /// Leaves whatever is left of the group alone from here on.
    pub(super) fn release(&mut self) {
        self.is_ours = false;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.is_ours {
            self.signal(Signal::SIGKILL);
        }
    }
}
