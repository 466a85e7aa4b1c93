//! A command that nobody waits for any more is ended with everything that it started, and nothing
//! is said about it.

#![cfg(test)]

mod common;

use std::path::PathBuf;

use common::home::Home;
use common::invoke::{answers_to, cancel, params, send};
use common::node::Node;
use common::process::{gone, is_running, pids_in};
use common::{DEADLINE, answers, back_after, gateway};
use gateway::{GatewayHandle, Injection, NodeView};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A shell and its child, both of which outlive the test unless somebody ends them.
const PATIENT: &str = r#"sleep 300 & echo $$ >> "$0"; echo $! >> "$0"; wait"#;
/// The same, deaf to the polite signal.
const STUBBORN: &str = r#"trap '' TERM; sleep 300 & echo $$ >> "$0"; echo $! >> "$0"; wait; wait"#;

struct Running {
    home: Home,
    node: Node,
    view: NodeView,
    invoke: String,
    pids: Vec<Pid>,
    run_id: String,
}

/// A node that runs `script`, which writes its process ids to the file that is its `$0`.
async fn running(gateway: &GatewayHandle, script: &str) -> Running {
    let home = Home::new();
    home.allow_everything();
    // A lost connection is not waited for.
    let settings = home.folder(".openclaw").join("openclaw-node.json5");
    std::fs::write(settings, r#"{ exec: { disconnectGrace: "0s" } }"#).unwrap();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let pid_file: PathBuf = home.path().join("pids");
    let run_id = uuid::Uuid::new_v4().to_string();
    let run = json!({ "command": ["/bin/sh", "-c", script, pid_file], "runId": run_id });
    let invoke = send(gateway, &view, "system.run", params(&run)).await;
    let pids = pids_in(&pid_file, 2).await;
    assert!(pids.iter().all(|pid| is_running(*pid)));
    Running {
        home,
        node,
        view,
        invoke,
        pids,
        run_id,
    }
}

async fn all_gone(pids: &[Pid]) {
    for pid in pids {
        gone(*pid).await;
    }
}

/// Fails the test if the node said anything about a run. Its answers come in order, so whatever
/// it said before `view` answered is there.
async fn nothing_said(gateway: &GatewayHandle, view: &NodeView, invoke: &str, run_id: &str) {
    answers(gateway, view).await;
    assert_eq!(answers_to(gateway, invoke).await, 0);
    let run_id = run_id.to_owned();
    let events = gateway.inspect(move |snapshot| {
        let about_run = |event: &Value| event["runId"] == run_id.as_str();
        ["exec.finished", "exec.denied", "exec.started"]
            .iter()
            .flat_map(|name| snapshot.events(name))
            .filter(about_run)
            .count()
    });
    assert_eq!(events.await.unwrap(), 0);
}

#[tokio::test]
async fn a_cancelled_command_ends_with_its_children_and_is_not_answered() {
    for script in [PATIENT, STUBBORN] {
        let gateway = gateway().await;
        let run = running(&gateway, script).await;
        cancel(&gateway, &run.view, &run.invoke).await;
        all_gone(&run.pids).await;
        nothing_said(&gateway, &run.view, &run.invoke, &run.run_id).await;
    }
}

#[tokio::test]
async fn a_caller_that_stops_waiting_ends_the_command() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let pid_file = home.path().join("pids");
    let invoke = json!({
        "nodeId": view.node_id,
        "command": "system.run",
        "params": { "command": ["/bin/sh", "-c", PATIENT, pid_file] },
        "timeoutMs": 1_000,
        "idempotencyKey": "once",
    });
    let error = gateway.call("node.invoke", invoke).await.unwrap_err();
    assert!(error.to_string().contains("TIMEOUT"), "{error}");
    all_gone(&pids_in(&pid_file, 2).await).await;
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn a_cancel_of_something_unknown_changes_nothing() {
    let gateway = gateway().await;
    let run = running(&gateway, PATIENT).await;
    cancel(&gateway, &run.view, "never-heard-of").await;
    answers(&gateway, &run.view).await;
    assert!(run.pids.iter().all(|pid| is_running(*pid)), "{}", run.node);
    cancel(&gateway, &run.view, &run.invoke).await;
    all_gone(&run.pids).await;
}

#[tokio::test]
async fn the_commands_of_a_lost_connection_end_and_are_not_answered_on_the_next() {
    let gateway = gateway().await;
    let run = running(&gateway, PATIENT).await;
    gateway
        .inject(run.view.connection, Injection::Hangup)
        .await
        .unwrap();
    all_gone(&run.pids).await;
    let back = back_after(&gateway, run.view.connection).await;
    nothing_said(&gateway, &back, &run.invoke, &run.run_id).await;
}

#[tokio::test]
async fn the_commands_of_others_go_on() {
    let gateway = gateway().await;
    let run = running(&gateway, PATIENT).await;
    let pid_file = run.home.path().join("others");
    let other = json!({ "command": ["/bin/sh", "-c", PATIENT, pid_file] });
    let other_invoke = send(&gateway, &run.view, "system.run", params(&other)).await;
    let others = pids_in(&pid_file, 2).await;
    cancel(&gateway, &run.view, &run.invoke).await;
    all_gone(&run.pids).await;
    answers(&gateway, &run.view).await;
    assert!(others.iter().all(|pid| is_running(*pid)), "{}", run.node);
    cancel(&gateway, &run.view, &other_invoke).await;
    all_gone(&others).await;
}
