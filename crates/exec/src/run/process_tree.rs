//! The processes that a command consists of: its group, and whatever has left it.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

use super::REAP_LIMIT;
use crate::census::Census;
use crate::cgroup::RunGroup;
use crate::mark::RunMark;

/// The first wait between two looks at processes that are expected to vanish. Nothing reports the
/// end of processes that are not our children. Each wait is twice the last one.
const FIRST_PROBE: Duration = Duration::from_millis(5);

/// The longest wait between two looks.
const LAST_PROBE: Duration = Duration::from_millis(40);

/// How often a dropped tree is searched for what was started while it was being killed.
const DROP_ROUNDS: usize = 3;

/// A process tree that is killed when this is dropped, unless it was released.
#[derive(Debug)]
pub(super) struct ProcessTree {
    group: Pid,
    /// What every descendant carries, where the system lets runs be marked.
    mark: Option<RunMark>,
    /// Where every descendant is, where a control group was delegated.
    control_group: Option<RunGroup>,
    is_ours: bool,
}

impl ProcessTree {
    /// The tree of a child that was started as the leader of its group; `None` if the child was
    /// waited for already.
    pub(super) fn led_by(child: &Child, mark: Option<RunMark>) -> Option<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok())?;
        Some(Self {
            group: Pid::from_raw(id),
            mark,
            control_group: None,
            is_ours: true,
        })
    }

    pub(super) fn confine(&mut self, control_group: RunGroup) {
        self.control_group = Some(control_group);
    }

    pub(super) fn group(&self) -> Pid {
        self.group
    }

    pub(super) fn mark(&self) -> Option<RunMark> {
        self.mark
    }

    /// Signals every member of the group. That there is none left, or one that may not be
    /// signalled, is no concern of the run.
    pub(super) fn signal_group(&self, signal: Signal) {
        if let Err(errno) = killpg(self.group, signal) {
            tracing::debug!(group = %self.group, %signal, %errno, "no process was signalled");
        }
    }

    /// Signals the group, and then whoever has left it; says whether anybody was alive.
    pub(super) async fn signal(&self, signal: Signal) -> bool {
        self.signal_group(signal);
        self.signal_strays(Some(signal)).await
    }

    /// Those in the group have the signal already: a program may not expect a second TERM.
    async fn signal_strays(&self, signal: Option<Signal>) -> bool {
        let Some(mark) = self.mark else {
            return killpg(self.group, None).is_ok();
        };
        let census = Census::taken_from_now().await;
        census.signal_strays(mark, self.group, signal) > 0
    }

    /// Waits for the last process to end, at most until `deadline`.
    pub(super) async fn is_gone_by(&self, deadline: Instant) -> bool {
        let mut wait = FIRST_PROBE;
        while self.signal_strays(None).await {
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            sleep_until(deadline.min(now + wait)).await;
            wait = LAST_PROBE.min(wait * 2);
        }
        true
    }

    /// Kills until nothing is left, also what is started meanwhile.
    pub(super) async fn kill(&self) {
        let deadline = Instant::now() + REAP_LIMIT;
        let mut wait = FIRST_PROBE;
        loop {
            if let Some(control_group) = &self.control_group {
                control_group.kill();
            }
            if !self.signal(Signal::SIGKILL).await {
                return;
            }
            let now = Instant::now();
            if now >= deadline {
                return tracing::warn!(group = %self.group, "a command cannot be ended");
            }
            sleep_until(deadline.min(now + wait)).await;
            wait = LAST_PROBE.min(wait * 2);
        }
    }

    /// Leaves whatever is left of the tree alone from here on.
    pub(super) fn release(&mut self) {
        self.is_ours = false;
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        if let Some(control_group) = &self.control_group {
            control_group.kill();
        }
        self.signal_group(Signal::SIGKILL);
        let Some(mark) = self.mark else { return };
        for _ in 0..DROP_ROUNDS {
            if Census::take().signal(mark, Some(Signal::SIGKILL)) == 0 {
                return;
            }
        }
    }
}
