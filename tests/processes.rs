//! What commands may take, and what is left of them: bounds, limits, and the end of everything that
//! a command started.

#![cfg(test)]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use common::home::{Account, Home};
use common::invoke::{answers_to, call, cancel, exec_event, outcome, params, send};
use common::node::Node;
use common::process::{gone, is_running, pids_in};
use common::{DEADLINE, answers, back_after, gateway, until};
use gateway::{GatewayHandle, Injection, NodeView};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};
use serde_json::{Value, json};

/// Leaves a daemon in a session of its own, without parent, output or input of the run, and stays.
/// Both write their process ids to the file that is `$0`.
const DAEMONIC: &str = r#"(setsid sh -c 'echo $$ >> "$0"; exec sleep 300' "$0" </dev/null >/dev/null 2>&1 &)
echo $$ >> "$0"; sleep 300"#;

/// An account that exists nowhere.
const LONELY_USER: u32 = 64_123;

/// A node that may run everything, with these settings of its own.
async fn node_with(gateway: &GatewayHandle, settings: &Value) -> (Home, Node, NodeView) {
    node_of(Home::new(), gateway, settings).await
}

async fn node_of(home: Home, gateway: &GatewayHandle, settings: &Value) -> (Home, Node, NodeView) {
    home.allow_everything();
    let file = home.folder(".openclaw").join("openclaw-node.json5");
    fs::write(&file, settings.to_string()).unwrap();
    home.give_away(&file);
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    (home, node, view)
}

fn shell(script: &str, argument: impl AsRef<Path>) -> Value {
    json!({ "command": ["/bin/sh", "-c", script, argument.as_ref()] })
}

/// Processes whose command line has `marker` as one of its words.
fn processes_with(marker: &str) -> Vec<Pid> {
    let listed = fs::read_dir("/proc").unwrap();
    let pids = listed.filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_marked = words
            .split(|byte| *byte == 0)
            .any(|word| word == marker.as_bytes());
        (is_marked && is_running(Pid::from_raw(pid))).then(|| Pid::from_raw(pid))
    });
    pids.collect()
}

/// Dead children of a process that nobody has waited for.
fn zombies_of(parent: Pid) -> usize {
    let listed = fs::read_dir("/proc").unwrap();
    let stats = listed.filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').map(str::to_owned);
        Some((fields.next()?, fields.next()?))
    });
    let parent = parent.to_string();
    stats
        .filter(|(state, of)| state == "Z" && *of == parent)
        .count()
}

#[tokio::test]
async fn a_daemon_does_not_escape_the_cancel_of_its_run() {
    let gateway = gateway().await;
    let (home, node, view) = node_with(&gateway, &json!({})).await;
    let file = home.path().join("pids");
    let invoke = send(
        &gateway,
        &view,
        "system.run",
        params(&shell(DAEMONIC, &file)),
    )
    .await;
    let pids = pids_in(&file, 2).await;
    assert!(pids.iter().all(|pid| is_running(*pid)));
    cancel(&gateway, &view, &invoke).await;
    for pid in pids {
        gone(pid).await;
    }
    until("the dead are waited for", || {
        (zombies_of(node.pid()) == 0).then_some(())
    })
    .await;
    assert_eq!(answers_to(&gateway, &invoke).await, 0);
}

#[tokio::test]
async fn a_daemon_that_a_finished_run_left_is_waited_for_when_it_ends() {
    let gateway = gateway().await;
    let (home, node, view) = node_with(&gateway, &json!({})).await;
    let file = home.path().join("pids");
    let script =
        r#"(setsid sh -c 'echo $$ >> "$0"; exec sleep 300' "$0" </dev/null >/dev/null 2>&1 &)"#;
    let done = call(&gateway, &view, "system.run", &shell(script, &file)).await;
    assert_eq!(done.payload()["success"], true);
    let daemon = pids_in(&file, 1).await[0];
    assert!(
        is_running(daemon),
        "a command that succeeds may leave something running"
    );
    nix::sys::signal::kill(daemon, Signal::SIGKILL).unwrap();
    until("the daemon leaves no zombie", || {
        (!Path::new(&format!("/proc/{daemon}")).exists()).then_some(())
    })
    .await;
    assert_eq!(zombies_of(node.pid()), 0);
}

#[tokio::test]
async fn a_fork_bomb_is_kept_small_and_ends_with_its_time() {
    if !Uid::effective().is_root() {
        return;
    }
    // Nobody else's processes count for the limit of a user that has no other.
    let account = Account {
        uid: Uid::from_raw(LONELY_USER),
        gid: Gid::from_raw(LONELY_USER),
    };
    let gateway = gateway().await;
    let settings = json!({ "exec": { "limits": { "pids": 48 } } });
    let (_home, node, view) = node_of(Home::of(account), &gateway, &settings).await;
    let marker = format!("bomb-{}", uuid::Uuid::new_v4());
    // bash tries again where others give up when they cannot fork.
    let script = "bomb() { while :; do bomb & done; }; bomb";
    let command = json!(["/bin/bash", "-c", script, marker]);
    let bomb = json!({ "command": command, "timeoutMs": 8_000 });
    let invoke = send(&gateway, &view, "system.run", params(&bomb)).await;
    until("the bomb goes off", || {
        (processes_with(&marker).len() > 10).then_some(())
    })
    .await;
    assert!(processes_with(&marker).len() <= 48);
    answers(&gateway, &view).await;
    let other = json!({ "command": ["/bin/true"] });
    let other = call(&gateway, &view, "system.run", &other).await.payload();
    assert_eq!(other["success"], true, "{other}\n{node}");

    let payload = outcome(&gateway, &invoke).await.payload();
    assert_eq!(payload["timedOut"], true, "{payload}");
    assert_eq!(processes_with(&marker), [], "{node}");
}

#[tokio::test]
async fn a_run_beyond_the_bounds_is_refused_without_an_event() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "maxConcurrent": 1, "maxQueued": 1 } });
    let (home, _node, view) = node_with(&gateway, &settings).await;
    let file = home.path().join("pids");
    let patient = shell(r#"echo $$ >> "$0"; sleep 300"#, &file);
    let running = send(&gateway, &view, "system.run", params(&patient)).await;
    pids_in(&file, 1).await;
    let queued = send(
        &gateway,
        &view,
        "system.run",
        params(&shell("echo queued", "sh")),
    )
    .await;
    let refused = call(&gateway, &view, "system.run", &shell("echo refused", "sh")).await;
    assert_eq!(
        refused.error(),
        ("UNAVAILABLE", "node busy: 1 running, 1 queued")
    );
    let events = gateway.inspect(move |snapshot| {
        let events = snapshot
            .records()
            .filter_map(|record| exec_event(record, view.connection));
        events.count()
    });
    assert_eq!(events.await.unwrap(), 0);

    let view = gateway.admit(DEADLINE).await.unwrap();
    cancel(&gateway, &view, &running).await;
    let queued = outcome(&gateway, &queued).await.payload();
    assert_eq!(queued["stdout"], "queued\n");
}

#[tokio::test]
async fn a_cancelled_run_leaves_the_queue() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "maxConcurrent": 1 } });
    let (home, _node, view) = node_with(&gateway, &settings).await;
    let file = home.path().join("pids");
    let patient = shell(r#"echo $$ >> "$0"; sleep 300"#, &file);
    let running = send(&gateway, &view, "system.run", params(&patient)).await;
    pids_in(&file, 1).await;
    let trace = home.path().join("trace");
    let unwanted = shell(r#"echo unwanted >> "$0""#, &trace);
    let unwanted = send(&gateway, &view, "system.run", params(&unwanted)).await;
    let wanted = shell(r#"echo wanted >> "$0""#, &trace);
    let wanted = send(&gateway, &view, "system.run", params(&wanted)).await;
    cancel(&gateway, &view, &unwanted).await;
    cancel(&gateway, &view, &running).await;
    assert!(outcome(&gateway, &wanted).await.is_ok());
    assert_eq!(fs::read_to_string(trace).unwrap(), "wanted\n");
    assert_eq!(answers_to(&gateway, &unwanted).await, 0);
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_or_refused_but_never_lost() {
    const REQUESTS: usize = 1_000;
    let gateway = gateway().await;
    let settings = json!({ "exec": { "maxConcurrent": 8, "maxQueued": 100 } });
    let (_home, _node, view) = node_with(&gateway, &settings).await;
    let run = params(&json!({ "command": ["/bin/true"] }));
    let mut sent = Vec::new();
    for _ in 0..REQUESTS {
        sent.push(send(&gateway, &view, "system.run", run.clone()).await);
    }
    let answered = gateway.wait_for(DEADLINE, |snapshot| {
        let mut answers: HashMap<String, Vec<Value>> = HashMap::new();
        for result in snapshot.results() {
            let id = result["id"].as_str().unwrap_or("").to_owned();
            answers.entry(id).or_default().push(result.clone());
        }
        (answers.len() >= REQUESTS).then_some(answers)
    });
    let answered = answered.await.unwrap();
    let mut ran = 0;
    for id in &sent {
        let [answer] = answered[id].as_slice() else {
            panic!("{id} was answered more than once");
        };
        if answer["ok"] == true {
            ran += 1;
        } else {
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(
                message.starts_with("node busy: 8 running, 100 queued"),
                "{answer}"
            );
        }
    }
    assert!(ran >= 108, "{ran}");
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn a_default_timeout_counts_for_runs_that_name_none() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "defaultTimeout": "300ms" } });
    let (_home, _node, view) = node_with(&gateway, &settings).await;
    let mut sleeper = json!({ "command": ["/bin/sleep", "300"] });
    for without in [None, Some(json!(0)), Some(json!(-5)), Some(Value::Null)] {
        if let Some(timeout) = without {
            sleeper["timeoutMs"] = timeout;
        }
        let payload = call(&gateway, &view, "system.run", &sleeper)
            .await
            .payload();
        assert_eq!(
            (&payload["timedOut"], &payload["exitCode"]),
            (&json!(true), &json!(124))
        );
    }
    let own = json!({ "command": ["/bin/sleep", "1"], "timeoutMs": 20_000.5 });
    assert_eq!(
        call(&gateway, &view, "system.run", &own).await.payload()["timedOut"],
        false
    );
}

#[tokio::test]
async fn limits_reach_the_command_and_not_the_node() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "limits": { "memory": "256MiB" } } });
    let (_home, node, view) = node_with(&gateway, &settings).await;
    let script =
        "until grep -qE 'Max data size +268435456 ' /proc/self/limits; do :; done; echo limited";
    let payload = call(&gateway, &view, "system.run", &shell(script, "sh"))
        .await
        .payload();
    assert_eq!(payload["stdout"], "limited\n");
    let own = fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    assert!(!own.contains("268435456"), "{own}");
}

#[tokio::test]
async fn the_commands_of_a_connection_that_stays_away_end_after_the_grace() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "disconnectGrace": "500ms" } });
    let (home, node, view) = node_with(&gateway, &settings).await;
    let file = home.path().join("pids");
    send(
        &gateway,
        &view,
        "system.run",
        params(&shell(DAEMONIC, &file)),
    )
    .await;
    let pids = pids_in(&file, 2).await;
    gateway.stop();
    for pid in pids {
        gone(pid).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_comes_back_finds_its_commands_but_gets_no_old_result() {
    let gateway = gateway().await;
    let (home, node, view) = node_with(&gateway, &json!({})).await;
    let file = home.path().join("pids");
    let script = r#"echo $$ >> "$0"; until [ -e "$0.go" ]; do sleep 0.05; done; touch "$0.done""#;
    let invoke = send(&gateway, &view, "system.run", params(&shell(script, &file))).await;
    let pid = pids_in(&file, 1).await[0];
    gateway
        .inject(view.connection, Injection::Hangup)
        .await
        .unwrap();
    let back = back_after(&gateway, view.connection).await;
    // Longer than the grace of 5 s.
    let wait = json!({ "command": ["/bin/sleep", "6"] });
    assert!(call(&gateway, &back, "system.run", &wait).await.is_ok());
    assert!(is_running(pid), "{node}");
    fs::write(home.path().join("pids.go"), "").unwrap();
    until("the command ends by itself", || {
        home.path().join("pids.done").exists().then_some(())
    })
    .await;
    gone(pid).await;
    answers(&gateway, &back).await;
    assert_eq!(answers_to(&gateway, &invoke).await, 0);
}

#[tokio::test]
async fn commands_may_be_told_to_finish_whatever_becomes_of_the_connection() {
    let gateway = gateway().await;
    let settings = json!({ "exec": { "onDisconnect": "finish", "disconnectGrace": "0s" } });
    let (home, node, view) = node_with(&gateway, &settings).await;
    let file = home.path().join("pids");
    let script = r#"echo $$ >> "$0"; until [ -e "$0.go" ]; do sleep 0.05; done; touch "$0.done""#;
    send(&gateway, &view, "system.run", params(&shell(script, &file))).await;
    pids_in(&file, 1).await;
    gateway.stop();
    node.line("node host gateway closed").await;
    fs::write(home.path().join("pids.go"), "").unwrap();
    until("the command ends by itself", || {
        home.path().join("pids.done").exists().then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn what_a_killed_node_left_running_ends_with_the_next_start() {
    const COMMANDS: usize = 50;
    let gateway = gateway().await;
    let (home, node, view) = node_with(&gateway, &json!({})).await;
    let file = home.path().join("pids");
    for _ in 0..COMMANDS {
        send(
            &gateway,
            &view,
            "system.run",
            params(&shell(DAEMONIC, &file)),
        )
        .await;
    }
    let pids = pids_in(&file, 2 * COMMANDS).await;
    node.kill().await;
    assert!(pids.iter().all(|pid| is_running(*pid)));
    let node = home.run(gateway.port()).start();
    for pid in pids {
        gone(pid).await;
    }
    let view = back_after(&gateway, view.connection).await;
    answers(&gateway, &view).await;
    node.stop().await;
}

#[tokio::test]
async fn settings_that_are_not_understood_are_refused_before_anything_else() {
    let home = Home::new();
    let file = home.folder(".openclaw").join("openclaw-node.json5");
    fs::write(&file, "{ exec: { maxConcurent: 3 } }").unwrap();
    let output = home.run(1).output().await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("{}:1: unknown key exec.maxConcurent;", file.display());
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(!home.database().exists());
}
