//! What every node host answers to every gateway: which, approvals, prepare, run.
//!
//! The same scenario runs with this node on real gateways here, and with upstream's node hosts on
//! the loopback gateway in [`crate::upstream_node`].

use gateway::Release;
use serde_json::{Value, json};

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::Operator;

on_each_release!(every_command_answers_through_the_gateway);

async fn every_command_answers_through_the_gateway(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let _node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;
    let fresh = operator.approvals(&node_id).await;
    assert_eq!(
        fresh["file"]["defaults"],
        json!({ "security": "allowlist", "ask": "on-miss", "askFallback": "deny" })
    );
    command_round(&operator, &node_id, &home).await;
}

/// Uses every command once. The node's policy allows everything afterwards.
pub(crate) async fn command_round(operator: &Operator, node_id: &str, home: &NodeHome) {
    which(operator, node_id).await;
    approvals(operator, node_id).await;
    prepare(operator, node_id, home).await;
    run(operator, node_id, home).await;
}

async fn which(operator: &Operator, node_id: &str) {
    let bins = json!({ "bins": ["true", "surely-no-such-program"] });
    let found = operator
        .invoke(node_id, "system.which", bins)
        .await
        .unwrap();
    assert_eq!(found, json!({ "bins": { "true": "/usr/bin/true" } }));
}

async fn approvals(operator: &Operator, node_id: &str) {
    let before = operator.approvals(node_id).await;
    let policy = json!({
        "version": 1,
        "defaults": { "security": "full", "ask": "off", "askFallback": "deny" },
        "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/true" }] } },
    });
    let set = operator
        .set_approvals(node_id, policy.clone(), &before["hash"])
        .await
        .unwrap();
    assert_eq!(set["exists"], true);
    assert_eq!(set["file"]["defaults"], policy["defaults"]);
    assert_ne!(set["hash"], before["hash"]);

    let after = operator.approvals(node_id).await;
    assert_eq!(after["hash"], set["hash"]);
    let entry = &after["file"]["agents"]["main"]["allowlist"][0];
    assert_eq!(entry["pattern"], "/usr/bin/true");
    assert!(entry["id"].is_string(), "{entry}");

    let stale = operator
        .set_approvals(node_id, policy, &before["hash"])
        .await
        .unwrap_err();
    assert!(
        stale
            .message
            .contains("exec approvals changed; reload and retry"),
        "{stale}"
    );
}

async fn prepare(operator: &Operator, node_id: &str, home: &NodeHome) {
    let params = json!({
        "command": ["/bin/echo", "two words"],
        "cwd": home.path(),
        "agentId": "main",
        "sessionKey": "agent:main:main",
    });
    let prepared = operator
        .invoke(node_id, "system.run.prepare", params)
        .await
        .unwrap();
    let plan = &prepared["plan"];
    assert_eq!(plan["argv"], json!(["/usr/bin/echo", "two words"]));
    assert_eq!(plan["commandText"], "/usr/bin/echo \"two words\"");
    assert_eq!(plan["cwd"], json!(home.path().canonicalize().unwrap()));
    assert_eq!(plan["agentId"], "main");
    assert_eq!(plan["sessionKey"], "agent:main:main");
}

async fn run(operator: &Operator, node_id: &str, home: &NodeHome) {
    let run = async |params: Value| operator.invoke(node_id, "system.run", params).await;

    let script = "echo out; echo err >&2; pwd; exit 3";
    let params = json!({ "command": ["/bin/sh", "-c", script], "cwd": home.path() });
    let ran = run(params).await.unwrap();
    assert_eq!(ran["exitCode"], 3);
    assert_eq!(ran["success"], false);
    assert_eq!(ran["timedOut"], false);
    let folder = home.path().canonicalize().unwrap();
    assert_eq!(ran["stdout"], format!("out\n{}\n", folder.display()));
    assert_eq!(ran["stderr"], "err\n");

    let params = json!({
        "command": ["/usr/bin/printenv", "GREETING"],
        "env": { "GREETING": "hello" },
    });
    let ran = run(params).await.unwrap();
    assert_eq!(ran["stdout"], "hello\n");
    assert_eq!(ran["success"], true);

    let ran = run(json!({ "command": ["/bin/sleep", "60"], "timeoutMs": 300 }))
        .await
        .unwrap();
    assert_eq!(ran["timedOut"], true);
    assert_eq!(ran["success"], false);

    let refused = run(json!({ "command": [] })).await.unwrap_err();
    assert_eq!(refused.code, "UNAVAILABLE");
    assert_eq!(refused.details["nodeError"]["code"], "INVALID_REQUEST");
    assert!(refused.message.contains("command required"), "{refused}");
}
