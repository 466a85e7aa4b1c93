//! Nodes on other machines, of which the gateway pairs some without being asked.

use std::io::{self, Write as _};
use std::net::SocketAddr;

use gateway::Release;
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::namespace::Network;
use crate::node::{Host, NodeHome, Start};

/// Any port is free in a namespace of its own.
const PORT: u16 = 18789;

#[test]
fn only_a_node_in_an_approved_network_pairs_silently_on_2026_5_20() {
    pair_silently(Release::May);
}

#[test]
fn only_a_node_in_an_approved_network_pairs_silently_on_2026_9_6() {
    pair_silently(Release::September);
}

fn pair_silently(release: Release) {
    let network = match Network::new() {
        Ok(network) => network,
        Err(reason) => {
            // Past the harness, which keeps what a passing test prints to itself.
            let _ = writeln!(
                io::stderr(),
                "skipped, network namespaces need root: {reason}"
            );
            return;
        }
    };
    let node_namespace = network.node.clone();
    let gateway_namespace = network.gateway.clone();
    network.on_gateway(move || async move {
        let config = json!({ "gateway": {
            // Every address of a machine that nothing else reaches: the operator is on its loopback.
            "bind": "lan",
            "controlUi": { "enabled": false },
            "nodes": { "pairing": { "autoApproveCidrs": [format!("{}/32", Network::NODE)] } },
        } });
        let launcher = Network::launcher(&gateway_namespace)
            .map(str::to_owned)
            .to_vec();
        let gateway = GatewayProcess::launch(release, config, PORT, launcher);
        let gateway = gateway.wait_until_ready().await;
        let operator = gateway.operator().await;

        let node = |namespace: &str| {
            let home = NodeHome::new(Host::Ours);
            let node = home.start(Start {
                gateway: SocketAddr::from((Network::GATEWAY, PORT)),
                token: Some(TOKEN),
                // Plain ws:// to another machine is refused without it (D16).
                environment: &[("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "1")],
                launcher: &Network::launcher(namespace),
            });
            (home, node)
        };

        let (home, mut approved) = node(&node_namespace);
        approved
            .wait_for_line("node host gateway connected", 1)
            .await;
        assert_eq!(approved.lines("openclaw devices approve"), [""; 0]);
        let device = operator.paired_device(home.name()).await.unwrap();
        assert_eq!(device["remoteIp"], Network::NODE.to_string());
        let node_id = operator.admit(home.name()).await;
        let which = json!({ "bins": ["true"] });
        let found = operator
            .invoke(&node_id, "system.which", which)
            .await
            .unwrap();
        assert_eq!(found["bins"]["true"], "/usr/bin/true");

        // The gateway's own machine reaches that address too, from outside the list.
        let (home, mut other) = node(&gateway_namespace);
        other.wait_for_line("openclaw devices approve", 1).await;
        let pending = operator.pending_device(home.name()).await.unwrap();
        assert_eq!(pending["remoteIp"], Network::GATEWAY.to_string());
    });
}
