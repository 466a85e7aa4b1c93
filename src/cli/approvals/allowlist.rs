//! `approvals allowlist`: what may run, entry by entry.

use std::path::Path;

use approvals::policy::WILDCARD_AGENT;
use clap::{Args, Subcommand};

use super::super::output;
use super::keeper::{Keeper, new_id};
use super::text::printable;
use crate::exit::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Let programs run that a pattern names
    Add(Arguments),
    /// Remove every entry with a pattern
    Remove(Arguments),
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A real path, a path with wildcards (*, ?, **), a bare name, or * for everything
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// The agent whose list it is [default: "*", the list of all agents]
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Print the stored document as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, keeper: &Keeper) -> Result<Exit, Failure> {
    let (Command::Add(arguments) | Command::Remove(arguments)) = command;
    let pattern = arguments.pattern.trim();
    if pattern.is_empty() {
        return Err(Failure::new("give a pattern that names something"));
    }
    let agent = arguments.agent.as_deref().map(str::trim);
    let agent = agent.filter(|agent| !agent.is_empty());
    let agent = agent.unwrap_or(WILDCARD_AGENT);
    let (stored, what) = match command {
        Command::Add(_) => {
            let (stored, is_new) =
                keeper.edit(|document| Ok(document.allow(agent, pattern, &mut new_id)))?;
            warn_about(pattern);
            let what = if is_new { "added" } else { "already there" };
            (stored, what)
        }
        Command::Remove(_) => {
            let remove = |document: &mut approvals::document::Document| match document
                .disallow(agent, pattern)
            {
                0 => Err(Failure::new(format_args!(
                    "no entry {} in the allowlist of agent {}; `approvals get` shows what there is",
                    printable(pattern),
                    printable(agent)
                ))),
                removed => Ok(removed),
            };
            (keeper.edit(remove)?.0, "removed")
        }
    };
    let what = format!("{pattern} of agent {agent}: {what}");
    keeper.report(&stored, arguments.json, &what)
}

/// Says what is likely to be a mistake: entries must name the file behind a symlink.
fn warn_about(pattern: &str) {
    let path = Path::new(pattern);
    if !path.is_absolute() || pattern.contains(['*', '?']) {
        return;
    }
    match path.canonicalize() {
        Ok(real) if real != path => output::complain(format_args!(
            "{} leads to {}, and entries are compared with the latter: add that one",
            printable(pattern),
            printable(&real.to_string_lossy())
        )),
        Ok(_) => {}
        Err(error) => output::complain(format_args!(
            "{} names nothing here yet: {error}",
            printable(pattern)
        )),
    }
}
