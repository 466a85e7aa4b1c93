//! A setup code lets a new node in without a shared secret, once, and leaves nothing of itself.

#![cfg(test)]

mod common;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use common::home::{Home, Launch};
use common::{CONNECTED, DEADLINE, answers, gateway_with, no_silent_pairing};
use gateway::{BootstrapProfile, GatewayHandle, GatewayOptions, Release};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A gateway that lets nobody in by itself.
async fn strict(release: Release) -> GatewayHandle {
    gateway_with(GatewayOptions {
        release,
        pairing: no_silent_pairing(),
        ..GatewayOptions::default()
    })
    .await
}

async fn token(gateway: &GatewayHandle, profile: BootstrapProfile) -> String {
    let token = gateway.mint_bootstrap_token(profile).await.unwrap();
    token.expose_secret().to_owned()
}

fn encode(payload: &Value) -> String {
    let code = BASE64_URL_SAFE_NO_PAD.encode(payload.to_string());
    format!("oc-pair://{code}")
}

/// A port on which nobody listens.
async fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis().try_into().unwrap()
}

fn pair(home: &Home, code: &str) -> Launch {
    home.program(["run", "--pair", code])
}

async fn serves(gateway: &GatewayHandle) {
    let view = gateway.admit(DEADLINE).await.unwrap();
    answers(gateway, &view).await;
}

async fn refused(launch: Launch) -> String {
    let output = launch.output().await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Whether any file below a folder contains the text.
fn is_on_disk(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return is_on_disk(&path, text);
        }
        // The control socket holds nothing.
        let bytes = if path.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

#[tokio::test]
async fn a_code_lets_a_node_in_and_leaves_nothing_but_a_device_token() {
    for release in [Release::May, Release::September] {
        let gateway = strict(release).await;
        let token = token(&gateway, BootstrapProfile::Node).await;
        let home = Home::new();
        let code = encode(&json!({
            "url": gateway.url(),
            "bootstrapToken": token,
            "expiresAtMs": now_ms() + 600_000,
        }));
        let node = pair(&home, &code)
            // It is for another gateway, for all that the code says.
            .env("OPENCLAW_GATEWAY_TOKEN", "of-another-gateway")
            .start();
        serves(&gateway).await;
        node.line(CONNECTED).await;
        let auth = gateway
            .inspect(|snapshot| Some(snapshot.connects().next_back()?["auth"].clone()))
            .await
            .unwrap();
        assert_eq!(auth, Some(json!({ "bootstrapToken": token })));
        assert!(!is_on_disk(&home.state_dir(), &token));
        node.kill().await;

        // Where it connects to is remembered, and what with.
        let node = home.program(["run"]).start();
        node.line(CONNECTED).await;
    }
}

#[tokio::test]
async fn the_endpoints_of_a_code_are_tried_until_one_answers_and_that_one_is_kept() {
    let gateway = strict(Release::September).await;
    let token = token(&gateway, BootstrapProfile::Node).await;
    let dead = format!("ws://127.0.0.1:{}", dead_port().await);
    // Something that ends the connection before it has greeted anybody.
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("ws://{}", rude.local_addr().unwrap());
    tokio::spawn(async move { while rude.accept().await.is_ok() {} });
    let code = encode(&json!({
        "url": dead,
        "urls": [dead, silent, "ws://8.8.8.8:1", gateway.url()],
        "bootstrapToken": token,
    }));
    let home = Home::new();
    let node = pair(&home, &code).arg("--log-format=json").start();
    let left_out = node
        .line("ws://8.8.8.8:1 of the setup code is left out")
        .await;
    assert!(left_out.starts_with("{\"time\":"), "{left_out}");
    let connected = format!("{CONNECTED}{}", gateway.url());
    node.line(&connected).await;
    node.stop().await;
    let node = home.program(["run"]).start();
    node.line(&connected).await;
}

#[tokio::test]
async fn flags_for_the_gateway_win_over_the_code() {
    let gateway = strict(Release::September).await;
    let token = token(&gateway, BootstrapProfile::Node).await;
    let dead = format!("ws://127.0.0.1:{}", dead_port().await);
    let code = encode(&json!({ "url": dead, "bootstrapToken": token }));
    let home = Home::new();
    let _node = pair(&home, &code)
        .arg("--port")
        .arg(gateway.port().to_string())
        .start();
    serves(&gateway).await;
}

#[tokio::test]
async fn a_code_is_not_needed_where_a_device_token_is_kept() {
    let gateway = strict(Release::May).await;
    let token = token(&gateway, BootstrapProfile::Node).await;
    let home = Home::new();
    let url = gateway.url();
    let fresh = encode(&json!({ "url": url, "bootstrapToken": token }));
    let if_needed = |code: &str| home.program(["run", "--pair-if-needed", code]);
    let node = if_needed(&fresh).start();
    serves(&gateway).await;
    node.line(CONNECTED).await;
    node.stop().await;

    // The token is used up by now, and the code that is given again has even expired.
    let stale = encode(&json!({ "url": url, "bootstrapToken": token, "expiresAtMs": 1 }));
    let node = if_needed(&stale).start();
    node.line(CONNECTED).await;
    node.stop().await;

    // The code of another gateway is needed.
    let other = strict(Release::May).await;
    let other_token = self::token(&other, BootstrapProfile::Node).await;
    let code = encode(&json!({ "url": other.url(), "bootstrapToken": other_token }));
    let node = if_needed(&code).start();
    node.line(&format!("{CONNECTED}{}", other.url())).await;
}

#[tokio::test]
async fn a_code_that_only_asks_for_approval_says_so_and_goes_on_with_it() {
    let gateway = strict(Release::September).await;
    let token = token(&gateway, BootstrapProfile::Mobile).await;
    let code = encode(&json!({ "url": gateway.url(), "bootstrapToken": token }));
    let home = Home::new();
    let node = pair(&home, &code).start();
    node.line("openclaw devices approve ").await;
    serves(&gateway).await;
    node.line(CONNECTED).await;
    node.stop().await;
    let node = home.program(["run"]).start();
    node.line(CONNECTED).await;
}

#[tokio::test]
async fn a_code_that_is_used_up_ends_the_node_with_the_remedy() {
    let gateway = strict(Release::May).await;
    let token = token(&gateway, BootstrapProfile::Node).await;
    let code = encode(&json!({ "url": gateway.url(), "bootstrapToken": token }));
    let first = Home::new();
    let _node = pair(&first, &code).start();
    serves(&gateway).await;
    let second = Home::new();
    let mut node = pair(&second, &code).start();
    assert_eq!(node.exit_code().await, 1);
    node.line("AUTH_BOOTSTRAP_TOKEN_INVALID").await;
    node.line("make a fresh setup code").await;
}

#[tokio::test]
async fn what_is_no_usable_code_is_refused_before_anything_is_sent() {
    let home = Home::new();
    let expired = encode(&json!({
        "url": "ws://127.0.0.1:1", "bootstrapToken": "secret-of-the-code", "expiresAtMs": 1,
    }));
    let public = encode(&json!({
        "url": "ws://8.8.8.8:1", "bootstrapToken": "secret-of-the-code",
    }));
    let cases = [
        ("oc-pair://nothing", "Invalid pairing setup payload."),
        ("oc-pair://***", "Invalid pairing setup code or URL."),
        ("https://gateway.example/join", "exact /j/<shortcode> form"),
        (expired.as_str(), "Pairing setup code has expired."),
        (public.as_str(), "SECURITY ERROR"),
    ];
    for (code, expected) in cases {
        let complaint = refused(pair(&home, code)).await;
        assert!(complaint.contains(expected), "{code}: {complaint}");
        assert!(!complaint.contains("secret-of-the-code"), "{complaint}");
    }
    let both = home.program(["run", "--pair", "a", "--pair-if-needed", "b"]);
    assert!(refused(both).await.contains("cannot be used with"));
}

/// Answers the first request with this, and says what was asked.
async fn answer_once(answer: String) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (port, asked)
}

fn http(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n{body}"
    )
}

const JOIN_CODE: &str = "AAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn a_join_url_is_redeemed_for_the_code() {
    let gateway = strict(Release::September).await;
    let token = token(&gateway, BootstrapProfile::Node).await;
    let payload = json!({ "url": gateway.url(), "bootstrapToken": token }).to_string();
    let answer = http("200 OK", "application/json; charset=utf-8", &payload);
    let (port, asked) = answer_once(answer).await;
    let home = Home::new();
    let url = format!("http://127.0.0.1:{port}/claw/j/{JOIN_CODE}");
    let node = pair(&home, &url).start();
    serves(&gateway).await;
    node.line(CONNECTED).await;
    let asked = asked.await.unwrap();
    assert!(
        asked.starts_with(&format!("GET /claw/j/{JOIN_CODE} HTTP/1.1\r\n")),
        "{asked}"
    );
    node.stop().await;

    // It can be redeemed once, but is not needed again.
    let node = home.program(["run", "--pair-if-needed", &url]).start();
    node.line(CONNECTED).await;
}

#[tokio::test]
async fn a_join_url_that_answers_with_anything_else_is_refused() {
    let long = format!("{{\"url\":\"{}\"}}", "x".repeat(30_000));
    let cases = [
        (
            http("404 Not Found", "application/json", "{}"),
            "not found or has expired",
        ),
        (
            http("302 Found", "application/json", "{}"),
            "not found or has expired",
        ),
        (
            http("200 OK", "text/html", "<p>"),
            "not found or has expired",
        ),
        (
            http("200 OK", "application/json", "{}"),
            "invalid pairing payload",
        ),
        (
            http("200 OK", "application/json", &long),
            "invalid pairing payload",
        ),
        ("nonsense\r\n\r\n".to_owned(), "Could not fetch"),
    ];
    for (answer, expected) in cases {
        let (port, _asked) = answer_once(answer).await;
        let home = Home::new();
        let url = format!("http://127.0.0.1:{port}/j/{JOIN_CODE}");
        let complaint = refused(pair(&home, &url)).await;
        assert!(complaint.contains(expected), "{expected}: {complaint}");
    }
}
