//! A look at all processes of this machine, for those that belong to a run.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid};
use tokio::sync::Mutex;

use crate::mark::RunMark;

/// More than any `/proc/<pid>/stat` holds: a name of 64 bytes and 51 numbers (proc(5)).
const STAT_BYTES: usize = 2048;

/// The line of `/proc/<pid>/limits` that holds the mark, up to its soft limit.
const MARKED_LIMIT: &[u8] = b"\nMax resident set";

/// Which processes carried which mark at one moment.
#[derive(Debug, Default)]
pub struct Census {
    members: HashMap<RunMark, Vec<Pid>>,
}

impl Census {
    /// Looks at every process now. Takes around 10 µs for each.
    #[must_use]
    pub fn take() -> Self {
        let mut census = Self::default();
        let mut limits = Vec::new();
        for pid in processes() {
            // This process itself has a mark for the instant of a spawn.
            if pid == Pid::this() {
                continue;
            }
            if let Some(mark) = mark_of(pid, &mut limits) {
                census.members.entry(mark).or_default().push(pid);
            }
        }
        census
    }

    /// A census that was begun after this call, without blocking; several that ask at a time share
    /// one.
    pub async fn taken_from_now() -> Arc<Self> {
        static LAST: Mutex<Option<(Instant, Arc<Census>)>> = Mutex::const_new(None);
        let asked = Instant::now();
        let mut last = LAST.lock().await;
        if let Some((begun, census)) = &*last
            && *begun >= asked
        {
            return Arc::clone(census);
        }
        let begun = Instant::now();
        let census = tokio::task::spawn_blocking(Self::take).await;
        // The runtime is shutting down, and everything with it.
        let census = Arc::new(census.unwrap_or_default());
        *last = Some((begun, Arc::clone(&census)));
        census
    }

    /// Every mark that was seen.
    pub fn marks(&self) -> impl Iterator<Item = RunMark> {
        self.members.keys().copied()
    }

    /// The processes that carried the mark.
    pub(crate) fn members(&self, mark: RunMark) -> &[Pid] {
        self.members.get(&mark).map_or(&[], Vec::as_slice)
    }

    /// Signals every process that still carries the mark, and says how many of them are alive.
    pub fn signal(&self, mark: RunMark, signal: Option<Signal>) -> usize {
        let alive = self
            .members(mark)
            .iter()
            .filter(|pid| reach(**pid, mark, signal));
        alive.count()
    }

    /// Signals every process that still carries the mark and is not in `group`, which has the
    /// signal already, and says how many are alive in and outside of it.
    pub(crate) fn signal_strays(&self, mark: RunMark, group: Pid, signal: Option<Signal>) -> usize {
        let alive = self.members(mark).iter().filter(|pid| {
            let is_stray = getpgid(Some(**pid)).is_ok_and(|of| of != group);
            reach(**pid, mark, signal.filter(|_| is_stray))
        });
        alive.count()
    }
}

/// Signals a process if it is alive and carries the mark.
///
/// The process is held by a descriptor while its mark is read, so that no other can have taken its
/// number by the time of the signal.
#[cfg(target_os = "linux")]
fn reach(pid: Pid, mark: RunMark, signal: Option<Signal>) -> bool {
    use nix::errno::Errno;
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

    let Some(raw) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return false;
    };
    let held = pidfd_open(raw, PidfdFlags::empty());
    if mark_of(pid, &mut Vec::new()) != Some(mark) || !Stat::of(pid).is_some_and(|s| s.is_alive()) {
        return false;
    }
    let sent = match (signal, &held) {
        (None, _) => Ok(()),
        (Some(signal), Ok(held)) => rustix::process::Signal::from_named_raw(signal as i32)
            .map_or(Ok(()), |signal| pidfd_send_signal(held, signal))
            .map_err(|errno| Errno::from_raw(errno.raw_os_error())),
        // A kernel before 5.3 holds no processes.
        (Some(signal), Err(_)) => nix::sys::signal::kill(pid, signal),
    };
    match sent {
        Ok(()) => true,
        Err(Errno::ESRCH) => false,
        Err(errno) => {
            // Whoever may not be signalled (sudo) is not waited for either.
            tracing::debug!(%pid, %errno, "a process of a run was not signalled");
            false
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reach(_: Pid, _: RunMark, _: Option<Signal>) -> bool {
    false
}

/// The process ids of this machine.
pub(crate) fn processes() -> impl Iterator<Item = Pid> {
    let listed = fs::read_dir("/proc").into_iter().flatten();
    listed.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse().ok().map(Pid::from_raw)
    })
}

/// The mark of a process, living or dead; `None` also if it is gone.
pub(crate) fn mark_of(pid: Pid, limits: &mut Vec<u8>) -> Option<RunMark> {
    limits.clear();
    let mut file = File::open(format!("/proc/{pid}/limits")).ok()?;
    file.read_to_end(limits).ok()?;
    let start = limits
        .windows(MARKED_LIMIT.len())
        .position(|window| window == MARKED_LIMIT)?;
    let (_, rest) = limits.split_at_checked(start + MARKED_LIMIT.len())?;
    let soft = rest.trim_ascii_start().split(|byte| *byte == b' ').next()?;
    let limit = std::str::from_utf8(soft).ok()?.parse().ok()?;
    RunMark::from_limit(limit)
}

/// What `/proc/<pid>/stat` says of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stat {
    state: char,
    parent: i32,
    /// When it was started, in clock ticks since boot.
    pub(crate) start_time: u64,
}

impl Stat {
    /// `None` if there is no such process.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        // One read gives the whole line; its length is bounded by that of its numbers.
        let mut line = [0; STAT_BYTES];
        let read = File::open(format!("/proc/{pid}/stat"))
            .and_then(|mut file| file.read(&mut line))
            .ok()?;
        Self::parse(&String::from_utf8_lossy(line.get(..read)?))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            start_time,
        })
    }

    pub(crate) fn is_alive(self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn is_zombie_of(self, parent: Pid) -> bool {
        self.state == 'Z' && self.parent == parent.as_raw()
    }
}

/// What names this boot of the machine: process ids and start times mean nothing in the next.
///
/// # Errors
/// Those of reading `/proc`, which only Linux has.
pub fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_cannot_pass_for_its_state() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        let stat = Stat::parse(&format!("42 (a) Z 1 (b) {rest}")).unwrap();
        let expected = Stat {
            state: 'S',
            parent: 1,
            start_time: 777,
        };
        assert_eq!(stat, expected);
        for broken in [
            "",
            "42",
            "42 (a",
            "42 (a) S",
            "42 (a) S x",
            "42 (a) S 1 2 3",
        ] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_seen_but_never_counted() {
        assert!(processes().any(|pid| pid == Pid::this()));
        let own = Stat::of(Pid::this()).unwrap();
        assert!(own.is_alive() && own.start_time > 0);
        let census = Census::take();
        assert!(
            !census
                .members
                .values()
                .flatten()
                .any(|pid| *pid == Pid::this())
        );
    }
}
