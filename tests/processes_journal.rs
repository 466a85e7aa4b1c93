//! What is remembered of runs: the journal, and the results that repeated requests are answered
//! with.

#![cfg(test)]

mod common;

use std::fs;
use std::path::Path;

use common::home::Home;
use common::invoke::{Outcome, cancel, outcome, params};
use common::node::Node;
use common::process::pids_in;
use common::{DEADLINE, back_after, gateway, until};
use gateway::{GatewayHandle, Injection, NodeView};
use serde_json::{Value, json};
use state::{Database, JournalRow};
use uuid::Uuid;

async fn trusting_node(gateway: &GatewayHandle) -> (Home, Node, NodeView) {
    let home = Home::new();
    home.allow_everything();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    (home, node, view)
}

/// Sends a run with an idempotency key and returns the id of the invoke.
async fn send_keyed(gateway: &GatewayHandle, node: &NodeView, key: &str, run: &Value) -> String {
    let id = Uuid::new_v4().to_string();
    let mut run = run.clone();
    // As a gateway does with every dispatch.
    run["runId"] = json!(Uuid::new_v4().to_string());
    let request = json!({
        "id": id,
        "nodeId": node.node_id,
        "command": "system.run",
        "paramsJSON": params(&run),
        "timeoutMs": 30_000,
        "idempotencyKey": key,
    });
    let injection = Injection::Event("node.invoke.request".to_owned(), request);
    assert!(gateway.inject(node.connection, injection).await.unwrap());
    id
}

async fn call_keyed(gateway: &GatewayHandle, node: &NodeView, key: &str, run: &Value) -> Outcome {
    let id = send_keyed(gateway, node, key, run).await;
    outcome(gateway, &id).await
}

/// A run that leaves a trace each time.
fn tracing_run(trace: &Path) -> Value {
    let script = r#"echo ran >> "$0"; echo "out $$""#;
    json!({ "command": ["/bin/sh", "-c", script, trace] })
}

fn traces(trace: &Path) -> usize {
    fs::read_to_string(trace)
        .unwrap_or_default()
        .lines()
        .count()
}

/// The journal, newest run first, once it says what it should.
async fn journal(home: &Home, is_complete: impl Fn(&[JournalRow]) -> bool) -> Vec<JournalRow> {
    until("the journal is written", || {
        let database = Database::open_read_only(&home.state_dir()).unwrap()?;
        let rows = database.journal(100).unwrap();
        is_complete(&rows).then_some(rows)
    })
    .await
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_result() {
    let gateway = gateway().await;
    let (home, node, view) = trusting_node(&gateway).await;
    let trace = home.path().join("trace");
    let run = tracing_run(&trace);
    let first = call_keyed(&gateway, &view, "once", &run).await.payload();
    let second = call_keyed(&gateway, &view, "once", &run).await.payload();
    assert_eq!(first, second);
    assert_eq!(traces(&trace), 1);

    let mut other = run.clone();
    other["cwd"] = json!("/");
    let refused = call_keyed(&gateway, &view, "once", &other).await;
    assert_eq!(refused.error().0, "INVALID_REQUEST");
    assert_eq!(traces(&trace), 1);

    let twice = call_keyed(&gateway, &view, "twice", &run).await.payload();
    assert_ne!(first["stdout"], twice["stdout"]);
    assert_eq!(traces(&trace), 2);

    node.stop().await;
    let _node = home.run(gateway.port()).start();
    let view = back_after(&gateway, view.connection).await;
    let after_restart = call_keyed(&gateway, &view, "once", &run).await.payload();
    assert_eq!(first, after_restart);
    assert_eq!(traces(&trace), 2);
}

#[tokio::test]
async fn a_request_that_is_repeated_while_it_runs_is_run_once_and_answered_twice() {
    let gateway = gateway().await;
    let (home, _node, view) = trusting_node(&gateway).await;
    let file = home.path().join("pids");
    let script = r#"echo $$ >> "$0"; until [ -e "$0.go" ]; do sleep 0.05; done; echo done"#;
    let run = json!({ "command": ["/bin/sh", "-c", script, file] });
    let first = send_keyed(&gateway, &view, "k", &run).await;
    pids_in(&file, 1).await;
    let second = send_keyed(&gateway, &view, "k", &run).await;
    let third = send_keyed(&gateway, &view, "k", &run).await;
    // Somebody still waits, so the run goes on.
    cancel(&gateway, &view, &first).await;
    fs::write(home.path().join("pids.go"), "").unwrap();
    for id in [second, third] {
        assert_eq!(outcome(&gateway, &id).await.payload()["stdout"], "done\n");
    }
    assert_eq!(traces(&file), 1);
}

#[tokio::test]
async fn a_denial_is_not_remembered() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let trace = home.path().join("trace");
    let run = tracing_run(&trace);
    let denied = call_keyed(&gateway, &view, "k", &run).await;
    assert_eq!(denied.error().0, "SYSTEM_RUN_DENIED");

    node.stop().await;
    home.allow_everything();
    let _node = home.run(gateway.port()).start();
    let view = back_after(&gateway, view.connection).await;
    assert!(call_keyed(&gateway, &view, "k", &run).await.is_ok());
    assert_eq!(traces(&trace), 1);
}

#[tokio::test]
async fn the_journal_tells_what_ran_and_what_became_of_it() {
    let gateway = gateway().await;
    let (home, _node, view) = trusting_node(&gateway).await;
    let run = json!({
        "command": ["/bin/sh", "-c", "echo hello; exit 3"],
        "agentId": "ops",
        "sessionKey": "agent:ops:main",
    });
    let invoke = send_keyed(&gateway, &view, "k", &run).await;
    outcome(&gateway, &invoke).await;
    let rows = journal(&home, |rows| rows.iter().any(|row| row.exited.is_some())).await;
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    let decided = &row.decided;
    assert_eq!(decided.invoke_id, invoke);
    assert_eq!(
        (decided.agent.as_str(), decided.session.as_str()),
        ("ops", "agent:ops:main")
    );
    assert!(decided.command.contains("exit 3"), "{decided:?}");
    assert_eq!(decided.decision, "allow");
    assert_eq!(decided.rule.as_deref(), Some("security=full"));
    assert!(decided.decided_at_ms >= decided.accepted_at_ms);
    let (started, exited) = (row.started.as_ref().unwrap(), row.exited.as_ref().unwrap());
    assert!(started.process.pid > 1 && started.at_ms >= decided.decided_at_ms);
    assert_eq!(exited.ending, "exited");
    assert_eq!((exited.exit_code, exited.signal), (Some(3), None));
    assert!(exited.duration_ms.is_some());
    assert_eq!(exited.output_bytes, 6);
}

#[tokio::test]
async fn the_journal_tells_of_denials_and_failed_starts() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let missing = json!({ "command": ["/definitely/not/here"] });
    assert!(!call_keyed(&gateway, &view, "a", &missing).await.is_ok());
    node.stop().await;
    home.allow_everything();
    let _node = home.run(gateway.port()).start();
    let view = back_after(&gateway, view.connection).await;
    assert!(call_keyed(&gateway, &view, "b", &missing).await.is_ok());

    let rows = journal(&home, |rows| rows.iter().any(|row| row.exited.is_some())).await;
    let [failed, denied] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    assert_eq!(failed.exited.as_ref().unwrap().ending, "not-started");
    assert_eq!(
        (&failed.started, failed.decided.decision.as_str()),
        (&None, "allow")
    );
    assert_eq!((&denied.started, &denied.exited), (&None, &None));
    assert!(["allowlist-miss", "approval-required"].contains(&denied.decided.decision.as_str()));
}

#[tokio::test]
async fn the_journal_survives_the_death_of_the_node() {
    let gateway = gateway().await;
    let (home, node, view) = trusting_node(&gateway).await;
    let file = home.path().join("pids");
    let run = json!({ "command": ["/bin/sh", "-c", r#"echo $$ >> "$0"; sleep 300"#, file] });
    send_keyed(&gateway, &view, "k", &run).await;
    let pid = pids_in(&file, 1).await[0];
    journal(&home, |rows| rows.iter().any(|row| row.started.is_some())).await;
    node.kill().await;
    let _node = home.run(gateway.port()).start();
    let is_closed = |rows: &[JournalRow]| rows.iter().any(|row| row.exited.is_some());
    let rows = journal(&home, is_closed).await;
    assert_eq!(rows[0].started.as_ref().unwrap().process.pid, pid.as_raw());
    assert_eq!(rows[0].exited.as_ref().unwrap().ending, "lost");
}
