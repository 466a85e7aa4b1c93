//! A model for a gateway's agent: it calls the tool that the user's last message names, and
//! has nothing to say once it sees the result.
//!
//! With it a real gateway takes a real turn: message, tool call, gateway, node. What the tool told it
//! is remembered, so that a test sees what an agent would see.

use std::io;
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use gateway::Release;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::waiting::PATIENCE;

/// What stands before the arguments of the exec tool in a message.
const MARK: &str = "scripted-exec:";

/// A model behind the interface of OpenAI's chat completions, on loopback.
pub(crate) struct ScriptedModel {
    port: u16,
    results: watch::Receiver<Vec<ToolResult>>,
}

/// What the exec tool answered to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ToolResult {
    call: String,
    command: String,
    text: String,
}

impl ScriptedModel {
    /// The one model of all gateways.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<ScriptedModel> = LazyLock::new(ScriptedModel::start);
        &SHARED
    }

    fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, results) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let results = sender.clone();
                    // A gateway that hangs up has changed its mind.
                    tokio::spawn(async move { drop(serve(stream, &results).await) });
                }
            });
        });
        Self { port, results }
    }

    /// Waits until the exec tool has answered `count` calls with this command, and returns the last
    /// of the answers.
    pub(crate) async fn told(&self, command: &str, count: usize) -> String {
        let of_command = |results: &[ToolResult]| -> Vec<String> {
            let results = results.iter().filter(|result| result.command == command);
            results.map(|result| result.text.clone()).collect()
        };
        let mut results = self.results.clone();
        let enough = results.wait_for(|results| of_command(results).len() >= count);
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(results) => of_command(&results.unwrap()).remove(count - 1),
            Err(_) => panic!(
                "no {count} answers to {command:?}, only {:#?}",
                self.results.borrow()
            ),
        }
    }

    /// The configuration of a gateway whose agent uses this model and runs commands on nodes. A
    /// 2026.5.20 gateway asks for approval only where its own configuration says so; 2026.9.6 sees
    /// what the node's document says.
    pub(crate) fn config(&self, release: Release) -> Value {
        let exec = match release {
            Release::May => json!({ "host": "node", "security": "allowlist", "ask": "on-miss" }),
            Release::September => json!({ "host": "node" }),
        };
        let model = json!({
            "id": "scripted",
            "name": "Scripted",
            "reasoning": false,
            "input": ["text"],
            "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
            "contextWindow": 128_000,
            "maxTokens": 4096,
        });
        json!({
            "agents": { "defaults": {
                "model": { "primary": "scripted/scripted" },
                "models": { "scripted/scripted": { "alias": "S" } },
                "skipBootstrap": true,
            } },
            "models": { "mode": "merge", "providers": { "scripted": {
                "baseUrl": format!("http://127.0.0.1:{}/v1", self.port),
                "apiKey": "none",
                "api": "openai-completions",
                "models": [model],
            } } },
            "tools": { "exec": exec },
        })
    }
}

/// The message that makes the model call the exec tool with `arguments`.
pub(crate) fn message(arguments: &Value) -> String {
    format!("{MARK}{arguments}")
}

async fn serve(stream: TcpStream, results: &watch::Sender<Vec<ToolResult>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    // Whatever is no request for a completion asks for the list of models.
    let request = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (kind, answer) = match &request["messages"] {
        Value::Array(messages) => {
            results.send_modify(|results| remember(messages, results));
            complete(messages, request["stream"] == true)
        }
        _ => (
            "application/json",
            json!({ "object": "list", "data": [] }).to_string(),
        ),
    };
    let length = answer.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

fn complete(messages: &[Value], stream: bool) -> (&'static str, String) {
    // A gateway may add messages of its own after the user's.
    let said = messages
        .iter()
        .rev()
        .take_while(|message| message["role"] == "user")
        .find_map(tool_arguments);
    let (message, finish) = match said {
        Some(arguments) => {
            let function = json!({ "name": "exec", "arguments": arguments.to_string() });
            let call = json!({
                "index": 0,
                "id": crate::operator::unique("call"),
                "type": "function",
                "function": function,
            });
            (
                json!({ "role": "assistant", "tool_calls": [call] }),
                "tool_calls",
            )
        }
        None => (json!({ "role": "assistant", "content": "DONE" }), "stop"),
    };
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    let base = json!({ "id": "completion", "created": 1, "model": "scripted", "usage": usage });
    let with = |object: &str, choice: Value| {
        let mut whole = base.clone();
        whole["object"] = object.into();
        whole["choices"] = json!([choice]);
        whole.to_string()
    };
    if stream {
        let chunk = "chat.completion.chunk";
        let say = with(
            chunk,
            json!({ "index": 0, "delta": message, "finish_reason": null }),
        );
        let end = with(
            chunk,
            json!({ "index": 0, "delta": {}, "finish_reason": finish }),
        );
        (
            "text/event-stream",
            format!("data: {say}\n\ndata: {end}\n\ndata: [DONE]\n\n"),
        )
    } else {
        let choice = json!({ "index": 0, "message": message, "finish_reason": finish });
        ("application/json", with("chat.completion", choice))
    }
}

/// Adds the tool results of a conversation that are not there yet.
fn remember(messages: &[Value], results: &mut Vec<ToolResult>) {
    let calls = messages
        .iter()
        .filter_map(|message| message["tool_calls"].as_array())
        .flatten();
    for call in calls {
        let id = call["id"].as_str().unwrap_or_default();
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let arguments: Value = serde_json::from_str(arguments).unwrap_or(Value::Null);
        let answer = messages
            .iter()
            .find(|message| message["role"] == "tool" && message["tool_call_id"] == id);
        let Some(answer) = answer else { continue };
        if results.iter().all(|result| result.call != id) {
            results.push(ToolResult {
                call: id.to_owned(),
                command: arguments["command"].as_str().unwrap_or_default().to_owned(),
                text: texts(answer).concat(),
            });
        }
    }
}

fn texts(message: &Value) -> Vec<&str> {
    match &message["content"] {
        Value::String(text) => vec![text.as_str()],
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => Vec::new(),
    }
}

/// The arguments in a message, which a gateway may have decorated.
fn tool_arguments(message: &Value) -> Option<Value> {
    let after = texts(message)
        .into_iter()
        .find_map(|text| Some(text.split_once(MARK)?.1))?;
    serde_json::Deserializer::from_str(after)
        .into_iter()
        .next()?
        .ok()
}
