//! The tables, and the ordered steps that lead to them.

use rusqlite::Transaction;

/// Stands in the header of every database of this program: the ASCII letters `OCND`.
pub const APPLICATION_ID: i32 = 0x4f43_4e44;

/// One step per schema version, oldest first: step `n` (from 0) leads to version `n + 1`.
///
/// A released step is never edited; a change is a new step at the end.
const MIGRATIONS: [&str; 1] = [r"
CREATE TABLE device_identity (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    device_id TEXT NOT NULL,
    private_key_pem TEXT NOT NULL,
    public_key_pem TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE node_profile (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    node_id TEXT NOT NULL CHECK (node_id <> ''),
    display_name TEXT NOT NULL,
    gateway_host TEXT,
    gateway_port INTEGER CHECK (gateway_port BETWEEN 1 AND 65535),
    gateway_tls INTEGER CHECK (gateway_tls IN (0, 1)),
    gateway_tls_fingerprint TEXT,
    gateway_context_path TEXT,
    updated_at_ms INTEGER NOT NULL,
    CHECK ((gateway_host IS NULL) = (gateway_port IS NULL)),
    CHECK ((gateway_host IS NULL) = (gateway_tls IS NULL))
) STRICT;

CREATE TABLE device_token (
    device_id TEXT NOT NULL,
    role TEXT NOT NULL,
    gateway_scope TEXT NOT NULL,
    token TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (device_id, role, gateway_scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE exec_approvals_config (
    config_key TEXT NOT NULL PRIMARY KEY CHECK (config_key = 'current'),
    raw_json TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE prepared_plan (
    digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    policy_snapshot_json TEXT NOT NULL,
    cwd_device INTEGER NOT NULL,
    cwd_inode INTEGER NOT NULL,
    cwd_created_ns INTEGER,
    uses_left INTEGER NOT NULL CHECK (uses_left > 0),
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX prepared_plan_by_expiry ON prepared_plan (expires_at_ms);

CREATE TABLE auth_failure (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    detail_code TEXT NOT NULL,
    credential_salt BLOB NOT NULL,
    credential_digest BLOB NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts > 0),
    at_ms INTEGER NOT NULL
) STRICT;
"];

/// The tables without which a node cannot say who it is; checked for damage at every open.
///
/// Tables that only grow with use are left out, so that starting stays fast.
pub(crate) const VITAL_TABLES: [&str; 4] = [
    "device_identity",
    "node_profile",
    "device_token",
    "exec_approvals_config",
];

/// The schema version that this program writes: `PRAGMA user_version`.
pub const SCHEMA_VERSION: i32 = MIGRATIONS.len() as i32;

/// Brings a database that has taken `applied` steps to [`SCHEMA_VERSION`].
///
/// The header changes in the same transaction as the tables, so that a crash leaves either a
/// blank file or a whole schema.
pub(crate) fn migrate(transaction: &Transaction<'_>, applied: i32) -> rusqlite::Result<()> {
    let applied = usize::try_from(applied).unwrap_or(0);
    for step in MIGRATIONS.iter().skip(applied) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)
}
