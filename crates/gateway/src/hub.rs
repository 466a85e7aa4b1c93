//! The gateway's one owner of state: it gets every frame of every session and every wish of the
//! handle, one after the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use bytes::Bytes;
use protocol::close::{Close, CloseCode};
use protocol::frame::GatewayError;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::approval::ApprovalTable;
use crate::auth::RateLimiter;
use crate::connect::{REQUEST_SHAPE, Role};
use crate::dispatch::RawInvoke;
use crate::faults::{Faults, Injection};
use crate::frame::{self, Broadcast};
use crate::invoke::InvokeTable;
use crate::options::{GatewayOptions, Release};
use crate::pairing::{BootstrapProfile, Claim, DeviceRegistry};
use crate::record::{NodeView, Recorded, Snapshot, WaitError};
use crate::schema::validate;
use crate::server::Control;
use crate::session::{
    Admit, CloseWith, ConnectionId, Deliver, Inject, MAX_BUFFERED_BYTES, Peer, Session,
};
use crate::surface::{NodeMetadata, Surface, SurfaceRegistry};

/// Messages that may wait for the hub; senders beyond wait for room.
const MAILBOX: usize = 1024;

/// Consecutive unauthorised calls that are answered; the next one ends the connection (§2).
const MAX_UNAUTHORIZED: usize = 11;

/// How long sessions may take to close when the gateway restarts.
const RESTART_GRACE: Duration = Duration::from_millis(500);

/// The actor that owns everything behind the sockets.
pub(crate) struct Hub {
    pub(crate) options: GatewayOptions,
    pub(crate) faults: Rc<RefCell<Faults>>,
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    /// The newest connection of every node that is online.
    pub(crate) online: HashMap<String, ConnectionId>,
    pub(crate) devices: DeviceRegistry,
    pub(crate) surfaces: SurfaceRegistry,
    pub(crate) invokes: InvokeTable,
    pub(crate) approvals: ApprovalTable,
    pub(crate) limiter: RateLimiter,
    pub(crate) boot_id: Uuid,
    snapshot: Snapshot,
    /// Whether the parts of the snapshot that are not records are out of date.
    stale: bool,
    waiters: HashMap<u64, Waiter>,
    next_waiter: u64,
    sequence: u64,
    control: mpsc::Sender<Control>,
}

/// One WebSocket connection as the hub knows it.
pub(crate) struct Connection {
    pub(crate) session: Addr<Session>,
    pub(crate) peer: Peer,
    pub(crate) nonce: String,
    /// Who it is, once admitted.
    pub(crate) client: Option<Client>,
    unauthorized: usize,
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) role: Role,
    pub(crate) device: Option<Claim>,
    /// Set exactly when the role is node.
    pub(crate) node: Option<ConnectedNode>,
}

/// The node behind a connection.
#[derive(Debug, Clone)]
pub(crate) struct ConnectedNode {
    pub(crate) metadata: NodeMetadata,
    pub(crate) declared: Surface,
    pub(crate) effective: Surface,
    /// Whether an operator has approved any surface of this node.
    pub(crate) approved: bool,
    pub(crate) path_env: Option<String>,
    pub(crate) connected_at_ms: u64,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Caller {
    /// A session, by the id of its request.
    Session {
        /// The session's connection.
        connection: ConnectionId,
        /// The request's id.
        request_id: String,
    },
    /// The gateway's handle.
    Handle(oneshot::Sender<Result<Value, GatewayError>>),
}

struct Waiter {
    check: Check,
    reply: oneshot::Sender<Result<(), WaitError>>,
    deadline: SpawnHandle,
}

/// A condition; true ends the wait.
pub(crate) type Check = Box<dyn FnMut(&Snapshot) -> bool + Send>;

/// A session has accepted a WebSocket upgrade.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Opened {
    pub(crate) connection: ConnectionId,
    /// Set by the session itself, which knows its address only once it runs.
    pub(crate) session: Option<Addr<Session>>,
    pub(crate) peer: Peer,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// A session has received a text message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Received {
    pub(crate) connection: ConnectionId,
    pub(crate) text: Bytes,
}

/// A session has received a pong.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PongReceived {
    pub(crate) connection: ConnectionId,
}

/// A session has received a close frame.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseReceived {
    pub(crate) connection: ConnectionId,
    pub(crate) close: Close,
}

/// A session is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ended {
    pub(crate) connection: ConnectionId,
}

/// The handle calls an operator method.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) reply: oneshot::Sender<Result<Value, GatewayError>>,
}

/// The handle sends an invoke word for word.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CallRaw {
    pub(crate) invoke: RawInvoke,
    pub(crate) reply: oneshot::Sender<Result<Value, GatewayError>>,
}

/// A TCP connection was accepted, whatever became of it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TcpAccepted;

/// The handle waits for a condition.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitFor {
    pub(crate) check: Check,
    pub(crate) deadline: Duration,
    pub(crate) reply: oneshot::Sender<Result<(), WaitError>>,
}

/// The handle changes what goes wrong.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SetFaults(pub(crate) Faults);

/// The handle throws something at a connection; the answer says whether it is there.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct InjectInto {
    pub(crate) connection: ConnectionId,
    pub(crate) injection: Injection,
}

/// The handle makes a setup code's secret.
#[derive(Message)]
#[rtype(result = "Minted")]
pub(crate) struct MintBootstrapToken(pub(crate) BootstrapProfile);

/// The secret of a new setup code.
#[derive(MessageResponse)]
pub(crate) struct Minted(pub(crate) SecretString);

/// The handle gives a device's pending request a new id.
#[derive(Message)]
#[rtype(result = "Option<String>")]
pub(crate) struct Supersede(pub(crate) String);

/// The handle restarts the gateway.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restart {
    /// How long the port refuses connections.
    pub(crate) down: Duration,
}

pub(crate) fn invalid_request(message: impl Into<String>) -> GatewayError {
    GatewayError {
        code: "INVALID_REQUEST".to_owned(),
        message: message.into(),
        ..GatewayError::default()
    }
}

pub(crate) fn unavailable(message: impl Into<String>, details: Value) -> GatewayError {
    GatewayError {
        code: "UNAVAILABLE".to_owned(),
        message: message.into(),
        details,
        ..GatewayError::default()
    }
}

/// The September release's word for a node whose pairing does not (or no longer) carry a request.
pub(crate) fn pairing_changed(when: &str) -> GatewayError {
    GatewayError {
        retryable: Some(true),
        ..unavailable(
            format!("node pairing changed {when}"),
            json!({ "code": "PAIRING_CHANGED" }),
        )
    }
}

/// Now in unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_epoch.as_millis().try_into().unwrap_or(u64::MAX)
}

impl Hub {
    pub(crate) fn new(
        options: GatewayOptions,
        faults: Rc<RefCell<Faults>>,
        control: mpsc::Sender<Control>,
    ) -> Self {
        Self {
            limiter: RateLimiter::new(options.rate_limit.clone()),
            snapshot: Snapshot::new(options.journal_limit),
            options,
            faults,
            connections: HashMap::new(),
            online: HashMap::new(),
            devices: DeviceRegistry::default(),
            surfaces: SurfaceRegistry::default(),
            invokes: InvokeTable::default(),
            approvals: ApprovalTable::default(),
            boot_id: Uuid::new_v4(),
            stale: true,
            waiters: HashMap::new(),
            next_waiter: 0,
            sequence: 0,
            control,
        }
    }

    pub(crate) fn release(&self) -> Release {
        self.options.release
    }

    pub(crate) fn record(&mut self, connection: ConnectionId, what: Recorded) {
        self.snapshot.push(connection, what);
    }

    /// Notes that nodes or pending requests have changed.
    pub(crate) fn touch(&mut self) {
        self.stale = true;
    }

    /// Sends an event to one connection.
    pub(crate) fn send_event(&self, connection: ConnectionId, name: &str, payload: &Value) {
        self.deliver(connection, frame::event(name, payload, None));
    }

    /// Sends an event to everybody of a role, or to everybody.
    pub(crate) fn broadcast(&mut self, role: Option<Role>, name: &str, payload: &Value) {
        self.sequence += 1;
        let text = frame::event(
            name,
            payload,
            Some(Broadcast {
                sequence: self.sequence,
            }),
        );
        let addressed: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                connection
                    .client
                    .as_ref()
                    .is_some_and(|client| role.is_none_or(|role| client.role == role))
            })
            .map(|(id, _)| *id)
            .collect();
        for connection in addressed {
            self.deliver(connection, text.clone());
        }
    }

    pub(crate) fn deliver(&self, connection: ConnectionId, text: String) {
        if let Some(connection) = self.connections.get(&connection)
            && connection.session.try_send(Deliver(text)).is_err()
        {
            tracing::debug!("a session is gone or flooded, a frame was dropped");
        }
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, close: Close) {
        if let Some(known) = self.connections.get(&connection) {
            let sent = known.session.try_send(CloseWith(close.clone()));
            if sent.is_ok() {
                self.record(connection, Recorded::CloseSent(close));
            }
        }
    }

    pub(crate) fn admit(&mut self, connection: ConnectionId, client: Client) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.client = Some(client);
            if known.session.try_send(Admit).is_err() {
                tracing::debug!("a session ended while it was admitted");
            }
        }
        self.touch();
    }

    pub(crate) fn answer(&self, caller: Caller, result: Result<Value, GatewayError>) {
        match caller {
            Caller::Session {
                connection,
                request_id,
            } => {
                self.deliver(connection, frame::response(&request_id, &result));
            }
            Caller::Handle(reply) => {
                if reply.send(result).is_err() {
                    tracing::debug!("nobody waits for this answer any more");
                }
            }
        }
    }

    /// Closes every session of a device, as upstream does when its token or pairing goes away.
    pub(crate) fn invalidate_device(&mut self, device_id: &str) {
        let sessions: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let device = connection
                    .client
                    .as_ref()
                    .and_then(|client| client.device.as_ref());
                device.is_some_and(|device| device.device_id.as_str() == device_id)
            })
            .map(|(id, _)| *id)
            .collect();
        for connection in sessions {
            self.leave(connection);
            self.close(
                connection,
                Close::new(CloseCode::Invalidated, "device removed"),
            );
        }
    }

    /// Takes a connection offline as a node: fails what it can no longer answer.
    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        self.online.retain(|_, current| *current != connection);
        for invoke in self.invokes.take_all_of(connection) {
            self.fail_disconnected(invoke);
        }
        self.touch();
    }

    pub(crate) fn node(&self, node_id: &str) -> Option<(ConnectionId, &ConnectedNode)> {
        let connection = *self.online.get(node_id)?;
        let node = self
            .connections
            .get(&connection)?
            .client
            .as_ref()?
            .node
            .as_ref()?;
        Some((connection, node))
    }

    pub(crate) fn node_mut(&mut self, node_id: &str) -> Option<(ConnectionId, &mut ConnectedNode)> {
        let connection = *self.online.get(node_id)?;
        let node = self
            .connections
            .get_mut(&connection)?
            .client
            .as_mut()?
            .node
            .as_mut()?;
        Some((connection, node))
    }

    /// Brings the snapshot up to date and wakes whoever waited for what it shows now.
    fn publish(&mut self, context: &mut Context<Self>) {
        self.snapshot.invokes_in_flight = self.invokes.len();
        self.snapshot.open_connections = self.connections.len();
        if std::mem::take(&mut self.stale) {
            self.refresh();
        }
        let snapshot = &self.snapshot;
        for (_, waiter) in self
            .waiters
            .extract_if(|_, waiter| (waiter.check)(snapshot))
        {
            context.cancel_future(waiter.deadline);
            if waiter.reply.send(Ok(())).is_err() {
                tracing::debug!("nobody waits for this condition any more");
            }
        }
    }

    fn refresh(&mut self) {
        let mut nodes: Vec<NodeView> = self
            .online
            .keys()
            .filter_map(|node_id| {
                let (connection, node) = self.node(node_id)?;
                Some(NodeView {
                    node_id: node_id.clone(),
                    connection,
                    display_name: node.metadata.display_name.clone(),
                    commands: node.effective.commands.clone(),
                    declared_commands: node.declared.commands.clone(),
                })
            })
            .collect();
        nodes.sort_by_key(|node| node.connection);
        self.snapshot.nodes = nodes;
        self.snapshot.pending_devices = self
            .devices
            .pending()
            .map(|pending| pending.request_id.clone())
            .collect();
        self.snapshot.pending_surfaces = self
            .surfaces
            .pending()
            .map(|pending| pending.request_id.clone())
            .collect();
    }

    fn receive(&mut self, connection: ConnectionId, text: &[u8], context: &mut Context<Self>) {
        let Some(known) = self.connections.get(&connection) else {
            return;
        };
        let admitted = known.client.as_ref().map(|client| client.role);
        let Ok(mut frame) = serde_json::from_slice::<Value>(text) else {
            let text = String::from_utf8_lossy(text).into_owned();
            self.record(connection, Recorded::Unreadable(text));
            if admitted.is_none() {
                // Not even a frame: the real gateways close without an answer.
                self.close(connection, Close::new(CloseCode::Normal, ""));
            }
            return;
        };
        let Some(role) = admitted else {
            self.handshake(connection, &frame);
            return;
        };
        if let Err(why) = validate(self.release(), REQUEST_SHAPE, &frame) {
            self.record(connection, Recorded::Unreadable(frame.to_string()));
            let id = frame
                .get("id")
                .and_then(Value::as_str)
                .filter(|id| !id.is_empty());
            let error = invalid_request(format!("invalid request frame: {why}"));
            self.deliver(
                connection,
                frame::response(id.unwrap_or("invalid"), &Err(error)),
            );
            return;
        }
        let mut text_of = |name: &str| match frame.get_mut(name).map(Value::take) {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        let (id, method) = (text_of("id"), text_of("method"));
        let params = Arc::new(frame.get_mut("params").map(Value::take).unwrap_or_default());
        self.record(
            connection,
            Recorded::Request {
                id: id.clone(),
                method: method.clone(),
                params: Arc::clone(&params),
            },
        );
        let caller = Caller::Session {
            connection,
            request_id: id,
        };
        match role {
            Role::Node => {
                if !self.faults.borrow().withhold_answers {
                    self.node_request(connection, caller, &method, &params, context);
                }
            }
            Role::Operator => {
                let device = self
                    .connections
                    .get(&connection)
                    .and_then(|connection| connection.client.as_ref()?.device.as_ref())
                    .map(|device| device.device_id.as_str().to_owned());
                self.operator_request(caller, device, &method, &params, context);
            }
        }
    }

    /// Answers a call that a node may not make, and ends a connection that keeps making them.
    pub(crate) fn refuse_role(&mut self, connection: ConnectionId, caller: Caller) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        known.unauthorized += 1;
        if known.unauthorized > MAX_UNAUTHORIZED {
            let close = Close::new(CloseCode::PolicyViolation, "repeated unauthorized calls");
            self.close(connection, close);
        } else {
            self.answer(caller, Err(invalid_request("unauthorized role: node")));
        }
    }

    /// Notes that a node made a call that it may make.
    pub(crate) fn accept_role(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.unauthorized = 0;
        }
    }

    fn tick(&mut self, _: &mut Context<Self>) {
        if !self.faults.borrow().withhold_ticks {
            self.broadcast(None, "tick", &json!({ "ts": now_ms() }));
        }
    }

    /// The policy member of hello-ok (§8).
    pub(crate) fn policy(&self) -> Value {
        let tick: u64 = self
            .options
            .timing
            .tick_interval
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX);
        let mut policy = json!({
            "maxPayload": protocol::frame::MAX_FRAME_BYTES,
            "maxBufferedBytes": MAX_BUFFERED_BYTES,
            "tickIntervalMs": tick,
        });
        if let (Release::September, Some(policy)) = (self.release(), policy.as_object_mut()) {
            policy.insert(
                "attachments".to_owned(),
                json!({ "maxBytes": 19_464_192, "maxImageBytes": 6_291_456 }),
            );
            policy.insert(
                "allowedSessionVisibilities".to_owned(),
                json!(["shared", "read-only", "suggest", "draft"]),
            );
            policy.insert(
                "hasMultipleSessionSharingIdentities".to_owned(),
                false.into(),
            );
        }
        policy
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        context.run_interval(self.options.timing.tick_interval, Self::tick);
    }
}

impl Handler<Opened> for Hub {
    type Result = ();

    fn handle(&mut self, opened: Opened, context: &mut Self::Context) {
        let Opened {
            connection,
            session: Some(session),
            peer,
            path,
            headers,
        } = opened
        else {
            return;
        };
        let nonce = Uuid::new_v4().to_string();
        let mut challenge = json!({ "nonce": nonce, "ts": now_ms() });
        if let (Release::September, Some(challenge)) = (self.release(), challenge.as_object_mut()) {
            challenge.insert("capabilities".to_owned(), json!(["model-catalog-snapshot"]));
        }
        let opened = Connection {
            session,
            peer,
            nonce,
            client: None,
            unauthorized: 0,
        };
        self.connections.insert(connection, opened);
        self.record(connection, Recorded::Upgraded { path, headers });
        if !self.faults.borrow().withhold_challenge {
            self.send_event(connection, "connect.challenge", &challenge);
        }
        self.publish(context);
    }
}

impl Handler<Received> for Hub {
    type Result = ();

    fn handle(&mut self, received: Received, context: &mut Self::Context) {
        self.receive(received.connection, &received.text, context);
        self.publish(context);
    }
}

impl Handler<PongReceived> for Hub {
    type Result = ();

    fn handle(&mut self, pong: PongReceived, context: &mut Self::Context) {
        self.record(pong.connection, Recorded::Pong);
        self.publish(context);
    }
}

impl Handler<CloseReceived> for Hub {
    type Result = ();

    fn handle(&mut self, received: CloseReceived, context: &mut Self::Context) {
        self.record(received.connection, Recorded::CloseReceived(received.close));
        self.publish(context);
    }
}

impl Handler<Ended> for Hub {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        self.leave(ended.connection);
        if self.connections.remove(&ended.connection).is_some() {
            self.record(ended.connection, Recorded::Ended);
        }
        self.publish(context);
    }
}

impl Handler<Call> for Hub {
    type Result = ();

    fn handle(&mut self, call: Call, context: &mut Self::Context) {
        let caller = Caller::Handle(call.reply);
        self.operator_request(caller, None, &call.method, &call.params, context);
        self.publish(context);
    }
}

impl Handler<CallRaw> for Hub {
    type Result = ();

    fn handle(&mut self, call: CallRaw, context: &mut Self::Context) {
        self.invoke_raw(Caller::Handle(call.reply), call.invoke, context);
        self.publish(context);
    }
}

impl Handler<TcpAccepted> for Hub {
    type Result = ();

    fn handle(&mut self, _: TcpAccepted, context: &mut Self::Context) {
        self.snapshot.tcp_connections += 1;
        self.publish(context);
    }
}

impl Handler<WaitFor> for Hub {
    type Result = ();

    fn handle(&mut self, wait: WaitFor, context: &mut Self::Context) {
        let id = self.next_waiter;
        self.next_waiter += 1;
        let after = wait.deadline;
        let deadline = context.run_later(after, move |hub, _| {
            if let Some(waiter) = hub.waiters.remove(&id) {
                let summary = hub.snapshot.summary();
                if waiter
                    .reply
                    .send(Err(WaitError::Deadline { after, summary }))
                    .is_err()
                {
                    tracing::debug!("nobody waits for this condition any more");
                }
            }
        });
        self.waiters.insert(
            id,
            Waiter {
                check: wait.check,
                reply: wait.reply,
                deadline,
            },
        );
        self.publish(context);
    }
}

impl Handler<SetFaults> for Hub {
    type Result = ();

    fn handle(&mut self, SetFaults(faults): SetFaults, _: &mut Self::Context) {
        self.faults.replace(faults);
    }
}

impl Handler<InjectInto> for Hub {
    type Result = bool;

    fn handle(&mut self, inject: InjectInto, context: &mut Self::Context) -> bool {
        let Some(known) = self.connections.get(&inject.connection) else {
            return false;
        };
        let sent = known.session.try_send(Inject(inject.injection)).is_ok();
        self.publish(context);
        sent
    }
}

impl Handler<MintBootstrapToken> for Hub {
    type Result = Minted;

    fn handle(&mut self, mint: MintBootstrapToken, _: &mut Self::Context) -> Minted {
        Minted(
            self.devices
                .mint_bootstrap_token(mint.0, std::time::Instant::now()),
        )
    }
}

impl Handler<Supersede> for Hub {
    type Result = Option<String>;

    fn handle(&mut self, supersede: Supersede, context: &mut Self::Context) -> Option<String> {
        let request_id = self.devices.supersede(&supersede.0);
        self.touch();
        self.publish(context);
        request_id
    }
}

impl Handler<Restart> for Hub {
    type Result = ();

    fn handle(&mut self, restart: Restart, context: &mut Self::Context) {
        let shutdown = match self.release() {
            Release::May => json!({ "reason": "gateway stopping", "restartExpectedMs": null }),
            Release::September => json!({ "reason": "gateway stopping" }),
        };
        self.broadcast(None, "shutdown", &shutdown);
        if self
            .control
            .try_send(Control::Restart { down: restart.down })
            .is_err()
        {
            tracing::warn!("the listener is gone, nothing will listen again");
        }
        self.boot_id = Uuid::new_v4();
        let sessions: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in &sessions {
            self.close(
                *connection,
                Close::new(CloseCode::ServiceRestart, "service restart"),
            );
        }
        // A process that restarts does not wait for peers that never answer its close frame.
        context.run_later(RESTART_GRACE, move |hub, _| {
            for connection in sessions {
                if let Some(known) = hub.connections.get(&connection)
                    && known.session.try_send(Inject(Injection::Hangup)).is_err()
                {
                    tracing::debug!("a session ended by itself");
                }
            }
        });
        self.publish(context);
    }
}
