//! A connection over which nothing is asked for minutes.

use std::time::Duration;

use gateway::Release;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};

/// Longer than the 60 s after which either side gives a silent peer up, and than the 50 s after
/// which a gateway gives up one that does not answer pings (wire protocol §12).
const QUIET: Duration = Duration::from_secs(75);

/// Both releases in one test: the wait is long, and nothing has to be done meanwhile.
#[actix::test]
async fn a_quiet_connection_lives_on() {
    let connections = [start(Release::May).await, start(Release::September).await];
    tokio::time::sleep(QUIET).await;
    for (home, mut node, gateway, connected_at) in connections {
        let operator = gateway.operator().await;
        let listed = operator.connected_node(home.name()).await;
        assert_eq!(listed["connectedAtMs"], connected_at);
        assert_eq!(node.lines("node host gateway closed"), [""; 0]);
        assert!(!node.has_ended());
    }
}

async fn start(
    release: Release,
) -> (
    NodeHome,
    crate::node::Node,
    &'static GatewayProcess,
    serde_json::Value,
) {
    let gateway = GatewayProcess::shared(release).await;
    let home = NodeHome::new(Host::Ours);
    let node = home.start(Start::with_token(gateway.address(), TOKEN));
    let listed = gateway.operator().await.connected_node(home.name()).await;
    let connected_at = listed["connectedAtMs"].clone();
    (home, node, gateway, connected_at)
}
