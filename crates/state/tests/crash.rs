//! What was acknowledged is there after the process was killed at any moment.

#![cfg(test)]

mod common;

use approvals::plan::DirectoryIdentity;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use openclaw_node_state::{
    Database, DeviceTokenKey, Plan, PlanDigest, PlanLookup, Replacement, SavedEndpoint, StateLock,
};
use secrecy::{ExposeSecret as _, SecretString};

/// How many writers are killed.
const ROUNDS: u32 = 25;

fn key(scope: &str) -> DeviceTokenKey<'_> {
    DeviceTokenKey {
        device_id: "device",
        role: "node",
        gateway_scope: scope,
    }
}

fn scope(round: u32, write: u32) -> String {
    format!("wss://gateway-{round}-{write}:443")
}

fn digest(round: u32, write: u32) -> PlanDigest {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&round.to_be_bytes());
    digest[4..8].copy_from_slice(&write.to_be_bytes());
    PlanDigest(digest)
}

/// Writes a token, a plan and the approvals, then says so, for ever.
#[test]
#[ignore = "the child process of another test"]
fn child_writes_until_it_is_killed() {
    let Some(state_dir) = common::state_dir_of_child() else {
        return;
    };
    let _lock = StateLock::acquire(&state_dir).unwrap();
    let mut database = Database::open(&state_dir).unwrap();
    let round: u32 = fs::read_to_string(state_dir.join("round"))
        .unwrap()
        .parse()
        .unwrap();
    let plan = Plan {
        policy_snapshot: serde_json::json!({"round": round}),
        cwd: DirectoryIdentity {
            device: 1,
            inode: 2,
            created_ns: None,
        },
    };
    let endpoint = SavedEndpoint {
        host: "127.0.0.1".to_owned(),
        port: 18_789,
        tls: false,
        tls_fingerprint: None,
        context_path: None,
    };
    let mut stdout = std::io::stdout().lock();
    for write in 0.. {
        let token = SecretString::from(format!("token-{round}-{write}"));
        database
            .keep_pairing(key(&scope(round, write)), &token, &endpoint, 1)
            .unwrap();
        database
            .remember_plan(&digest(round, write), &plan, 1)
            .unwrap();
        let current = database
            .approvals()
            .unwrap()
            .stored
            .map(|stored| stored.raw_json);
        let replaced = database
            .replace_approvals(
                &format!("{{\"write\":[{round},{write}]}}"),
                current.as_deref(),
                1,
            )
            .unwrap();
        assert_eq!(replaced, Replacement::Done);
        writeln!(stdout, "written {write}").unwrap();
        stdout.flush().unwrap();
    }
}

/// Runs one writer, kills it once it has acknowledged `enough` writes, and returns how many it
/// had acknowledged when it died.
fn kill_a_writer(state_dir: &Path, round: u32, enough: u32) -> u32 {
    fs::write(state_dir.join("round"), round.to_string()).unwrap();
    let mut writer = common::child("child_writes_until_it_is_killed", state_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        // The test harness writes lines of its own.
        let Some(write) = line.unwrap().strip_prefix("written ").map(str::to_owned) else {
            continue;
        };
        assert_eq!(write.parse(), Ok(acknowledged));
        acknowledged += 1;
        if acknowledged == enough {
            // It goes on writing until the signal arrives, so it dies in the middle of something.
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    assert!(
        acknowledged >= enough,
        "the writer died by itself after {acknowledged} writes"
    );
    acknowledged
}

#[test]
fn every_acknowledged_write_survives_being_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let enough = u32::from(random[0] % 40) + 1;
        acknowledged.push(kill_a_writer(dir.path(), round, enough));

        // A reader comes first, as `identity` over SSH may, then the next node.
        let reader = Database::open_read_only(dir.path()).unwrap().unwrap();
        let last = acknowledged[round as usize] - 1;
        assert!(
            reader
                .device_token(key(&scope(round, last)))
                .unwrap()
                .is_some()
        );
        drop(reader);
        let _lock = StateLock::acquire(dir.path()).unwrap();
        let database = Database::open(dir.path()).unwrap();
        let raw = database.approvals().unwrap().stored.unwrap().raw_json;
        let approvals: serde_json::Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(approvals["write"][0], round);
        assert!(
            approvals["write"][1].as_u64().unwrap() >= u64::from(last),
            "{raw}"
        );
    }

    let database = Database::open(dir.path()).unwrap();
    for (round, writes) in (0..).zip(acknowledged) {
        for write in 0..writes {
            let token = database
                .device_token(key(&scope(round, write)))
                .unwrap()
                .unwrap();
            assert_eq!(token.expose_secret(), format!("token-{round}-{write}"));
            let plan = database.plan(&digest(round, write), 1).unwrap();
            assert!(
                matches!(plan, PlanLookup::Prepared(_)),
                "{round} {write} {plan:?}"
            );
        }
    }
    let whole: String = rusqlite::Connection::open(database.path())
        .unwrap()
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(whole, "ok");
}
