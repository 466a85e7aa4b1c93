//! `approvals`: what this machine lets gateways run.
//!
//! The document is changed in the database, whether a node runs or not; a running one sees it
//! before its next decision.

mod allowlist;
mod explain;
mod get;
mod keeper;
mod preset;
mod set;
mod text;

use clap::{Args, Subcommand};
use node_config::Environment;

use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the approvals document
    Get(get::Arguments),
    /// Replace the approvals document
    Set(set::Arguments),
    /// Add or remove what may run
    #[command(subcommand)]
    Allowlist(allowlist::Command),
    /// Make a named policy that of all agents; allowlists stay
    Preset(preset::Arguments),
    /// Tell what would become of a command, and why; runs nothing
    Explain(explain::Arguments),
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let keeper = keeper::Keeper::new(environment)?;
    match &arguments.command {
        Command::Get(arguments) => get::run(arguments, &keeper),
        Command::Set(arguments) => set::run(arguments, &keeper),
        Command::Allowlist(command) => allowlist::run(command, &keeper),
        Command::Preset(arguments) => preset::run(arguments, &keeper),
        Command::Explain(arguments) => explain::run(arguments, &keeper),
    }
}
