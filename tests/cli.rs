//! The command line: texts, exit codes, and what is refused before anything is sent.

#![cfg(test)]

mod common;

use std::path::Path;
use std::process::Output;

use common::home::Home;
use common::{admitted, gateway};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[tokio::test]
async fn wrong_flags_are_refused_in_upstreams_words_before_anything_is_written() {
    let port = "Invalid --port. Use a port number from 1 to 65535, for example 18789.\n";
    let fingerprint = "Invalid TLS fingerprint; expected a SHA-256 certificate fingerprint.\n";
    let digest = "ab".repeat(32);
    let cases: &[(&[&str], &str)] = &[
        (&["--port", "0"], port),
        (&["--port", "65536"], port),
        (&["--port", "-1"], port),
        (&["--port", "18789x"], port),
        (&["--port", "1e3"], port),
        (&["--tls-fingerprint", "beef"], fingerprint),
        (&["--tls-fingerprint", &digest[1..]], fingerprint),
        (
            &["--no-tls", "--tls-fingerprint", &digest],
            "--no-tls cannot be combined with --tls-fingerprint\n",
        ),
        (
            &["--bogus"],
            "OpenClaw does not recognize option \"--bogus\".\nTry: openclaw node run --help\n",
        ),
    ];
    for (arguments, message) in cases {
        let home = Home::new();
        let arguments = ["run"].iter().chain(arguments.iter());
        let output = home.program(arguments.clone()).output().await;
        assert_eq!(stderr(&output), **message, "{arguments:?}");
        assert_eq!(code(&output), 1, "{arguments:?}");
        assert!(!home.state_dir().exists(), "{arguments:?}");

        let in_unit = home
            .program(arguments.clone())
            .env("NOTIFY_SOCKET", "/nonexistent");
        assert_eq!(code(&in_unit.output().await), 78, "{arguments:?}");
    }
}

#[tokio::test]
async fn a_symlink_named_openclaw_answers_as_openclaw_does() {
    let home = Home::new();
    let output = home.program(["node", "run", "--bogus"]).output().await;
    assert!(
        stderr(&output).contains("Try: openclaw node run --help"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn identity_prints_what_upstream_prints_and_creates_nothing() {
    let home = Home::new();
    for arguments in [
        &["identity"] as &[_],
        &["identity", "--json"],
        &["node", "identity"],
    ] {
        let output = home.program(arguments).output().await;
        assert_eq!(
            stderr(&output),
            "no node device identity found (start the node host once with `openclaw node run` or `openclaw node install`)\n"
        );
        assert_eq!(stdout(&output), "");
        assert_eq!(code(&output), 1);
        assert!(!home.state_dir().exists());
    }

    let gateway = gateway().await;
    let (home, _node, view) = admitted(&gateway).await;
    let key = gateway.inspect(|snapshot| {
        let key = snapshot
            .connects()
            .next()
            .and_then(|connect| connect.pointer("/device/publicKey"));
        key.and_then(|key| key.as_str().map(str::to_owned)).unwrap()
    });
    let key = key.await.unwrap();
    let output = home.program(["identity"]).output().await;
    assert_eq!(
        stdout(&output),
        format!("deviceId:  {}\npublicKey: {key}\n", view.node_id)
    );
    assert_eq!(code(&output), 0);
    let output = home.program(["identity", "--json"]).output().await;
    let line = format!(
        "{{\"deviceId\":\"{}\",\"publicKey\":\"{key}\"}}\n",
        view.node_id
    );
    assert_eq!(stdout(&output), line);
    assert_eq!(stderr(&output), "");
}

async fn is_refused(home: &Home, host: &str, opted_in: bool) -> String {
    let mut launch = home
        .program(["run", "--host", host])
        .env("OPENCLAW_GATEWAY_TOKEN", "must-not-leave-this-machine");
    if opted_in {
        launch = launch.env("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "1");
    }
    let output = launch.output().await;
    assert_eq!(code(&output), 1, "{host}: {}", stderr(&output));
    let text = stderr(&output);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(host)).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

#[tokio::test]
async fn plain_ws_beyond_loopback_is_refused_with_the_ways_out() {
    let home = Home::new();
    let hosts = [
        "192.168.1.5",
        "10.0.0.1",
        "100.64.0.1",
        "gw.example.test",
        "gw.local",
        "gw.ts.net",
        "fd00::1",
    ];
    for host in hosts {
        let refusal = is_refused(&home, host, false).await;
        assert!(refusal.contains("SECURITY ERROR"), "{refusal}");
        for way_out in [
            "wss://",
            "SSH tunnel",
            "Tailscale",
            "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1",
        ] {
            assert!(
                refusal.contains(way_out),
                "{host}: {way_out} is not in {refusal}"
            );
        }
    }
    // A public address stays refused whatever the operator says, so it is not suggested.
    for opted_in in [false, true] {
        let refusal = is_refused(&home, "8.8.8.8", opted_in).await;
        assert!(refusal.contains("SECURITY ERROR"), "{refusal}");
        assert!(
            !refusal.contains("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS"),
            "{refusal}"
        );
    }
}

#[tokio::test]
async fn the_opt_in_counts_only_as_exactly_1() {
    let home = Home::new();
    let launch = home
        .program(["run", "--host", "gateway.invalid"])
        .env("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "true");
    assert_eq!(code(&launch.output().await), 1);
    let node = home
        .program(["run", "--host", "gateway.invalid"])
        .env("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "1")
        .start();
    let line = node.line("node host gateway connect failed: ").await;
    assert!(
        line.contains("gateway.invalid") && !line.contains("SECURITY"),
        "{line}"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_host_that_cannot_be_resolved_is_retried_and_said_once() {
    let home = Home::new();
    let node = home
        .program(["run", "--host", "gateway.invalid"])
        .env("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "1")
        .env("OPENCLAW_NODE_LOG", "openclaw_node_actors=debug")
        .start();
    node.lines_until("connecting generation=3", 1).await;
    let complaints = node.lines_with("node host gateway connect failed: ");
    assert_eq!(complaints.len(), 1, "{node}");
    assert!(complaints[0].contains("gateway.invalid"), "{node}");
    node.stop().await;
}

#[tokio::test]
async fn a_broken_configuration_is_refused_and_named() {
    let gateway = gateway().await;
    for contents in [
        "{ tools: ",
        r#"{ tools: { exec: { security: "sometimes" } } }"#,
    ] {
        let home = Home::new();
        let folder = home.folder(".openclaw");
        std::fs::write(folder.join("openclaw.json"), contents).unwrap();
        let output = home.run(gateway.port()).output().await;
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let path = Path::new(&folder).join("openclaw.json");
        assert!(
            stderr(&output).contains(&*path.to_string_lossy()),
            "{}",
            stderr(&output)
        );
    }
    assert_eq!(common::node_connections(&gateway).await, 0);
}
