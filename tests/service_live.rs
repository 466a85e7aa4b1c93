//! The node as a real systemd sees it while it runs: its journal, with fields, and its live status.

#![cfg(test)]

mod common;

use common::sandbox::Sandbox;
use common::{CONNECTED, DEADLINE, gateway, invoke};
use gateway::DEFAULT_TOKEN;
use serde_json::{Value, json};

/// The text of a command that nobody should find in a log.
const SECRET: &str = "hunter2-in-an-argument";

/// Every record of the node's unit in the journal.
async fn records(machine: &Sandbox) -> Vec<Value> {
    let journal = machine
        .shell("journalctl --user -u openclaw-node -o json --no-pager")
        .await;
    journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The first record whose message begins so, once there is one.
async fn record(machine: &Sandbox, message: &str) -> Value {
    machine
        .until_shell(&format!(
            "journalctl --user -u openclaw-node -o cat --no-pager | grep '^{message}'"
        ))
        .await;
    let records = records(machine).await;
    let found = records.iter().find(|record| {
        record["MESSAGE"]
            .as_str()
            .is_some_and(|text| text.starts_with(message))
    });
    found
        .unwrap_or_else(|| panic!("{message} is not in {records:?}"))
        .clone()
}

#[tokio::test]
async fn the_journal_has_fields_to_search_by_and_status_the_live_node() {
    let Some(machine) = Sandbox::boot().await else {
        return;
    };
    let gateway = gateway().await;
    let config = json!({ "tools": { "exec": { "security": "full", "ask": "off" } } });
    machine
        .shell(&format!(
            "mkdir -p -m 700 .openclaw; echo '{config}' > .openclaw/openclaw.json"
        ))
        .await;
    let token = format!("OPENCLAW_GATEWAY_TOKEN={DEFAULT_TOKEN}");
    let port = gateway.port().to_string();
    machine
        .node_with(&[&token], &["install", "--port", &port])
        .await
        .expect_success();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let run = json!({ "command": ["/bin/echo", SECRET] });
    let id = invoke::send(&gateway, &view, "system.run", invoke::params(&run)).await;
    invoke::outcome(&gateway, &id).await.payload();

    let connected = record(&machine, CONNECTED).await;
    assert_eq!(
        connected["MESSAGE"],
        format!("{CONNECTED}ws://127.0.0.1:{port}"),
        "upstream's line, word for word"
    );
    assert_eq!(connected["PRIORITY"], "6");
    assert_eq!(connected["SYSLOG_IDENTIFIER"], "openclaw-node");
    assert_eq!(connected["OPENCLAW_UNIT"], "openclaw-node");
    let decided = record(&machine, "run decided").await;
    assert_eq!(decided["OPENCLAW_DECISION"], "allow");
    assert_eq!(decided["OPENCLAW_COMMAND_HASH"].as_str().unwrap().len(), 16);
    let ended = record(&machine, "run ended").await;
    assert_eq!(ended["OPENCLAW_RUN_ID"], decided["OPENCLAW_RUN_ID"]);
    assert_eq!(
        ended["OPENCLAW_COMMAND_HASH"],
        decided["OPENCLAW_COMMAND_HASH"]
    );
    let all = records(&machine).await;
    assert!(!format!("{all:?}").contains(SECRET), "{all:?}");

    let live = machine.node(&["status", "--json"]).await.json();
    assert_eq!(live["node"]["generation"], 1, "{live}");
    assert_eq!(live["node"]["credentialSource"], "env");
    let pid = machine.property("MainPID").await;
    assert_eq!(live["node"]["pid"].to_string(), pid);
    let lines = machine.node(&["status"]).await.stdout;
    assert!(lines.contains("Commands: 0 running, 0 queued"), "{lines}");

    machine.node(&["stop"]).await.expect_success();
    let down = machine.node(&["status", "--json"]).await.json();
    assert_eq!(down["node"]["state"], "stopped", "{down}");
    assert_eq!(down["node"]["lastExit"]["reason"], "stopped by SIGTERM");
    let lines = machine.node(&["status"]).await.stdout;
    assert!(
        lines.contains("Last exit: code 143, stopped by SIGTERM"),
        "{lines}"
    );
}
