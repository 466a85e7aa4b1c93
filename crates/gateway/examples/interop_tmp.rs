#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]
use openclaw_node_gateway::*;
use serde_json::{Value, json};
use std::time::Duration;
#[actix::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let release = if args[1] == "may" {
        Release::May
    } else {
        Release::September
    };
    let node_version = &args[2];
    let local = args.get(3).is_none_or(|a| a != "gate");
    let gateway = Gateway::start(GatewayOptions {
        release,
        pairing: PairingPolicy {
            auto_approve_local: local,
            ..Default::default()
        },
        timing: Timing {
            ping_interval: Duration::from_secs(3),
            tick_interval: Duration::from_secs(4),
            ..Default::default()
        },
        skill_bins: vec!["skilltool".into()],
        ..Default::default()
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("state")).unwrap();
    std::fs::write(
        dir.path().join("state/openclaw.json"),
        json!({"tools":{"exec":{"security":"full","ask":"off"}}}).to_string(),
    )
    .unwrap();
    let log =
        std::fs::File::create(format!("/tmp/gwlab/node-{}-{}.log", args[1], node_version)).unwrap();
    let spawn = |log: &std::fs::File| {
        std::process::Command::new("/tmp/oc/n26/node_modules/node/bin/node")
            .args([
                &format!("/tmp/oc/v{node_version}/node_modules/openclaw/openclaw.mjs"),
                "node",
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &gateway.port().to_string(),
                "--display-name",
                "ts",
            ])
            .env("OPENCLAW_STATE_DIR", dir.path().join("state"))
            .env(
                "OPENCLAW_CONFIG_PATH",
                dir.path().join("state/openclaw.json"),
            )
            .env("HOME", dir.path())
            .env("OPENCLAW_NO_AUTO_UPDATE", "1")
            .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
            .stdout(log.try_clone().unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .unwrap()
    };
    let mut child = spawn(&log);
    if !local {
        let id = gateway
            .wait_for(Duration::from_secs(60), |s| {
                s.pending_devices().first().cloned()
            })
            .await
            .unwrap();
        println!("pending {id}");
        gateway
            .call("device.pair.approve", json!({"requestId": id}))
            .await
            .unwrap();
        let _ = child.kill();
        let _ = child.wait();
        child = spawn(&log);
    }
    let node = gateway.admit(Duration::from_secs(60)).await.unwrap();
    println!("admitted {node:?}");
    let op = Operator::connect(&gateway.url(), OperatorAuth::Token(DEFAULT_TOKEN.into()))
        .await
        .unwrap();
    let nid = node.node_id.clone();
    let inv = async |command: &str, params: Value, t: Option<u64>| {
        let mut p = json!({"nodeId": nid, "command": command, "params": params, "idempotencyKey": format!("{command}{t:?}")});
        if let Some(t) = t {
            p["timeoutMs"] = t.into();
        }
        op.call("node.invoke", p).await
    };
    println!(
        "which {:?}",
        inv("system.which", json!({"bins":["ls","nosuch"]}), None).await
    );
    println!("which bad {:?}", inv("system.which", json!({}), None).await);
    println!(
        "run {:?}",
        inv(
            "system.run",
            json!({"command":["/bin/echo","hi"],"cwd":"/tmp","sessionKey":"agent:main:main"}),
            None
        )
        .await
    );
    println!(
        "sleep {:?}",
        inv(
            "system.run",
            json!({"command":["/bin/sleep","5"],"cwd":"/tmp"}),
            Some(700)
        )
        .await
    );
    let prep = inv("system.run.prepare", json!({"command":["/bin/echo","hi"],"rawCommand":"/bin/echo hi","cwd":"/tmp","agentId":"main","sessionKey":"agent:main:main"}), None).await.unwrap();
    let plan = prep["payload"]["plan"].clone();
    println!("plan {plan}");
    println!("req {:?}", op.call("exec.approval.request", json!({"id":"a1","command":plan["commandText"],"commandArgv":plan["argv"],"systemRunPlan":plan,"cwd":plan["cwd"],"nodeId":nid,"host":"node","security":"allowlist","ask":"on-miss","agentId":"main","sessionKey":"agent:main:main","timeoutMs":60000,"twoPhase":true})).await);
    println!(
        "res {:?}",
        op.call(
            "exec.approval.resolve",
            json!({"id":"a1","decision":"allow-once"})
        )
        .await
    );
    println!("approved run {:?}", inv("system.run", json!({"command":["/bin/echo","EDITED"],"systemRunPlan":plan,"cwd":"/tmp","agentId":"main","sessionKey":"agent:main:main","approved":true,"approvalDecision":"allow-once","runId":"a1"}), None).await);
    println!(
        "again {:?}",
        inv(
            "system.run",
            json!({"command":plan["argv"],"approved":true,"runId":"a1"}),
            None
        )
        .await
    );
    println!(
        "approvals get {:?}",
        op.call("exec.approvals.node.get", json!({"nodeId":nid}))
            .await
    );
    println!(
        "set {:?}",
        op.call(
            "exec.approvals.node.set",
            json!({"nodeId":nid,"file":{"version":1,"agents":{}},"baseHash":"zz"})
        )
        .await
    );
    println!("list {}", op.call("node.list", json!({})).await.unwrap());
    let evs = gateway
        .inspect(|s| {
            s.requests("node.event")
                .map(|(_, p)| p.clone())
                .collect::<Vec<_>>()
        })
        .await
        .unwrap();
    for e in evs {
        println!(
            "event {}",
            e.to_string().chars().take(200).collect::<String>()
        );
    }
    gateway
        .wait_for(Duration::from_secs(20), |s| {
            s.records()
                .any(|r| matches!(r.what, Recorded::Pong))
                .then_some(())
        })
        .await
        .unwrap();
    gateway.restart(Duration::from_millis(1500)).await.unwrap();
    let before = gateway.inspect(|s| s.admissions(Role::Node)).await.unwrap();
    gateway
        .wait_for(Duration::from_secs(40), move |s| {
            (s.admissions(Role::Node) > before).then_some(())
        })
        .await
        .unwrap();
    println!(
        "back after restart; auth {:?}",
        gateway
            .inspect(|s| s.connects().last().map(|c| c["auth"].clone()))
            .await
            .unwrap()
    );
    let node = gateway.admit(Duration::from_secs(10)).await.unwrap();
    println!("{:?}", gateway.call("node.invoke", json!({"nodeId":node.node_id,"command":"system.which","params":{"bins":["ls"]},"idempotencyKey":"z"})).await);
    // token revoke
    println!(
        "{:?}",
        gateway
            .call(
                "device.token.revoke",
                json!({"deviceId":node.node_id,"role":"node"})
            )
            .await
    );
    let refused = gateway
        .wait_for(Duration::from_secs(30), |s| s.refusals().last().cloned())
        .await;
    println!("after revoke: {refused:?}");
    let _ = child.kill();
    println!("exit {:?}", child.wait());
    let all = gateway
        .inspect(|s| {
            s.records()
                .map(|r| match &r.what {
                    Recorded::Request { method, .. } => method.clone(),
                    o => format!("{o:?}").chars().take(60).collect(),
                })
                .collect::<Vec<_>>()
        })
        .await
        .unwrap();
    println!("{all:?}");
    gateway.stop();
}
