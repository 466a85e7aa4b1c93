//! While the gateway waits for an operator, the node says once what the operator has to type, and
//! notices by itself when it was typed.

#![cfg(test)]

mod common;

use common::home::Home;
use common::{
    CONNECTED, DEADLINE, answers, gateway_with, no_silent_pairing, node_connections, strict_gateway,
};
use gateway::{GatewayHandle, GatewayOptions, Release};
use serde_json::{Value, json};

async fn pending_device(gateway: &GatewayHandle) -> String {
    let pending = gateway.wait_for(DEADLINE, |snapshot| {
        snapshot.pending_devices().first().cloned()
    });
    pending.await.unwrap()
}

async fn pending_surface(gateway: &GatewayHandle) -> String {
    let pending = gateway.wait_for(DEADLINE, |snapshot| {
        snapshot.pending_surfaces().first().cloned()
    });
    pending.await.unwrap()
}

async fn connects_reach(gateway: &GatewayHandle, count: usize) {
    let reached = gateway.wait_for(DEADLINE, move |snapshot| {
        (snapshot.connects().count() >= count).then_some(())
    });
    reached.await.unwrap();
}

async fn operate(gateway: &GatewayHandle, method: &str, request_id: &str) {
    gateway
        .call(method, json!({ "requestId": request_id }))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unpaired_node_says_once_what_to_type_and_polls_until_it_was_typed() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let request = pending_device(&gateway).await;
    connects_reach(&gateway, 3).await;

    let lines = node.lines_until(&request, 1).await;
    assert_eq!(lines.len(), 1, "{node}");
    assert!(
        lines[0].contains(&format!("device pairing required (requestId: {request})")),
        "{node}"
    );
    assert!(
        lines[0].contains(&format!("openclaw devices approve {request}")),
        "{node}"
    );
    assert_eq!(node.lines_with("connect failed").len(), 1, "{node}");

    operate(&gateway, "device.pair.approve", &request).await;
    node.line(CONNECTED).await;
    assert_eq!(
        node.lines_with("openclaw devices approve").len(),
        1,
        "{node}"
    );
}

#[tokio::test]
async fn a_new_request_id_gets_a_new_line() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let first = pending_device(&gateway).await;
    node.line(&format!("openclaw devices approve {first}"))
        .await;

    operate(&gateway, "device.pair.reject", &first).await;
    let second = gateway.wait_for(DEADLINE, {
        let first = first.clone();
        move |snapshot| {
            snapshot
                .pending_devices()
                .iter()
                .find(|id| **id != first)
                .cloned()
        }
    });
    let second = second.await.unwrap();
    node.line(&format!("openclaw devices approve {second}"))
        .await;
    assert_eq!(
        node.lines_with("openclaw devices approve").len(),
        2,
        "{node}"
    );

    operate(&gateway, "device.pair.approve", &second).await;
    node.line(CONNECTED).await;
}

#[tokio::test]
async fn approval_of_the_surface_is_told_apart_from_pairing() {
    let gateway = common::gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let request = pending_surface(&gateway).await;
    let line = node
        .line(&format!("openclaw nodes approve {request}"))
        .await;
    assert!(line.contains("surface"), "{line}");
    assert!(node.lines_with("openclaw devices").is_empty(), "{node}");

    operate(&gateway, "node.pair.approve", &request).await;
    node.line("commands approved").await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    assert_eq!(
        node_connections(&gateway).await,
        1,
        "the live connection goes on: {node}"
    );
    assert_eq!(node.lines_with("openclaw nodes approve").len(), 1, "{node}");
}

#[tokio::test]
async fn a_gateway_that_shows_no_surface_gets_a_hint_instead() {
    let options = GatewayOptions {
        release: Release::May,
        ..GatewayOptions::default()
    };
    let gateway = gateway_with(options).await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    node.line("openclaw nodes pending").await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn both_gates_are_passed_on_both_releases() {
    for release in [Release::May, Release::September] {
        let options = GatewayOptions {
            release,
            pairing: no_silent_pairing(),
            ..GatewayOptions::default()
        };
        let gateway = gateway_with(options).await;
        let home = Home::new();
        let node = home.run(gateway.port()).start();
        let view = gateway.admit(DEADLINE).await.unwrap();
        answers(&gateway, &view).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_removed_device_asks_for_pairing_again() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let device = json!({ "deviceId": view.node_id });
    gateway.call("device.pair.remove", device).await.unwrap();
    let request = pending_device(&gateway).await;
    node.line(&format!("openclaw devices approve {request}"))
        .await;
    let back = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(
        back.node_id, view.node_id,
        "the identity outlives its pairing"
    );
    answers(&gateway, &back).await;
}

#[tokio::test]
async fn polls_present_the_same_identity() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    connects_reach(&gateway, 3).await;
    let devices = gateway.inspect(|snapshot| {
        let id = |connect: &Value| connect.pointer("/device/id").cloned();
        snapshot.connects().map(id).collect::<Vec<_>>()
    });
    let devices = devices.await.unwrap();
    assert!(
        devices
            .iter()
            .all(|device| device.is_some() && *device == devices[0]),
        "{devices:?}"
    );
    let pending = gateway
        .inspect(|snapshot| snapshot.pending_devices().len())
        .await
        .unwrap();
    assert_eq!(pending, 1);
}
