//! Since when the node runs, and how it last ended, so that `status` can tell both.

use rusqlite::{OptionalExtension as _, Transaction};

use crate::StateError;
use crate::database::{Database, Durability, from_millis, to_millis};

/// What is said of a node that ended without a word.
const WITHOUT_A_WORD: &str = "it was killed, it crashed, or the machine lost power";

/// The longest reason that is kept, in bytes.
const REASON_LIMIT_BYTES: usize = 1024;

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// Its exit code; `None` when it ended without a word.
    pub code: Option<u8>,
    /// Why, in words.
    pub reason: String,
    /// When, unix milliseconds; the last sign of life when it ended without a word.
    pub at_ms: u64,
}

impl LastExit {
    fn without_a_word(alive_at_ms: u64) -> Self {
        Self {
            code: None,
            reason: WITHOUT_A_WORD.to_owned(),
            at_ms: alive_at_ms,
        }
    }
}

struct Life {
    running: bool,
    alive_at_ms: u64,
    last_exit: Option<LastExit>,
}

impl Life {
    fn select(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Self>> {
        transaction
            .query_row(
                "SELECT running, alive_at_ms, exit_code, exit_reason, exit_at_ms FROM node_life",
                [],
                |row| {
                    let reason: Option<String> = row.get(3)?;
                    let last_exit = match reason {
                        Some(reason) => Some(LastExit {
                            code: row.get(2)?,
                            reason,
                            at_ms: from_millis(row.get(4)?),
                        }),
                        None => None,
                    };
                    Ok(Self {
                        running: row.get(0)?,
                        alive_at_ms: from_millis(row.get(1)?),
                        last_exit,
                    })
                },
            )
            .optional()
    }

    /// How the node last ended, once it runs no more.
    fn ended(self) -> Option<LastExit> {
        if self.running {
            Some(LastExit::without_a_word(self.alive_at_ms))
        } else {
            self.last_exit
        }
    }
}

impl Database {
    /// A node starts: the caller holds the lock, so whoever ran before has ended. Says how.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin_life(&mut self, now_ms: u64) -> Result<Option<LastExit>, StateError> {
        let last_exit = self.read(Life::select)?.and_then(Life::ended);
        let (code, reason, at_ms) = columns(last_exit.as_ref());
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO node_life
                 (slot, running, alive_at_ms, exit_code, exit_reason, exit_at_ms)
                 VALUES (1, 1, ?1, ?2, ?3, ?4)",
                (to_millis(now_ms), code, reason, at_ms),
            )
        })?;
        Ok(last_exit)
    }

    /// The node is still alive.
    ///
    /// # Errors
    /// Those of writing.
    pub fn note_alive(&mut self, now_ms: u64) -> Result<(), StateError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute("UPDATE node_life SET alive_at_ms = ?1", [to_millis(now_ms)])
        })?;
        Ok(())
    }

    /// The node ends, or could not start.
    ///
    /// # Errors
    /// Those of writing.
    pub fn end_life(&mut self, code: u8, reason: &str, now_ms: u64) -> Result<(), StateError> {
        let reason = shortened(reason);
        self.write(Durability::Full, |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO node_life
                 (slot, running, alive_at_ms, exit_code, exit_reason, exit_at_ms)
                 VALUES (1, 0, ?1, ?2, ?3, ?1)",
                (to_millis(now_ms), code, reason),
            )
        })?;
        Ok(())
    }

    /// How the node last ended. `runs` says whether one runs now: of a node that is gone, but
    /// never said so, only the last sign of life is known.
    ///
    /// # Errors
    /// Those of reading.
    pub fn last_exit(&self, runs: bool) -> Result<Option<LastExit>, StateError> {
        let life = self.read(|transaction| {
            // Read without being migrated, it may still be an earlier program's database.
            let known = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'node_life')",
                [],
                |row| row.get(0),
            )?;
            if known {
                Life::select(transaction)
            } else {
                Ok(None)
            }
        })?;
        Ok(life.and_then(|life| if runs { life.last_exit } else { life.ended() }))
    }
}

fn columns(exit: Option<&LastExit>) -> (Option<u8>, Option<&str>, Option<i64>) {
    match exit {
        Some(exit) => (exit.code, Some(&exit.reason), Some(to_millis(exit.at_ms))),
        None => (None, None, None),
    }
}

fn shortened(reason: &str) -> &str {
    reason
        .get(..reason.floor_char_boundary(REASON_LIMIT_BYTES))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_whoever_looks_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        assert_eq!(database.last_exit(false).unwrap(), None);
        assert_eq!(database.begin_life(1_000).unwrap(), None);
        assert_eq!(database.last_exit(true).unwrap(), None);
        database.end_life(143, "SIGTERM", 2_000).unwrap();
        let expected = LastExit {
            code: Some(143),
            reason: "SIGTERM".to_owned(),
            at_ms: 2_000,
        };
        assert_eq!(database.last_exit(false).unwrap(), Some(expected.clone()));
        assert_eq!(database.begin_life(3_000).unwrap(), Some(expected.clone()));
        assert_eq!(database.last_exit(true).unwrap(), Some(expected));
    }

    #[test]
    fn of_a_node_that_was_killed_the_last_sign_of_life_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        database.end_life(1, "refused", 500).unwrap();
        database.begin_life(1_000).unwrap();
        database.note_alive(9_000).unwrap();
        let killed = database.last_exit(false).unwrap().unwrap();
        assert_eq!((killed.code, killed.at_ms), (None, 9_000));
        assert_eq!(database.begin_life(10_000).unwrap(), Some(killed.clone()));
        assert_eq!(database.last_exit(true).unwrap(), Some(killed));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "ä".repeat(REASON_LIMIT_BYTES);
        assert_eq!(shortened(&long).len(), REASON_LIMIT_BYTES);
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), REASON_LIMIT_BYTES - 1);
    }

    #[test]
    fn a_database_of_an_earlier_program_has_no_last_exit() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        database
            .read(|transaction| transaction.execute_batch("DROP TABLE node_life"))
            .unwrap();
        assert_eq!(database.last_exit(false).unwrap(), None);
    }
}
