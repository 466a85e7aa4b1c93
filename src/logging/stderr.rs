//! Standard error, written to only while its reader takes something: a stopped terminal or a full
//! pipe must not stop the node.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a line may wait for its reader, in milliseconds. Once a reader was late, the next
/// lines wait no more until it is back.
const PATIENCE_MS: u8 = 100;

/// Standard error. Lines that nobody takes are counted.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    lost: AtomicU64,
}

impl Stderr {
    /// Writes a line of at most [`super::record::LINE_LIMIT_BYTES`], so that a pipe that takes
    /// anything takes all of it.
    pub(super) fn write(&self, line: &str) {
        let stderr = io::stderr();
        let lost = self.lost.load(Ordering::Relaxed);
        let patience = if lost == 0 {
            PollTimeout::from(PATIENCE_MS)
        } else {
            PollTimeout::ZERO
        };
        let mut descriptor = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        if !matches!(poll(&mut descriptor, patience), Ok(1..)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut writer = stderr.lock();
        if lost > 0 {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
            let note = format!("openclaw-node: {lost} log lines were lost: nobody read them\n");
            io::Write::write_all(&mut writer, note.as_bytes()).ok();
        }
        // Whoever read it may be gone; the node goes on.
        io::Write::write_all(&mut writer, line.as_bytes()).ok();
    }
}
