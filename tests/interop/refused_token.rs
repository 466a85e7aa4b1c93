//! A wrong token ends the node, and its next start with that token does not hammer the gateway.

use std::os::unix::net::UnixDatagram;

use gateway::Release;
use gateway::relay::{Relay, RelayOptions};

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::waiting::{PATIENCE, eventually};

on_each_release!(a_wrong_token_ends_the_node_and_the_next_start_holds_back);
on_each_release!(a_paired_node_gets_in_by_its_device_token_where_the_shared_one_is_wrong);

async fn a_wrong_token_ends_the_node_and_the_next_start_holds_back(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = NodeHome::new(Host::Ours);
    let wrong = Start::with_token(relay.address(), "not-the-token");

    let mut node = home.start(wrong);
    assert_eq!(node.end().await.code(), Some(1));
    let reason = "unauthorized: gateway token mismatch (provide gateway auth token)";
    assert_eq!(
        node.lines("reconnect paused"),
        [format!(
            "node host gateway reconnect paused after close (1008): {reason} detail=AUTH_TOKEN_MISMATCH; exiting for supervisor restart"
        )]
    );
    assert_eq!(relay.accepted(), 1);

    // What it does instead of connecting, it tells the service manager.
    let manager_path = home.path().join("notify.sock");
    let manager = UnixDatagram::bind(&manager_path).unwrap();
    manager.set_nonblocking(true).unwrap();
    let notify = [("NOTIFY_SOCKET", manager_path.to_str().unwrap())];
    let held_back = home.start(Start {
        environment: &notify,
        ..wrong
    });
    let status = eventually("the node tells its state", PATIENCE, async || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message)?;
        let text = String::from_utf8_lossy(&message[..length]).into_owned();
        let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
        status
            .map(str::to_owned)
            .ok_or_else(|| std::io::Error::other(text.clone()))
    })
    .await;
    assert!(status.contains("before connecting"), "{status}");
    assert_eq!(held_back.stop().await.code(), Some(143));
    assert_eq!(relay.accepted(), 1);

    let mut node = home.start(Start::with_token(relay.address(), TOKEN));
    node.wait_for_line("node host gateway connected", 1).await;
    assert_eq!(relay.accepted(), 2);
}

async fn a_paired_node_gets_in_by_its_device_token_where_the_shared_one_is_wrong(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = NodeHome::new(Host::Ours);
    let mut node = home.start(Start::with_token(relay.address(), TOKEN));
    node.wait_for_line("node host gateway connected", 1).await;
    node.stop().await;

    let mut node = home.start(Start::with_token(relay.address(), "not-the-token"));
    node.wait_for_line("node host gateway connected", 1).await;
    // Once to be paired, once with the wrong token alone, once with the device token beside it.
    assert_eq!(relay.accepted(), 3);
    assert_eq!(node.lines("reconnect paused"), [""; 0]);
}
