//! Which service manager a command means, and what all of its commands say alike.

use std::path::PathBuf;

use node_config::{Environment, OpenclawJson, Paths};
use service::action::{Action, Report};
use service::manager::ServiceManager;
use service::systemd::{Account, SYSTEM_STATE_DIR};

use super::output;
use crate::exit::{Exit, Failure};

/// What `start`, `stop`, `restart` and `uninstall` take.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// The machine's system unit instead of this user's service
    #[arg(long)]
    pub(super) system: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The service manager of this machine.
pub(super) fn find(
    system: bool,
    environment: &Environment,
) -> Result<Box<dyn ServiceManager>, Failure> {
    let paths = Paths::from_environment(environment).map_err(Failure::new)?;
    let account = Account::current(&paths.home);
    platform_manager(system, account, &paths, environment).map_err(Failure::new)
}

#[cfg(not(target_os = "macos"))]
fn platform_manager(
    system: bool,
    account: Account,
    paths: &Paths,
    environment: &Environment,
) -> std::io::Result<Box<dyn ServiceManager>> {
    use service::systemd::Systemd;
    let variables = |name: &str| environment.text(name).map(str::to_owned);
    Ok(Box::new(if system {
        Systemd::system(account, variables)?
    } else {
        Systemd::user(account, &paths.state_dir, variables)?
    }))
}

#[cfg(target_os = "macos")]
fn platform_manager(
    system: bool,
    account: Account,
    paths: &Paths,
    environment: &Environment,
) -> std::io::Result<Box<dyn ServiceManager>> {
    use service::launchd::Launchd;
    use service::tools::Tools;
    if system {
        return Err(std::io::Error::other(
            "--system is for systemd; on macOS the node is an agent of the desktop session",
        ));
    }
    let tools = Tools::new([("PATH", "/bin:/usr/bin:/usr/sbin:/sbin")])?;
    let _ = environment;
    Ok(Box::new(Launchd::new(
        tools,
        account.uid,
        account.home,
        &paths.state_dir,
    )))
}

/// Where the service keeps its state.
pub(super) fn state_dir(system: bool, paths: &Paths) -> PathBuf {
    if system {
        PathBuf::from(SYSTEM_STATE_DIR)
    } else {
        paths.state_dir.clone()
    }
}

/// Runs an action that needs no more than the manager.
pub(super) fn act(
    arguments: &Arguments,
    environment: &Environment,
    action: impl FnOnce(&dyn ServiceManager) -> Report,
) -> Result<Exit, Failure> {
    let manager = find(arguments.system, environment)?;
    print(&action(manager.as_ref()), arguments.json)
}

/// The report that a broken openclaw.json ends a start with, before the node would.
pub(super) fn check_configuration(
    action: Action,
    system: bool,
    environment: &Environment,
) -> Result<Option<Report>, Failure> {
    let mut paths = Paths::from_environment(environment).map_err(Failure::new)?;
    if system {
        paths.state_dir = state_dir(system, &paths);
        paths.config_file = paths.state_dir.join("openclaw.json");
    }
    let loaded = OpenclawJson::load(&paths, &mut environment.clone());
    Ok(loaded.err().map(|error| {
        Report::failed(
            action,
            format!(
                "Node aborted: config is invalid.\n{error}\nCorrect the file, then run: openclaw node {}",
                action.verb()
            ),
        )
    }))
}

/// Prints a report, and says how the command ends.
pub(super) fn print(report: &Report, json: bool) -> Result<Exit, Failure> {
    if json {
        output::json_pretty(&report.to_payload()).map_err(Failure::new)?;
    } else {
        output::print(&report.stdout());
        if !report.is_success() {
            output::complain(report.stderr().trim_end());
        }
    }
    Ok(if report.is_success() {
        Exit::Done
    } else {
        Exit::Failure
    })
}
