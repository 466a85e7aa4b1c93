//! What is going to be installed: the command, its variables and its secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use node_config::{
    Configuration, CredentialQuery, Credentials, Environment, Paths, PlannedEndpoint, Reach,
    SavedEndpoint, allows_insecure_private_ws, check_plaintext,
};
use protocol::connect::ROLE;
use secrecy::ExposeSecret as _;
use service::action::is_temporary;
use service::definition::{Definition, Platform};
use service::drift;
use service::environment_file::{EnvironmentFile, MANAGED};
use service::manager::ServiceManager;
use service::systemd::{Account, SYSTEM_STATE_DIR, SYSTEM_USER};
use state::Database;

use super::Arguments;
use crate::cli::command_arguments::CommandChoice;
use crate::cli::endpoint_arguments::saved_endpoint;

/// What [`service::action::install`] takes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) definition: Definition,
    pub(super) secrets: EnvironmentFile,
    /// What the operator should know about the configuration.
    pub(super) warnings: Vec<String>,
    /// What the operator reads about what was done before.
    pub(super) notes: Vec<String>,
}

/// Why nothing is installed.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self {
            text: error.to_string(),
            hint: None,
        }
    }
}

impl Refusal {
    pub(super) fn new(text: impl std::fmt::Display) -> Self {
        Self {
            text: text.to_string(),
            hint: None,
        }
    }
}

impl Plan {
    /// Resolves everything as `run` would in the service, and writes nothing.
    pub(super) fn make(
        arguments: &Arguments,
        environment: &Environment,
        manager: &dyn ServiceManager,
    ) -> Result<Self, Refusal> {
        let program = crate::cli::install::program().map_err(Refusal::new)?;
        check_program(&program, arguments.system)?;
        let secrets = secrets(arguments, environment, manager)?;
        let variables = variables(arguments.system, environment)?;
        let service_environment = service_environment(environment, &variables, &secrets);
        let configuration = Configuration::load(&service_environment, None)?;
        let database = Database::open_read_only(&configuration.paths.state_dir)?;
        let saved = saved(database.as_ref())?;
        let flags = arguments.endpoint.flags_over(&configuration);
        let endpoint = PlannedEndpoint::plan(&flags, saved.as_ref())?;
        check_plaintext(&endpoint, allows_insecure_private_ws(&service_environment))?;
        Reach::to(
            &endpoint,
            configuration.settings.tls.clone(),
            &configuration.environment,
        )?;
        // Only whether it can be told counts: the node finds its secrets where they are.
        let has_device_token = match &database {
            Some(database) => database.has_device_token(ROLE, endpoint.scope().as_str())?,
            None => false,
        };
        let credentials = Credentials::resolve(CredentialQuery {
            environment: &configuration.environment,
            openclaw_json: &configuration.openclaw_json,
            home: &configuration.paths.home,
            saved: saved.as_ref().and_then(SavedEndpoint::scope).as_ref(),
            planned: &endpoint.scope(),
            has_device_token,
            only_environment: false,
        })?;
        Ok(Self {
            definition: Definition {
                program,
                run_arguments: run_arguments(arguments, &endpoint, saved.as_ref()),
                environment: variables,
            },
            secrets,
            warnings: [configuration.openclaw_json.warnings, credentials.warnings].concat(),
            notes: Vec::new(),
        })
    }
}

/// A service must still find its program tomorrow, and under its own user.
fn check_program(program: &Path, system: bool) -> Result<(), Refusal> {
    let shown = program.display();
    if is_temporary(program) {
        return Err(Refusal {
            text: format!("this program lies where things are cleaned away: {shown}"),
            hint: Some(format!(
                "install -D {shown} ~/.local/bin/openclaw-node && ~/.local/bin/openclaw-node install"
            )),
        });
    }
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if system && !program.ancestors().all(is_open) {
        return Err(Refusal {
            text: format!("the user {SYSTEM_USER} may not run {shown}"),
            hint: Some(format!(
                "sudo install {shown} /usr/local/bin/openclaw-node && sudo /usr/local/bin/openclaw-node install --system"
            )),
        });
    }
    Ok(())
}

/// The stored secrets (D15), and over them what this shell gives.
fn secrets(
    arguments: &Arguments,
    environment: &Environment,
    manager: &dyn ServiceManager,
) -> Result<EnvironmentFile, Refusal> {
    let mut secrets = manager.stored_secrets()?;
    if arguments.forget_credentials {
        secrets.forget_managed();
    }
    for name in MANAGED {
        if let Some(value) = environment.text(name) {
            secrets.set(name, value)?;
        }
    }
    Ok(secrets)
}

/// The variables of the service that are no secrets.
fn variables(system: bool, environment: &Environment) -> Result<Vec<(String, String)>, Refusal> {
    let paths = Paths::from_environment(environment)?;
    let account = Account::current(&paths.home);
    let home = if system {
        Path::new(SYSTEM_STATE_DIR)
    } else {
        check_home(environment, &account)?;
        account.home.as_path()
    };
    let is_set = |name: &str| environment.text(name).is_some();
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let chosen = |name: &str| match name {
        "HOME" => text(home),
        "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS" => {
            allows_insecure_private_ws(environment).then(|| "1".to_owned())
        }
        "OPENCLAW_STATE_DIR" if system => text(home),
        "OPENCLAW_NODE_LOG" => environment.text(name).map(str::to_owned),
        _ if system => None,
        // launchd gives every session a folder of its own.
        "TMPDIR" if cfg!(target_os = "macos") => None,
        "TMPDIR" => Some(environment.text(name).unwrap_or("/tmp").to_owned()),
        "OPENCLAW_HOME" if is_set(name) => text(&paths.home),
        "OPENCLAW_STATE_DIR" if is_set(name) => text(&paths.state_dir),
        "OPENCLAW_CONFIG_PATH" if is_set(name) => text(&paths.config_file),
        _ => None,
    };
    let platform = if cfg!(target_os = "macos") {
        Platform::MacOs
    } else {
        Platform::Linux
    };
    Ok(drift::environment(chosen, platform, home))
}

/// The manager reads the units of the account's home, wherever `HOME` points.
fn check_home(environment: &Environment, account: &Account) -> Result<(), Refusal> {
    let Some(home) = environment.text("HOME") else {
        return Ok(());
    };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(Path::new(home)) == real(&account.home) {
        return Ok(());
    }
    Err(Refusal {
        text: format!(
            "HOME is {home}, but services of {} live in its own home {}",
            account.name,
            account.home.display()
        ),
        hint: Some(format!(
            "HOME={} openclaw node install",
            account.home.display()
        )),
    })
}

/// What the node will find when the service starts it.
fn service_environment(
    environment: &Environment,
    variables: &[(String, String)],
    secrets: &EnvironmentFile,
) -> Environment {
    let given = variables.iter().cloned();
    let kept = secrets.names().filter_map(|name| {
        let value = secrets.get(name)?.expose_secret().to_owned();
        Some((name.to_owned(), value))
    });
    // Which credentials directory there will be is systemd's business.
    let passed = ["USER", "LOGNAME"].into_iter().filter_map(|name| {
        let value = environment.text(name)?.to_owned();
        Some((name.to_owned(), value))
    });
    passed.chain(given).chain(kept).collect()
}

fn saved(database: Option<&Database>) -> Result<Option<SavedEndpoint>, Refusal> {
    let profile = database.map(Database::node_profile).transpose()?.flatten();
    Ok(profile
        .and_then(|profile| profile.endpoint)
        .map(|saved| saved_endpoint(&saved)))
}

/// The flags of `run`, in upstream's order (service §2.1). They say the whole endpoint, so that
/// the service always goes where it was installed for.
fn run_arguments(
    arguments: &Arguments,
    endpoint: &PlannedEndpoint,
    saved: Option<&SavedEndpoint>,
) -> Vec<String> {
    let mut words = vec![
        "--host".to_owned(),
        endpoint.host().to_owned(),
        "--port".to_owned(),
        endpoint.port().to_string(),
    ];
    words.push(if endpoint.tls() { "--tls" } else { "--no-tls" }.to_owned());
    let pin = endpoint.fingerprint().map(|pin| pin.to_string());
    let trimmed = |text: &Option<String>| {
        text.as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    // An empty path clears the saved one, which `run` would take otherwise.
    let is_path_saved = saved.is_some_and(|saved| saved.context_path.is_some());
    let context_path = endpoint
        .context_path()
        .or(is_path_saved.then_some(""))
        .map(str::to_owned);
    let options = [
        ("--tls-fingerprint", pin),
        ("--context-path", context_path),
        ("--node-id", trimmed(&arguments.node_id)),
        ("--display-name", trimmed(&arguments.display_name)),
    ];
    for (option, value) in options {
        match value {
            // Behind a space it would be taken for an option.
            Some(value) if value.starts_with('-') => words.push(format!("{option}={value}")),
            Some(value) => words.extend([option.to_owned(), value]),
            None => {}
        }
    }
    // Wrong ones were refused before.
    words.extend(
        arguments
            .commands
            .choose()
            .iter()
            .flat_map(CommandChoice::to_flags),
    );
    words
}
