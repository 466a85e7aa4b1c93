//! Credentials: a refused one ends the process with what to do, is not hammered by restarts, and
//! none is ever shown to a gateway that it is not for.

#![cfg(test)]

mod common;

use std::fs;
use std::time::Duration;

use common::home::Home;
use common::invoke::{params, send};
use common::node::Node;
use common::process::{is_running, pids_in};
use common::service_manager::ServiceManager;
use common::{CONNECTED, DEADLINE, admitted, answers, gateway, gateway_with, offline};
use gateway::{
    AuthMethod, AuthMode, ConnectionId, DEFAULT_TOKEN, GatewayHandle, GatewayOptions, NodeView,
    RateLimit, Recorded,
};
use secrecy::SecretString;
use serde_json::{Value, json};

/// `auth` of every connect request so far, null where there was none.
async fn presented(gateway: &GatewayHandle) -> Vec<Value> {
    let auths = gateway.inspect(|snapshot| {
        let auth = |connect: &Value| connect.get("auth").cloned().unwrap_or(Value::Null);
        snapshot.connects().map(auth).collect()
    });
    auths.await.unwrap()
}

async fn admitted_by(gateway: &GatewayHandle, connection: ConnectionId) -> AuthMethod {
    let method = gateway.wait_for(DEADLINE, move |snapshot| {
        snapshot.records().find_map(|record| match record.what {
            Recorded::Admitted { method, .. } if record.connection == connection => Some(method),
            _ => None,
        })
    });
    method.await.unwrap()
}

async fn revoke(gateway: &GatewayHandle, node: &NodeView) {
    let token = json!({ "deviceId": node.node_id, "role": "node" });
    gateway.call("device.token.revoke", token).await.unwrap();
}

/// How many device tokens are stored.
fn stored_tokens(home: &Home) -> u32 {
    let database = rusqlite::Connection::open(home.database()).unwrap();
    database
        .query_row("SELECT COUNT(*) FROM device_token", [], |row| row.get(0))
        .unwrap()
}

/// A home whose node `gateway` knows and has issued a device token to; the node is gone.
async fn known_home(gateway: &GatewayHandle) -> (Home, NodeView) {
    let (home, node, view) = admitted(gateway).await;
    node.stop().await;
    offline(gateway).await;
    (home, view)
}

async fn pauses(mut node: Node, message: &str, code: &str) -> Node {
    assert_eq!(node.exit_code().await, 1, "{node}");
    let upstream = [
        format!("node host gateway connect failed: {message}"),
        format!(
            "node host gateway reconnect paused after close (1008): {message} detail={code}; exiting for supervisor restart"
        ),
        format!("node host gateway closed (1008): {message}"),
    ];
    let lines: Vec<String> = node.lines_with("node host gateway ");
    assert_eq!(lines, upstream, "{node}");
    node
}

#[tokio::test]
async fn a_wrong_or_missing_credential_exits_with_upstreams_lines() {
    let token = gateway().await;
    let password = AuthMode::Password(SecretString::from("right"));
    let password = gateway_with(GatewayOptions {
        auth: password,
        ..GatewayOptions::default()
    })
    .await;
    let cases = [
        (
            &token,
            Some(("OPENCLAW_GATEWAY_TOKEN", "wrong")),
            "unauthorized: gateway token mismatch (provide gateway auth token)",
            "AUTH_TOKEN_MISMATCH",
        ),
        (
            &token,
            None,
            "unauthorized: gateway token missing (provide gateway auth token)",
            "AUTH_TOKEN_MISSING",
        ),
        (
            &password,
            Some(("OPENCLAW_GATEWAY_PASSWORD", "wrong")),
            "unauthorized: gateway password mismatch (provide gateway auth password)",
            "AUTH_PASSWORD_MISMATCH",
        ),
        (
            &password,
            None,
            "unauthorized: gateway password missing (provide gateway auth password)",
            "AUTH_PASSWORD_MISSING",
        ),
    ];
    for (gateway, credential, message, code) in cases {
        let home = Home::new();
        let mut launch = home.run_without_token(gateway.port());
        if let Some((name, value)) = credential {
            launch = launch.env(name, value);
        }
        let before = presented(gateway).await.len();
        let node = pauses(launch.start(), message, code).await;
        assert_eq!(
            presented(gateway).await.len(),
            before + 1,
            "one attempt: {node}"
        );
        let remedy = node.lines_with("openclaw-node: ");
        let variable = if code.contains("TOKEN") {
            "OPENCLAW_GATEWAY_TOKEN"
        } else {
            "OPENCLAW_GATEWAY_PASSWORD"
        };
        assert!(remedy.iter().any(|line| line.contains(variable)), "{node}");
        assert!(
            node.lines_with("wrong").is_empty(),
            "no secret is printed: {node}"
        );
    }
}

#[tokio::test]
async fn a_right_password_connects() {
    let auth = AuthMode::Password(SecretString::from("right"));
    let gateway = gateway_with(GatewayOptions {
        auth,
        ..GatewayOptions::default()
    })
    .await;
    let home = Home::new();
    let launch = home
        .run_without_token(gateway.port())
        .env("OPENCLAW_GATEWAY_PASSWORD", "right");
    let _node = launch.start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn a_refused_credential_is_held_back_at_the_next_start_and_a_changed_one_is_not() {
    let gateway = gateway().await;
    let home = Home::new();
    let wrong = || {
        home.run_without_token(gateway.port())
            .env("OPENCLAW_GATEWAY_TOKEN", "wrong")
    };
    let mut node = wrong().start();
    assert_eq!(node.exit_code().await, 1, "{node}");

    let manager = ServiceManager::listen(home.path());
    let mut held_back = wrong().env("NOTIFY_SOCKET", manager.path()).start();
    let status = manager.hears("STATUS=").await;
    assert!(status.contains("waiting 10s before connecting"), "{status}");
    // A unit of Type=notify must count as started all the same.
    manager.hears("READY=1").await;
    assert_eq!(
        presented(&gateway).await.len(),
        1,
        "the gateway is left alone: {held_back}"
    );
    held_back.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(held_back.exit_code().await, 143, "{held_back}");
    assert_eq!(presented(&gateway).await.len(), 1, "{held_back}");

    let node = home
        .run(gateway.port())
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    let status = manager.hears("STATUS=conn").await;
    assert!(status.contains("connecting to "), "{status}");
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    assert!(node.lines_with("waiting").is_empty(), "{node}");
}

#[tokio::test]
async fn a_success_forgets_the_refusals_before_it() {
    let gateway = gateway().await;
    let home = Home::new();
    let wrong = || {
        home.run_without_token(gateway.port())
            .env("OPENCLAW_GATEWAY_TOKEN", "wrong")
    };
    let mut node = wrong().start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    let node = home.run(gateway.port()).start();
    node.line(CONNECTED).await;
    node.stop().await;
    // The wrong token finds a device token beside it now, which is tried before giving up (§7.3).
    let node = wrong().start();
    node.line(CONNECTED).await;
    assert!(node.lines_with("waiting").is_empty(), "{node}");
}

#[tokio::test]
async fn a_known_node_needs_no_shared_secret() {
    let gateway = gateway().await;
    let (home, known) = known_home(&gateway).await;
    let node = home.run_without_token(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.node_id, known.node_id);
    assert_eq!(
        admitted_by(&gateway, view.connection).await,
        AuthMethod::DeviceToken,
        "{node}"
    );
    answers(&gateway, &view).await;
}

#[tokio::test]
async fn a_rotated_shared_token_falls_back_to_the_device_token() {
    let gateway = gateway().await;
    let (home, _) = known_home(&gateway).await;
    let node = home
        .run_without_token(gateway.port())
        .env("OPENCLAW_GATEWAY_TOKEN", "outdated")
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(
        admitted_by(&gateway, view.connection).await,
        AuthMethod::DeviceToken,
        "{node}"
    );
}

#[tokio::test]
async fn a_revoked_device_token_is_cleared_and_without_another_credential_the_node_exits() {
    let gateway = gateway().await;
    let (home, _) = known_home(&gateway).await;
    let mut node = home.run_without_token(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(stored_tokens(&home), 1);
    revoke(&gateway, &view).await;
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert_eq!(stored_tokens(&home), 0, "{node}");
    let paused = node.lines_with("reconnect paused after close (1008)");
    assert!(
        paused[0].contains("detail=AUTH_DEVICE_TOKEN_MISMATCH"),
        "{node}"
    );
    assert!(
        !node.lines_with("OPENCLAW_GATEWAY_TOKEN").is_empty(),
        "it says what to do: {node}"
    );
}

#[tokio::test]
async fn a_node_that_pauses_ends_its_commands_first() {
    let gateway = gateway().await;
    let (home, _) = known_home(&gateway).await;
    home.allow_everything();
    // The loss of the connection alone would let the command go on.
    fs::write(
        home.state_dir().join("openclaw-node.json5"),
        r#"{ exec: { onDisconnect: "finish" } }"#,
    )
    .unwrap();
    let mut node = home.run_without_token(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let file = home.path().join("pids");
    let script = r#"echo $$ >> "$0"; exec sleep 300"#;
    let run = json!({ "command": ["/bin/sh", "-c", script, file] });
    send(&gateway, &view, "system.run", params(&run)).await;
    let pids = pids_in(&file, 1).await;
    revoke(&gateway, &view).await;
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert!(!is_running(pids[0]), "{node}");
    let database = rusqlite::Connection::open(home.database()).unwrap();
    let ending: Option<String> = database
        .query_row("SELECT ending FROM run_journal", [], |row| row.get(0))
        .unwrap();
    assert_eq!(ending.as_deref(), Some("cancelled"), "{node}");
}

#[tokio::test]
async fn a_revoked_device_token_is_cleared_and_another_credential_is_used_at_once() {
    let gateway = gateway().await;
    let (home, known) = known_home(&gateway).await;
    revoke(&gateway, &known).await;
    let before = presented(&gateway).await.len();
    let mut node = home
        .run_without_token(gateway.port())
        .env("OPENCLAW_GATEWAY_TOKEN", "outdated")
        .start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert_eq!(stored_tokens(&home), 0, "{node}");
    let presented = presented(&gateway).await.split_off(before);
    assert_eq!(presented.len(), 3, "{node}");
    assert_eq!(presented[0], json!({ "token": "outdated" }));
    assert_eq!(presented[1]["token"], "outdated");
    assert!(
        presented[1]["deviceToken"].is_string(),
        "the one retry adds the device token"
    );
    assert_eq!(
        presented[2],
        json!({ "token": "outdated" }),
        "the dead token is not sent again"
    );
}

#[tokio::test]
async fn a_device_token_is_never_sent_to_another_endpoint() {
    let home_gateway = gateway().await;
    let (home, known) = known_home(&home_gateway).await;
    let stranger = gateway().await;
    let mut node = home.run_without_token(stranger.port()).start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert_eq!(presented(&stranger).await, [Value::Null], "{node}");

    // With the shared token of the stranger it is paired there, and each keeps its own token.
    let node = home.run(stranger.port()).start();
    node.line(CONNECTED).await;
    assert!(
        presented(&stranger)
            .await
            .iter()
            .all(|auth| auth.get("deviceToken").is_none())
    );
    node.stop().await;
    let _node = home.run_without_token(home_gateway.port()).start();
    let view = home_gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.node_id, known.node_id);
    assert_eq!(stored_tokens(&home), 2);
}

#[tokio::test]
async fn a_changed_node_id_clears_the_device_token_and_says_so() {
    let gateway = gateway().await;
    let (home, _) = known_home(&gateway).await;
    let mut node = home
        .run_without_token(gateway.port())
        .arg("--node-id")
        .arg("another")
        .start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    let lines = node.lines_with("node id changed");
    assert_eq!(lines.len(), 1, "{node}");
    assert!(
        lines[0].contains("another") && lines[0].contains("device token"),
        "{node}"
    );
    assert_eq!(
        presented(&gateway).await.last(),
        Some(&Value::Null),
        "{node}"
    );
    assert_eq!(stored_tokens(&home), 0);
}

#[tokio::test]
async fn the_same_node_id_again_keeps_the_device_token() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home
        .run(gateway.port())
        .arg("--node-id")
        .arg("chosen")
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    node.stop().await;
    offline(&gateway).await;
    let node = home
        .run_without_token(gateway.port())
        .arg("--node-id")
        .arg("chosen")
        .start();
    let again = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(again.node_id, view.node_id);
    assert!(node.lines_with("node id changed").is_empty(), "{node}");
    let instances = gateway.inspect(|snapshot| {
        let id = |connect: &Value| connect.pointer("/client/instanceId").cloned();
        snapshot.connects().filter_map(id).collect::<Vec<_>>()
    });
    assert_eq!(instances.await.unwrap(), ["chosen", "chosen"]);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() {
    let rate_limit = RateLimit {
        max_attempts: 1,
        lockout: Duration::from_secs(3),
        exempt_loopback: false,
        ..RateLimit::default()
    };
    let gateway = gateway_with(GatewayOptions {
        rate_limit,
        ..GatewayOptions::default()
    })
    .await;
    let offender = Home::new();
    let offence = offender
        .run_without_token(gateway.port())
        .env("OPENCLAW_GATEWAY_TOKEN", "wrong");
    let mut node = offence.start();
    assert_eq!(node.exit_code().await, 1, "{node}");

    let home = Home::new();
    let node = home.run(gateway.port()).start();
    let limited = gateway.wait_for(DEADLINE, |snapshot| {
        let code = snapshot.refusals().next_back()?.detail("code")?;
        (code == "AUTH_RATE_LIMITED").then_some(())
    });
    limited.await.unwrap();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    let limited = gateway.inspect(|snapshot| {
        let is_limit = |error: &&protocol::frame::GatewayError| {
            error.detail("code") == Some("AUTH_RATE_LIMITED")
        };
        snapshot.refusals().filter(is_limit).count()
    });
    assert_eq!(
        limited.await.unwrap(),
        1,
        "it asks again when it may, not before: {node}"
    );
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home
        .run(gateway.port())
        .env("OPENCLAW_NODE_LOG", "trace")
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(&gateway, &view).await;
    let token: String = rusqlite::Connection::open(home.database())
        .unwrap()
        .query_row("SELECT token FROM device_token", [], |row| row.get(0))
        .unwrap();
    assert!(!node.lines().is_empty());
    for secret in [token.as_str(), DEFAULT_TOKEN] {
        assert!(node.lines_with(secret).is_empty(), "{secret} is in the log");
    }
}
