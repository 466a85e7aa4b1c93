mod common;
use common::*;
use openclaw_node_gateway::*;
use protocol::identity::DeviceIdentity;
use serde_json::json;

#[actix::test]
async fn a_node_pairs_and_answers_an_operator() {
    let gateway = start(GatewayOptions::default()).await;
    let identity = DeviceIdentity::generate().unwrap();
    let mut node = RawNode::admitted(&gateway.url(), &identity).await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.node_id, identity.device_id().as_str());
    let resolved = node.event("node.pair.resolved").await;
    assert_eq!(resolved["decision"], "approved");
    let operator = Operator::connect(&gateway.url(), OperatorAuth::Token(DEFAULT_TOKEN.into())).await.unwrap();
    let call = operator.call("node.invoke", json!({"nodeId": view.node_id, "command": "system.which", "params": {"bins":["ls"]}, "idempotencyKey": "k"}));
    let payload = json!({"bins":{"ls":"/usr/bin/ls"}});
    let (answer, invoke) = tokio::join!(call, node.answer_invoke(&payload));
    println!("{:?} {invoke}", answer);
    assert_eq!(answer.unwrap()["payload"], payload);
    gateway.restart(std::time::Duration::from_millis(50)).await.unwrap();
    println!("{:?}", node.event("shutdown").await);
    println!("{:?}", node.closed().await);
    gateway.stop();
}
