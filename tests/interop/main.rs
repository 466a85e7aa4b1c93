//! This node against real OpenClaw gateways, and upstream's node hosts against the loopback
//! gateway. Nothing here is a mock.
//!
//! The releases are installed by `tests/interop/install-openclaw.sh` into the folder that
//! `OPENCLAW_LAB` names, or into `target/openclaw-lab`. Then:
//!
//! ```text
//! cargo test --features interop --test interop -- --test-threads=1
//! ```
//!
//! A gateway takes seconds to start, so one of each release serves every test that changes nothing
//! for the others; each test brings its own node with its own identity. No process outlives this
//! one: see [`process`].

#![cfg(test)]

#[path = "../browser/mod.rs"]
mod browser;
mod gateway_process;
mod lab;
mod namespace;
mod node;
mod operator;
mod plain_side;
mod process;
mod scripted_model;
mod waiting;

mod agent_turns;
mod answers_during_pairing;
mod approved_run;
mod browser_calls;
mod commands;
mod credentials;
mod first_connection;
mod forced_pairing;
mod fresh_policy;
mod gateway_restart;
mod join_code;
mod network_pairing;
mod operators_cli;
mod pinned_gateway;
mod quiet_connection;
mod refused_token;
mod revoked_token;
mod surface_approval;
mod takeover;
mod upstream_node;

/// Makes one test per release of a scenario `async fn(Release)`.
macro_rules! on_each_release {
    ($scenario:ident) => {
        mod $scenario {
            #[actix::test]
            async fn on_2026_5_20() {
                super::$scenario(gateway::Release::May).await;
            }

            #[actix::test]
            async fn on_2026_9_6() {
                super::$scenario(gateway::Release::September).await;
            }
        }
    };
}
use on_each_release;
