//! The tables, and the ordered steps that lead to them.

use rusqlite::Transaction;

/// Stands in the header of every database of this program: the ASCII letters `OCND`.
pub const APPLICATION_ID: i32 = 0x4f43_4e44;

/// One step per schema version, oldest first: step `n` (from 0) leads to version `n + 1`.
///
/// A released step is never edited; a change is a new step at the end.
const MIGRATIONS: [&str; 4] = [
    r"
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
",
    r"
CREATE TABLE run_journal (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    invoke_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    command TEXT NOT NULL,
    accepted_at_ms INTEGER NOT NULL,
    decided_at_ms INTEGER NOT NULL,
    decision TEXT NOT NULL,
    rule TEXT,
    started_at_ms INTEGER,
    instance INTEGER,
    number INTEGER,
    pid INTEGER,
    start_time INTEGER,
    boot_id TEXT,
    exited_at_ms INTEGER,
    ending TEXT,
    exit_code INTEGER,
    signal INTEGER,
    duration_ms INTEGER,
    output_bytes INTEGER,
    size INTEGER NOT NULL,
    CHECK ((started_at_ms IS NULL) = (pid IS NULL)),
    CHECK ((exited_at_ms IS NULL) = (ending IS NULL))
) STRICT;
CREATE INDEX run_journal_by_invoke ON run_journal (invoke_id);
CREATE INDEX run_journal_by_age ON run_journal (accepted_at_ms);
CREATE INDEX run_journal_by_mark ON run_journal (instance, number);
CREATE INDEX run_journal_unfinished ON run_journal (sequence)
    WHERE started_at_ms IS NOT NULL AND exited_at_ms IS NULL;

CREATE TABLE node_instance (
    instance INTEGER NOT NULL PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE run_result (
    key BLOB NOT NULL PRIMARY KEY CHECK (length(key) = 32),
    params BLOB NOT NULL CHECK (length(params) = 32),
    payload TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX run_result_by_age ON run_result (at_ms);
",
    r"
CREATE TABLE node_life (
    slot INTEGER NOT NULL PRIMARY KEY CHECK (slot = 1),
    running INTEGER NOT NULL CHECK (running IN (0, 1)),
    alive_at_ms INTEGER NOT NULL,
    exit_code INTEGER CHECK (exit_code BETWEEN 0 AND 255),
    exit_reason TEXT,
    exit_at_ms INTEGER,
    CHECK ((exit_reason IS NULL) = (exit_at_ms IS NULL))
) STRICT;
",
    r"
ALTER TABLE node_profile ADD COLUMN commands_json TEXT;

CREATE TABLE import_record (
    item TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    device_id TEXT,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    imported_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
];

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
