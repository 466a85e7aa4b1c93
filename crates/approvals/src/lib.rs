//! The exec policy: documents, allowlists and the decision, as pure functions.
//!
//! Nothing here touches a disk, a clock or a process. What must be looked up on the machine
//! (which file a name resolves to) is handed in as a value or behind a trait, so that every
//! outcome can be table-tested and explained.
//!
//! A run walks through the modules in this order: [`command`] and [`wrapper`] say what is around
//! the command, [`shell`] takes a shell's command line apart, [`analysis`] says what would be
//! executed, [`policy`] which rules apply, [`allowlist`] whether an entry names it, [`safe_bins`]
//! and [`skills`] what needs no entry, [`inline_eval`] what needs a human all the same, and
//! [`decision`] what happens. [`plan`] binds an approval to what was shown to the human.
//! [`document`] is what an operator wrote, [`rules`] the same ready to be searched, [`snapshot`]
//! how it is read and replaced over the wire, [`edit`] how an operator changes it piece by piece,
//! [`usage`] how runs leave traces in it.

mod agent;
pub mod allowlist;
pub mod analysis;
mod arg_pattern;
pub mod command;
pub mod decision;
pub mod digest;
pub mod document;
pub mod edit;
mod exec_config;
mod glob;
pub mod inline_eval;
pub mod lexical;
mod members;
mod normal_form;
pub mod plan;
pub mod policy;
pub mod rules;
pub mod safe_bins;
pub mod shell;
pub mod skills;
pub mod snapshot;
mod suppressions;
pub mod usage;
pub mod wrapper;
