//! However a connection is lost, a fresh one takes its place, and the node is in service again.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::home::Home;
use common::node::Node;
use common::{
    CONNECTED, DEADLINE, admitted, answers, back_after, gateway, gateway_with, node_connections,
};
use gateway::relay::{Flow, Relay, RelayOptions};
use gateway::{
    AcceptFault, ConnectionId, Faults, GatewayHandle, GatewayOptions, Injection, NodeView,
    Recorded, Snapshot, Timing, UpgradeRefusal,
};
use protocol::close::{Close, CloseCode};

/// A tick interval that lets a watchdog of two ticks act soon, yet is far longer than an answer
/// takes.
const SHORT_TICK: Duration = Duration::from_millis(400);

/// Timing under which silence is noticed within a second.
fn short_ticks() -> GatewayOptions {
    GatewayOptions {
        timing: Timing {
            tick_interval: SHORT_TICK,
            ..Timing::default()
        },
        ..GatewayOptions::default()
    }
}

/// A gateway that sends nothing by itself.
fn silent() -> Faults {
    Faults {
        withhold_ticks: true,
        withhold_pings: true,
        ..Faults::default()
    }
}

async fn replaces_a_connection_that_ends_by(injection: Injection) -> Node {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    assert!(gateway.inject(view.connection, injection).await.unwrap());
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
    node
}

async fn closed_with(gateway: &GatewayHandle, connection: ConnectionId) -> Close {
    let close = gateway.wait_for(DEADLINE, move |snapshot| {
        snapshot.records().find_map(|record| match &record.what {
            Recorded::CloseReceived(close) if record.connection == connection => {
                Some(close.clone())
            }
            _ => None,
        })
    });
    close.await.unwrap()
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_frame_is_replaced() {
    let node = replaces_a_connection_that_ends_by(Injection::Hangup).await;
    node.line("node host gateway closed (1006)").await;
}

#[tokio::test]
async fn a_close_for_any_reason_is_followed_by_a_fresh_connection() {
    let closes = [
        Close::new(CloseCode::Normal, ""),
        Close::new(CloseCode::ServiceRestart, "service restart"),
        Close::new(CloseCode::Invalidated, "gateway auth changed"),
        Close::new(CloseCode::PolicyViolation, "slow consumer"),
        Close::new(CloseCode::NoStatus, ""),
    ];
    let mut attempts = tokio::task::JoinSet::new();
    for close in closes {
        attempts.spawn(async move {
            let node = replaces_a_connection_that_ends_by(Injection::Close(close.clone())).await;
            node.line(&format!("node host gateway closed {close}"))
                .await;
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
}

#[tokio::test]
async fn a_close_frame_is_an_end_even_if_tcp_stays_open() {
    let close = Close::new(CloseCode::ServiceRestart, "service restart");
    replaces_a_connection_that_ends_by(Injection::CloseAndLinger(close)).await;
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let gateway = gateway().await;
    let (_home, _node, view) = admitted(&gateway).await;
    let close = Close::new(CloseCode::ServiceRestart, "service restart");
    gateway
        .inject(view.connection, Injection::CloseAndLinger(close))
        .await
        .unwrap();
    closed_with(&gateway, view.connection).await;
}

#[tokio::test]
async fn a_restarted_gateway_finds_the_node_again() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    gateway.restart(Duration::from_millis(1200)).await.unwrap();
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
    node.lines_until(CONNECTED, 2).await;
    // The port refuses while the gateway is away, and that is said once, however often it is tried.
    assert!(node.lines_with("connect failed").len() <= 1, "{node}");
}

#[tokio::test]
async fn a_gateway_that_is_down_at_first_is_found_when_it_comes_up() {
    let port = {
        let earlier = gateway().await;
        let port = earlier.port();
        earlier.stop();
        port
    };
    let home = Home::new();
    let node = home.run(port).start();
    node.line("node host gateway connect failed: ").await;
    let options = GatewayOptions {
        port,
        ..GatewayOptions::default()
    };
    let gateway = gateway_with(options).await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    assert_eq!(node.lines_with("connect failed").len(), 1, "{node}");
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_given_up_after_two_ticks() {
    let gateway = gateway_with(short_ticks()).await;
    let (_home, _node, view) = admitted(&gateway).await;
    gateway.set_faults(silent()).await.unwrap();
    let close = closed_with(&gateway, view.connection).await;
    assert_eq!(close, Close::new(CloseCode::ClientTimeout, "tick timeout"));
    gateway.set_faults(Faults::default()).await.unwrap();
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
}

#[tokio::test]
async fn a_half_open_connection_is_given_up() {
    let gateway = gateway_with(short_ticks()).await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = Home::new();
    let _node = home.run(relay.address().port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();

    relay.set_flow(Flow::Freeze);
    assert!(
        relay.wait_for_accepted(2, DEADLINE).await,
        "the node dials again"
    );
    relay.set_flow(Flow::Pass);
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
}

#[tokio::test]
async fn a_reset_connection_is_replaced() {
    let gateway = gateway().await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = Home::new();
    let _node = home.run(relay.address().port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    relay.cut();
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
}

#[tokio::test]
async fn a_refused_upgrade_is_retried_and_said_once() {
    let gateway = gateway().await;
    let refusal = UpgradeRefusal {
        status: 502,
        location: None,
        body: "bad gateway".to_owned(),
    };
    let faults = Faults {
        refuse_upgrade: Some(refusal),
        ..Faults::default()
    };
    gateway.set_faults(faults).await.unwrap();
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = Home::new();
    let node = home.run(relay.address().port()).start();
    assert!(
        relay.wait_for_accepted(2, DEADLINE).await,
        "the node tries again"
    );
    gateway.set_faults(Faults::default()).await.unwrap();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    let complaints = node.lines_with("node host gateway connect failed: ");
    assert_eq!(complaints.len(), 1, "{node}");
    assert!(
        complaints[0].contains("gateway rejected websocket upgrade (HTTP 502)"),
        "{node}"
    );
}

#[tokio::test]
async fn a_starting_gateway_is_asked_again_until_it_is_ready() {
    let faults = Faults {
        starting: true,
        ..Faults::default()
    };
    let gateway = gateway_with(GatewayOptions {
        faults,
        ..GatewayOptions::default()
    })
    .await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let refusals = gateway.wait_for(DEADLINE, |snapshot| {
        (snapshot.refusals().count() >= 3).then_some(())
    });
    refusals.await.unwrap();
    gateway.set_faults(Faults::default()).await.unwrap();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
}

/// Steps of the handshake at which a gateway can fall silent. They share one wait, which is the
/// deadline of 15 s.
#[tokio::test]
async fn every_step_of_the_handshake_has_a_deadline() {
    type Reached = fn(&Snapshot) -> bool;
    let upgraded: Reached = |snapshot| {
        snapshot
            .records()
            .any(|record| matches!(record.what, Recorded::Upgraded { .. }))
    };
    let stalls: [(Faults, Reached); 3] = [
        (
            Faults {
                accept: AcceptFault::Stall,
                ..Faults::default()
            },
            |snapshot| snapshot.tcp_connections() > 0,
        ),
        (
            Faults {
                withhold_challenge: true,
                ..Faults::default()
            },
            upgraded,
        ),
        (
            Faults {
                withhold_hello: true,
                ..Faults::default()
            },
            |snapshot| snapshot.connects().next().is_some(),
        ),
    ];
    let mut attempts = tokio::task::JoinSet::new();
    for (faults, reached) in stalls {
        attempts.spawn(async move {
            let options = GatewayOptions {
                // The node has to act by itself.
                timing: Timing {
                    handshake: DEADLINE * 2,
                    ..Timing::default()
                },
                faults,
                ..GatewayOptions::default()
            };
            let gateway = gateway_with(options).await;
            let home = Home::new();
            let node = home.run(gateway.port()).start();
            let stuck = gateway.wait_for(DEADLINE, move |snapshot| reached(snapshot).then_some(()));
            stuck.await.unwrap();
            // The next connection will be served; the first one never will.
            gateway.set_faults(Faults::default()).await.unwrap();
            let view = gateway.admit(DEADLINE).await.unwrap();
            answers(&gateway, &view).await;
            assert_eq!(node.lines_until(CONNECTED, 1).await.len(), 1, "{node}");
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
}

async fn pongs_of(gateway: &GatewayHandle, node: &NodeView, count: usize) {
    let connection = node.connection;
    let enough = gateway.wait_for(DEADLINE, move |snapshot| {
        let is_pong = |record: &&gateway::Record| {
            record.connection == connection && matches!(record.what, Recorded::Pong)
        };
        (snapshot.records().filter(is_pong).count() >= count).then_some(())
    });
    enough.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_kept() {
    let timing = Timing {
        tick_interval: SHORT_TICK,
        ping_interval: SHORT_TICK / 2,
        ..Timing::default()
    };
    let gateway = gateway_with(GatewayOptions {
        timing,
        ..GatewayOptions::default()
    })
    .await;
    let (_home, node, view) = admitted(&gateway).await;
    // Five ticks, each of which a gateway that misses a pong would not have survived.
    pongs_of(&gateway, &view, 10).await;
    answers(&gateway, &view).await;
    assert_eq!(node_connections(&gateway).await, 1, "{node}");
    assert!(node.lines_with("closed").is_empty(), "{node}");
}

#[tokio::test]
async fn pings_alone_prove_a_gateway_alive() {
    let timing = Timing {
        tick_interval: SHORT_TICK,
        ping_interval: SHORT_TICK / 2,
        ..Timing::default()
    };
    let gateway = gateway_with(GatewayOptions {
        timing,
        ..GatewayOptions::default()
    })
    .await;
    let (_home, node, view) = admitted(&gateway).await;
    gateway
        .set_faults(Faults {
            withhold_ticks: true,
            ..Faults::default()
        })
        .await
        .unwrap();
    pongs_of(&gateway, &view, 10).await;
    answers(&gateway, &view).await;
    assert_eq!(node_connections(&gateway).await, 1, "{node}");
}

#[tokio::test]
async fn a_ping_is_answered_while_a_command_runs() {
    let timing = Timing {
        ping_interval: SHORT_TICK / 2,
        ..Timing::default()
    };
    let gateway = gateway_with(GatewayOptions {
        timing,
        ..GatewayOptions::default()
    })
    .await;
    let home = Home::new();
    home.allow_everything();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let run = serde_json::json!({ "command": ["/bin/sleep", "30"] });
    let id =
        common::invoke::send(&gateway, &view, "system.run", common::invoke::params(&run)).await;
    pongs_of(&gateway, &view, 4).await;
    answers(&gateway, &view).await;
    assert_eq!(common::invoke::answers_to(&gateway, &id).await, 0);
}
