//! The control socket: a running node answers questions about itself (interfaces: live data and
//! control).
//!
//! A client of the same user sends one line of JSON, such as `{"method":"status"}`, gets one line
//! back, `{"ok":true,"result":{…}}` or `{"ok":false,"error":"…"}`, and is done. Everything that it
//! could hold up has a bound: clients at a time, the length of a line, the time of each step.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::exec::{CountRuns, Exec};
use crate::status::NodeStatus;
use crate::supervisor::{Supervisor, TellStatus};

/// Clients that are served at a time; more wait in the socket's own queue.
const MAX_CLIENTS: usize = 4;
/// The longest question, in bytes.
const MAX_QUESTION_BYTES: u64 = 1024;
/// How long a client may take to ask, and how long to take the answer.
const CLIENT_DEADLINE: Duration = Duration::from_secs(2);
/// Longest wait for what the node says of itself.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Pause after a client could not be accepted, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A question to a running node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Question {
    /// What is the node doing?
    Status,
}

/// What a running node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether there is a result.
    pub ok: bool,
    /// The result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<NodeStatus>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Answer {
    fn refused(error: impl Into<String>) -> Self {
        Self {
            ok: false,
            result: None,
            error: Some(error.into()),
        }
    }
}

/// The socket's place in the file system; it goes away with this value.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Binds the socket, mode 0600. The caller holds the state lock, so one that is there already
    /// is a dead node's.
    pub(crate) fn bind(path: PathBuf) -> io::Result<(Self, StdListener)> {
        remove_socket(&path)?;
        let listener = StdListener::bind(&path)?;
        let socket = Self { path };
        // Until then the umask decides, which changes nothing: each client's user is checked.
        fs::set_permissions(&socket.path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok((socket, listener))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if let Err(error) = remove_socket(&self.path) {
            debug!(%error, "the control socket stays behind");
        }
    }
}

/// Removes a socket; anything else that stands there is not ours and stays.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::other(format!(
            "{} is not a socket; move it away",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Who knows the answers.
#[derive(Clone)]
struct Sources {
    supervisor: Addr<Supervisor>,
    exec: Addr<Exec>,
}

/// Answers clients for as long as the event loop turns.
pub(crate) async fn serve(listener: StdListener, supervisor: Addr<Supervisor>, exec: Addr<Exec>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "the control socket cannot be served"),
    };
    let sources = Sources { supervisor, exec };
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = sources.clone();
                actix::spawn(async move {
                    if let Err(error) = serve_client(stream, &sources).await {
                        debug!(%error, "a control client got no answer");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a control client cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_client(mut stream: UnixStream, sources: &Sources) -> io::Result<()> {
    let peer = Uid::from_raw(stream.peer_cred()?.uid());
    if peer != Uid::effective() && !peer.is_root() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let mut question = String::new();
    let mut reader = BufReader::with_capacity(128, (&mut stream).take(MAX_QUESTION_BYTES));
    within_deadline(reader.read_line(&mut question)).await?;
    let answer = match serde_json::from_str(&question) {
        Ok(Question::Status) => status(sources).await,
        Err(error) => Answer::refused(format!("not understood: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    within_deadline(stream.write_all(&line)).await
}

async fn within_deadline<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CLIENT_DEADLINE, work).await?
}

async fn status(sources: &Sources) -> Answer {
    let told = sources.supervisor.send(TellStatus).timeout(ANSWER_DEADLINE);
    let counted = sources.exec.send(CountRuns).timeout(ANSWER_DEADLINE);
    let (told, counted) = tokio::join!(told, counted);
    match told {
        Ok(mut status) => {
            // A busy thread of commands is no reason to tell nothing.
            if let Ok(counts) = counted {
                status.running = Some(counts.running);
                status.queued = Some(counts.queued);
            }
            Answer {
                ok: true,
                result: Some(status),
                error: None,
            }
        }
        Err(error) => Answer::refused(format!("the node does not answer: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::ManuallyDrop;

    use super::*;

    #[test]
    fn a_dead_nodes_socket_is_replaced_and_anything_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let (first, listener) = ControlSocket::bind(path.clone()).unwrap();
        drop(listener);
        let _left_behind = ManuallyDrop::new(first);
        assert!(path.exists(), "a killed node leaves it behind");
        let (second, _listener) = ControlSocket::bind(path.clone()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(second);
        assert!(!path.exists());

        fs::write(&path, "mine").unwrap();
        let refused = ControlSocket::bind(path.clone()).unwrap_err().to_string();
        assert!(refused.contains("is not a socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn questions_and_answers_are_one_line_each() {
        let question = serde_json::to_string(&Question::Status).unwrap();
        assert_eq!(question, r#"{"method":"status"}"#);
        let refused = serde_json::to_string(&Answer::refused("no")).unwrap();
        assert_eq!(refused, r#"{"ok":false,"error":"no"}"#);
    }
}
