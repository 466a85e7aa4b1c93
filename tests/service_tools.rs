//! Upstream's own command line beside ours, over the same service: each knows what the other
//! installed. Needs the releases that `tests/interop/install-openclaw.sh` installs.

#![cfg(test)]

mod common;

use std::path::{Path, PathBuf};

use common::sandbox::{Ran, Sandbox, UNIT, token};
use common::{DEADLINE, back_after, gateway};
use serde_json::{Value, json};

/// Where the releases are.
fn lab() -> PathBuf {
    std::env::var_os("OPENCLAW_LAB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openclaw-lab"),
        PathBuf::from,
    )
}

/// Runs `openclaw node …` of 2026.9.6 on the machine.
async fn upstream(machine: &Sandbox, variables: &[&str], arguments: &[&str]) -> Ran {
    let runtime = lab().join("n26/node_modules/node/bin/node");
    let program = lab().join("v2026.9.6/node_modules/openclaw/openclaw.mjs");
    let words = [runtime.to_str().unwrap(), program.to_str().unwrap(), "node"];
    let command = [&["env"], variables, &words, arguments].concat();
    machine.user(&command).await
}

/// Boots a machine on which the releases can be seen.
async fn machine() -> Option<Sandbox> {
    let machine = Sandbox::boot().await?;
    let lab = lab();
    assert!(
        lab.join("v2026.9.6").exists(),
        "{} has no releases",
        lab.display()
    );
    let seen = machine.user(&["test", "-e", lab.to_str().unwrap()]).await;
    if seen.code != 0 {
        let line = format!("skipped, the machine does not see {}\n", lab.display());
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        return None;
    }
    Some(machine)
}

#[tokio::test]
async fn upstreams_command_line_sees_and_moves_our_service_as_its_own() {
    let Some(machine) = machine().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    machine
        .node_with(
            &[&token()],
            &[
                "install",
                "--port",
                &port,
                "--display-name",
                "My \"node\" 50%",
            ],
        )
        .await
        .expect_success();
    let node = gateway.admit(DEADLINE).await.unwrap();
    let theirs = upstream(&machine, &[], &["status", "--json"])
        .await
        .expect_success()
        .json();
    let ours = machine.node(&["status", "--json"]).await.json();
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    assert_eq!(text(&ours["service"]), text(&theirs["service"]));

    upstream(&machine, &[], &["stop"]).await.expect_success();
    assert_eq!(machine.property("ActiveState").await, "inactive");
    upstream(&machine, &[], &["start"]).await.expect_success();
    let node = back_after(&gateway, node.connection).await;
    upstream(&machine, &[], &["restart"]).await.expect_success();
    back_after(&gateway, node.connection).await;
}

#[tokio::test]
async fn upstreams_installed_node_is_taken_over_without_pairing_again() {
    let Some(machine) = machine().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    upstream(
        &machine,
        &[&token()],
        &[
            "install",
            "--port",
            &port,
            "--display-name",
            "Attic",
            "--json",
        ],
    )
    .await
    .expect_success();
    let unit = machine.shell(&format!("cat {UNIT}")).await;
    let ran = machine.node(&["install", "--json"]).await;
    assert_eq!((ran.code, &ran.json()["ok"]), (1, &json!(false)), "{ran:?}");
    assert_eq!(machine.shell(&format!("cat {UNIT}")).await, unit);

    // It takes its time to start.
    let node = gateway.admit(DEADLINE).await.unwrap();
    machine
        .node(&["install", "--takeover"])
        .await
        .expect_success();
    let same = back_after(&gateway, node.connection).await;
    assert_eq!(
        (same.node_id, same.display_name),
        (node.node_id, node.display_name)
    );
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, unit);
    // What upstream stored for its service serves ours.
    let stored = machine.shell("cat .openclaw/node.systemd.env").await;
    assert_eq!(stored.trim(), token());
    assert_eq!(
        machine.node(&["status", "--json"]).await.json()["drift"],
        json!([])
    );
}
