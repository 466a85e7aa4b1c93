//! SIGHUP: configuration and credentials are read again, and nothing that runs notices.

#![cfg(test)]

mod common;

use std::fs;

use common::home::Home;
use common::invoke::{call, outcome, params, send};
use common::service_manager::ServiceManager;
use common::{CONNECTED, DEADLINE, answers, gateway, gateway_with, node_connections, until};
use gateway::{AuthMode, DEFAULT_TOKEN, GatewayOptions};
use nix::sys::signal::Signal;
use secrecy::SecretString;
use serde_json::json;

const RELOADED: &str = "configuration and credentials were read again";
const KEPT: &str = "nothing was reloaded, everything stays as it was: ";

#[tokio::test]
async fn the_policy_changes_while_a_command_and_the_connection_stay() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let folder = home.folder("work");
    let manager = ServiceManager::listen(home.path());
    let node = home
        .run(gateway.port())
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    manager.hears("READY=1").await;
    manager.heard_so_far();

    // Runs until a file appears, so that it is certain to outlast the reload.
    let script = "touch started; while [ ! -e go ]; do sleep 0.05; done; echo done $FROM_DOT_ENV";
    let run = json!({ "command": ["/bin/sh", "-c", script], "cwd": folder });
    let running = send(&gateway, &view, "system.run", params(&run)).await;
    until("the command runs", || {
        folder.join("started").exists().then_some(())
    })
    .await;

    home.configure(&json!({ "tools": { "exec": { "security": "deny" } } }));
    fs::write(home.state_dir().join(".env"), "FROM_DOT_ENV=later\n").unwrap();
    node.signal(Signal::SIGHUP);
    node.line(RELOADED).await;
    manager.hears("RELOADING=1").await;
    manager.hears("READY=1").await;
    let denied = json!({ "command": ["/bin/true"] });
    let denied = call(&gateway, &view, "system.run", &denied).await;
    assert!(!denied.is_ok(), "{node}");

    fs::write(folder.join("go"), "").unwrap();
    let outcome = outcome(&gateway, &running).await;
    // What was running keeps the environment that it was started with.
    assert_eq!(outcome.payload()["stdout"], "done\n", "{node}");
    answers(&gateway, &view).await;

    home.allow_everything();
    node.signal(Signal::SIGHUP);
    node.lines_until(RELOADED, 2).await;
    let show = json!({ "command": ["/bin/sh", "-c", "echo $FROM_DOT_ENV"] });
    let shown = call(&gateway, &view, "system.run", &show).await;
    assert_eq!(shown.payload()["stdout"], "later\n", "{node}");
    assert_eq!(node_connections(&gateway).await, 1, "{node}");
    node.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_obeyed_changes_nothing() {
    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    let node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;

    home.configure(&json!({ "tools": { "exec": { "security": "nonsense" } } }));
    node.signal(Signal::SIGHUP);
    let line = node.line(KEPT).await;
    assert!(
        line.contains("tools.exec.security has an unknown value"),
        "{line}"
    );
    home.configure(&json!({
        "gateway": { "remote": { "token": 7 } },
    }));
    node.signal(Signal::SIGHUP);
    node.lines_until(KEPT, 2).await;
    fs::write(
        home.state_dir().join("openclaw-node.json5"),
        "{exec: {maxQueued: -1}}",
    )
    .unwrap();
    home.allow_everything();
    node.signal(Signal::SIGHUP);
    let line = node.lines_until(KEPT, 3).await.pop().unwrap();
    assert!(
        line.contains("openclaw-node.json5:1: exec.maxQueued must be"),
        "{line}"
    );

    let run = json!({ "command": ["/bin/true"] });
    let outcome = call(&gateway, &view, "system.run", &run).await;
    assert_eq!(outcome.payload()["success"], true, "{node}");
    assert_eq!(node_connections(&gateway).await, 1, "{node}");
    node.stop().await;
}

#[tokio::test]
async fn a_credential_that_was_corrected_is_used_at_once() {
    let gateway = gateway().await;
    let home = Home::new();
    let config = |token: &str| json!({ "gateway": { "auth": { "token": token } } });
    home.configure(&config("wrong"));
    let mut node = home.run_without_token(gateway.port()).start();
    assert_eq!(node.exit_code().await, 1, "{node}");

    // The next start holds the refused token back, for a minute after four refusals, which is longer
    // than anything is waited for here; what replaces it has no reason to wait.
    let database = rusqlite::Connection::open(home.database()).unwrap();
    let refused = database.execute("UPDATE auth_failure SET attempts = 4", []);
    assert_eq!(refused.unwrap(), 1);
    drop(database);
    let node = home.run_without_token(gateway.port()).start();
    node.line("before connecting").await;
    // Nothing else in the file is a reason to try the same token again, unless somebody says so.
    let mut changed = config("wrong");
    changed["tools"] = json!({ "exec": { "security": "deny" } });
    home.configure(&changed);
    node.line(RELOADED).await;
    assert_eq!(node_connections(&gateway).await, 1, "{node}");
    home.configure(&config(DEFAULT_TOKEN));
    node.line(CONNECTED).await;
    node.stop().await;
}

#[tokio::test]
async fn an_operator_can_have_a_refused_credential_tried_again() {
    let gateway = gateway().await;
    let home = Home::new();
    let wrong = || {
        home.run_without_token(gateway.port())
            .env("OPENCLAW_GATEWAY_TOKEN", "wrong")
    };
    let mut node = wrong().start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    let mut node = wrong().start();
    node.line("before connecting").await;
    node.signal(Signal::SIGHUP);
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert_eq!(node_connections(&gateway).await, 2, "{node}");
}

#[tokio::test]
async fn a_revoked_device_token_is_replaced_by_what_is_configured() {
    let gateway = gateway_with(GatewayOptions {
        auth: AuthMode::Token(SecretString::from(DEFAULT_TOKEN)),
        ..GatewayOptions::default()
    })
    .await;
    let home = Home::new();
    home.configure(&json!({ "gateway": { "auth": { "token": DEFAULT_TOKEN } } }));
    let node = home.run_without_token(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    node.stop().await;

    // From now on the device token serves, and the configured one is not even looked at.
    let node = home.run_without_token(gateway.port()).start();
    node.line(CONNECTED).await;
    let revoked = json!({ "deviceId": view.node_id, "role": "node" });
    gateway.call("device.token.revoke", revoked).await.unwrap();
    // The configured token is what the gateway lets it ask to be paired again with.
    let line = node.line("openclaw devices approve ").await;
    let request = line.split_whitespace().last().unwrap();
    let approved = json!({ "requestId": request });
    gateway.call("device.pair.approve", approved).await.unwrap();
    node.lines_until(CONNECTED, 2).await;
    node.stop().await;
}
