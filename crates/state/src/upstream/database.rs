//! The database of 2026.9.6, opened so that nothing of it changes.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row};
use secrecy::SecretString;

use super::UpstreamError;
use crate::database::{beside, open_immutable};

/// The row that holds the node host's profile (state §3.1).
const PROFILE_KEY: &str = "nodeHost.config";

/// The only identity there is (state §3.1).
const IDENTITY_KEY: &str = "primary";

/// An item's columns, `None` without a row, or what is wrong with the row.
type Reading<T> = Result<Option<T>, String>;

/// The columns of an identity, not yet believed.
pub(super) struct IdentityColumns {
    pub(super) device_id: String,
    pub(super) private_key_pem: SecretString,
    pub(super) public_key_pem: String,
    pub(super) created_at_ms: i64,
}

/// Upstream's open database.
#[derive(Debug)]
pub(super) struct UpstreamDatabase {
    connection: Connection,
    path: PathBuf,
}

impl UpstreamDatabase {
    /// Opens the database; `None` when there is none.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, UpstreamError> {
        if !path.try_exists().map_err(|error| unreadable(path, error))? {
            return Ok(None);
        }
        if is_filled(&beside(path, "-journal")) {
            return Err(UpstreamError::Unfinished {
                path: path.to_owned(),
            });
        }
        let connection = if is_filled(&beside(path, "-wal")) {
            open_with_log(path)
        } else {
            // Everything is in the file itself.
            open_immutable(path)
        };
        let connection = connection.map_err(|error| unreadable(path, error))?;
        let database = Self {
            connection,
            path: path.to_owned(),
        };
        // A file that is no database says so at the first look.
        database.has_table("config_machine_state")?;
        Ok(Some(database))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The text of the profile.
    pub(super) fn profile(&self) -> Result<Reading<String>, UpstreamError> {
        self.row(
            "config_machine_state",
            "SELECT value_json FROM config_machine_state WHERE state_key = ?1",
            [PROFILE_KEY],
            |row| row.get(0),
        )
    }

    pub(super) fn identity(&self) -> Result<Reading<IdentityColumns>, UpstreamError> {
        self.row(
            "device_identities",
            "SELECT device_id, private_key_pem, public_key_pem, created_at_ms
             FROM device_identities WHERE identity_key = ?1",
            [IDENTITY_KEY],
            |row| {
                Ok(IdentityColumns {
                    device_id: row.get(0)?,
                    private_key_pem: SecretString::from(row.get::<_, String>(1)?),
                    public_key_pem: row.get(2)?,
                    created_at_ms: row.get(3)?,
                })
            },
        )
    }

    pub(super) fn device_token(
        &self,
        device_id: &str,
    ) -> Result<Reading<SecretString>, UpstreamError> {
        self.row(
            "device_auth_tokens",
            "SELECT token FROM device_auth_tokens WHERE device_id = ?1 AND role = ?2",
            [device_id, protocol::connect::ROLE],
            |row| row.get::<_, String>(0).map(SecretString::from),
        )
    }

    pub(super) fn approvals(&self) -> Result<Reading<SecretString>, UpstreamError> {
        self.row(
            "exec_approvals_config",
            "SELECT raw_json FROM exec_approvals_config WHERE config_key = ?1",
            ["current"],
            |row| row.get::<_, String>(0).map(SecretString::from),
        )
    }

    fn row<T>(
        &self,
        table: &str,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Reading<T>, UpstreamError> {
        // Releases gain and lose tables every few weeks.
        if !self.has_table(table)? {
            return Ok(Ok(None));
        }
        match self.connection.query_row(sql, parameters, read).optional() {
            Ok(row) => Ok(Ok(row)),
            Err(error) => match error.sqlite_error_code() {
                // Another schema than the one that is known, or a column of another type.
                None | Some(ErrorCode::Unknown) => {
                    let version = self.user_version()?;
                    Ok(Err(format!(
                        "the row of schema version {version} is not understood ({error})"
                    )))
                }
                Some(_) => Err(unreadable(&self.path, error)),
            },
        }
    }

    fn has_table(&self, table: &str) -> Result<bool, UpstreamError> {
        self.connection
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)",
                [table],
                |row| row.get(0),
            )
            .map_err(|error| unreadable(&self.path, error))
    }

    fn user_version(&self) -> Result<i32, UpstreamError> {
        self.connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| unreadable(&self.path, error))
    }
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> UpstreamError {
    UpstreamError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn is_filled(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Opens a database whose latest writes are in its log, as a killed or a running node host leaves
/// it.
///
/// With the file to itself SQLite keeps the log's index in memory and, told not to write the log
/// back, changes nothing. While a node host runs it cannot have the file to itself, but then the
/// index beside the file is in use and can be read along.
fn open_with_log(path: &Path) -> rusqlite::Result<Connection> {
    let look = |connection: &Connection| -> rusqlite::Result<()> {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    let alone = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        look(&connection)?;
        Ok(connection)
    };
    match alone() {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            look(&connection)?;
            Ok(connection)
        }
        outcome => outcome,
    }
}
