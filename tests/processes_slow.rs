//! What a node is left with after a great deal of work. Ignored by default, because it takes
//! minutes: `cargo test --release --test processes_slow -- --ignored --test-threads=1`.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::fs;

use common::home::Home;
use common::invoke::{outcome, params, send};
use common::node::Node;
use common::{DEADLINE, gateway_with, until};
use gateway::{GatewayHandle, GatewayOptions, NodeView};
use nix::unistd::Pid;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

async fn small_gateway() -> GatewayHandle {
    gateway_with(GatewayOptions {
        journal_limit: 256,
        ..GatewayOptions::default()
    })
    .await
}

async fn trusting_node(gateway: &GatewayHandle) -> (Home, Node, NodeView) {
    let home = Home::new();
    home.allow_everything();
    let node = home
        .run(gateway.port())
        .env(
            "OPENCLAW_NODE_LOG",
            "info,openclaw_node_actors::supervisor=debug",
        )
        .start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    // Measured before that, the code of the start would hide what grows.
    node.line("let go of code").await;
    (home, node, view)
}

async fn run(gateway: &GatewayHandle, view: &NodeView, argv: &Value) -> Value {
    let run = params(&json!({ "command": argv }));
    let id = send(gateway, view, "system.run", run).await;
    loop {
        // A run may take longer than anything else that is waited for here.
        let wanted = id.clone();
        let answered = gateway.wait_for(DEADLINE, move |snapshot| {
            let mut results = snapshot.results().rev();
            results
                .find(|result| result["id"] == wanted.as_str())
                .map(drop)
        });
        if answered.await.is_ok() {
            return outcome(gateway, &id).await.payload();
        }
    }
}

/// The memory of a process that it shares with nobody, and its part of what it shares, in bytes.
fn proportional_memory(pid: Pid) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn children(parent: Pid) -> usize {
    let parent = parent.to_string();
    let listed = fs::read_dir("/proc").unwrap();
    let parents = listed.filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        fields.split(' ').nth(1).map(str::to_owned)
    });
    parents.filter(|of| *of == parent).count()
}

#[tokio::test]
#[ignore = "reads 10 GiB"]
async fn output_without_end_takes_no_memory() {
    let gateway = small_gateway().await;
    let (_home, node, view) = trusting_node(&gateway).await;
    // Whatever is only needed once is there after the first run.
    run(
        &gateway,
        &view,
        &json!(["/usr/bin/head", "-c", "4194304", "/dev/zero"]),
    )
    .await;
    let before = proportional_memory(node.pid());
    let bytes = 10_u64 << 30;
    let flood = json!(["/usr/bin/head", "-c", bytes.to_string(), "/dev/zero"]);
    let flood = run(&gateway, &view, &flood);
    tokio::pin!(flood);
    let mut peak = before;
    let payload = loop {
        tokio::select! {
            payload = &mut flood => break payload,
            () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {
                peak = peak.max(proportional_memory(node.pid()));
            }
        }
    };
    assert_eq!(payload["stdoutBytes"], bytes);
    let grown = peak
        .max(proportional_memory(node.pid()))
        .saturating_sub(before);
    println!("10 GiB of output: grown by {} KiB", grown / 1024);
    assert!(grown <= 4 * MIB, "grown by {grown} bytes");
}

#[tokio::test]
#[ignore = "runs 10 000 commands"]
async fn ten_thousand_runs_leave_nothing_behind() {
    const AT_A_TIME: usize = 20;
    let gateway = small_gateway().await;
    let (_home, node, view) = trusting_node(&gateway).await;
    let argv = json!(["/bin/true"]);
    let batch = || async {
        let runs = (0..AT_A_TIME).map(|_| run(&gateway, &view, &argv));
        for payload in futures_util::future::join_all(runs).await {
            assert_eq!(payload["success"], true, "{payload}");
        }
    };
    for _ in 0..10 {
        batch().await;
    }
    let memory = proportional_memory(node.pid());
    let open = descriptors(node.pid());
    for _ in 0..10_000 / AT_A_TIME {
        batch().await;
    }
    until("no child is left", || {
        (children(node.pid()) == 0).then_some(())
    })
    .await;
    assert!(descriptors(node.pid()) <= open);
    // The last of them are still being written down.
    let grown = until("what the runs took is given back", || {
        let grown = proportional_memory(node.pid()).saturating_sub(memory);
        (grown <= MIB).then_some(grown)
    })
    .await;
    println!("10 000 runs: grown by {} KiB", grown / 1024);
}
