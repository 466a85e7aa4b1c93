//! A node host of upstream's becomes this node: the gateway sees the same device, and nobody has
//! to approve anything.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gateway::Release;
use serde_json::{Value, json};

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::Operator;

on_each_release!(the_gateway_sees_the_same_device_and_nothing_of_the_old_one_changes);

async fn the_gateway_sees_the_same_device_and_nothing_of_the_old_one_changes(release: Release) {
    let gateway = GatewayProcess::shared(release).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Upstream(release));
    let mut upstreams = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;
    let policy = allow_true(&operator, &node_id).await;

    let home = home.taken_over_by(Host::Ours);
    let mut refused = home.start_as_it_is();
    refused.wait_for_end_with("still runs").await;
    assert_eq!(refused.end().await.code(), Some(1));
    assert!(!upstreams.has_ended());
    assert_eq!(
        operator.connected_node(home.name()).await["nodeId"],
        json!(node_id)
    );
    upstreams.stop().await;

    let before = upstreams_files(home.path());
    assert!(!before.is_empty());
    let mut node = home.start_as_it_is();
    node.wait_for_line("took over the node host", 1).await;
    node.wait_for_line("node host gateway connected", 1).await;
    let listed = operator.connected_node(home.name()).await;
    assert_eq!(listed["nodeId"], json!(node_id));
    let which = json!({ "bins": ["true"] });
    let found = operator.invoke(&node_id, "system.which", which).await;
    assert_eq!(found.unwrap()["bins"]["true"], "/usr/bin/true");
    assert_eq!(operator.pending_device(home.name()).await, None);

    // What an operator allowed the old node, and nothing more.
    let approvals = operator.approvals(&node_id).await;
    assert_eq!(approvals["file"]["defaults"], policy["defaults"]);
    let run = async |command: Value| {
        let params = json!({ "command": command });
        operator.invoke(&node_id, "system.run", params).await
    };
    assert_eq!(
        run(json!(["/usr/bin/true"])).await.unwrap()["success"],
        true
    );
    run(json!(["/usr/bin/id"])).await.unwrap_err();

    assert_eq!(node.stop().await.code(), Some(143));
    assert_eq!(upstreams_files(home.path()), before);
}

async fn allow_true(operator: &Operator, node_id: &str) -> Value {
    let before = operator.approvals(node_id).await;
    let policy = json!({
        "version": 1,
        "defaults": { "security": "allowlist", "ask": "off", "askFallback": "deny" },
        "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/true" }] } },
    });
    let set = operator.set_approvals(node_id, policy.clone(), &before["hash"]);
    set.await.unwrap();
    policy
}

/// Every file that upstream's node host left, with what tells whether it was touched.
fn upstreams_files(home: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![home.join("state"), home.join(".openclaw")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            let metadata = path.metadata().unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if metadata.is_dir() {
                folders.push(path);
            } else if !name.starts_with("openclaw-node") {
                let touched = (
                    std::fs::read(&path).unwrap(),
                    metadata.mode(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                );
                found.insert(path, touched);
            }
        }
    }
    found
}
