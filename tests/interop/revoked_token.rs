//! An operator revokes a node's device token.

use gateway::Release;
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::Operator;

on_each_release!(a_node_with_nothing_but_a_revoked_token_ends);
on_each_release!(a_node_with_a_shared_token_asks_again_after_its_device_token_is_revoked);

async fn revoke(operator: &Operator, device_id: &str) {
    let revoke = json!({ "deviceId": device_id, "role": "node" });
    operator.call("device.token.revoke", revoke).await.unwrap();
}

async fn a_node_with_nothing_but_a_revoked_token_ends(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;
    node.stop().await;
    let mut node = home.start(Start::without_token(gateway.address()));
    node.wait_for_line("node host gateway connected", 1).await;

    revoke(&operator, &node_id).await;
    assert_eq!(node.end().await.code(), Some(1));
    assert_eq!(node.lines("node host gateway closed (4001)").len(), 1);
    let paused = node.lines("reconnect paused after close (1008)");
    assert_eq!(paused.len(), 1);
    assert!(
        paused[0].ends_with("detail=AUTH_DEVICE_TOKEN_MISMATCH; exiting for supervisor restart"),
        "{paused:?}"
    );

    // The dead token is forgotten, so there is nothing left to show.
    let mut node = home.start(Start::without_token(gateway.address()));
    assert_eq!(node.end().await.code(), Some(1));
    assert_eq!(node.lines("detail=AUTH_TOKEN_MISSING").len(), 1);
}

async fn a_node_with_a_shared_token_asks_again_after_its_device_token_is_revoked(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let mut node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;

    revoke(&operator, &node_id).await;
    node.wait_for_line("node host gateway closed (4001)", 1)
        .await;
    let line = node.wait_for_line("openclaw devices approve", 1).await;
    let request_id = operator.approve_device(home.name()).await;
    assert!(line.ends_with(&request_id), "{line}");
    node.wait_for_line("node host gateway connected", 2).await;
    operator.connected_node(home.name()).await;
}
