//! The control socket of a running node, spoken to as any program would.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::home::Home;
use super::{DEADLINE, POLL_INTERVAL};

/// Where the node of a home listens.
pub(crate) fn socket_of(home: &Home) -> PathBuf {
    home.state_dir().join("node.sock")
}

/// Sends a line and returns everything that comes back.
pub(crate) async fn ask(socket: &Path, line: &[u8]) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(line).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(DEADLINE, exchange)
        .await
        .expect("an answer in time")
}

/// What the node says of itself; `None` while it does not answer.
pub(crate) async fn status(socket: &Path) -> Option<Value> {
    let question = json!({ "method": "status" }).to_string() + "\n";
    let answer = ask(socket, question.as_bytes()).await.ok()?;
    let answer: Value = serde_json::from_str(&answer).ok()?;
    (answer["ok"] == true).then(|| answer["result"].clone())
}

/// Waits until the node says of itself what `wanted` looks for.
pub(crate) async fn status_with(socket: &Path, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    let mut last = None;
    while Instant::now() < deadline {
        match status(socket).await {
            Some(found) if wanted(&found) => return found,
            other => last = other.or(last),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    panic!("not within {DEADLINE:?}; the node last said {last:?}");
}
