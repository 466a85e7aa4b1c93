//! Standard error, written to only while its reader takes something: a stopped terminal or a full
//! pipe must not stop the node.

use std::io::{self, Write};
use std::os::fd::AsFd;
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
        // Whoever looks whether there is room must be the one who fills it.
        self.write_to(&mut io::stderr().lock(), line);
    }

    fn write_to(&self, writer: &mut (impl Write + AsFd), line: &str) {
        let lost = self.lost.load(Ordering::Relaxed);
        let patience = if lost == 0 {
            PollTimeout::from(PATIENCE_MS)
        } else {
            PollTimeout::ZERO
        };
        if !has_room(writer, patience) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if lost > 0 {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
            let note = format!("openclaw-node: {lost} log lines were lost: nobody read them\n");
            writer.write_all(note.as_bytes()).ok();
            // The note may have taken all the room that there was.
            if !has_room(writer, PollTimeout::from(PATIENCE_MS)) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        // Whoever read it may be gone; the node goes on.
        writer.write_all(line.as_bytes()).ok();
    }
}

fn has_room(writer: &impl AsFd, patience: PollTimeout) -> bool {
    let mut descriptor = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut descriptor, patience), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::record::LINE_LIMIT_BYTES;
    use super::*;

    #[test]
    fn a_note_that_takes_the_last_room_leaves_the_line_to_be_counted() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let line = "x".repeat(LINE_LIMIT_BYTES);
        // Full but for what one write takes.
        let mut filled = 0;
        while has_room(&writer, PollTimeout::ZERO) {
            writer.write_all(line.as_bytes()).unwrap();
            filled += line.len();
        }
        reader.read_exact(&mut [0; LINE_LIMIT_BYTES]).unwrap();
        filled -= line.len();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let stderr = Stderr {
                lost: AtomicU64::new(7),
            };
            stderr.write_to(&mut writer, &line);
            sender.send(stderr.lost.into_inner()).unwrap();
        });
        let lost = ended.recv_timeout(Duration::from_secs(30));
        assert_eq!(lost, Ok(1), "the writer waits for nobody");
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(
            text.get(filled..),
            Some("openclaw-node: 7 log lines were lost: nobody read them\n")
        );
    }
}
