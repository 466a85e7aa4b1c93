//! `import`: what of an old node host is taken, from where, and when it is refused.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::home::Home;
use common::{CONNECTED, DEADLINE, admitted, answers, gateway, offline};
use protocol::identity::DeviceIdentity;
use rusqlite::Connection;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

/// The tables of upstream's that matter, as 2026.9.6 makes them.
const SCHEMA: &str = "
CREATE TABLE config_machine_state (
  state_key TEXT NOT NULL PRIMARY KEY, value_json TEXT NOT NULL, updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE device_identities (
  identity_key TEXT NOT NULL PRIMARY KEY, device_id TEXT NOT NULL, public_key_pem TEXT NOT NULL,
  private_key_pem TEXT NOT NULL, created_at_ms INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE device_auth_tokens (
  device_id TEXT NOT NULL, role TEXT NOT NULL, token TEXT NOT NULL, scopes_json TEXT NOT NULL,
  updated_at_ms INTEGER NOT NULL, PRIMARY KEY (device_id, role)
) STRICT;
CREATE TABLE exec_approvals_config (
  config_key TEXT NOT NULL PRIMARY KEY, raw_json TEXT NOT NULL, socket_path TEXT,
  has_socket_token INTEGER NOT NULL, default_security TEXT, default_ask TEXT,
  default_ask_fallback TEXT, auto_allow_skills INTEGER, agent_count INTEGER NOT NULL,
  allowlist_count INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 18;
";

/// A policy with a mark to recognise it by.
fn approvals(pattern: &str) -> String {
    let document = json!({
        "version": 1,
        "defaults": { "security": "allowlist", "ask": "off" },
        "agents": { "main": { "allowlist": [{ "pattern": pattern }] } },
    });
    format!("{document}\n")
}

fn profile(port: u16) -> Value {
    json!({
        "version": 1,
        "nodeId": "3f7fff82-3532-40a5-a73b-5df911b71c25",
        "displayName": "Attic",
        "gateway": { "host": "127.0.0.1", "port": port, "tls": false },
    })
}

/// An old node host's state, in the making.
struct Old {
    home: Home,
    identity: DeviceIdentity,
}

impl Old {
    fn new() -> Self {
        Self {
            home: Home::new(),
            identity: DeviceIdentity::generate().unwrap(),
        }
    }

    fn device_id(&self) -> &str {
        self.identity.device_id().as_str()
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.state_dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn device_file(&self) -> String {
        json!({
            "version": 1,
            "deviceId": self.device_id(),
            "publicKeyPem": self.identity.public_key_pem().unwrap(),
            "privateKeyPem": self.identity.private_key_pem().unwrap().expose_secret(),
            "createdAtMs": 1_795_711_321_435_u64,
        })
        .to_string()
    }

    fn token_file(&self, token: &str) -> String {
        let entry = json!({ "token": token, "role": "node", "scopes": [], "updatedAtMs": 1 });
        json!({ "version": 1, "deviceId": self.device_id(), "tokens": { "node": entry } })
            .to_string()
    }

    /// The files of 2026.5.x.
    fn files(&self, port: u16, token: &str) {
        self.file("node.json", &profile(port).to_string());
        self.file("identity/device.json", &self.device_file());
        self.file("identity/device-auth.json", &self.token_file(token));
    }

    /// An empty database of 2026.9.6.
    fn database(&self) -> Connection {
        let path = self.file("state/openclaw.sqlite", "");
        let connection = Connection::open(path).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    }

    fn profile_row(&self, database: &Connection, profile: &Value) {
        let sql = "INSERT INTO config_machine_state VALUES ('nodeHost.config', ?1, 1)";
        database.execute(sql, [profile.to_string()]).unwrap();
    }

    fn identity_row(&self, database: &Connection, device_id: &str) {
        let columns = (
            device_id,
            self.identity.public_key_pem().unwrap(),
            self.identity
                .private_key_pem()
                .unwrap()
                .expose_secret()
                .to_owned(),
        );
        let sql = "INSERT INTO device_identities VALUES ('primary', ?1, ?2, ?3, 1, 1)";
        database.execute(sql, columns).unwrap();
    }

    fn token_row(&self, database: &Connection, token: &str) {
        let sql = "INSERT INTO device_auth_tokens VALUES (?1, 'node', ?2, '[]', 1)";
        database.execute(sql, [self.device_id(), token]).unwrap();
    }

    fn approvals_row(&self, database: &Connection, document: &str) {
        let sql = "INSERT INTO exec_approvals_config
                   VALUES ('current', ?1, NULL, 0, NULL, NULL, NULL, NULL, 1, 1, 1)";
        database.execute(sql, [document]).unwrap();
    }

    async fn import(&self, arguments: &[&str]) -> Output {
        let arguments = std::iter::once("import").chain(arguments.iter().copied());
        self.home.program(arguments).output().await
    }

    /// What `import --json` says it took.
    async fn imported(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let output = self.import(&arguments).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What `import` refuses with; nothing may be in this node's database then.
    async fn refused(&self) -> String {
        let output = self.import(&[]).await;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let identity = self.home.program(["identity"]).output().await;
        assert_eq!(identity.status.code(), Some(1), "{identity:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn source_of<'a>(report: &'a Value, item: &str) -> &'a str {
    let items = report["items"].as_array().unwrap();
    let found = items.iter().find(|entry| entry["item"] == item).unwrap();
    found["source"].as_str().unwrap_or_default()
}

/// Every file of the old node host: bytes, mode, time of change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if metadata.is_dir() {
            found.extend(snapshot(&path));
        } else if !name.starts_with("openclaw-node") {
            let bytes = fs::read(&path).unwrap();
            let times = (metadata.mtime(), metadata.mtime_nsec());
            found.insert(path, (bytes, metadata.mode(), times.0, times.1));
        }
    }
    found
}

/// A paired node, whose identity and token are then laid out as upstream's would be.
async fn paired(gateway: &gateway::GatewayHandle) -> (Old, String, gateway::NodeView) {
    let (home, node, view) = admitted(gateway).await;
    node.stop().await;
    offline(gateway).await;
    let own = Connection::open(home.database()).unwrap();
    let text = |sql: &str| {
        own.query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    let pem = text("SELECT private_key_pem FROM device_identity");
    let token = text("SELECT token FROM device_token");
    let identity = DeviceIdentity::from_private_key_pem(&pem.into()).unwrap();
    let old = Old {
        identity,
        ..Old::new()
    };
    (old, token, view)
}

#[tokio::test]
async fn the_first_start_takes_the_files_of_may_over() {
    let gateway = gateway().await;
    let (old, token, before) = paired(&gateway).await;
    old.files(gateway.port(), &token);
    let old_state = snapshot(&old.home.state_dir());

    let node = old.home.program(["run", "--log-format=json"]).start();
    let told = node.line("took over the node host").await;
    assert!(told.starts_with("{\"time\":"), "{told}");
    node.line(CONNECTED).await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.node_id, before.node_id);
    answers(&gateway, &view).await;
    node.stop().await;
    assert_eq!(snapshot(&old.home.state_dir()), old_state);

    // Once it is done, it is not done again.
    let node = old.home.program(["run"]).start();
    node.line(CONNECTED).await;
    assert_eq!(node.lines_with("took over"), [""; 0]);
}

#[tokio::test]
async fn the_first_start_takes_the_database_of_september_over_with_what_its_log_holds() {
    let gateway = gateway().await;
    let (old, token, before) = paired(&gateway).await;
    let database = old.database();
    old.profile_row(&database, &profile(gateway.port()));
    old.identity_row(&database, old.device_id());
    database
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    // As if it had been killed: the last writes are in the log alone.
    database
        .set_db_config(
            rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
            true,
        )
        .unwrap();
    old.token_row(&database, &token);
    drop(database);
    let old_state = snapshot(&old.home.state_dir());
    assert!(old_state.len() >= 2, "{:?}", old_state.keys());

    let node = old.home.program(["run"]).start();
    node.line(CONNECTED).await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_eq!(view.node_id, before.node_id);
    node.stop().await;
    assert_eq!(snapshot(&old.home.state_dir()), old_state);
}

#[tokio::test]
async fn each_item_comes_from_the_newest_place_where_it_is_sound() {
    let old = Old::new();
    let database = old.database();
    // An update that was cut short: the profile is in both, the token in the database alone, the
    // key only in the file that the update had claimed, and the approvals row was never written.
    let mut newer = profile(18789);
    newer["displayName"] = json!("Newer");
    newer["commands"] = json!(["system.which", " system.run ", "system.run"]);
    old.profile_row(&database, &newer);
    old.token_row(&database, "token-in-the-database");
    drop(database);
    old.file("node.json", &profile(1).to_string());
    old.file("identity/device.json.doctor-importing", &old.device_file());
    old.file(
        "identity/device-auth.json",
        &old.token_file("token-in-the-file"),
    );
    old.file("exec-approvals.json", &approvals("/usr/bin/true"));
    let old_state = snapshot(&old.home.state_dir());

    let looked_at = old.imported(&["--dry-run"]).await;
    assert_eq!(looked_at["result"], "would-import");
    assert!(!old.home.database().exists());

    let report = old.imported(&[]).await;
    assert_eq!(report["result"], "imported");
    assert_eq!(report["deviceId"], old.device_id());
    assert_eq!(report["gateway"], "ws://127.0.0.1:18789");
    assert_eq!(report["items"], looked_at["items"]);
    for (item, place) in [
        ("profile", "openclaw.sqlite#config_machine_state"),
        ("identity", "device.json.doctor-importing"),
        ("deviceToken", "openclaw.sqlite#device_auth_tokens"),
        ("approvals", "exec-approvals.json"),
    ] {
        let source = source_of(&report, item);
        assert!(source.ends_with(place), "{item}: {source}");
    }
    assert_eq!(snapshot(&old.home.state_dir()), old_state);

    let own = Connection::open(old.home.database()).unwrap();
    let text = |sql: &str| {
        own.query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(
        text("SELECT token FROM device_token"),
        "token-in-the-database"
    );
    assert_eq!(
        text("SELECT gateway_scope FROM device_token"),
        "ws://127.0.0.1:18789"
    );
    assert_eq!(text("SELECT display_name FROM node_profile"), "Newer");
    assert_eq!(
        text("SELECT commands_json FROM node_profile"),
        r#"["system.run","system.which"]"#
    );
    assert_eq!(
        text("SELECT raw_json FROM exec_approvals_config"),
        approvals("/usr/bin/true")
    );
    assert_eq!(
        text("SELECT group_concat(item) FROM (SELECT item FROM import_record ORDER BY item)"),
        "approvals,deviceToken,identity,profile"
    );

    assert_eq!(old.imported(&[]).await["result"], "already-imported");
}

#[tokio::test]
async fn an_unsound_row_gives_way_to_a_sound_file_and_is_told() {
    let old = Old::new();
    let database = old.database();
    old.profile_row(&database, &profile(18789));
    old.identity_row(&database, &"0".repeat(64));
    drop(database);
    old.file("identity/device.json", &old.device_file());
    old.file(
        "identity/device-auth.json",
        &old.token_file("t").replace(old.device_id(), "another"),
    );
    let report = old.imported(&[]).await;
    assert!(source_of(&report, "identity").ends_with("device.json"));
    assert_eq!(source_of(&report, "deviceToken"), "");
    let passed_over = report["passedOver"].to_string();
    assert!(passed_over.contains("the device id is not that of the device's key"));
    assert!(passed_over.contains("its token is that of another device"));
}

#[tokio::test]
async fn what_is_sound_nowhere_is_refused_without_showing_a_secret() {
    let swapped = DeviceIdentity::generate().unwrap();
    let cases = [
        (
            "\"publicKeyPem\":\"-----BEGIN",
            "\"publicKeyPem\":\"-----BEGUN",
            "public key",
        ),
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"privateKeyPem\":\"", "\"privateKeyPem\":\"x", "PKCS#8"),
        ("{", "{{", "line 1"),
    ];
    for (sound, unsound, expected) in cases {
        let old = Old::new();
        old.files(18789, "t");
        let file = old.device_file().replacen(sound, unsound, 1);
        old.file("identity/device.json", &file);
        let refused = old.refused().await;
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.contains("device.json"), "{refused}");
        let pem = old.identity.private_key_pem().unwrap();
        let secret = pem.expose_secret().lines().nth(1).unwrap();
        assert!(!refused.contains(secret), "{refused}");
    }
    let old = Old::new();
    old.files(18789, "t");
    let id = swapped.device_id().as_str();
    old.file(
        "identity/device.json",
        &old.device_file().replace(old.device_id(), id),
    );
    assert!(old.refused().await.contains("not that of the device's key"));
}

#[tokio::test]
async fn a_profile_that_makes_no_sense_is_refused() {
    let cases = [
        (json!({ "nodeId": "" }), "nodeId"),
        (json!({ "version": 2 }), "version"),
        (json!({ "gateway": { "port": 0 } }), "port"),
        (json!({ "gateway": { "port": "18789" } }), "port"),
        (json!({ "gateway": { "tls": "yes" } }), "tls"),
        (json!({ "gateway": { "host": "a b" } }), "host"),
        (
            json!({ "gateway": { "tlsFingerprint": "12" } }),
            "fingerprint",
        ),
        (json!({ "commands": "system.run" }), "commands"),
    ];
    for (change, expected) in cases {
        let old = Old::new();
        old.files(18789, "t");
        let mut profile = profile(18789);
        for (name, value) in change.as_object().unwrap() {
            profile[name] = value.clone();
        }
        old.file("node.json", &profile.to_string());
        let refused = old.refused().await;
        assert!(refused.contains(expected), "{change}: {refused}");
    }
}

#[tokio::test]
async fn a_machine_without_a_node_host_has_nothing_to_take_over() {
    // The identity of upstream's command line is not a node's.
    let old = Old::new();
    old.file("identity/device.json", &old.device_file());
    assert!(
        old.refused()
            .await
            .contains("no node host was ever configured")
    );

    let gateway = gateway().await;
    let node = old.home.run(gateway.port()).start();
    node.line(CONNECTED).await;
    let view = gateway.admit(DEADLINE).await.unwrap();
    assert_ne!(view.node_id, old.device_id());
}

#[tokio::test]
async fn a_node_with_an_identity_of_its_own_stays_who_it_is() {
    let gateway = gateway().await;
    let (home, node, view) = admitted(&gateway).await;
    node.stop().await;
    let old = Old { home, ..Old::new() };
    old.files(18789, "t");
    let output = old.import(&[]).await;
    assert_eq!(output.status.code(), Some(1));
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(refused.contains(&view.node_id), "{refused}");
}

#[tokio::test]
async fn the_approvals_are_those_that_the_old_release_obeyed() {
    // 2026.5.x with a state folder of its own still obeyed the document of the home folder.
    let old = Old::new();
    let elsewhere = old.home.folder("elsewhere");
    fs::write(elsewhere.join("node.json"), profile(18789).to_string()).unwrap();
    fs::write(elsewhere.join("exec-approvals.json"), approvals("/ignored")).unwrap();
    old.file("exec-approvals.json", &approvals("/obeyed"));
    let output = old
        .home
        .program(["import", "--json"])
        .env("OPENCLAW_STATE_DIR", &elsewhere)
        .output()
        .await;
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let obeyed = old.home.state_dir().join("exec-approvals.json");
    assert_eq!(
        source_of(&report, "approvals"),
        obeyed.display().to_string()
    );

    // A row counts before any file.
    let old = Old::new();
    let database = old.database();
    old.profile_row(&database, &profile(18789));
    old.approvals_row(&database, &approvals("/row"));
    drop(database);
    old.file("exec-approvals.json", &approvals("/file"));
    let report = old.imported(&[]).await;
    assert!(source_of(&report, "approvals").ends_with("#exec_approvals_config"));
}

#[tokio::test]
async fn another_folder_is_imported_from() {
    let old = Old::new();
    old.files(18789, "t");
    let from = old.home.path().join("older");
    fs::rename(old.home.state_dir(), &from).unwrap();
    let before = snapshot(&from);
    let report = old.imported(&["--from", "older"]).await;
    assert_eq!(report["deviceId"], old.device_id());
    assert_eq!(snapshot(&from), before);
    assert!(old.home.database().exists());
}

#[tokio::test]
async fn a_gateway_that_plain_ws_may_not_reach_is_refused_naming_the_variable() {
    let old = Old::new();
    old.files(18789, "t");
    let mut profile = profile(18789);
    profile["gateway"]["host"] = json!("10.1.2.3");
    old.file("node.json", &profile.to_string());
    let refused = old.refused().await;
    assert!(
        refused.contains("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1"),
        "{refused}"
    );

    let output = old
        .home
        .program(["import"])
        .env("OPENCLAW_ALLOW_INSECURE_PRIVATE_WS", "1")
        .output()
        .await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A process whose command line and environment are those of a running node host of upstream's.
struct Running(Child);

impl Running {
    fn start(home: &Path, state_dir: &Path) -> Self {
        let child = Command::new("/bin/sh")
            .args([
                "-c",
                "read line",
                "/opt/openclaw/openclaw.mjs",
                "node",
                "run",
            ])
            .env_clear()
            .env("HOME", home)
            .env("OPENCLAW_STATE_DIR", state_dir)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_node_host_that_runs_is_not_taken_over() {
    let old = Old::new();
    old.files(18789, "t");
    let running = Running::start(old.home.path(), &old.home.state_dir());
    let pid = format!("pid {}", running.0.id());

    let refused = old.refused().await;
    assert!(refused.contains(&pid), "{refused}");
    let mut node = old.home.program(["run"]).start();
    assert_eq!(node.exit_code().await, 1, "{node}");
    assert!(!node.lines_with(&pid).is_empty(), "{node}");
    assert_eq!(old.imported(&["--dry-run"]).await["running"], pid);
    drop(running);

    // That of another folder is none of ours.
    let _other = Running::start(old.home.path(), &old.home.folder("other"));
    assert_eq!(old.imported(&[]).await["result"], "imported");
}

#[tokio::test]
async fn a_database_in_the_middle_of_a_write_is_left_alone() {
    let old = Old::new();
    let database = old.database();
    old.profile_row(&database, &profile(18789));
    drop(database);
    old.file("state/openclaw.sqlite-journal", "unfinished");
    assert!(old.refused().await.contains("middle of a write"));
}
