//! The recorded calls of `browser.proxy` through a real gateway, and its `browser` tool.

use std::path::Path;

use gateway::Release;
use serde_json::{Value, json};

use crate::browser::{self, replay};
use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, Node, NodeHome, Start};
use crate::operator::{Operator, unique};
use crate::waiting::{PATIENCE, eventually};

/// The call that waits for what the next one causes.
const ASKED_TOGETHER: u64 = 197;
/// What a node writes about every call that it takes, and what makes it do so.
const TAKEN: &str = "browser call invoke=";
const TELLS_CALLS: (&str, &str) = (
    "OPENCLAW_NODE_LOG",
    "info,openclaw_node_actors::browser=debug",
);

fn configure(home: &NodeHome, config: &Value) {
    let state = home.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
}

async fn ask(operator: &Operator, node_id: &str, case: &replay::Recorded, params: Value) -> Value {
    let invoke = case.invoke(node_id, params);
    replay::outcome(match operator.ask_node("node.invoke", invoke).await {
        Ok(mut answer) => Ok(answer["payload"].take()),
        Err(error) => Err((error.code, error.message, error.details)),
    })
}

/// Waits until the gateway lists exactly these of the node's commands.
async fn declares(operator: &Operator, name: &str, has_browser: bool) {
    eventually("the node's commands are listed", PATIENCE, async || {
        let node = operator.connected_node(name).await;
        let commands = node["commands"].as_array().cloned().unwrap_or_default();
        let declared = commands.iter().any(|command| command == "browser.proxy");
        if !commands.is_empty() && declared == has_browser {
            Ok(())
        } else {
            Err(node)
        }
    })
    .await;
}

#[actix::test]
async fn every_recorded_call_is_answered_as_recorded() {
    if !browser::has_chromium() {
        return;
    }
    let gateway = GatewayProcess::shared(Release::September).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let gateway_port = browser::free_gateway_port();
    let base = browser::config(gateway_port);
    let state = home.path().join("state");
    let mut replay = replay::Replay::start(&state, browser::cdp_port(gateway_port)).await;
    let mut running: Option<(Value, Node)> = None;
    let mut node_id = String::new();
    let mut cases = replay::recorded().into_iter();
    while let Some(case) = cases.next() {
        let config = case.config(&base);
        if running.as_ref().is_none_or(|(known, _)| *known != config) {
            let is_first = running.is_none();
            if let Some((_, node)) = running.take() {
                node.stop().await;
            }
            configure(&home, &config);
            replay.forget_tabs();
            let mut node = home.start(Start {
                environment: &[TELLS_CALLS],
                ..Start::with_token(gateway.address(), TOKEN)
            });
            node.wait_for_line("node host gateway connected: ", 1).await;
            if is_first {
                node_id = operator.admit(home.name()).await;
            }
            let offered = config["browser"]["enabled"] != false
                && config["nodeHost"]["browserProxy"]["enabled"] != false;
            declares(&operator, home.name(), offered).await;
            if is_first {
                // The recording began with a browser that had shown a page.
                let params = json!({
                    "method": "POST", "path": "/tabs/open", "body": {"url": "about:blank"},
                });
                ask(&operator, &node_id, &case, params).await;
            }
            running = Some((config, node));
        }
        let params = replay.params(&case);
        let here = if case.number == ASKED_TOGETHER {
            let next = cases.next().unwrap();
            let next_params = replay.params(&next);
            let (_, node) = running.as_mut().unwrap();
            let cause = async {
                // The first one only waits once the node has it.
                let before = node.lines(TAKEN).len();
                node.wait_for_line(TAKEN, before + 1).await;
                ask(&operator, &node_id, &next, next_params).await
            };
            let asked = ask(&operator, &node_id, &case, params);
            let (here, after) = futures_util::future::join(asked, cause).await;
            replay.check(&next, &after);
            here
        } else {
            ask(&operator, &node_id, &case, params).await
        };
        replay.check(&case, &here);
    }
    if let Some((_, node)) = running {
        node.stop().await;
    }
    for failure in &replay.failures {
        println!("{failure}");
    }
    assert_eq!(replay.failures.len(), 0);
}

/// Calls the gateway's `browser` tool over HTTP, on the node.
async fn tool(gateway: &GatewayProcess, node_id: &str, arguments: Value) -> Value {
    let mut arguments = arguments;
    arguments["target"] = "node".into();
    arguments["node"] = node_id.into();
    let request = json!({ "tool": "browser", "args": arguments });
    let client = http::post(gateway.address(), "/tools/invoke", TOKEN, &request).await;
    assert_eq!(client["ok"], true, "{request}: {client}");
    client["result"].clone()
}

mod http {
    //! One HTTP request, without a client library.

    use std::net::SocketAddr;

    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    pub(super) async fn post(address: SocketAddr, path: &str, token: &str, body: &Value) -> Value {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        let start = text.find('{').unwrap_or_else(|| panic!("{text}"));
        let end = text.rfind('}').unwrap();
        serde_json::from_str(&text[start..=end]).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// The text that a tool's result shows the agent.
fn shown(result: &Value) -> String {
    let content = result["content"].as_array().cloned().unwrap_or_default();
    content
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect()
}

/// The ref of the line that contains `text`.
fn reference(snapshot: &str, text: &str) -> String {
    let line = snapshot
        .lines()
        .find(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no {text} in {snapshot}"));
    let (_, rest) = line.split_once("[ref=").unwrap();
    rest.split(']').next().unwrap().to_owned()
}

/// A page of the node's browser, as the gateway's tool sees it.
struct ToolPage<'a> {
    gateway: &'a GatewayProcess,
    node_id: &'a str,
    target: String,
}

impl<'a> ToolPage<'a> {
    async fn open(gateway: &'a GatewayProcess, node_id: &'a str, url: &str) -> Self {
        let opened = tool(gateway, node_id, json!({ "action": "open", "url": url })).await;
        Self {
            gateway,
            node_id,
            target: opened["details"]["targetId"].as_str().unwrap().to_owned(),
        }
    }

    async fn ask(&self, mut arguments: Value) -> Value {
        arguments["targetId"] = self.target.as_str().into();
        tool(self.gateway, self.node_id, arguments).await
    }

    /// The ref of what a snapshot shows.
    async fn find(&self, text: &str) -> String {
        let snapshot = json!({ "action": "snapshot", "interactive": true });
        reference(&shown(&self.ask(snapshot).await), text)
    }

    async fn act(&self, request: Value) {
        self.ask(json!({ "action": "act", "request": request }))
            .await;
    }

    async fn fill_in_and_send(&self) {
        for (name, text) in [("Name", "Ann"), ("Email", "a@b.c")] {
            let field = self.find(&format!("textbox \"{name}\"")).await;
            self.act(json!({ "kind": "type", "ref": field, "text": text }))
                .await;
        }
        let send = self.find("button \"Send\"").await;
        self.act(json!({ "kind": "click", "ref": send })).await;
    }

    /// Goes there; the agent gets a picture of it.
    async fn go_and_look(&self, url: &str) {
        self.ask(json!({ "action": "navigate", "url": url })).await;
        let picture = self.ask(json!({ "action": "screenshot" })).await;
        let content = picture["content"].as_array().unwrap();
        assert!(content.iter().any(|part| part["type"] == "image"));
    }

    async fn text(&self) -> String {
        shown(
            &self
                .ask(json!({ "action": "text", "selector": "body" }))
                .await,
        )
    }
}

/// A node that offers its browser, admitted; its home and its id.
async fn node_with_browser(gateway: &GatewayProcess) -> (NodeHome, Node, String) {
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    configure(&home, &browser::config(browser::free_gateway_port()));
    let node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;
    declares(&operator, home.name(), true).await;
    (home, node, node_id)
}

#[actix::test]
async fn the_browser_tool_drives_the_nodes_browser() {
    if !browser::has_chromium() {
        return;
    }
    let gateway = GatewayProcess::shared(Release::September).await;
    let (_home, node, node_id) = node_with_browser(gateway).await;
    let site = browser::site::Site::start().await;

    let page = ToolPage::open(gateway, &node_id, &site.url("/form.html")).await;
    page.fill_in_and_send().await;
    let text = page.text().await;
    assert!(text.contains("submitted name=Ann"), "{text}");

    // Where a gateway lets agents read files from.
    let uploads = Path::new("/tmp/openclaw/uploads");
    std::fs::create_dir_all(uploads).unwrap();
    let file = tempfile::Builder::new()
        .prefix("node-")
        .suffix(".txt")
        .tempfile_in(uploads)
        .unwrap();
    std::fs::write(file.path(), "hello").unwrap();
    let choose = page.find("button \"Choose\"").await;
    page.ask(json!({ "action": "upload", "ref": choose, "paths": [file.path()] }))
        .await;
    let text = page.text().await;
    assert!(text.contains("file node-"), "{text}");

    page.go_and_look(&site.url("/index.html")).await;

    let link = page.find("link \"Download file\"").await;
    let download = json!({ "action": "download", "ref": link, "path": unique("file") });
    let downloaded = page.ask(download).await.to_string();
    assert!(downloaded.contains("file.bin"), "{downloaded}");
    node.stop().await;
}

#[actix::test]
async fn the_browser_tool_of_may_drives_the_nodes_browser() {
    if !browser::has_chromium() {
        return;
    }
    let gateway = GatewayProcess::shared(Release::May).await;
    let (_home, node, node_id) = node_with_browser(gateway).await;
    let site = browser::site::Site::start().await;

    let page = ToolPage::open(gateway, &node_id, &site.url("/form.html")).await;
    page.fill_in_and_send().await;
    let snapshot = shown(&page.ask(json!({ "action": "snapshot" })).await);
    assert!(snapshot.contains("submitted name=Ann"), "{snapshot}");
    page.go_and_look(&site.url("/index.html")).await;
    node.stop().await;
}
