//! The approvals document, as raw text: its meaning belongs to the policy.

use rusqlite::{OptionalExtension as _, Transaction};

use crate::StateError;
use crate::database::{Database, Durability, from_millis, to_millis};

/// Says whether another process has written to the database since the last look.
///
/// It changes with any foreign write, not only to the approvals, and never with this
/// connection's own writes (`PRAGMA data_version`). Only comparing two of one [`Database`] means
/// anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataVersion(i64);

/// The stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApprovals {
    /// The bytes that its hash is taken over.
    pub raw_json: String,
    /// When it was last written, unix milliseconds.
    pub updated_at_ms: u64,
}

/// One look at the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalsReading {
    /// The document; `None` until one is first written.
    pub stored: Option<StoredApprovals>,
    /// While [`Database::data_version`] still says this, nobody else has changed it.
    pub data_version: DataVersion,
}

/// How [`Database::replace_approvals`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// The new document is on disk.
    Done,
    /// Somebody else's document stands there; nothing was written.
    Conflict {
        /// What stands there now.
        current: Option<StoredApprovals>,
    },
}

fn select_approvals(transaction: &Transaction<'_>) -> rusqlite::Result<Option<StoredApprovals>> {
    transaction
        .query_row(
            "SELECT raw_json, updated_at_ms FROM exec_approvals_config",
            [],
            |row| {
                Ok(StoredApprovals {
                    raw_json: row.get(0)?,
                    updated_at_ms: from_millis(row.get(1)?),
                })
            },
        )
        .optional()
}

fn select_data_version(transaction: &Transaction<'_>) -> rusqlite::Result<DataVersion> {
    transaction
        .pragma_query_value(None, "data_version", |row| row.get(0))
        .map(DataVersion)
}

pub(crate) fn write_approvals(
    transaction: &Transaction<'_>,
    raw_json: &str,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO exec_approvals_config
         (config_key, raw_json, updated_at_ms) VALUES ('current', ?1, ?2)",
        (raw_json, to_millis(now_ms)),
    )?;
    Ok(())
}

impl Database {
    /// Reads the document, together with the version to watch.
    ///
    /// # Errors
    /// Those of reading.
    pub fn approvals(&self) -> Result<ApprovalsReading, StateError> {
        self.read(|transaction| {
            Ok(ApprovalsReading {
                data_version: select_data_version(transaction)?,
                stored: select_approvals(transaction)?,
            })
        })
    }

    /// The version to compare with [`ApprovalsReading::data_version`]; costs microseconds, so it
    /// can be asked before every decision.
    ///
    /// # Errors
    /// Those of reading.
    pub fn data_version(&self) -> Result<DataVersion, StateError> {
        // A statement of its own reads a consistent state as well, without the cost of a transaction.
        self.look(|connection| {
            connection
                .prepare_cached("PRAGMA data_version")?
                .query_row([], |row| row.get(0))
        })
        .map(DataVersion)
    }

    /// Replaces the document if it still is `expected` (`None`: if there still is none); on disk
    /// when this returns. Compare and write are one IMMEDIATE transaction.
    ///
    /// # Errors
    /// Those of writing.
    pub fn replace_approvals(
        &mut self,
        raw_json: &str,
        expected: Option<&str>,
        now_ms: u64,
    ) -> Result<Replacement, StateError> {
        self.write(Durability::Full, |transaction| {
            let current = select_approvals(transaction)?;
            if current.as_ref().map(|stored| stored.raw_json.as_str()) != expected {
                return Ok(Replacement::Conflict { current });
            }
            write_approvals(transaction, raw_json, now_ms)?;
            Ok(Replacement::Done)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(reading: &ApprovalsReading) -> Option<&str> {
        reading
            .stored
            .as_ref()
            .map(|stored| stored.raw_json.as_str())
    }

    #[test]
    fn a_document_is_replaced_only_by_who_knows_what_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        assert_eq!(raw(&database.approvals().unwrap()), None);

        // Document, what it expects, whether it is stored.
        let attempts = [
            ("one", Some("zero"), false),
            ("one", None, true),
            ("two", None, false),
            ("two", Some("two"), false),
            ("two", Some("one"), true),
            ("three", Some("one"), false),
        ];
        let mut current: Option<&str> = None;
        for (now_ms, (document, expected, is_stored)) in (1..).zip(attempts) {
            let outcome = database
                .replace_approvals(document, expected, now_ms)
                .unwrap();
            match outcome {
                Replacement::Done => {
                    assert!(is_stored, "{document} over {expected:?}");
                    current = Some(document);
                    let stored = database.approvals().unwrap().stored.unwrap();
                    assert_eq!(stored.updated_at_ms, now_ms);
                }
                Replacement::Conflict { current: found } => {
                    assert!(!is_stored, "{document} over {expected:?}");
                    assert_eq!(found.map(|stored| stored.raw_json).as_deref(), current);
                }
            }
            assert_eq!(raw(&database.approvals().unwrap()), current);
        }
    }

    #[test]
    fn a_node_notices_what_another_process_has_written_but_not_its_own_writes() {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Database::open(dir.path()).unwrap();
        let first = node.approvals().unwrap();
        node.replace_approvals("{}", None, 1).unwrap();
        assert_eq!(node.data_version().unwrap(), first.data_version);

        let mut cli = Database::open(dir.path()).unwrap();
        cli.replace_approvals("{\"version\":1}", Some("{}"), 2)
            .unwrap();
        assert_ne!(node.data_version().unwrap(), first.data_version);
        let second = node.approvals().unwrap();
        assert_eq!(raw(&second), Some("{\"version\":1}"));
        assert_eq!(node.data_version().unwrap(), second.data_version);
        assert!(matches!(
            node.replace_approvals("{\"version\":2}", Some("{}"), 3)
                .unwrap(),
            Replacement::Conflict { .. }
        ));
    }

    #[test]
    fn the_document_is_kept_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let document = "{\n  \"version\": 1,\n  \"x\": \"\u{e9}\\u0000\"\n}\n";
        let mut database = Database::open(dir.path()).unwrap();
        database.replace_approvals(document, None, 1).unwrap();
        drop(database);
        let reopened = Database::open(dir.path()).unwrap();
        assert_eq!(raw(&reopened.approvals().unwrap()), Some(document));
    }
}
