//! What opening makes, what it keeps, and what it refuses without touching it.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use openclaw_node_state::{APPLICATION_ID, Database, ExitClass, SCHEMA_VERSION, StateError};
use protocol::identity::DeviceIdentity;
use rusqlite::Connection;

/// Puts something in the place of a database.
type Maker = fn(&Path);

fn database_file(state_dir: &Path) -> PathBuf {
    state_dir.join("state").join("openclaw-node.sqlite")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file below a folder: its bytes, mode and modification time.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::metadata(&path).unwrap();
        if metadata.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(
                path,
                (
                    bytes,
                    metadata.mode(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                ),
            );
        }
    }
    found
}

/// A state folder whose database was made by `make`.
fn state_dir_with(make: impl FnOnce(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    make(&database_file(dir.path()));
    dir
}

fn own_database(path: &Path) -> Connection {
    Database::open(path.parent().unwrap().parent().unwrap()).unwrap();
    Connection::open(path).unwrap()
}

fn assert_refused_untouched(
    name: &str,
    state_dir: &Path,
    is_expected: impl Fn(&StateError) -> bool,
) {
    let before = contents(state_dir);
    let errors = [
        Database::open(state_dir).err(),
        Database::open_read_only(state_dir).err(),
        // A second look is not fooled by what the first left behind.
        Database::open(state_dir).err(),
    ];
    for error in errors {
        let error = error.unwrap_or_else(|| panic!("{name} was opened"));
        assert!(is_expected(&error), "{name}: {error:?}");
        assert_eq!(error.exit_class(), ExitClass::NoRestart, "{name}");
        let text = error.to_string();
        assert!(
            text.contains("openclaw-node.sqlite") && !text.contains('\n'),
            "{name}: {text}"
        );
    }
    assert!(contents(state_dir) == before, "{name} was changed");
}

#[test]
fn a_fresh_database_is_ours_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("deep").join("claw");
    let database = Database::open(&state_dir).unwrap();
    assert_eq!(database.path(), database_file(&state_dir));
    for folder in [
        &dir.path().join("deep"),
        &state_dir,
        &state_dir.join("state"),
    ] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    let files = contents(&state_dir);
    assert_eq!(files.len(), 3, "{:?}", files.keys());
    for file in files.keys() {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }

    let header = Connection::open(database.path()).unwrap();
    let pragma = |name| -> i32 { header.pragma_query_value(None, name, |r| r.get(0)).unwrap() };
    assert_eq!(pragma("application_id"), APPLICATION_ID);
    assert_eq!(pragma("user_version"), SCHEMA_VERSION);
    let journal: String = header
        .pragma_query_value(None, "journal_mode", |r| r.get(0))
        .unwrap();
    assert_eq!(journal, "wal");
    let lax: i64 = header
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE NOT strict AND name NOT LIKE 'sqlite_%'",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(lax, 0, "every table is STRICT");
}

#[test]
fn the_umask_neither_widens_nor_narrows_the_modes() {
    for umask in ["000", "777"] {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("claw");
        let output = common::child_after(&format!("umask {umask}"), "child_opens", &state_dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(mode(&state_dir), 0o700, "{umask}");
        assert_eq!(mode(&state_dir.join("state")), 0o700, "{umask}");
        assert_eq!(mode(&database_file(&state_dir)), 0o600, "{umask}");
    }
}

#[test]
#[ignore = "the child process of other tests"]
fn child_opens() {
    if let Some(state_dir) = common::state_dir_of_child() {
        match Database::open(&state_dir) {
            Ok(_) => println!("opened"),
            Err(error) => println!("{:?}: {error}", error.exit_class()),
        }
    }
}

#[test]
fn a_folder_of_ours_that_others_can_enter_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("claw");
    drop(Database::open(&state_dir).unwrap());
    let open_up = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open_up(&state_dir, 0o755);
    open_up(&state_dir.join("state"), 0o755);
    open_up(&database_file(&state_dir), 0o644);
    drop(Database::open(&state_dir).unwrap());
    assert_eq!(mode(&state_dir.join("state")), 0o700);
    assert_eq!(mode(&database_file(&state_dir)), 0o600);
    // The state folder itself may be shared on purpose.
    assert_eq!(mode(&state_dir), 0o755);
}

#[test]
fn a_foreign_database_is_refused_untouched() {
    let makers: [(&str, Maker); 5] = [
        ("another application id", |path| {
            let foreign = Connection::open(path).unwrap();
            foreign
                .execute_batch("PRAGMA application_id = 7; CREATE TABLE t (x)")
                .unwrap();
        }),
        ("tables without an application id", |path| {
            let foreign = Connection::open(path).unwrap();
            foreign
                .execute_batch("CREATE TABLE device_identity (x)")
                .unwrap();
        }),
        ("upstream's write-ahead log and version", |path| {
            let foreign = Connection::open(path).unwrap();
            foreign
                .execute_batch(
                    "PRAGMA journal_mode = WAL; CREATE TABLE t (x); PRAGMA user_version = 18",
                )
                .unwrap();
        }),
        ("a version without tables or an application id", |path| {
            let foreign = Connection::open(path).unwrap();
            foreign.execute_batch("PRAGMA user_version = 1").unwrap();
        }),
        ("another application id on an empty database", |path| {
            let foreign = Connection::open(path).unwrap();
            foreign.execute_batch("PRAGMA application_id = 7").unwrap();
        }),
    ];
    for (name, make) in makers {
        let dir = state_dir_with(make);
        assert_refused_untouched(name, dir.path(), |error| {
            matches!(error, StateError::Foreign { .. })
        });
    }
}

#[test]
fn a_newer_schema_is_refused_untouched() {
    let dir = state_dir_with(|path| {
        own_database(path)
            .execute_batch("PRAGMA user_version = 999")
            .unwrap();
    });
    assert_refused_untouched("a newer schema", dir.path(), |error| {
        matches!(
            error,
            StateError::Newer {
                found: 999,
                supported: SCHEMA_VERSION,
                ..
            }
        )
    });
}

#[test]
fn a_newer_schema_that_is_still_in_the_log_is_refused_and_stays_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = database_file(dir.path());
    drop(Database::open(dir.path()).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer
        .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 999")
        .unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("state")).unwrap();
    for entry in fs::read_dir(dir.path().join("state")).unwrap() {
        let file = entry.unwrap();
        // Without its index the log looks as after a crash.
        if !file.file_name().to_str().unwrap().ends_with("-shm") {
            fs::copy(
                file.path(),
                copy.path().join("state").join(file.file_name()),
            )
            .unwrap();
        }
    }
    let copied = database_file(copy.path());
    let log = copied.with_extension("sqlite-wal");
    let before = (fs::read(&copied).unwrap(), fs::read(&log).unwrap());
    let error = Database::open(copy.path()).unwrap_err();
    assert!(
        matches!(error, StateError::Newer { found: 999, .. }),
        "{error:?}"
    );
    assert!((fs::read(&copied).unwrap(), fs::read(&log).unwrap()) == before);
}

#[test]
fn a_corrupt_file_is_refused_untouched() {
    let makers: [(&str, Maker); 6] = [
        ("text", |path| {
            fs::write(path, "not a database, but long enough ".repeat(64)).unwrap()
        }),
        ("a few bytes", |path| fs::write(path, "SQLite").unwrap()),
        ("a cut file", |path| {
            drop(own_database(path));
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("zeroed pages", |path| {
            drop(own_database(path));
            let mut bytes = fs::read(path).unwrap();
            bytes[4096..].fill(0);
            fs::write(path, bytes).unwrap();
        }),
        ("a garbled schema", |path| {
            drop(own_database(path));
            let mut bytes = fs::read(path).unwrap();
            bytes[100..4096].fill(0xa5);
            fs::write(path, bytes).unwrap();
        }),
        ("a missing table", |path| {
            own_database(path)
                .execute_batch("DROP TABLE device_identity")
                .unwrap();
        }),
    ];
    for (name, make) in makers {
        let dir = state_dir_with(make);
        let before = fs::read(database_file(dir.path())).unwrap();
        for _ in 0..2 {
            let error = Database::open(dir.path()).expect_err(name);
            assert!(
                matches!(error, StateError::Corrupt { .. }),
                "{name}: {error:?}"
            );
            assert_eq!(error.exit_class(), ExitClass::NoRestart, "{name}");
            let text = error.to_string();
            assert!(
                text.contains("is corrupt") && !text.contains('\n'),
                "{name}: {text}"
            );
        }
        assert!(
            fs::read(database_file(dir.path())).unwrap() == before,
            "{name} was changed"
        );
    }
}

#[test]
fn an_empty_file_is_filled() {
    let dir = state_dir_with(|path| fs::write(path, "").unwrap());
    assert!(Database::open_read_only(dir.path()).unwrap().is_none());
    assert_eq!(contents(dir.path()).len(), 1);
    Database::open(dir.path()).unwrap();
    assert!(Database::open_read_only(dir.path()).unwrap().is_some());
}

#[test]
fn what_is_no_folder_or_no_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("state"), "").unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir_all(database_file(&folder)).unwrap();

    for (state_dir, named) in [
        (file.clone(), file.clone()),
        (file.join("below"), file.join("below")),
        (taken.clone(), taken.join("state")),
    ] {
        let error = Database::open(&state_dir).unwrap_err();
        assert!(
            matches!(&error, StateError::NotADirectory { path } if *path == named),
            "{error:?}"
        );
        assert_eq!(error.exit_class(), ExitClass::Failure);
        assert!(Database::open_read_only(&state_dir).is_err());
    }
    let error = Database::open(&folder).unwrap_err();
    assert!(matches!(error, StateError::Unusable { .. }), "{error:?}");
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn a_folder_that_may_not_be_entered_is_refused_with_a_chance_to_mend_it() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("claw");
    drop(Database::open(&state_dir).unwrap());
    let mut child = common::child("child_opens", &state_dir);
    if nix::unistd::geteuid().is_root() {
        // To root nothing is closed.
        std::os::unix::process::CommandExt::uid(&mut child, 65_534);
    } else {
        fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o000)).unwrap();
    }
    let output = child
        .stdin(Stdio::null())
        .current_dir("/")
        .output()
        .unwrap();
    fs::set_permissions(&state_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Failure: cannot use"), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
}

#[test]
fn reading_makes_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    assert!(Database::open_read_only(&absent).unwrap().is_none());
    assert!(!absent.exists());

    let state_dir = dir.path().join("claw");
    let identity = DeviceIdentity::generate().unwrap();
    Database::open(&state_dir)
        .unwrap()
        .identity_or_insert(&identity, 1)
        .unwrap();
    let before = contents(&state_dir);
    let reader = Database::open_read_only(&state_dir).unwrap().unwrap();
    let stored = reader.identity().unwrap().unwrap();
    assert_eq!(stored.identity.device_id(), identity.device_id());
    drop(reader);
    assert!(contents(&state_dir) == before);
}

#[test]
fn a_reader_sees_what_a_running_node_has_written_and_cannot_write_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Database::open(dir.path()).unwrap();
    let early = Database::open_read_only(dir.path()).unwrap().unwrap();
    assert!(early.identity().unwrap().is_none());
    let identity = DeviceIdentity::generate().unwrap();
    node.identity_or_insert(&identity, 1).unwrap();
    let mut reader = Database::open_read_only(dir.path()).unwrap().unwrap();
    let stored = reader.identity().unwrap().unwrap();
    assert_eq!(stored.identity.device_id(), identity.device_id());
    let error = reader
        .clear_auth_failure()
        .and_then(|()| reader.prune_plans(0))
        .unwrap_err();
    assert!(matches!(error, StateError::Unusable { .. }), "{error:?}");
}

#[test]
fn paths_with_characters_that_mean_something_in_a_uri_work() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("100% of #1? yes&no");
    let identity = DeviceIdentity::generate().unwrap();
    Database::open(&state_dir)
        .unwrap()
        .identity_or_insert(&identity, 1)
        .unwrap();
    let reader = Database::open_read_only(&state_dir).unwrap().unwrap();
    assert!(reader.identity().unwrap().is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let doubled = PathBuf::from(format!("/{}", state_dir.display()));
    assert!(
        Database::open(&doubled)
            .unwrap()
            .identity()
            .unwrap()
            .is_some()
    );
}

#[test]
fn nodes_that_start_at_once_agree_on_one_identity() {
    for _ in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<String> = thread::scope(|scope| {
            let starters: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let candidate = DeviceIdentity::generate().unwrap();
                        let mut database = Database::open(dir.path()).unwrap();
                        let stored = database.identity_or_insert(&candidate, 1).unwrap();
                        stored.identity.device_id().to_string()
                    })
                })
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[test]
fn opening_again_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let identity = DeviceIdentity::generate().unwrap();
    let made = Database::open(dir.path())
        .unwrap()
        .identity_or_insert(&identity, 7)
        .unwrap();
    for _ in 0..3 {
        let other = DeviceIdentity::generate().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let stored = database.identity_or_insert(&other, 9).unwrap();
        assert_eq!(stored.identity.device_id(), made.identity.device_id());
        assert_eq!(stored.created_at_ms, 7);
    }
}
