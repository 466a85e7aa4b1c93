//! `status`: the installed service as its manager sees it, and the node in it.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use actors::status::NodeStatus;
use clap::Args;
use nix::poll::{PollTimeout, poll};
use node_config::{Environment, Paths};
use serde::Serialize;
use service::drift::Drift;
use service::linger::Linger;
use service::status::{Inspection, ServiceStatus};
use service::systemd::SYSTEM_STATE_DIR;

use super::clock::unix_ms;
use super::{live_status, output, service_manager};
use crate::exit::{Exit, Failure};

/// How often `--watch` looks again, in milliseconds.
const REFRESH_MS: u16 = 2000;
/// The variable that moves the state.
const STATE_DIR_VARIABLE: &str = "OPENCLAW_STATE_DIR";
/// Moves a terminal's cursor home and clears what is there.
const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The machine's system unit instead of this user's service
    #[arg(long)]
    system: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Look again every 2 s until interrupted; with --json, a line for each change
    #[arg(long)]
    watch: bool,
}

/// `--json`: upstream's member first, then ours.
#[derive(Serialize)]
struct Status<'a> {
    service: &'a ServiceStatus,
    node: &'a NodeStatus,
    drift: &'a [Drift],
    linger: Option<&'a Linger>,
}

/// Everything that is shown, at one moment.
struct Look {
    inspection: Inspection,
    node: NodeStatus,
}

impl Look {
    fn take(arguments: &Arguments, environment: &Environment) -> Result<Self, Failure> {
        let manager = service_manager::find(arguments.system, environment)?;
        let program = super::install::program()?;
        let inspection = Inspection::of(manager.as_ref(), &program);
        let state_dir = if arguments.system {
            SYSTEM_STATE_DIR.into()
        } else {
            state_dir(&inspection, environment)?
        };
        Ok(Self {
            inspection,
            node: live_status::of(&state_dir, environment),
        })
    }

    fn status(&self) -> Status<'_> {
        Status {
            service: &self.inspection.service,
            node: &self.node,
            drift: &self.inspection.drift,
            linger: self.inspection.linger.as_ref(),
        }
    }

    fn lines(&self) -> Vec<String> {
        [
            self.inspection.service_lines(),
            live_status::lines(&self.node, unix_ms()),
            self.inspection.remarks(),
            self.inspection.closing_lines(),
        ]
        .concat()
    }
}

/// The state of the node that is meant: what the caller's variable says, else the service's own.
fn state_dir(inspection: &Inspection, environment: &Environment) -> Result<PathBuf, Failure> {
    let given = environment.text(STATE_DIR_VARIABLE);
    match inspection.variable(STATE_DIR_VARIABLE) {
        Some(of_service) if given.is_none() => Ok(of_service.into()),
        _ => Ok(Paths::from_environment(environment)
            .map_err(Failure::new)?
            .state_dir),
    }
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    if arguments.watch {
        return watch(arguments, environment);
    }
    let look = Look::take(arguments, environment)?;
    if arguments.json {
        output::json_pretty(&look.status()).map_err(Failure::new)?;
        return Ok(Exit::Done);
    }
    if let Some(complaint) = look.inspection.complaint() {
        output::complain(complaint);
    }
    for line in look.lines() {
        output::line(line);
    }
    Ok(Exit::Done)
}

/// Shows the status again and again. It ends with the signal that interrupts it, or with its reader.
fn watch(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let mut shown = String::new();
    loop {
        let look = Look::take(arguments, environment)?;
        let text = if arguments.json {
            serde_json::to_string(&look.status()).map_err(Failure::new)? + "\n"
        } else {
            look.lines().join("\n") + "\n"
        };
        if text != shown {
            let clear = !arguments.json && io::stdout().is_terminal();
            let prefix = if clear { CLEAR_SCREEN } else { "" };
            if !output::print_to_reader(&format!("{prefix}{text}")) {
                return Ok(Exit::Done);
            }
            shown = text;
        }
        // Nothing is polled: this is a wait that a signal ends.
        poll(&mut [], PollTimeout::from(REFRESH_MS)).ok();
    }
}
