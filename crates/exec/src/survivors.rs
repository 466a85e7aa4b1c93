//! What a node that was killed left running, and its end.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use crate::census::{Census, Stat, boot_id};
use crate::mark::{Instance, RunMark};

/// How long survivors may take to end after TERM, before KILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long the kernel gets to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Between two looks at those that are expected to end.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

/// A run that was recorded as started and never as ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unfinished {
    /// Its first process, which leads its group.
    pub pid: i32,
    /// When that was started, in clock ticks since boot.
    pub start_time: u64,
    /// In which boot of the machine.
    pub boot_id: String,
    /// The number in its mark, where it got one.
    pub number: Option<u32>,
}

/// What is known of the runs of one earlier process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Predecessor {
    /// What its marks begin with.
    pub instance: u32,
    /// Runs that did not end, as far as it recorded.
    pub unfinished: Vec<Unfinished>,
    /// The highest number that it recorded. Runs beyond it were started in the moment before it
    /// was killed.
    pub last_number: Option<u32>,
}

/// Ends everything that earlier processes left running: TERM, 2 s, KILL. Says how many processes
/// were found.
///
/// Runs that are recorded as ended are left alone, with whatever they leave in the background.
pub async fn end(predecessors: &[Predecessor]) -> usize {
    let boot_id = boot_id().unwrap_or_default();
    let found = signal(predecessors, &boot_id, Some(Signal::SIGTERM)).await;
    if found == 0 || gone_within(GRACE, predecessors, &boot_id, None).await {
        return found;
    }
    if !gone_within(KILL_LIMIT, predecessors, &boot_id, Some(Signal::SIGKILL)).await {
        tracing::warn!("some commands of the last start cannot be ended");
    }
    found
}

async fn gone_within(
    limit: Duration,
    predecessors: &[Predecessor],
    boot_id: &str,
    with: Option<Signal>,
) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if signal(predecessors, boot_id, with).await == 0 {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(PROBE_INTERVAL).await;
    }
}

/// Signals whatever is left, and says how many processes that is.
async fn signal(predecessors: &[Predecessor], boot_id: &str, signal: Option<Signal>) -> usize {
    let census = Census::taken_from_now().await;
    let mut found = 0;
    for predecessor in predecessors {
        let instance = Instance::from_raw(predecessor.instance);
        let is_left = |mark: &RunMark| {
            mark.instance() == instance
                && (predecessor
                    .last_number
                    .is_none_or(|last| mark.number() > last)
                    || predecessor
                        .unfinished
                        .iter()
                        .any(|run| run.number == Some(mark.number())))
        };
        for mark in census.marks().filter(is_left) {
            found += census.signal(mark, signal);
        }
        // Where nothing is marked, there still is the process that was recorded.
        for run in &predecessor.unfinished {
            let leader = Pid::from_raw(run.pid);
            let is_same = run.number.is_none()
                && run.pid > 1
                && run.boot_id == boot_id
                && Stat::of(leader)
                    .is_some_and(|stat| stat.is_alive() && stat.start_time == run.start_time);
            if is_same && killpg(leader, signal).is_ok() {
                found += 1;
            }
        }
    }
    found
}
