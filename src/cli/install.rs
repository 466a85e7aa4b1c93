//! `install`: the node as a service. Everything that the node would refuse to start with is
//! refused here, with nothing written.

mod plan;

use std::path::PathBuf;

use clap::Args;
use node_config::Environment;
use service::action::{self, Action, Replace, Report};
use service::hint::{Hint, HintKind};
use service::manager::ServiceManager;

use self::plan::Plan;
use super::endpoint_arguments::EndpointArguments;
use super::service_manager::{self, print};
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Another node id; a changed one also forgets the stored device token
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// The name that operators see [default: the saved one, else the host name]
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Reinstall, or replace another service of that name; what was there is kept as a backup
    #[arg(long)]
    force: bool,
    /// Drop the secrets that an earlier install stored, unless they are given again
    #[arg(long)]
    forget_credentials: bool,
    /// Let the service run on after this user logged out
    #[arg(long, conflicts_with = "system")]
    enable_linger: bool,
    /// Install a unit for the whole machine, with a user of its own; only root may
    #[arg(long)]
    system: bool,
    /// Accepted as upstream does, and ignored: this node host needs no runtime
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Accepted as upstream does, and ignored
    #[arg(long, value_name = "PATH")]
    runtime_path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let report = install(arguments, environment)?;
    print(&report, arguments.json)
}

fn install(arguments: &Arguments, environment: &Environment) -> Result<Report, Failure> {
    let failed = |error: &dyn std::fmt::Display| Report::failed(Action::Install, error);
    if is_nix_mode(environment) {
        return Ok(failed(&"Nix mode detected; service install is disabled."));
    }
    let known = ["node", "bun"];
    if arguments
        .runtime
        .as_deref()
        .is_some_and(|name| !known.contains(&name))
    {
        return Ok(failed(&"Invalid --runtime (use \"node\" or \"bun\")"));
    }
    // Wrong flags are refused before anything is asked.
    if let Err(error) = node_config::PlannedEndpoint::plan(&arguments.endpoint.flags(), None) {
        return Ok(failed(&error));
    }
    let manager = service_manager::find(arguments.system, environment)?;
    let report = match prepare(arguments, environment, manager.as_ref()) {
        Ok(plan) => {
            let report = action::install(manager.as_ref(), &plan.definition, &plan.secrets);
            report.with_warnings(plan.warnings)
        }
        Err(report) => *report,
    };
    let has_runtime = arguments.runtime.is_some() || arguments.runtime_path.is_some();
    let note = has_runtime
        .then(|| "--runtime is ignored: this node host is a program of its own".to_owned());
    Ok(report.with_warnings(note))
}

/// Everything before the first byte is written.
fn prepare(
    arguments: &Arguments,
    environment: &Environment,
    manager: &dyn ServiceManager,
) -> Result<Plan, Box<Report>> {
    // A manager that is not there yet is there afterwards.
    if arguments.enable_linger {
        manager
            .enable_linger()
            .map_err(|error| Box::new(Report::service_error(Action::Install, &error)))?;
    }
    let replace = if arguments.force {
        Replace::Yes
    } else {
        Replace::No
    };
    action::check_installable(manager, replace)?;
    Plan::make(arguments, environment, manager).map_err(|error| {
        let hint = error.hint.map(|text| Hint::new(HintKind::Generic, text));
        let text = format!("Node install failed: {}", error.text);
        Box::new(Report::failed(Action::Install, text).with_hints(hint))
    })
}

/// Where the system's own configuration decides about services, we do not.
pub(super) fn is_nix_mode(environment: &Environment) -> bool {
    environment.text("OPENCLAW_NIX_MODE") == Some("1")
}

/// This program, as a service has to name it.
pub(super) fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(format_args!(
            "this program cannot tell where it is: {error}"
        ))
    })
}
