//! `approvals explain`: what it says of a command is what becomes of the command.

#![cfg(test)]

mod common;

use std::fs;
use std::process::Output;

use common::home::Home;
use common::invoke::call;
use common::{DEADLINE, gateway};
use serde_json::{Value, json};

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn store(home: &Home, document: &Value) {
    let set = home.program(["approvals", "set", "--stdin"]);
    let output = set.output_given(&document.to_string()).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

/// The arguments of `explain` that ask about these parameters of a `system.run`.
fn question(params: &Value) -> Vec<String> {
    let mut words = vec![
        "approvals".to_owned(),
        "explain".to_owned(),
        "--json".to_owned(),
    ];
    for (member, option) in [
        ("agentId", "--agent"),
        ("cwd", "--cwd"),
        ("rawCommand", "--raw"),
    ] {
        if let Some(value) = params[member].as_str() {
            words.extend([option.to_owned(), value.to_owned()]);
        }
    }
    words.push("--".to_owned());
    let command = params["command"].as_array().unwrap().iter();
    words.extend(command.map(|word| word.as_str().unwrap().to_owned()));
    words
}

async fn explained(home: &Home, params: &Value) -> (i32, Value) {
    let output = home.program(question(params)).output().await;
    let answer = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|_| panic!("{params}: {} {}", stdout(&output), stderr(&output)));
    (code(&output), answer)
}

#[tokio::test]
async fn what_is_explained_is_what_the_running_node_does() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let script = home.path().join("script.sh");
    fs::write(&script, "echo from a script\n").unwrap();
    let folder = home.path().to_str().unwrap();
    let script = script.to_str().unwrap();
    let shell = |text: &str| json!({ "command": ["/bin/sh", "-lc", text], "rawCommand": text });
    let commands = [
        json!({ "command": ["echo", "a b"] }),
        json!({ "command": ["/bin/echo", "a"] }),
        json!({ "command": ["/usr/bin/echo", "a"], "cwd": folder }),
        json!({ "command": ["ls"], "cwd": "/nonexistent" }),
        json!({ "command": ["ls"], "agentId": "ops" }),
        json!({ "command": ["surely-no-such-program"] }),
        json!({ "command": ["timeout", "5", "echo", "a"] }),
        json!({ "command": ["sudo", "echo", "a"] }),
        json!({ "command": ["sh", script] }),
        json!({ "command": ["/bin/sh", "-c", "echo a"], "rawCommand": "something else" }),
        json!({ "command": ["env", "LD_PRELOAD=x", "echo"] }),
        json!({ "command": ["bash", "-ic", "echo a"] }),
        json!({ "command": ["python3", "-c", "print(1)"] }),
        shell("echo a; pwd | head -5"),
        shell("echo a > /dev/null 2>&1 && true"),
        shell("echo $(id)"),
        shell("head -5 /etc/passwd"),
        shell("echo a && surely-no-such-program"),
    ];
    let documents = [
        json!({}),
        json!({ "defaults": { "security": "deny" } }),
        json!({ "defaults": { "security": "full", "ask": "off" } }),
        json!({ "defaults": { "security": "full", "ask": "always" } }),
        json!({ "defaults": { "security": "allowlist", "ask": "off" },
            "agents": { "*": { "allowlist": ["echo"] }, "ops": { "allowlist": ["/usr/bin/*"] } } }),
        json!({ "agents": { "main": { "allowlist": ["*"] } } }),
    ];
    let mut seen = [0; 3];
    for document in &documents {
        store(&home, document).await;
        for params in &commands {
            let (code, explanation) = explained(&home, params).await;
            let ran = call(&gateway, &view, "system.run", params).await;
            let what = format!("{params} under {document}: {explanation}, but {ran:?}");
            match explanation["decision"].as_str().unwrap() {
                "allow" => {
                    seen[0] += 1;
                    assert_eq!(code, 0, "{what}");
                    assert!(ran.is_ok(), "{what}");
                    assert_eq!(explanation["message"], Value::Null, "{what}");
                }
                "ask" => {
                    seen[1] += 1;
                    assert_eq!(code, 3, "{what}");
                    assert_eq!(ran.error().0, "SYSTEM_RUN_DENIED", "{what}");
                    assert_eq!(explanation["message"], ran.error().1, "{what}");
                    assert_eq!(explanation["reason"], "approval-required", "{what}");
                }
                "deny" => {
                    seen[2] += 1;
                    assert_eq!(code, 4, "{what}");
                    assert!(!ran.is_ok(), "{what}");
                    // Of what no approval could help the node says only that one is missing.
                    if explanation["reason"] != "approval-required" {
                        assert_eq!(explanation["message"], ran.error().1, "{what}");
                    }
                }
                other => panic!("{other}: {what}"),
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}

#[tokio::test]
async fn every_part_of_a_policy_says_where_it_came_from() {
    let home = Home::new();
    home.configure(&json!({ "tools": { "exec": { "security": "allowlist" } } }));
    store(
        &home,
        &json!({
            "defaults": { "security": "full", "askFallback": "full" },
            "agents": { "ops": { "ask": "always" }, "*": { "autoAllowSkills": true } },
        }),
    )
    .await;
    let params = json!({ "command": ["ls"], "agentId": "ops" });
    let (code, explanation) = explained(&home, &params).await;
    assert_eq!(code, 3);
    assert_eq!(
        explanation["policy"],
        json!({
            "security": "allowlist", "ask": "always", "askFallback": "full", "autoAllowSkills": true,
            "strictInlineEval": false,
            "sources": {
                "security": "config", "ask": "document-agent", "askFallback": "document-defaults",
                "autoAllowSkills": "document-wildcard",
            },
        })
    );
    assert_eq!(explanation["agent"], "ops");
    let why = explanation["segments"][0]["why"].as_str().unwrap();
    assert!(why.contains("skill, which only the gateway knows"), "{why}");
}

#[tokio::test]
async fn every_segment_has_its_executable_and_its_rule_or_why_there_is_none() {
    let home = Home::new();
    store(
        &home,
        &json!({ "agents": {
            "*": { "allowlist": ["echo"] },
            "main": { "allowlist": [{ "pattern": "/usr/bin/ls", "argPattern": "^-l$" }, "/bin/cat"] },
        } }),
    )
    .await;
    let text =
        "echo a | wc -l && timeout 5 ls -l; ls -a; cat x; true; head /etc/passwd; nosuchtool";
    let ask = home.program(["approvals", "explain", "--json", "--raw", text]);
    let output = ask.output().await;
    assert_eq!(code(&output), 4, "{}", stderr(&output));
    let explanation: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let segments = explanation["segments"].as_array().unwrap();
    let rules: Vec<&Value> = segments.iter().map(|segment| &segment["rule"]).collect();
    let entry = |agent: &str, pattern: &str, arguments: Value| json!({ "kind": "entry", "agent": agent, "pattern": pattern, "argPattern": arguments });
    assert_eq!(
        rules,
        [
            &entry("*", "echo", Value::Null),
            &json!({ "kind": "safe-bin" }),
            &entry("main", "/usr/bin/ls", json!("^-l$")),
            &Value::Null,
            &Value::Null,
            &json!({ "kind": "builtin" }),
            &Value::Null,
            &Value::Null,
        ]
    );
    assert_eq!(segments[2]["argv"], json!(["timeout", "5", "ls", "-l"]));
    assert_eq!(segments[2]["resolved"], "/usr/bin/ls");
    assert_eq!(segments[7]["resolved"], Value::Null);
    let whys = [
        (
            3,
            "the entry /usr/bin/ls names it, but its argPattern does not match these arguments",
        ),
        (4, "no entry names /usr/bin/cat"),
        (6, "it is a safe bin, but not with these arguments"),
        (7, "nosuchtool is not found"),
    ];
    for (index, words) in whys {
        let why = segments[index]["why"].as_str().unwrap();
        assert!(why.contains(words), "{why}");
    }

    let human = home
        .program(["approvals", "explain", "--raw", text])
        .output()
        .await;
    let shown = stdout(&human);
    for line in [
        "  security        allowlist default, as nothing gives a value",
        "segment 3    timeout 5 ls -l",
        "  executable /usr/bin/ls",
        "  rule       entry /usr/bin/ls with arguments ^-l$ of agent main",
        "outcome      denied, and no approval would help: approval-required: SYSTEM_RUN_DENIED: approval \
         cannot safely bind this interpreter/runtime command",
    ] {
        assert!(
            shown.lines().any(|shown| shown.starts_with(line)),
            "{line}\n{shown}"
        );
    }
    assert_eq!(code(&human), 4);

    let hint = shown.contains("for root every file is one that it may change");
    assert_eq!(hint, nix::unistd::geteuid().is_root(), "{shown}");

    let one = home.program(["approvals", "explain", "--", "cat", "x"]);
    let one = one.output().await;
    assert_eq!(code(&one), 3);
    let outcome = "outcome      a human would be asked, and it would run once approved: \
        approval-required: SYSTEM_RUN_DENIED: approval required\n";
    assert!(stdout(&one).ends_with(outcome), "{}", stdout(&one));
}

#[tokio::test]
async fn nothing_is_run_or_made_and_nothing_printed_commands_a_terminal() {
    let home = Home::new();
    let trace = home.path().join("trace");
    let explain = home.program(["approvals", "explain", "--", "touch"]);
    let output = explain.arg(&trace).arg("\u{1b}[2J").output().await;
    assert_eq!(code(&output), 3);
    assert!(!stdout(&output).contains('\u{1b}'), "{}", stdout(&output));
    assert!(!trace.exists());
    assert!(!home.state_dir().exists());
    let without = home.program(["approvals", "explain"]).output().await;
    assert_eq!(code(&without), 1);
    assert!(
        stderr(&without).contains("<CMD>..."),
        "{}",
        stderr(&without)
    );
}
