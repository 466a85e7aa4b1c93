//! Replays the recorded calls in order.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::comparison::Names;
use super::site::Site;

/// One recorded call.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) number: u64,
    pub(crate) label: String,
    pub(crate) command: String,
    params: Value,
    /// What the node's configuration had besides, if it was another one.
    node_config: Option<Value>,
    answer: Value,
}

/// Code, message and details of a refusal.
pub(crate) type Refusal = (String, String, Value);

/// What a call came to, in the shape of a recording.
pub(crate) fn outcome(answered: Result<Value, Refusal>) -> Value {
    match answered {
        Ok(payload) => json!({ "payload": payload }),
        Err((code, message, details)) => json!({
            "invokeError": message, "code": code, "details": details,
        }),
    }
}

/// Every recorded call.
pub(crate) fn recorded() -> Vec<Recorded> {
    let lines = include_str!("recorded.jsonl").lines();
    lines
        .map(|line| {
            let case: Map<String, Value> = serde_json::from_str(line).unwrap();
            let text = |name: &str| case[name].as_str().unwrap().to_owned();
            let answer = ["payload", "invokeError", "code", "details"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), case.get(name)?.clone())))
                .collect();
            Recorded {
                number: case["n"].as_u64().unwrap(),
                label: text("label"),
                command: text("command"),
                params: case["params"].clone(),
                node_config: case.get("nodeConfig").cloned(),
                answer: Value::Object(answer),
            }
        })
        .collect()
}

impl Recorded {
    /// The `node.invoke` that asks a node.
    pub(crate) fn invoke(&self, node_id: &str, params: Value) -> Value {
        json!({
            "nodeId": node_id,
            "command": self.command,
            "params": params,
            "timeoutMs": 120_000,
            "idempotencyKey": uuid::Uuid::new_v4().to_string(),
        })
    }

    /// The node's configuration for this call. An empty one of its own is one without the policy
    /// that all others were recorded with.
    pub(crate) fn config(&self, base: &Value) -> Value {
        let mut config = base.clone();
        match &self.node_config {
            Some(Value::Object(members)) if members.is_empty() => {
                config["browser"]
                    .as_object_mut()
                    .unwrap()
                    .remove("ssrfPolicy");
            }
            Some(more) => merge(&mut config, more),
            None => {}
        }
        config
    }
}

fn merge(config: &mut Value, more: &Value) {
    match (config, more) {
        (Value::Object(config), Value::Object(more)) => {
            for (name, value) in more {
                merge(config.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (config, more) => *config = more.clone(),
    }
}

/// A difference that is meant; docs/browser.md says why.
fn meant() -> BTreeMap<u64, Value> {
    let text = include_str!("differences.json");
    let meant: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    meant
        .into_iter()
        .map(|(number, answer)| (number.parse().unwrap(), answer))
        .collect()
}

/// A replay under way.
pub(crate) struct Replay {
    names: Names,
    meant: BTreeMap<u64, Value>,
    pub(crate) site: Site,
    pub(crate) failures: Vec<String>,
}

impl Replay {
    pub(crate) async fn start(state_dir: &Path, cdp_port: u16) -> Self {
        let site = Site::start().await;
        let mut names = Names::default();
        names.fix("SITE", &site.authority);
        names.fix("<STATE>", &state_dir.display().to_string());
        names.fix("23800", &cdp_port.to_string());
        names.fix("23799", &(cdp_port - 1).to_string());
        Self {
            names,
            meant: meant(),
            site,
            failures: Vec::new(),
        }
    }

    /// Another browser is used from here on.
    pub(crate) fn forget_tabs(&mut self) {
        self.names.forget();
    }

    /// The params of a call in this run.
    pub(crate) fn params(&self, case: &Recorded) -> Value {
        self.names.to_here(&case.params)
    }

    /// Compares what a call came to with what was recorded, or with what is meant instead.
    pub(crate) fn check(&mut self, case: &Recorded, here: &Value) {
        let recorded = match self.meant.get(&case.number) {
            Some(instead) => {
                let mut answer = case.answer.clone();
                for (pointer, value) in instead.as_object().unwrap() {
                    replace(&mut answer, pointer, value);
                }
                answer
            }
            None => case.answer.clone(),
        };
        let mut differences = Vec::new();
        self.names.compare(&recorded, here, "", &mut differences);
        if !differences.is_empty() {
            self.failures.push(format!(
                "c{} {}:\n    {}",
                case.number,
                case.label,
                differences.join("\n    ")
            ));
        }
    }
}

/// Puts a value where the pointer leads; null takes away what is there.
fn replace(answer: &mut Value, pointer: &str, value: &Value) {
    if pointer.is_empty() {
        *answer = value.clone();
        return;
    }
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match answer.pointer_mut(parent) {
        Some(Value::Object(members)) if value.is_null() => {
            members.remove(name);
        }
        Some(Value::Object(members)) => {
            members.insert(name.to_owned(), value.clone());
        }
        Some(Value::Array(items)) => items[name.parse::<usize>().unwrap()] = value.clone(),
        _ => panic!("no {pointer} in {answer}"),
    }
}
