//! One node per state folder, whatever way the last one ended.

#![cfg(test)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use openclaw_node_state::{ExitClass, StateError, StateLock};

#[test]
fn a_second_node_is_told_who_holds_the_state_until_that_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = common::child("child_holds_the_lock", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));

    for _ in 0..2 {
        let error = StateLock::acquire(dir.path()).unwrap_err();
        assert!(
            matches!(error, StateError::Locked { pid: Some(pid), .. } if pid == holder.id()),
            "{error:?}"
        );
        assert!(
            error.to_string().contains(&format!("pid {}", holder.id())),
            "{error}"
        );
        assert_eq!(error.exit_class(), ExitClass::Failure);
    }

    // Child::kill is SIGKILL: the holder gets no chance to tidy up.
    holder.kill().unwrap();
    holder.wait().unwrap();
    let lock = StateLock::acquire(dir.path()).unwrap();
    let file = dir.path().join("state").join("openclaw-node.lock");
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        format!("{}\n", std::process::id())
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o7777,
        0o600
    );

    drop(lock);
    StateLock::acquire(dir.path()).unwrap();
}

#[test]
#[ignore = "the child process of another test"]
fn child_holds_the_lock() {
    if let Some(state_dir) = common::state_dir_of_child() {
        let _lock = StateLock::acquire(&state_dir).unwrap();
        println!("locked");
        // Until the parent kills this process or goes away.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_lock_file_without_a_process_id_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(
        dir.path().join("state/openclaw-node.lock"),
        "4294967297 or so\n",
    )
    .unwrap();
    StateLock::acquire(dir.path()).unwrap();
}
