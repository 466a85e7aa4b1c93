//! The journal of runs: what was asked, what was decided, what became of it; and what a repeated
//! request is answered with.
//!
//! Nothing here waits for the disk: what is written survives the death of the process, and after a
//! power loss nothing that was written about still runs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::StateError;
use crate::database::{Database, Durability, from_millis, to_millis};

/// How long a result is kept for a repeated request (interfaces: idempotency).
pub const RESULT_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// The room that kept results may take, in bytes; the oldest go first.
const RESULTS_LIMIT_BYTES: i64 = 32 * 1024 * 1024;

/// The longest text that is kept of one member, in bytes; a command can be as long as a message.
const TEXT_LIMIT_BYTES: usize = 16 * 1024;

/// What a row takes beside its texts, in bytes, roughly.
const ROW_BYTES: usize = 200;

/// Every how many writes the journal is pruned.
const PRUNE_INTERVAL: u32 = 64;

/// How much of the journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalBounds {
    /// For how long.
    pub max_age: Duration,
    /// How much room its rows may take, in bytes.
    pub max_size: u64,
}

/// A fact about a run, in the order in which they happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    /// It was decided about.
    Decided(Decided),
    /// Its command was started.
    Started(Started),
    /// It is over.
    Exited(Exited),
    /// What repeated requests for it are answered with.
    Result(RunResult),
}

/// A run that was asked for, and what the policy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The invoke that asked.
    pub invoke_id: String,
    /// The run, as its events call it.
    pub run_id: String,
    /// The agent that asked.
    pub agent: String,
    /// The session that asked.
    pub session: String,
    /// The command's text.
    pub command: String,
    /// When the invoke arrived, in unix milliseconds.
    pub accepted_at_ms: u64,
    /// When it was decided, in unix milliseconds.
    pub decided_at_ms: u64,
    /// `allow`, or the reason of the denial.
    pub decision: String,
    /// What allowed it.
    pub rule: Option<String>,
}

/// The process that a run became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The invoke that asked.
    pub invoke_id: String,
    /// When, in unix milliseconds.
    pub at_ms: u64,
    /// Its first process.
    pub process: RecordedProcess,
}

/// A process as a later start of the node can find it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedProcess {
    /// Which process of this node started it; see [`Database::begin_journal`].
    pub instance: u32,
    /// The number in its mark, where it has one.
    pub number: Option<u32>,
    /// Its process id.
    pub pid: i32,
    /// When it was started, in clock ticks since boot; 0 where the system does not tell.
    pub start_time: u64,
    /// In which boot of the machine.
    pub boot_id: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exited {
    /// The invoke that asked.
    pub invoke_id: String,
    /// When, in unix milliseconds.
    pub at_ms: u64,
    /// `exited`, `timed-out`, `cancelled`, `not-started` or `refused`.
    pub ending: String,
    /// The exit code that was reported.
    pub exit_code: Option<i32>,
    /// The signal that ended its first process.
    pub signal: Option<i32>,
    /// How long it ran, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes that it wrote to both outputs.
    pub output_bytes: u64,
}

/// What a run was answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunResult {
    /// A digest of the idempotency key.
    pub key: [u8; 32],
    /// A digest of the params that came with it.
    pub params: [u8; 32],
    /// The payload, as JSON.
    pub payload: Arc<String>,
    /// When it was answered, in unix milliseconds.
    pub at_ms: u64,
}

/// A row of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// What was asked and decided.
    pub decided: Decided,
    /// The process, and when it was started in unix milliseconds.
    pub started: Option<Started>,
    /// The end, if it was seen.
    pub exited: Option<Exited>,
}

/// What an earlier process of this node has left of its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EarlierInstance {
    /// What its marks begin with.
    pub instance: u32,
    /// The processes of runs whose end was not recorded.
    pub unfinished: Vec<RecordedProcess>,
    /// The highest number that was recorded.
    pub last_number: Option<u32>,
}

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_LIMIT_BYTES))
        .unwrap_or_default()
}

/// What one batch of entries says about one run.
struct Chronicle<'a> {
    decided: &'a Decided,
    started: Option<&'a Started>,
    exited: Option<&'a Exited>,
}

/// Writes a batch. Most runs are over before their first entry is written, so what a batch says
/// about a run becomes one row at once.
fn write_batch(transaction: &Transaction<'_>, entries: &[JournalEntry]) -> rusqlite::Result<()> {
    let mut chronicles: Vec<Chronicle<'_>> = Vec::new();
    let mut latest: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        match entry {
            JournalEntry::Decided(decided) => {
                latest.insert(&decided.invoke_id, chronicles.len());
                chronicles.push(Chronicle {
                    decided,
                    started: None,
                    exited: None,
                });
            }
            JournalEntry::Started(started) => {
                let index = latest.get(started.invoke_id.as_str());
                match index.and_then(|index| chronicles.get_mut(*index)) {
                    Some(chronicle) => chronicle.started = Some(started),
                    None => write_started(transaction, started)?,
                }
            }
            JournalEntry::Exited(exited) => {
                let index = latest.get(exited.invoke_id.as_str());
                match index.and_then(|index| chronicles.get_mut(*index)) {
                    Some(chronicle) => chronicle.exited = Some(exited),
                    None => write_exited(transaction, exited)?,
                }
            }
            JournalEntry::Result(result) => write_result(transaction, result)?,
        }
    }
    chronicles
        .iter()
        .try_for_each(|chronicle| write_chronicle(transaction, chronicle))
}

fn write_chronicle(
    transaction: &Transaction<'_>,
    chronicle: &Chronicle<'_>,
) -> rusqlite::Result<()> {
    let decided = chronicle.decided;
    let process = chronicle.started.map(|started| &started.process);
    let exited = chronicle.exited;
    let [invoke_id, run_id, agent, session, command] = [
        &decided.invoke_id,
        &decided.run_id,
        &decided.agent,
        &decided.session,
        &decided.command,
    ]
    .map(|text| bounded(text));
    let rule = decided.rule.as_deref().map(bounded);
    let texts = [invoke_id, run_id, agent, session, command];
    let size =
        ROW_BYTES + texts.iter().map(|text| text.len()).sum::<usize>() + rule.map_or(0, str::len);
    transaction
        .prepare_cached(
            "INSERT INTO run_journal (invoke_id, run_id, agent, session, command,
                 accepted_at_ms, decided_at_ms, decision, rule, size,
                 started_at_ms, instance, number, pid, start_time, boot_id,
                 exited_at_ms, ending, exit_code, signal, duration_ms, output_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                 ?17, ?18, ?19, ?20, ?21, ?22)",
        )?
        .execute(params![
            invoke_id,
            run_id,
            agent,
            session,
            command,
            to_millis(decided.accepted_at_ms),
            to_millis(decided.decided_at_ms),
            decided.decision,
            rule,
            i64::try_from(size).unwrap_or(i64::MAX),
            chronicle.started.map(|started| to_millis(started.at_ms)),
            process.map(|process| process.instance),
            process.and_then(|process| process.number),
            process.map(|process| process.pid),
            process.map(|process| process.start_time.cast_signed()),
            process.map(|process| &process.boot_id),
            exited.map(|exited| to_millis(exited.at_ms)),
            exited.map(|exited| &exited.ending),
            exited.and_then(|exited| exited.exit_code),
            exited.and_then(|exited| exited.signal),
            exited.and_then(|exited| exited.duration_ms).map(to_millis),
            exited.map(|exited| exited.output_bytes.cast_signed()),
        ])
        .map(drop)
}

fn write_started(transaction: &Transaction<'_>, started: &Started) -> rusqlite::Result<()> {
    let process = &started.process;
    transaction
        .prepare_cached(
            "UPDATE run_journal SET started_at_ms = ?2, instance = ?3, number = ?4,
                 pid = ?5, start_time = ?6, boot_id = ?7
             WHERE sequence = (SELECT max(sequence) FROM run_journal WHERE invoke_id = ?1)",
        )?
        .execute((
            bounded(&started.invoke_id),
            to_millis(started.at_ms),
            process.instance,
            process.number,
            process.pid,
            process.start_time.cast_signed(),
            &process.boot_id,
        ))
        .map(drop)
}

fn write_exited(transaction: &Transaction<'_>, exited: &Exited) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE run_journal SET exited_at_ms = ?2, ending = ?3, exit_code = ?4,
                 signal = ?5, duration_ms = ?6, output_bytes = ?7
             WHERE sequence = (SELECT max(sequence) FROM run_journal WHERE invoke_id = ?1)",
        )?
        .execute((
            bounded(&exited.invoke_id),
            to_millis(exited.at_ms),
            &exited.ending,
            exited.exit_code,
            exited.signal,
            exited.duration_ms.map(to_millis),
            exited.output_bytes.cast_signed(),
        ))
        .map(drop)
}

fn write_result(transaction: &Transaction<'_>, result: &RunResult) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO run_result (key, params, payload, at_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET params = excluded.params, payload = excluded.payload,
                 at_ms = excluded.at_ms",
        )?
        .execute((
            result.key,
            result.params,
            &result.payload,
            to_millis(result.at_ms),
        ))
        .map(drop)
}

fn prune(
    transaction: &Transaction<'_>,
    bounds: JournalBounds,
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let since = |age: Duration| {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        to_millis(now_ms.saturating_sub(age))
    };
    // A run that may still go on is kept, or the next start could not find it.
    let over = "(started_at_ms IS NULL OR exited_at_ms IS NOT NULL)";
    let old = transaction.execute(
        &format!("DELETE FROM run_journal WHERE accepted_at_ms < ?1 AND {over}"),
        (since(bounds.max_age),),
    )?;
    let surplus = transaction.execute(
        &format!(
            "DELETE FROM run_journal WHERE {over} AND sequence <= coalesce((
                 SELECT sequence FROM (
                     SELECT sequence, sum(size) OVER (ORDER BY sequence DESC) AS kept
                     FROM run_journal)
                 WHERE kept > ?1 ORDER BY sequence DESC LIMIT 1), -1)"
        ),
        (to_millis(bounds.max_size),),
    )?;
    let expired = transaction.execute(
        "DELETE FROM run_result WHERE at_ms < ?1",
        (since(RESULT_LIFETIME),),
    )?;
    let too_large = transaction.execute(
        "DELETE FROM run_result WHERE key IN (
             SELECT key FROM (
                 SELECT key, sum(length(payload)) OVER (ORDER BY at_ms DESC, key) AS kept
                 FROM run_result)
             WHERE kept > ?1)",
        (RESULTS_LIMIT_BYTES,),
    )?;
    Ok(old + surplus + expired + too_large)
}

impl Database {
    /// Notes that a process of this node begins to run commands, and says what earlier ones have
    /// left. `instance` is what its marks begin with.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin_journal(
        &mut self,
        instance: u32,
        now_ms: u64,
    ) -> Result<Vec<EarlierInstance>, StateError> {
        self.write(Durability::Process, |transaction| {
            let mut earlier: BTreeMap<u32, EarlierInstance> = BTreeMap::new();
            let mut instances = transaction.prepare("SELECT instance FROM node_instance")?;
            for earlier_instance in instances.query_map((), |row| row.get::<_, u32>(0))? {
                let instance = earlier_instance?;
                let last_number = transaction.query_row(
                    "SELECT max(number) FROM run_journal WHERE instance = ?1",
                    (instance,),
                    |row| row.get(0),
                )?;
                earlier.insert(
                    instance,
                    EarlierInstance {
                        instance,
                        unfinished: Vec::new(),
                        last_number,
                    },
                );
            }
            let mut unfinished = transaction.prepare(
                "SELECT instance, number, pid, start_time, boot_id FROM run_journal
                 WHERE started_at_ms IS NOT NULL AND exited_at_ms IS NULL",
            )?;
            let processes = unfinished.query_map((), |row| {
                Ok(RecordedProcess {
                    instance: row.get(0)?,
                    number: row.get(1)?,
                    pid: row.get(2)?,
                    start_time: row.get::<_, i64>(3)?.cast_unsigned(),
                    boot_id: row.get(4)?,
                })
            })?;
            for process in processes {
                let process = process?;
                let earlier = earlier.entry(process.instance).or_default();
                earlier.instance = process.instance;
                earlier.unfinished.push(process);
            }
            transaction.execute(
                "INSERT OR IGNORE INTO node_instance (instance, since_ms) VALUES (?1, ?2)",
                (instance, to_millis(now_ms)),
            )?;
            Ok(earlier.into_values().collect())
        })
    }

    /// Notes that everything that an earlier process left is ended.
    ///
    /// # Errors
    /// Those of writing.
    pub fn close_journal_of(&mut self, instance: u32, now_ms: u64) -> Result<(), StateError> {
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "UPDATE run_journal SET exited_at_ms = ?2, ending = 'lost'
                 WHERE instance = ?1 AND exited_at_ms IS NULL",
                (instance, to_millis(now_ms)),
            )?;
            transaction
                .execute("DELETE FROM node_instance WHERE instance = ?1", (instance,))
                .map(drop)
        })
    }

    /// Writes what happened, all at once, and from time to time forgets what exceeds `bounds`.
    ///
    /// # Errors
    /// Those of writing; then none of it is written.
    pub fn write_journal(
        &mut self,
        entries: &[JournalEntry],
        bounds: JournalBounds,
        now_ms: u64,
    ) -> Result<(), StateError> {
        let due = self.journal_writes_since_pruning == 0;
        self.write(Durability::Process, |transaction| {
            write_batch(transaction, entries)?;
            if due {
                prune(transaction, bounds, now_ms)
            } else {
                Ok(0)
            }
        })?;
        self.journal_writes_since_pruning =
            (self.journal_writes_since_pruning + 1) % PRUNE_INTERVAL;
        Ok(())
    }

    /// The most recent runs, newest first.
    ///
    /// # Errors
    /// Those of reading.
    pub fn journal(&self, limit: u32) -> Result<Vec<JournalRow>, StateError> {
        self.read(|transaction| {
            let mut statement = transaction.prepare(
                "SELECT invoke_id, run_id, agent, session, command, accepted_at_ms, decided_at_ms,
                     decision, rule, started_at_ms, instance, number, pid, start_time, boot_id,
                     exited_at_ms, ending, exit_code, signal, duration_ms, output_bytes
                 FROM run_journal ORDER BY sequence DESC LIMIT ?1",
            )?;
            let rows = statement.query_map((limit,), |row| {
                let invoke_id: String = row.get(0)?;
                let started = match row.get::<_, Option<i64>>(9)? {
                    None => None,
                    Some(at_ms) => Some(Started {
                        invoke_id: invoke_id.clone(),
                        at_ms: from_millis(at_ms),
                        process: RecordedProcess {
                            instance: row.get(10)?,
                            number: row.get(11)?,
                            pid: row.get(12)?,
                            start_time: row.get::<_, i64>(13)?.cast_unsigned(),
                            boot_id: row.get(14)?,
                        },
                    }),
                };
                let exited = match row.get::<_, Option<i64>>(15)? {
                    None => None,
                    Some(at_ms) => Some(Exited {
                        invoke_id: invoke_id.clone(),
                        at_ms: from_millis(at_ms),
                        ending: row.get(16)?,
                        exit_code: row.get(17)?,
                        signal: row.get(18)?,
                        duration_ms: row.get::<_, Option<i64>>(19)?.map(from_millis),
                        output_bytes: row.get::<_, Option<i64>>(20)?.map_or(0, i64::cast_unsigned),
                    }),
                };
                Ok(JournalRow {
                    decided: Decided {
                        invoke_id,
                        run_id: row.get(1)?,
                        agent: row.get(2)?,
                        session: row.get(3)?,
                        command: row.get(4)?,
                        accepted_at_ms: from_millis(row.get(5)?),
                        decided_at_ms: from_millis(row.get(6)?),
                        decision: row.get(7)?,
                        rule: row.get(8)?,
                    },
                    started,
                    exited,
                })
            })?;
            rows.collect()
        })
    }

    /// The digests of the keys whose results are kept, oldest first, with the time of each.
    ///
    /// # Errors
    /// Those of reading.
    pub fn kept_results(&self, now_ms: u64) -> Result<Vec<([u8; 32], u64)>, StateError> {
        self.read(|transaction| {
            let mut statement = transaction
                .prepare("SELECT key, at_ms FROM run_result WHERE at_ms >= ?1 ORDER BY at_ms")?;
            let rows = statement.query_map((oldest_result(now_ms),), |row| {
                Ok((row.get(0)?, from_millis(row.get(1)?)))
            })?;
            rows.collect()
        })
    }

    /// The result that is kept under a key.
    ///
    /// # Errors
    /// Those of reading.
    pub fn result_of(&self, key: &[u8; 32], now_ms: u64) -> Result<Option<RunResult>, StateError> {
        self.read(|transaction| {
            transaction
                .query_row(
                    "SELECT params, payload, at_ms FROM run_result WHERE key = ?1 AND at_ms >= ?2",
                    (key, oldest_result(now_ms)),
                    |row| {
                        Ok(RunResult {
                            key: *key,
                            params: row.get(0)?,
                            payload: Arc::new(row.get(1)?),
                            at_ms: from_millis(row.get(2)?),
                        })
                    },
                )
                .optional()
        })
    }
}

fn oldest_result(now_ms: u64) -> i64 {
    let lifetime = u64::try_from(RESULT_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    to_millis(now_ms.saturating_sub(lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;
    const BOUNDS: JournalBounds = JournalBounds {
        max_age: Duration::from_secs(3600),
        max_size: 1 << 20,
    };

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        (dir, database)
    }

    fn decided(invoke_id: &str, at_ms: u64) -> Decided {
        Decided {
            invoke_id: invoke_id.to_owned(),
            run_id: "run".to_owned(),
            agent: "main".to_owned(),
            session: "node".to_owned(),
            command: "echo hi".to_owned(),
            accepted_at_ms: at_ms,
            decided_at_ms: at_ms + 1,
            decision: "allow".to_owned(),
            rule: Some("/usr/bin/echo".to_owned()),
        }
    }

    fn started(invoke_id: &str, instance: u32, number: u32) -> Started {
        Started {
            invoke_id: invoke_id.to_owned(),
            at_ms: NOW_MS + 2,
            process: RecordedProcess {
                instance,
                number: Some(number),
                pid: 4242,
                start_time: u64::MAX,
                boot_id: "boot".to_owned(),
            },
        }
    }

    fn exited(invoke_id: &str) -> Exited {
        Exited {
            invoke_id: invoke_id.to_owned(),
            at_ms: NOW_MS + 9,
            ending: "exited".to_owned(),
            exit_code: Some(3),
            signal: None,
            duration_ms: Some(7),
            output_bytes: 5_000_000_000,
        }
    }

    fn result(key: u8, payload: &str, at_ms: u64) -> RunResult {
        RunResult {
            key: [key; 32],
            params: [9; 32],
            payload: Arc::new(payload.to_owned()),
            at_ms,
        }
    }

    fn write_at(database: &mut Database, entries: &[JournalEntry], now_ms: u64) {
        database.journal_writes_since_pruning = 0;
        database.write_journal(entries, BOUNDS, now_ms).unwrap();
    }

    #[test]
    fn a_run_is_followed_from_decision_to_end() {
        let (_dir, mut database) = database();
        let mut expected = JournalRow {
            decided: decided("i", NOW_MS),
            started: None,
            exited: None,
        };
        write_at(
            &mut database,
            &[JournalEntry::Decided(expected.decided.clone())],
            NOW_MS,
        );
        assert_eq!(database.journal(9).unwrap(), [expected.clone()]);

        let (start, end) = (started("i", 5, 6), exited("i"));
        let entries = [
            JournalEntry::Started(start.clone()),
            JournalEntry::Exited(end.clone()),
        ];
        write_at(&mut database, &entries, NOW_MS);
        (expected.started, expected.exited) = (Some(start), Some(end));
        assert_eq!(database.journal(9).unwrap(), [expected.clone()]);

        // An id that a gateway uses again is another run.
        write_at(
            &mut database,
            &[JournalEntry::Decided(decided("i", NOW_MS + 50))],
            NOW_MS,
        );
        let rows = database.journal(9).unwrap();
        assert_eq!((rows.len(), &rows[1]), (2, &expected));
    }

    #[test]
    fn a_later_start_is_told_what_did_not_end() {
        let (_dir, mut database) = database();
        assert_eq!(database.begin_journal(5, NOW_MS).unwrap(), []);
        let entries = [
            JournalEntry::Decided(decided("a", NOW_MS)),
            JournalEntry::Started(started("a", 5, 0)),
            JournalEntry::Decided(decided("b", NOW_MS)),
            JournalEntry::Started(started("b", 5, 1)),
            JournalEntry::Exited(exited("b")),
            JournalEntry::Decided(decided("c", NOW_MS)),
        ];
        write_at(&mut database, &entries, NOW_MS);

        let earlier = database.begin_journal(6, NOW_MS).unwrap();
        let left = EarlierInstance {
            instance: 5,
            unfinished: vec![started("a", 5, 0).process],
            last_number: Some(1),
        };
        assert_eq!(earlier, std::slice::from_ref(&left));
        // A start that is killed before it could do anything about it changes nothing.
        let unused = EarlierInstance {
            instance: 6,
            ..EarlierInstance::default()
        };
        assert_eq!(database.begin_journal(7, NOW_MS).unwrap(), [left, unused]);

        for instance in [5, 6] {
            database.close_journal_of(instance, NOW_MS).unwrap();
        }
        let unused = EarlierInstance {
            instance: 7,
            ..EarlierInstance::default()
        };
        assert_eq!(database.begin_journal(8, NOW_MS).unwrap(), [unused]);
        let lost = &database.journal(9).unwrap()[2];
        assert_eq!(lost.exited.as_ref().unwrap().ending, "lost");
    }

    #[test]
    fn the_journal_is_bounded_by_age_but_keeps_what_may_still_run() {
        let (_dir, mut database) = database();
        let entries = [
            JournalEntry::Decided(decided("running", NOW_MS)),
            JournalEntry::Started(started("running", 5, 0)),
            JournalEntry::Decided(decided("denied", NOW_MS)),
            JournalEntry::Decided(decided("over", NOW_MS)),
            JournalEntry::Started(started("over", 5, 1)),
            JournalEntry::Exited(exited("over")),
        ];
        write_at(&mut database, &entries, NOW_MS);
        write_at(&mut database, &[], NOW_MS + 3_600_000);
        assert_eq!(database.journal(9).unwrap().len(), 3);
        write_at(&mut database, &[], NOW_MS + 3_600_001);
        let kept = database.journal(9).unwrap();
        assert_eq!(
            (kept.len(), kept[0].decided.invoke_id.as_str()),
            (1, "running")
        );
    }

    #[test]
    fn the_journal_is_bounded_by_size_and_forgets_the_oldest() {
        let (_dir, mut database) = database();
        let long = "x".repeat(100_000);
        for index in 0..200_u32 {
            let run = Decided {
                command: long.clone(),
                ..decided(&index.to_string(), NOW_MS)
            };
            write_at(&mut database, &[JournalEntry::Decided(run)], NOW_MS);
        }
        let kept = database.journal(1000).unwrap();
        // 1 MiB of rows of a little over 16 KiB.
        assert_eq!(kept.len(), 63);
        assert_eq!(kept[0].decided.invoke_id, "199");
        assert_eq!(kept[0].decided.command.len(), TEXT_LIMIT_BYTES);
    }

    #[test]
    fn a_result_is_kept_for_its_time_and_within_its_room() {
        let (_dir, mut database) = database();
        let first = result(1, "{\"a\":1}", NOW_MS);
        write_at(
            &mut database,
            &[JournalEntry::Result(first.clone())],
            NOW_MS,
        );
        let last_moment = NOW_MS + 600_000;
        assert_eq!(
            database.result_of(&[1; 32], last_moment).unwrap(),
            Some(first)
        );
        assert_eq!(
            database.kept_results(last_moment).unwrap(),
            [([1; 32], NOW_MS)]
        );
        assert_eq!(database.result_of(&[1; 32], last_moment + 1).unwrap(), None);
        assert_eq!(database.kept_results(last_moment + 1).unwrap(), []);
        assert_eq!(database.result_of(&[2; 32], NOW_MS).unwrap(), None);

        let large = "x".repeat(12 << 20);
        for key in 2..6 {
            let entry = JournalEntry::Result(result(key, &large, NOW_MS + u64::from(key)));
            write_at(&mut database, &[entry], NOW_MS + 10);
        }
        let kept = database.kept_results(NOW_MS + 10).unwrap();
        assert_eq!(kept, [([4; 32], NOW_MS + 4), ([5; 32], NOW_MS + 5)]);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for shift in 0..4 {
            let text = "a".repeat(shift) + &"🦀".repeat(5000);
            let kept = bounded(&text);
            assert!(text.starts_with(kept) && kept.len() > TEXT_LIMIT_BYTES - 4);
        }
        assert_eq!(bounded("short"), "short");
    }
}
