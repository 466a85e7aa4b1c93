//! Whatever a gateway sends, the node stays alive, bounded and in service.

#![cfg(test)]

mod common;

use bytes::{BufMut as _, Bytes, BytesMut};
use common::home::Home;
use common::invoke::{answers_to, call, outcome, params, send, send_as};
use common::node::Node;
use common::process::peak_memory;
use common::{
    CONNECTED, DEADLINE, admitted, answers, back_after, gateway, node_connections, until,
};
use gateway::{ConnectionId, Faults, GatewayHandle, Injection, NodeView, Recorded};
use serde_json::{Value, json};

/// What a node may hold at most while it is fed the largest frame that it has to accept, 25 MiB:
/// decoded, a list of short names takes sixteen times the bytes that it has on the wire.
const MEMORY_LIMIT: u64 = 512 * 1024 * 1024;

async fn throw(gateway: &GatewayHandle, node: &NodeView, injection: Injection) {
    assert!(gateway.inject(node.connection, injection).await.unwrap());
}

/// The node answers on the connection that it has had all along, and holds no more than it may.
async fn is_unimpressed(gateway: &GatewayHandle, node: &Node, view: &NodeView) {
    answers(gateway, view).await;
    assert_eq!(node_connections(gateway).await, 1, "{node}");
    if let Some(peak) = peak_memory(node.pid()) {
        assert!(peak < MEMORY_LIMIT, "{} MiB", peak >> 20);
    }
}

fn invoke_frame(node: &NodeView, id: &str) -> String {
    let payload = json!({
        "id": id,
        "nodeId": node.node_id,
        "command": "system.which",
        "paramsJSON": "{\"bins\":[\"sh\"]}",
    });
    json!({ "type": "event", "event": "node.invoke.request", "payload": payload }).to_string()
}

/// One WebSocket frame as a server writes it.
fn frame(first_byte: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(first_byte);
    match payload.len() {
        length @ ..126 => frame.put_u8(length.try_into().unwrap()),
        length @ 126..0x1_0000 => {
            frame.put_u8(126);
            frame.put_u16(length.try_into().unwrap());
        }
        length => {
            frame.put_u8(127);
            frame.put_u64(length.try_into().unwrap());
        }
    }
    frame.put_slice(payload);
    frame.freeze()
}

const FIRST_TEXT_FRAGMENT: u8 = 0x01;
const MIDDLE_FRAGMENT: u8 = 0x00;
const LAST_FRAGMENT: u8 = 0x80;
const PING: u8 = 0x89;

#[tokio::test]
async fn what_is_no_frame_of_the_protocol_is_ignored() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    let garbage = [
        "",
        " ",
        "not json",
        "{",
        "[]",
        "null",
        "42",
        "\"text\"",
        "{}",
        r#"{"type":"event"}"#,
        r#"{"type":"event","event":""}"#,
        r#"{"type":"event","event":7,"payload":{}}"#,
        r#"{"type":"event","event":"never.heard.of","payload":{"a":[1,2,3]},"seq":1}"#,
        r#"{"type":"event","event":"tick"}"#,
        r#"{"type":"event","event":"node.invoke.request"}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":null}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":[]}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":{}}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":{"id":"","nodeId":"n","command":"system.which"}}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":{"id":"i","nodeId":" ","command":"system.which"}}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":{"id":"i","nodeId":"n","command":7}}"#,
        r#"{"type":"event","event":"node.invoke.request","payload":{"id":{"a":1},"nodeId":"n","command":"system.which"}}"#,
        r#"{"type":"event","event":"node.invoke.cancel"}"#,
        r#"{"type":"event","event":"node.invoke.cancel","payload":{"invokeId":7}}"#,
        r#"{"type":"event","event":"node.invoke.input","payload":{"id":"x","seq":0}}"#,
        r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"again","ts":1}}"#,
        r#"{"type":"event","event":"shutdown","payload":{"reason":"gateway stopping"}}"#,
        r#"{"type":"res","id":"never-asked","ok":true,"payload":{"type":"hello-ok"}}"#,
        r#"{"type":"res","id":"never-asked","ok":false}"#,
        r#"{"type":"res","ok":false,"error":null}"#,
        r#"{"type":"req","id":"1","method":"node.invoke","params":{}}"#,
        r#"{"type":"hello-ok"}"#,
    ];
    for text in garbage {
        throw(&gateway, &view, Injection::Text(text.to_owned())).await;
    }
    throw(
        &gateway,
        &view,
        Injection::Binary(Bytes::from_static(b"\x00\xff\x00")),
    )
    .await;
    throw(
        &gateway,
        &view,
        Injection::Binary(Bytes::from(invoke_frame(&view, "binary"))),
    )
    .await;
    is_unimpressed(&gateway, &node, &view).await;
    let results = gateway
        .inspect(|snapshot| snapshot.results().count())
        .await
        .unwrap();
    assert_eq!(results, 1, "only the last question is answered: {node}");
}

#[tokio::test]
async fn text_that_is_no_utf8_harms_nobody() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    throw(&gateway, &view, Injection::InvalidUtf8).await;
    let view = in_service(&gateway, &node).await;
    answers(&gateway, &view).await;
}

/// The node, in service on whichever connection, after it had the chance to lose the last.
async fn in_service(gateway: &GatewayHandle, node: &Node) -> NodeView {
    let view = gateway.admit(DEADLINE).await.unwrap();
    let asked = json!({ "bins": ["sh"] });
    let id = send(gateway, &view, "system.which", params(&asked)).await;
    let connection = view.connection;
    let settled = gateway.wait_for(DEADLINE, move |snapshot| {
        let answered = snapshot.results().any(|result| result["id"] == id.as_str());
        let ended = snapshot.records().any(|record| {
            record.connection == connection && matches!(record.what, Recorded::Ended)
        });
        (answered || ended).then_some(ended)
    });
    if settled.await.unwrap() {
        node.lines_until(CONNECTED, 2).await;
        return back_after(gateway, connection).await;
    }
    view
}

#[tokio::test]
async fn fragments_are_joined() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    for pieces in [1, 2, 3, 40] {
        let id = format!("in-{pieces}-pieces");
        let text = invoke_frame(&view, &id);
        let size = text.len().div_ceil(pieces);
        let parts = text.as_bytes().chunks(size);
        let parts = parts
            .map(|part| String::from_utf8(part.to_vec()).unwrap())
            .collect();
        throw(&gateway, &view, Injection::Fragments(parts)).await;
        assert!(outcome(&gateway, &id).await.is_ok(), "{node}");
    }
    is_unimpressed(&gateway, &node, &view).await;
}

#[tokio::test]
async fn a_ping_between_two_fragments_is_answered_and_the_message_joined() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    let text = invoke_frame(&view, "interrupted");
    let (first, last) = text.as_bytes().split_at(text.len() / 2);
    let bytes = [
        frame(FIRST_TEXT_FRAGMENT, first),
        frame(PING, b""),
        frame(LAST_FRAGMENT, last),
    ];
    throw(&gateway, &view, Injection::Raw(Bytes::from(bytes.concat()))).await;
    assert!(outcome(&gateway, "interrupted").await.is_ok(), "{node}");
    let connection = view.connection;
    let ponged = gateway.wait_for(DEADLINE, move |snapshot| {
        let is_pong = |record: &gateway::Record| {
            record.connection == connection && matches!(record.what, Recorded::Pong)
        };
        snapshot.records().any(is_pong).then_some(())
    });
    ponged.await.unwrap();
    is_unimpressed(&gateway, &node, &view).await;
}

#[tokio::test]
async fn a_frame_cut_into_single_bytes_is_put_together() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    // Every byte a fragment of its own, an empty one before and after each.
    let text = invoke_frame(&view, "crumbs");
    let mut bytes = BytesMut::from(frame(FIRST_TEXT_FRAGMENT, b"").as_ref());
    for byte in text.as_bytes() {
        bytes.extend_from_slice(&frame(MIDDLE_FRAGMENT, &[*byte]));
        bytes.extend_from_slice(&frame(MIDDLE_FRAGMENT, b""));
    }
    bytes.extend_from_slice(&frame(LAST_FRAGMENT, b""));
    throw(&gateway, &view, Injection::Raw(bytes.freeze())).await;
    assert!(outcome(&gateway, "crumbs").await.is_ok(), "{node}");
    is_unimpressed(&gateway, &node, &view).await;
}

async fn is_replaced_after(injections: Vec<Injection>) {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    for injection in injections {
        // The connection may be gone before the last of them.
        gateway.inject(view.connection, injection).await.unwrap();
    }
    let back = back_after(&gateway, view.connection).await;
    answers(&gateway, &back).await;
    if let Some(peak) = peak_memory(node.pid()) {
        assert!(peak < MEMORY_LIMIT, "{} MiB", peak >> 20);
    }
}

#[tokio::test]
async fn a_broken_websocket_is_replaced() {
    let broken: [&'static [u8]; 5] = [
        // A reserved opcode.
        b"\x83\x00",
        // A continuation of nothing.
        b"\x80\x01x",
        // A control frame in pieces.
        b"\x09\x00",
        // A close frame with half a code.
        b"\x88\x01\x03",
        // The bytes of another protocol.
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ];
    let mut attempts = tokio::task::JoinSet::new();
    for bytes in broken {
        attempts.spawn(is_replaced_after(vec![Injection::Raw(Bytes::from_static(
            bytes,
        ))]));
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection_and_not_the_node() {
    is_replaced_after(vec![Injection::Oversized(
        protocol::frame::MAX_FRAME_BYTES + 1,
    )])
    .await;
    // The same in pieces, of which there is no last one.
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let mut pieces = vec![Injection::Raw(frame(FIRST_TEXT_FRAGMENT, b"\""))];
    pieces.extend((0..27).map(|_| Injection::Raw(frame(MIDDLE_FRAGMENT, &piece))));
    is_replaced_after(pieces).await;
}

#[tokio::test]
async fn a_frame_that_announces_more_than_the_limit_is_not_collected() {
    // 2^62 bytes to come, of which a bounded part does.
    let announcement = Bytes::from_static(b"\x81\x7f\x40\x00\x00\x00\x00\x00\x00\x00");
    let part = Bytes::from(vec![b'x'; 16 << 20]);
    let mut chunks = vec![Injection::Raw(announcement)];
    chunks.extend((0..60).map(|_| Injection::Raw(part.clone())));
    is_replaced_after(chunks).await;
}

#[tokio::test]
async fn params_of_any_depth_and_size_are_answered() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();

    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_object = r#"{"command":"#.repeat(10_000) + "1" + &"}".repeat(10_000);
    let unclosed = "[".repeat(1_000_000);
    for bomb in [deep, deep_object, unclosed] {
        for command in [
            "system.which",
            "system.run",
            "system.run.prepare",
            "system.execApprovals.get",
            "system.execApprovals.set",
        ] {
            let id = send(&gateway, &view, command, Value::String(bomb.clone())).await;
            let outcome = outcome(&gateway, &id).await;
            assert_eq!(
                outcome.error().0,
                "INVALID_REQUEST",
                "{command}: {outcome:?}"
            );
        }
    }

    // Each name takes six bytes on the way: it is a string in a string.
    let many = vec!["x"; (20 << 20) / 6];
    let large = [
        ("system.which", json!({ "bins": many })),
        (
            "system.run",
            json!({ "command": ["/bin/true", "x".repeat(20 << 20)] }),
        ),
    ];
    for (command, arguments) in large {
        let outcome = call(&gateway, &view, command, &arguments).await;
        assert!(outcome.result["ok"].is_boolean(), "{command}");
    }
    is_unimpressed(&gateway, &node, &view).await;
}

#[tokio::test]
async fn a_frame_of_any_depth_is_ignored() {
    let gateway = gateway().await;
    let (_home, node, view) = admitted(&gateway).await;
    let nested = "[".repeat(100_000) + &"]".repeat(100_000);
    throw(&gateway, &view, Injection::Text(nested.clone())).await;
    let event = format!(r#"{{"type":"event","event":"health","payload":{nested}}}"#);
    throw(&gateway, &view, Injection::Text(event)).await;
    let invoke = format!(
        r#"{{"type":"event","event":"node.invoke.request","payload":{{"id":"deep","nodeId":"n","command":"system.which","params":{nested}}}}}"#
    );
    throw(&gateway, &view, Injection::Text(invoke)).await;
    is_unimpressed(&gateway, &node, &view).await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_refused() {
    let gateway = gateway().await;
    let (_home, _node, view) = admitted(&gateway).await;
    for command in ["system.nope", "SYSTEM.WHICH", "x", &"c".repeat(100_000)] {
        let outcome = call(&gateway, &view, command, &json!({})).await;
        assert_eq!(outcome.error(), ("UNAVAILABLE", "command not supported"));
    }
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn a_repeated_invoke_runs_once_and_is_answered_once() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let (runs, go) = (home.path().join("runs"), home.path().join("go"));
    let script = r#"echo run >> "$0"; until [ -e "$1" ]; do sleep 0.02; done"#;
    let run = json!({ "command": ["/bin/sh", "-c", script, runs, go] });
    for _ in 0..3 {
        send_as(&gateway, &view, "twice", "system.run", params(&run)).await;
    }
    // The invokes are taken in order: when this is answered, all three have arrived.
    answers(&gateway, &view).await;
    until("the command starts", || std::fs::metadata(&runs).ok()).await;
    std::fs::write(&go, "").unwrap();
    assert!(outcome(&gateway, "twice").await.is_ok());
    answers(&gateway, &view).await;
    assert_eq!(answers_to(&gateway, "twice").await, 1, "{node}");
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n", "{node}");
}

/// The id of the request with which the node reports a denial.
async fn denial_reported(gateway: &GatewayHandle, connection: ConnectionId) -> String {
    let id = gateway.wait_for(DEADLINE, move |snapshot| {
        snapshot.records().find_map(|record| match &record.what {
            Recorded::Request { id, params, .. }
                if record.connection == connection && params["event"] == "exec.denied" =>
            {
                Some(id.clone())
            }
            _ => None,
        })
    });
    id.await.unwrap()
}

#[tokio::test]
async fn a_denial_is_acknowledged_before_its_result_is_sent() {
    let gateway = gateway().await;
    let home = Home::new();
    home.configure(&json!({ "tools": { "exec": { "security": "deny" } } }));
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    gateway
        .set_faults(Faults {
            withhold_answers: true,
            ..Faults::default()
        })
        .await
        .unwrap();

    let denied = json!({ "command": ["/bin/true"] });
    let id = send(&gateway, &view, "system.run", params(&denied)).await;
    let request = denial_reported(&gateway, view.connection).await;
    // What the node sends comes in order: a result that did not wait is here by then.
    assert!(
        call(&gateway, &view, "system.which", &json!({ "bins": [] }))
            .await
            .is_ok()
    );
    assert_eq!(answers_to(&gateway, &id).await, 0, "{node}");
    let acknowledgement = json!({ "type": "res", "id": request, "ok": true, "payload": {} });
    throw(
        &gateway,
        &view,
        Injection::Text(acknowledgement.to_string()),
    )
    .await;
    let answer = outcome(&gateway, &id).await;
    assert_eq!(
        answer.error(),
        ("SYSTEM_RUN_DENIED", "SYSTEM_RUN_DISABLED: security=deny")
    );

    // A gateway that never acknowledges gets the result all the same.
    let outcome = call(&gateway, &view, "system.run", &denied).await;
    assert_eq!(outcome.error().0, "SYSTEM_RUN_DENIED");
    assert_eq!(answers_to(&gateway, &id).await, 1, "{node}");
}
