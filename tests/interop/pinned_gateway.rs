//! A gateway with TLS, a certificate of its own, and a password.

use gateway::Release;
use gateway::relay::{Relay, RelayOptions};
use serde_json::json;

use crate::gateway_process::{GatewayProcess, PASSWORD};
use crate::node::{Host, NodeHome};
use crate::on_each_release;
use crate::waiting::PATIENCE;

on_each_release!(a_pinned_gateway_is_told_the_password_and_any_other_nothing);

async fn a_pinned_gateway_is_told_the_password_and_any_other_nothing(release: Release) {
    let config = json!({ "gateway": {
        "tls": { "enabled": true, "autoGenerate": true },
        "auth": { "mode": "password", "password": PASSWORD },
    } });
    let gateway = GatewayProcess::start(release, config).await;
    let operator = gateway.operator().await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let (host, port) = (
        relay.address().ip().to_string(),
        relay.address().port().to_string(),
    );
    let home = NodeHome::new(Host::Ours);
    let printed = home.output(&["pin", &format!("{host}:{port}")]);
    let fingerprint = printed.trim_end().strip_prefix("sha256:").unwrap();
    assert_eq!(fingerprint.len(), 64, "{printed}");

    let password = [("OPENCLAW_GATEWAY_PASSWORD", PASSWORD)];
    let run = [
        "run",
        "--host",
        &host,
        "--port",
        &port,
        "--display-name",
        home.name(),
    ];
    let wrong = fingerprint.replace(|digit: char| digit != '0', "0");
    let before = relay.accepted();
    let mut node = home.start_with(
        &[&run[..], &["--tls-fingerprint", &wrong]].concat(),
        &password,
    );
    let line = node.wait_for_line("fingerprint mismatch", 1).await;
    assert!(line.contains(fingerprint), "{line}");
    assert!(relay.wait_for_accepted(before + 3, PATIENCE).await);
    assert_eq!(operator.pending_device(home.name()).await, None);
    assert_eq!(operator.paired_device(home.name()).await, None);
    assert_eq!(node.stop().await.code(), Some(143));

    let mut node = home.start_with(
        &[&run[..], &["--tls-fingerprint", fingerprint]].concat(),
        &password,
    );
    node.wait_for_line("node host gateway connected: wss://", 1)
        .await;
    let node_id = operator.admit(home.name()).await;
    let which = json!({ "bins": ["true"] });
    let found = operator.invoke(&node_id, "system.which", which).await;
    assert_eq!(found.unwrap()["bins"]["true"], "/usr/bin/true");
    assert_eq!(node.stop().await.code(), Some(143));

    // Pin and device token are kept, and are enough.
    let mut node = home.start_with(&["run"], &[]);
    node.wait_for_line("node host gateway connected: wss://", 1)
        .await;
}
