//! An agent of a 2026.9.6 gateway uses its exec tool on this node: the node's document decides
//! whether the command runs, is denied, or waits for a human, and what an approval is worth.

use gateway::Release;
use gateway::operator::OperatorEvent;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, Node, NodeHome, Start};
use crate::operator::{Operator, unique};
use crate::scripted_model::{self, ScriptedModel};
use crate::waiting::PATIENCE;

/// An agent, its human and the node.
struct Office {
    operator: Operator,
    node_id: String,
    home: NodeHome,
    _node: Node,
}

impl Office {
    async fn open() -> Self {
        let gateway = GatewayProcess::shared(Release::September).await;
        let operator = gateway.operator().await;
        let home = NodeHome::new(Host::Ours);
        let node = home.start(Start::with_token(gateway.address(), TOKEN));
        let node_id = operator.admit(home.name()).await;
        Self {
            operator,
            node_id,
            home,
            _node: node,
        }
    }

    async fn set(&self, policy: Value) {
        let before = self.operator.approvals(&self.node_id).await;
        let set = self
            .operator
            .set_approvals(&self.node_id, policy, &before["hash"]);
        set.await.unwrap();
    }

    /// A command that no other test uses, and what it prints. For root every file is one that it
    /// may change, and in a shell's command line such a file is bound by its name alone.
    fn command(&self) -> (String, String) {
        let word = unique("said");
        (format!("echo {word}"), word)
    }

    /// Lets the agent take a turn in which it calls its tool with this command.
    async fn say(&self, command: &str) {
        let exec = json!({
            "command": command,
            "host": "node",
            "node": self.node_id,
            "workdir": self.home.path(),
        });
        let send = json!({
            "message": scripted_model::message(&exec),
            "sessionKey": format!("agent:main:{}", unique("session")),
            "idempotencyKey": unique("turn"),
        });
        self.operator.call("chat.send", send).await.unwrap();
    }

    /// Waits until the gateway asks about this node.
    async fn asked(&self, events: &mut Receiver<OperatorEvent>) -> Value {
        let asking = async {
            loop {
                let event = events.recv().await.unwrap();
                if self.is_question(&event) {
                    return event.payload;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("the gateway asks for an approval")
    }

    fn is_question(&self, event: &OperatorEvent) -> bool {
        event.name == "exec.approval.requested"
            && event.payload["request"]["nodeId"] == self.node_id
    }

    /// Fails if the gateway has asked about this node.
    fn assert_not_asked(&self, events: &mut Receiver<OperatorEvent>) {
        loop {
            match events.try_recv() {
                Ok(event) => assert!(!self.is_question(&event), "{:?}", event.payload),
                Err(TryRecvError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn resolve(&self, question: &Value, decision: &str) {
        let resolve = json!({ "id": question["id"], "decision": decision });
        self.operator
            .call("exec.approval.resolve", resolve)
            .await
            .unwrap();
    }
}

#[actix::test]
async fn what_the_document_allows_runs_and_what_it_denies_does_not() {
    let office = Office::open().await;
    let model = ScriptedModel::shared();
    let mut events = office.operator.events();

    office
        .set(json!({ "version": 1, "defaults": { "security": "full", "ask": "off" } }))
        .await;
    let (command, word) = office.command();
    office.say(&command).await;
    let told = model.told(&command, 1).await;
    assert!(told.contains(&word), "{told}");

    office
        .set(json!({ "version": 1, "defaults": { "security": "deny" } }))
        .await;
    let (command, word) = office.command();
    office.say(&command).await;
    let told = model.told(&command, 1).await;
    assert!(told.contains("deny"), "{told}");
    assert!(!told.contains(&word), "{told}");

    // The gateway looks first whether an entry names the command, on its own machine and with an
    // empty PATH: a bare name is then named by nothing but a star.
    office
        .set(json!({
            "version": 1,
            "defaults": { "security": "allowlist", "ask": "off" },
            "agents": { "main": { "allowlist": [{ "pattern": "*" }] } },
        }))
        .await;
    let (command, word) = office.command();
    office.say(&command).await;
    let told = model.told(&command, 1).await;
    assert!(told.contains(&word), "{told}");
    office.assert_not_asked(&mut events);
}

#[actix::test]
async fn an_approval_for_once_is_asked_for_again_and_one_for_always_is_not() {
    let office = Office::open().await;
    let model = ScriptedModel::shared();
    let mut events = office.operator.events();

    let (command, word) = office.command();
    for count in 1..=2 {
        office.say(&command).await;
        let question = office.asked(&mut events).await;
        office.resolve(&question, "allow-once").await;
        let told = model.told(&command, count).await;
        assert!(told.contains(&word), "{told}");
    }

    let (command, word) = office.command();
    office.say(&command).await;
    let question = office.asked(&mut events).await;
    office.resolve(&question, "allow-always").await;
    let told = model.told(&command, 1).await;
    assert!(told.contains(&word), "{told}");
    office.say(&command).await;
    let told = model.told(&command, 2).await;
    assert!(told.contains(&word), "{told}");
    office.assert_not_asked(&mut events);

    // Another argument is another command.
    let (other, _) = office.command();
    office.say(&other).await;
    let question = office.asked(&mut events).await;
    office.resolve(&question, "deny").await;
    let told = model.told(&other, 1).await;
    assert!(told.to_lowercase().contains("denied"), "{told}");
}
