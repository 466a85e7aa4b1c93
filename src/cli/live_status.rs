//! The node that runs, or last ran, on a state folder: what it says of itself, and what is known of
//! it once it is down.

mod lines;

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use actors::control::{Answer, Question};
use actors::status::{LastExit, NodeStatus};
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike as _};
use node_config::{Environment, PlannedEndpoint, control_socket};
use state::{Database, StateError, lock_holder};

use super::endpoint_arguments::saved_endpoint;

pub(super) use self::lines::lines;

/// Longest wait for each step of a question: a node answers within its own deadline of a second.
const PATIENCE_SECONDS: i64 = 3;
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// What is known of the node whose state is in `state_dir`.
pub(super) fn of(state_dir: &Path, environment: &Environment) -> NodeStatus {
    let asked = match control_socket(state_dir, environment) {
        Ok(path) => ask(&path).map_err(|error| format!("{}: {error}", path.display())),
        Err(error) => Err(error.to_string()),
    };
    match asked {
        Ok(status) => status,
        Err(trouble) => without_answer(state_dir, &trouble),
    }
}

/// What the state folder tells of a node that does not answer.
fn without_answer(state_dir: &Path, trouble: &str) -> NodeStatus {
    let holder = lock_holder(state_dir);
    let mut status = NodeStatus {
        pid: holder,
        ..NodeStatus::stopped()
    };
    match remembered(state_dir, holder.is_some()) {
        Ok((url, last_exit)) => {
            status.gateway.url = url;
            status.last_exit = last_exit;
        }
        Err(error) => status.reason = Some(error.to_string()),
    }
    match holder {
        Some(pid) => {
            status.state = None;
            status.reason = Some(format!(
                "process {pid} runs, but does not answer on {trouble}"
            ));
        }
        None => status.since = status.last_exit.as_ref().map(|exit| exit.at),
    }
    status
}

/// The gateway's URL and the last exit, as far as the database has them.
fn remembered(
    state_dir: &Path,
    runs: bool,
) -> Result<(Option<String>, Option<LastExit>), StateError> {
    let Some(database) = Database::open_read_only(state_dir)? else {
        return Ok((None, None));
    };
    let saved = database
        .node_profile()?
        .and_then(|profile| profile.endpoint);
    let url = saved.and_then(|saved| {
        let saved = saved_endpoint(&saved);
        let planned = PlannedEndpoint::plan(&Default::default(), Some(&saved));
        Some(planned.ok()?.url())
    });
    Ok((url, database.last_exit(runs)?.map(LastExit::from)))
}

fn ask(path: &Path) -> io::Result<NodeStatus> {
    let mut stream = connected(path)?;
    let mut question = serde_json::to_vec(&Question::Status)?;
    question.push(b'\n');
    stream.write_all(&question)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer)?;
    let answer: Answer = serde_json::from_str(&answer)?;
    answer
        .result
        .ok_or_else(|| io::Error::other(answer.error.unwrap_or_else(|| "no answer".to_owned())))
}

/// A stream of which no step waits for longer than [`PATIENCE_SECONDS`], the connect included: a
/// frozen node takes clients until its queue is full.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )?;
    let patience = TimeVal::seconds(PATIENCE_SECONDS);
    setsockopt(&socket, SendTimeout, &patience)?;
    setsockopt(&socket, ReceiveTimeout, &patience)?;
    connect(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &UnixAddr::new(path)?,
    )?;
    Ok(UnixStream::from(socket))
}
