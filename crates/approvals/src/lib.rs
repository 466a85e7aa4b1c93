//! The exec policy: documents, allowlists and the decision, as pure functions.
//!
//! Nothing here touches a disk, a clock or a process. What must be looked up on the machine
//! (which file a name resolves to) is handed in as a value or behind a trait, so that every
//! outcome can be table-tested and explained.

pub mod allowlist;
pub mod command;
pub mod decision;
pub mod document;
pub mod plan;
pub mod policy;
pub mod wrapper;
