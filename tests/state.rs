//! The state folder: what was acknowledged survives a kill, two nodes never share one identity,
//! and a database that is not ours is left as it is.

#![cfg(test)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::home::{Account, Home};
use common::{CONNECTED, DEADLINE, admitted, answers, gateway, node_connections, offline};
use serde_json::json;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn state_is_private() {
    let gateway = gateway().await;
    let (home, _node, _) = admitted(&gateway).await;
    assert_eq!(mode(&home.state_dir().join("state")), 0o700);
    for entry in fs::read_dir(home.state_dir().join("state")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let gateway = gateway().await;
    let (home, node, view) = admitted(&gateway).await;
    let file = json!({
        "version": 1,
        "defaults": { "security": "allowlist" },
        "agents": { "main": { "allowlist": [{ "pattern": "/usr/bin/git" }] } },
    });
    let get = json!({ "nodeId": view.node_id });
    let before = gateway
        .call("exec.approvals.node.get", get.clone())
        .await
        .unwrap();
    let mut set = json!({ "nodeId": view.node_id, "file": file });
    // The hash of a node without a document is no base to build on.
    if before["exists"] == true {
        set["baseHash"] = before["hash"].clone();
    }
    let set = gateway.call("exec.approvals.node.set", set).await.unwrap();
    node.kill().await;
    offline(&gateway).await;

    // Neither the identity nor the device token nor the approvals have to be given again.
    let node = home.run_without_token(gateway.port()).start();
    let again = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(again.node_id, view.node_id, "{node}");
    let got = gateway.call("exec.approvals.node.get", get).await.unwrap();
    assert_eq!(got["hash"], set["hash"], "{got}");
    assert_eq!(
        got["file"]["agents"]["main"]["allowlist"][0]["pattern"],
        "/usr/bin/git"
    );
    answers(&gateway, &again).await;
}

#[tokio::test]
async fn the_device_token_is_on_disk_before_the_node_says_that_it_is_connected() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home.run(gateway.port()).start();
    node.line(CONNECTED).await;
    node.kill().await;
    let node = home.run_without_token(gateway.port()).start();
    node.line(CONNECTED).await;
}

#[tokio::test]
async fn flags_are_remembered() {
    let gateway = gateway().await;
    let home = Home::new();
    let node = home
        .run(gateway.port())
        .arg("--display-name")
        .arg("Kitchen")
        .start();
    node.line(CONNECTED).await;
    node.stop().await;
    offline(&gateway).await;
    let _node = home.program(["run"]).start();
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.display_name.as_deref(), Some("Kitchen"));
}

#[tokio::test]
async fn a_second_node_with_the_same_state_refuses_and_names_the_first() {
    let gateway = gateway().await;
    let (home, first, view) = admitted(&gateway).await;
    let mut second = home.run(gateway.port()).start();
    assert_eq!(second.exit_code().await, 1, "{second}");
    assert_eq!(
        second.lines_with(&format!("pid {}", first.pid())).len(),
        1,
        "{second}"
    );
    assert_eq!(node_connections(&gateway).await, 1);
    answers(&gateway, &view).await;

    first.kill().await;
    offline(&gateway).await;
    let _third = home.run(gateway.port()).start();
    gateway.admit(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_usable_database_exits_with_78_and_leaves_it_as_it_is() {
    let gateway = gateway().await;
    let foreign = |path: &Path| {
        let database = rusqlite::Connection::open(path).unwrap();
        let sql =
            "PRAGMA application_id = 42; CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)";
        database.execute_batch(sql).unwrap();
    };
    let unmarked = |path: &Path| {
        let database = rusqlite::Connection::open(path).unwrap();
        database
            .execute_batch("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
            .unwrap();
    };
    let newer = |path: &Path| {
        let database = rusqlite::Connection::open(path).unwrap();
        database.pragma_update(None, "user_version", 9_999).unwrap();
    };
    let garbage = |path: &Path| fs::write(path, [0x5a; 8192]).unwrap();
    let damaged = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[100..4096].fill(0xff);
        fs::write(path, bytes).unwrap();
    };
    type Spoil<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, bool, Spoil<'_>); 5] = [
        ("foreign", false, &foreign),
        ("unmarked", false, &unmarked),
        ("newer", true, &newer),
        ("garbage", false, &garbage),
        ("damaged", true, &damaged),
    ];
    for (name, has_run_before, spoil) in cases {
        let home = Home::new();
        if has_run_before {
            let node = home.run(gateway.port()).start();
            node.line(CONNECTED).await;
            node.stop().await;
        }
        fs::create_dir_all(home.database().parent().unwrap()).unwrap();
        spoil(&home.database());
        let before = fs::read(home.database()).unwrap();
        let connections = node_connections(&gateway).await;

        let mut node = home.run(gateway.port()).start();
        assert_eq!(node.exit_code().await, 78, "{name}: {node}");
        assert_eq!(fs::read(home.database()).unwrap(), before, "{name}");
        let path = home.database();
        assert_eq!(
            node.lines_with(&path.to_string_lossy()).len(),
            1,
            "{name}: {node}"
        );
        assert_eq!(
            node_connections(&gateway).await,
            connections,
            "{name}: {node}"
        );
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_exits_with_1_and_is_named() {
    let gateway = gateway().await;
    let file_in_the_way = Home::new();
    fs::write(file_in_the_way.state_dir(), "in the way").unwrap();
    let unreadable = Home::of(Account::ordinary().unwrap_or_else(Account::current));
    fs::set_permissions(
        unreadable.folder(".openclaw"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    for home in [file_in_the_way, unreadable] {
        let mut node = home.run(gateway.port()).start();
        assert_eq!(node.exit_code().await, 1, "{node}");
        assert_eq!(
            node.lines_with(&home.state_dir().to_string_lossy()).len(),
            1,
            "{node}"
        );
    }
    assert_eq!(node_connections(&gateway).await, 0);
}
