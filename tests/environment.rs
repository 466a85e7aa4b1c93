//! What a command gets from the node, and what it does not.

#![cfg(test)]

mod common;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
#[path = "common/tls_server.rs"]
mod tls_server;

use common::home::Home;
use common::service_manager::ServiceManager;
use common::{DEADLINE, gateway};
use gateway::{DEFAULT_TOKEN, GatewayHandle, NodeView};
use serde_json::{Value, json};

use tls_server::{Certificate, TlsServer, Version};

async fn output_of(gateway: &GatewayHandle, node: &NodeView, command: Value) -> String {
    let run = json!({ "command": command });
    let outcome = common::invoke::call(gateway, node, "system.run", &run).await;
    let payload = outcome.payload();
    assert_eq!(payload["success"], true, "{payload}");
    payload["stdout"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_command_sees_what_is_meant_for_the_node_alone() {
    let gateway = gateway().await;
    // Cloudflare Access credentials are refused without TLS.
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    home.allow_everything();
    let manager = ServiceManager::listen(home.path());
    let secrets = [
        ("OPENCLAW_GATEWAY_PASSWORD", "secret-password"),
        ("CF_ACCESS_CLIENT_ID", "secret-id"),
        ("CF_ACCESS_CLIENT_SECRET", "secret-secret"),
        ("WATCHDOG_USEC", "60000000"),
        ("LISTEN_FDS", "0"),
        ("LISTEN_FDNAMES", "a"),
        ("JOURNAL_STREAM", "8:1"),
        ("INVOCATION_ID", "0123456789abcdef0123456789abcdef"),
    ];
    let mut launch = home
        .run(server.port())
        .arg("--tls-fingerprint")
        .arg(certificate.fingerprint())
        .env("NOTIFY_SOCKET", manager.path())
        .env("AN_ORDINARY_VARIABLE", "stays");
    for (name, value) in secrets {
        launch = launch.env(name, value);
    }
    let _node = launch.start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let environment = output_of(&gateway, &view, json!(["/usr/bin/env"])).await;
    let names: Vec<&str> = environment
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    for (name, _) in secrets {
        assert!(!names.contains(&name), "{environment}");
    }
    for name in ["OPENCLAW_GATEWAY_TOKEN", "NOTIFY_SOCKET", "WATCHDOG_PID"] {
        assert!(!names.contains(&name), "{environment}");
    }
    assert!(!environment.contains(DEFAULT_TOKEN), "{environment}");
    assert!(names.contains(&"AN_ORDINARY_VARIABLE"), "{environment}");
    assert!(
        environment.lines().any(|line| line == "OPENCLAW_CLI=1"),
        "{environment}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_command_inherits_a_descriptor() {
    use std::fs::File;
    use std::os::fd::AsRawFd as _;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    let gateway = gateway().await;
    let home = Home::new();
    home.allow_everything();
    // Whoever starts the node may leave a descriptor open to it.
    let inherited = File::open("/dev/null").unwrap();
    fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let plain = std::process::Command::new("/bin/ls")
        .arg("/proc/self/fd")
        .output();
    let plain = String::from_utf8(plain.unwrap().stdout).unwrap();
    let number = inherited.as_raw_fd().to_string();
    assert!(plain.lines().any(|listed| listed == number), "{plain}");
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    // The fourth is the folder that `ls` itself has open.
    let listing = output_of(&gateway, &view, json!(["/bin/ls", "/proc/self/fd"])).await;
    assert_eq!(
        listing.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    // A command behind a shell, and one at the same time as others, is no different.
    let listing = output_of(
        &gateway,
        &view,
        json!(["/bin/sh", "-c", "ls /proc/self/fd & wait"]),
    )
    .await;
    assert_eq!(
        listing.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
}
