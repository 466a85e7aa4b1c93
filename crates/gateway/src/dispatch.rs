//! Invokes on their way to a node and back: what an operator asks, what the node gets, what the
//! operator hears (wire protocol §11.3, §11.4, §11.7).

use std::time::Duration;

use actix::{AsyncContext as _, Context};
use protocol::frame::GatewayError;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::clock::now_ms;
use crate::error::{invalid_request, pairing_changed, unavailable};
use crate::hub::{Caller, Hub};
use crate::invoke::{AnswerShape, NodeAnswer, NodeFailure, PendingInvoke};
use crate::options::Release;
use crate::schema::{Member, Shape, validate};
use crate::session::ConnectionId;

/// Params of `node.invoke`.
const INVOKE_SHAPE: Shape = Shape::Object(&[
    Member::required("nodeId", Shape::Text(1)),
    Member::required("command", Shape::Text(1)),
    Member::optional("params", Shape::Any),
    Member::optional("timeoutMs", Shape::Integer(0)),
    Member::required("idempotencyKey", Shape::Text(1)),
    Member::since_september("sessionKey", Shape::Text(1)),
]);

/// Params of `exec.approvals.node.get`.
const APPROVALS_GET_SHAPE: Shape = Shape::Object(&[Member::required("nodeId", Shape::Text(1))]);

/// Params of `exec.approvals.node.set`.
const APPROVALS_SET_SHAPE: Shape = Shape::Object(&[
    Member::required("nodeId", Shape::Text(1)),
    Member::required("file", Shape::Map(&Shape::Any)),
    Member::optional("baseHash", Shape::Text(1)),
]);

/// An invoke that goes to the node word for word.
#[derive(Debug, Clone, Default)]
pub struct RawInvoke {
    /// The node, which must be online.
    pub node_id: String,
    /// The command, approved or not.
    pub command: String,
    /// `paramsJSON`, which need not be JSON; absent when `None`.
    pub params_json: Option<String>,
    /// The gateway's limit.
    pub timeout: Option<Duration>,
    /// The idempotency key, absent when `None`.
    pub idempotency_key: Option<String>,
}

/// One invoke, checked and ready to go.
struct Dispatch {
    command: String,
    params_json: Option<String>,
    timeout: Option<Duration>,
    idempotency_key: Option<String>,
    session_key: Option<String>,
    answer: AnswerShape,
}

fn text<'a>(params: &'a Value, name: &str) -> Option<&'a str> {
    params
        .get(name)
        .and_then(Value::as_str)
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn not_connected() -> GatewayError {
    unavailable(
        "node not connected",
        json!({
            "code": "NOT_CONNECTED",
            "nodeError": { "code": "NOT_CONNECTED", "message": "node not connected" },
            "nodeCommandDispatched": false,
        }),
    )
}

impl Hub {
    /// `node.invoke`.
    pub(crate) fn invoke(
        &mut self,
        caller: Caller,
        device: Option<&str>,
        params: &Value,
        context: &mut Context<Self>,
    ) {
        match self.prepare_invoke(device, params) {
            Ok((node_id, dispatch)) => self.dispatch(caller, &node_id, dispatch, context),
            Err(error) => self.answer(caller, Err(error)),
        }
    }

    fn prepare_invoke(
        &mut self,
        device: Option<&str>,
        params: &Value,
    ) -> Result<(String, Dispatch), GatewayError> {
        validate(self.release(), INVOKE_SHAPE, params)
            .map_err(|why| invalid_request(format!("invalid node.invoke params: {why}")))?;
        let (Some(node_id), Some(command)) = (text(params, "nodeId"), text(params, "command"))
        else {
            return Err(invalid_request("nodeId and command required"));
        };
        if matches!(
            command,
            "system.execApprovals.get" | "system.execApprovals.set"
        ) {
            return Err(GatewayError {
                details: json!({ "command": command }),
                ..invalid_request(
                    "node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*",
                )
            });
        }
        self.check_command(node_id, command)?;
        let forwarded = match params.get("params") {
            Some(given) if command == "system.run" => {
                let rebuilt = self.approvals.rebuild(given, node_id, device, now_ms());
                let mut rebuilt = rebuilt.map_err(|error| GatewayError {
                    details: error.details,
                    ..invalid_request(error.message)
                })?;
                if text(given, "runId").is_none() {
                    rebuilt.insert("runId".to_owned(), Uuid::new_v4().to_string().into());
                }
                Some(Value::Object(rebuilt))
            }
            other => other.cloned(),
        };
        let timeout = params
            .get("timeoutMs")
            .and_then(Value::as_u64)
            .map(Duration::from_millis);
        let dispatch = Dispatch {
            command: command.to_owned(),
            params_json: forwarded.as_ref().map(Value::to_string),
            timeout,
            idempotency_key: text(params, "idempotencyKey").map(str::to_owned),
            session_key: text(params, "sessionKey").map(str::to_owned),
            answer: AnswerShape::Envelope,
        };
        Ok((node_id.to_owned(), dispatch))
    }

    /// Whether this command of this node may be invoked now.
    fn check_command(&self, node_id: &str, command: &str) -> Result<(), GatewayError> {
        let september = self.release() == Release::September;
        if september && !self.devices.is_paired(node_id) {
            return Err(pairing_changed("while invocation was active"));
        }
        let Some((_, node)) = self.node(node_id) else {
            return Err(not_connected());
        };
        if september && !node.approved {
            return Err(pairing_changed("while invocation was active"));
        }
        let platform = &node.metadata.platform;
        let admitted = crate::surface::Platform::classify(
            self.release(),
            platform,
            node.metadata.device_family.as_deref(),
        )
        .admits(self.release(), command);
        let (reason, message) = if !admitted {
            (
                "command not allowlisted",
                format!("\"{command}\" is not in the allowlist for platform \"{platform}\""),
            )
        } else if node.effective.commands.is_empty() {
            let hint = if node
                .declared
                .commands
                .iter()
                .any(|declared| declared == command)
            {
                "the node's declared command surface is pending approval; run `openclaw nodes pending`, then `openclaw nodes approve <requestId>`"
            } else {
                "the node did not declare any supported commands"
            };
            ("node did not declare commands", hint.to_owned())
        } else if node
            .effective
            .commands
            .iter()
            .any(|effective| effective == command)
        {
            return Ok(());
        } else {
            (
                "command not declared by node",
                format!("the node (platform: {platform}) does not support \"{command}\""),
            )
        };
        Err(GatewayError {
            details: json!({ "reason": reason, "command": command }),
            ..invalid_request(format!("node command not allowed: {message}"))
        })
    }

    /// `exec.approvals.node.get` and `exec.approvals.node.set`.
    pub(crate) fn node_approvals(
        &mut self,
        caller: Caller,
        method: &str,
        params: &Value,
        context: &mut Context<Self>,
    ) {
        let (shape, command) = if method.ends_with(".set") {
            (APPROVALS_SET_SHAPE, "system.execApprovals.set")
        } else {
            (APPROVALS_GET_SHAPE, "system.execApprovals.get")
        };
        if let Err(why) = validate(self.release(), shape, params) {
            let error = invalid_request(format!("invalid {method} params: {why}"));
            self.answer(caller, Err(error));
            return;
        }
        let node_id = text(params, "nodeId").unwrap_or("").to_owned();
        // The May release withholds the names from the surface, yet passes these calls on (§5.1).
        if self.release() == Release::September
            && let Err(error) = self.check_command(&node_id, command)
        {
            self.answer(caller, Err(error));
            return;
        }
        let mut forwarded = Map::new();
        for name in ["file", "baseHash"] {
            if let Some(value) = params.get(name) {
                forwarded.insert(name.to_owned(), value.clone());
            }
        }
        let dispatch = Dispatch {
            command: command.to_owned(),
            params_json: Some(Value::Object(forwarded).to_string()),
            timeout: None,
            idempotency_key: None,
            session_key: None,
            answer: AnswerShape::Payload,
        };
        self.dispatch(caller, &node_id, dispatch, context);
    }

    /// Sends an invoke as it is, without any of the checks and rewriting of `node.invoke`.
    pub(crate) fn invoke_raw(
        &mut self,
        caller: Caller,
        invoke: RawInvoke,
        context: &mut Context<Self>,
    ) {
        let dispatch = Dispatch {
            command: invoke.command,
            params_json: invoke.params_json,
            timeout: invoke.timeout,
            idempotency_key: invoke.idempotency_key,
            session_key: None,
            answer: AnswerShape::Envelope,
        };
        self.dispatch(caller, &invoke.node_id, dispatch, context);
    }

    fn dispatch(
        &mut self,
        caller: Caller,
        node_id: &str,
        dispatch: Dispatch,
        context: &mut Context<Self>,
    ) {
        let Some((connection, _)) = self.node(node_id) else {
            self.answer(caller, Err(not_connected()));
            return;
        };
        let invoke_id = Uuid::new_v4().to_string();
        let timeout = dispatch.timeout.unwrap_or(self.options.timing.invoke);
        let timeout_ms = match (self.release(), dispatch.timeout) {
            (Release::May, None) => None,
            (Release::May | Release::September, _) => {
                Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
            }
        };
        let run_id = self.authorize_run(connection, &dispatch);
        let expired = invoke_id.clone();
        let deadline = context.run_later(timeout, move |hub, _| hub.expire_invoke(&expired));
        let mut request = json!({
            "id": invoke_id,
            "nodeId": node_id,
            "command": dispatch.command,
        });
        if let Some(request) = request.as_object_mut() {
            if let Some(params) = dispatch.params_json {
                request.insert("paramsJSON".to_owned(), params.into());
            }
            if let Some(timeout_ms) = timeout_ms {
                request.insert("timeoutMs".to_owned(), timeout_ms.into());
            }
            if let Some(key) = dispatch.idempotency_key {
                request.insert("idempotencyKey".to_owned(), key.into());
            }
            if let Some(key) = dispatch.session_key {
                request.insert("sessionKey".to_owned(), key.into());
            }
        }
        let invoke = PendingInvoke {
            caller,
            node_id: node_id.to_owned(),
            connection,
            command: dispatch.command,
            answer: dispatch.answer,
            deadline,
            run_id,
        };
        self.invokes.insert(invoke_id, invoke);
        self.send_event(connection, "node.invoke.request", &request);
    }

    /// Lets the node report exec events about a run that is sent to it now.
    fn authorize_run(&mut self, connection: ConnectionId, dispatch: &Dispatch) -> Option<String> {
        let params = dispatch
            .params_json
            .as_ref()
            .filter(|_| dispatch.command == "system.run")?;
        let params = &serde_json::from_str::<Value>(params).ok()?;
        let run_id = text(params, "runId")?.to_owned();
        let limit = params
            .get("timeoutMs")
            .and_then(Value::as_u64)
            .map(Duration::from_millis);
        let session_key = text(params, "sessionKey").map(str::to_owned);
        self.invokes
            .authorize_run(connection, run_id.clone(), session_key, limit);
        Some(run_id)
    }

    fn expire_invoke(&mut self, invoke_id: &str) {
        let Some(invoke) = self.invokes.take_expired(invoke_id) else {
            return;
        };
        if self.release() == Release::September {
            let cancel = json!({ "invokeId": invoke_id, "nodeId": invoke.node_id });
            self.send_event(invoke.connection, "node.invoke.cancel", &cancel);
        }
        let failure = NodeFailure {
            code: Some("TIMEOUT".to_owned()),
            message: Some("node invoke timed out".to_owned()),
        };
        self.answer_invoke(
            invoke,
            NodeAnswer {
                result: Err(failure),
            },
        );
    }

    /// Tells whoever asked that the node went away.
    pub(crate) fn fail_disconnected(&mut self, invoke: PendingInvoke) {
        let message = Some(format!("node disconnected ({})", invoke.command));
        let code = match self.release() {
            Release::May => None,
            Release::September => Some("DISCONNECTED".to_owned()),
        };
        self.answer_invoke(
            invoke,
            NodeAnswer {
                result: Err(NodeFailure { code, message }),
            },
        );
    }

    /// Takes the invokes of a connection that a newer one of the same node has replaced. The May
    /// release lets them run into their time limits.
    pub(crate) fn supersede_connection(&mut self, connection: ConnectionId) {
        if self.release() == Release::September {
            for invoke in self.invokes.take_all_of(connection) {
                self.fail_disconnected(invoke);
            }
        }
    }

    /// Translates a node's answer for whoever asked.
    pub(crate) fn answer_invoke(&mut self, invoke: PendingInvoke, answer: NodeAnswer) {
        let result = match answer.result {
            Ok(answered) => Ok(match invoke.answer {
                AnswerShape::Payload => answered.payload.unwrap_or(Value::Null),
                AnswerShape::Envelope => {
                    let mut envelope = json!({
                        "ok": true,
                        "nodeId": invoke.node_id,
                        "command": invoke.command,
                    });
                    if let Some(envelope) = envelope.as_object_mut() {
                        if let Some(payload) = answered.payload {
                            envelope.insert("payload".to_owned(), payload);
                        }
                        envelope.insert("payloadJSON".to_owned(), answered.payload_json.into());
                    }
                    envelope
                }
            }),
            Err(failure) => Err(self.node_error(failure)),
        };
        self.answer(invoke.caller, result);
    }

    fn node_error(&self, failure: NodeFailure) -> GatewayError {
        let message = match (&failure.code, &failure.message) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (None, Some(message)) => message.clone(),
            (Some(code), None) => format!("{code}: node invoke failed"),
            (None, None) => "node invoke failed".to_owned(),
        };
        let mut node_error = Map::new();
        for (name, value) in [("code", failure.code), ("message", failure.message)] {
            if let Some(value) = value {
                node_error.insert(name.to_owned(), value.into());
            }
        }
        let details = match self.release() {
            Release::May => json!({ "nodeError": node_error }),
            Release::September => {
                json!({ "nodeError": node_error, "nodeCommandDispatched": true })
            }
        };
        unavailable(message, details)
    }
}
