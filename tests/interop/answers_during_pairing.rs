//! A gateway refuses whatever a node sends while it writes down that another node was paired, and
//! says that it may be sent again. An answer that is lost then leaves its caller waiting.

use std::cell::Cell;

use gateway::Release;
use serde_json::json;

use crate::gateway_process::{GatewayProcess, TOKEN};
use crate::node::{Host, NodeHome, Start};

/// How many nodes pair meanwhile: nearly every pairing meets some answer.
const OTHERS: usize = 6;

/// 2026.9.6 only: 2026.5.20 takes answers at any time.
#[actix::test]
async fn no_answer_is_lost_while_other_nodes_are_paired() {
    let gateway = GatewayProcess::shared(Release::September).await;
    let operator = gateway.operator().await;
    let home = NodeHome::new(Host::Ours);
    let _node = home.start(Start::with_token(gateway.address(), TOKEN));
    let node_id = operator.admit(home.name()).await;

    let all_paired = Cell::new(false);
    let pair_others = async {
        for _ in 0..OTHERS {
            let home = NodeHome::new(Host::Ours);
            let _node = home.start(Start::with_token(gateway.address(), TOKEN));
            operator.admit(home.name()).await;
        }
        all_paired.set(true);
    };
    let ask = async {
        while !all_paired.get() {
            let which = json!({ "bins": ["true"] });
            let found = operator
                .invoke(&node_id, "system.which", which)
                .await
                .unwrap();
            assert_eq!(found, json!({ "bins": { "true": "/usr/bin/true" } }));
        }
    };
    tokio::join!(pair_others, ask);
}
