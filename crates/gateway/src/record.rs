//! What the gateway has seen, for tests to look at and wait for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use protocol::close::Close;
use serde_json::Value;

use crate::auth::AuthMethod;
use crate::connect::Role;
use crate::session::ConnectionId;

/// One thing that happened on one connection.
#[derive(Debug, Clone)]
pub struct Record {
    /// The connection it happened on.
    pub connection: ConnectionId,
    /// What happened.
    pub what: Recorded,
}

/// What can happen on a connection.
#[derive(Debug, Clone)]
pub enum Recorded {
    /// The WebSocket upgrade was accepted.
    Upgraded {
        /// The request target.
        path: String,
        /// All request headers, names in lower case.
        headers: Vec<(String, String)>,
    },
    /// The peer sent a request frame.
    Request {
        /// The frame's id.
        id: String,
        /// The frame's method.
        method: String,
        /// The frame's params, null when absent.
        params: Arc<Value>,
    },
    /// The peer sent something that is no request frame.
    Unreadable(String),
    /// The connect request was accepted.
    Admitted {
        /// As what the peer connected.
        role: Role,
        /// The peer's device, if it has one.
        device_id: Option<String>,
        /// Which credential let it in.
        method: AuthMethod,
    },
    /// The connect request was refused with this error.
    Refused(protocol::frame::GatewayError),
    /// The peer answered a WebSocket ping.
    Pong,
    /// The gateway sent a close frame.
    CloseSent(Close),
    /// The peer sent a close frame.
    CloseReceived(Close),
    /// The connection is over, with or without close frames.
    Ended,
}

/// A connected node as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// The node's id, which is its device's id.
    pub node_id: String,
    /// The connection that invokes go to.
    pub connection: ConnectionId,
    /// What the node calls itself.
    pub display_name: Option<String>,
    /// Commands that may be invoked.
    pub commands: Vec<String>,
    /// Commands it declared, as far as its platform may have them.
    pub declared_commands: Vec<String>,
}

/// Everything a test may wait for, as it is at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    limit: usize,
    records: VecDeque<Record>,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) pending_devices: Vec<String>,
    pub(crate) pending_surfaces: Vec<String>,
    pub(crate) open_connections: usize,
    pub(crate) invokes_in_flight: usize,
    pub(crate) tcp_connections: usize,
}

impl Snapshot {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub(crate) fn push(&mut self, connection: ConnectionId, what: Recorded) {
        if self.limit == 0 {
            return;
        }
        if self.records.len() == self.limit {
            self.records.pop_front();
        }
        self.records.push_back(Record { connection, what });
    }

    /// Everything recorded, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter()
    }

    /// Params of every request with this method, oldest first.
    pub fn requests<'a>(
        &'a self,
        method: &'a str,
    ) -> impl DoubleEndedIterator<Item = (ConnectionId, &'a Value)> {
        self.records
            .iter()
            .filter_map(move |record| match &record.what {
                Recorded::Request {
                    method: recorded,
                    params,
                    ..
                } if recorded == method => Some((record.connection, params.as_ref())),
                _ => None,
            })
    }

    /// Params of every connect request, oldest first.
    pub fn connects(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.requests("connect").map(|(_, params)| params)
    }

    /// Payloads of every `node.event` with this name, oldest first.
    pub fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Value> + 'a {
        self.requests("node.event")
            .map(|(_, params)| params)
            .filter(move |params| params.get("event").and_then(Value::as_str) == Some(name))
            .map(event_payload)
    }

    /// Params of every `node.invoke.result`, oldest first.
    pub fn results(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.requests("node.invoke.result")
            .map(|(_, params)| params)
    }

    /// How often the peers of a role were admitted.
    #[must_use]
    pub fn admissions(&self, as_role: Role) -> usize {
        let admitted = |record: &&Record| matches!(record.what, Recorded::Admitted { role, .. } if role == as_role);
        self.records.iter().filter(admitted).count()
    }

    /// Errors of every refused connect request, oldest first.
    pub fn refusals(&self) -> impl DoubleEndedIterator<Item = &protocol::frame::GatewayError> {
        self.records.iter().filter_map(|record| match &record.what {
            Recorded::Refused(error) => Some(error),
            _ => None,
        })
    }

    /// Nodes that are connected now.
    #[must_use]
    pub fn nodes(&self) -> &[NodeView] {
        &self.nodes
    }

    /// Request ids of devices that wait for an operator.
    #[must_use]
    pub fn pending_devices(&self) -> &[String] {
        &self.pending_devices
    }

    /// Request ids of node surfaces that wait for an operator.
    #[must_use]
    pub fn pending_surfaces(&self) -> &[String] {
        &self.pending_surfaces
    }

    /// WebSocket connections that are open now, admitted or not.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.open_connections
    }

    /// TCP connections accepted so far, whatever became of them.
    #[must_use]
    pub fn tcp_connections(&self) -> usize {
        self.tcp_connections
    }

    /// Invokes that no node has answered yet.
    #[must_use]
    pub fn invokes_in_flight(&self) -> usize {
        self.invokes_in_flight
    }

    /// What a failed wait prints: enough to see where things stood, no secrets.
    pub(crate) fn summary(&self) -> String {
        let recent: Vec<String> = self
            .records
            .iter()
            .rev()
            .take(12)
            .rev()
            .map(describe)
            .collect();
        format!(
            "{} nodes, {} pending devices, {} pending surfaces, {} open connections; last: {}",
            self.nodes.len(),
            self.pending_devices.len(),
            self.pending_surfaces.len(),
            self.open_connections,
            recent.join(", "),
        )
    }
}

fn describe(record: &Record) -> String {
    let what = match &record.what {
        Recorded::Upgraded { path, .. } => format!("upgraded {path}"),
        Recorded::Request { method, .. } => format!("requested {method}"),
        Recorded::Unreadable(_) => "sent no frame".to_owned(),
        Recorded::Admitted { role, method, .. } => {
            format!("admitted as {} by {}", role.name(), method.name())
        }
        Recorded::Refused(error) => format!("refused: {}", error.message),
        Recorded::Pong => "pong".to_owned(),
        Recorded::CloseSent(close) => format!("close sent {close}"),
        Recorded::CloseReceived(close) => format!("close received {close}"),
        Recorded::Ended => "ended".to_owned(),
    };
    format!("#{} {what}", record.connection)
}

fn event_payload(params: &Value) -> Value {
    params
        .get("payloadJSON")
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .or_else(|| params.get("payload").cloned())
        .unwrap_or(Value::Null)
}

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("nothing matched within {after:?}: {summary}")]
    Deadline {
        /// How long was waited.
        after: Duration,
        /// Where things stood.
        summary: String,
    },
    /// The gateway has stopped.
    #[error("the gateway has stopped")]
    Stopped,
}
