//! Processes whose parents ended before them. Where this process is their reaper, it must wait for
//! them, or they stay as zombies.

use nix::errno::Errno;
use nix::unistd::Pid;

/// Makes orphaned descendants children of this process, so that they neither vanish from sight
/// nor depend on the machine's first process to be buried.
///
/// # Errors
/// The system's.
#[cfg(target_os = "linux")]
pub fn adopt() -> Result<(), Errno> {
    nix::sys::prctl::set_child_subreaper(true)
}

/// Orphans belong to the machine's first process on this system.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn adopt() -> Result<(), Errno> {
    Ok(())
}

/// What came of a look for dead orphans.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Burial {
    /// How many were waited for.
    pub reaped: usize,
    /// Whether this process still has children, dead or alive, that may leave more.
    pub has_children: bool,
}

/// Waits for every dead child that carries a mark of this process and that nobody else waits for.
/// Children that this process did not start as runs are left alone.
#[cfg(target_os = "linux")]
pub fn reap(is_waited_for: impl Fn(Pid) -> bool) -> Burial {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    let mut reaped = 0;
    loop {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let child = waitid(Id::All, peek);
        let has_children = child != Err(Errno::ECHILD);
        let Some(pid) = child.ok().and_then(|status| status.pid()) else {
            return Burial {
                reaped,
                has_children,
            };
        };
        if !is_orphan(pid, &is_waited_for) {
            // The kernel shows this one first for as long as nobody waits for it.
            return Burial {
                reaped: reaped + reap_each(is_waited_for),
                has_children,
            };
        }
        if !wait_for(pid) {
            return Burial {
                reaped,
                has_children,
            };
        }
        reaped += 1;
    }
}

/// There is nothing to wait for on this system.
#[cfg(not(target_os = "linux"))]
pub fn reap(_: impl Fn(Pid) -> bool) -> Burial {
    Burial {
        reaped: 0,
        has_children: false,
    }
}

#[cfg(target_os = "linux")]
fn reap_each(is_waited_for: impl Fn(Pid) -> bool) -> usize {
    use crate::census::{Stat, processes};

    let this = Pid::this();
    let orphans = processes().filter(|pid| {
        Stat::of(*pid).is_some_and(|stat| stat.is_zombie_of(this))
            && is_orphan(*pid, &is_waited_for)
    });
    orphans.filter(|pid| wait_for(*pid)).count()
}

#[cfg(target_os = "linux")]
fn is_orphan(pid: Pid, is_waited_for: impl Fn(Pid) -> bool) -> bool {
    use crate::census::mark_of;
    use crate::mark::Instance;
    use crate::run::service;

    let ours =
        mark_of(pid, &mut Vec::new()).is_some_and(|mark| mark.instance() == Instance::current());
    ours && !is_waited_for(pid) && !service::is_waited_for(pid)
}

#[cfg(target_os = "linux")]
fn wait_for(pid: Pid) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

    matches!(
        waitpid(pid, Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
    )
}
