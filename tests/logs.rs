//! What a node writes, where, and that nobody who does not read it can stop it.

#![cfg(test)]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use common::home::{BINARY, Home};
use common::invoke::{outcome, params, send};
use common::{CONNECTED, DEADLINE, admitted, answers, gateway, until};
use gateway::DEFAULT_TOKEN;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The text of a command that nobody should find in a log.
const SECRET: &str = "hunter2-in-an-argument";

#[tokio::test]
async fn json_lines_are_objects_and_tell_of_runs_without_their_text() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let node = home.run(gateway.port()).arg("--log-format=json").start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    let run = json!({ "command": ["/bin/echo", SECRET] });
    let id = send(&gateway, &view, "system.run", params(&run)).await;
    outcome(&gateway, &id).await.payload();
    node.line("run ended").await;

    let objects: Vec<Value> = node
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let with = |message: &str| {
        let found = objects.iter().find(|object| {
            object["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(message))
        });
        found.unwrap_or_else(|| panic!("nothing with {message:?} in {objects:?}"))
    };
    let connected = with(CONNECTED);
    assert_eq!(connected["level"], "info");
    assert!(connected["time"].as_str().unwrap().ends_with('Z'));
    let decided = with("run decided");
    assert_eq!(decided["decision"], "allow");
    let hash = decided["command_hash"].as_str().unwrap();
    assert_eq!(hash.len(), 16, "{hash}");
    let ended = with("run ended");
    assert_eq!(ended["command_hash"], hash);
    assert_eq!(ended["run_id"], decided["run_id"]);
    assert_eq!(ended["exit_code"], 0);
    assert!(node.lines_with(SECRET).is_empty(), "{node}");
}

#[tokio::test]
async fn a_denied_run_is_logged_with_the_reason() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    let run = json!({ "command": ["/bin/echo", SECRET] });
    let id = send(&gateway, &view, "system.run", params(&run)).await;
    assert!(!outcome(&gateway, &id).await.is_ok());
    let line = node.line("run decided").await;
    assert!(line.contains("command_hash="), "{line}");
    assert!(!line.contains("decision=allow"), "{line}");
    assert!(node.lines_with(SECRET).is_empty(), "{node}");
}

#[tokio::test]
async fn a_log_file_takes_the_place_of_standard_error() {
    let gateway = gateway().await;
    let home = Home::new();
    let file = home.path().join("Library/Logs/openclaw/node.log");
    let node = home
        .run(gateway.port())
        .arg("--log-file")
        .arg(&file)
        .start();
    gateway.admit(DEADLINE).await.unwrap();
    let log = until("the line in the file", || {
        let log = fs::read_to_string(&file).ok()?;
        log.contains(CONNECTED).then_some(log)
    })
    .await;
    assert!(log.lines().any(|line| line.starts_with(CONNECTED)), "{log}");
    assert!(node.lines().is_empty(), "{node}");
    node.stop().await;
}

#[tokio::test]
async fn a_log_file_that_cannot_be_written_leaves_standard_error() {
    let gateway = gateway().await;
    let home = Home::new();
    fs::write(home.path().join("file"), "").unwrap();
    let file = home.path().join("file/node.log");
    let node = home
        .run(gateway.port())
        .arg("--log-file")
        .arg(&file)
        .start();
    let line = node.line("logs go to standard error").await;
    assert!(line.contains("file/node.log"), "{line}");
    gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
}

/// The end that is written to of a pipe that is full, and the other.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut file = fs::File::from(writer);
    let mut filled = 0;
    loop {
        match file.write(&[b'x'; 4096]) {
            Ok(written) => filled += written,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(filled > 0);
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, file.into())
}

#[tokio::test]
async fn nobody_who_does_not_read_the_log_can_stop_the_node() {
    let gateway = gateway().await;
    let home = Home::new();
    let (reader, writer) = full_pipe();
    let mut node = tokio::process::Command::new(BINARY)
        .args(["run", "--host", "127.0.0.1", "--port"])
        .arg(gateway.port().to_string())
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .env("OPENCLAW_NODE_LOG", "debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(writer))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;

    // Once somebody reads again, they are told what they missed.
    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader).unwrap();
    let mut lines = BufReader::new(reader).lines();
    let told = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("log lines were lost") {
                return line;
            }
        }
        panic!("it ended without a word");
    };
    // Each denial is logged, so that there is something to say.
    let asked = async {
        let run = json!({ "command": ["/bin/true"] });
        loop {
            let id = send(&gateway, &view, "system.run", params(&run)).await;
            assert!(!outcome(&gateway, &id).await.is_ok());
        }
    };
    tokio::select! {
        told = tokio::time::timeout(DEADLINE, told) => {
            let line = told.expect("a note in time");
            assert!(line.contains("openclaw-node: "), "{line}");
        }
        () = asked => {}
    }
    node.start_kill().unwrap();
    node.wait().await.unwrap();
}

#[tokio::test]
async fn why_a_node_does_not_start_is_where_its_log_is() {
    let home = Home::new();
    let file = home.path().join("node.log");
    let mut node = home
        .program(["run", "--host", "gateway.invalid", "--log-format=json"])
        .arg("--log-file")
        .arg(&file)
        .start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    let log = fs::read_to_string(&file).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    let message = last["message"].as_str().unwrap();
    assert!(
        message.starts_with("node host gateway connect failed: "),
        "{message}"
    );
    assert!(node.lines().is_empty(), "{node}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_is_full_is_put_aside_and_standard_error_follows() {
    let gateway = gateway().await;
    let home = Home::new();
    let file = home.path().join("node.log");
    fs::write(&file, vec![b'x'; 4 * 1024 * 1024 - 1]).unwrap();
    // As launchd does it: standard error is the same file.
    let stderr = fs::OpenOptions::new().append(true).open(&file).unwrap();
    let mut node = tokio::process::Command::new(BINARY)
        .args(["run", "--host", "127.0.0.1", "--port"])
        .arg(gateway.port().to_string())
        .arg("--log-file")
        .arg(&file)
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .stdin(Stdio::null())
        .stderr(Stdio::from(stderr))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    gateway.admit(DEADLINE).await.unwrap();
    until("the line in a fresh file", || {
        let log = fs::read(&file).ok()?;
        String::from_utf8_lossy(&log)
            .contains(CONNECTED)
            .then_some(())
    })
    .await;
    let aside = fs::metadata(home.path().join("node.log.1")).unwrap();
    assert_eq!(aside.len(), 4 * 1024 * 1024 - 1);
    let followed = fs::read_link(format!("/proc/{}/fd/2", node.id().unwrap())).unwrap();
    assert_eq!(followed, file);
    node.start_kill().unwrap();
    node.wait().await.unwrap();
}
