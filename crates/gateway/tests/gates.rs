//! The two approval gates: pairing of the device, approval of the node's surface.

#![cfg(test)]

mod common;

use common::{Closed, DEADLINE, Introduction, RawNode, start};
use openclaw_node_gateway::{GatewayHandle, GatewayOptions, PairingPolicy, Release};
use protocol::identity::DeviceIdentity;
use serde_json::{Value, json};

fn identity() -> DeviceIdentity {
    DeviceIdentity::generate().unwrap()
}

fn gated(release: Release) -> GatewayOptions {
    let pairing = PairingPolicy {
        auto_approve_local: false,
        ..PairingPolicy::default()
    };
    GatewayOptions {
        release,
        pairing,
        ..GatewayOptions::default()
    }
}

async fn refusal(gateway: &GatewayHandle, identity: &DeviceIdentity, with: Introduction) -> Value {
    let (mut node, answer) = RawNode::connect(&gateway.url(), identity, with).await;
    let error = answer.unwrap_err();
    let closed = node.closed().await;
    assert_eq!(closed.code, Some(1008));
    let told = format!(
        "{} (requestId: {})",
        error["message"].as_str().unwrap(),
        error["details"]["requestId"].as_str().unwrap()
    );
    assert!(told.starts_with(&closed.reason), "{closed:?}");
    assert!(closed.reason.len() <= 123);
    error
}

#[actix::test]
async fn an_unknown_device_waits_for_an_operator() {
    let gateway = start(gated(Release::September)).await;
    let identity = identity();
    let error = refusal(&gateway, &identity, Introduction::default()).await;
    let request_id = error["details"]["requestId"].clone();
    let expected = json!({
        "code": "NOT_PAIRED",
        "message": "pairing required: device is not approved yet",
        "details": {
            "code": "PAIRING_REQUIRED", "reason": "not-paired", "requestId": request_id,
            "remediationHint": "Approve this device from the pending pairing requests.",
            "deviceId": identity.device_id(), "requestedRole": "node",
        },
    });
    assert_eq!(error, expected);

    let again = refusal(&gateway, &identity, Introduction::default()).await;
    assert_eq!(
        again["details"]["requestId"], request_id,
        "an open request is reused"
    );

    let reject = json!({ "requestId": request_id });
    gateway
        .call("device.pair.reject", reject.clone())
        .await
        .unwrap();
    let after = refusal(&gateway, &identity, Introduction::default()).await;
    let new_id = after["details"]["requestId"].clone();
    assert_ne!(new_id, request_id, "a rejected request is gone");
    gateway
        .call("device.pair.approve", reject)
        .await
        .unwrap_err();

    gateway
        .call("device.pair.approve", json!({ "requestId": new_id }))
        .await
        .unwrap();
    RawNode::admitted(&gateway.url(), &identity).await;
}

#[actix::test]
async fn a_request_for_something_else_supersedes_the_open_one() {
    let gateway = start(gated(Release::September)).await;
    let identity = identity();
    let first = refusal(&gateway, &identity, Introduction::default()).await;
    let wider = || Introduction {
        scopes: vec!["operator.read".to_owned()],
        ..Introduction::default()
    };
    let second = refusal(&gateway, &identity, wider()).await;
    assert_ne!(
        first["details"]["requestId"],
        second["details"]["requestId"]
    );
    assert_eq!(
        second["details"]["requestedScopes"],
        json!(["operator.read"])
    );
    let pending = gateway
        .inspect(|snapshot| snapshot.pending_devices().to_vec())
        .await
        .unwrap();
    assert_eq!(json!(pending), json!([second["details"]["requestId"]]));

    let id = identity.device_id().as_str().to_owned();
    let superseded = gateway.supersede_request(&id).await.unwrap().unwrap();
    let third = refusal(&gateway, &identity, wider()).await;
    assert_eq!(third["details"]["requestId"], superseded);
    assert_ne!(
        third["details"]["requestId"],
        second["details"]["requestId"]
    );
}

#[actix::test]
async fn a_changed_machine_must_be_approved_again() {
    let client = |platform: &str, family: Option<&str>| {
        let mut client = Introduction::default().client;
        client["platform"] = platform.into();
        match family {
            Some(family) => client["deviceFamily"] = family.into(),
            None => drop(client.as_object_mut().unwrap().remove("deviceFamily")),
        }
        Introduction {
            client,
            ..Introduction::default()
        }
    };
    for release in [Release::May, Release::September] {
        let gateway = start(GatewayOptions {
            release,
            ..GatewayOptions::default()
        })
        .await;
        let identity = identity();
        RawNode::admitted(&gateway.url(), &identity).await;
        let error = refusal(&gateway, &identity, client("macos", Some("Mac"))).await;
        assert_eq!(error["details"]["reason"], "metadata-upgrade");
        assert_eq!(error["details"]["approvedRoles"], json!(["node"]));
        let (_, without_family) =
            RawNode::connect(&gateway.url(), &identity, client("linux", None)).await;
        assert_eq!(without_family.is_ok(), release == Release::September);
        let mut renamed = Introduction::default();
        renamed.client["displayName"] = "other".into();
        renamed.client["version"] = "9.9.9".into();
        renamed.client["instanceId"] = "other".into();
        let (_, answer) = RawNode::connect(&gateway.url(), &identity, renamed).await;
        answer.unwrap();
    }
}

#[actix::test]
async fn a_rotated_or_revoked_token_ends_the_session_and_is_refused() {
    let gateway = start(GatewayOptions::default()).await;
    let identity = identity();
    let id = json!(identity.device_id());
    let with = |token: &Value| Introduction {
        auth: json!({ "token": token, "deviceToken": token }),
        ..Introduction::default()
    };
    let (_, hello) = RawNode::connect(&gateway.url(), &identity, Introduction::default()).await;
    let old = hello.unwrap()["auth"]["deviceToken"].clone();
    let (mut node, hello) = RawNode::connect(&gateway.url(), &identity, with(&old)).await;
    assert_eq!(hello.unwrap()["auth"]["method"], "device-token");

    let token = json!({ "deviceId": id, "role": "node" });
    let rotated = gateway
        .call("device.token.rotate", token.clone())
        .await
        .unwrap();
    assert_eq!(rotated["tokenDelivery"], "withheld-cross-device");
    let removed = Closed {
        code: Some(4001),
        reason: "device removed".to_owned(),
    };
    assert_eq!(node.closed().await, removed);
    let (_, stale) = RawNode::connect(&gateway.url(), &identity, with(&old)).await;
    assert_eq!(
        stale.unwrap_err()["details"]["code"],
        "AUTH_DEVICE_TOKEN_MISMATCH"
    );
    let (_, hello) = RawNode::connect(&gateway.url(), &identity, Introduction::default()).await;
    let new = hello.unwrap()["auth"]["deviceToken"].clone();
    assert_ne!(new, old);

    gateway.call("device.token.revoke", token).await.unwrap();
    let (_, revoked) = RawNode::connect(&gateway.url(), &identity, with(&new)).await;
    assert_eq!(
        revoked.unwrap_err()["details"]["code"],
        "AUTH_DEVICE_TOKEN_MISMATCH"
    );
    let error = refusal(&gateway, &identity, Introduction::default()).await;
    assert_eq!(error["details"]["reason"], "role-upgrade");
    let approve = json!({ "requestId": error["details"]["requestId"] });
    gateway.call("device.pair.approve", approve).await.unwrap();
    RawNode::admitted(&gateway.url(), &identity).await;
}

#[actix::test]
async fn a_removed_device_is_a_stranger_again() {
    let gateway = start(GatewayOptions::default()).await;
    let identity = identity();
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    gateway.admit(DEADLINE).await.unwrap();
    let id = json!({ "deviceId": identity.device_id() });
    gateway
        .call("device.pair.remove", id.clone())
        .await
        .unwrap();
    assert_eq!(node.closed().await.code, Some(4001));
    gateway.call("device.pair.remove", id).await.unwrap_err();
    assert_eq!(
        gateway.call("node.list", json!({})).await.unwrap()["nodes"],
        json!([])
    );
    RawNode::admitted(&gateway.url(), &identity).await;
    let pending = gateway
        .inspect(|snapshot| snapshot.pending_surfaces().len())
        .await
        .unwrap();
    assert_eq!(pending, 1, "the surface has to be approved again as well");
}

#[actix::test]
async fn an_unapproved_surface_is_named_in_every_refusal() {
    let gateway = start(GatewayOptions::default()).await;
    let identity = identity();
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    let stats = json!({ "event": "node.host.stats", "payloadJSON": "{\"cpuCount\":2}" });
    let changed = json!({
        "code": "UNAVAILABLE", "message": "node pairing changed while invocation was active",
        "retryable": true, "details": { "code": "PAIRING_CHANGED" },
    });
    assert_eq!(
        node.request("node.event", stats.clone()).await.unwrap_err(),
        changed
    );
    let inventory = json!({ "protocolFeatures": [] });
    let error = node
        .request("node.runnerInventory.update", inventory.clone())
        .await
        .unwrap_err();
    let pending = gateway
        .inspect(|snapshot| snapshot.pending_surfaces().to_vec())
        .await
        .unwrap();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains(&format!("openclaw nodes approve {}`", pending[0]))
    );
    let skills = node
        .request("node.skills.update", json!({ "skills": [] }))
        .await
        .unwrap();
    assert_eq!(skills["skills"], json!([]));

    let invoke = json!({
        "nodeId": identity.device_id(), "command": "system.which", "params": {},
        "idempotencyKey": "k",
    });
    let refused = gateway.call("node.invoke", invoke).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("node pairing changed while invocation was active")
    );

    gateway
        .call("node.pair.approve", json!({ "requestId": pending[0] }))
        .await
        .unwrap();
    let resolved = node.event("node.pair.resolved").await;
    assert_eq!(
        (&resolved["decision"], &resolved["requestId"]),
        (&"approved".into(), &json!(pending[0]))
    );
    let updated = node.request("node.event", stats).await.unwrap();
    assert_eq!(
        updated,
        json!({ "ok": true, "event": "node.host.stats", "handled": true, "reason": "updated" })
    );
    node.request("node.runnerInventory.update", inventory)
        .await
        .unwrap();
}

#[actix::test]
async fn the_older_release_approves_in_silence() {
    let gateway = start(GatewayOptions {
        release: Release::May,
        ..GatewayOptions::default()
    })
    .await;
    let mut node = RawNode::admitted(&gateway.url(), &identity()).await;
    let stats = json!({ "event": "node.host.stats", "payloadJSON": "{}" });
    assert_eq!(
        node.request("node.event", stats).await.unwrap(),
        json!({ "ok": true })
    );
    let admitted = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(
        admitted.commands,
        ["system.run", "system.run.prepare", "system.which"]
    );
    let error = node
        .request("node.runnerInventory.update", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error["message"], "unauthorized role: node");
    // Had an event been sent, it would stand before this one.
    let invoke = json!({
        "nodeId": admitted.node_id, "command": "system.which", "params": {},
        "idempotencyKey": "k",
    });
    let (answer, seen) = tokio::join!(
        gateway.call("node.invoke", invoke),
        node.answer_invoke(json!({}))
    );
    answer.unwrap();
    assert_eq!(seen.get("timeoutMs"), None);
}

#[actix::test]
async fn a_changed_declaration_waits_while_its_approved_part_works() {
    let gateway = start(GatewayOptions::default()).await;
    let identity = identity();
    let narrow = || Introduction {
        commands: json!(["system.which"]),
        ..Introduction::default()
    };
    let (first, _) = RawNode::connect(&gateway.url(), &identity, narrow()).await;
    gateway.admit(DEADLINE).await.unwrap();
    drop(first);
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    let listed = gateway.call("node.list", json!({})).await.unwrap()["nodes"][0].clone();
    assert_eq!(listed["approvalState"], "pending-reapproval");
    assert_eq!(listed["commands"], json!(["system.which"]));
    let invoke = |command: &str| {
        json!({
            "nodeId": identity.device_id(), "command": command, "params": {},
            "idempotencyKey": command,
        })
    };
    let (answer, _) = tokio::join!(
        gateway.call("node.invoke", invoke("system.which")),
        node.answer_invoke(json!({ "bins": {} }))
    );
    answer.unwrap();
    let refused = gateway
        .call("node.invoke", invoke("system.run"))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("does not support \"system.run\""),
        "{refused}"
    );
    let request_id = listed["pendingRequestId"].clone();
    gateway
        .call("node.pair.reject", json!({ "requestId": request_id }))
        .await
        .unwrap();
    assert_eq!(
        node.event("node.pair.resolved").await["decision"],
        "rejected"
    );
}
