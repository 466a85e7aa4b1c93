//! What the behaviour tests share: the real binary, a gateway beside it, and waits with deadlines.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod capture;
pub(crate) mod control;
pub(crate) mod home;
pub(crate) mod invoke;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod sandbox;
pub(crate) mod service_manager;

use std::time::Duration;

use gateway::{ConnectionId, Gateway, GatewayHandle, GatewayOptions, NodeView, PairingPolicy};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::home::Home;
use self::node::Node;

/// What the node says when a connection is in service; its device token is on disk by then.
pub(crate) const CONNECTED: &str = "node host gateway connected: ";

/// Longest wait for anything that has to happen: far beyond what a busy machine needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at something that cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Looks until `condition` finds what it looks for, and fails the test after [`DEADLINE`].
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A gateway that pairs loopback nodes silently; their command surface still wants approval.
pub(crate) async fn gateway() -> GatewayHandle {
    gateway_with(GatewayOptions::default()).await
}

/// A gateway that pairs nobody silently.
pub(crate) async fn strict_gateway() -> GatewayHandle {
    gateway_with(GatewayOptions {
        pairing: no_silent_pairing(),
        ..GatewayOptions::default()
    })
    .await
}

/// The policy of a gateway that pairs nobody silently.
pub(crate) fn no_silent_pairing() -> PairingPolicy {
    PairingPolicy {
        auto_approve_local: false,
        auto_approve_cidrs: Vec::new(),
    }
}

pub(crate) async fn gateway_with(options: GatewayOptions) -> GatewayHandle {
    Gateway::start(options).await.unwrap()
}

/// A fresh node with its home, admitted by `gateway` with all its commands.
pub(crate) async fn admitted(gateway: &GatewayHandle) -> (Home, Node, NodeView) {
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    // The gateway knows of it before the node does.
    node.line(CONNECTED).await;
    (home, node, view)
}

/// The node, back in service on a connection that is newer than `before`.
pub(crate) async fn back_after(gateway: &GatewayHandle, before: ConnectionId) -> NodeView {
    gateway
        .wait_for(DEADLINE, move |snapshot| {
            snapshot
                .nodes()
                .iter()
                .find(|node| node.connection > before && !node.commands.is_empty())
                .cloned()
        })
        .await
        .unwrap()
}

/// Waits until the gateway has noticed that its node is gone.
pub(crate) async fn offline(gateway: &GatewayHandle) {
    let gone = gateway.wait_for(DEADLINE, |snapshot| {
        snapshot.nodes().is_empty().then_some(())
    });
    gone.await.unwrap();
}

/// Asks the node where `sh` is, as an operator does, and fails the test when it does not say.
pub(crate) async fn answers(gateway: &GatewayHandle, node: &NodeView) {
    let invoke = json!({
        "nodeId": node.node_id,
        "command": "system.which",
        "params": { "bins": ["sh"] },
        "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    let answer = gateway.call("node.invoke", invoke).await.unwrap();
    let path = answer.pointer("/payload/bins/sh").and_then(Value::as_str);
    assert!(path.is_some_and(|path| path.ends_with("/sh")), "{answer}");
}

/// The node's connection, when it is still the one and only that was ever accepted as a node's.
pub(crate) async fn node_connections(gateway: &GatewayHandle) -> usize {
    gateway
        .inspect(|snapshot| snapshot.connects().count())
        .await
        .unwrap()
}
