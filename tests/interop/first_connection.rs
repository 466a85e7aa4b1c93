//! The first connection on loopback needs nobody, and leaves a device token that serves alone.

use std::os::unix::fs::PermissionsExt as _;

use gateway::Release;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;

on_each_release!(the_first_connection_is_silent_and_its_device_token_serves_the_next);

async fn the_first_connection_is_silent_and_its_device_token_serves_the_next(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);

    let mut node = home.start(Start::with_token(gateway.address(), TOKEN));
    let connected = format!("node host gateway connected: ws://{}", gateway.address());
    node.wait_for_line(&connected, 1).await;
    let listed = operator.connected_node(home.name()).await;
    assert_eq!(listed["platform"], std::env::consts::OS);
    assert_eq!(operator.pending_device(home.name()).await, None);
    let device = operator.paired_device(home.name()).await.unwrap();
    assert_eq!(device["deviceId"], listed["nodeId"]);
    assert_eq!(node.lines("openclaw devices approve"), [""; 0]);
    assert_eq!(node.stop().await.code(), Some(143));

    let state = home.path().join("state/state");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    assert_eq!(mode(&state.join("openclaw-node.sqlite")), 0o600);

    let mut node = home.start(Start::without_token(gateway.address()));
    node.wait_for_line(&connected, 1).await;
    let again = operator.connected_node(home.name()).await;
    assert_eq!(again["nodeId"], listed["nodeId"]);
}
