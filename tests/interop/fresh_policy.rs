//! A node that nobody gave a policy: an agent's command waits for an approval and then runs (D9).

use gateway::Release;
use gateway::operator::OperatorEvent;
use serde_json::json;
use tokio::sync::broadcast::Receiver;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::unique;
use crate::scripted_model;
use crate::waiting::{PATIENCE, eventually};

on_each_release!(an_agents_command_waits_for_approval_and_then_runs);

async fn an_agents_command_waits_for_approval_and_then_runs(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let _node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;

    let trace = home.path().join("trace");
    let exec = json!({
        "command": format!("touch {}", trace.display()),
        "host": "node",
        "node": node_id,
    });
    let mut events = operator.events();
    let send = json!({
        "message": scripted_model::message(&exec),
        "sessionKey": format!("agent:main:{}", unique("session")),
        "idempotencyKey": unique("turn"),
    });
    operator.call("chat.send", send).await.unwrap();

    let asked = requested(&mut events, &node_id).await;
    assert!(!trace.exists());
    if release == Release::September {
        let snapshot = &asked["request"]["systemRunPlan"]["policySnapshot"];
        assert_eq!(snapshot["security"], "allowlist");
        assert_eq!(snapshot["ask"], "on-miss");
        assert_eq!(snapshot["askFallback"], "deny");
    }
    let resolve = json!({ "id": asked["id"], "decision": "allow-once" });
    operator
        .call("exec.approval.resolve", resolve)
        .await
        .unwrap();
    eventually("the command has run", PATIENCE, async || {
        if trace.exists() {
            Ok(())
        } else {
            Err("it has not")
        }
    })
    .await;
}

/// Waits until the gateway asks whether something may run on this node.
async fn requested(events: &mut Receiver<OperatorEvent>, node_id: &str) -> serde_json::Value {
    let asking = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.name == "exec.approval.requested"
                && event.payload["request"]["nodeId"] == node_id
            {
                return event.payload;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("the gateway asks for an approval")
}
