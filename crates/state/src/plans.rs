//! The plans that this node prepared, so that an approval of any other is refused (D13).

use std::time::Duration;

use approvals::plan::DirectoryIdentity;
use rusqlite::{OptionalExtension as _, Transaction};
use serde_json::Value;

use crate::StateError;
use crate::database::{Database, Durability, to_millis};

/// How long an approval may take: a prepared plan runs no later than this (D13).
pub const PLAN_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long an expired plan is still told apart from one that was never prepared.
const EXPIRED_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// How many plans are remembered; beyond it those that expire first are forgotten.
const PLAN_LIMIT: u32 = 4096;

/// Every how many preparations the plans are pruned, so that the limit is exceeded by no more.
const PRUNE_INTERVAL: u32 = 256;

/// SHA-256 over the members of a plan that every gateway hands back (D13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanDigest(pub [u8; 32]);

/// What is remembered of a plan beside its digest.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The plan's `policySnapshot`, restored for gateways that drop it.
    pub policy_snapshot: Value,
    /// Which directory its working directory is.
    pub cwd: DirectoryIdentity,
}

/// What the node knows about a digest.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanLookup {
    /// Never prepared here, or used up, or forgotten.
    Unknown,
    /// Prepared here, but longer ago than [`PLAN_LIFETIME`].
    Expired,
    /// Prepared here, with at least one use left.
    Prepared(Plan),
}

/// A row, not yet believed.
struct PlanRow {
    policy_snapshot_json: String,
    cwd: DirectoryIdentity,
    expires_at_ms: i64,
}

impl PlanRow {
    fn select(
        transaction: &Transaction<'_>,
        digest: &PlanDigest,
    ) -> rusqlite::Result<Option<Self>> {
        transaction
            .query_row(
                "SELECT policy_snapshot_json, cwd_device, cwd_inode, cwd_created_ns, expires_at_ms
                 FROM prepared_plan WHERE digest = ?1",
                (digest.0,),
                |row| {
                    Ok(Self {
                        policy_snapshot_json: row.get(0)?,
                        cwd: DirectoryIdentity {
                            device: row.get::<_, i64>(1)?.cast_unsigned(),
                            inode: row.get::<_, i64>(2)?.cast_unsigned(),
                            created_ns: row.get(3)?,
                        },
                        expires_at_ms: row.get(4)?,
                    })
                },
            )
            .optional()
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= to_millis(now_ms)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn prune(transaction: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<usize> {
    let long_expired = transaction.execute(
        "DELETE FROM prepared_plan WHERE expires_at_ms <= ?1",
        (to_millis(now_ms.saturating_sub(millis(EXPIRED_RETENTION))),),
    )?;
    let surplus = transaction.execute(
        "DELETE FROM prepared_plan WHERE digest IN (
             SELECT digest FROM prepared_plan ORDER BY expires_at_ms DESC LIMIT -1 OFFSET ?1)",
        (PLAN_LIMIT,),
    )?;
    Ok(long_expired + surplus)
}

impl Database {
    /// Remembers one more use of a plan that was just prepared.
    ///
    /// Snapshot, directory and expiry become those of this preparation. Uses that expired do not
    /// come back. Survives the death of the process, but is not flushed to disk: after a power
    /// loss the operator is asked again.
    ///
    /// # Errors
    /// Those of writing.
    pub fn remember_plan(
        &mut self,
        digest: &PlanDigest,
        plan: &Plan,
        now_ms: u64,
    ) -> Result<(), StateError> {
        let due = self.plans_since_pruning == 0;
        self.write(Durability::Process, |transaction| {
            transaction.execute(
                "INSERT INTO prepared_plan
                 (digest, policy_snapshot_json, cwd_device, cwd_inode, cwd_created_ns,
                  uses_left, expires_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)
                 ON CONFLICT DO UPDATE SET
                     uses_left = CASE WHEN expires_at_ms <= ?7 THEN 1
                                      ELSE min(uses_left + 1, 4294967295) END,
                     policy_snapshot_json = excluded.policy_snapshot_json,
                     cwd_device = excluded.cwd_device,
                     cwd_inode = excluded.cwd_inode,
                     cwd_created_ns = excluded.cwd_created_ns,
                     expires_at_ms = excluded.expires_at_ms",
                (
                    digest.0,
                    plan.policy_snapshot.to_string(),
                    plan.cwd.device.cast_signed(),
                    plan.cwd.inode.cast_signed(),
                    plan.cwd.created_ns,
                    to_millis(now_ms.saturating_add(millis(PLAN_LIFETIME))),
                    to_millis(now_ms),
                ),
            )?;
            if due {
                prune(transaction, now_ms)
            } else {
                Ok(0)
            }
        })?;
        self.plans_since_pruning = (self.plans_since_pruning + 1) % PRUNE_INTERVAL;
        Ok(())
    }

    /// Looks a plan up and leaves it as it is.
    ///
    /// # Errors
    /// Those of reading.
    pub fn plan(&self, digest: &PlanDigest, now_ms: u64) -> Result<PlanLookup, StateError> {
        let row = self.read(|transaction| PlanRow::select(transaction, digest))?;
        self.looked_up(row, now_ms)
    }

    /// Looks a plan up and takes one use from it; with the last one it is forgotten.
    ///
    /// # Errors
    /// Those of writing.
    pub fn take_plan(
        &mut self,
        digest: &PlanDigest,
        now_ms: u64,
    ) -> Result<PlanLookup, StateError> {
        let row = self.write(Durability::Process, |transaction| {
            let row = PlanRow::select(transaction, digest)?;
            if row.as_ref().is_some_and(|row| !row.is_expired(now_ms)) {
                let forgotten = transaction.execute(
                    "DELETE FROM prepared_plan WHERE digest = ?1 AND uses_left = 1",
                    (digest.0,),
                )?;
                if forgotten == 0 {
                    transaction.execute(
                        "UPDATE prepared_plan SET uses_left = uses_left - 1 WHERE digest = ?1",
                        (digest.0,),
                    )?;
                }
            }
            Ok(row)
        })?;
        self.looked_up(row, now_ms)
    }

    /// Forgets plans that expired long ago and those beyond the limit. Says how many.
    ///
    /// Preparing plans does this by itself from time to time.
    ///
    /// # Errors
    /// Those of writing.
    pub fn prune_plans(&mut self, now_ms: u64) -> Result<usize, StateError> {
        self.write(Durability::Process, |transaction| {
            prune(transaction, now_ms)
        })
    }

    fn looked_up(&self, row: Option<PlanRow>, now_ms: u64) -> Result<PlanLookup, StateError> {
        match row {
            None => Ok(PlanLookup::Unknown),
            Some(row) if row.is_expired(now_ms) => Ok(PlanLookup::Expired),
            Some(row) => {
                let policy_snapshot = serde_json::from_str(&row.policy_snapshot_json)
                    .map_err(|_| StateError::corrupt(self.path(), "a plan's policy snapshot"))?;
                Ok(PlanLookup::Prepared(Plan {
                    policy_snapshot,
                    cwd: row.cwd,
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR_MS: u64 = 60 * 60 * 1000;
    const NOW_MS: u64 = 1_790_000_000_000;

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        (dir, database)
    }

    fn digest(number: u32) -> PlanDigest {
        let mut digest = [7; 32];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        PlanDigest(digest)
    }

    fn plan(security: &str) -> Plan {
        Plan {
            policy_snapshot: json!({"security": security, "ask": "off", "allowlistRules": []}),
            cwd: DirectoryIdentity {
                device: u64::MAX,
                inode: 1 << 63,
                created_ns: Some(1),
            },
        }
    }

    #[test]
    fn a_plan_can_be_used_as_often_as_it_was_prepared() {
        let (_dir, mut database) = database();
        let prepared = PlanLookup::Prepared(plan("allowlist"));
        assert_eq!(
            database.take_plan(&digest(1), NOW_MS).unwrap(),
            PlanLookup::Unknown
        );
        for uses in [1, 3] {
            for _ in 0..uses {
                database
                    .remember_plan(&digest(1), &plan("allowlist"), NOW_MS)
                    .unwrap();
            }
            for _ in 0..uses {
                // Looking takes nothing.
                assert_eq!(database.plan(&digest(1), NOW_MS).unwrap(), prepared);
                assert_eq!(database.take_plan(&digest(1), NOW_MS).unwrap(), prepared);
            }
            assert_eq!(
                database.plan(&digest(1), NOW_MS).unwrap(),
                PlanLookup::Unknown
            );
            assert_eq!(
                database.take_plan(&digest(1), NOW_MS).unwrap(),
                PlanLookup::Unknown
            );
        }
        database
            .remember_plan(&digest(1), &plan("allowlist"), NOW_MS)
            .unwrap();
        assert_eq!(
            database.take_plan(&digest(2), NOW_MS).unwrap(),
            PlanLookup::Unknown
        );
    }

    #[test]
    fn a_plan_expires_after_an_hour_and_does_not_come_back() {
        let (_dir, mut database) = database();
        for _ in 0..2 {
            database
                .remember_plan(&digest(1), &plan("full"), NOW_MS)
                .unwrap();
        }
        let last_moment = NOW_MS + HOUR_MS - 1;
        assert_eq!(
            database.plan(&digest(1), last_moment).unwrap(),
            PlanLookup::Prepared(plan("full"))
        );
        let expired = NOW_MS + HOUR_MS;
        assert_eq!(
            database.plan(&digest(1), expired).unwrap(),
            PlanLookup::Expired
        );
        assert_eq!(
            database.take_plan(&digest(1), expired).unwrap(),
            PlanLookup::Expired
        );
        // Preparing it anew gives one use, not three.
        database
            .remember_plan(&digest(1), &plan("full"), expired)
            .unwrap();
        assert!(matches!(
            database.take_plan(&digest(1), expired).unwrap(),
            PlanLookup::Prepared(_)
        ));
        assert_eq!(
            database.take_plan(&digest(1), expired).unwrap(),
            PlanLookup::Unknown
        );
    }

    #[test]
    fn preparing_again_renews_snapshot_directory_and_expiry() {
        let (_dir, mut database) = database();
        database
            .remember_plan(&digest(1), &plan("full"), NOW_MS)
            .unwrap();
        let renewed = Plan {
            cwd: DirectoryIdentity {
                device: 1,
                inode: 2,
                created_ns: None,
            },
            ..plan("deny")
        };
        database
            .remember_plan(&digest(1), &renewed, NOW_MS + HOUR_MS / 2)
            .unwrap();
        let later = NOW_MS + HOUR_MS;
        for _ in 0..2 {
            let taken = database.take_plan(&digest(1), later).unwrap();
            assert_eq!(taken, PlanLookup::Prepared(renewed.clone()));
        }
    }

    #[test]
    fn plans_outlive_the_process() {
        let (dir, mut database) = database();
        database
            .remember_plan(&digest(1), &plan("full"), NOW_MS)
            .unwrap();
        drop(database);
        let mut reopened = Database::open(dir.path()).unwrap();
        assert_eq!(
            reopened.take_plan(&digest(1), NOW_MS).unwrap(),
            PlanLookup::Prepared(plan("full"))
        );
    }

    #[test]
    fn long_expired_plans_are_forgotten() {
        let (_dir, mut database) = database();
        database
            .remember_plan(&digest(1), &plan("full"), NOW_MS)
            .unwrap();
        database
            .remember_plan(&digest(2), &plan("full"), NOW_MS + HOUR_MS)
            .unwrap();
        assert_eq!(database.prune_plans(NOW_MS + 25 * HOUR_MS - 1).unwrap(), 0);
        assert_eq!(database.prune_plans(NOW_MS + 25 * HOUR_MS).unwrap(), 1);
        let now_ms = NOW_MS + 25 * HOUR_MS;
        assert_eq!(
            database.plan(&digest(1), now_ms).unwrap(),
            PlanLookup::Unknown
        );
        assert_eq!(
            database.plan(&digest(2), now_ms).unwrap(),
            PlanLookup::Expired
        );
    }

    #[test]
    fn the_number_of_plans_is_bounded_and_the_newest_stay() {
        let (_dir, mut database) = database();
        let prepared = PLAN_LIMIT + 3 * PRUNE_INTERVAL;
        for number in 0..prepared {
            database
                .remember_plan(&digest(number), &plan("full"), NOW_MS + u64::from(number))
                .unwrap();
        }
        let count = |database: &Database| -> u32 {
            database
                .read(|transaction| {
                    transaction
                        .query_row("SELECT count(*) FROM prepared_plan", [], |row| row.get(0))
                })
                .unwrap()
        };
        assert!(
            count(&database) < PLAN_LIMIT + PRUNE_INTERVAL,
            "{}",
            count(&database)
        );
        database.prune_plans(NOW_MS).unwrap();
        assert_eq!(count(&database), PLAN_LIMIT);
        let first_kept = prepared - PLAN_LIMIT;
        assert_eq!(
            database.plan(&digest(first_kept - 1), NOW_MS).unwrap(),
            PlanLookup::Unknown
        );
        assert!(matches!(
            database.plan(&digest(first_kept), NOW_MS).unwrap(),
            PlanLookup::Prepared(_)
        ));
    }
}
