//! `install`: the node as a service. Everything that the node would refuse to start with is
//! refused here, with nothing written.

mod plan;

use std::path::PathBuf;

use clap::Args;
use node_config::{Environment, Paths, PlannedEndpoint};
use service::action::{self, Action, Replace, Report};
use service::hint::{Hint, HintKind};
use service::manager::ServiceManager;

use self::plan::{Plan, Refusal};
use super::command_arguments::CommandArguments;
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
    #[command(flatten)]
    commands: CommandArguments,
    /// Accepted as upstream does, and ignored: this node host shares no installed apps
    #[arg(long, hide = true)]
    share_installed_apps: bool,
    /// Accepted as upstream does, and ignored
    #[arg(long, hide = true)]
    no_share_installed_apps: bool,
    /// Reinstall, or replace another service of that name; what somebody else had there is kept as a backup
    #[arg(long)]
    force: bool,
    /// Stop upstream's node host, become the device that it is, and replace its service
    #[arg(long, conflicts_with_all = ["system", "force"])]
    takeover: bool,
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
    if let Err(error) = PlannedEndpoint::plan(&arguments.endpoint.flags(), None) {
        return Ok(failed(&error));
    }
    if let Err(error) = arguments.commands.choose() {
        return Ok(failed(&error));
    }
    let manager = service_manager::find(arguments.system, environment)?;
    let report = match prepare(arguments, environment, manager.as_ref()) {
        Ok(plan) => {
            let report = action::install(manager.as_ref(), &plan.definition, &plan.secrets);
            report.with_lines(plan.notes).with_warnings(plan.warnings)
        }
        Err(report) => *report,
    };
    let has_runtime = arguments.runtime.is_some() || arguments.runtime_path.is_some();
    let apps_note = arguments.share_installed_apps.then(|| {
        "--share-installed-apps is ignored: this node host shares no installed apps".to_owned()
    });
    let note = has_runtime
        .then(|| "--runtime is ignored: this node host is a program of its own".to_owned());
    Ok(report.with_warnings(note).with_warnings(apps_note))
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
    let replace = if arguments.force || arguments.takeover {
        Replace::Yes
    } else {
        Replace::No
    };
    action::check_installable(manager, replace)?;
    let make = || Plan::make(arguments, environment, manager).map_err(refused);
    let plan = make()?;
    if !arguments.takeover {
        return Ok(plan);
    }
    let failed = |error: &dyn std::fmt::Display| refused(Refusal::new(error));
    let paths = Paths::from_environment(environment).map_err(|error| failed(&error))?;
    let notes = super::import::take_over_service(&paths, environment).map_err(|error| {
        refused(Refusal {
            text: error.to_string(),
            hint: Some(
                "openclaw node install --force (replaces it, and takes nothing over)".to_owned(),
            ),
        })
    })?;
    // The gateway is the one that the old node host saved.
    Ok(Plan { notes, ..make()? })
}

fn refused(refusal: Refusal) -> Box<Report> {
    let hint = refusal.hint.map(|text| Hint::new(HintKind::Generic, text));
    let text = format!("Node install failed: {}", refusal.text);
    Box::new(Report::failed(Action::Install, text).with_hints(hint))
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
