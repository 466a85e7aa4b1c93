//! `approvals get`: the document as gateways see it.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use approvals::document::{Agent, Document, Entry, PolicyFields};
use approvals::policy::{Ask, Security};
use clap::Args;

use super::super::output;
use super::keeper::Keeper;
use super::text::printable;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print what `system.execApprovals.get` answers, as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, keeper: &Keeper) -> Result<Exit, Failure> {
    let stored = keeper.read()?;
    let snapshot = keeper.snapshot(&stored);
    if arguments.json {
        output::json_line(&snapshot).map_err(Failure::new)?;
        return Ok(Exit::Done);
    }
    let mut shown = String::new();
    let state = match (stored.exists(), stored.error()) {
        (_, Some(error)) => format!("unreadable, so nothing may run: {error}"),
        (true, None) => "stored".to_owned(),
        (false, None) => "nothing is stored; this is what counts without".to_owned(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(shown, "document  {}", printable(&snapshot.path));
    let _ = writeln!(shown, "state     {}", printable(&state));
    let _ = writeln!(shown, "hash      {}", snapshot.hash);
    let reported = stored.reported(keeper.config());
    show(&mut shown, &reported);
    output::print(&shown);
    Ok(Exit::Done)
}

fn show(shown: &mut String, document: &Document) {
    let _ = writeln!(shown, "defaults  {}", fields(&document.defaults));
    for (id, agent) in &document.agents {
        let own = if agent.fields == PolicyFields::default() {
            String::new()
        } else {
            format!("  {}", fields(&agent.fields))
        };
        let _ = writeln!(shown, "agent {}{own}", printable(id));
        entries(shown, agent);
    }
}

fn entries(shown: &mut String, agent: &Agent) {
    for entry in agent.allowlist.iter().flatten() {
        let _ = writeln!(shown, "  {}{}", printable(&entry.pattern), details(entry));
    }
}

fn details(entry: &Entry) -> String {
    let mut details = String::new();
    if let Some(arguments) = &entry.arg_pattern {
        let _ = write!(details, "  arguments {}", printable(arguments));
    }
    if entry.allow_always {
        details.push_str("  (allow-always)");
    }
    let used_at = entry.usage.at.as_ref().and_then(|at| at.as_u64());
    let used_at = used_at.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
    if let Some(at) = used_at {
        let _ = write!(
            details,
            "  last used {}",
            humantime::format_rfc3339_seconds(at)
        );
    }
    details
}

fn fields(fields: &PolicyFields) -> String {
    let words = [
        ("security", fields.security.map(Security::as_str)),
        ("ask", fields.ask.map(Ask::as_str)),
        ("askFallback", fields.ask_fallback.map(Security::as_str)),
        (
            "autoAllowSkills",
            fields
                .auto_allow_skills
                .map(|on| if on { "true" } else { "false" }),
        ),
    ];
    let given = words
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    given.collect::<Vec<_>>().join(" ")
}
