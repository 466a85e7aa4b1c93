//! Invokes as the node receives them, past everything that a gateway would check or rebuild.

use gateway::{ConnectionId, GatewayHandle, Injection, NodeView, Record, Recorded};
use serde_json::{Value, json};
use uuid::Uuid;

use super::DEADLINE;

/// What a node said to one invoke.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Params of its `node.invoke.result`.
    pub(crate) result: Value,
}

impl Outcome {
    pub(crate) fn is_ok(&self) -> bool {
        self.result.get("ok") == Some(&Value::Bool(true))
    }

    /// The payload of a success.
    pub(crate) fn payload(&self) -> Value {
        assert!(self.is_ok(), "the node refused: {}", self.result);
        let text = self.result.get("payloadJSON").and_then(Value::as_str);
        serde_json::from_str(text.expect("a payload is JSON in a string")).unwrap()
    }

    /// Code and message of a failure.
    pub(crate) fn error(&self) -> (&str, &str) {
        let member = |name: &str| {
            let error = self.result.get("error").and_then(|error| error.get(name));
            error.and_then(Value::as_str).unwrap_or("")
        };
        (member("code"), member("message"))
    }
}

/// Params of an invoke as they travel.
pub(crate) fn params(params: &Value) -> Value {
    Value::String(params.to_string())
}

/// Sends an invoke with this `paramsJSON` and returns its id.
pub(crate) async fn send(
    gateway: &GatewayHandle,
    node: &NodeView,
    command: &str,
    params_json: Value,
) -> String {
    let id = Uuid::new_v4().to_string();
    send_as(gateway, node, &id, command, params_json).await;
    id
}

/// Sends an invoke with an id of the test's choice.
pub(crate) async fn send_as(
    gateway: &GatewayHandle,
    node: &NodeView,
    id: &str,
    command: &str,
    params_json: Value,
) {
    let request = json!({
        "id": id,
        "nodeId": node.node_id,
        "command": command,
        "paramsJSON": params_json,
        "timeoutMs": 30_000,
        "idempotencyKey": Uuid::new_v4().to_string(),
    });
    let injection = Injection::Event("node.invoke.request".to_owned(), request);
    assert!(
        gateway.inject(node.connection, injection).await.unwrap(),
        "the node is connected"
    );
}

/// Waits for the answer to an invoke.
pub(crate) async fn outcome(gateway: &GatewayHandle, id: &str) -> Outcome {
    let wanted = id.to_owned();
    gateway
        .wait_for(DEADLINE, move |snapshot| {
            let result = snapshot
                .results()
                .rev()
                .find(|result| result.get("id").and_then(Value::as_str) == Some(&wanted))?;
            Some(Outcome {
                result: result.clone(),
            })
        })
        .await
        .unwrap()
}

/// Sends an invoke and waits for its answer.
pub(crate) async fn call(
    gateway: &GatewayHandle,
    node: &NodeView,
    command: &str,
    arguments: &Value,
) -> Outcome {
    let id = send(gateway, node, command, params(arguments)).await;
    outcome(gateway, &id).await
}

/// How often an invoke was answered.
pub(crate) async fn answers_to(gateway: &GatewayHandle, id: &str) -> usize {
    let wanted = id.to_owned();
    let count = gateway.inspect(move |snapshot| {
        let is_answer =
            |result: &&Value| result.get("id").and_then(Value::as_str) == Some(wanted.as_str());
        snapshot.results().filter(is_answer).count()
    });
    count.await.unwrap()
}

/// Tells the node to give an invoke up.
pub(crate) async fn cancel(gateway: &GatewayHandle, node: &NodeView, id: &str) {
    let cancel = json!({ "invokeId": id, "nodeId": node.node_id });
    let injection = Injection::Event("node.invoke.cancel".to_owned(), cancel);
    assert!(
        gateway.inject(node.connection, injection).await.unwrap(),
        "the node is connected"
    );
}

/// The name and payload of an exec event, if the record is one of `connection`'s.
pub(crate) fn exec_event(record: &Record, connection: ConnectionId) -> Option<Value> {
    let Recorded::Request { method, params, .. } = &record.what else {
        return None;
    };
    let name = params.get("event").and_then(Value::as_str)?;
    if record.connection != connection || method != "node.event" || !name.starts_with("exec.") {
        return None;
    }
    let payload: Value =
        serde_json::from_str(params.get("payloadJSON").and_then(Value::as_str)?).unwrap();
    Some(json!({ "event": name, "payload": payload }))
}
