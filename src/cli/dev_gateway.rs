//! `dev-gateway`: a loopback gateway to develop against, and its operator.

use clap::{Args, Subcommand};
use gateway::{
    DEFAULT_TOKEN, Gateway, GatewayOptions, Operator, OperatorAuth, PairingPolicy, Release,
};
use node_config::Environment;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The gateway's shared token [default: $OPENCLAW_GATEWAY_TOKEN, else a well-known one]
    #[arg(long, global = true, value_name = "TOKEN")]
    token: Option<String>,
    /// The gateway to act on [default: ws://127.0.0.1:18789]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "ws://127.0.0.1:18789",
        hide_default_value = true
    )]
    url: String,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gateway on 127.0.0.1 until interrupted; it keeps everything in memory
    Run(RunArguments),
    /// Devices that want to be paired, or are
    #[command(subcommand)]
    Devices(Devices),
    /// Nodes, the commands that they declare, and calling them
    #[command(subcommand)]
    Nodes(Nodes),
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 18789)]
    port: u16,
    /// Imitate this OpenClaw release
    #[arg(long, value_enum, default_value_t = ReleaseName::September)]
    release: ReleaseName,
    /// Make devices on loopback wait for approval too
    #[arg(long)]
    ask_for_pairing: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ReleaseName {
    /// 2026.5.20
    #[value(name = "2026.5.20")]
    May,
    /// 2026.9.6
    #[value(name = "2026.9.6")]
    September,
}

#[derive(Debug, Subcommand)]
enum Devices {
    /// Pending and paired devices
    List,
    /// Approve a pending device
    Approve {
        /// The request's id
        request_id: String,
    },
}

#[derive(Debug, Subcommand)]
enum Nodes {
    /// Known nodes
    List,
    /// Nodes whose commands wait for approval
    Pending,
    /// Approve a node's commands
    Approve {
        /// The request's id
        request_id: String,
    },
    /// Call a command of a node
    Invoke {
        /// The node's id or display name
        node: String,
        /// The command, such as system.which
        command: String,
        /// Its params as JSON
        #[arg(default_value = "{}")]
        params: String,
    },
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let token = arguments
        .token
        .as_deref()
        .or(environment.text("OPENCLAW_GATEWAY_TOKEN"))
        .unwrap_or(DEFAULT_TOKEN);
    let token = SecretString::from(token);
    actix::System::new().block_on(async {
        match &arguments.command {
            Command::Run(run) => serve(arguments, run, token).await,
            Command::Devices(devices) => {
                let operator = connect(arguments, token).await?;
                show(arguments, &act_on_devices(&operator, devices).await?)
            }
            Command::Nodes(nodes) => {
                let operator = connect(arguments, token).await?;
                show(arguments, &act_on_nodes(&operator, nodes).await?)
            }
        }
    })
}

async fn serve(
    arguments: &Arguments,
    run: &RunArguments,
    token: SecretString,
) -> Result<Exit, Failure> {
    let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::new)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::new)?;
    let options = GatewayOptions {
        port: run.port,
        release: match run.release {
            ReleaseName::May => Release::May,
            ReleaseName::September => Release::September,
        },
        auth: gateway::AuthMode::Token(token),
        pairing: PairingPolicy {
            auto_approve_local: !run.ask_for_pairing,
            ..PairingPolicy::default()
        },
        ..GatewayOptions::default()
    };
    let gateway = Gateway::start(options).await.map_err(Failure::new)?;
    if arguments.json {
        output::line(json!({ "url": gateway.url(), "port": gateway.port() }));
    } else {
        output::line(format_args!(
            "gateway on {}; connect a node with: OPENCLAW_GATEWAY_TOKEN=… openclaw-node run --port {}",
            gateway.url(),
            gateway.port()
        ));
    }
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    gateway.stop();
    Ok(Exit::Done)
}

async fn connect(arguments: &Arguments, token: SecretString) -> Result<Operator, Failure> {
    Operator::connect(&arguments.url, OperatorAuth::Token(token))
        .await
        .map_err(|error| {
            Failure::new(format_args!(
                "no gateway at {}: {error}; start one with: openclaw-node dev-gateway run",
                arguments.url
            ))
        })
}

async fn call(operator: &Operator, method: &str, params: Value) -> Result<Value, Failure> {
    operator.call(method, params).await.map_err(Failure::new)
}

async fn act_on_devices(operator: &Operator, devices: &Devices) -> Result<Value, Failure> {
    match devices {
        Devices::List => call(operator, "device.pair.list", json!({})).await,
        Devices::Approve { request_id } => {
            call(
                operator,
                "device.pair.approve",
                json!({ "requestId": request_id }),
            )
            .await
        }
    }
}

async fn act_on_nodes(operator: &Operator, nodes: &Nodes) -> Result<Value, Failure> {
    match nodes {
        Nodes::List => call(operator, "node.list", json!({})).await,
        Nodes::Pending => {
            let listed = call(operator, "node.pair.list", json!({})).await?;
            Ok(listed.get("pending").cloned().unwrap_or_default())
        }
        Nodes::Approve { request_id } => {
            call(
                operator,
                "node.pair.approve",
                json!({ "requestId": request_id }),
            )
            .await
        }
        Nodes::Invoke {
            node,
            command,
            params,
        } => {
            let params: Value = serde_json::from_str(params)
                .map_err(|error| Failure::new(format_args!("params are not JSON: {error}")))?;
            let node_id = node_id(operator, node).await?;
            let mut invoke = json!({
                "nodeId": node_id,
                "command": command,
                "params": params,
                "idempotencyKey": uuid::Uuid::new_v4().to_string(),
            });
            let method = match command.as_str() {
                // The gateway keeps these behind methods of their own.
                "system.execApprovals.get" => "exec.approvals.node.get",
                "system.execApprovals.set" => "exec.approvals.node.set",
                _ => "node.invoke",
            };
            if method != "node.invoke" {
                invoke = with_node_id(params, &node_id);
            }
            call(operator, method, invoke).await
        }
    }
}

fn with_node_id(params: Value, node_id: &str) -> Value {
    let mut params = params;
    if let Some(members) = params.as_object_mut() {
        members.insert("nodeId".to_owned(), node_id.into());
    }
    params
}

/// Finds the node that the operator means by id or by display name.
async fn node_id(operator: &Operator, node: &str) -> Result<String, Failure> {
    let listed = call(operator, "node.list", json!({})).await?;
    let nodes = listed
        .get("nodes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let is_meant = |entry: &&Value| {
        ["nodeId", "displayName"]
            .iter()
            .any(|member| entry.get(member).and_then(Value::as_str) == Some(node))
    };
    let mut meant = nodes
        .iter()
        .filter(is_meant)
        .filter_map(|entry| entry.get("nodeId")?.as_str());
    match (meant.next(), meant.next()) {
        (Some(node_id), None) => Ok(node_id.to_owned()),
        (None, _) => Err(Failure::new(format_args!(
            "the gateway knows no node \"{node}\"; see: openclaw-node dev-gateway nodes list"
        ))),
        (Some(_), Some(_)) => Err(Failure::new(format_args!(
            "more than one node is called \"{node}\"; name it by its id"
        ))),
    }
}

fn show(arguments: &Arguments, answer: &Value) -> Result<Exit, Failure> {
    let text = if arguments.json {
        serde_json::to_string(answer)
    } else {
        serde_json::to_string_pretty(answer)
    };
    output::line(text.map_err(Failure::new)?);
    Ok(Exit::Done)
}
