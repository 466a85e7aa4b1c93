//! Credentials from openclaw.json against real gateways, and that upstream accepts the files from
//! which they are read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gateway::Release;
use gateway::relay::{Relay, RelayOptions};
use serde_json::{Value, json};

use crate::gateway_process::{GatewayProcess, PASSWORD, TOKEN};
use crate::lab;
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::process::Folder;

on_each_release!(a_token_in_a_private_file_gets_the_node_in);
on_each_release!(a_password_that_a_program_prints_gets_the_node_in);
on_each_release!(a_reference_that_leads_nowhere_sends_nothing);
on_each_release!(upstream_accepts_the_samples_of_openclaw_json);

fn configure(home: &NodeHome, config: &Value) {
    let state = home.path().join("state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn a_token_in_a_private_file_gets_the_node_in(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let home = NodeHome::new(Host::Ours);
    let secrets = home.path().join("secrets.json");
    write(
        &secrets,
        &json!({ "gateway": { "token": TOKEN } }).to_string(),
        0o600,
    );
    configure(
        &home,
        &json!({
            "secrets": { "providers": { "vault": { "source": "file", "path": secrets } } },
            "gateway": { "auth": {
                "mode": "token",
                "token": { "source": "file", "provider": "vault", "id": "/gateway/token" },
            } },
        }),
    );
    let mut node = home.start(Start::without_token(gateway.address()));
    node.wait_for_line("node host gateway connected", 1).await;
    node.stop().await;

    // The device token serves now, so that it does not matter what became of the file.
    fs::remove_file(&secrets).unwrap();
    let mut node = home.start(Start::without_token(gateway.address()));
    node.wait_for_line("node host gateway connected", 1).await;
    node.stop().await;
}

async fn a_password_that_a_program_prints_gets_the_node_in(release: Release) {
    let auth = json!({ "mode": "password", "password": PASSWORD });
    let gateway = GatewayProcess::start(release, json!({ "gateway": { "auth": auth } })).await;
    let home = NodeHome::new(Host::Ours);
    let program = home.path().join("helper.sh");
    let answer = json!({ "protocolVersion": 1, "values": { "gateway/password": PASSWORD } });
    write(
        &program,
        &format!("#!/bin/sh\ncat >/dev/null\necho '{answer}'\n"),
        0o700,
    );
    configure(
        &home,
        &json!({
            "secrets": { "providers": { "helper": {
                "source": "exec", "command": program, "env": { "PATH": "/usr/bin:/bin" },
            } } },
            "gateway": {
                "mode": "remote",
                "remote": { "password": { "source": "exec", "provider": "helper", "id": "gateway/password" } },
            },
        }),
    );
    let mut node = home.start(Start::without_token(gateway.address()));
    node.wait_for_line("node host gateway connected", 1).await;
    node.stop().await;
}

async fn a_reference_that_leads_nowhere_sends_nothing(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let relay = Relay::start(RelayOptions::to(gateway.address()))
        .await
        .unwrap();
    let home = NodeHome::new(Host::Ours);
    for token in [
        json!("${NOT_SET_ANYWHERE}"),
        json!({ "source": "file", "provider": "gone", "id": "value" }),
        json!({ "source": "store", "provider": "default", "id": "TOKEN" }),
    ] {
        configure(
            &home,
            &json!({ "gateway": { "auth": { "mode": "token", "token": token } } }),
        );
        let mut node = home.start(Start::without_token(relay.address()));
        assert_eq!(node.end().await.code(), Some(1));
        let headline = "gateway.auth.token is configured as a secret reference but is unavailable in this command path.";
        assert_eq!(node.lines(headline), [headline]);
        assert_eq!(relay.accepted(), 0);
    }
    let mut node = home.start(Start::with_token(relay.address(), TOKEN));
    node.wait_for_line("node host gateway connected", 1).await;
    assert_eq!(relay.accepted(), 1);
}

/// The samples that a release understands: those that name another one in their name it does not.
fn samples(release: Release) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tests/valid_openclaw_json");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut samples: Vec<PathBuf> = paths
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            !name.contains(".2026.") || name.contains(release.version())
        })
        .collect();
    samples.sort();
    assert!(samples.len() > 5, "{samples:?}");
    samples
}

async fn upstream_accepts_the_samples_of_openclaw_json(release: Release) {
    let mut refused = Vec::new();
    for sample in samples(release) {
        let folder = Folder::new();
        let home = folder.path();
        let state = home.join("state");
        fs::create_dir_all(&state).unwrap();
        // A program of a sample has to be there, and this user's.
        write(&home.join("secret-helper"), "#!/bin/sh\n", 0o700);
        let text = fs::read_to_string(&sample).unwrap();
        let text = text.replace("/usr/local/bin", home.to_str().unwrap());
        fs::write(state.join("openclaw.json"), text).unwrap();
        let mut command = lab::openclaw(release, home, &[] as &[&str]);
        command
            .args(["config", "validate"])
            .env("OPENCLAW_NODE_SAMPLE_TOKEN", "sample");
        let output = actix::spawn(tokio::process::Command::from(command).output());
        let output = output.await.unwrap().unwrap();
        if !output.status.success() {
            refused.push(format!(
                "{}: {}{}",
                sample.display(),
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
