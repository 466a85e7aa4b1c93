//! What an operator does with nodes, on real gateways and on the loopback gateway alike.

use gateway::operator::{OperatorEvent, OperatorOptions};
use gateway::{OperatorAuth, OperatorError};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::waiting::{PATIENCE, eventually};

/// An operator with every scope.
pub(crate) struct Operator(gateway::Operator);

impl Operator {
    /// Connects with the shared token.
    pub(crate) async fn connect(url: &str, token: &str) -> Result<Self, OperatorError> {
        Self::connect_with(url, OperatorAuth::Token(SecretString::from(token))).await
    }

    /// Connects with what the gateway asks for.
    pub(crate) async fn connect_with(url: &str, auth: OperatorAuth) -> Result<Self, OperatorError> {
        // With this capability a gateway asks here whether a run may go on.
        let options = OperatorOptions {
            caps: vec!["approvals".to_owned()],
            ..Default::default()
        };
        gateway::Operator::connect_with(url, auth, options)
            .await
            .map(Self)
    }

    /// Calls a method.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, OperatorError> {
        self.0.call(method, params).await
    }

    /// Every event from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<OperatorEvent> {
        self.0.events()
    }

    /// The one entry of `method`'s answer under `list` whose display name is `name`.
    async fn find(&self, method: &str, list: &str, name: &str) -> Result<Value, Value> {
        // A 2026.5.20 gateway cannot answer while it writes one of its files.
        let unavailable = |error: OperatorError| Value::String(error.to_string());
        let answer = self.call(method, json!({})).await.map_err(unavailable)?;
        let entries = answer[list].as_array().unwrap();
        let of_name: Vec<_> = entries
            .iter()
            .filter(|entry| entry["displayName"] == name)
            .collect();
        match of_name.as_slice() {
            [only] => Ok((*only).clone()),
            _ => Err(answer),
        }
    }

    /// The node as the gateway lists it, once it is connected.
    pub(crate) async fn connected_node(&self, name: &str) -> Value {
        eventually("the node is connected", PATIENCE, async || {
            let node = self.find("node.list", "nodes", name).await?;
            if node["connected"] == true {
                Ok(node)
            } else {
                Err(node)
            }
        })
        .await
    }

    /// The device as the gateway lists it now, if it is paired.
    pub(crate) async fn paired_device(&self, name: &str) -> Option<Value> {
        self.find("device.pair.list", "paired", name).await.ok()
    }

    /// The device's request for pairing, if it waits.
    pub(crate) async fn pending_device(&self, name: &str) -> Option<Value> {
        self.find("device.pair.list", "pending", name).await.ok()
    }

    /// Waits for the device's request and approves it.
    pub(crate) async fn approve_device(&self, name: &str) -> String {
        self.approve("device", name).await
    }

    /// Waits for the node's request for its commands and approves it.
    pub(crate) async fn approve_surface(&self, name: &str) -> String {
        self.approve("node", name).await
    }

    async fn approve(&self, gate: &str, name: &str) -> String {
        let list = format!("{gate}.pair.list");
        let pending = eventually("the request is there", PATIENCE, async || {
            self.find(&list, "pending", name).await
        })
        .await;
        let request_id = pending["requestId"].as_str().unwrap().to_owned();
        let approve = format!("{gate}.pair.approve");
        self.call(&approve, json!({ "requestId": request_id }))
            .await
            .unwrap();
        request_id
    }

    /// Sees a new node through both gates, of which the first is open on loopback, and returns its
    /// id on the gateway.
    pub(crate) async fn admit(&self, name: &str) -> String {
        let node = self.connected_node(name).await;
        self.approve_surface(name).await;
        node["nodeId"].as_str().unwrap().to_owned()
    }

    /// Calls a method that asks a node. While a gateway writes down that some node was paired it
    /// cannot reach any, which it says before it has sent anything.
    pub(crate) async fn ask_node(
        &self,
        method: &str,
        params: Value,
    ) -> Result<Value, OperatorError> {
        eventually(
            "the gateway reaches its nodes",
            PATIENCE,
            async || match self.call(method, params.clone()).await {
                Err(error) if is_passing(&error) => Err(error),
                answer => Ok(answer),
            },
        )
        .await
    }

    /// Lets a node do something and returns the payload of its answer.
    pub(crate) async fn invoke(
        &self,
        node_id: &str,
        command: &str,
        params: Value,
    ) -> Result<Value, OperatorError> {
        let invoke = json!({
            "nodeId": node_id,
            "command": command,
            "params": params,
            "idempotencyKey": unique("invoke"),
        });
        let mut answer = self.ask_node("node.invoke", invoke).await?;
        Ok(answer["payload"].take())
    }

    /// The node's approvals document with its path and hash.
    pub(crate) async fn approvals(&self, node_id: &str) -> Value {
        let get = json!({ "nodeId": node_id });
        self.ask_node("exec.approvals.node.get", get).await.unwrap()
    }

    /// Replaces the node's approvals document.
    pub(crate) async fn set_approvals(
        &self,
        node_id: &str,
        file: Value,
        base_hash: &Value,
    ) -> Result<Value, OperatorError> {
        let set = json!({ "nodeId": node_id, "file": file, "baseHash": base_hash });
        self.ask_node("exec.approvals.node.set", set).await
    }
}

/// Whether it is the gateway's own trouble, and nothing has reached a node.
fn is_passing(error: &OperatorError) -> bool {
    let details = &error.details;
    error.code == "UNAVAILABLE" && (details.is_null() || details["nodeCommandDispatched"] == false)
}

/// A name that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
