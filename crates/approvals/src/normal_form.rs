//! What becomes of a document that an operator wrote, before it is read strictly
//! (exec and approvals §9, normalisation).
//!
//! What is merely untidy is put right; what has the wrong type altogether stays, and makes the
//! stored document one that cannot be read, which is how upstream treats it.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::command::trim;
use crate::document::{DocumentError, VERSION};
use crate::policy::{Ask, Security};

/// The normal form of `file`; `new_id` names the entries that have no id.
pub(crate) fn of(
    file: &Map<String, Value>,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Value, DocumentError> {
    let mut normal = Map::new();
    normal.insert("version".to_owned(), json!(VERSION));
    let socket = socket(file.get("socket"))?;
    if !socket.is_empty() {
        normal.insert("socket".to_owned(), socket.into());
    }
    let defaults = defaults(file.get("defaults"));
    normal.insert("defaults".to_owned(), defaults.into());
    let agents = agents(file.get("agents"), new_id)?;
    normal.insert("agents".to_owned(), agents.into());
    Ok(Value::Object(normal))
}

fn socket(written: Option<&Value>) -> Result<Map<String, Value>, DocumentError> {
    let mut socket = Map::new();
    let Some(Value::Object(written)) = written else {
        return Ok(socket);
    };
    for (key, at) in [("path", "socket.path"), ("token", "socket.token")] {
        match written.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => {
                if !trim(text).is_empty() {
                    socket.insert(key.to_owned(), trim(text).into());
                }
            }
            Some(_) => return Err(DocumentError::shape(at, "a text")),
        }
    }
    Ok(socket)
}

fn defaults(written: Option<&Value>) -> Map<String, Value> {
    let mut defaults = Map::new();
    if let Some(Value::Object(written)) = written {
        for key in ["security", "ask", "askFallback", "autoAllowSkills"] {
            if let Some(value) = written.get(key) {
                defaults.insert(key.to_owned(), value.clone());
            }
        }
    }
    tidy_fields(&mut defaults);
    defaults
}

fn agents(
    written: Option<&Value>,
    new_id: &mut dyn FnMut() -> String,
) -> Result<Map<String, Value>, DocumentError> {
    let mut agents = match written {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(agents)) => agents.clone(),
        Some(_) => return Err(DocumentError::shape("agents", "an object")),
    };
    for (id, agent) in &mut agents {
        match agent {
            Value::Object(agent) => {
                tidy_fields(agent);
                tidy_allowlist(agent, new_id);
            }
            Value::Null => {
                return Err(DocumentError::shape(format!("agents.{id}"), "an object"));
            }
            _ => {}
        }
    }
    Ok(agents)
}

fn tidy_fields(members: &mut Map<String, Value>) {
    tidy_field::<Security>(members, "security");
    tidy_field::<Ask>(members, "ask");
    tidy_field::<Security>(members, "askFallback");
}

/// Trims a value; one that is then none of those the field knows vanishes.
fn tidy_field<T: FromStr>(members: &mut Map<String, Value>, key: &str) {
    let text = members.get(key).and_then(Value::as_str).map(trim);
    let known = text.filter(|text| T::from_str(text).is_ok());
    match known.map(Value::from) {
        Some(known) => members.insert(key.to_owned(), known),
        None => members.shift_remove(key),
    };
}

fn tidy_allowlist(agent: &mut Map<String, Value>, new_id: &mut dyn FnMut() -> String) {
    const KEY: &str = "allowlist";
    let entries: Option<Vec<Value>> = match agent.get(KEY) {
        Some(Value::Array(written)) => {
            let entries = written.iter().filter_map(|entry| tidy_entry(entry, new_id));
            // A list that held nothing of use vanishes, one that was empty stays.
            Some(entries.collect()).filter(|kept: &Vec<_>| !kept.is_empty() || written.is_empty())
        }
        _ => None,
    };
    match entries {
        Some(entries) => agent.insert(KEY.to_owned(), entries.into()),
        None => agent.shift_remove(KEY),
    };
}

fn tidy_entry(written: &Value, new_id: &mut dyn FnMut() -> String) -> Option<Value> {
    let mut entry = match written {
        Value::String(pattern) => Map::from_iter([("pattern".to_owned(), trim(pattern).into())]),
        Value::Object(entry) => entry.clone(),
        _ => return None,
    };
    let pattern = entry.get("pattern").and_then(Value::as_str)?;
    if trim(pattern).is_empty() {
        return None;
    }
    if !entry.get("id").is_some_and(is_truthy) {
        entry.insert("id".to_owned(), new_id().into());
    }
    if entry.get("commandText").is_some_and(Value::is_string) {
        entry.shift_remove("commandText");
    }
    Some(Value::Object(entry))
}

/// Whether JavaScript takes a value for true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    }
}
