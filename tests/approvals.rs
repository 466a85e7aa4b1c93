//! The approvals document under use: whoever edits it is answered, and what was acknowledged
//! stands, whatever else is written meanwhile.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::home::Home;
use common::invoke::{Outcome, call, outcome, params, send};
use common::{DEADLINE, answers, gateway};
use gateway::{GatewayHandle, NodeView};
use serde_json::{Value, json};
use tokio::time::Instant;

const GET: &str = "system.execApprovals.get";
const SET: &str = "system.execApprovals.set";

/// Long enough for the node to write twice which rules were used (D11: every 2 s).
const TWO_BATCHES: Duration = Duration::from_secs(5);

/// A document in which `echo` may run, told apart by a rule of its own.
fn document(marker: usize) -> Value {
    json!({
        "version": 1,
        "defaults": { "security": "allowlist", "ask": "off" },
        "agents": { "main": { "allowlist": [
            { "pattern": "echo" },
            { "pattern": format!("/nonexistent/{marker}") },
        ] } },
    })
}

async fn set(gateway: &GatewayHandle, node: &NodeView, file: &Value, base: &Value) -> Outcome {
    call(
        gateway,
        node,
        SET,
        &json!({ "file": file, "baseHash": base }),
    )
    .await
}

async fn get(gateway: &GatewayHandle, node: &NodeView) -> Value {
    call(gateway, node, GET, &json!({})).await.payload()
}

#[tokio::test]
async fn an_edit_is_neither_refused_nor_undone_because_a_rule_is_used() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let run = json!({ "command": ["echo", "used"] });
    let mut base = Value::Null;
    let end = Instant::now() + TWO_BATCHES;
    for marker in 0.. {
        let file = document(marker);
        let answer = set(&gateway, &view, &file, &base).await;
        assert!(answer.is_ok(), "edit {marker} was refused: {answer:?}");
        base = answer.payload()["hash"].clone();
        let outcome = call(&gateway, &view, "system.run", &run).await;
        assert!(outcome.is_ok(), "edit {marker} does not count: {outcome:?}");
        let current = get(&gateway, &view).await;
        assert_eq!(current["hash"], base, "edit {marker} was undone: {current}");
        let rule = &current["file"]["agents"]["main"]["allowlist"][1];
        assert_eq!(rule["pattern"], format!("/nonexistent/{marker}"), "{node}");
        if Instant::now() > end {
            break;
        }
    }
}

#[tokio::test]
async fn of_edits_at_the_same_time_one_counts_and_every_one_is_answered() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let first = set(&gateway, &view, &document(0), &Value::Null)
        .await
        .payload();
    let mut edits = Vec::new();
    for marker in 1..=8 {
        let edit = json!({ "file": document(marker), "baseHash": first["hash"] });
        edits.push(send(&gateway, &view, SET, params(&edit)).await);
    }
    let mut accepted = Vec::new();
    for edit in &edits {
        let answer = outcome(&gateway, edit).await;
        if answer.is_ok() {
            accepted.push(answer.payload());
        } else {
            assert_eq!(answer.error().0, "INVALID_REQUEST");
            assert!(
                answer.error().1.contains("changed; reload and retry"),
                "{answer:?}"
            );
        }
    }
    assert_eq!(accepted.len(), 1);
    assert_eq!(get(&gateway, &view).await["hash"], accepted[0]["hash"]);
    answers(&gateway, &view).await;
}
