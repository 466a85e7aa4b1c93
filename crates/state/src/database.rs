//! Opening the database: what is ours is migrated, what is not is left untouched.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::schema::{APPLICATION_ID, SCHEMA_VERSION, VITAL_TABLES};
use crate::{StateError, folder, schema};

/// How long a statement waits for another process, as upstream does (state §3.1).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The write-ahead log is cut back to this after a checkpoint, in bytes.
const WAL_SIZE_LIMIT_BYTES: i64 = 4 * 1024 * 1024;

/// What SQLite may keep of the file in memory, in KiB: rows are small, and the node has to be too.
const CACHE_KIB: i64 = 256;

/// How often the switch to a write-ahead log is tried; each time but the last somebody else made
/// progress meanwhile.
const WAL_SWITCH_ATTEMPTS: u32 = 16;

/// What a committed write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power loss: the log is flushed to disk before the call returns (`synchronous=FULL`).
    Full,
    /// The death of the process: the system has the bytes, the disk perhaps not yet
    /// (`synchronous=NORMAL`).
    Process,
}

/// Times are unsigned outside and SQLite's signed integers inside.
pub(crate) fn to_millis(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms).unwrap_or(i64::MAX)
}

/// The way back; a negative time can only come from a clock before 1970.
pub(crate) fn from_millis(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// The open database of one state folder.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    /// How many plans were remembered since the last pruning.
    pub(crate) plans_since_pruning: u32,
    /// How often the journal was written since the last pruning.
    pub(crate) journal_writes_since_pruning: u32,
}

/// What a header says about who made a database.
#[derive(Debug, Clone, Copy)]
struct Origin {
    application_id: i32,
    user_version: i32,
    has_tables: bool,
}

impl Origin {
    /// Reads in one transaction, so that a log that another process writes back meanwhile cannot
    /// mix the old header with the new tables.
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let transaction = connection.unchecked_transaction()?;
        let application_id =
            transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let user_version =
            transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        // Parsing a whole schema is only worth it where the header leaves a doubt.
        let has_tables = match (application_id, user_version) {
            (0, 0) => {
                transaction.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| {
                    row.get(0)
                })?
            }
            _ => true,
        };
        Ok(Self {
            application_id,
            user_version,
            has_tables,
        })
    }

    /// A file that was made but never filled, by us or by a crash of ours.
    const fn is_blank(self) -> bool {
        self.application_id == 0 && self.user_version == 0 && !self.has_tables
    }

    fn check(self, path: &Path) -> Result<(), StateError> {
        if self.is_blank() {
            return Ok(());
        }
        if self.application_id != APPLICATION_ID {
            return Err(StateError::Foreign {
                path: path.to_owned(),
                application_id: self.application_id,
            });
        }
        if self.user_version > SCHEMA_VERSION {
            return Err(StateError::Newer {
                path: path.to_owned(),
                found: self.user_version,
                supported: SCHEMA_VERSION,
            });
        }
        Ok(())
    }
}

impl Database {
    /// Opens `<stateDir>/state/openclaw-node.sqlite`, makes it where it is missing (0600 in a
    /// 0700 folder) and brings it to the current schema.
    ///
    /// # Errors
    /// One that names the path and the remedy. A database that is foreign, newer or corrupt is
    /// refused without a byte of it changed; see [`StateError::exit_class`].
    pub fn open(state_dir: &Path) -> Result<Self, StateError> {
        folder::prepare(state_dir)?;
        let path = folder::database_path(state_dir);
        create_private(&path)?;
        peek(&path)?;

        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)
            .map_err(|error| StateError::sqlite(&path, error))?;
        let mut database = Self {
            connection,
            path,
            plans_since_pruning: 0,
            journal_writes_since_pruning: 0,
        };
        database.verify()?;
        tighten(&database.path)?;
        database.configure()?;
        database.migrate()?;
        Ok(database)
    }

    /// Whether there is a database; it need not be one that can be opened.
    #[must_use]
    pub fn exists(state_dir: &Path) -> bool {
        folder::database_path(state_dir).exists()
    }

    /// Opens the database for reading only; `None` when there is none.
    ///
    /// Makes and changes nothing, neither file nor folder, unless a node was killed and left a
    /// log without its index, which SQLite then rebuilds beside it.
    ///
    /// # Errors
    /// Those of [`Database::open`]; writing through what this returns fails with
    /// [`StateError::Unusable`].
    pub fn open_read_only(state_dir: &Path) -> Result<Option<Self>, StateError> {
        let path = folder::database_path(state_dir);
        match fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::unusable(&path, error)),
        }
        peek(&path)?;
        // Without a log nobody has the database open and everything is in the file itself;
        // reading it as immutable keeps SQLite from making a log.
        let connection = if !beside(&path, "-wal").exists() {
            open_immutable(&path)
        } else {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(&path, flags)
        };
        let connection = connection.map_err(|error| StateError::sqlite(&path, error))?;
        let database = Self {
            connection,
            path,
            plans_since_pruning: 0,
            journal_writes_since_pruning: 0,
        };
        let sqlite = |error| StateError::sqlite(&database.path, error);
        database
            .connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(sqlite)?;
        let origin = Origin::read(&database.connection).map_err(sqlite)?;
        origin.check(&database.path)?;
        Ok((!origin.is_blank()).then_some(database))
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the live database, log included, before anything is written to it.
    fn verify(&self) -> Result<(), StateError> {
        let sqlite = |error| StateError::sqlite(&self.path, error);
        self.connection.busy_timeout(BUSY_TIMEOUT).map_err(sqlite)?;
        // A refused database must not be changed by closing it either.
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .map_err(sqlite)?;
        let origin = Origin::read(&self.connection).map_err(sqlite)?;
        origin.check(&self.path)?;
        if !origin.is_blank() {
            for table in VITAL_TABLES {
                self.check_table(table)?;
            }
        }
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(sqlite)?;
        Ok(())
    }

    fn check_table(&self, table: &str) -> Result<(), StateError> {
        let mut verdicts: Vec<String> = Vec::new();
        self.connection
            .pragma(None, "quick_check", table, |row| {
                verdicts.push(row.get(0)?);
                Ok(())
            })
            .map_err(|error| StateError::sqlite(&self.path, error))?;
        match verdicts.first().map(String::as_str) {
            Some("ok") => Ok(()),
            verdict => {
                let verdict = verdict.unwrap_or("no verdict");
                Err(StateError::corrupt(
                    &self.path,
                    format!("table {table}: {verdict}"),
                ))
            }
        }
    }

    fn configure(&self) -> Result<(), StateError> {
        let configure = || -> rusqlite::Result<()> {
            // The schema holds no triggers, views or functions, so none is to be obeyed.
            self.connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            self.connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
            self.switch_to_wal()?;
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            // A cleared token must not stay readable in a free page.
            self.connection.pragma_update(None, "secure_delete", true)?;
            // A negative size counts KiB instead of pages.
            self.connection
                .pragma_update(None, "cache_size", -CACHE_KIB)?;
            self.connection
                .pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT_BYTES)
        };
        configure().map_err(|error| StateError::sqlite(&self.path, error))
    }

    /// Switches the file to a write-ahead log, where it has none yet.
    ///
    /// When several processes do that to the same new file, SQLite tells all but one at once that
    /// it is busy. A transaction waits its turn instead, and finds the switch done.
    fn switch_to_wal(&self) -> rusqlite::Result<()> {
        for _ in 1..WAL_SWITCH_ATTEMPTS {
            match self.connection.pragma_update(None, "journal_mode", "WAL") {
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    self.connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
                }
                outcome => return outcome,
            }
        }
        self.connection.pragma_update(None, "journal_mode", "WAL")
    }

    fn migrate(&mut self) -> Result<(), StateError> {
        let version = |connection: &Connection| -> rusqlite::Result<i32> {
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        };
        let before =
            version(&self.connection).map_err(|error| StateError::sqlite(&self.path, error))?;
        if before == SCHEMA_VERSION {
            return Ok(());
        }
        self.write(Durability::Full, |transaction| {
            match version(transaction)? {
                applied if applied < SCHEMA_VERSION => schema::migrate(transaction, applied),
                // Another process was first.
                _ => Ok(()),
            }
        })?;
        tracing::info!(
            path = %self.path.display(),
            from = before,
            to = SCHEMA_VERSION,
            "state database brought to the current schema"
        );
        Ok(())
    }

    /// Runs one statement.
    pub(crate) fn look<T>(
        &self,
        statement: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        statement(&self.connection).map_err(|error| StateError::sqlite(&self.path, error))
    }

    /// Runs `work` on one consistent view of the database.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let read = || work(&self.connection.unchecked_transaction()?);
        read().map_err(|error| StateError::sqlite(&self.path, error))
    }

    /// Runs `work` in an IMMEDIATE transaction and commits it, as durably as asked.
    pub(crate) fn write<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let outcome = self.committed(durability, work);
        outcome.map_err(|error| StateError::sqlite(&self.path, error))
    }

    fn committed<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        match durability {
            Durability::Full => self.commit(work),
            Durability::Process => {
                self.connection
                    .pragma_update(None, "synchronous", "NORMAL")?;
                let outcome = self.commit(work);
                self.connection.pragma_update(None, "synchronous", "FULL")?;
                outcome
            }
        }
    }

    fn commit<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = work(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// Makes an empty file with its final mode, so that at no instant others can read it. SQLite
/// gives its log and index the same mode.
fn create_private(path: &Path) -> Result<(), StateError> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(folder::FILE_MODE)
        .open(path);
    match created {
        // The umask may have taken bits that the owner needs.
        Ok(_) => {
            folder::set_mode(path, folder::FILE_MODE)?;
            folder::flush_entry(path);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StateError::unusable(path, error)),
    }
}

/// Refuses a file that is plainly not ours, without so much as a lock or a log beside it.
///
/// Without locks a read may be disturbed by a writer, so what it cannot make out is left to
/// [`Database::verify`]: only the header, which fits one page, is believed here.
fn peek(path: &Path) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(|error| StateError::unusable(path, error))?;
    if !metadata.is_file() {
        let source = io::Error::other("it is not a regular file");
        return Err(StateError::unusable(path, source));
    }
    let origin = open_immutable(path).and_then(|connection| Origin::read(&connection));
    match origin {
        Ok(origin) => origin.check(path),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Err(StateError::sqlite(path, error))
        }
        Err(_) => Ok(()),
    }
}

/// Reads the file itself, without locks and without its log.
///
/// It goes through SQLite because closing a file of one's own would drop the locks that another
/// connection of this process holds on it.
pub(crate) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    // With its empty authority a path may start with any number of slashes.
    let mut uri = if path.is_absolute() {
        b"file://".to_vec()
    } else {
        b"file:".to_vec()
    };
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend_from_slice(format!("%{byte:02x}").as_bytes()),
            _ => uri.push(*byte),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(OsString::from_vec(uri), flags)
}

/// Closes our own files to others, if somebody has opened them up.
fn tighten(path: &Path) -> Result<(), StateError> {
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        let Ok(metadata) = fs::metadata(&file) else {
            continue;
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            folder::set_mode(&file, folder::FILE_MODE)?;
        }
    }
    Ok(())
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_flushed_but_those_that_need_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let synchronous = |connection: &Connection| -> i64 {
            connection
                .pragma_query_value(None, "synchronous", |row| row.get(0))
                .unwrap()
        };
        // 1 is NORMAL, 2 is FULL.
        assert_eq!(synchronous(&database.connection), 2);
        let full = database.write(Durability::Full, |transaction| Ok(synchronous(transaction)));
        assert_eq!(full.unwrap(), 2);
        let process = database.write(Durability::Process, |transaction| {
            Ok(synchronous(transaction))
        });
        assert_eq!(process.unwrap(), 1);
        assert_eq!(synchronous(&database.connection), 2);

        let failed: Result<(), _> = database.write(Durability::Process, |_| {
            Err(rusqlite::Error::QueryReturnedNoRows)
        });
        assert!(failed.is_err());
        assert_eq!(synchronous(&database.connection), 2);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        let failed: Result<(), _> = database.write(Durability::Full, |transaction| {
            transaction
                .execute_batch("INSERT INTO exec_approvals_config VALUES ('current', '{}', 1)")?;
            Err(rusqlite::Error::QueryReturnedNoRows)
        });
        assert!(failed.is_err());
        assert_eq!(database.approvals().unwrap().stored, None);
    }

    #[test]
    fn times_beyond_either_range_are_bounded() {
        for (unix_ms, stored) in [(0, 0), (1, 1), (u64::MAX, i64::MAX)] {
            assert_eq!(to_millis(unix_ms), stored);
        }
        for (stored, unix_ms) in [(-1, 0), (i64::MIN, 0), (5, 5)] {
            assert_eq!(from_millis(stored), unix_ms);
        }
    }
}
