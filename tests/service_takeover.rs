//! Upstream's own service: it has the same name, and is never overwritten silently.

#![cfg(test)]

mod common;

use common::sandbox::{Sandbox, UNIT, token};
use common::{DEADLINE, gateway};
use protocol::identity::DeviceIdentity;
use secrecy::ExposeSecret as _;
use serde_json::json;

/// Puts upstream's unit in place, with a program in its stead that only waits, and starts it.
async fn start_upstream(machine: &Sandbox) -> &'static str {
    let upstream = include_str!("captures/openclaw-node.service");
    let script = "/opt/oc/n26/node_modules/node/bin/node";
    machine
        .root(&[
            "sh",
            "-ec",
            &format!(
                "mkdir -p $(dirname {script}); printf '#!/bin/sh\\nexec sleep 604\\n' > {script}; chmod 755 {script}"
            ),
        ])
        .await
        .expect_success();
    machine
        .shell(&format!(
            "mkdir -p $(dirname {UNIT}); cat > {UNIT} <<'UNIT'\n{upstream}UNIT\n\
             systemctl --user daemon-reload; systemctl --user enable --now openclaw-node"
        ))
        .await;
    upstream
}

/// Writes the state of a node host of 2026.5.x, for a gateway at this place.
async fn write_old_state(machine: &Sandbox, host: &str, port: u16) -> String {
    let identity = DeviceIdentity::generate().unwrap();
    let device_id = identity.device_id().as_str().to_owned();
    let profile = json!({
        "version": 1,
        "nodeId": "3f7fff82-3532-40a5-a73b-5df911b71c25",
        "displayName": "Attic",
        "gateway": { "host": host, "port": port, "tls": false },
    });
    let device = json!({
        "version": 1,
        "deviceId": device_id,
        "publicKeyPem": identity.public_key_pem().unwrap(),
        "privateKeyPem": identity.private_key_pem().unwrap().expose_secret(),
        "createdAtMs": 1_795_711_321_435_u64,
    });
    machine
        .shell(&format!(
            "umask 077; mkdir -p .openclaw/identity; cat > .openclaw/node.json <<'END'\n{profile}\nEND\n\
             cat > .openclaw/identity/device.json <<'END'\n{device}\nEND\n"
        ))
        .await;
    device_id
}

#[tokio::test]
async fn an_upstream_unit_is_recognised_and_never_overwritten_silently() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let upstream = start_upstream(&machine).await;
    for arguments in [&["install", "--json"] as &[_], &["uninstall", "--json"]] {
        let ran = machine.node(arguments).await;
        assert_eq!((ran.code, &ran.json()["ok"]), (1, &json!(false)), "{ran:?}");
        assert_eq!(machine.shell(&format!("cat {UNIT}")).await, upstream);
        assert_eq!(machine.property("ActiveState").await, "active");
    }
    let refused = machine.node(&["install", "--json"]).await.json();
    let hints = refused["hints"].to_string();
    assert!(
        hints.contains("--force") && hints.contains("--takeover"),
        "{refused}"
    );
    let status = machine.node(&["status", "--json"]).await.json();
    assert_eq!(status["service"]["runtime"]["status"], "running");
    assert_ne!(status["drift"], json!([]));
    let status = machine.node(&["status"]).await;
    assert!(
        status.stdout.contains("openclaw node install --takeover"),
        "{status:?}"
    );

    machine
        .node(&["install", "--force", "--port", "1"])
        .await
        .expect_success();
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
    assert_eq!(machine.user(&["pgrep", "^sleep$"]).await.code, 1);
    // Replacing one's own unit does not cost the only copy of somebody else's.
    machine
        .node(&["install", "--force", "--port", "2"])
        .await
        .expect_success();
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
    // What was somebody else's is not thrown away.
    machine.node(&["uninstall"]).await.expect_success();
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
}

#[tokio::test]
async fn a_takeover_stops_upstreams_service_and_goes_on_as_the_same_device() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let upstream = start_upstream(&machine).await;

    // What would be refused afterwards is refused while the old node still runs.
    write_old_state(&machine, "192.168.1.5", 18789).await;
    let ran = machine.node(&["install", "--takeover", "--json"]).await;
    let error = ran.json()["error"].to_string();
    assert!(
        error.contains("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1"),
        "{error}"
    );
    assert_eq!(machine.property("ActiveState").await, "active");
    assert_eq!(machine.shell(&format!("cat {UNIT}")).await, upstream);

    let device_id = write_old_state(&machine, "127.0.0.1", gateway.port()).await;
    let ran = machine
        .node_with(&[&token()], &["install", "--takeover"])
        .await
        .expect_success();
    assert!(ran.stdout.contains(&device_id), "{ran:?}");
    let node = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(
        (node.node_id, node.display_name.as_deref()),
        (device_id, Some("Attic"))
    );
    assert_eq!(machine.user(&["pgrep", "^sleep$"]).await.code, 1);
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
    assert_eq!(
        machine.node(&["status", "--json"]).await.json()["drift"],
        json!([])
    );
}

#[tokio::test]
async fn an_imported_node_host_does_not_come_back_with_the_next_login() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    start_upstream(&machine).await;
    let device_id = write_old_state(&machine, "127.0.0.1", 18789).await;
    let refused = machine.node(&["import"]).await;
    assert!(
        refused.stderr.contains("openclaw-node import --takeover"),
        "{refused:?}"
    );
    assert_eq!(machine.property("ActiveState").await, "active");
    let ran = machine
        .node(&["import", "--takeover"])
        .await
        .expect_success();
    assert!(ran.stdout.contains(&device_id), "{ran:?}");
    assert_eq!(machine.property("ActiveState").await, "inactive");
    assert_eq!(machine.property("UnitFileState").await, "disabled");
}
