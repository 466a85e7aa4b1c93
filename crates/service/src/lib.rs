//! The node as a service that people can forget: systemd units and launchd agents.
//!
//! - [`definition`]: what is installed, and who installed what is there.
//! - [`mod@unit`] and [`agent`] render it; [`words`] and [`unit_file`] are how systemd writes and reads.
//! - [`environment_file`]: the secrets, for their owner only.
//! - [`manager`]: what a service manager can do; [`systemd`] and [`launchd`] do it through the
//!   managers' own tools.
//! - [`action`] and [`status`]: what the commands say, to people and to scripts.
//! - [`drift`]: where an installed service differs from what this version would write.
//!
//! Nothing here knows the running node; calls block until the manager answered, with deadlines.

pub mod action;
pub mod agent;
pub mod availability;
pub mod definition;
pub mod drift;
pub mod environment_file;
mod files;
pub mod hint;
pub mod launchd;
pub mod linger;
pub mod manager;
pub mod status;
pub mod systemd;
pub mod tools;
pub mod unit;
pub mod unit_file;
pub mod words;
