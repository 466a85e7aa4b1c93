//! A running node tells what it is doing, and a started one how it last ended.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use common::control::{ask, socket_of, status, status_with};
use common::home::{Account, Home};
use common::invoke::{params, send};
use common::process::pids_in;
use common::{CONNECTED, DEADLINE, admitted, answers, gateway, offline, strict_gateway, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A port on which nobody listens.
async fn dead_port() -> u16 {
    let gateway = gateway().await;
    let port = gateway.port();
    gateway.stop();
    port
}

#[tokio::test]
async fn a_node_that_finds_no_gateway_says_why_and_when_it_tries_again() {
    let port = dead_port().await;
    let home = Home::new();
    let mut node = home.run(port).start();
    let socket = socket_of(&home);
    let status = status_with(&socket, |status| !status["nextRetryAt"].is_null()).await;
    assert_eq!(status["state"], "connecting");
    assert_eq!(
        status["gateway"],
        json!({ "url": format!("ws://127.0.0.1:{port}"), "version": null })
    );
    let failure = status["lastFailure"]["message"].as_str().unwrap();
    assert!(failure.contains("onnection refused"), "{failure}");
    assert_eq!(status["credentialSource"], "env");
    assert_eq!(status["pid"], node.pid().as_raw());
    assert_eq!(
        (&status["running"], &status["queued"]),
        (&json!(0), &json!(0))
    );
    for absent in ["lastClose", "pending", "lastExit", "reason"] {
        assert_eq!(status[absent], Value::Null, "{absent}");
    }
    let (since, retry) = (status["since"].as_u64(), status["nextRetryAt"].as_u64());
    assert!(since < retry, "{status}");

    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code().await, 143, "{node}");
    assert!(!socket.exists(), "nothing is left behind");
}

#[tokio::test]
async fn a_node_says_what_an_operator_has_to_type_until_they_did() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let socket = socket_of(&home);
    let waiting = status_with(&socket, |status| status["state"] == "awaiting-pairing").await;
    let id = waiting["pending"]["requestId"].as_str().unwrap();
    assert_eq!(
        waiting["pending"]["command"],
        format!("openclaw devices approve {id}")
    );
    assert_eq!(waiting["lastClose"]["code"], 1008);

    gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    let connected = status_with(&socket, |status| status["state"] == "connected").await;
    assert_eq!(connected["pending"], Value::Null);
    assert!(connected["gateway"]["version"].is_string(), "{connected}");
    assert!(connected["generation"].as_u64() > waiting["generation"].as_u64());
    assert!(connected["since"].as_u64() >= waiting["since"].as_u64());
    assert_eq!(connected["nextRetryAt"], Value::Null);
}

#[tokio::test]
async fn a_surface_that_waits_for_approval_is_a_state_of_its_own() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let socket = socket_of(&home);
    let waiting = status_with(&socket, |status| status["state"] == "awaiting-surface").await;
    let command = waiting["pending"]["command"].as_str().unwrap();
    assert!(command.starts_with("openclaw nodes "), "{command}");
}

#[tokio::test]
async fn running_commands_are_counted_also_those_that_wait() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    fs::write(
        home.state_dir().join("openclaw-node.json5"),
        "{ exec: { maxConcurrent: 1 } }",
    )
    .unwrap();
    let mut node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let pid_file = home.path().join("pids");
    let script = r#"echo $$ >> "$0"; exec sleep 300"#;
    let run = json!({ "command": ["/bin/sh", "-c", script, pid_file] });
    for _ in 0..3 {
        send(&gateway, &view, "system.run", params(&run)).await;
    }
    pids_in(&pid_file, 1).await;
    let socket = socket_of(&home);
    let busy = status_with(&socket, |status| status["queued"] == 2).await;
    assert_eq!(busy["running"], 1);
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code().await, 143, "{node}");
}

#[tokio::test]
async fn how_a_connection_was_lost_is_told() {
    let gateway = gateway().await;
    let (home, _node, _) = admitted(&gateway).await;
    let socket = socket_of(&home);
    let before = status_with(&socket, |status| status["state"] == "connected").await;
    gateway.stop();
    let lost = status_with(&socket, |status| status["state"] == "connecting").await;
    assert!(lost["lastClose"]["code"].is_u64(), "{lost}");
    assert!(lost["lastClose"]["at"].as_u64() >= before["since"].as_u64());
    assert_eq!(lost["gateway"]["version"], Value::Null);
}

#[tokio::test]
async fn how_the_node_last_ended_is_told_by_the_next_one() {
    let port = dead_port().await;
    let home = Home::new();
    let socket = socket_of(&home);
    let mut node = home.run(port).start();
    status_with(&socket, |_| true).await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.exit_code().await, 130, "{node}");

    let node = home.run(port).start();
    let after_signal = status_with(&socket, |_| true).await;
    assert_eq!(after_signal["lastExit"]["code"], 130);
    assert_eq!(after_signal["lastExit"]["reason"], "stopped by SIGINT");
    node.kill().await;
    assert!(socket.exists(), "a killed node removes nothing");
    assert_eq!(status(&socket).await, None);

    let _node = home.run(port).start();
    let after_kill = status_with(&socket, |_| true).await;
    assert_eq!(after_kill["lastExit"]["code"], Value::Null);
    let reason = after_kill["lastExit"]["reason"].as_str().unwrap();
    assert!(reason.contains("killed"), "{reason}");
    assert!(after_kill["lastExit"]["at"].as_u64() > after_signal["lastExit"]["at"].as_u64());
}

#[tokio::test]
async fn a_refused_credential_and_a_refused_configuration_are_last_exits() {
    let gateway = gateway().await;
    let home = Home::new();
    let wrong = home
        .run_without_token(gateway.port())
        .env("OPENCLAW_GATEWAY_TOKEN", "wrong");
    let mut node = wrong.start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    let last_exit = || {
        let database = rusqlite::Connection::open(home.database()).unwrap();
        let row = "SELECT exit_code, exit_reason FROM node_life WHERE running = 0";
        database
            .query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    let (code, reason): (i64, String) = last_exit();
    assert_eq!(code, 1);
    assert!(reason.contains("AUTH_TOKEN_MISMATCH"), "{reason}");

    home.configure(&json!({ "gateway": { "port": "not a port" }, "tools": 5 }));
    let output = home.run(gateway.port()).output().await;
    assert_eq!(output.status.code(), Some(1));
    let (code, reason): (i64, String) = last_exit();
    assert_eq!(code, 1);
    assert!(reason.contains("openclaw.json"), "{reason}");
}

#[tokio::test]
async fn a_state_folder_with_a_long_path_has_its_socket_in_the_runtime_folder() {
    let port = dead_port().await;
    let home = Home::new();
    let runtime = home.folder("run");
    let long = home.folder(&format!("state/{}", "x".repeat(100)));
    let node = home
        .run(port)
        .env("OPENCLAW_STATE_DIR", &long)
        .env("XDG_RUNTIME_DIR", &runtime)
        .start();
    let socket = until("a socket in the runtime folder", || {
        let mut entries = fs::read_dir(&runtime).unwrap();
        entries.next().map(|entry| entry.unwrap().path())
    })
    .await;
    let name = socket.file_name().unwrap().to_str().unwrap();
    assert!(
        name.starts_with("openclaw-node-") && name.ends_with(".sock"),
        "{name}"
    );
    status_with(&socket, |status| status["state"] == "connecting").await;
    node.stop().await;
    assert!(!socket.exists());

    let node = home.run(port).env("OPENCLAW_STATE_DIR", &long).start();
    node.line("no control socket").await;
    node.line("node host gateway connect failed: ").await;
}

/// A control client that connects and says nothing.
async fn silent(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).await.unwrap()
}

#[tokio::test]
async fn clients_that_say_nothing_or_nonsense_hold_nobody_up() {
    let gateway = gateway().await;
    let (home, _node, view) = admitted(&gateway).await;
    let socket = socket_of(&home);
    let mut silent_clients = Vec::new();
    for _ in 0..12 {
        silent_clients.push(silent(&socket).await);
    }
    answers(&gateway, &view).await;
    status_with(&socket, |status| status["state"] == "connected").await;

    let long = [b'x'; 100_000];
    for nonsense in [
        &b"\n"[..],
        b"status\n",
        b"{\"method\":\"stop\"}\n",
        b"\xff\xfe\n",
        &long,
    ] {
        match ask(&socket, nonsense).await {
            Ok(answer) if answer.is_empty() => {}
            Ok(answer) => {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                assert_eq!(answer["ok"], false, "{answer}");
                assert!(answer["error"].is_string(), "{answer}");
            }
            // It hangs up on a line that is too long.
            Err(error) => assert!(nonsense.len() > 1000, "{error}"),
        }
    }
    answers(&gateway, &view).await;
    status_with(&socket, |status| status["state"] == "connected").await;
}

#[tokio::test]
async fn what_stands_in_the_sockets_place_is_left_alone_and_the_node_runs_without() {
    let gateway = gateway().await;
    let home = Home::new();
    let folder = home.folder(".openclaw");
    fs::write(folder.join("node.sock"), "mine").unwrap();
    let node = home.run(gateway.port()).start();
    node.line("no control socket").await;
    gateway.admit(DEADLINE).await.unwrap();
    node.stop().await;
    offline(&gateway).await;
    assert_eq!(
        fs::read_to_string(folder.join("node.sock")).unwrap(),
        "mine"
    );
}

/// The `node` member of `status --json`.
async fn told_by_command(home: &Home) -> Value {
    let output = home.program(["status", "--json"]).output().await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["node"].clone()
}

async fn lines_of_command(home: &Home) -> String {
    let output = home.program(["status"]).output().await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_command_shows_a_running_node_a_frozen_one_and_one_that_is_down() {
    let gateway = gateway().await;
    let home = Home::new();
    let never_ran = told_by_command(&home).await;
    assert_eq!(never_ran["state"], "stopped");
    assert_eq!(never_ran["lastExit"], Value::Null);
    assert!(!lines_of_command(&home).await.contains("Node:"));
    assert!(!home.database().exists(), "looking makes nothing");

    let mut node = home.run(gateway.port()).start();
    gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    let running = told_by_command(&home).await;
    assert_eq!(running["pid"], node.pid().as_raw());
    assert!(running["gateway"]["version"].is_string(), "{running}");
    let lines = lines_of_command(&home).await;
    assert!(lines.contains("Node: connected"), "{lines}");
    assert!(lines.contains("Commands: 0 running, 0 queued"), "{lines}");

    node.signal(Signal::SIGSTOP);
    let frozen = told_by_command(&home).await;
    assert_eq!(frozen["state"], Value::Null);
    let reason = frozen["reason"].as_str().unwrap();
    assert!(reason.contains("does not answer"), "{reason}");
    assert_eq!(frozen["pid"], node.pid().as_raw());
    assert_eq!(frozen["gateway"]["url"], running["gateway"]["url"]);
    assert!(
        lines_of_command(&home)
            .await
            .contains("Node: not answering")
    );
    node.signal(Signal::SIGCONT);

    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code().await, 143, "{node}");
    let down = told_by_command(&home).await;
    assert_eq!(down["state"], "stopped");
    assert_eq!(down["lastExit"]["code"], 143);
    assert_eq!(down["since"], down["lastExit"]["at"]);
    assert_eq!(down["pid"], Value::Null);
    assert_eq!(down["gateway"]["url"], running["gateway"]["url"]);
    let lines = lines_of_command(&home).await;
    assert!(lines.contains("Node: stopped since "), "{lines}");
    assert!(
        lines.contains("Last exit: code 143, stopped by SIGTERM"),
        "{lines}"
    );
}

#[tokio::test]
async fn a_watcher_sees_each_change_and_ends_with_its_reader() {
    let gateway = gateway().await;
    let (home, node, _) = admitted(&gateway).await;
    let mut watcher = home
        .program(["status", "--watch", "--json"])
        .spawn_with_output();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut sees = async |state: &str| {
        loop {
            let line = timeout(DEADLINE, lines.next_line())
                .await
                .expect("a line in time");
            let status: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
            if status["node"]["state"] == state {
                return;
            }
        }
    };
    sees("connected").await;
    node.stop().await;
    sees("stopped").await;
    drop(lines);
    let _node = home.run(gateway.port()).start();
    let ended = timeout(DEADLINE, watcher.wait()).await.expect("it ends");
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn another_user_is_told_nothing_and_root_everything() {
    let Some(account) = Account::ordinary() else {
        return println!("skipped: only root can act for other users");
    };
    let gateway = gateway().await;
    let home = Home::of(account);
    let node = home.run(gateway.port()).start();
    gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    let socket = socket_of(&home);
    assert!(status(&socket).await.is_some(), "root is told");

    // Even where the modes would let others in.
    for open in [home.path(), &home.state_dir(), &socket] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let stranger = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let output = tokio::process::Command::new(home.path().join("openclaw-node"))
        .args(["status", "--json"])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .uid(stranger.uid.as_raw())
        .gid(stranger.gid.as_raw())
        .output()
        .await
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["node"]["generation"], Value::Null, "{told}");
    assert_ne!(told["node"]["state"], "connected", "{told}");
    node.stop().await;
}
