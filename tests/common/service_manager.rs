//! The socket on which a service manager hears how its service is doing.

use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use super::DEADLINE;

/// Longest notification that is read, in bytes.
const MAX_NOTIFICATION: usize = 8 * 1024;

/// The receiving end of `NOTIFY_SOCKET`.
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl ServiceManager {
    pub(crate) fn listen(folder: &Path) -> Self {
        let path = folder.join("notify.sock");
        Self {
            socket: UnixDatagram::bind(&path).unwrap(),
            path,
        }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for an assignment such as `READY=1` or `STATUS=waiting…` that contains `text`.
    pub(crate) async fn hears(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let mut notification = vec![0; MAX_NOTIFICATION];
            let Ok(received) = timeout(DEADLINE, self.socket.recv(&mut notification)).await else {
                panic!("nothing with {text:?} was notified, only {seen:?}");
            };
            notification.truncate(received.unwrap());
            let notification = String::from_utf8(notification).unwrap();
            if let Some(line) = notification.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            seen.push(notification);
        }
    }

    /// Everything that was notified and not heard yet.
    pub(crate) fn heard_so_far(&self) -> Vec<String> {
        let mut heard = Vec::new();
        let mut notification = vec![0; MAX_NOTIFICATION];
        while let Ok(received) = self.socket.try_recv(&mut notification) {
            heard.push(String::from_utf8(notification[..received].to_vec()).unwrap());
        }
        heard
    }
}
