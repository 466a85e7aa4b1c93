//! Secrets that are planted in every place that may hold one show up nowhere but on the wire: not
//! in lines, logs, status, errors, answers to commands, the journal or the database.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::home::Home;
use common::invoke::call;
use common::service_manager::ServiceManager;
use common::{CONNECTED, DEADLINE, gateway, gateway_with};
use gateway::{AuthMode, DEFAULT_TOKEN, GatewayOptions};
use nix::sys::signal::Signal;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Every planted secret contains this.
const MARK: &str = "pLaNtEd";

fn planted(name: &str) -> String {
    format!("{MARK}-{name}-0123456789")
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Every regular file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().file_type() {
            kind if kind.is_dir() => found.extend(files(&path)),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// No file that the node wrote holds a secret; those that hold one were written by the test.
fn nothing_is_written(home: &Home, written_by_test: &[&Path]) {
    let mut count = 0;
    for file in files(home.path()) {
        if written_by_test.contains(&file.as_path()) {
            continue;
        }
        count += 1;
        let bytes = fs::read(&file).unwrap();
        assert!(!contains(&bytes, MARK), "{}", file.display());
    }
    assert!(count > 0, "the node wrote its database");
}

/// openclaw.json with a secret in every key that may hold one, but for `token`.
fn config(token: Value, secret_file: &Path, program: &Path) -> Value {
    json!({
        "secrets": { "providers": {
            "f": { "source": "file", "path": secret_file },
            "x": { "source": "exec", "command": program, "env": { "KEY": planted("provider") } },
        } },
        "gateway": {
            "auth": { "mode": "token", "token": token, "password": planted("password") },
            "remote": { "token": planted("remote-token"), "password": planted("remote-password") },
        },
        "tools": { "exec": { "security": "full", "ask": "off" } },
    })
}

#[tokio::test]
async fn planted_secrets_show_up_nowhere() {
    let token = planted("token");
    let gateway = gateway_with(GatewayOptions {
        auth: AuthMode::Token(SecretString::from(token.as_str())),
        ..GatewayOptions::default()
    })
    .await;
    let home = Home::new();
    let secrets = home.path().join("secrets.json");
    private(&secrets, &json!({ "gw": token }).to_string());
    let program = home.path().join("helper.sh");
    private(&program, "#!/bin/sh\necho \"$KEY\"; exit 1\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let reference = json!({ "source": "file", "provider": "f", "id": "/gw" });
    let openclaw_json = home.state_dir().join("openclaw.json");
    let dot_env = home.state_dir().join(".env");
    home.configure(&config(reference, &secrets, &program));
    private(
        &dot_env,
        &format!("OPENCLAW_GATEWAY_PASSWORD={}\n", planted("dotenv")),
    );
    let ours: [&Path; 4] = [&secrets, &program, &openclaw_json, &dot_env];

    // Everything that is logged, told to the service manager and answered, from start to end.
    let manager = ServiceManager::listen(home.path());
    let node = home
        .run_without_token(gateway.port())
        .env("OPENCLAW_NODE_LOG", "trace")
        .env("NOTIFY_SOCKET", manager.path())
        .env("OPENCLAW_GATEWAY_PASSWORD", planted("env-password"))
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    node.line(CONNECTED).await;
    let run = json!({ "command": ["/usr/bin/env"] });
    let ran = call(&gateway, &view, "system.run", &run).await;
    assert!(!ran.result.to_string().contains(MARK), "{:?}", ran.result);
    node.signal(Signal::SIGHUP);
    node.line("were read again").await;
    let status = home.program(["status", "--json"]).output().await;
    let explained = home
        .program(["auth", "explain", "--json"])
        .env("OPENCLAW_GATEWAY_PASSWORD", planted("env-password"))
        .output()
        .await;
    for output in [status, explained] {
        assert!(
            !contains(&output.stdout, MARK) && !contains(&output.stderr, MARK),
            "{output:?}"
        );
    }
    let text = node.to_string();
    assert!(
        text.contains("DEBUG") || text.contains("TRACE"),
        "it logs all: {text}"
    );
    node.signal(Signal::SIGTERM);
    let mut node = node;
    assert_eq!(node.exit_code().await, 143, "{node}");
    assert!(!node.to_string().contains(MARK), "{node}");
    let heard = manager.heard_so_far().concat();
    assert!(
        heard.contains("READY=1") && heard.contains("STOPPING=1"),
        "it was told all: {heard}"
    );
    assert!(!heard.contains(MARK), "{heard}");
    nothing_is_written(&home, &ours);
}

#[tokio::test]
async fn a_refused_secret_does_not_show_up_either() {
    let gateway = gateway().await;
    assert!(!DEFAULT_TOKEN.contains(MARK));
    let home = Home::new();
    for name in ["OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD"] {
        let mut node = home
            .run_without_token(gateway.port())
            .env("OPENCLAW_NODE_LOG", "trace")
            .env(name, planted("wrong"))
            .start();
        assert_eq!(node.exit_code().await, 1, "{node}");
        assert!(!node.to_string().contains(MARK), "{node}");
    }
    nothing_is_written(&home, &[]);

    // Nor what a program prints that fails, nor what a file holds beside what is asked for.
    let secrets = home.path().join("secrets.json");
    private(&secrets, &json!({ "gw": [planted("item")] }).to_string());
    let program = home.path().join("helper.sh");
    private(
        &program,
        "#!/bin/sh\necho \"$KEY\"; echo \"$KEY\" >&2; exit $1\n",
    );
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    for token in [
        json!({ "source": "file", "provider": "f", "id": "/gone" }),
        json!({ "source": "file", "provider": "f", "id": "/gw" }),
        json!({ "source": "exec", "provider": "x", "id": "gw" }),
    ] {
        home.configure(&config(token, &secrets, &program));
        let mut node = home
            .run_without_token(gateway.port())
            .env("OPENCLAW_NODE_LOG", "trace")
            .start();
        assert_eq!(node.exit_code().await, 1, "{node}");
        node.line("is configured as a secret reference").await;
        assert!(!node.to_string().contains(MARK), "{node}");
        let explained = home.program(["auth", "explain"]).output().await;
        assert!(!contains(&explained.stdout, MARK), "{explained:?}");
    }
    let openclaw_json = home.state_dir().join("openclaw.json");
    nothing_is_written(&home, &[&secrets, &program, &openclaw_json]);

    // Nor do values that configuration is refused for.
    for text in [
        format!("{{gateway: {{auth: {{token: ['{}']}}}}}}", planted("list")),
        format!(
            "{{gateway: {{auth: {{token: '{}' '}}}}}}",
            planted("syntax")
        ),
        format!("{{gateway: {{mode: '{}'}}}}", planted("mode")),
        format!("{{tools: {{exec: {{ask: '{}'}}}}}}", planted("word")),
    ] {
        private(&openclaw_json, &text);
        let output = home.run(gateway.port()).output().await;
        assert_eq!(output.status.code(), Some(1));
        assert!(!contains(&output.stderr, MARK), "{output:?}");
    }
}
