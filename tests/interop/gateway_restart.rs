//! A gateway restarts in the middle of a node's life.

use gateway::Release;
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::waiting::{PATIENCE, eventually};

on_each_release!(a_node_comes_back_by_itself_after_a_gateway_restart);

async fn a_node_comes_back_by_itself_after_a_gateway_restart(release: Release) {
    let mut gateway = GatewayProcess::start(release, json!({})).await;
    let home = NodeHome::new(Host::Ours);
    let mut node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = gateway.operator().await.admit(home.name()).await;

    gateway.stop().await;
    node.wait_for_line("node host gateway closed (1012)", 1)
        .await;

    let gateway = gateway.start_again().await;
    node.wait_for_line("node host gateway connected", 2).await;
    let operator = gateway.operator().await;
    let found = eventually("system.which works", PATIENCE, async || {
        operator
            .invoke(&node_id, "system.which", json!({ "bins": ["true"] }))
            .await
    })
    .await;
    assert_eq!(found, json!({ "bins": { "true": "/usr/bin/true" } }));
    assert!(!node.has_ended());
}
