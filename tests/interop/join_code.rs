//! A join code of a 2026.9.6 gateway lets a node in that knows no secret, and nobody has to
//! approve anything.

use gateway::Release;
use serde_json::json;

use crate::gateway_process::GatewayProcess;
use crate::node::{Host, NodeHome};

#[actix::test]
async fn a_join_code_or_url_lets_a_node_in_that_knows_no_secret() {
    let config = json!({ "gateway": { "nodes": { "pairing": { "autoApproveLocal": false } } } });
    let gateway = GatewayProcess::start(Release::September, config).await;
    let operator = gateway.operator().await;
    let mint = json!({
        "bootstrapProfile": "node",
        "includeQr": false,
        "joinUrl": true,
        "publicUrl": format!("ws://{}", gateway.address()),
    });
    for member in ["setupCode", "joinUrl"] {
        let minted = operator.call("device.pair.setupCode", mint.clone());
        let minted = minted.await.unwrap();
        let code = minted[member].as_str().unwrap();
        let home = NodeHome::new(Host::Ours);
        let arguments = ["run", "--pair", code, "--display-name", home.name()];
        let mut node = home.start_with(&arguments, &[]);
        let connected = format!("node host gateway connected: ws://{}", gateway.address());
        node.wait_for_line(&connected, 1).await;
        assert_eq!(operator.pending_device(home.name()).await, None);
        // The code was made for a node: its commands need no approval either.
        let listed = operator.connected_node(home.name()).await;
        let node_id = listed["nodeId"].as_str().unwrap();
        let which = json!({ "bins": ["true"] });
        let found = operator.invoke(node_id, "system.which", which).await;
        assert_eq!(found.unwrap()["bins"]["true"], "/usr/bin/true");
        assert_eq!(node.stop().await.code(), Some(143));

        let mut node = home.start_with(&["run"], &[]);
        node.wait_for_line(&connected, 1).await;
        let again = operator.connected_node(home.name()).await;
        assert_eq!(again["nodeId"], listed["nodeId"]);
    }
}
