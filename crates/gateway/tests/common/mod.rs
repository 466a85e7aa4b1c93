//! A node that does exactly what a test tells it to, frame by frame.
#![allow(dead_code, reason = "each test binary uses its part of this module")]

use std::time::Duration;

use actix_codec::Framed;
use actix_http::ws::{Codec, Frame, Message};
use awc::BoxedSocket;
use futures_util::{SinkExt as _, StreamExt as _};
use openclaw_node_gateway::{Gateway, GatewayHandle, GatewayOptions, Release};
use protocol::identity::{DeviceIdentity, SignaturePayload};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine; a test that needs it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn start(options: GatewayOptions) -> GatewayHandle {
    Gateway::start(options).await.unwrap()
}

/// What a raw node's connection ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

/// How a raw node introduces itself.
pub(crate) struct Introduction {
    pub(crate) auth: Value,
    pub(crate) role: &'static str,
    pub(crate) scopes: Vec<String>,
    pub(crate) client: Value,
    pub(crate) commands: Value,
    pub(crate) protocol: (u64, u64),
    /// Changes the finished connect params.
    pub(crate) edit: fn(&mut Value),
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl Default for Introduction {
    fn default() -> Self {
        Self {
            auth: json!({ "token": openclaw_node_gateway::DEFAULT_TOKEN }),
            role: "node",
            scopes: Vec::new(),
            client: json!({
                "id": "node-host", "displayName": "raw-node", "version": "0.1.0",
                "platform": "linux", "deviceFamily": "Linux", "mode": "node",
                "instanceId": "11111111-2222-4333-8444-555555555555",
            }),
            commands: json!([
                "system.run",
                "system.run.prepare",
                "system.which",
                "system.execApprovals.get",
                "system.execApprovals.set",
            ]),
            protocol: (4, 4),
            edit: |_| {},
            headers: Vec::new(),
        }
    }
}

pub(crate) struct RawNode {
    framed: Framed<BoxedSocket, Codec>,
    next_id: u64,
    /// Frames that arrived while something else was awaited.
    backlog: Vec<Value>,
    pub(crate) pings: usize,
}

impl RawNode {
    /// Opens the WebSocket and nothing else.
    pub(crate) async fn dial(url: &str, headers: &[(&'static str, &'static str)]) -> Self {
        let mut request = awc::Client::new().ws(url).max_frame_size(26 * 1024 * 1024);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (_, framed) = request.connect().await.unwrap();
        Self {
            framed,
            next_id: 0,
            backlog: Vec::new(),
            pings: 0,
        }
    }

    /// Opens the WebSocket and answers the challenge; the second value is the answer.
    pub(crate) async fn connect(
        url: &str,
        identity: &DeviceIdentity,
        introduction: Introduction,
    ) -> (Self, Result<Value, Value>) {
        let mut node = Self::dial(url, &introduction.headers).await;
        let challenge = node.event("connect.challenge").await;
        let params = connect_params(identity, &introduction, &challenge);
        let answer = node.request("connect", params).await;
        (node, answer)
    }

    /// Connects and must be let in.
    pub(crate) async fn admitted(url: &str, identity: &DeviceIdentity) -> Self {
        let (node, answer) = Self::connect(url, identity, Introduction::default()).await;
        answer.unwrap();
        node
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.framed
            .send(Message::Text(text.to_owned().into()))
            .await
            .unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.framed.send(message).await.unwrap();
    }

    /// Sends a request without waiting; returns its id.
    pub(crate) async fn post(&mut self, method: &str, params: Value) -> String {
        self.next_id += 1;
        let id = format!("r{}", self.next_id);
        let frame = json!({ "type": "req", "id": id, "method": method, "params": params });
        self.send_text(&frame.to_string()).await;
        id
    }

    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.post(method, params).await;
        self.answer(&id).await
    }

    pub(crate) async fn answer(&mut self, id: &str) -> Result<Value, Value> {
        let frame = self
            .frame(|frame| frame["type"] == "res" && frame["id"] == id)
            .await;
        if frame["ok"] == true {
            Ok(frame["payload"].clone())
        } else {
            Err(frame["error"].clone())
        }
    }

    /// The payload of the next event with this name.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        let frame = self
            .frame(|frame| frame["type"] == "event" && frame["event"] == name)
            .await;
        frame["payload"].clone()
    }

    async fn frame(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(at);
        }
        loop {
            let frame = self.next_text().await.expect("the connection ended");
            if wanted(&frame) {
                return frame;
            }
            self.backlog.push(frame);
        }
    }

    async fn next_text(&mut self) -> Result<Value, Closed> {
        loop {
            let bytes = match self.next_message().await {
                Some(Frame::Text(bytes)) => bytes,
                Some(Frame::Ping(payload)) => {
                    self.pings += 1;
                    self.send_message(Message::Pong(payload)).await;
                    continue;
                }
                Some(Frame::Close(reason)) => {
                    return Err(Closed {
                        code: reason.as_ref().map(|reason| reason.code.into()),
                        reason: reason
                            .and_then(|reason| reason.description)
                            .unwrap_or_default(),
                    });
                }
                Some(other) => panic!("unexpected {other:?}"),
                None => {
                    return Err(Closed {
                        code: None,
                        reason: String::new(),
                    });
                }
            };
            return Ok(serde_json::from_slice(&bytes).unwrap());
        }
    }

    /// The next WebSocket frame of any kind, `None` at the end of TCP.
    pub(crate) async fn next_message(&mut self) -> Option<Frame> {
        let next = tokio::time::timeout(DEADLINE, self.framed.next()).await;
        next.expect("nothing came").and_then(Result::ok)
    }

    /// Reads until the connection is closed.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            match self.next_text().await {
                Ok(frame) => self.backlog.push(frame),
                Err(closed) => return closed,
            }
        }
    }

    /// Takes the next invoke and answers it.
    pub(crate) async fn answer_invoke(&mut self, payload: Value) -> Value {
        let invoke = self.event("node.invoke.request").await;
        let result = json!({
            "id": invoke["id"], "nodeId": invoke["nodeId"], "ok": true,
            "payloadJSON": payload.to_string(),
        });
        assert_eq!(
            self.request("node.invoke.result", result).await,
            Ok(json!({ "ok": true }))
        );
        invoke
    }
}

/// Builds and signs connect params.
pub(crate) fn connect_params(
    identity: &DeviceIdentity,
    introduction: &Introduction,
    challenge: &Value,
) -> Value {
    let auth = &introduction.auth;
    let token = ["token", "deviceToken", "bootstrapToken"]
        .iter()
        .find_map(|name| auth.get(name)?.as_str())
        .unwrap_or("");
    let client = &introduction.client;
    let text = |name: &str| client.get(name).and_then(Value::as_str).unwrap_or("");
    let signed_at_ms = challenge["ts"].as_u64().unwrap();
    let payload = SignaturePayload {
        device_id: identity.device_id().as_str(),
        client_id: text("id"),
        client_mode: text("mode"),
        role: introduction.role,
        scopes: &introduction.scopes,
        signed_at_ms,
        token,
        nonce: challenge["nonce"].as_str().unwrap(),
        platform: text("platform"),
        device_family: text("deviceFamily"),
    };
    let mut params = json!({
        "minProtocol": introduction.protocol.0,
        "maxProtocol": introduction.protocol.1,
        "client": client,
        "caps": ["system"],
        "commands": introduction.commands,
        "role": introduction.role,
        "scopes": introduction.scopes,
        "device": {
            "id": identity.device_id(),
            "publicKey": identity.public_key(),
            "signature": identity.sign(&payload.v3()),
            "signedAt": signed_at_ms,
            "nonce": challenge["nonce"],
        },
    });
    if !auth.is_null() {
        params["auth"] = auth.clone();
    }
    (introduction.edit)(&mut params);
    params
}

/// A device that nobody knows yet.
pub(crate) fn identity() -> DeviceIdentity {
    DeviceIdentity::generate().unwrap()
}

/// A gateway of this release, as it comes.
pub(crate) fn of(release: Release) -> GatewayOptions {
    GatewayOptions {
        release,
        ..GatewayOptions::default()
    }
}

/// What a gateway answers to an introduction, and how it closes after a refusal.
pub(crate) async fn answer(
    options: GatewayOptions,
    introduction: Introduction,
) -> (Result<Value, Value>, Closed) {
    let gateway = start(options).await;
    let (mut node, answer) = RawNode::connect(&gateway.url(), &identity(), introduction).await;
    if answer.is_ok() {
        return (
            answer,
            Closed {
                code: None,
                reason: String::new(),
            },
        );
    }
    let closed = node.closed().await;
    (answer, closed)
}
