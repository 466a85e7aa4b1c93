//! The node as a service of a real systemd: what its commands do and say, and what systemd does
//! with it. Answers are compared with what upstream printed (`tests/captures`).

#![cfg(test)]

mod common;

use std::collections::BTreeSet;

use common::capture::{
    assert_same_answer, assert_same_status, assert_same_status_text, assert_same_text,
};
use common::sandbox::Sandbox;
use common::{DEADLINE, back_after, gateway, invoke, offline};
use gateway::{DEFAULT_TOKEN, GatewayHandle, NodeView};
use serde_json::json;

const UNIT: &str = ".config/systemd/user/openclaw-node.service";

/// Lets every command run.
async fn allow_everything(machine: &Sandbox) {
    let config = json!({ "tools": { "exec": { "security": "full", "ask": "off" } } });
    machine
        .shell(&format!(
            "mkdir -p -m 700 .openclaw; echo '{config}' > .openclaw/openclaw.json"
        ))
        .await;
}

fn token() -> String {
    format!("OPENCLAW_GATEWAY_TOKEN={DEFAULT_TOKEN}")
}

/// Installs the node for this gateway, and waits until it is in service there.
async fn install(machine: &Sandbox, gateway: &GatewayHandle) -> NodeView {
    let port = gateway.port().to_string();
    machine
        .node_with(&[&token()], &["install", "--port", &port])
        .await
        .expect_success();
    gateway.admit(DEADLINE).await.unwrap()
}

#[tokio::test]
async fn without_a_service_every_command_answers_as_upstream() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    assert_same_status_text(&machine.node(&["status"]).await, "status-none");
    assert_same_status(
        &machine.node(&["status", "--json"]).await,
        "status-none-json",
    );
    for verb in ["start", "stop", "restart", "uninstall"] {
        let ran = machine.node(&[verb]).await;
        assert_same_text(&ran, &format!("{verb}-none"));
        let ran = machine.node(&["node", verb, "--json"]).await;
        assert_same_answer(&ran, &format!("{verb}-none-json"));
    }
}

#[tokio::test]
async fn an_installed_node_answers_as_upstream_at_every_step() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let port = gateway.port().to_string();
    let token = token();
    let install = [
        "install",
        "--port",
        &port,
        "--display-name",
        "My \"node\" 50%",
    ];

    assert_same_text(&machine.node_with(&[&token], &install).await, "install");
    assert_same_text(&machine.node(&["install"]).await, "install-again");
    assert_same_answer(
        &machine.node(&["install", "--json"]).await,
        "install-again-json",
    );
    gateway.admit(DEADLINE).await.unwrap();
    assert_same_status_text(&machine.node(&["status"]).await, "status-running");
    let status = machine.node(&["status", "--json"]).await;
    assert_same_status(&status, "status-running-json");
    let command = &status.json()["service"]["command"];
    assert_eq!(
        command["programArguments"],
        json!([
            "/usr/local/bin/openclaw-node",
            "run",
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--no-tls",
            "--display-name",
            "My \"node\" 50%"
        ])
    );
    assert_eq!(
        command["environmentValueSources"]["OPENCLAW_GATEWAY_TOKEN"],
        "file"
    );
    assert!(!status.stdout.contains(DEFAULT_TOKEN), "{status:?}");
    assert_eq!(status.json()["drift"], json!([]));

    assert_same_text(&machine.node(&["start"]).await, "start-running");
    assert_same_answer(
        &machine.node(&["start", "--json"]).await,
        "start-running-json",
    );
    assert_same_text(&machine.node(&["restart"]).await, "restart");
    assert_same_answer(&machine.node(&["restart", "--json"]).await, "restart-json");
    assert_same_text(&machine.node(&["stop"]).await, "stop");
    assert_same_status_text(&machine.node(&["status"]).await, "status-stopped");
    assert_same_status(
        &machine.node(&["status", "--json"]).await,
        "status-stopped-json",
    );
    assert_same_text(&machine.node(&["start"]).await, "start-stopped");
    assert_same_answer(&machine.node(&["stop", "--json"]).await, "stop-json");
    assert_same_answer(
        &machine.node(&["install", "--force", "--json"]).await,
        "install-force-json",
    );
    assert_same_text(&machine.node(&["uninstall"]).await, "uninstall");
    assert_same_answer(
        &machine.node(&["install", "--json", "--port", &port]).await,
        "install-json",
    );
    assert_same_answer(
        &machine.node(&["uninstall", "--json"]).await,
        "uninstall-json",
    );
}

#[tokio::test]
async fn an_installed_node_comes_back_after_kill_and_boot_and_leaves_nothing() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    allow_everything(&machine).await;
    let before: BTreeSet<String> = files(&machine).await;
    let node = install(&machine, &gateway).await;
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
    let left: Vec<String> = files(&machine)
        .await
        .difference(&before)
        .filter(|file| !file.starts_with("./.openclaw/state/"))
        .cloned()
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(machine.property("LoadState").await, "not-found");
}

/// Everything in the test user's home that is no folder.
async fn files(machine: &Sandbox) -> BTreeSet<String> {
    let found = machine.shell("find . ! -type d").await;
    found.lines().map(str::to_owned).collect()
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
async fn a_wrong_token_neither_hammers_nor_parks_and_the_right_one_connects() {
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
    assert_eq!(machine.property("ExecMainStatus").await, "0");
    assert_eq!(common::node_connections(&gateway).await, 2);
    assert_ne!(machine.property("ActiveState").await, "failed");

    machine
        .shell(&format!("echo {} > .openclaw/node.systemd.env", token()))
        .await;
    machine.node(&["restart"]).await.expect_success();
    gateway.admit(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_frozen_node_is_restarted_and_a_drop_in_is_told() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let node = install(&machine, &gateway).await;
    machine
        .shell(&format!(
            "mkdir {UNIT}.d; printf '[Service]\\nWatchdogSec=2\\n' > {UNIT}.d/watch.conf; \
             systemctl --user daemon-reload"
        ))
        .await;
    let status = machine.node(&["status", "--json"]).await.json();
    assert_eq!(
        status["drift"],
        json!([{
            "key": "WatchdogSec", "current": "2", "expected": "60",
            "source": format!("/home/tester/{UNIT}.d/watch.conf"),
        }])
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
    machine.shell(&format!("kill -STOP {pid}")).await;
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
async fn what_the_node_would_refuse_is_refused_with_nothing_written() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let before = files(&machine).await;
    let line_break = "a\nb";
    let cases: &[(&[&str], &[&str], &str)] = &[
        (
            &[],
            &["--port", "0"],
            "Invalid --port. Use a port number from 1 to 65535, for example 18789.",
        ),
        (
            &[],
            &["--tls-fingerprint", "beef"],
            "Invalid TLS fingerprint; expected a SHA-256 certificate fingerprint.",
        ),
        (
            &[],
            &["--runtime", "deno"],
            "Invalid --runtime (use \"node\" or \"bun\")",
        ),
        (
            &["OPENCLAW_NIX_MODE=1"],
            &[],
            "Nix mode detected; service install is disabled.",
        ),
        (&[], &["--host", "192.168.1.5"], "SECURITY ERROR"),
        (
            &[],
            &["--display-name", line_break],
            "argument --display-name cannot be written",
        ),
        (
            &["OPENCLAW_GATEWAY_TOKEN=a\nb"],
            &[],
            "OPENCLAW_GATEWAY_TOKEN has more than one line",
        ),
        (
            &["HOME=/tmp"],
            &[],
            "HOME is /tmp, but services of tester live in its own home /home/tester",
        ),
    ];
    for (variables, flags, text) in cases {
        let arguments = [&["install", "--json"], *flags].concat();
        let ran = machine.node_with(variables, &arguments).await;
        let answer = ran.json();
        assert_eq!((ran.code, &answer["ok"]), (1, &json!(false)), "{ran:?}");
        assert!(
            answer["error"].as_str().unwrap().contains(text),
            "{text}: {answer}"
        );
    }
    machine
        .shell("mkdir -m 700 .openclaw; echo '{ broken' > .openclaw/openclaw.json")
        .await;
    let ran = machine.node(&["install"]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("/home/tester/.openclaw/openclaw.json"),
        "{ran:?}"
    );
    let ran = machine.node(&["start"]).await;
    assert!(
        ran.stderr.starts_with("Node aborted: config is invalid.\n"),
        "{ran:?}"
    );
    // Stopping must work whatever the configuration says.
    machine.node(&["stop"]).await.expect_success();
    machine.shell("rm -r .openclaw").await;
    assert_eq!(files(&machine).await, before);
}

#[tokio::test]
async fn the_opt_in_for_private_networks_is_kept() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    machine
        .node_with(
            &["OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1"],
            &[
                "install",
                "--host",
                "192.168.1.5",
                "--runtime",
                "bun",
                "--json",
            ],
        )
        .await
        .expect_success();
    let unit = machine.shell(&format!("cat {UNIT}")).await;
    assert!(
        unit.contains("\nEnvironment=OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1\n"),
        "{unit}"
    );
    let ran = machine
        .node(&["install", "--force", "--json", "--host", "192.168.1.6"])
        .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(machine.shell(&format!("cat {UNIT}")).await, unit);
}

#[tokio::test]
async fn an_upstream_unit_is_recognised_and_never_overwritten_silently() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
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

    machine
        .node(&["install", "--force", "--port", "1"])
        .await
        .expect_success();
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
    assert_eq!(machine.user(&["pgrep", "^sleep$"]).await.code, 1);
    // What was somebody else's is not thrown away.
    machine.node(&["uninstall"]).await.expect_success();
    assert_eq!(machine.shell(&format!("cat {UNIT}.bak")).await, upstream);
}

#[tokio::test]
async fn a_program_that_is_gone_is_told_before_it_is_started() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    machine
        .node(&["install", "--port", "1"])
        .await
        .expect_success();
    machine
        .shell(&format!(
            "systemctl --user stop openclaw-node; \
             sed -i 's|^ExecStart=[^ ]*|ExecStart=/opt/gone/openclaw-node|' {UNIT}; \
             systemctl --user daemon-reload"
        ))
        .await;
    let ran = machine.node(&["start", "--json"]).await;
    let answer = ran.json();
    assert_eq!(ran.code, 1);
    assert_eq!(
        answer["error"],
        "Node service needs repair before it can start: service program is missing: /opt/gone/openclaw-node"
    );
    assert_eq!(answer["hints"], json!(["openclaw node install --force"]));
    machine.node(&["install", "--force"]).await.expect_success();
    assert_eq!(machine.property("ActiveState").await, "active");
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

    machine
        .root(&[program, "uninstall", "--system"])
        .await
        .expect_success();
    let left = root_shell("ls -d /etc/openclaw-node /etc/systemd/system/*openclaw* /etc/systemd/system/*/*openclaw* 2>/dev/null || true").await;
    assert_eq!(left, "");
    offline(&gateway).await;
}

#[tokio::test]
async fn what_keeps_a_service_from_living_on_is_told_with_the_command() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    // Somebody who is logged in, and whose services end with the session.
    machine
        .root(&[
            "sh",
            "-ec",
            "systemd-run --quiet --property=User=tester --property=PAMName=login sleep infinity; \
             until loginctl list-sessions --no-legend | grep tester; do sleep 0.1; done; \
             loginctl disable-linger tester",
        ])
        .await
        .expect_success();
    let warning = "Systemd lingering is disabled for tester. The node service will stop when you log out. Run: sudo loginctl enable-linger tester";
    let ran = machine
        .node(&["install", "--port", "1", "--json"])
        .await
        .expect_success();
    assert_eq!(ran.json()["warnings"], json!([warning]));
    let ran = machine.node(&["install"]).await.expect_success();
    assert!(ran.stdout.contains(warning), "{ran:?}");
    let status = machine.node(&["status"]).await;
    assert!(status.stdout.contains(warning), "{status:?}");
    let status = machine.node(&["status", "--json"]).await.json();
    assert_eq!(
        status["linger"],
        json!({ "user": "tester", "enabled": false })
    );

    // Root may enable it, and so may a user whom the machine's policy lets.
    let ran = machine
        .node(&["install", "--force", "--enable-linger", "--json"])
        .await;
    if ran.code == 0 {
        assert_eq!(ran.json().get("warnings"), None);
    } else {
        let error = ran.json()["error"].to_string();
        assert!(
            error.contains("run: sudo loginctl enable-linger tester"),
            "{error}"
        );
        machine
            .root(&["loginctl", "enable-linger", "tester"])
            .await
            .expect_success();
    }
    let status = machine.node(&["status", "--json"]).await.json();
    assert_eq!(status["linger"]["enabled"], true);

    let program = "/usr/local/bin/openclaw-node";
    let error_of = async |command: &[&str]| {
        let ran = machine.root(command).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.json()["error"].as_str().unwrap().to_owned()
    };
    // A session that does not know where its manager is finds it all the same.
    let ran = machine
        .user(&[
            "env",
            "-i",
            "HOME=/home/tester",
            program,
            "status",
            "--json",
        ])
        .await;
    assert_eq!(ran.json()["service"]["loaded"], true, "{ran:?}");
    let wrong = [
        "env",
        "XDG_RUNTIME_DIR=/nowhere",
        "DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere",
    ];
    let ran = machine
        .user(&[&wrong as &[_], &[program, "install", "--json"]].concat())
        .await;
    let error = ran.json()["error"].to_string();
    assert!(
        error.contains("export XDG_RUNTIME_DIR=/run/user/$(id -u)"),
        "{error}"
    );
    // Somebody who never logged in has no manager; neither has root.
    let nobody = [
        "runuser",
        "-u",
        "nobody",
        "--",
        "env",
        "HOME=/nonexistent",
        program,
    ];
    let error = error_of(&[&nobody as &[_], &["install", "--json"]].concat()).await;
    assert!(
        error.contains("sudo loginctl enable-linger nobody"),
        "{error}"
    );
    let error = error_of(&[program, "install", "--json"]).await;
    assert!(error.contains("openclaw-node install --system"), "{error}");
    let error = error_of(&["env", "SUDO_USER=tester", program, "install", "--json"]).await;
    assert!(
        error.contains("called by tester") && error.contains("without sudo"),
        "{error}"
    );
}

#[tokio::test]
async fn without_systemd_the_foreground_is_named() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    // A machine as a container sees it: no manager, and nothing of it below /run.
    let without_systemd = "mount -t tmpfs tmpfs /run; exec runuser -u tester -- env HOME=/home/tester \
         /usr/local/bin/openclaw-node \"$@\"";
    let node = async |arguments: &[&str]| {
        let shell = ["unshare", "--mount", "sh", "-ec", without_systemd, "sh"];
        machine.root(&[&shell as &[_], arguments].concat()).await
    };
    let ran = node(&["install", "--json"]).await;
    assert_eq!(ran.code, 1);
    let answer = ran.json();
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("run the node in the foreground: openclaw-node run"),
        "{answer}"
    );
    let kinds = |answer: &serde_json::Value| -> Vec<String> {
        let hints = answer["hintItems"].as_array().unwrap();
        hints
            .iter()
            .map(|hint| hint["kind"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        kinds(&answer),
        ["systemd-unavailable", "container-foreground"]
    );
    let answer = node(&["start", "--json"]).await.json();
    assert_eq!(answer["error"], "Node service disabled.");
    assert_eq!(
        kinds(&answer),
        [
            "install",
            "generic",
            "generic",
            "systemd-unavailable",
            "container-foreground"
        ]
    );
    assert_same_answer(&node(&["stop", "--json"]).await, "nosystemd-stop--json");
    assert_same_status(&node(&["status", "--json"]).await, "nosystemd-status--json");
    assert_same_status_text(&node(&["status"]).await, "nosystemd-status");
}
