//! Invokes that wait for their node, and the exec events that a node may send about them
//! (wire protocol §11).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::SpawnHandle;
use serde_json::{Value, json};

use crate::hub::Caller;
use crate::schema::{Member, Shape};
use crate::session::ConnectionId;

/// Params of `node.invoke.result` (§11.4).
pub(crate) const RESULT_SHAPE: Shape = Shape::Object(&[
    Member::required("id", Shape::Text(1)),
    Member::required("nodeId", Shape::Text(1)),
    Member::required("ok", Shape::Boolean),
    Member::optional("payload", Shape::Any),
    Member::optional("payloadJSON", Shape::NullableText),
    Member::optional(
        "error",
        Shape::Object(&[
            Member::optional("code", Shape::Text(1)),
            Member::optional("message", Shape::Text(1)),
        ]),
    ),
]);

/// Params of `node.event` (§11.6).
pub(crate) const EVENT_SHAPE: Shape = Shape::Object(&[
    Member::required("event", Shape::Text(1)),
    Member::optional("payload", Shape::Any),
    Member::optional("payloadJSON", Shape::Text(0)),
]);

/// How long exec events of a run with a limit are accepted after that limit (§11.6).
const EVENT_GRACE: Duration = Duration::from_secs(300);

/// What an operator gets to see of an answered invoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerShape {
    /// The envelope of `node.invoke`.
    Envelope,
    /// The bare payload, as `exec.approvals.node.get/set` answer.
    Payload,
}

/// An invoke on its way.
#[derive(Debug)]
pub(crate) struct PendingInvoke {
    pub(crate) caller: Caller,
    pub(crate) node_id: String,
    pub(crate) connection: ConnectionId,
    pub(crate) command: String,
    pub(crate) answer: AnswerShape,
    pub(crate) deadline: SpawnHandle,
    /// The run that the exec events are about, if it is a `system.run`.
    pub(crate) run_id: Option<String>,
}

/// A run that this connection may report events about.
#[derive(Debug)]
struct AuthorizedRun {
    session_key: Option<String>,
    expires: Option<Instant>,
}

/// All invokes on their way and the runs behind them.
#[derive(Debug, Default)]
pub(crate) struct InvokeTable {
    pending: HashMap<String, PendingInvoke>,
    runs: HashMap<(ConnectionId, String), AuthorizedRun>,
}

impl InvokeTable {
    pub(crate) fn insert(&mut self, invoke_id: String, invoke: PendingInvoke) {
        self.pending.insert(invoke_id, invoke);
    }

    /// Takes the invoke that a connection answers, if it is the one that was asked.
    pub(crate) fn take(
        &mut self,
        invoke_id: &str,
        connection: ConnectionId,
    ) -> Option<PendingInvoke> {
        self.pending
            .get(invoke_id)
            .filter(|invoke| invoke.connection == connection)?;
        self.pending.remove(invoke_id)
    }

    pub(crate) fn take_expired(&mut self, invoke_id: &str) -> Option<PendingInvoke> {
        self.pending.remove(invoke_id)
    }

    /// Takes everything that a lost connection can no longer answer.
    pub(crate) fn take_all_of(&mut self, connection: ConnectionId) -> Vec<PendingInvoke> {
        self.runs.retain(|(owner, _), _| *owner != connection);
        self.pending
            .extract_if(|_, invoke| invoke.connection == connection)
            .map(|(_, invoke)| invoke)
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Lets `connection` report exec events about a run. `limit` is the run's own time limit.
    pub(crate) fn authorize_run(
        &mut self,
        connection: ConnectionId,
        run_id: String,
        session_key: Option<String>,
        limit: Option<Duration>,
    ) {
        let now = Instant::now();
        self.runs
            .retain(|_, run| run.expires.is_none_or(|expires| expires > now));
        let expires = limit.map(|limit| now + limit + EVENT_GRACE);
        self.runs.insert(
            (connection, run_id),
            AuthorizedRun {
                session_key,
                expires,
            },
        );
    }

    /// Whether an exec event is about a run of this connection. A terminal one ends the right.
    pub(crate) fn event_matches(
        &mut self,
        connection: ConnectionId,
        run_id: &str,
        session_key: &str,
        terminal: bool,
    ) -> bool {
        let key = (connection, run_id.to_owned());
        let matches = self.runs.get(&key).is_some_and(|run| {
            run.expires.is_none_or(|expires| expires > Instant::now())
                && run
                    .session_key
                    .as_deref()
                    .is_none_or(|known| known == session_key)
        });
        if matches && terminal {
            self.runs.remove(&key);
        }
        matches
    }

    /// Ends the right to report about a run, as a failed result does (§11.6).
    pub(crate) fn forget_run(&mut self, connection: ConnectionId, run_id: &str) {
        self.runs.remove(&(connection, run_id.to_owned()));
    }
}

/// What a node answered, as an operator reads it (§11.4).
#[derive(Debug)]
pub(crate) struct NodeAnswer {
    pub(crate) result: Result<AnsweredPayload, NodeFailure>,
}

/// The payload of a success.
#[derive(Debug)]
pub(crate) struct AnsweredPayload {
    pub(crate) payload: Option<Value>,
    pub(crate) payload_json: Option<String>,
}

/// The error of a failure; either part may be absent.
#[derive(Debug)]
pub(crate) struct NodeFailure {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
}

impl NodeAnswer {
    /// Reads params that [`RESULT_SHAPE`] has accepted.
    pub(crate) fn read(params: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        if params.get("ok") == Some(&Value::Bool(true)) {
            let payload_json = text(params.get("payloadJSON"));
            let payload = match &payload_json {
                None => params.get("payload").cloned(),
                Some(text) => Some(
                    serde_json::from_str(text).unwrap_or_else(|_| json!({ "payloadJSON": text })),
                ),
            };
            return Self {
                result: Ok(AnsweredPayload {
                    payload,
                    payload_json,
                }),
            };
        }
        let error = params.get("error");
        Self {
            result: Err(NodeFailure {
                code: text(error.and_then(|error| error.get("code"))),
                message: text(error.and_then(|error| error.get("message"))),
            }),
        }
    }
}
