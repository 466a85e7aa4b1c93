//! The node's own SQLite store.
//!
//! One file, `<stateDir>/state/openclaw-node.sqlite`, holds everything that must outlive the
//! process: who the node is, what a gateway issued to it, what an operator allowed. It is never
//! upstream's database, which may stand in the same folder.
//!
//! - [`Database`] opens it, refuses what is not ours without touching it, and migrates.
//!   Each kind of row has a module with its own part of [`Database`]: [`identity`],
//!   [`node_profile`], [`device_token`], [`approvals`], [`plans`], [`auth_failure`], [`journal`], [`life`].
//! - [`UpstreamNode`] reads upstream's node host without changing it; [`import`] takes it over.
//! - [`StateLock`] keeps a second node with the same identity from starting.
//! - [`StateError`] says what the operator must do, and whether a restart could help.
//!
//! Calls block, so a running node makes them on the thread of its Store actor. Nothing here reads
//! a clock: times are passed in as unix milliseconds.

pub mod approvals;
pub mod auth_failure;
mod database;
pub mod device_token;
mod error;
mod folder;
pub mod identity;
pub mod import;
pub mod journal;
pub mod life;
mod lock;
pub mod node_profile;
pub mod plans;
mod schema;
pub mod upstream;

pub use approvals::{ApprovalsReading, DataVersion, Replacement, StoredApprovals};
pub use auth_failure::{AuthFailure, PresentedCredential};
pub use database::Database;
pub use device_token::DeviceTokenKey;
pub use error::{ExitClass, StateError};
pub use identity::StoredIdentity;
pub use import::{Import, ImportItem, ImportRecord};
pub use journal::{
    EarlierInstance, JournalBounds, JournalEntry, JournalRow, RESULT_LIFETIME, RecordedProcess,
    RunResult,
};
pub use life::LastExit;
pub use lock::{StateLock, lock_holder};
pub use node_profile::{NodeProfile, SavedEndpoint, StoredTokens};
pub use plans::{PLAN_LIFETIME, Plan, PlanDigest, PlanLookup};
pub use schema::{APPLICATION_ID, SCHEMA_VERSION};
pub use upstream::{UpstreamError, UpstreamNode, UpstreamProfile};
