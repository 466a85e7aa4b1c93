//! A signal ends the node in good order, whatever it is doing.

#![cfg(test)]

mod common;

use common::home::Home;
use common::invoke::{params, send};
use common::process::{gone, pids_in};
use common::{DEADLINE, admitted, gateway, strict_gateway};
use gateway::{ConnectionId, GatewayHandle, Recorded};
use nix::sys::signal::Signal;
use protocol::close::{Close, CloseCode};
use serde_json::json;

async fn close_of(gateway: &GatewayHandle, connection: ConnectionId) -> Option<Close> {
    let close = gateway.wait_for(DEADLINE, move |snapshot| {
        let mut close = None;
        for record in snapshot
            .records()
            .filter(|record| record.connection == connection)
        {
            match &record.what {
                Recorded::CloseReceived(received) => close = Some(received.clone()),
                Recorded::Ended => return Some(close),
                _ => {}
            }
        }
        None
    });
    close.await.unwrap()
}

#[tokio::test]
async fn a_signal_closes_the_connection_and_decides_the_exit_code() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let gateway = gateway().await;
        let (_home, mut node, view) = admitted(&gateway).await;
        node.signal(signal);
        assert_eq!(node.exit_code().await, code, "{node}");
        let close = close_of(&gateway, view.connection).await;
        assert_eq!(close, Some(Close::new(CloseCode::Normal, "")), "{node}");
    }
}

#[tokio::test]
async fn no_command_outlives_the_node() {
    let scripts = [
        r#"sleep 300 & echo $$ >> "$0"; echo $! >> "$0"; wait"#,
        r#"trap '' TERM; sleep 300 & echo $$ >> "$0"; echo $! >> "$0"; wait; wait"#,
    ];
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let mut node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let mut pids = Vec::new();
    for (index, script) in scripts.iter().enumerate() {
        let pid_file = home.path().join(format!("pids-{index}"));
        let run = json!({ "command": ["/bin/sh", "-c", script, pid_file] });
        send(&gateway, &view, "system.run", params(&run)).await;
        pids.extend(pids_in(&pid_file, 2).await);
    }
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code().await, 143, "{node}");
    for pid in pids {
        gone(pid).await;
    }
    assert_eq!(
        close_of(&gateway, view.connection).await,
        Some(Close::new(CloseCode::Normal, ""))
    );
}

#[tokio::test]
async fn a_second_signal_changes_nothing() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let mut node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let pid_file = home.path().join("pids");
    let script = r#"trap 'echo $$ >> "$0"' TERM; echo $$ >> "$0"; while :; do sleep 0.1; done"#;
    let run = json!({ "command": ["/bin/sh", "-c", script, pid_file] });
    send(&gateway, &view, "system.run", params(&run)).await;
    pids_in(&pid_file, 1).await;
    node.signal(Signal::SIGTERM);
    // The command has heard of the shutdown, and does not end: the node is in the midst of it.
    let pids = pids_in(&pid_file, 2).await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.exit_code().await, 143, "{node}");
    gone(pids[0]).await;
}

#[tokio::test]
async fn a_node_that_waits_for_anything_ends_at_once() {
    let unpaired = strict_gateway().await;
    let home = Home::new();
    let mut node = home.run(unpaired.port()).start();
    node.line("openclaw devices approve").await;
    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit_code().await, 143, "{node}");

    let absent = {
        let gateway = gateway().await;
        let port = gateway.port();
        gateway.stop();
        port
    };
    let mut node = home.run(absent).start();
    node.line("node host gateway connect failed: ").await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.exit_code().await, 130, "{node}");
}
