//! A node that an operator has to let in says so once, with the command, and goes on by itself.

use gateway::Release;
use gateway::relay::{Relay, RelayOptions};
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::waiting::PATIENCE;

/// Attempts that a waiting node makes within seconds: 1 s, 2 s, then 5 s apart.
const ATTEMPTS: u64 = 4;

#[actix::test]
async fn a_waiting_node_says_so_once_and_goes_on_after_approval_on_2026_5_20() {
    let gateway = GatewayProcess::shared(Release::May).await;
    // This release takes whoever was forwarded for somebody who is not local.
    let header = Some(("X-Forwarded-For".to_owned(), "203.0.113.7".to_owned()));
    approve_while_running(gateway, header).await;
}

#[actix::test]
async fn a_waiting_node_says_so_once_and_goes_on_after_approval_on_2026_9_6() {
    let config = json!({ "gateway": { "nodes": { "pairing": { "autoApproveLocal": false } } } });
    let gateway = GatewayProcess::start(Release::September, config).await;
    approve_while_running(&gateway, None).await;
}

async fn approve_while_running(gateway: &GatewayProcess, header: Option<(String, String)>) {
    let operator = gateway.operator().await;
    let options = RelayOptions {
        header,
        ..RelayOptions::to(gateway.address())
    };
    let relay = Relay::start(options).await.unwrap();
    let home = NodeHome::new(Host::Ours);
    let mut node = home.start(Start::with_token(relay.address(), TOKEN));

    let line = node.wait_for_line("openclaw devices approve", 1).await;
    let pending = operator.pending_device(home.name()).await.unwrap();
    let request_id = pending["requestId"].as_str().unwrap();
    assert!(
        line.contains(&format!("(requestId: {request_id})")),
        "{line}"
    );
    assert!(
        line.ends_with(&format!("openclaw devices approve {request_id}")),
        "{line}"
    );

    assert!(
        relay.wait_for_accepted(ATTEMPTS, PATIENCE).await,
        "{}",
        relay.accepted()
    );
    assert_eq!(node.lines("openclaw devices approve"), [line]);
    assert_eq!(node.lines("node host gateway connected"), [""; 0]);

    assert_eq!(operator.approve_device(home.name()).await, request_id);
    node.wait_for_line("node host gateway connected", 1).await;
    let node_id = operator.admit(home.name()).await;
    let which = json!({ "bins": ["true"] });
    let found = operator
        .invoke(&node_id, "system.which", which)
        .await
        .unwrap();
    assert_eq!(found["bins"]["true"], "/usr/bin/true");
    assert_eq!(node.stop().await.code(), Some(143));

    let mut node = home.start(Start::without_token(relay.address()));
    node.wait_for_line("node host gateway connected", 1).await;
}
