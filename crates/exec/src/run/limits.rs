//! What one run may use, and how the system is told.

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::Containment;
use super::process_tree::ProcessTree;
use crate::census::Census;
use crate::mark::RunMark;

/// How often a new run is searched for processes without limits: each search stops those that it
/// finds, so one is enough unless they are started faster than that.
const SWEEPS: usize = 16;

/// What one run with everything it starts may use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Memory, in bytes. Without a control group it counts for each process alone (`RLIMIT_DATA`).
    pub memory: Option<u64>,
    /// Processes and threads. Without a control group all that the user has count, and root is
    /// free (`RLIMIT_NPROC`).
    pub pids: Option<u64>,
    /// Processors, in thousandths. Needs a control group.
    pub cpu_millis: Option<u64>,
}

/// Puts the limits on a process that has just been started.
pub(super) fn impose(tree: &mut ProcessTree, containment: &Containment) {
    let Containment { limits, delegated } = containment;
    let leader = tree.group();
    if let Some(delegated) = delegated {
        // Moving a process can take the kernel many milliseconds, in which it would start others
        // outside of its group.
        tree.signal_group(Signal::SIGSTOP);
        let control_group = delegated.take_in(leader, tree.mark(), limits);
        tree.signal_group(Signal::SIGCONT);
        match control_group {
            Ok(control_group) => return tree.confine(control_group),
            Err(error) => {
                tracing::warn!(%leader, %error, "a command gets no control group of its own");
            }
        }
    }
    if limits.memory.is_none() && limits.pids.is_none() {
        return;
    }
    tree.signal_group(Signal::SIGSTOP);
    limit_process(leader, limits);
    if let Some(mark) = tree.mark()
        && !is_youngest(leader)
    {
        limit_children(leader, mark, limits);
    }
    tree.signal_group(Signal::SIGCONT);
}

/// Limits what a process has started in the moment since its own start. On a quiet machine that is
/// nothing.
fn limit_children(leader: Pid, mark: RunMark, limits: &Limits) {
    let mut limited = vec![leader];
    let mut census = Census::take();
    for _ in 0..SWEEPS {
        census.signal(mark, Some(Signal::SIGSTOP));
        let before = limited.len();
        for pid in census.members(mark) {
            if !limited.contains(pid) {
                limit_process(*pid, limits);
                limited.push(*pid);
            }
        }
        if limited.len() == before {
            break;
        }
        census = Census::take();
    }
    census.signal(mark, Some(Signal::SIGCONT));
}

/// Whether no process of this machine was started after this one.
fn is_youngest(pid: Pid) -> bool {
    // The last field is the id that was given last (proc(5)).
    std::fs::read_to_string("/proc/loadavg")
        .is_ok_and(|text| text.split_whitespace().last() == Some(pid.to_string().as_str()))
}

#[cfg(target_os = "linux")]
fn limit_process(leader: Pid, limits: &Limits) {
    use rustix::process::{Resource, Rlimit, prlimit};

    let of_process = [
        (Resource::Data, limits.memory),
        (Resource::Nproc, limits.pids),
    ];
    for (resource, limit) in of_process {
        let Some(limit) = limit else { continue };
        let both = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        let leader = rustix::process::Pid::from_raw(leader.as_raw());
        if let Err(error) = prlimit(leader, resource, both) {
            tracing::warn!(?resource, %error, "a command is not limited");
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_process(_: Pid, _: &Limits) {}
