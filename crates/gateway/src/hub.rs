//! The gateway's one owner of state: it gets every frame of every session and every wish of the
//! handle, one after the other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use protocol::close::{Close, CloseCode};
use protocol::frame::GatewayError;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::approval::ApprovalTable;
use crate::auth::RateLimiter;
use crate::clock::now_ms;
use crate::connect::{REQUEST_SHAPE, Role};
use crate::error::invalid_request;
use crate::faults::Faults;
use crate::frame::{self, Broadcast};
use crate::invoke::InvokeTable;
use crate::link::{Link, MAX_BUFFERED_BYTES};
use crate::options::{GatewayOptions, Release};
use crate::pairing::{Claim, DeviceRegistry};
use crate::record::{Recorded, Snapshot};
use crate::schema::validate;
use crate::session::{Admit, CloseWith, ConnectionId, Deliver, Peer, Ping, Session};
use crate::surface::{NodeMetadata, Surface, SurfaceRegistry};
use crate::watch::Waiters;

/// Messages that may wait for the hub; senders beyond wait for room.
const MAILBOX: usize = 1024;

/// Consecutive unauthorised calls that are answered; the next one ends the connection (§2).
const MAX_UNAUTHORIZED: usize = 11;

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
    pub(crate) snapshot: Snapshot,
    /// Whether the parts of the snapshot that are not records are out of date.
    pub(crate) stale: bool,
    pub(crate) waiters: Waiters,
    sequence: u64,
    /// Connections whose peers left too much unread; they are closed when there is time.
    flooded: RefCell<Vec<ConnectionId>>,
}

/// One WebSocket connection as the hub knows it.
pub(crate) struct Connection {
    pub(crate) session: Addr<Session>,
    pub(crate) link: Arc<Link>,
    pub(crate) peer: Peer,
    pub(crate) nonce: String,
    /// Who it is, once admitted.
    pub(crate) client: Option<Client>,
    pub(crate) unauthorized: usize,
    /// Whether a close frame is on its way.
    pub(crate) closing: bool,
    /// Sends pings, once admitted.
    pub(crate) pings: Option<SpawnHandle>,
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

impl Hub {
    pub(crate) fn new(options: GatewayOptions, faults: Rc<RefCell<Faults>>) -> Self {
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
            waiters: Waiters::default(),
            sequence: 0,
            flooded: RefCell::default(),
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
        let Some(known) = self.connections.get(&connection) else {
            return;
        };
        if known.closing {
            return;
        }
        if !known.link.enqueue(text.len()) {
            self.flooded.borrow_mut().push(connection);
        }
        if known.session.try_send(Deliver(text)).is_err() {
            tracing::debug!("a session is gone, a frame was dropped");
        }
    }

    /// Closes connections whose peers do not read.
    pub(crate) fn close_flooded(&mut self) {
        for connection in self.flooded.take() {
            if self.online.values().any(|online| *online == connection) {
                self.leave(connection);
            }
            let close = Close::new(CloseCode::PolicyViolation, "slow consumer");
            self.close(connection, close);
        }
    }

    pub(crate) fn close(&mut self, connection: ConnectionId, close: Close) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        if std::mem::replace(&mut known.closing, true) {
            return;
        }
        if known.session.try_send(CloseWith(close.clone())).is_err() {
            tracing::debug!("a session is gone, it needs no close frame");
        }
        known.link.cut_after(self.options.timing.close);
        self.record(connection, Recorded::CloseSent(close));
    }

    pub(crate) fn admit(
        &mut self,
        connection: ConnectionId,
        client: Client,
        context: &mut Context<Self>,
    ) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.client = Some(client);
            if known.session.try_send(Admit).is_err() {
                tracing::debug!("a session ended while it was admitted");
            }
            let interval = self.options.timing.ping_interval;
            known.pings = Some(context.run_interval(interval, move |hub, _| hub.ping(connection)));
        }
        self.touch();
    }

    fn ping(&self, connection: ConnectionId) {
        let Some(known) = self.connections.get(&connection) else {
            return;
        };
        if self.faults.borrow().withhold_pings {
            return;
        }
        let answered = known.link.expect_pong();
        if !answered && self.release() == Release::September {
            known.link.cut();
        } else if known.session.try_send(Ping).is_err() {
            tracing::debug!("a session is gone, it is not pinged");
        }
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

    /// Takes one text message of a connection.
    pub(crate) fn receive(
        &mut self,
        connection: ConnectionId,
        text: &[u8],
        context: &mut Context<Self>,
    ) {
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
            self.handshake(connection, &frame, context);
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
