//! `demo`: a whole life of a node, against a gateway of its own, with temporary state.
//!
//! The node is this very program, started as `run` in a process of its own, so what is shown is
//! what a service manager would start.

mod node_process;
mod timeline;

use std::path::Path;
use std::time::Duration;

use clap::Args;
use gateway::{
    DEFAULT_TOKEN, Gateway, GatewayHandle, GatewayOptions, Operator, OperatorAuth, OperatorError,
    PairingPolicy,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use self::node_process::NodeProcess;
use self::timeline::Timeline;
use crate::exit::{Exit, Failure};

/// Longest wait for any single step; each takes a fraction of it.
const STEP_DEADLINE: Duration = Duration::from_secs(15);
/// How long the gateway's port refuses during the restart that is shown.
const GATEWAY_DOWN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The command that is denied first, then approved and run
    #[arg(last = true, value_name = "CMD", default_values = ["uname", "-a"])]
    command: Vec<String>,
}

/// Why a step did not do what it should.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("{0}")]
    Gateway(String),
    #[error("{0}")]
    Operator(#[from] OperatorError),
    #[error("{0}")]
    Node(#[from] node_process::NodeError),
    #[error("expected {expected}, got {got}")]
    Unexpected { expected: &'static str, got: String },
}

fn gateway_error(error: impl std::fmt::Display) -> StepError {
    StepError::Gateway(error.to_string())
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let state = tempfile::Builder::new()
        .prefix("openclaw-node-demo-")
        .tempdir()
        .map_err(|error| Failure::new(format_args!("no temporary folder for the demo: {error}")))?;
    let mut timeline = Timeline::start();
    let shown = actix::System::new().block_on(show(arguments, state.path(), &mut timeline));
    match shown {
        Ok(()) => {
            timeline.end("every step did what it should");
            Ok(Exit::Done)
        }
        Err(error) => {
            timeline.failed(&error.to_string());
            Ok(Exit::Failure)
        }
    }
}

async fn show(
    arguments: &Arguments,
    state: &Path,
    timeline: &mut Timeline,
) -> Result<(), StepError> {
    let options = GatewayOptions {
        pairing: PairingPolicy {
            auto_approve_local: false,
            ..PairingPolicy::default()
        },
        ..GatewayOptions::default()
    };
    let gateway = Gateway::start(options).await.map_err(gateway_error)?;
    timeline.step(format_args!("a gateway listens on {}", gateway.url()));
    let operator = operator(&gateway).await?;

    let mut node = NodeProcess::start(&state.join("node"), &gateway, DEFAULT_TOKEN)?;
    pair(&gateway, &operator, &mut node, timeline).await?;
    let node_id = gateway
        .admit(STEP_DEADLINE)
        .await
        .map_err(gateway_error)?
        .node_id;
    which(&operator, &node_id, arguments, timeline).await?;
    deny(&operator, &node_id, arguments, timeline).await?;
    approve_and_run(&operator, &node_id, arguments, timeline).await?;

    gateway.restart(GATEWAY_DOWN).await.map_err(gateway_error)?;
    node.wait_for_line("node host gateway closed (1012)")
        .await?;
    timeline.step("the gateway restarts: close 1012, the port refuses");
    node.wait_for_line("node host gateway connected").await?;
    timeline.step("the node is back by itself, with the device token that it stored");
    let operator = self::operator(&gateway).await?;
    which(&operator, &node_id, arguments, timeline).await?;

    let code = node.terminate().await?;
    expect(code == Some(143), "exit code 143 after SIGTERM", code)?;
    timeline.step("SIGTERM: the node closes in good order, exit code 143");

    let mut stranger = NodeProcess::start(&state.join("stranger"), &gateway, "not-the-token")?;
    let paused = stranger.wait_for_line("detail=AUTH_TOKEN_MISMATCH").await?;
    let code = stranger.exit_code().await?;
    expect(
        code == Some(1),
        "exit code 1 after a terminal auth pause",
        code,
    )?;
    timeline.step("a node with a wrong token: terminal auth pause, exit code 1");
    timeline.detail(&paused);
    gateway.stop();
    Ok(())
}

async fn operator(gateway: &GatewayHandle) -> Result<Operator, StepError> {
    let auth = OperatorAuth::Token(SecretString::from(DEFAULT_TOKEN));
    Ok(Operator::connect(&gateway.url(), auth).await?)
}

/// Shows both gates: the device's, then that of its commands.
async fn pair(
    gateway: &GatewayHandle,
    operator: &Operator,
    node: &mut NodeProcess,
    timeline: &mut Timeline,
) -> Result<(), StepError> {
    let line = node.wait_for_line("device pairing required").await?;
    timeline.step("the node is not paired: it says what to type, and polls");
    timeline.detail(&line);
    let device = gateway
        .wait_for(STEP_DEADLINE, |seen| {
            seen.pending_devices().first().cloned()
        })
        .await
        .map_err(gateway_error)?;
    operator
        .call("device.pair.approve", json!({ "requestId": device }))
        .await?;
    timeline.step("the operator approves the device");
    node.wait_for_line("node host gateway connected").await?;
    timeline.step("the node noticed by itself and is connected; its device token is stored");
    let surface = gateway
        .wait_for(STEP_DEADLINE, |seen| {
            seen.pending_surfaces().first().cloned()
        })
        .await
        .map_err(gateway_error)?;
    let line = node.wait_for_line("node surface").await?;
    timeline.detail(&line);
    operator
        .call("node.pair.approve", json!({ "requestId": surface }))
        .await?;
    timeline.step("the operator approves its commands, on the live connection");
    Ok(())
}

async fn which(
    operator: &Operator,
    node_id: &str,
    arguments: &Arguments,
    timeline: &mut Timeline,
) -> Result<(), StepError> {
    let program = arguments.command.first().map_or("", String::as_str);
    let found = invoke(
        operator,
        node_id,
        "system.which",
        json!({ "bins": ["sh", program] }),
    )
    .await?;
    let shell = found.pointer("/bins/sh").and_then(Value::as_str);
    expect(shell.is_some(), "system.which to find sh", &found)?;
    timeline.step(format_args!(
        "system.which: {}",
        found.get("bins").unwrap_or(&Value::Null)
    ));
    Ok(())
}

async fn deny(
    operator: &Operator,
    node_id: &str,
    arguments: &Arguments,
    timeline: &mut Timeline,
) -> Result<(), StepError> {
    let params = json!({ "command": arguments.command, "agentId": "main" });
    match invoke(operator, node_id, "system.run", params).await {
        Err(StepError::Operator(refusal)) if refusal.message.contains("SYSTEM_RUN_DENIED") => {
            timeline.step("system.run without an approval is denied by the node's own policy");
            timeline.detail(&refusal.message);
            Ok(())
        }
        Err(error) => Err(error),
        Ok(payload) => expect(false, "a denial", payload),
    }
}

async fn approve_and_run(
    operator: &Operator,
    node_id: &str,
    arguments: &Arguments,
    timeline: &mut Timeline,
) -> Result<(), StepError> {
    let params = json!({ "command": arguments.command, "agentId": "main" });
    let prepared = invoke(operator, node_id, "system.run.prepare", params).await?;
    let plan = prepared.get("plan").cloned().unwrap_or(Value::Null);
    timeline.step(format_args!(
        "system.run.prepare makes a plan: {}",
        plan.get("commandText").unwrap_or(&Value::Null)
    ));
    let approval = "demo-approval";
    let request = json!({
        "id": approval,
        "command": plan.get("commandText"),
        "commandArgv": plan.get("argv"),
        "systemRunPlan": plan,
        "cwd": plan.get("cwd"),
        "nodeId": node_id,
        "host": "node",
        "security": "allowlist",
        "ask": "on-miss",
        "agentId": "main",
        "twoPhase": true,
        "requireDeliveryRoute": false,
        "suppressDelivery": true,
    });
    operator.call("exec.approval.request", request).await?;
    let resolution = json!({ "id": approval, "decision": "allow-once" });
    operator.call("exec.approval.resolve", resolution).await?;
    timeline.step("the operator approves that plan once");
    let params = json!({
        "command": plan.get("argv"),
        "rawCommand": plan.get("commandText"),
        "systemRunPlan": plan,
        "cwd": plan.get("cwd"),
        "agentId": "main",
        "approved": true,
        "approvalDecision": "allow-once",
        "runId": approval,
    });
    let payload = invoke(operator, node_id, "system.run", params).await?;
    expect(
        payload.get("success") == Some(&Value::Bool(true)),
        "a successful run",
        &payload,
    )?;
    timeline.step(format_args!(
        "{} runs",
        plan.get("commandText").unwrap_or(&Value::Null)
    ));
    timeline.detail(
        payload
            .get("stdout")
            .and_then(Value::as_str)
            .unwrap_or_default(),
    );
    Ok(())
}

/// Calls a command of the node and gives its payload.
async fn invoke(
    operator: &Operator,
    node_id: &str,
    command: &str,
    params: Value,
) -> Result<Value, StepError> {
    let call = json!({
        "nodeId": node_id,
        "command": command,
        "params": params,
        "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    let mut answer = operator.call("node.invoke", call).await?;
    Ok(answer
        .get_mut("payload")
        .map(Value::take)
        .unwrap_or_default())
}

fn expect(holds: bool, expected: &'static str, got: impl std::fmt::Debug) -> Result<(), StepError> {
    if holds {
        Ok(())
    } else {
        Err(StepError::Unexpected {
            expected,
            got: format!("{got:?}"),
        })
    }
}
