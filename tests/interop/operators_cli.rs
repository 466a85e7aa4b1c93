//! An operator's own `openclaw approvals … --node` reads and edits this node's document.

use std::process::{Output, Stdio};

use gateway::Release;
use serde_json::{Value, json};

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::lab;
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::Operator;
use crate::process::Folder;

on_each_release!(an_operators_command_line_reads_and_edits_the_document);

async fn an_operators_command_line_reads_and_edits_the_document(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let _node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;
    let desk = Desk {
        release,
        operator: &operator,
        url: format!("ws://{}", gateway.address()),
        folder: Folder::new(),
    };

    let fresh = desk.approvals(&["get"], home.name()).await;
    assert_eq!(snapshot(&fresh)["exists"], false, "{fresh}");
    let defaults = &snapshot(&fresh)["file"]["defaults"];
    assert_eq!(defaults["security"], "allowlist", "{fresh}");

    let file = desk.folder.path().join("approvals.json");
    let document = json!({
        "version": 1,
        "defaults": { "security": "allowlist", "ask": "off", "askFallback": "deny" },
        "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/true" }] } },
    });
    std::fs::write(&file, document.to_string()).unwrap();
    let set = ["set", "--file", file.to_str().unwrap()];
    desk.approvals(&set, &node_id).await;
    let stored = operator.approvals(&node_id).await;
    assert_eq!(stored["file"]["defaults"], document["defaults"]);

    let add = ["allowlist", "add", "--agent", "main", "/usr/bin/echo"];
    desk.approvals(&add, home.name()).await;
    let run = json!({ "command": ["echo", "added"], "agentId": "main" });
    let ran = operator.invoke(&node_id, "system.run", run.clone()).await;
    assert_eq!(ran.unwrap()["stdout"], "added\n");

    // The rule that is removed has been used meanwhile.
    let remove = ["allowlist", "remove", "--agent", "main", "/usr/bin/echo"];
    desk.approvals(&remove, &node_id).await;
    let refused = operator.invoke(&node_id, "system.run", run).await;
    let refused = refused.unwrap_err();
    assert!(refused.message.contains("allowlist miss"), "{refused}");
    let left = operator.approvals(&node_id).await;
    let entries = &left["file"]["agents"]["main"]["allowlist"];
    assert_eq!(entries.as_array().unwrap().len(), 1, "{left}");
}

/// What `get` prints of the node, with what the release adds around it.
fn snapshot(printed: &Value) -> &Value {
    let wrapped = &printed["snapshot"];
    if wrapped.is_null() { printed } else { wrapped }
}

/// An operator at a terminal.
struct Desk<'a> {
    release: Release,
    /// Whoever approves what this operator's own device asks for.
    operator: &'a Operator,
    url: String,
    folder: Folder,
}

impl Desk<'_> {
    /// Runs `openclaw approvals` on a node and returns what it prints as JSON. A 2026.5.20 gateway
    /// makes a device wait whenever it first uses a scope.
    async fn approvals(&self, words: &[&str], node: &str) -> Value {
        let mut approved = Vec::new();
        loop {
            let output = self.run(words, node).await;
            let printed = String::from_utf8_lossy(&output.stdout);
            if output.status.success() {
                return serde_json::from_str(&printed)
                    .unwrap_or_else(|error| panic!("{words:?}: {error}: {printed}"));
            }
            let complaint = String::from_utf8_lossy(&output.stderr);
            let request = complaint
                .split_once("scope upgrade pending approval (requestId: ")
                .and_then(|(_, rest)| rest.split_once(')'))
                .map(|(request, _)| request.to_owned())
                .filter(|request| !approved.contains(request));
            let Some(request) = request else {
                panic!("{words:?}: {printed}{complaint}");
            };
            let approve = json!({ "requestId": request });
            self.operator
                .call("device.pair.approve", approve)
                .await
                .unwrap();
            approved.push(request);
        }
    }

    async fn run(&self, words: &[&str], node: &str) -> Output {
        let launcher: [&str; 0] = [];
        let mut command = lab::openclaw(self.release, self.folder.path(), &launcher);
        command
            .arg("approvals")
            .args(words)
            .args(["--node", node, "--json", "--timeout", "60000"])
            .args(["--url", &self.url, "--token", TOKEN])
            .stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap()
    }
}
