//! A run that an operator approved: exactly what was prepared runs, exactly once.

use gateway::{OperatorError, Release};
use serde_json::{Value, json};

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::{Operator, unique};
use crate::waiting::{PATIENCE, eventually};

/// What a gateway says that has forgotten an approval, which it does 15 s after it was given.
const UNKNOWN_APPROVAL: &str = "UNKNOWN_APPROVAL_ID";
/// The code for an approval that is undecided, denied or used up.
const APPROVAL_REQUIRED: &str = "APPROVAL_REQUIRED";

on_each_release!(an_approved_plan_runs_once_and_as_it_was_prepared);

async fn an_approved_plan_runs_once_and_as_it_was_prepared(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let requester = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let _node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = requester.admit(home.name()).await;
    let approver = gateway.operator().await;
    let desk = Desk {
        release,
        requester,
        approver,
        node_id,
    };

    let denied = json!({ "command": ["/bin/echo", "as approved"], "agentId": "main" });
    let denied = desk.invoke("system.run", denied).await.unwrap_err();
    assert!(
        denied
            .message
            .ends_with("SYSTEM_RUN_DENIED: approval required"),
        "{denied}"
    );

    let prepare = json!({
        "command": ["/bin/echo", "as approved"],
        "cwd": home.path(),
        "agentId": "main",
        "sessionKey": format!("agent:main:{}", unique("session")),
    });
    let prepared = desk.invoke("system.run.prepare", prepare).await.unwrap();
    let plan = &prepared["plan"];

    let (approval, ran) = desk.approve_and_run(plan).await;
    let ran = ran.unwrap();
    assert_eq!(ran["stdout"], "as approved\n");
    assert_eq!(ran["success"], true);

    let replayed = desk.run(plan, &approval).await.unwrap_err();
    assert!(
        [APPROVAL_REQUIRED, UNKNOWN_APPROVAL]
            .map(Value::from)
            .contains(&replayed.details["code"]),
        "{replayed}"
    );

    // The gateway lets it through again; the node prepared it only once.
    let (_, used_up) = desk.approve_and_run(plan).await;
    desk.assert_unprepared(&used_up.unwrap_err());

    let mut forged = plan.clone();
    forged["argv"] = json!(["/usr/bin/echo", "as forged"]);
    forged["commandText"] = json!("/usr/bin/echo \"as forged\"");
    let (_, refused) = desk.approve_and_run(&forged).await;
    desk.assert_unprepared(&refused.unwrap_err());
}

/// The two operators that a run with approval needs, and the node.
struct Desk {
    release: Release,
    requester: Operator,
    /// A gateway closes a request at once that nobody but the requester could resolve.
    approver: Operator,
    node_id: String,
}

impl Desk {
    async fn invoke(&self, command: &str, params: Value) -> Result<Value, OperatorError> {
        self.requester.invoke(&self.node_id, command, params).await
    }

    /// The node refused a plan that it has no record of (any more).
    fn assert_unprepared(&self, refusal: &OperatorError) {
        let reason = match self.release {
            // Without the record there is no snapshot either, and that is looked at first.
            Release::May => "delayed approval requires a prepared policy snapshot",
            Release::September => "SYSTEM_RUN_DENIED: approval plan was not prepared by this node",
        };
        assert!(refusal.message.ends_with(reason), "{refusal}");
    }

    /// Has a plan approved and runs it; returns the approval's id too.
    async fn approve_and_run(&self, plan: &Value) -> (String, Result<Value, OperatorError>) {
        eventually("the approval is used in time", PATIENCE, async || {
            let approval = self.approve(plan).await;
            let ran = self.run(plan, &approval).await;
            match &ran {
                // Forgotten, or used up by an attempt that the gateway itself then gave up.
                Err(error)
                    if error.details["code"] == UNKNOWN_APPROVAL
                        || error.details["code"] == APPROVAL_REQUIRED =>
                {
                    Err(ran)
                }
                _ => Ok((approval, ran)),
            }
        })
        .await
    }

    /// Files a request for this plan and resolves it; returns its id.
    async fn approve(&self, plan: &Value) -> String {
        let id = unique("approval");
        let mut request = json!({
            "id": id,
            "command": plan["commandText"],
            "commandArgv": plan["argv"],
            "systemRunPlan": plan,
            "cwd": plan["cwd"],
            "nodeId": self.node_id,
            "host": "node",
            "security": "allowlist",
            "ask": "on-miss",
            "agentId": plan["agentId"],
            "sessionKey": plan["sessionKey"],
            "timeoutMs": 60_000,
            "twoPhase": true,
        });
        if self.release == Release::May {
            // This release knows no snapshot of the policy: the node has to remember it (D13).
            let plan = request["systemRunPlan"].as_object_mut().unwrap();
            plan.remove("policySnapshot");
        }
        let accepted = self
            .requester
            .call("exec.approval.request", request)
            .await
            .unwrap();
        assert_eq!(accepted["status"], "accepted", "{accepted}");
        let resolve = json!({ "id": id, "decision": "allow-once" });
        self.approver
            .call("exec.approval.resolve", resolve)
            .await
            .unwrap();
        id
    }

    /// Asks for another command than the approved one, which the gateway has to put right.
    async fn run(&self, plan: &Value, approval: &str) -> Result<Value, OperatorError> {
        let params = json!({
            "command": ["/bin/echo", "EDITED"],
            "rawCommand": "/bin/echo EDITED",
            "cwd": plan["cwd"],
            "agentId": plan["agentId"],
            "sessionKey": plan["sessionKey"],
            "approved": true,
            "approvalDecision": "allow-once",
            "runId": approval,
        });
        self.invoke("system.run", params).await
    }
}
