//! The node as a service of a real systemd: what systemd does with it from install to uninstall.

#![cfg(test)]

mod common;

use common::sandbox::{Sandbox, UNIT, token};
use common::{DEADLINE, back_after, gateway, invoke, offline};
use gateway::DEFAULT_TOKEN;
use serde_json::json;

#[tokio::test]
async fn an_installed_node_comes_back_after_kill_and_boot_and_leaves_nothing() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    machine.allow_everything().await;
    let before = machine.files().await;
    let node = machine.install(&gateway).await;
    assert_eq!(machine.property("ActiveState").await, "active");
    assert_eq!(machine.property("Type").await, "notify");
    machine
        .shell("systemctl --user is-enabled openclaw-node")
        .await;
    let modes = machine
        .shell(&format!("stat -c %a {UNIT} .openclaw/node.systemd.env"))
        .await;
    assert_eq!(modes, "600\n600\n");
    let unit = machine.shell(&format!("cat {UNIT}")).await;
    assert!(!unit.contains(DEFAULT_TOKEN), "{unit}");
    let verified = machine
        .user(&["systemd-analyze", "verify", "--man=no", "--user", UNIT])
        .await;
    assert_eq!((verified.stderr.as_str(), verified.code), ("", 0));

    let pid = machine.property("MainPID").await;
    machine.shell("systemctl --user reload openclaw-node").await;
    machine
        .until_shell(
            "journalctl --user -u openclaw-node -o cat --no-pager | grep 'were read again'",
        )
        .await;
    assert_eq!(machine.property("MainPID").await, pid);
    machine.shell(&format!("kill -9 {pid}")).await;
    machine
        .until_property("NRestarts", |restarts| restarts == "1")
        .await;
    let node = back_after(&gateway, node.connection).await;

    machine.reboot().await;
    let node = back_after(&gateway, node.connection).await;

    // A child that left its parent, and one that left its group.
    let line = "setsid sleep 601 & sleep 602 & sleep 603";
    let params = json!({ "command": ["sh", "-c", line], "rawCommand": line });
    invoke::send(&gateway, &node, "system.run", invoke::params(&params)).await;
    machine
        .until_shell("test $(pgrep -c '^sleep$') -eq 3")
        .await;
    machine.node(&["stop"]).await.expect_success();
    assert_eq!(machine.user(&["pgrep", "^sleep$"]).await.code, 1);
    offline(&gateway).await;

    machine.node(&["uninstall"]).await.expect_success();
    let left: Vec<String> = machine
        .files()
        .await
        .difference(&before)
        .filter(|file| !file.starts_with("./.openclaw/state/"))
        .cloned()
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(machine.property("LoadState").await, "not-found");
}

#[tokio::test]
async fn a_gateway_that_is_down_at_boot_is_waited_for() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    gateway.stop();
    machine
        .node_with(&[&token()], &["install", "--port", &port])
        .await
        .expect_success();
    machine.reboot().await;
    machine
        .until_property("ActiveState", |state| state == "active")
        .await;
    machine
        .until_property("StatusText", |text| text.contains(&port))
        .await;
    assert_eq!(machine.property("NRestarts").await, "0");
}

#[tokio::test]
async fn a_wrong_token_neither_hammers_nor_parks_and_the_right_one_connects_at_once() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    machine
        .node_with(
            &["OPENCLAW_GATEWAY_TOKEN=wrong"],
            &["install", "--port", &port],
        )
        .await
        .expect_success();
    machine
        .until_property("NRestarts", |restarts| restarts == "2")
        .await;
    // The third start holds its attempt back.
    machine
        .until_property("StatusText", |text| text.contains("before connecting"))
        .await;
    assert_eq!(machine.property("ExecMainStatus").await, "0");
    assert_eq!(common::node_connections(&gateway).await, 2);
    assert_ne!(machine.property("ActiveState").await, "failed");

    machine
        .shell(&format!("echo {} > .openclaw/node.systemd.env", token()))
        .await;
    gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(machine.property("NRestarts").await, "2");
}

#[tokio::test]
async fn a_frozen_node_is_restarted_and_a_drop_in_is_told() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let node = machine.install(&gateway).await;
    machine
        .shell(&format!(
            "mkdir {UNIT}.d; printf '[Service]\\nWatchdogSec=2\\n\
             Environment=OPENCLAW_PROXY_URL=http://user:hunter2@proxy\\n' > {UNIT}.d/watch.conf; \
             systemctl --user daemon-reload"
        ))
        .await;
    let status = machine.node(&["status", "--json"]).await.json();
    assert_eq!(
        status["drift"],
        json!([
            {
                "key": "Environment.OPENCLAW_PROXY_URL", "current": "set (not shown)", "expected": null,
                "source": format!("/home/tester/{UNIT}.d/watch.conf"),
            },
            {
                "key": "WatchdogSec", "current": "2", "expected": "60",
                "source": format!("/home/tester/{UNIT}.d/watch.conf"),
            },
        ])
    );
    let told = machine.node(&["status"]).await;
    assert!(
        !status.to_string().contains("hunter2") && !told.stdout.contains("hunter2"),
        "{told:?}"
    );
    assert_eq!(
        status["service"]["command"]["definitionPaths"],
        json!([
            format!("/home/tester/{UNIT}"),
            format!("/home/tester/{UNIT}.d/watch.conf")
        ])
    );
    machine.node(&["restart"]).await.expect_success();
    let node = back_after(&gateway, node.connection).await;
    let pid = machine.property("MainPID").await;
    // On a machine that is busy enough, the watchdog was there first.
    machine.user(&["kill", "-STOP", &pid]).await;
    machine
        .until_property("NRestarts", |restarts| restarts != "0")
        .await;
    back_after(&gateway, node.connection).await;
}

#[tokio::test]
async fn stored_secrets_stay_until_they_are_forgotten() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    let stored = "cat .openclaw/node.systemd.env 2>/dev/null || true";
    let secret = "OPENCLAW_GATEWAY_PASSWORD=p w\"x$y";
    machine
        .node_with(&[&token(), secret], &["install", "--port", &port])
        .await
        .expect_success();
    let first = machine.shell(stored).await;
    assert_eq!(
        first,
        format!("OPENCLAW_GATEWAY_PASSWORD=\"p w\\\"x\\$y\"\n{}\n", token())
    );
    machine.node(&["install", "--force"]).await.expect_success();
    assert_eq!(machine.shell(stored).await, first);
    machine
        .node(&["install", "--force", "--forget-credentials"])
        .await
        .expect_success();
    assert_eq!(machine.shell(stored).await, "");
}

#[tokio::test]
async fn a_system_unit_serves_with_a_user_of_its_own() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    let program = "/usr/local/bin/openclaw-node";
    let refused = machine
        .node(&["install", "--system", "--json"])
        .await
        .json();
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("sudo openclaw-node install --system"),
        "{refused}"
    );
    // Where only root may look, the node's user finds no program.
    machine
        .root(&["install", program, "/root/openclaw-node"])
        .await
        .expect_success();
    let hidden = machine
        .root(&["/root/openclaw-node", "install", "--system"])
        .await;
    assert!(
        hidden
            .stderr
            .contains("the user openclaw-node may not run /root/openclaw-node"),
        "{hidden:?}"
    );
    machine
        .root(&[
            "env",
            &token(),
            program,
            "install",
            "--system",
            "--port",
            &port,
        ])
        .await
        .expect_success();
    gateway.admit(DEADLINE).await.unwrap();
    let status = machine
        .root(&[program, "status", "--system", "--json"])
        .await
        .expect_success()
        .json();
    assert_eq!(status["service"]["runtime"]["status"], "running");
    assert_eq!(status["service"]["runtime"]["systemd"]["scope"], "system");
    assert_eq!(status["drift"], json!([]), "{status}");
    let root_shell = async |line: &str| {
        machine
            .root(&["sh", "-ec", line])
            .await
            .expect_success()
            .stdout
    };
    assert_eq!(
        root_shell("ps -o user:20= -C openclaw-node | sort -u")
            .await
            .trim(),
        "openclaw-node"
    );
    assert_eq!(
        root_shell("stat -c '%a %U' /etc/openclaw-node/* /var/lib/openclaw-node").await,
        "600 root\n700 openclaw-node\n"
    );
    let unit = "/etc/systemd/system/openclaw-node.service";
    assert!(
        !root_shell(&format!("cat {unit}"))
            .await
            .contains(DEFAULT_TOKEN)
    );
    let verified = machine
        .root(&["systemd-analyze", "verify", "--man=no", unit])
        .await;
    assert_eq!((verified.stderr.as_str(), verified.code), ("", 0));

    // What only the node and root can read is not a broken file to somebody else.
    let refused = machine.node(&["restart", "--system"]).await;
    assert!(
        refused
            .stderr
            .contains("sudo openclaw-node restart --system"),
        "{refused:?}"
    );

    // An edge's secrets are secrets as well; it is only ever reached with TLS.
    machine
        .root(&[
            "env",
            "CF_ACCESS_CLIENT_ID=edge-id",
            "CF_ACCESS_CLIENT_SECRET=edge-secret",
            program,
            "install",
            "--system",
            "--force",
            "--tls",
        ])
        .await
        .expect_success();
    assert_eq!(
        root_shell("cd /etc/openclaw-node; grep -H edge *").await,
        "CF_ACCESS_CLIENT_ID:edge-id\nCF_ACCESS_CLIENT_SECRET:edge-secret\n"
    );
    let text = root_shell(&format!("cat {unit}")).await;
    assert_eq!(text.matches("LoadCredential=").count(), 3, "{text}");
    assert!(!text.contains("edge-"), "{text}");
    let status = machine
        .root(&[program, "status", "--system", "--json"])
        .await
        .json();
    assert_eq!(status["drift"], json!([]), "{status}");

    machine
        .root(&[program, "uninstall", "--system"])
        .await
        .expect_success();
    let left = root_shell("ls -d /etc/openclaw-node /etc/systemd/system/*openclaw* /etc/systemd/system/*/*openclaw* 2>/dev/null || true").await;
    assert_eq!(left, "");
    offline(&gateway).await;
}
