//! The gateway, and the relay in front of it, misbehave exactly as they are told.

#![cfg(test)]

mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use actix_http::ws::{Frame, Item, Message};
use bytes::Bytes;
use common::{Closed, DEADLINE, Introduction, RawNode, start};
use openclaw_node_gateway::relay::{Acceptance, Flow, Relay, RelayHandle, RelayOptions};
use openclaw_node_gateway::{
    AcceptFault, Faults, GatewayHandle, GatewayOptions, Injection, RawInvoke, Recorded, Release,
    Timing, UpgradeRefusal,
};
use protocol::close::Close;
use protocol::identity::DeviceIdentity;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn identity() -> DeviceIdentity {
    DeviceIdentity::generate().unwrap()
}

async fn faulty(faults: Faults) -> GatewayHandle {
    start(GatewayOptions {
        faults,
        ..GatewayOptions::default()
    })
    .await
}

/// An admitted node and its connection.
async fn live(
    gateway: &GatewayHandle,
    url: &str,
) -> (RawNode, openclaw_node_gateway::ConnectionId) {
    let node = RawNode::admitted(url, &identity()).await;
    let connection = gateway
        .wait_for(DEADLINE, |seen| {
            seen.nodes().last().map(|node| node.connection)
        })
        .await
        .unwrap();
    (node, connection)
}

async fn front(gateway: &GatewayHandle) -> RelayHandle {
    Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap()
}

/// How a connection fails, whether while it is made or when it is first read.
async fn failure(address: SocketAddr) -> ErrorKind {
    let failed = match TcpStream::connect(address).await {
        Ok(mut stream) => stream.read_u8().await.unwrap_err(),
        Err(error) => error,
    };
    failed.kind()
}

#[actix::test]
async fn a_stalled_gateway_accepts_and_says_nothing() {
    let gateway = faulty(Faults {
        accept: AcceptFault::Stall,
        ..Faults::default()
    })
    .await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway
        .wait_for(DEADLINE, |seen| (seen.tcp_connections() == 1).then_some(()))
        .await
        .unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(silence.is_err());
    gateway.set_faults(Faults::default()).await.unwrap();
    RawNode::admitted(&gateway.url(), &identity()).await;
}

#[actix::test]
async fn a_resetting_gateway_resets() {
    let gateway = faulty(Faults {
        accept: AcceptFault::Reset,
        ..Faults::default()
    })
    .await;
    assert_eq!(failure(gateway.address()).await, ErrorKind::ConnectionReset);
}

#[actix::test]
async fn an_upgrade_is_refused_with_the_given_status() {
    let refusal = UpgradeRefusal {
        status: 302,
        location: Some("https://sso.example/".to_owned()),
        body: "elsewhere".to_owned(),
    };
    let gateway = faulty(Faults {
        refuse_upgrade: Some(refusal),
        ..Faults::default()
    })
    .await;
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(
        answer.contains("location: https://sso.example/"),
        "{answer}"
    );
    assert!(answer.ends_with("elsewhere"), "{answer}");
}

#[actix::test]
async fn challenge_hello_and_answers_can_be_withheld() {
    let timing = Timing {
        handshake: Duration::from_millis(200),
        ..Timing::default()
    };
    let faults = Faults {
        withhold_challenge: true,
        ..Faults::default()
    };
    let gateway = start(GatewayOptions {
        timing,
        faults,
        ..GatewayOptions::default()
    })
    .await;
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    assert_eq!(
        node.closed().await.code,
        Some(1000),
        "nothing came before the deadline"
    );

    gateway
        .set_faults(Faults {
            withhold_hello: true,
            ..Faults::default()
        })
        .await
        .unwrap();
    let mut node = RawNode::dial(&gateway.url(), &[]).await;
    let challenge = node.event("connect.challenge").await;
    let params = common::connect_params(&identity(), &Introduction::default(), &challenge);
    node.post("connect", params).await;
    assert_eq!(node.closed().await.code, Some(1000));

    gateway.set_faults(Faults::default()).await.unwrap();
    let (mut node, _) = live(&gateway, &gateway.url()).await;
    gateway
        .set_faults(Faults {
            withhold_answers: true,
            ..Faults::default()
        })
        .await
        .unwrap();
    let unanswered = node.post("health", json!({})).await;
    gateway
        .wait_for(DEADLINE, |seen| seen.requests("health").next().map(|_| ()))
        .await
        .unwrap();
    gateway.set_faults(Faults::default()).await.unwrap();
    let answered = node.post("skills.bins", json!({})).await;
    node.answer(&answered).await.unwrap();
    assert_ne!(unanswered, answered);
}

#[actix::test]
async fn ticks_and_pings_keep_a_connection_alive_and_can_be_withheld() {
    let timing = Timing {
        tick_interval: Duration::from_millis(20),
        ping_interval: Duration::from_millis(20),
        ..Timing::default()
    };
    // The May release does not end a connection over a pong that a busy machine delays.
    let options = GatewayOptions {
        timing,
        release: Release::May,
        ..GatewayOptions::default()
    };
    let gateway = start(options).await;
    let (mut node, _) = live(&gateway, &gateway.url()).await;
    node.event("tick").await;
    while node.pings < 2 {
        node.event("tick").await;
    }
    let pongs = |seen: &openclaw_node_gateway::Snapshot| {
        seen.records()
            .filter(|record| matches!(record.what, Recorded::Pong))
            .count()
    };
    gateway
        .wait_for(DEADLINE, move |seen| (pongs(seen) >= 2).then_some(()))
        .await
        .unwrap();

    let quiet = Faults {
        withhold_ticks: true,
        withhold_pings: true,
        ..Faults::default()
    };
    gateway.set_faults(quiet).await.unwrap();
    node.request("health", json!({})).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(100), node.next_message()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[actix::test]
async fn a_missing_pong_ends_the_connection_on_the_newer_release_only() {
    for release in [Release::May, Release::September] {
        let timing = Timing {
            ping_interval: Duration::from_millis(30),
            ..Timing::default()
        };
        let gateway = start(GatewayOptions {
            timing,
            release,
            ..GatewayOptions::default()
        })
        .await;
        let (mut node, connection) = live(&gateway, &gateway.url()).await;
        let mut pings = 0;
        let ended = loop {
            match node.next_message().await {
                Some(Frame::Ping(_)) if pings == 4 => break false,
                Some(Frame::Ping(_)) => pings += 1,
                Some(Frame::Text(_)) => {}
                Some(other) => panic!("{other:?}"),
                None => break true,
            }
        };
        assert_eq!(ended, release == Release::September, "{release:?}");
        let online = gateway
            .inspect(move |seen| {
                seen.nodes()
                    .iter()
                    .any(|node| node.connection == connection)
            })
            .await
            .unwrap();
        assert_eq!(online, release == Release::May);
    }
}

#[actix::test]
async fn a_close_frame_is_answered_or_enforced() {
    let timing = Timing {
        close: Duration::from_millis(50),
        ..Timing::default()
    };
    let gateway = start(GatewayOptions {
        timing,
        ..GatewayOptions::default()
    })
    .await;
    let (mut node, connection) = live(&gateway, &gateway.url()).await;
    let close = Close::new(1012, "service restart");
    gateway
        .inject(connection, Injection::Close(close))
        .await
        .unwrap();
    let expected = Closed {
        code: Some(1012),
        reason: "service restart".to_owned(),
    };
    assert_eq!(node.closed().await, expected);
    assert!(
        node.next_message().await.is_none(),
        "TCP ends although the close went unanswered"
    );

    let (mut node, connection) = live(&gateway, &gateway.url()).await;
    let close = Close::new(1000, "");
    gateway
        .inject(connection, Injection::CloseAndLinger(close))
        .await
        .unwrap();
    assert_eq!(node.closed().await.code, Some(1000));
    node.send_message(Message::Close(None)).await;
    gateway
        .wait_for(DEADLINE, move |seen| {
            let answered = seen.records().any(|record| {
                record.connection == connection && matches!(record.what, Recorded::CloseReceived(_))
            });
            answered.then_some(())
        })
        .await
        .unwrap();
    let lingering = tokio::time::timeout(Duration::from_millis(150), node.next_message()).await;
    assert!(lingering.is_err(), "TCP stays open");
    gateway.inject(connection, Injection::Hangup).await.unwrap();
    assert!(node.next_message().await.is_none());
    assert!(
        !gateway.inject(connection, Injection::Hangup).await.unwrap(),
        "it is gone"
    );
}

#[actix::test]
async fn anything_can_be_thrown_at_a_node() {
    let gateway = start(GatewayOptions::default()).await;
    let (mut node, connection) = live(&gateway, &gateway.url()).await;
    while !matches!(node.next_message().await, Some(Frame::Text(text)) if text.starts_with(b"{\"type\":\"event\",\"event\":\"voicewake.routing"))
    {
    }
    let fragments = || vec!["{\"a\"".to_owned(), ":".to_owned(), "1}".to_owned()];
    let thrown = [
        (
            Injection::Text("junk".to_owned()),
            vec![Frame::Text(Bytes::from("junk"))],
        ),
        (
            Injection::Fragments(fragments()),
            vec![
                Frame::Continuation(Item::FirstText(Bytes::from("{\"a\""))),
                Frame::Continuation(Item::Continue(Bytes::from(":"))),
                Frame::Continuation(Item::Last(Bytes::from("1}"))),
            ],
        ),
        (
            Injection::Binary(Bytes::from("b")),
            vec![Frame::Binary(Bytes::from("b"))],
        ),
        (
            Injection::InvalidUtf8,
            vec![Frame::Text(Bytes::from_static(b"\xff\xfe\xc0\x80"))],
        ),
        (
            Injection::Ping(Bytes::from("p")),
            vec![Frame::Ping(Bytes::from("p"))],
        ),
        (
            Injection::Event("x".to_owned(), json!({ "y": 1 })),
            vec![Frame::Text(Bytes::from(
                r#"{"type":"event","event":"x","payload":{"y":1}}"#,
            ))],
        ),
        (
            Injection::Raw(Bytes::from_static(b"\x81\x02hi")),
            vec![Frame::Text(Bytes::from("hi"))],
        ),
        (
            Injection::Oversized(70_000),
            vec![Frame::Text(Bytes::from("x".repeat(70_000)))],
        ),
    ];
    for (injection, expected) in thrown {
        assert!(gateway.inject(connection, injection).await.unwrap());
        for frame in expected {
            assert_eq!(node.next_message().await, Some(frame));
        }
    }
}

#[actix::test]
async fn a_message_over_the_limit_is_refused_with_1009() {
    let gateway = start(GatewayOptions::default()).await;
    let (mut node, _) = live(&gateway, &gateway.url()).await;
    let large = "x".repeat(26_214_400);
    node.post("node.event", json!({ "event": "e", "payloadJSON": large }))
        .await;
    let closed = node.closed().await;
    assert_eq!(
        closed,
        Closed {
            code: Some(1009),
            reason: String::new()
        }
    );

    let (mut node, _) = live(&gateway, &gateway.url()).await;
    let part = Bytes::from("x".repeat(20_000_000));
    node.send_message(Message::Continuation(Item::FirstText(part.clone())))
        .await;
    node.send_message(Message::Continuation(Item::Last(part)))
        .await;
    assert_eq!(node.closed().await.code, Some(1009));
}

#[actix::test]
async fn fragments_of_a_node_are_joined() {
    let gateway = start(GatewayOptions::default()).await;
    let (mut node, _) = live(&gateway, &gateway.url()).await;
    for item in [
        Item::FirstText(Bytes::from(r#"{"type":"req","id":"f","#)),
        Item::Continue(Bytes::from(r#""method":"skills"#)),
        Item::Last(Bytes::from(r#".bins"}"#)),
    ] {
        node.send_message(Message::Continuation(item)).await;
    }
    node.answer("f").await.unwrap();
}

#[actix::test]
async fn a_restart_says_so_refuses_for_a_while_and_forgets_nothing() {
    for release in [Release::May, Release::September] {
        let gateway = start(GatewayOptions {
            release,
            ..GatewayOptions::default()
        })
        .await;
        let identity = identity();
        let mut node = RawNode::admitted(&gateway.url(), &identity).await;
        gateway.admit(DEADLINE).await.unwrap();
        let mut stalled = TcpStream::connect(gateway.address()).await.unwrap();
        gateway.restart(Duration::from_millis(300)).await.unwrap();
        let shutdown = node.event("shutdown").await;
        assert_eq!(shutdown["reason"], "gateway stopping");
        assert_eq!(
            shutdown.get("restartExpectedMs").is_some(),
            release == Release::May
        );
        let closed = Closed {
            code: Some(1012),
            reason: "service restart".to_owned(),
        };
        assert_eq!(node.closed().await, closed);
        let refused = TcpStream::connect(gateway.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let again = tokio::time::timeout(DEADLINE, async {
            loop {
                if TcpStream::connect(gateway.address()).await.is_ok() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        });
        again.await.unwrap();
        let _back = RawNode::admitted(&gateway.url(), &identity).await;
        let node = gateway.admit(DEADLINE).await.unwrap();
        assert_eq!(
            node.node_id,
            identity.device_id().as_str(),
            "still approved"
        );
        drop(stalled.write_all(b"x").await);
    }
}

#[actix::test]
async fn a_taken_port_is_reported() {
    let gateway = start(GatewayOptions::default()).await;
    let options = GatewayOptions {
        port: gateway.port(),
        ..GatewayOptions::default()
    };
    let error = openclaw_node_gateway::Gateway::start(options)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&gateway.port().to_string()),
        "{error}"
    );
    let port = gateway.port();
    gateway.stop();
    start(GatewayOptions {
        port,
        ..GatewayOptions::default()
    })
    .await;
}

#[actix::test]
async fn a_relay_freezes_and_thaws_a_connection() {
    let gateway = start(GatewayOptions::default()).await;
    let relay = front(&gateway).await;
    let (mut node, _) = live(&gateway, &relay.url()).await;
    for flow in [Flow::Freeze, Flow::DeafToNode, Flow::DeafToGateway] {
        relay.set_flow(flow);
        let id = node.post("health", json!({})).await;
        let silence = tokio::time::timeout(Duration::from_millis(50), node.answer(&id)).await;
        assert!(silence.is_err(), "{flow:?}");
        relay.set_flow(Flow::Pass);
        node.answer(&id).await.unwrap();
    }
    relay.set_flow(Flow::Delay(Duration::from_millis(30)));
    let asked = std::time::Instant::now();
    node.request("health", json!({})).await.unwrap();
    assert!(
        asked.elapsed() >= Duration::from_millis(60),
        "once each way"
    );
}

#[actix::test]
async fn a_node_that_does_not_read_is_given_up() {
    let gateway = start(GatewayOptions::default()).await;
    let relay = front(&gateway).await;
    let (node, connection) = live(&gateway, &relay.url()).await;
    relay.set_flow(Flow::DeafToGateway);
    let node_id = gateway
        .inspect(|seen| seen.nodes()[0].node_id.clone())
        .await
        .unwrap();
    let large = RawInvoke {
        node_id,
        command: "x".to_owned(),
        params_json: Some("x".repeat(8 * 1024 * 1024)),
        timeout: Some(Duration::from_millis(1)),
        idempotency_key: None,
    };
    for _ in 0..12 {
        gateway.invoke_raw(large.clone()).await.unwrap_err();
    }
    let close = gateway
        .wait_for(DEADLINE, move |seen| {
            seen.records().find_map(|record| match &record.what {
                Recorded::CloseSent(close) if record.connection == connection => {
                    Some(close.clone())
                }
                _ => None,
            })
        })
        .await
        .unwrap();
    assert_eq!(close, Close::new(1008, "slow consumer"));
    drop(node);
}

#[actix::test]
async fn a_relay_cuts_and_hangs_up() {
    let gateway = start(GatewayOptions::default()).await;
    let relay = front(&gateway).await;
    for cut in [true, false] {
        let (node, connection) = live(&gateway, &relay.url()).await;
        let mut raw = TcpStream::connect(relay.address()).await.unwrap();
        let held = if cut { 2 } else { 4 };
        assert!(relay.wait_for_accepted(held, DEADLINE).await);
        if cut {
            relay.cut();
            let error = raw.read_u8().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        } else {
            relay.hang_up();
            assert_eq!(
                raw.read_u8().await.unwrap_err().kind(),
                ErrorKind::UnexpectedEof
            );
        }
        gateway
            .wait_for(DEADLINE, move |seen| {
                let ended = seen.records().any(|record| {
                    record.connection == connection && matches!(record.what, Recorded::Ended)
                });
                ended.then_some(())
            })
            .await
            .unwrap();
        drop(node);
    }
}

#[actix::test]
async fn a_relay_stalls_resets_and_counts_new_connections() {
    let gateway = start(GatewayOptions::default()).await;
    let relay = front(&gateway).await;
    relay.set_acceptance(Acceptance::Stall);
    let mut stalled = TcpStream::connect(relay.address()).await.unwrap();
    assert!(relay.wait_for_accepted(1, DEADLINE).await);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), stalled.read_u8())
            .await
            .is_err()
    );
    relay.cut();
    assert_eq!(
        stalled.read_u8().await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    relay.set_acceptance(Acceptance::Reset);
    assert_eq!(failure(relay.address()).await, ErrorKind::ConnectionReset);
    assert_eq!(relay.accepted(), 2);
    assert!(!relay.wait_for_accepted(3, Duration::ZERO).await);
    relay.stop();
}

#[actix::test]
async fn a_relay_writes_a_header_into_the_upgrade() {
    let gateway = start(GatewayOptions {
        release: Release::May,
        ..GatewayOptions::default()
    })
    .await;
    let header = Some(("X-Forwarded-For".to_owned(), "203.0.113.7".to_owned()));
    let options = RelayOptions {
        header,
        ..RelayOptions::to(gateway.address())
    };
    let relay = Relay::start(options).await.unwrap();
    let (_, answer) = RawNode::connect(&relay.url(), &identity(), Introduction::default()).await;
    assert_eq!(answer.unwrap_err()["details"]["reason"], "not-paired");
    let seen = gateway
        .inspect(|seen| {
            seen.records().find_map(|record| match &record.what {
                Recorded::Upgraded { headers, .. } => Some(headers.clone()),
                _ => None,
            })
        })
        .await
        .unwrap()
        .unwrap();
    assert!(seen.contains(&("x-forwarded-for".to_owned(), "203.0.113.7".to_owned())));
}
