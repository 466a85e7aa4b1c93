//! What the service's commands say: compared with what upstream printed (`tests/captures`), and
//! where something stands in the way, the command that helps.

#![cfg(test)]

mod common;

use common::capture::{
    assert_same_answer, assert_same_status, assert_same_status_text, assert_same_text,
};
use common::sandbox::{Sandbox, UNIT, token};
use common::{DEADLINE, gateway};
use gateway::DEFAULT_TOKEN;
use serde_json::json;

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
async fn what_the_node_would_refuse_is_refused_with_nothing_written() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let before = machine.files().await;
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
            &["CF_ACCESS_CLIENT_ID=x"],
            &[],
            "must be configured together",
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
    let ran = machine
        .user(&[
            "sh",
            "-ec",
            "cp /usr/local/bin/openclaw-node /tmp/; /tmp/openclaw-node install",
        ])
        .await;
    assert!(
        ran.stderr.contains("lies where things are cleaned away"),
        "{ran:?}"
    );
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
    // What lies beneath openclaw.json counts as it does for the node, and so do its own settings.
    machine
        .shell(
            "umask 077; cd .openclaw; echo MODE=local > .env; \
             printf '{ gateway: { mode: \"${MODE}\" } }' > openclaw.json",
        )
        .await;
    let ran = machine.node(&["restart"]).await;
    assert_eq!(ran.stderr, "Node service disabled.\n", "{ran:?}");
    machine
        .shell("cd .openclaw; mv .env node.systemd.env")
        .await;
    let ran = machine.node(&["restart"]).await;
    assert_eq!(ran.stderr, "Node service disabled.\n", "{ran:?}");
    machine
        .shell("umask 077; echo '{ tools: {} }' > .openclaw/openclaw-node.json5")
        .await;
    let ran = machine.node(&["restart"]).await;
    assert!(
        ran.stderr.starts_with("Node aborted: config is invalid.\n")
            && ran.stderr.contains("unknown key tools"),
        "{ran:?}"
    );
    // Stopping must work whatever the configuration says.
    machine.node(&["stop"]).await.expect_success();
    machine.shell("rm -r .openclaw").await;
    assert_eq!(machine.files().await, before);
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
