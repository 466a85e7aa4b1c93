//! What a node may ask of its gateway (wire protocol §2, §11).

use actix::{AsyncContext as _, Context};
use protocol::frame::GatewayError;
use serde_json::{Value, json};

use crate::clock::now_ms;
use crate::connect::Role;
use crate::error::{invalid_request, pairing_changed, unavailable};
use crate::hub::{Caller, Hub};
use crate::invoke::{EVENT_SHAPE, NodeAnswer, RESULT_SHAPE};
use crate::options::Release;
use crate::schema::validate;
use crate::session::ConnectionId;

/// What stands between a node and its publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A newer connection of the same node has taken over.
    Superseded,
    /// No operator has approved anything of this node yet.
    Unapproved,
    Good,
}

/// Whether params of `node.runnerInventory.update` are what the gateway accepts: no feature and
/// nothing else, or the one current feature with the worker host's state.
fn is_runner_inventory(params: &Value) -> bool {
    let members = params.as_object().map_or(0, serde_json::Map::len);
    match params
        .get("protocolFeatures")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        Some([]) => members == 1,
        Some([feature]) => {
            feature == "node-worker-supervisor-v6"
                && members == 2
                && params
                    .pointer("/workerHost/enabled")
                    .is_some_and(Value::is_boolean)
        }
        Some(_) | None => false,
    }
}

impl Hub {
    pub(crate) fn node_request(
        &mut self,
        connection: ConnectionId,
        caller: Caller,
        method: &str,
        params: &Value,
        context: &mut Context<Self>,
    ) {
        let Some(node_id) = self
            .connections
            .get(&connection)
            .and_then(|connection| connection.client.as_ref()?.node.as_ref())
            .map(|node| node.metadata.node_id.clone())
        else {
            return;
        };
        let september = self.release() == Release::September;
        let result = match method {
            "node.invoke.result" => self.take_result(connection, &node_id, params, context),
            "node.event" => self.take_event(connection, &node_id, params),
            "skills.bins" => Ok(json!({ "bins": self.options.skill_bins })),
            "health" => Ok(json!({ "ok": true, "ts": now_ms() })),
            "node.pending.pull" => Ok(json!({ "nodeId": node_id, "actions": [] })),
            "node.pending.drain" => {
                Ok(json!({ "nodeId": node_id, "revision": 0, "items": [], "hasMore": false }))
            }
            "node.pending.ack" => Ok(json!({ "nodeId": node_id, "ok": true })),
            "node.pluginSurface.refresh" => Err(unavailable(
                "canvas plugin surface unavailable",
                Value::Null,
            )),
            "node.invoke.progress" if september => Ok(json!({ "ok": true, "ignored": true })),
            "node.skills.update" if september => {
                Ok(json!({ "nodeId": node_id, "skills": params.get("skills") }))
            }
            "node.pluginTools.update" if september => {
                Ok(json!({ "nodeId": node_id, "tools": params.get("tools") }))
            }
            "node.runnerInventory.update" if september => {
                self.take_inventory(connection, &node_id, params)
            }
            _ => {
                self.refuse_role(connection, caller);
                return;
            }
        };
        self.accept_role(connection);
        self.answer(caller, result);
    }

    fn standing(&self, connection: ConnectionId, node_id: &str) -> Standing {
        match self.node(node_id) {
            Some((current, node)) if current == connection => {
                if node.approved {
                    Standing::Good
                } else {
                    Standing::Unapproved
                }
            }
            _ => Standing::Superseded,
        }
    }

    fn take_inventory(
        &self,
        connection: ConnectionId,
        node_id: &str,
        params: &Value,
    ) -> Result<Value, GatewayError> {
        if !is_runner_inventory(params) {
            return Err(invalid_request("invalid node runner inventory"));
        }
        match (
            self.standing(connection, node_id),
            self.surfaces.pending_of(node_id),
        ) {
            (Standing::Superseded, _) => Err(invalid_request("unknown nodeId")),
            (Standing::Unapproved, Some(pending)) => Err(unavailable(
                format!(
                    "node capability surface is awaiting operator approval; run `openclaw nodes approve {}` (see `openclaw nodes pending`), then this node retries automatically",
                    pending.request_id
                ),
                Value::Null,
            )),
            (Standing::Unapproved | Standing::Good, _) => Ok(json!({ "nodeId": node_id })),
        }
    }

    fn take_result(
        &mut self,
        connection: ConnectionId,
        node_id: &str,
        params: &Value,
        context: &mut Context<Self>,
    ) -> Result<Value, GatewayError> {
        validate(self.release(), RESULT_SHAPE, params)
            .map_err(|why| invalid_request(format!("invalid node.invoke.result params: {why}")))?;
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or("");
        if text("nodeId") != node_id {
            return Err(invalid_request("nodeId mismatch"));
        }
        let superseded = self.standing(connection, node_id) == Standing::Superseded;
        if superseded && self.release() == Release::September {
            return Err(pairing_changed("before request dispatch"));
        }
        let taken = (!superseded)
            .then(|| self.invokes.take(text("id"), connection))
            .flatten();
        let Some(invoke) = taken else {
            return Ok(json!({ "ok": true, "ignored": true }));
        };
        context.cancel_future(invoke.deadline);
        let answer = NodeAnswer::read(params);
        if let (Err(_), Some(run_id)) = (&answer.result, &invoke.run_id) {
            self.invokes.forget_run(connection, run_id);
        }
        self.answer_invoke(invoke, answer);
        Ok(json!({ "ok": true }))
    }

    fn take_event(
        &mut self,
        connection: ConnectionId,
        node_id: &str,
        params: &Value,
    ) -> Result<Value, GatewayError> {
        validate(self.release(), EVENT_SHAPE, params)
            .map_err(|why| invalid_request(format!("invalid node.event params: {why}")))?;
        if self.release() == Release::September {
            match self.standing(connection, node_id) {
                Standing::Superseded => return Err(pairing_changed("before request dispatch")),
                Standing::Unapproved => {
                    return Err(pairing_changed("while invocation was active"));
                }
                Standing::Good => {}
            }
        }
        let event = params.get("event").and_then(Value::as_str).unwrap_or("");
        let payload = match params.get("payloadJSON").and_then(Value::as_str) {
            Some(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            None => params.get("payload").cloned().unwrap_or(Value::Null),
        };
        let told = |handled: bool, reason: &str| json!({ "ok": true, "event": event, "handled": handled, "reason": reason });
        let plain = json!({ "ok": true });
        Ok(match (event, self.release()) {
            ("exec.started" | "exec.finished" | "exec.denied", _) if !payload.is_object() => plain,
            ("exec.started" | "exec.finished" | "exec.denied", _) => {
                if self.exec_event_matches(connection, node_id, event, &payload) {
                    plain
                } else {
                    told(false, "unmatched_exec_event")
                }
            }
            (_, Release::May) => plain,
            ("node.host.stats", Release::September) => {
                let stats = json!({ "nodeId": node_id, "hostStats": payload });
                self.broadcast(Some(Role::Operator), "node.hostStats", &stats);
                told(true, "updated")
            }
            (_, Release::September) => told(false, "unsupported_event"),
        })
    }

    fn exec_event_matches(
        &mut self,
        connection: ConnectionId,
        node_id: &str,
        event: &str,
        payload: &Value,
    ) -> bool {
        let text = |name: &str| {
            payload
                .get(name)
                .and_then(Value::as_str)
                .map(str::trim)
                .filter(|text| !text.is_empty())
        };
        let Some(run_id) = text("runId") else {
            return false;
        };
        let session_key =
            text("sessionKey").map_or_else(|| format!("node-{node_id}"), str::to_owned);
        let terminal = event != "exec.started";
        self.invokes
            .event_matches(connection, run_id, &session_key, terminal)
    }
}
