//! What upstream's node answered to `browser.proxy`, asked of this one: a real Chromium, a site on
//! loopback, and the gateway of this project. tests/interop asks through a real gateway.
//!
//! `BROWSER_CASES=45-60 cargo test --test browser_recorded` compares only these; all are asked,
//! because each depends on those before it.

#![cfg(test)]

mod browser;
mod common;

use browser::replay::{Recorded, Replay, outcome, recorded};
use common::home::Home;
use common::{CONNECTED, DEADLINE};
use gateway::{CallError, GatewayHandle, NodeView};
use serde_json::{Value, json};

/// Refusals of a real gateway, before the node is asked.
const REFUSED_BY_GATEWAY: [u64; 6] = [217, 218, 219, 245, 248, 260];
/// The call that waits for what the next one causes.
const ASKED_TOGETHER: u64 = 197;

async fn ask(gateway: &GatewayHandle, node: &NodeView, case: &Recorded, params: Value) -> Value {
    let invoke = case.invoke(&node.node_id, params);
    outcome(match gateway.call("node.invoke", invoke).await {
        Ok(mut answer) => Ok(answer["payload"].take()),
        Err(CallError::Refused(error)) => Err((error.code, error.message, error.details)),
        Err(CallError::Stopped) => panic!("the gateway has stopped"),
    })
}

#[tokio::test]
async fn every_recorded_call_is_answered_as_recorded() {
    if !browser::has_chromium() {
        return;
    }
    let only = std::env::var("BROWSER_CASES").unwrap_or_default();
    let (first, last) = only.split_once('-').unwrap_or(("0", "1000000"));
    let compared = first.parse::<u64>().unwrap()..=last.parse::<u64>().unwrap();
    let gateway = common::gateway().await;
    let home = Home::new();
    let gateway_port = browser::free_gateway_port();
    let base = browser::config(gateway_port);
    let mut replay = Replay::start(&home.state_dir(), browser::cdp_port(gateway_port)).await;
    let mut running: Option<(Value, common::node::Node, NodeView)> = None;
    let mut cases = recorded().into_iter();
    while let Some(case) = cases.next() {
        if case.number > *compared.end() {
            break;
        }
        if REFUSED_BY_GATEWAY.contains(&case.number) {
            continue;
        }
        let config = case.config(&base);
        if running.as_ref().is_none_or(|(known, ..)| *known != config) {
            let mut before = None;
            if let Some((_, node, view)) = running.take() {
                node.stop().await;
                common::offline(&gateway).await;
                before = Some(view.connection);
            }
            home.configure(&config);
            replay.forget_tabs();
            let node = home.run(gateway.port()).start();
            let view = match before {
                Some(before) => common::back_after(&gateway, before).await,
                None => gateway.admit(DEADLINE).await.unwrap(),
            };
            node.line(CONNECTED).await;
            if case.number == 1 {
                // The recording began with a browser that had shown a page.
                let params = json!({
                    "method": "POST", "path": "/tabs/open", "body": {"url": "about:blank"},
                });
                ask(&gateway, &view, &case, params).await;
            }
            running = Some((config, node, view));
        }
        let (_, _, view) = running.as_ref().unwrap();
        let params = replay.params(&case);
        let here = if case.number == ASKED_TOGETHER {
            let next = cases.next().unwrap();
            let next_params = replay.params(&next);
            // Asked in this order, they stay in it: gateway and node take one after the other.
            let (here, after) = tokio::join!(
                biased;
                ask(&gateway, view, &case, params),
                ask(&gateway, view, &next, next_params),
            );
            replay.check(&next, &after);
            here
        } else {
            ask(&gateway, view, &case, params).await
        };
        let before = replay.failures.len();
        replay.check(&case, &here);
        if !compared.contains(&case.number) {
            replay.failures.truncate(before);
        }
    }
    if let Some((_, node, _)) = running {
        node.stop().await;
    }
    let failures = &replay.failures;
    for failure in failures {
        println!("{failure}");
    }
    assert!(failures.is_empty(), "{} calls differ", failures.len());
}
