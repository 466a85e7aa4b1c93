//! A node with TLS talks to the gateway that it was told to trust, and says nothing to any other.

#![cfg(test)]

mod common;
#[path = "common/tls_server.rs"]
mod tls_server;

use std::fs;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use common::home::{Home, Launch};
use common::node::Node;
use common::{DEADLINE, answers, gateway};
use gateway::{DEFAULT_TOKEN, GatewayHandle};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use tls_server::{Authority, Certificate, Log, Session, TlsServer, Version};

const FAILED: &str = "node host gateway connect failed: ";

/// `run --tls` with these roots and no others.
fn launch_trusting(home: &Home, host: &str, port: u16, roots: &str) -> Launch {
    let file = home.path().join("roots.pem");
    fs::write(&file, roots).unwrap();
    home.program(["run", "--tls", "--host", host, "--port", &port.to_string()])
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .env("SSL_CERT_FILE", file)
}

async fn serves(gateway: &GatewayHandle) {
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(gateway, &view).await;
}

/// The node was refused its connection before it sent anything, tried again, and complained once.
async fn complained_once(node: &Node, server: &TlsServer, complaint: &str) {
    let log: Log = server.failures(3).await;
    assert_eq!((log.sessions.len(), log.decrypted), (0, 0), "{log:?}");
    let lines = node.lines_with(FAILED);
    assert_eq!(lines.len(), 1, "{node}");
    assert!(
        lines[0].starts_with(&format!("{FAILED}{complaint}")),
        "{}",
        lines[0]
    );
}

#[tokio::test]
async fn a_pinned_certificate_is_trusted_whatever_it_says_about_itself() {
    for version in [Version::Tls12, Version::Tls13] {
        let gateway = gateway().await;
        let certificate = Certificate::self_signed();
        let server = TlsServer::start(&certificate, version, gateway.port()).await;
        let home = Home::new();
        let pin = format!("SHA256:{}", certificate.fingerprint().to_uppercase());
        let node = home
            .run(server.port())
            .arg("--tls-fingerprint")
            .arg(&pin)
            .start();
        serves(&gateway).await;
        let url = format!(
            "node host gateway connected: wss://127.0.0.1:{}",
            server.port()
        );
        node.line(&url).await;
        // An IP address is not told to a server, and HTTP/2 knows no upgrade.
        let session = Session {
            protocol: Some(b"http/1.1".to_vec()),
            server_name: None,
        };
        assert_eq!(server.log().sessions, [session], "{version:?}");
    }
}

#[tokio::test]
async fn a_pin_is_kept_for_the_next_start() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let pin = certificate.fingerprint();
    let node = home
        .run(server.port())
        .arg("--tls-fingerprint")
        .arg(&pin)
        .start();
    serves(&gateway).await;
    node.stop().await;
    let again = home
        .program(["run"])
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .start();
    again.line("node host gateway connected: wss://").await;
}

async fn refuses_another_certificate(version: Version) {
    let gateway = gateway().await;
    let shown = Certificate::self_signed();
    let pinned = Certificate::self_signed().fingerprint();
    let server = TlsServer::start(&shown, version, gateway.port()).await;
    let home = Home::new();
    let node = home
        .run(server.port())
        .arg("--tls-fingerprint")
        .arg(&pinned)
        .start();
    let complaint = format!(
        "gateway tls fingerprint mismatch: the server shows sha256:{}, pinned is sha256:{pinned}",
        shown.fingerprint()
    );
    complained_once(&node, &server, &complaint).await;
}

#[tokio::test]
async fn a_server_with_another_certificate_than_the_pinned_one_is_told_nothing() {
    tokio::join!(
        refuses_another_certificate(Version::Tls12),
        refuses_another_certificate(Version::Tls13),
    );
}

async fn refuses_a_certificate_without_its_key(version: Version) {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start_impostor(&certificate, version, gateway.port()).await;
    let home = Home::new();
    let pin = certificate.fingerprint();
    let node = home
        .run(server.port())
        .arg("--tls-fingerprint")
        .arg(&pin)
        .start();
    complained_once(&node, &server, "gateway tls handshake failed: ").await;
}

#[tokio::test]
async fn a_server_that_shows_the_pinned_certificate_without_its_key_is_told_nothing() {
    tokio::join!(
        refuses_a_certificate_without_its_key(Version::Tls12),
        refuses_a_certificate_without_its_key(Version::Tls13),
    );
}

#[tokio::test]
async fn a_certificate_of_an_authority_of_this_machine_is_trusted_for_its_names_and_addresses() {
    let authority = Authority::new("a company's own authority");
    let certificate = authority.issue(&["localhost", "127.0.0.1", "::1"]);
    for (host, server_name) in [
        ("localhost", Some("localhost")),
        ("127.0.0.1", None),
        ("::1", None),
        ("[::1]", None),
    ] {
        let gateway = gateway().await;
        let server = if host.contains("::1") {
            let loopback = Ipv6Addr::LOCALHOST.into();
            match TlsServer::start_on(loopback, &certificate, gateway.port()).await {
                Some(server) => server,
                None => {
                    println!("this machine has no IPv6; {host} is not tried");
                    continue;
                }
            }
        } else {
            TlsServer::start(&certificate, Version::Tls13, gateway.port()).await
        };
        let home = Home::new();
        let _node = launch_trusting(&home, host, server.port(), &authority.pem()).start();
        serves(&gateway).await;
        let session = Session {
            protocol: Some(b"http/1.1".to_vec()),
            server_name: server_name.map(str::to_owned),
        };
        assert_eq!(server.log().sessions, [session], "{host}");
    }
}

#[tokio::test]
async fn a_certificate_that_this_machine_has_no_reason_to_trust_is_refused_with_the_remedy() {
    let authority = Authority::new("ours");
    let stranger = Authority::new("theirs");
    let cases = [
        (
            Certificate::self_signed(),
            "127.0.0.1",
            "it is self-signed or unusual",
            None,
        ),
        (
            stranger.issue(&["127.0.0.1"]),
            "127.0.0.1",
            "its issuer is unknown to this machine;",
            Some("SSL_CERT_FILE"),
        ),
        (
            authority.issue(&["gateway.example.com"]),
            "127.0.0.1",
            "it is for DnsName(\"gateway.example.com\"), not for 127.0.0.1;",
            Some("--host"),
        ),
        // The address that the connector is told in place of an IPv6 literal is worth nothing.
        (
            authority.issue(&["0.0.0.0"]),
            "::1",
            "it is for IpAddress(0.0.0.0), not for ::1;",
            Some("--host"),
        ),
        (
            authority.issue_expired(&["127.0.0.1"]),
            "127.0.0.1",
            "it expired at 2020-01-01T00:00:00Z;",
            Some("clocks"),
        ),
    ];
    let mut attempts = tokio::task::JoinSet::new();
    for (certificate, host, reason, remedy) in cases {
        let roots = authority.pem();
        attempts.spawn(async move {
            let gateway = gateway().await;
            let address = host.parse().unwrap();
            let Some(server) = TlsServer::start_on(address, &certificate, gateway.port()).await
            else {
                println!("this machine has no IPv6; {host} is not tried");
                return;
            };
            let home = Home::new();
            let node = launch_trusting(&home, host, server.port(), &roots).start();
            let complaint = format!("gateway tls certificate not trusted: {reason}");
            complained_once(&node, &server, &complaint).await;
            let line = node.line(FAILED).await;
            let pin = format!("--tls-fingerprint sha256:{}", certificate.fingerprint());
            assert!(line.contains(&pin), "{line}");
            assert!(remedy.is_none_or(|remedy| line.contains(remedy)), "{line}");
        });
    }
    while let Some(attempt) = attempts.join_next().await {
        attempt.unwrap();
    }
}

#[tokio::test]
async fn roots_that_come_later_are_found_without_a_restart() {
    let gateway = gateway().await;
    let authority = Authority::new("ours");
    let certificate = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let roots: PathBuf = home.path().join("roots.pem");
    let node = launch_trusting(&home, "127.0.0.1", server.port(), "").start();
    let line = node.line(FAILED).await;
    assert!(line.contains("no root certificates are found"), "{line}");
    assert!(line.contains("SSL_CERT_FILE"), "{line}");
    fs::write(&roots, Authority::new("theirs").pem()).unwrap();
    node.line("its issuer is unknown to this machine").await;
    let fresh = home.path().join("fresh.pem");
    fs::write(&fresh, authority.pem()).unwrap();
    fs::rename(&fresh, &roots).unwrap();
    serves(&gateway).await;
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_named_as_such() {
    let gateway = gateway().await;
    let home = Home::new();
    let pin = "ab".repeat(32);
    let node = home
        .run(gateway.port())
        .arg("--tls-fingerprint")
        .arg(&pin)
        .start();
    let line = node.line(FAILED).await;
    assert!(line.contains("the server does not speak tls"), "{line}");
    assert!(line.contains("--no-tls"), "{line}");
}

#[tokio::test]
async fn a_server_with_tls_that_is_asked_without_is_named_as_such() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let node = home.run(server.port()).start();
    complained_once(&node, &server, "no http answer to the websocket upgrade; ").await;
}

#[tokio::test]
async fn a_server_that_ends_the_connection_instead_of_answering_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = tokio::spawn(async move {
        // Once in good order, then with a reset because of what was not read.
        let (mut stream, _) = listener.accept().await.unwrap();
        let hello = stream.read(&mut [0; 16 * 1024]).await.unwrap();
        assert_ne!(hello, 0);
        drop(stream);
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        drop(stream);
        listener.accept().await.unwrap();
    });
    let home = Home::new();
    let pin = "ab".repeat(32);
    let node = home.run(port).arg("--tls-fingerprint").arg(&pin).start();
    tokio::time::timeout(DEADLINE, connections)
        .await
        .expect("it is tried again")
        .unwrap();
    let lines = node.lines_with(FAILED);
    assert_eq!(lines.len(), 1, "{node}");
    assert!(
        lines[0].contains("the server ended the connection"),
        "{}",
        lines[0]
    );
}
