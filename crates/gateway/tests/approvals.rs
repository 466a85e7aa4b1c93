//! Approvals of single runs: what an operator decides, and what of a run reaches the node.

#![cfg(test)]

mod common;

use common::{DEADLINE, RawNode, start};
use openclaw_node_gateway::{
    CallError, GatewayHandle, GatewayOptions, Operator, OperatorAuth, Release,
};
use protocol::identity::DeviceIdentity;
use serde_json::{Value, json};

async fn approved_node(release: Release) -> (GatewayHandle, RawNode, Value) {
    let gateway = start(GatewayOptions {
        release,
        ..GatewayOptions::default()
    })
    .await;
    let identity = DeviceIdentity::generate().unwrap();
    let node = RawNode::admitted(&gateway.url(), &identity).await;
    gateway.admit(DEADLINE).await.unwrap();
    (gateway, node, json!(identity.device_id()))
}

fn plan() -> Value {
    json!({
        "argv": ["/usr/bin/echo", "hi"], "cwd": "/tmp", "commandText": "/usr/bin/echo hi",
        "commandPreview": null, "agentId": "main", "sessionKey": "agent:main:main",
        "policySnapshot": { "security": "allowlist" },
    })
}

fn request(id: &str, node_id: &Value) -> Value {
    let plan = plan();
    json!({
        "id": id, "command": plan["commandText"], "commandArgv": plan["argv"],
        "systemRunPlan": plan, "cwd": plan["cwd"], "nodeId": node_id, "host": "node",
        "security": "allowlist", "ask": "on-miss", "agentId": "main",
        "sessionKey": "agent:main:main", "timeoutMs": 60_000, "twoPhase": true,
    })
}

fn run(node_id: &Value, params: Value) -> Value {
    json!({
        "nodeId": node_id, "command": "system.run", "params": params,
        "idempotencyKey": "key",
    })
}

fn refused(result: Result<Value, CallError>) -> Value {
    match result.unwrap_err() {
        CallError::Refused(error) => serde_json::to_value(error).unwrap(),
        CallError::Stopped => panic!("the gateway stopped"),
    }
}

#[actix::test]
async fn an_approved_run_is_the_approved_plan_and_runs_once() {
    for release in [Release::May, Release::September] {
        let (gateway, mut node, id) = approved_node(release).await;
        let accepted = gateway
            .call("exec.approval.request", request("a", &id))
            .await
            .unwrap();
        assert_eq!(accepted["status"], "accepted");
        let listed = gateway.call("exec.approval.list", json!({})).await.unwrap();
        assert_eq!(listed[0]["id"], "a");
        let resolve = json!({ "id": "a", "decision": "allow-once" });
        gateway
            .call("exec.approval.resolve", resolve)
            .await
            .unwrap();

        let edited = json!({
            "command": ["/usr/bin/echo", "EDITED"], "rawCommand": "EDITED", "cwd": "/",
            "approved": true, "approvalDecision": "allow-always", "runId": "a",
        });
        let call = gateway.call("node.invoke", run(&id, edited.clone()));
        let (answer, invoke) = tokio::join!(call, node.answer_invoke(json!({})));
        answer.unwrap();
        let sent: Value = serde_json::from_str(invoke["paramsJSON"].as_str().unwrap()).unwrap();
        let mut stored = plan();
        if release == Release::May {
            stored.as_object_mut().unwrap().remove("policySnapshot");
        }
        let expected = json!({
            "command": ["/usr/bin/echo", "hi"], "rawCommand": "/usr/bin/echo hi",
            "systemRunPlan": stored, "cwd": "/tmp", "agentId": "main",
            "sessionKey": "agent:main:main", "runId": "a", "approved": true,
            "approvalDecision": "allow-once",
        });
        assert_eq!(sent, expected);

        let again = refused(gateway.call("node.invoke", run(&id, edited)).await);
        assert_eq!(
            again["details"],
            json!({ "code": "APPROVAL_REQUIRED", "runId": "a" })
        );
    }
}

#[actix::test]
async fn a_claim_of_approval_needs_an_approval() {
    let (gateway, _node, id) = approved_node(Release::September).await;
    gateway
        .call("exec.approval.request", request("open", &id))
        .await
        .unwrap();
    gateway
        .call("exec.approval.request", request("denied", &id))
        .await
        .unwrap();
    let deny = json!({ "id": "denied", "decision": "deny" });
    gateway.call("exec.approval.resolve", deny).await.unwrap();
    gateway
        .call(
            "exec.approval.request",
            request("elsewhere", &json!("other")),
        )
        .await
        .unwrap();
    let mut expired = request("expired", &id);
    expired["timeoutMs"] = 0.into();
    gateway
        .call("exec.approval.request", expired)
        .await
        .unwrap();
    let cases = [
        (json!({ "approved": true }), "MISSING_RUN_ID"),
        (
            json!({ "approved": true, "runId": "unknown" }),
            "UNKNOWN_APPROVAL_ID",
        ),
        (
            json!({ "approvalDecision": "allow-once", "runId": "open" }),
            "APPROVAL_REQUIRED",
        ),
        (
            json!({ "approved": true, "runId": "denied" }),
            "APPROVAL_REQUIRED",
        ),
        (
            json!({ "approved": true, "runId": "expired" }),
            "APPROVAL_EXPIRED",
        ),
        (
            json!({ "approved": true, "runId": "elsewhere" }),
            "APPROVAL_NODE_MISMATCH",
        ),
        (
            json!({ "approved": true, "runId": "open", "env": { "A": "1" } }),
            "APPROVAL_ENV_BINDING_MISSING",
        ),
        (
            json!({ "approvalSource": "auto-review" }),
            "INVALID_APPROVAL_SOURCE",
        ),
    ];
    for (mut params, code) in cases {
        params["command"] = json!(["true"]);
        let error = refused(gateway.call("node.invoke", run(&id, params.clone())).await);
        assert_eq!(error["details"]["code"], code, "{params}");
    }
}

#[actix::test]
async fn the_environment_of_an_approved_run_is_bound() {
    let (gateway, mut node, id) = approved_node(Release::September).await;
    let mut with_env = request("a", &id);
    with_env["env"] = json!({ "B": "2", "A": "1" });
    gateway
        .call("exec.approval.request", with_env)
        .await
        .unwrap();
    let resolve = json!({ "id": "a", "decision": "allow-once" });
    gateway
        .call("exec.approval.resolve", resolve)
        .await
        .unwrap();
    let with = |env: Value| {
        run(
            &id,
            json!({ "command": ["true"], "approved": true, "runId": "a", "env": env }),
        )
    };
    let error = refused(gateway.call("node.invoke", with(json!({ "A": "2" }))).await);
    assert_eq!(error["details"]["code"], "APPROVAL_ENV_MISMATCH");
    let call = gateway.call("node.invoke", with(json!({ "A": "1", "B": "2" })));
    let (answer, _) = tokio::join!(call, node.answer_invoke(json!({})));
    answer.unwrap();
}

#[actix::test]
async fn a_decision_reaches_whoever_waits_for_it() {
    let (gateway, _node, id) = approved_node(Release::September).await;
    let token = OperatorAuth::Token(openclaw_node_gateway::DEFAULT_TOKEN.into());
    let operator = Operator::connect(&gateway.url(), token).await.unwrap();
    let mut events = operator.events();
    operator
        .call("exec.approval.request", request("a", &id))
        .await
        .unwrap();
    let again = operator
        .call("exec.approval.request", request("a", &id))
        .await
        .unwrap_err();
    assert_eq!(again.message, "approval id already pending");
    let summary = operator
        .call("exec.approval.get", json!({ "id": "a" }))
        .await
        .unwrap();
    assert_eq!(
        summary["allowedDecisions"],
        json!(["allow-once", "allow-always", "deny"])
    );
    let decide = |decision: &str| {
        gateway.call(
            "exec.approval.resolve",
            json!({ "id": "a", "decision": decision }),
        )
    };
    assert_eq!(
        refused(decide("bogus").await)["message"],
        "invalid decision"
    );
    let (waited, resolved) = tokio::join!(
        operator.call("exec.approval.waitDecision", json!({ "id": "a" })),
        decide("allow-always")
    );
    resolved.unwrap();
    assert_eq!(waited.unwrap()["decision"], "allow-always");
    decide("allow-always").await.unwrap();
    assert_eq!(
        refused(decide("deny").await)["details"]["reason"],
        "APPROVAL_NOT_FOUND"
    );
    let mut names = Vec::new();
    while names
        .last()
        .is_none_or(|name| name != "exec.approval.resolved")
    {
        names.push(events.recv().await.unwrap().name);
    }
    assert!(names.contains(&"exec.approval.requested".to_owned()));

    let mut always = request("b", &id);
    always["ask"] = "always".into();
    gateway.call("exec.approval.request", always).await.unwrap();
    let lasting = json!({ "id": "b", "decision": "allow-always" });
    let error = refused(gateway.call("exec.approval.resolve", lasting).await);
    assert_eq!(
        error["details"]["reason"],
        "APPROVAL_ALLOW_ALWAYS_UNAVAILABLE"
    );

    let mut brief = request("c", &id);
    brief["timeoutMs"] = 20.into();
    brief["twoPhase"] = false.into();
    let undecided = gateway.call("exec.approval.request", brief).await.unwrap();
    assert_eq!(undecided["decision"], Value::Null);
}

#[actix::test]
async fn the_older_release_knows_fewer_members() {
    let (gateway, _node, id) = approved_node(Release::May).await;
    let mut newer = request("a", &id);
    newer["requireDeliveryRoute"] = false.into();
    let error = refused(gateway.call("exec.approval.request", newer).await);
    assert_eq!(
        error["message"],
        "invalid exec.approval.request params: at root: unexpected property 'requireDeliveryRoute'"
    );
    let mut planless = request("a", &id);
    planless.as_object_mut().unwrap().remove("systemRunPlan");
    let error = refused(gateway.call("exec.approval.request", planless).await);
    assert_eq!(error["message"], "systemRunPlan is required for host=node");
}
