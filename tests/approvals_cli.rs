//! `approvals get`, `set`, `allowlist` and `preset`: what an operator changes on this machine is
//! what counts, in a running node too, from the next decision on.

#![cfg(test)]

mod common;

use std::fs;
use std::process::Output;
use std::time::Duration;

use common::home::Home;
use common::invoke::{Outcome, call};
use common::{DEADLINE, gateway};
use gateway::{GatewayHandle, NodeView};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Long enough for the node to write twice which rules were used (D11: every 2 s).
const TWO_BATCHES: Duration = Duration::from_secs(5);

/// How often two sides edit at the same time.
const ROUNDS: usize = 30;

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn approvals(home: &Home, words: &[&str]) -> Output {
    home.program(["approvals"].iter().chain(words))
        .output()
        .await
}

/// What a command prints that must succeed.
async fn done(home: &Home, words: &[&str]) -> String {
    let output = approvals(home, words).await;
    assert_eq!(code(&output), 0, "{words:?}: {}", stderr(&output));
    stdout(&output)
}

async fn get(home: &Home) -> Value {
    serde_json::from_str(&done(home, &["get", "--json"]).await).unwrap()
}

async fn set(home: &Home, document: &str) -> Output {
    let set = home.program(["approvals", "set", "--stdin"]);
    set.output_given(document).await
}

async fn run(gateway: &GatewayHandle, node: &NodeView, command: Value) -> Outcome {
    call(gateway, node, "system.run", &json!({ "command": command })).await
}

#[tokio::test]
async fn a_running_node_decides_by_what_was_just_changed() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let echo = || json!(["echo", "x"]);
    let end = Instant::now() + TWO_BATCHES;
    let mut rounds = 0;
    // The uses of rules that the node itself writes meanwhile must neither undo nor refuse an edit.
    while rounds < 3 || Instant::now() < end {
        rounds += 1;
        let refused = run(&gateway, &view, echo()).await;
        assert_eq!(refused.error().1, "SYSTEM_RUN_DENIED: approval required");
        done(&home, &["allowlist", "add", "echo", "--agent", "main"]).await;
        assert!(run(&gateway, &view, echo()).await.is_ok());
        done(&home, &["preset", "deny"]).await;
        let denied = run(&gateway, &view, echo()).await;
        assert_eq!(denied.error().1, "SYSTEM_RUN_DISABLED: security=deny");
        done(&home, &["preset", "yolo"]).await;
        assert!(run(&gateway, &view, json!(["true"])).await.is_ok());
        done(&home, &["preset", "strict"]).await;
        assert!(run(&gateway, &view, echo()).await.is_ok());
        done(&home, &["allowlist", "remove", "echo", "--agent", "main"]).await;
    }
}

#[tokio::test]
async fn an_approval_given_under_another_policy_does_not_count() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let params = json!({ "command": ["echo", "x"], "cwd": home.path(), "agentId": "main" });
    let prepared = call(&gateway, &view, "system.run.prepare", &params).await;
    let plan = prepared.payload()["plan"].clone();
    let approved = json!({
        "command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"],
        "agentId": plan["agentId"], "systemRunPlan": plan, "approvalDecision": "allow-once",
    });
    done(&home, &["preset", "deny"]).await;
    let refused = call(&gateway, &view, "system.run", &approved).await;
    assert_eq!(
        refused.error().1,
        "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again"
    );
}

#[tokio::test]
async fn a_gateway_sees_the_same_document_and_its_edits_need_the_new_hash() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let wire = async || {
        let get = call(&gateway, &view, "system.execApprovals.get", &json!({})).await;
        get.payload()
    };
    let fresh = wire().await;
    assert_eq!(get(&home).await, fresh);
    assert_eq!(fresh["exists"], false);
    let location = format!("{}#exec_approvals_config", home.database().display());
    assert_eq!(fresh["path"], location);

    done(&home, &["allowlist", "add", "rg"]).await;
    let edited = get(&home).await;
    assert_eq!(wire().await, edited);
    let entry = &edited["file"]["agents"]["*"]["allowlist"][0];
    assert_eq!(entry["pattern"], "rg");
    assert!(entry["id"].is_string());

    let stale = json!({ "file": {}, "baseHash": fresh["hash"] });
    let refused = call(&gateway, &view, "system.execApprovals.set", &stale).await;
    assert_eq!(
        refused.error().1,
        "Error: INVALID_REQUEST: exec approvals changed; reload and retry"
    );
    let current = json!({ "file": {}, "baseHash": edited["hash"] });
    let replaced = call(&gateway, &view, "system.execApprovals.set", &current).await;
    assert_eq!(get(&home).await, replaced.payload());
}

#[tokio::test]
async fn a_row_that_became_unreadable_denies_everything_and_is_not_overwritten() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    done(&home, &["allowlist", "add", "echo"]).await;
    // A use of the rule waits to be written when the row changes.
    assert!(run(&gateway, &view, json!(["echo"])).await.is_ok());
    let broken = "{ broken";
    let database = Connection::open(home.database()).unwrap();
    database
        .execute("UPDATE exec_approvals_config SET raw_json = ?1", [broken])
        .unwrap();
    let end = Instant::now() + TWO_BATCHES;
    while Instant::now() < end {
        let denied = run(&gateway, &view, json!(["echo"])).await;
        assert_eq!(denied.error().1, "SYSTEM_RUN_DISABLED: security=deny");
    }
    let kept: String = database
        .query_row("SELECT raw_json FROM exec_approvals_config", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(kept, broken);
    let edit = approvals(&home, &["allowlist", "add", "ls"]).await;
    assert_eq!(code(&edit), 1);
    assert!(stderr(&edit).contains("approvals set"), "{}", stderr(&edit));
    let shown = done(&home, &["get"]).await;
    assert!(shown.contains("unreadable, so nothing may run"), "{shown}");
    let mended = set(&home, "{agents: {'*': {allowlist: ['echo']}}}").await;
    assert_eq!(code(&mended), 0, "{}", stderr(&mended));
    assert!(run(&gateway, &view, json!(["echo"])).await.is_ok());
}

#[tokio::test]
async fn while_the_store_cannot_be_read_nothing_runs_and_then_everything_is_as_before() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    done(&home, &["allowlist", "add", "echo"]).await;
    assert!(run(&gateway, &view, json!(["echo"])).await.is_ok());
    let before = get(&home).await;
    let database = Connection::open(home.database()).unwrap();
    let rename = |from: &str, to: &str| {
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        database.execute(&rename, []).unwrap();
    };
    rename("exec_approvals_config", "away");
    for _ in 0..2 {
        let denied = run(&gateway, &view, json!(["echo"])).await;
        assert_eq!(denied.error().1, "SYSTEM_RUN_DISABLED: security=deny");
    }
    rename("away", "exec_approvals_config");
    assert!(run(&gateway, &view, json!(["echo"])).await.is_ok());
    assert_eq!(get(&home).await["hash"], before["hash"]);
}

#[tokio::test]
async fn a_document_is_set_from_a_file_or_standard_input_as_json5() {
    let home = Home::new();
    let file = home.path().join("approvals.json5");
    let text = "// all\n{ defaults: { security: 'allowlist', }, agents: { main: { allowlist: ['rg',] } } }";
    fs::write(&file, text).unwrap();
    let words = ["set", "--json", "--file", file.to_str().unwrap()];
    let stored: Value = serde_json::from_str(&done(&home, &words).await).unwrap();
    assert_eq!(
        stored["file"]["agents"]["main"]["allowlist"][0]["pattern"],
        "rg"
    );
    assert_eq!(stored, get(&home).await);

    let with_token = "{ socket: { path: '/s', token: 'sekret' } }";
    let output = set(&home, with_token).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let shown = get(&home).await;
    assert_eq!(shown["file"]["socket"], json!({ "path": "/s" }));
    assert!(!shown.to_string().contains("sekret"));
    assert!(!done(&home, &["get"]).await.contains("sekret"));
    // The token stays where a document gives none.
    done(&home, &["allowlist", "add", "rg"]).await;
    let database = Connection::open(home.database()).unwrap();
    let row: String = database
        .query_row("SELECT raw_json FROM exec_approvals_config", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert!(row.contains("sekret"));
}

#[tokio::test]
async fn what_is_no_document_is_refused_and_changes_nothing() {
    let home = Home::new();
    done(&home, &["preset", "strict"]).await;
    let before = get(&home).await;
    let deep = "[".repeat(100_000);
    let large = format!("{{ defaults: {{}} }} // {}", " ".repeat(26 * 1024 * 1024));
    let backtracking =
        r"{ agents: { main: { allowlist: [{ pattern: 'rg', argPattern: '(a)\\1' }] } } }";
    for (text, words) in [
        ("", "not valid JSON5"),
        ("{ defaults: ", "not valid JSON5"),
        ("[]", "it must be an object"),
        ("'full'", "it must be an object"),
        (deep.as_str(), "nested deeper than 128 levels"),
        (large.as_str(), "larger than 26214400 bytes"),
        (
            "{ defaults: { security: 'fulll' } }",
            "defaults.security of the approvals document must be deny, allowlist or full",
        ),
        (
            "{ agents: { main: { ask: 'never' } } }",
            "agents.main.ask of the approvals document",
        ),
        ("{ agents: [] }", "agents of the approvals document must be"),
        (
            "{ agents: { main: 'full' } }",
            "agents.main of the approvals document must be",
        ),
        (
            "{ agents: { main: { autoAllowSkills: 'yes' } } }",
            "agents.main.autoAllowSkills",
        ),
        (
            backtracking,
            "agents.main.allowlist[0].argPattern looks around or back",
        ),
    ] {
        let output = set(&home, text).await;
        let shown: String = text.chars().take(80).collect();
        assert_eq!(code(&output), 1, "{shown}");
        assert!(
            stderr(&output).contains(words),
            "{shown}: {}",
            stderr(&output)
        );
        assert_eq!(get(&home).await, before, "{shown}");
    }
    let stale = home.program(["approvals", "set", "--stdin", "--base-hash", "beef"]);
    let stale = stale.output_given("{}").await;
    assert_eq!(code(&stale), 1);
    assert_eq!(stderr(&stale), "exec approvals changed; reload and retry\n");
    let hash = before["hash"].as_str().unwrap();
    let named = home.program(["approvals", "set", "--stdin", "--base-hash", hash]);
    assert_eq!(code(&named.output_given("{}").await), 0);
    for words in [
        &["set"][..],
        &["set", "--stdin", "--file", "x"],
        &["allowlist", "add", " "],
    ] {
        assert_eq!(code(&approvals(&home, words).await), 1, "{words:?}");
    }
    let missing = approvals(&home, &["set", "--file", "/nonexistent"]).await;
    assert!(
        stderr(&missing).contains("cannot read /nonexistent"),
        "{}",
        stderr(&missing)
    );
}

#[tokio::test]
async fn of_entries_that_are_added_at_the_same_time_none_is_lost() {
    let home = Home::new();
    let names: Vec<String> = (0..12).map(|index| format!("tool-{index}")).collect();
    let adds = names.iter().map(|name| {
        let add = home.program(["approvals", "allowlist", "add", name]);
        add.output()
    });
    for output in futures_util::future::join_all(adds).await {
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    let document = get(&home).await;
    let entries = document["file"]["agents"]["*"]["allowlist"]
        .as_array()
        .unwrap();
    let mut patterns: Vec<&str> = entries
        .iter()
        .map(|entry| entry["pattern"].as_str().unwrap())
        .collect();
    patterns.sort_unstable();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(patterns, expected);
}

#[tokio::test]
async fn what_a_human_allows_for_always_and_what_is_added_here_do_not_undo_each_other() {
    let gateway = gateway().await;
    let home = Home::new();
    let _node = home.run(gateway.port()).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    let adds = async {
        for index in 0..ROUNDS {
            let name = format!("tool-{index}");
            done(&home, &["allowlist", "add", &name, "--agent", "main"]).await;
        }
    };
    let approved = async {
        let mut ran = Vec::new();
        for index in 0..ROUNDS {
            let params = json!({
                "command": ["echo", index.to_string()], "cwd": home.path(), "agentId": "main",
            });
            let prepared = call(&gateway, &view, "system.run.prepare", &params).await;
            let prepared = prepared.payload();
            let plan = &prepared["plan"];
            let run = json!({
                "command": plan["argv"], "rawCommand": plan["commandText"], "cwd": plan["cwd"],
                "agentId": "main", "systemRunPlan": plan, "approvalDecision": "allow-always",
            });
            let outcome = call(&gateway, &view, "system.run", &run).await;
            if outcome.is_ok() {
                let patterns = &prepared["allowAlwaysCoverage"]["patterns"];
                ran.push(patterns[0]["argPattern"].clone());
            } else {
                let changed = "SYSTEM_RUN_DENIED: exec approval changed before execution";
                assert_eq!(outcome.error().1, changed);
            }
        }
        ran
    };
    let ((), ran) = tokio::join!(adds, approved);
    assert!(!ran.is_empty());
    let document = get(&home).await;
    let entries = document["file"]["agents"]["main"]["allowlist"]
        .as_array()
        .unwrap();
    for index in 0..ROUNDS {
        let name = format!("tool-{index}");
        let is_there = entries.iter().any(|entry| entry["pattern"] == name);
        assert!(is_there, "{name} is lost: {document}");
    }
    for granted in ran {
        let is_there = entries.iter().any(|entry| entry["argPattern"] == granted);
        assert!(is_there, "{granted} is lost: {document}");
    }
}

#[tokio::test]
async fn an_operator_is_told_what_will_not_work_as_written() {
    let home = Home::new();
    let link = home.path().join("link");
    std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
    let link = link.to_str().unwrap();
    let output = approvals(&home, &["allowlist", "add", link]).await;
    assert_eq!(code(&output), 0);
    assert!(
        stderr(&output).contains("add that one"),
        "{}",
        stderr(&output)
    );
    let again = approvals(&home, &["allowlist", "add", link]).await;
    assert!(
        stdout(&again).contains("already there"),
        "{}",
        stdout(&again)
    );
    let absent = approvals(&home, &["allowlist", "remove", "rg"]).await;
    assert_eq!(code(&absent), 1);
    assert!(stderr(&absent).contains("no entry rg in the allowlist of agent *"));

    home.configure(&json!({ "tools": { "exec": { "security": "allowlist", "ask": "always" } } }));
    let file = "{ agents: { ops: { security: 'full' } } }";
    assert_eq!(code(&set(&home, file).await), 0);
    let yolo = approvals(&home, &["preset", "yolo"]).await;
    assert_eq!(code(&yolo), 0);
    for words in [
        "agent ops had a policy of its own, which is gone",
        "security stays allowlist, because of tools.exec in openclaw.json",
        "ask stays always",
    ] {
        assert!(stderr(&yolo).contains(words), "{}", stderr(&yolo));
    }
}

#[tokio::test]
async fn looking_makes_nothing_and_help_names_every_command() {
    let home = Home::new();
    let shown = done(&home, &["get"]).await;
    assert!(
        shown.contains("nothing is stored; this is what counts without"),
        "{shown}"
    );
    assert!(
        shown.contains("defaults  security=allowlist ask=on-miss askFallback=deny"),
        "{shown}"
    );
    assert!(!home.state_dir().exists());
    let help = done(&home, &["--help"]).await;
    for command in ["get", "set", "allowlist", "preset", "explain"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let help = done(&home, &[command, "--help"]).await;
        assert!(
            help.starts_with(|first: char| first.is_uppercase()),
            "{help}"
        );
    }
}
