//! Processes as the system sees them.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use super::until;

/// Whether a process runs; one that is dead and only waits to be reaped does not.
pub(crate) fn is_running(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which is in parentheses and may hold anything.
        Ok(stat) => !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => nix::sys::signal::kill(pid, None).is_ok(),
    }
}

/// Waits until a process is gone.
pub(crate) async fn gone(pid: Pid) {
    until(&format!("process {pid} ends"), || {
        (!is_running(pid)).then_some(())
    })
    .await;
}

/// Waits until a file holds `count` process ids, one per line.
pub(crate) async fn pids_in(file: &Path, count: usize) -> Vec<Pid> {
    until(
        &format!("{count} process ids in {}", file.display()),
        || {
            let text = fs::read_to_string(file)
                .ok()
                .filter(|text| text.ends_with('\n'))?;
            let pids: Vec<Pid> = text
                .lines()
                .map(|line| Pid::from_raw(line.trim().parse().unwrap()))
                .collect();
            (pids.len() >= count).then_some(pids)
        },
    )
    .await
}

/// The most memory that a process ever held at a time, in bytes; `None` where the system does
/// not tell.
pub(crate) fn peak_memory(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
