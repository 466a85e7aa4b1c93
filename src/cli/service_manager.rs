//! Which service manager a command means, and what all of its commands say alike.

use nix::unistd::Uid;
use node_config::{Configuration, ConfigurationError, Environment, Paths, VariablesFile};
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

/// Runs an action that needs no more than the manager.
pub(super) fn act(
    arguments: &Arguments,
    environment: &Environment,
    action: impl FnOnce(&dyn ServiceManager) -> Report,
) -> Result<Exit, Failure> {
    let manager = find(arguments.system, environment)?;
    print(&action(manager.as_ref()), arguments.json)
}

/// The report that a broken configuration ends a start with, before the node would.
pub(super) fn check_configuration(
    action: Action,
    system: bool,
    environment: &Environment,
) -> Option<Report> {
    let loaded = if system {
        if !Uid::effective().is_root() {
            // Nobody else may read it, and the manager says who may start it.
            return None;
        }
        // Whoever starts it is somebody else than the unit's user.
        let of_unit = ["HOME", "OPENCLAW_STATE_DIR"].map(|name| (name, SYSTEM_STATE_DIR));
        Configuration::load(&of_unit.into_iter().collect(), None)
    } else {
        Configuration::load(environment, variables_file(environment).as_ref())
    };
    let error = match loaded {
        // No file is at fault; whoever looks for the manager says what is.
        Ok(_) | Err(ConfigurationError::Paths(_)) => return None,
        Err(error) => error,
    };
    Some(Report::failed(
        action,
        format!(
            "Node aborted: config is invalid.\n{error}\nCorrect the file, then run: openclaw node {}{}",
            action.verb(),
            if system { " --system" } else { "" }
        ),
    ))
}

/// The file that the service takes variables from beside those of its definition.
fn variables_file(environment: &Environment) -> Option<VariablesFile> {
    let paths = Paths::from_environment(environment).ok()?;
    if cfg!(target_os = "macos") {
        let file = service::launchd::environment_file(&paths.state_dir);
        return file.exists().then_some(VariablesFile::Given(file));
    }
    let file = service::systemd::environment_file(&paths.state_dir);
    Some(VariablesFile::OfUnit(file))
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
