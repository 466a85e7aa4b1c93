//! The ways to a gateway: pins and roots of the settings file, a proxy, an edge that wants to know
//! who asks, IPv6, and the fingerprint to compare first.

#![cfg(test)]

mod common;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
#[path = "common/tls_server.rs"]
mod tls_server;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::home::{Home, Launch};
use common::{CONNECTED, DEADLINE, answers, gateway};
use gateway::{DEFAULT_TOKEN, GatewayHandle, Recorded};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use tls_server::{Authority, Certificate, TlsServer, Version};

const FAILED: &str = "node host gateway connect failed: ";

fn settings(home: &Home, settings: &Value) {
    let file = home.folder(".openclaw").join("openclaw-node.json5");
    fs::write(file, settings.to_string()).unwrap();
}

fn run_tls(home: &Home, host: &str, port: u16) -> Launch {
    home.program(["run", "--tls", "--host", host, "--port", &port.to_string()])
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
}

async fn serves(gateway: &GatewayHandle) {
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(gateway, &view).await;
}

#[tokio::test]
async fn one_of_several_pins_of_the_settings_is_enough_and_none_is_too_few() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let others = [(); 2].map(|()| Certificate::self_signed().fingerprint());

    let home = Home::new();
    settings(&home, &json!({ "tls": { "pins": others } }));
    let node = run_tls(&home, "127.0.0.1", server.port()).start();
    let log = server.failures(2).await;
    assert_eq!((log.sessions.len(), log.decrypted), (0, 0), "{log:?}");
    let line = node.line(FAILED).await;
    let pinned = format!("pinned is sha256:{} or sha256:{};", others[0], others[1]);
    assert!(line.contains(&pinned), "{line}");
    node.stop().await;

    let next = format!("sha256:{}", certificate.fingerprint());
    settings(&home, &json!({ "tls": { "pins": [others[0], next] } }));
    let _node = run_tls(&home, "127.0.0.1", server.port()).start();
    serves(&gateway).await;
}

#[tokio::test]
async fn the_roots_of_the_settings_are_trusted_instead_of_the_machines() {
    let gateway = gateway().await;
    let authority = Authority::new("of the gateway");
    let certificate = authority.issue(&["127.0.0.1"]);
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let file = home.path().join("ca.pem");
    settings(&home, &json!({ "tls": { "caFile": file } }));

    let node = run_tls(&home, "127.0.0.1", server.port()).start();
    let line = node.line(FAILED).await;
    assert!(
        line.contains("tls.caFile") && line.contains("ca.pem"),
        "{line}"
    );

    // It is tried again, and the file is read again.
    fs::write(&file, authority.pem()).unwrap();
    serves(&gateway).await;
    node.stop().await;

    fs::write(&file, Authority::new("of another").pem()).unwrap();
    let node = run_tls(&home, "127.0.0.1", server.port()).start();
    let line = node.line(FAILED).await;
    assert!(line.contains("its issuer is unknown"), "{line}");
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_by_key() {
    let cases = [
        (json!({ "pins": "x" }), "tls.pins"),
        (json!({ "pins": ["12"] }), "tls.pins"),
        (json!({ "caFile": "relative.pem" }), "tls.caFile"),
        (json!({ "caPath": "/x" }), "tls.caPath"),
        (json!({ "pins": ["0".repeat(64)] }), "requires wss://"),
    ];
    for (tls, expected) in cases {
        let home = Home::new();
        settings(&home, &json!({ "tls": tls }));
        let output = home.run(1).output().await;
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(expected), "{tls}: {complaint}");
    }
}

#[tokio::test]
async fn pin_prints_the_fingerprint_and_tells_the_server_nothing() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls12, gateway.port()).await;
    let home = Home::new();
    let pin = async |address: &str| home.program(["pin", address]).output().await;
    let output = pin(&format!("127.0.0.1:{}", server.port())).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("sha256:{}\n", certificate.fingerprint()));
    assert_eq!(server.failures(1).await.decrypted, 0);

    let output = pin(&format!("127.0.0.1:{}", gateway.port())).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("does not speak tls"), "{complaint}");
    assert_eq!(pin("gateway").await.status.code(), Some(1));
}

/// A proxy that opens tunnels to one port of this machine, whatever host is asked for.
struct ConnectProxy {
    port: u16,
    asked: watch::Receiver<Vec<String>>,
}

impl ConnectProxy {
    async fn start(answer: &'static str, target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heads, asked) = watch::channel(Vec::new());
        let heads = Arc::new(heads);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let heads = Arc::clone(&heads);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    heads.send_modify(|heads| heads.push(head));
                    client.write_all(answer.as_bytes()).await.unwrap();
                    if answer.contains("200") {
                        let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                        tokio::io::copy_bidirectional(&mut client, &mut server)
                            .await
                            .ok();
                    }
                });
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }
}

#[tokio::test]
async fn a_proxy_leads_to_a_gateway_and_sees_nothing_but_its_address() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let proxy =
        ConnectProxy::start("HTTP/1.1 200 Established\r\nVia: x\r\n\r\n", server.port()).await;
    let home = Home::new();
    let url = format!("http://me:p%40ss@127.0.0.1:{}", proxy.port);
    let node = home
        .program(["run", "--host", "gateway.invalid", "--port", "443"])
        .arg("--tls-fingerprint")
        .arg(certificate.fingerprint())
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .env("HTTPS_PROXY", &url)
        .start();
    serves(&gateway).await;
    node.line(CONNECTED).await;
    assert_eq!(
        proxy.asked(),
        [
            "CONNECT gateway.invalid:443 HTTP/1.1\r\nHost: gateway.invalid:443\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
        ]
    );
    assert!(!node.to_string().contains("p@ss"));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_never_asked_for_loopback() {
    let gateway = gateway().await;
    let proxy = ConnectProxy::start("HTTP/1.1 407 Who\r\n\r\n", 1).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let home = Home::new();
    let node = run_tls(&home, "gateway.invalid", 443)
        .env("https_proxy", &url)
        .start();
    let line = node.line(FAILED).await;
    assert!(
        line.contains("HTTP 407") && line.contains("HTTPS_PROXY"),
        "{line}"
    );
    node.stop().await;
    let asked = proxy.asked().len();

    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let _node = home
        .run(server.port())
        .arg("--tls-fingerprint")
        .arg(certificate.fingerprint())
        .env("HTTPS_PROXY", &url)
        .start();
    serves(&gateway).await;
    assert_eq!(proxy.asked().len(), asked);
}

#[tokio::test]
async fn an_edge_sees_its_headers_over_tls_and_never_in_the_clear() {
    let gateway = gateway().await;
    let certificate = Certificate::self_signed();
    let server = TlsServer::start(&certificate, Version::Tls13, gateway.port()).await;
    let home = Home::new();
    let with_access = |launch: Launch| {
        launch
            .env("CF_ACCESS_CLIENT_ID", "the-client-id")
            .env("CF_ACCESS_CLIENT_SECRET", "the-client-secret")
    };
    let launch = home
        .run(server.port())
        .arg("--context-path")
        .arg("/claw")
        .arg("--tls-fingerprint")
        .arg(certificate.fingerprint());
    let node = with_access(launch).start();
    serves(&gateway).await;
    let (path, headers) = gateway
        .inspect(|snapshot| {
            snapshot.records().find_map(|record| match &record.what {
                Recorded::Upgraded { path, headers } => Some((path.clone(), headers.clone())),
                _ => None,
            })
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(path, "/claw");
    let header = |name: &str| {
        headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(header("cf-access-client-id"), Some("the-client-id"));
    assert_eq!(header("cf-access-client-secret"), Some("the-client-secret"));
    node.stop().await;

    let plain = with_access(Home::new().run(gateway.port())).output().await;
    assert_eq!(plain.status.code(), Some(1));
    let complaint = String::from_utf8(plain.stderr).unwrap();
    assert!(
        complaint.contains("require a TLS Gateway connection"),
        "{complaint}"
    );
    assert!(!complaint.contains("the-client"), "{complaint}");
}

#[tokio::test]
async fn an_edge_that_turns_the_node_away_is_named_as_such_and_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = elsewhere.local_addr().unwrap();
    let followed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&followed);
    tokio::spawn(async move {
        while elsewhere.accept().await.is_ok() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: http://{location}/login\r\nContent-Length: 0\r\n\r\n"
            );
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let node = Home::new().run(port).start();
    let line = node.line(FAILED).await;
    assert!(
        line.contains("(HTTP 302)") && line.contains("Cloudflare Access"),
        "{line}"
    );
    assert_eq!(followed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_ipv6_address_needs_no_brackets() {
    let gateway = gateway().await;
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        // This machine has no IPv6.
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let target = gateway.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok();
            });
        }
    });
    let home = Home::new();
    let node = home
        .program(["run", "--host", "::1", "--port", &port.to_string()])
        .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
        .start();
    node.line(&format!("{CONNECTED}ws://[::1]:{port}")).await;
}
