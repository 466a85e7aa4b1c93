#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]
use openclaw_node_gateway::relay::*;
use openclaw_node_gateway::*;
use serde_json::json;
use std::time::Duration;
#[actix::main]
async fn main() {
    let port: u16 = std::env::args().nth(1).unwrap().parse().unwrap();
    let token = "test-token-0123456789abcdef";
    let url = format!("ws://127.0.0.1:{port}");
    let op = Operator::connect(&url, OperatorAuth::Token(token.into()))
        .await
        .unwrap();
    println!("hello {}", op.hello()["server"]);
    let mut events = op.events();
    println!(
        "nodes {:?}",
        op.call("node.list", json!({}))
            .await
            .map(|v| v.to_string().len())
    );
    println!(
        "bad {:?}",
        op.call("node.pair.approve", json!({"requestId":"x"})).await
    );
    let dev = Operator::connect(
        &url,
        OperatorAuth::Device {
            identity: Box::new(openclaw_node_protocol_identity()),
            token: Some(token.into()),
        },
    )
    .await;
    println!(
        "device {:?}",
        dev.as_ref().map(|d| d.hello()["auth"]["scopes"].clone())
    );
    println!(
        "health {:?}",
        dev.unwrap()
            .call("health", json!({}))
            .await
            .map(|v| v.to_string().len())
    );
    println!(
        "wrong {:?}",
        Operator::connect(&url, OperatorAuth::Token("nope".into()))
            .await
            .map(|_| ())
    );
    println!(
        "refused {:?}",
        Operator::connect("ws://127.0.0.1:1", OperatorAuth::None)
            .await
            .map(|_| ())
    );
    println!(
        "event {:?}",
        tokio::time::timeout(Duration::from_secs(35), events.recv())
            .await
            .map(|e| e.unwrap().name)
    );
    let relay = Relay::start(RelayOptions {
        port: 0,
        target: ([127, 0, 0, 1], port).into(),
        header: Some(("X-Forwarded-For".into(), "203.0.113.7".into())),
    })
    .await
    .unwrap();
    println!(
        "xff {:?}",
        Operator::connect(&relay.url(), OperatorAuth::Token(token.into()))
            .await
            .map(|_| ())
    );
    let relay = Relay::start(RelayOptions::to(([127, 0, 0, 1], port).into()))
        .await
        .unwrap();
    let through = Operator::connect(&relay.url(), OperatorAuth::Token(token.into()))
        .await
        .unwrap();
    println!(
        "through {:?}",
        through.call("health", json!({})).await.is_ok()
    );
    relay.set_flow(Flow::Freeze);
    println!(
        "frozen {:?}",
        through
            .call_within("health", json!({}), Duration::from_secs(1))
            .await
            .map(|_| ())
    );
    relay.set_flow(Flow::Pass);
    println!(
        "thawed {:?}",
        through
            .call_within("health", json!({}), Duration::from_secs(5))
            .await
            .map(|_| ())
    );
    relay.cut();
    println!(
        "cut {:?}",
        through
            .call_within("health", json!({}), Duration::from_secs(5))
            .await
            .map(|_| ())
    );
    op.close().await;
    println!(
        "closed {:?}",
        op.call("health", json!({})).await.map(|_| ())
    );
    // wait for pings: idle 60 s then call
    let idle = Operator::connect(&url, OperatorAuth::Token(token.into()))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(62)).await;
    println!(
        "after idle {:?}",
        idle.call("health", json!({})).await.is_ok()
    );
}
fn openclaw_node_protocol_identity() -> protocol::identity::DeviceIdentity {
    protocol::identity::DeviceIdentity::generate().unwrap()
}
