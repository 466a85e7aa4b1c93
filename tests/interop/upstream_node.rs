//! Upstream's node hosts on the loopback gateway: what it imitates is what they expect.

use gateway::{DEFAULT_TOKEN, Gateway, GatewayOptions, Release};

use crate::commands::command_round;
use crate::node::{Host, NodeHome, Start};
use crate::on_each_release;
use crate::operator::Operator;

on_each_release!(upstreams_node_host_pairs_with_the_loopback_gateway_and_runs_commands);

async fn upstreams_node_host_pairs_with_the_loopback_gateway_and_runs_commands(release: Release) {
    let options = GatewayOptions {
        release,
        ..GatewayOptions::default()
    };
    let gateway = Gateway::start(options).await.unwrap();
    let operator = Operator::connect(&gateway.url(), DEFAULT_TOKEN)
        .await
        .unwrap();
    let home = NodeHome::new(Host::Upstream(release));
    let _node = home.start(Start::with_token(gateway.address(), DEFAULT_TOKEN));
    let node_id = operator.admit(home.name()).await;
    command_round(&operator, &node_id, &home).await;
    gateway.stop();
}
