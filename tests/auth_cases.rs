//! Which place supplies each credential, case by case, as the real binary explains it: the cases
//! were observed on upstream's node hosts (config §4.2).
//!
//! `AUTH_CASES=remote cargo test --test auth_cases` runs only the cases whose id contains that.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::home::Home;
use protocol::connect::ROLE;
use protocol::identity::DeviceIdentity;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use state::{Database, DeviceTokenKey, NodeProfile, StoredTokens};

const CORPUS: &str = include_str!("cases/auth.jsonl");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    env: BTreeMap<String, String>,
    config: Value,
    #[serde(default)]
    files: BTreeMap<String, File>,
    saved_endpoint: Option<Endpoint>,
    #[serde(default)]
    planned_candidates: Vec<Endpoint>,
    #[serde(default)]
    device_token_present: bool,
    #[serde(default)]
    env_only_flag: bool,
    expect_2026_9_6: Expected,
    #[serde(rename = "expect_2026_5_20")]
    _expect_2026_5_20: Option<Value>,
    #[serde(rename = "differs")]
    _differs: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    contents: String,
    mode: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
    context_path: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Expected {
    Refused {
        error: String,
        path: String,
        message: String,
    },
    Given {
        token: Option<String>,
        password: Option<String>,
    },
}

/// The device token of cases that have one.
const DEVICE_TOKEN: &str = "device-token-of-the-saved-endpoint";

/// Saves what an earlier run would have: the endpoint, and the token that it issued.
fn remember(home: &Home, saved: &Endpoint, has_device_token: bool) {
    let mut database = Database::open(&home.state_dir()).unwrap();
    let endpoint = state::SavedEndpoint {
        host: saved.host.clone(),
        port: saved.port,
        tls: saved.tls,
        tls_fingerprint: None,
        context_path: saved.context_path.clone(),
    };
    let profile = NodeProfile {
        node_id: "node".to_owned(),
        display_name: "node".to_owned(),
        commands: None,
        endpoint: Some(endpoint.clone()),
    };
    database
        .save_node_profile(&profile, StoredTokens::Keep, 1)
        .unwrap();
    let identity = DeviceIdentity::generate().unwrap();
    let identity = database.identity_or_insert(&identity, 1).unwrap().identity;
    if has_device_token {
        let scheme = if saved.tls { "wss" } else { "ws" };
        let path = saved.context_path.as_deref().unwrap_or("");
        let host = saved.host.to_lowercase();
        let scope = format!(
            "{scheme}://{host}:{}{}",
            saved.port,
            path.trim_end_matches('/')
        );
        let key = DeviceTokenKey {
            device_id: identity.device_id().as_str(),
            role: ROLE,
            gateway_scope: &scope,
        };
        let token = SecretString::from(DEVICE_TOKEN);
        database.keep_pairing(key, &token, &endpoint, 1).unwrap();
    }
}

/// What the binary explains, and its exit code.
async fn explained(case: &Case) -> (Value, i32) {
    let home = Home::new();
    let dir = home.folder("case");
    for (name, file) in &case.files {
        let path = dir.join(name);
        fs::write(&path, &file.contents).unwrap();
        let mode = u32::from_str_radix(&file.mode, 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let config = case
        .config
        .to_string()
        .replace("@DIR@", dir.to_str().unwrap());
    home.configure(&serde_json::from_str(&config).unwrap());
    if let Some(saved) = &case.saved_endpoint {
        remember(&home, saved, case.device_token_present);
    }
    let mut launch = home.program(["auth", "explain", "--json", "--reveal"]);
    if let Some(planned) = case.planned_candidates.first() {
        assert!(
            case.planned_candidates.iter().all(|other| other == planned),
            "{}: one endpoint at a time",
            case.id
        );
        let tls = if planned.tls { "--tls" } else { "--no-tls" };
        let path = planned.context_path.as_deref().unwrap_or("");
        launch = launch
            .arg("--host")
            .arg(&planned.host)
            .arg("--port")
            .arg(planned.port.to_string())
            .arg(tls)
            .arg("--context-path")
            .arg(path);
    }
    if case.env_only_flag {
        launch = launch.arg("--auth-from-env");
    }
    for (name, value) in &case.env {
        launch = launch.env(name, value);
    }
    let output = launch.output().await;
    let text = String::from_utf8(output.stdout).unwrap();
    let explained = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!(
            "{}: {text} {}",
            case.id,
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (explained, output.status.code().unwrap())
}

fn outcome(explained: &Value) -> Expected {
    let text = |pointer: &str| {
        let value = explained.pointer(pointer)?;
        value.as_str().map(str::to_owned)
    };
    match &explained["error"] {
        Value::Null => Expected::Given {
            token: text("/token/value"),
            password: text("/password/value"),
        },
        _ => Expected::Refused {
            error: text("/error/code").unwrap_or_default(),
            path: text("/error/path").unwrap_or_default(),
            message: text("/error/message").unwrap_or_default(),
        },
    }
}

#[tokio::test]
async fn every_case_is_decided_as_upstream_decides_it() {
    let only = std::env::var("AUTH_CASES").unwrap_or_default();
    let mut failures = Vec::new();
    let mut count = 0;
    for line in CORPUS.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if !case.id.contains(&only) {
            continue;
        }
        count += 1;
        let (explained, code) = explained(&case).await;
        let outcome = outcome(&explained);
        let is_refused = matches!(outcome, Expected::Refused { .. });
        if outcome != case.expect_2026_9_6 || code != i32::from(is_refused) {
            failures.push(format!("{}: exit {code}, {explained:#}", case.id));
        }
        let is_present = &explained["deviceToken"]["present"];
        let saved_is_planned = case.expect_2026_9_6
            == Expected::Given {
                token: case.env.get("OPENCLAW_GATEWAY_TOKEN").cloned(),
                password: case.env.get("OPENCLAW_GATEWAY_PASSWORD").cloned(),
            };
        if case.saved_endpoint.is_some() && *is_present != json!(saved_is_planned) {
            failures.push(format!("{}: {explained:#}", case.id));
        }
    }
    assert!(count > 0, "no case has {only:?} in its id");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
