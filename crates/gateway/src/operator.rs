//! An operator's client: it speaks to this gateway and to real ones.
//!
//! The client underneath answers no ping, ends no stream on a close frame and joins no fragments,
//! so all of that happens here.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::ws::{CloseReason, Codec, Frame, Item, Message};
use awc::BoxedSocket;
use bytes::{Bytes, BytesMut};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::frame::GatewayError;
use protocol::identity::{DeviceIdentity, SignaturePayload};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot};

/// Largest message an operator accepts, in bytes: a gateway repeats a node's result twice (§1.2).
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Requests that may wait to be written.
const QUEUE: usize = 1024;
/// Events that a slow subscriber may lag behind before it misses some.
const EVENT_BACKLOG: usize = 1024;

/// How an operator proves itself.
#[derive(Debug)]
pub enum OperatorAuth {
    /// The shared token, as the gateway's own helper on loopback; needs no device.
    Token(SecretString),
    /// The shared password, likewise.
    Password(SecretString),
    /// A device of its own, as the CLI, with the shared token if there is one.
    Device {
        /// The operator's key.
        identity: Box<DeviceIdentity>,
        /// The shared token.
        token: Option<SecretString>,
    },
    /// Nothing, for a gateway that asks for nothing.
    None,
}

/// What an operator asks for when it connects.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// Scopes.
    pub scopes: Vec<String>,
    /// Capabilities; `approvals` makes a real gateway send approval requests here.
    pub caps: Vec<String>,
    /// Limit of connecting and of every call that names none.
    pub deadline: Duration,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        let scopes = ["admin", "read", "write", "approvals", "pairing"];
        Self {
            scopes: scopes
                .iter()
                .map(|scope| format!("operator.{scope}"))
                .collect(),
            caps: Vec::new(),
            deadline: Duration::from_secs(60),
        }
    }
}

/// Why an operator got no answer, or got a refusal.
///
/// `code` is the gateway's, or `CONNECT`, `CLOSED` or `DEADLINE` for what happened on this side.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct OperatorError {
    /// What kind of failure.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// The gateway's details, null when there are none.
    pub details: Value,
}

impl OperatorError {
    fn local(code: &str, message: impl fmt::Display) -> Self {
        Self {
            code: code.to_owned(),
            message: message.to_string(),
            details: Value::Null,
        }
    }

    fn closed() -> Self {
        Self::local("CLOSED", "the connection to the gateway is closed")
    }
}

impl From<GatewayError> for OperatorError {
    fn from(error: GatewayError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            details: error.details,
        }
    }
}

/// An event that a gateway sent to an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorEvent {
    /// The event's name.
    pub name: String,
    /// Its payload, null when absent.
    pub payload: Value,
}

enum Command {
    Call {
        id: String,
        method: String,
        params: Value,
        reply: oneshot::Sender<Result<Value, OperatorError>>,
    },
    Close,
}

/// A connected operator. The connection lives on the arbiter (or `LocalSet`) that connected it;
/// the operator itself may be cloned and used anywhere.
#[derive(Debug, Clone)]
pub struct Operator {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<OperatorEvent>,
    hello: Value,
    deadline: Duration,
}

impl fmt::Debug for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Call { method, .. } => method,
            Self::Close => "close",
        })
    }
}

impl Operator {
    /// Connects with every scope. `url` is `ws://` or `wss://`.
    ///
    /// # Errors
    /// `CONNECT` when there is no WebSocket, else what the gateway answered.
    pub async fn connect(url: &str, auth: OperatorAuth) -> Result<Self, OperatorError> {
        Self::connect_with(url, auth, OperatorOptions::default()).await
    }

    /// Connects.
    ///
    /// # Errors
    /// Like [`Operator::connect`].
    pub async fn connect_with(
        url: &str,
        auth: OperatorAuth,
        options: OperatorOptions,
    ) -> Result<Self, OperatorError> {
        let deadline = options.deadline;
        let connecting = Self::handshake(url, auth, options);
        tokio::time::timeout(deadline, connecting)
            .await
            .map_err(|_| OperatorError::local("DEADLINE", "the gateway did not answer in time"))?
    }

    async fn handshake(
        url: &str,
        auth: OperatorAuth,
        options: OperatorOptions,
    ) -> Result<Self, OperatorError> {
        let (_, framed) = awc::Client::new()
            .ws(url)
            .max_frame_size(MAX_MESSAGE_BYTES)
            .connect()
            .await
            .map_err(|error| OperatorError::local("CONNECT", error))?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (events, mut subscription) = broadcast::channel(EVENT_BACKLOG);
        actix_rt::spawn(converse(framed, queue, events.clone()));
        let mut operator = Self {
            commands,
            events,
            hello: Value::Null,
            deadline: options.deadline,
        };
        let challenge = loop {
            let event = subscription
                .recv()
                .await
                .map_err(|_| OperatorError::closed())?;
            if event.name == "connect.challenge" {
                break event.payload;
            }
        };
        operator.hello = operator
            .call("connect", connect_params(&auth, &options, &challenge))
            .await?;
        Ok(operator)
    }

    /// The payload of hello-ok.
    #[must_use]
    pub fn hello(&self) -> &Value {
        &self.hello
    }

    /// Calls a method and waits for the first answer.
    ///
    /// # Errors
    /// The gateway's refusal, `CLOSED`, or `DEADLINE`.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, OperatorError> {
        self.call_within(method, params, self.deadline).await
    }

    /// Calls a method with a limit of its own.
    ///
    /// # Errors
    /// Like [`Operator::call`].
    pub async fn call_within(
        &self,
        method: &str,
        params: Value,
        deadline: Duration,
    ) -> Result<Value, OperatorError> {
        let (reply, answer) = oneshot::channel();
        let call = Command::Call {
            id: uuid::Uuid::new_v4().to_string(),
            method: method.to_owned(),
            params,
            reply,
        };
        let answered = async {
            self.commands
                .send(call)
                .await
                .map_err(|_| OperatorError::closed())?;
            answer.await.map_err(|_| OperatorError::closed())?
        };
        tokio::time::timeout(deadline, answered)
            .await
            .unwrap_or_else(|_| {
                Err(OperatorError::local(
                    "DEADLINE",
                    format!("no answer to {method} in {deadline:?}"),
                ))
            })
    }

    /// Every event from now on. A subscriber that falls far behind misses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<OperatorEvent> {
        self.events.subscribe()
    }

    /// Closes the connection; calls that wait end with `CLOSED`.
    pub async fn close(&self) {
        if self.commands.send(Command::Close).await.is_err() {
            tracing::debug!("the operator's connection is already closed");
        }
    }
}

fn connect_params(auth: &OperatorAuth, options: &OperatorOptions, challenge: &Value) -> Value {
    let (id, mode) = match auth {
        OperatorAuth::Device { .. } => ("cli", "cli"),
        OperatorAuth::Token(_) | OperatorAuth::Password(_) | OperatorAuth::None => {
            ("gateway-client", "backend")
        }
    };
    let platform = if cfg!(target_os = "macos") {
        "macos"
    } else {
        "linux"
    };
    let mut params = json!({
        "minProtocol": 4,
        "maxProtocol": 4,
        "client": { "id": id, "version": "1.0.0", "platform": platform, "mode": mode },
        "role": "operator",
        "scopes": options.scopes,
        "caps": options.caps,
    });
    let Some(members) = params.as_object_mut() else {
        return params;
    };
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    match auth {
        OperatorAuth::Token(token) => {
            add("auth", json!({ "token": token.expose_secret() }));
        }
        OperatorAuth::Password(password) => {
            add("auth", json!({ "password": password.expose_secret() }));
        }
        OperatorAuth::Device { identity, token } => {
            let nonce = challenge.get("nonce").and_then(Value::as_str).unwrap_or("");
            let signed_at_ms = challenge
                .get("ts")
                .and_then(Value::as_u64)
                .unwrap_or_else(crate::clock::now_ms);
            let payload = SignaturePayload {
                device_id: identity.device_id().as_str(),
                client_id: id,
                client_mode: mode,
                role: "operator",
                scopes: &options.scopes,
                signed_at_ms,
                token: token.as_ref().map_or("", |token| token.expose_secret()),
                nonce,
                platform,
                device_family: "",
            };
            let device = json!({
                "id": identity.device_id(),
                "publicKey": identity.public_key(),
                "signature": identity.sign(&payload.v3()),
                "signedAt": signed_at_ms,
                "nonce": nonce,
            });
            add("device", device);
            if let Some(token) = token {
                add("auth", json!({ "token": token.expose_secret() }));
            }
        }
        OperatorAuth::None => {}
    }
    params
}

type Pending = HashMap<String, oneshot::Sender<Result<Value, OperatorError>>>;

/// Owns the socket until either side closes it.
async fn converse(
    framed: Framed<BoxedSocket, Codec>,
    mut commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<OperatorEvent>,
) {
    let (mut sink, stream) = framed.split();
    let (outgoing, mut to_write) = mpsc::channel::<Message>(QUEUE);
    // Writing in a task of its own: a large request must not keep answers from being read.
    let writer = actix_rt::spawn(async move {
        while let Some(message) = to_write.recv().await {
            let last = matches!(message, Message::Close(_));
            if sink.send(message).await.is_err() || last {
                return;
            }
        }
    });
    let mut incoming = Incoming {
        stream,
        fragments: BytesMut::new(),
    };
    let mut pending = Pending::new();
    loop {
        tokio::select! {
            received = incoming.next() => match received {
                Received::Text(text) => accept(&text, &mut pending, &events),
                Received::Ping(payload) => {
                    if outgoing.send(Message::Pong(payload)).await.is_err() {
                        break;
                    }
                }
                Received::Nothing => {}
                Received::Close(reason) => {
                    let _ = outgoing.send(Message::Close(reason)).await;
                    break;
                }
                Received::End => break,
            },
            command = commands.recv() => match command {
                Some(Command::Call { id, method, params, reply }) => {
                    // Callers that gave up leave their entry behind; it goes with the next call.
                    pending.retain(|_, reply| !reply.is_closed());
                    let request = json!({
                        "type": "req", "id": id, "method": method, "params": params,
                    });
                    pending.insert(id, reply);
                    let text = Message::Text(request.to_string().into());
                    if outgoing.send(text).await.is_err() {
                        break;
                    }
                }
                Some(Command::Close) | None => {
                    let normal = CloseReason::from(actix_http::ws::CloseCode::Normal);
                    let _ = outgoing.send(Message::Close(Some(normal))).await;
                    break;
                }
            },
        }
    }
    drop(outgoing);
    let _ = writer.await;
}

/// Takes one text message apart; what is no frame is ignored, as the protocol demands (§2).
fn accept(text: &[u8], pending: &mut Pending, events: &broadcast::Sender<OperatorEvent>) {
    let Ok(mut frame) = serde_json::from_slice::<Value>(text) else {
        return;
    };
    let mut take = |name: &str| frame.get_mut(name).map(Value::take).unwrap_or_default();
    let kind = take("type");
    match kind.as_str() {
        Some("event") => {
            let Value::String(name) = take("event") else {
                return;
            };
            // Nobody has to listen.
            let _ = events.send(OperatorEvent {
                name,
                payload: take("payload"),
            });
        }
        Some("res") => {
            let id = take("id");
            let Some(reply) = id.as_str().and_then(|id| pending.remove(id)) else {
                return;
            };
            let result = if take("ok") == Value::Bool(true) {
                Ok(take("payload"))
            } else {
                let error: GatewayError = serde_json::from_value(take("error")).unwrap_or_default();
                Err(error.into())
            };
            // The caller may have given up.
            let _ = reply.send(result);
        }
        _ => {}
    }
}

enum Received {
    Text(Bytes),
    Ping(Bytes),
    Close(Option<CloseReason>),
    Nothing,
    End,
}

/// The reading half, with fragments joined.
struct Incoming {
    stream: SplitStream<Framed<BoxedSocket, Codec>>,
    fragments: BytesMut,
}

impl Incoming {
    async fn next(&mut self) -> Received {
        match self.stream.next().await {
            Some(Ok(Frame::Text(bytes) | Frame::Binary(bytes))) => Received::Text(bytes),
            Some(Ok(Frame::Ping(payload))) => Received::Ping(payload),
            Some(Ok(Frame::Pong(_))) => Received::Nothing,
            Some(Ok(Frame::Close(reason))) => Received::Close(reason),
            Some(Ok(Frame::Continuation(item))) => self.join(item),
            Some(Err(error)) => {
                tracing::debug!(%error, "the operator's connection broke");
                Received::End
            }
            None => Received::End,
        }
    }

    fn join(&mut self, item: Item) -> Received {
        let (bytes, last) = match item {
            Item::FirstText(bytes) | Item::FirstBinary(bytes) => {
                self.fragments.clear();
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        if self.fragments.len() + bytes.len() > MAX_MESSAGE_BYTES {
            return Received::End;
        }
        self.fragments.extend_from_slice(&bytes);
        if last {
            Received::Text(self.fragments.split().freeze())
        } else {
            Received::Nothing
        }
    }
}
