//! The journal's own protocol: one datagram per record, with fields that `journalctl` filters by.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::fstat;
use node_config::Environment;
use serde_json::Value;

use super::record::{Record, cut};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Who says it, in `journalctl -t`.
const IDENTIFIER: &str = "openclaw-node";
/// Before the names of our own fields.
const PREFIX: &str = "OPENCLAW_";
/// The longest value that is sent, in bytes: a datagram has a limit, and a record need not be a
/// document.
const VALUE_LIMIT_BYTES: usize = 16 * 1024;

/// The connection to the journal. It never waits; what the journal does not take is counted.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The unit that this process belongs to, as the unit itself says.
    unit: Option<String>,
    lost: AtomicU64,
}

impl Journal {
    /// Connects to the machine's journal.
    pub(super) fn connect(environment: &Environment) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(SOCKET)?;
        Ok(Self {
            socket,
            unit: environment.text("OPENCLAW_SYSTEMD_UNIT").map(str::to_owned),
            lost: AtomicU64::new(0),
        })
    }

    /// Sends a record; `false` when there is no journal any more.
    pub(super) fn send(&self, record: &Record) -> bool {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        match self.socket.send(&self.datagram(record, lost)) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.lost.fetch_add(lost + 1, Ordering::Relaxed);
                true
            }
            Err(_) => {
                self.lost.fetch_add(lost, Ordering::Relaxed);
                false
            }
        }
    }

    fn datagram(&self, record: &Record, lost: u64) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(512);
        field(&mut datagram, "MESSAGE", &record.message);
        field(&mut datagram, "PRIORITY", &record.priority().to_string());
        field(&mut datagram, "SYSLOG_IDENTIFIER", IDENTIFIER);
        let mut own = |name: &str, value: &str| {
            let name = format!("{PREFIX}{}", name.to_ascii_uppercase());
            field(&mut datagram, &name, value);
        };
        own("target", record.target);
        if let Some(unit) = &self.unit {
            own("unit", unit);
        }
        if lost > 0 {
            own("lost", &lost.to_string());
        }
        for (name, value) in &record.fields {
            match value {
                Value::String(text) => own(name, text),
                other => own(name, &other.to_string()),
            }
        }
        datagram
    }
}

/// Appends a field. A value of several lines comes with its length, as eight bytes, little-endian.
fn field(datagram: &mut Vec<u8>, name: &str, value: &str) {
    let value = cut(value, VALUE_LIMIT_BYTES);
    datagram.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        datagram.push(b'\n');
        datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        datagram.push(b'=');
    }
    datagram.extend_from_slice(value.as_bytes());
    datagram.push(b'\n');
}

/// Whether `JOURNAL_STREAM`, as `device:inode`, names this process's standard error.
pub(super) fn is_stderr(journal_stream: &str) -> bool {
    let Some((device, inode)) = journal_stream.split_once(':') else {
        return false;
    };
    // As text, because the numbers are of different widths on different systems.
    fstat(io::stderr().as_fd())
        .is_ok_and(|stat| stat.st_dev.to_string() == device && stat.st_ino.to_string() == inode)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn fields_have_the_journals_form() {
        let mut datagram = Vec::new();
        field(&mut datagram, "MESSAGE", "one line");
        field(&mut datagram, "OPENCLAW_X", "two\nlines");
        let mut expected = b"MESSAGE=one line\nOPENCLAW_X\n".to_vec();
        expected.extend_from_slice(&9_u64.to_le_bytes());
        expected.extend_from_slice(b"two\nlines\n");
        assert_eq!(datagram, expected);
    }

    #[test]
    fn what_was_lost_is_told_by_the_first_record_that_arrives() {
        let (socket, journal_end) = UnixDatagram::pair().unwrap();
        let mut journal = Journal {
            socket,
            unit: None,
            lost: AtomicU64::new(3),
        };
        drop(journal_end);
        // Nobody listens: the record goes elsewhere, and the three are still to be told.
        assert!(!journal.send(&record("t", "it broke")));
        let (socket, journal_end) = UnixDatagram::pair().unwrap();
        journal.socket = socket;
        assert!(journal.send(&record("t", "it broke")));
        let mut datagram = [0; 512];
        let length = journal_end.recv(&mut datagram).unwrap();
        let told = String::from_utf8_lossy(&datagram[..length]).into_owned();
        assert!(told.contains("OPENCLAW_LOST=3\n"), "{told}");
        assert_eq!(journal.lost.into_inner(), 0);
    }

    #[test]
    fn only_the_very_stream_counts() {
        let stat = fstat(io::stderr().as_fd()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in ["", "1", "1:2:3", "x:y", &format!("{}:0", stat.st_dev)] {
            assert!(!is_stderr(other), "{other}");
        }
    }
}
