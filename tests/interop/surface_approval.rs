//! The second gate: a connected node's commands are withheld until an operator approves them, and
//! then work on the live connection.

use gateway::Release;
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::waiting::{PATIENCE, eventually};

on_each_release!(commands_are_withheld_until_approved_and_then_work_on_the_live_connection);

async fn commands_are_withheld_until_approved_and_then_work_on_the_live_connection(
    release: Release,
) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let mut node = home.start(Start::with_token(gateway.address(), TOKEN));

    let before = operator.connected_node(home.name()).await;
    let node_id = before["nodeId"].as_str().unwrap();
    assert_eq!(before["commands"], json!([]));
    let which = json!({ "bins": ["sh"] });
    let refused = operator
        .invoke(node_id, "system.which", which.clone())
        .await
        .unwrap_err();
    match release {
        Release::May => assert_eq!(refused.details["reason"], "command not allowlisted"),
        Release::September => assert_eq!(refused.details["code"], "PAIRING_CHANGED"),
    }

    match release {
        // This release does not tell nodes.
        Release::May => {
            node.wait_for_line("openclaw nodes pending", 1).await;
            operator.approve_surface(home.name()).await;
        }
        Release::September => {
            let hint = node.wait_for_line("openclaw nodes approve", 1).await;
            let request_id = operator.approve_surface(home.name()).await;
            assert!(
                hint.ends_with(&format!("openclaw nodes approve {request_id}")),
                "{hint}"
            );
            node.wait_for_line("commands approved by the gateway", 1)
                .await;
            assert_eq!(node.lines("openclaw nodes approve").len(), 1);
        }
    }

    let found = eventually("system.which works", PATIENCE, async || {
        operator
            .invoke(node_id, "system.which", which.clone())
            .await
    })
    .await;
    assert_eq!(found, json!({ "bins": { "sh": "/usr/bin/sh" } }));
    let after = operator.connected_node(home.name()).await;
    assert_eq!(after["connectedAtMs"], before["connectedAtMs"]);
    assert_eq!(node.lines("node host gateway connected").len(), 1);
}
