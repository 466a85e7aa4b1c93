//! Where configuration and credentials come from, and that nothing is sent while one of them cannot
//! be obeyed.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use common::home::Home;
use common::node::Node;
use common::{CONNECTED, gateway};
use gateway::{DEFAULT_TOKEN, GatewayHandle};
use serde_json::{Value, json};

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn connects(node: Node) {
    node.line(CONNECTED).await;
    node.stop().await;
}

/// How many connections the gateway has seen, accepted or not.
async fn attempts(gateway: &GatewayHandle) -> usize {
    let attempts = gateway.inspect(|snapshot| snapshot.records().count());
    attempts.await.unwrap()
}

#[tokio::test]
async fn the_token_is_found_in_every_place() {
    let gateway = gateway().await;
    let token = DEFAULT_TOKEN;
    let auth = |token: Value| json!({ "gateway": { "auth": { "token": token } } });

    let home = Home::new();
    home.configure(&auth(json!(token)));
    connects(home.run_without_token(gateway.port()).start()).await;

    let home = Home::new();
    home.configure(&auth(json!("${MY_TOKEN}")));
    fs::write(home.state_dir().join(".env"), format!("MY_TOKEN={token}\n")).unwrap();
    connects(home.run_without_token(gateway.port()).start()).await;

    let home = Home::new();
    home.configure(&json!({ "env": { "vars": { "OPENCLAW_GATEWAY_TOKEN": token } } }));
    connects(home.run_without_token(gateway.port()).start()).await;

    let home = Home::new();
    home.configure(&json!({ "gateway": { "$include": "gateway.json5" } }));
    let included = format!("{{ auth: {{ token: '{token}' }} }} // apart");
    fs::write(home.state_dir().join("gateway.json5"), included).unwrap();
    connects(home.run_without_token(gateway.port()).start()).await;

    let home = Home::new();
    let credentials = home.folder("credentials");
    private(
        &credentials.join("OPENCLAW_GATEWAY_TOKEN"),
        &format!("{token}\n"),
    );
    let launch = home.run_without_token(gateway.port());
    connects(launch.env("CREDENTIALS_DIRECTORY", &credentials).start()).await;

    let home = Home::new();
    let env_file = home.path().join("node.env");
    private(
        &env_file,
        &format!("# secrets\nexport OPENCLAW_GATEWAY_TOKEN='{token}'\n"),
    );
    let launch = home.run_without_token(gateway.port());
    let launch = launch.env("OPENCLAW_GATEWAY_TOKEN", "the shell's, which is wrong");
    connects(launch.arg("--env-file").arg(&env_file).start()).await;

    let home = Home::new();
    fs::create_dir_all(home.state_dir()).unwrap();
    let file = home.state_dir().join("node.systemd.env");
    private(&file, &format!("OPENCLAW_GATEWAY_TOKEN={token}\n"));
    let unit = || {
        let launch = home.run_without_token(gateway.port());
        launch.env("OPENCLAW_SYSTEMD_UNIT", "openclaw-node")
    };
    // It is a user unit's; a system unit names no such file.
    let mut node = unit().env("STATE_DIRECTORY", home.state_dir()).start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    connects(unit().start()).await;

    let home = Home::new();
    let secret = home.path().join("token");
    private(&secret, token);
    let mut config = auth(json!({ "source": "file", "provider": "f", "id": "value" }));
    config["secrets"] = json!({ "providers": { "f": { "source": "file", "path": secret, "mode": "singleValue" } } });
    home.configure(&config);
    connects(home.run_without_token(gateway.port()).start()).await;
}

#[tokio::test]
async fn a_reference_that_leads_nowhere_ends_the_node_before_anything_is_sent() {
    let gateway = gateway().await;
    let home = Home::new();
    for (reference, cause) in [
        (
            json!({ "source": "env", "provider": "default", "id": "GONE" }),
            "environment variable GONE is missing or empty",
        ),
        (
            json!("${GONE}"),
            "environment variable GONE is missing or empty",
        ),
        (
            json!("prefix-${GONE}"),
            "environment variable GONE is missing or empty",
        ),
        (
            json!({ "source": "store", "provider": "default", "id": "GONE" }),
            "source \"store\" is not supported here",
        ),
        (
            json!({ "source": "file", "provider": "f", "id": "/a" }),
            "secrets.providers.f is not configured",
        ),
    ] {
        home.configure(&json!({ "gateway": { "auth": { "mode": "token", "token": reference } } }));
        let mut node = home.run_without_token(gateway.port()).start();
        assert_eq!(node.exit_code().await, 1, "{node}");
        // Behind what it says about its new database.
        let mut lines = node.lines();
        let headline = lines.iter().position(|line| line.starts_with("gateway."));
        let lines = lines.split_off(headline.unwrap_or_else(|| panic!("{node}")));
        assert_eq!(
            lines[0],
            "gateway.auth.token is configured as a secret reference but is unavailable in this command path."
        );
        assert!(lines[1].contains(cause), "{node}");
        assert!(lines[2].contains("OPENCLAW_GATEWAY_TOKEN"), "{node}");
        assert_eq!(attempts(&gateway).await, 0, "{node}");
    }
    // Another credential that could not be the wrong one lets it pass.
    connects(home.run(gateway.port()).start()).await;
    // From now on a device token is there, and broken references do not matter any more.
    connects(home.run_without_token(gateway.port()).start()).await;
}

#[tokio::test]
async fn a_configuration_that_cannot_be_obeyed_is_refused_with_its_line() {
    let gateway = gateway().await;
    let refused = |output: Output, expected: &str| {
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}\nlacks\n{expected}");
    };
    let home = Home::new();
    let file = home.folder(".openclaw").join("openclaw.json");
    for (contents, expected) in [
        (
            "{\n  tools: { exec: { ask: 7 } },\n}",
            "openclaw.json:2: tools.exec.ask must be a string",
        ),
        ("{\n  tools:\n}", "openclaw.json is not valid JSON5: "),
        (
            "{ gateway: { $include: '/etc/passwd' } }",
            "openclaw.json:1: $include: it leads out of",
        ),
    ] {
        fs::write(&file, contents).unwrap();
        refused(home.run(gateway.port()).output().await, expected);
    }
    fs::remove_file(&file).unwrap();
    let own = home.state_dir().join("openclaw-node.json5");
    fs::write(&own, "{\n exec: {\n  limits: { cpu: 'two' } } }").unwrap();
    refused(
        home.run(gateway.port()).output().await,
        "openclaw-node.json5:3: exec.limits.cpu must be a number of processors",
    );
    fs::remove_file(&own).unwrap();

    let env_file = home.path().join("node.env");
    let run = || home.run(gateway.port()).arg("--env-file").arg(&env_file);
    refused(run().output().await, "node.env: ");
    private(&env_file, "OPENCLAW_GATEWAY_TOKEN=a\nwhat is this\n");
    refused(run().output().await, "node.env:2: expected KEY=VALUE");
    fs::set_permissions(&env_file, fs::Permissions::from_mode(0o644)).unwrap();
    refused(run().output().await, "chmod 600");
    assert_eq!(attempts(&gateway).await, 0);
}

#[tokio::test]
async fn no_file_lifts_the_ban_on_plain_connections() {
    let home = Home::new();
    home.configure(&json!({ "env": { "vars": { "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS": "1" } } }));
    let dot_env = home.state_dir().join(".env");
    fs::write(dot_env, "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1\n").unwrap();
    let run = home.program(["run", "--host", "10.255.255.1", "--port", "9"]);
    let output = run.env("OPENCLAW_GATEWAY_TOKEN", "t").output().await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("SECURITY ERROR: Cannot connect to \"10.255.255.1\""),
        "{stderr}"
    );
}

#[tokio::test]
async fn what_the_credentials_are_taken_from_is_withheld_from_commands() {
    let gateway = gateway().await;
    let home = Home::new();
    home.configure(&json!({
        "gateway": { "auth": { "token": "${MY_TOKEN}" }, "remote": { "token": "$THEIR_TOKEN" } },
        "tools": { "exec": { "security": "full", "ask": "off" } },
        "env": { "vars": { "FROM_CONFIG": "is passed on" } },
    }));
    let launch = home.run_without_token(gateway.port());
    let node = launch
        .env("MY_TOKEN", DEFAULT_TOKEN)
        .env("THEIR_TOKEN", "secret")
        .env("ORDINARY", "stays")
        .start();
    let view = gateway.admit(common::DEADLINE).await.unwrap();
    let run = json!({ "command": ["/usr/bin/env"] });
    let outcome = common::invoke::call(&gateway, &view, "system.run", &run).await;
    let environment = outcome.payload()["stdout"].as_str().unwrap().to_owned();
    for name in ["MY_TOKEN", "THEIR_TOKEN", "OPENCLAW_GATEWAY_TOKEN"] {
        assert!(!environment.contains(name), "{environment}");
    }
    for line in ["ORDINARY=stays", "FROM_CONFIG=is passed on"] {
        assert!(
            environment.lines().any(|found| found == line),
            "{environment}"
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn explaining_the_credentials_shows_places_and_never_a_value() {
    let home = Home::new();
    home.configure(&json!({
        "gateway": {
            "auth": { "token": "hunter2-config", "password": "hunter2-password" },
            "remote": { "token": "hunter2-remote" },
        },
    }));
    fs::write(
        home.state_dir().join(".env"),
        "OPENCLAW_GATEWAY_TOKEN=hunter2-dotenv\n",
    )
    .unwrap();
    let explain = |arguments: &[&str]| {
        let words = ["auth", "explain"].iter().chain(arguments).copied();
        home.program(words.collect::<Vec<_>>())
            .env("OPENCLAW_GATEWAY_TOKEN", "hunter2-process")
    };
    let output = explain(&["--json"]).output().await;
    assert_eq!(output.status.code(), Some(0));
    let stdout = text(&output.stdout);
    assert!(
        !stdout.contains("hunter2") && output.stderr.is_empty(),
        "{stdout}"
    );
    let explained: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        explained["token"],
        json!({ "source": "env", "path": "OPENCLAW_GATEWAY_TOKEN" })
    );
    assert_eq!(
        explained["password"],
        json!({ "source": "config", "path": "gateway.auth.password" })
    );
    assert_eq!(
        explained["deviceToken"],
        json!({ "present": false, "endpoint": "ws://127.0.0.1:18789" })
    );
    assert_eq!(explained["bootstrapToken"], json!({ "present": false }));
    assert_eq!(explained["error"], Value::Null);
    let dot_env = format!("{}/.env#OPENCLAW_GATEWAY_TOKEN", home.state_dir().display());
    assert_eq!(
        explained["passedOver"],
        json!([
            { "credential": "token", "source": "env", "path": dot_env, "reason": "OPENCLAW_GATEWAY_TOKEN wins" },
            { "credential": "token", "source": "config", "path": "gateway.auth.token", "reason": "OPENCLAW_GATEWAY_TOKEN wins" },
            { "credential": "token", "source": "remote", "path": "gateway.remote.token", "reason": "gateway.mode is not \"remote\"" },
        ])
    );
    let warnings: Vec<&str> = explained["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning.as_str().unwrap())
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings
            .iter()
            .all(|warning| warning
                .ends_with("hold different values; OPENCLAW_GATEWAY_TOKEN is used"))
    );

    let human = text(&explain(&[]).output().await.stdout);
    assert!(
        human.contains("token:           OPENCLAW_GATEWAY_TOKEN (env)"),
        "{human}"
    );
    assert!(!human.contains("hunter2"), "{human}");
    // Values are for tests, through a pipe.
    let revealed = text(&explain(&["--json", "--reveal"]).output().await.stdout);
    assert!(revealed.contains("hunter2-process"), "{revealed}");

    home.configure(&json!({ "gateway": { "auth": { "token": "${GONE}" } } }));
    fs::remove_file(home.state_dir().join(".env")).unwrap();
    let output = home.program(["auth", "explain", "--json"]).output().await;
    assert_eq!(output.status.code(), Some(1));
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(explained["error"]["path"], "gateway.auth.token");
    assert_eq!(explained["token"], Value::Null);
}
