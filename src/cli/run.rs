//! `run`: the node in the foreground. Everything is read and checked here, before the first actor
//! starts and before anything is sent.

mod reload;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::SystemTime;

use actors::{CredentialSources, Ending, NodeOptions};
use browser::control::{ControlOptions, Places};
use clap::Args;
use exec::environment::{BaseEnvironment, Overrides};
use exec::mark::Instance;
use node_config::profile::{NodeIdPlan, display_name, plan_node_id};
use node_config::{
    Configuration, ConfigurationError, CredentialQuery, Environment, Paths, PlannedEndpoint,
    VariablesFile, control_socket,
};
use protocol::connect::{NodeDescription, ROLE};
use protocol::credentials::Credentials;
use protocol::identity::DeviceIdentity;
use protocol::reconnect;
use secrecy::SecretString;
use state::{Database, DeviceTokenKey, NodeProfile, PresentedCredential, StateLock, StoredTokens};
use tracing::warn;

use self::reload::SharedCredentials;
use super::clock::unix_ms;
use super::command_arguments::{CommandArguments, CommandChoice};
use super::endpoint_arguments::{EndpointArguments, saved_endpoint};
use super::import::OldNodeHost;
use super::life;
use super::route::{Route, planned};
use super::setup::{Setup, SetupArguments, WayIn};
use crate::exit::{Exit, Failure};
use crate::logging::{LogFormat, LogOptions};

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
    setup: SetupArguments,
    /// How to write logs [default: journald under systemd, else text]
    #[arg(long, value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
    /// Write logs to this file instead of standard error, and rotate it by size
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    #[command(flatten)]
    commands: CommandArguments,
    /// Ignore the credentials of openclaw.json: only variables count
    #[arg(long, hide = true)]
    auth_from_env: bool,
    /// Read variables from this file, which a service definition wrote
    #[arg(long, value_name = "FILE", hide = true)]
    env_file: Option<PathBuf>,
}

impl Arguments {
    /// How this run logs.
    pub(super) fn log_options(&self) -> LogOptions {
        LogOptions {
            format: self.log_format,
            file: self.log_file.clone(),
        }
    }
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    // Wrong flags are refused before anything is touched on disk.
    planned(&arguments.endpoint.flags(), None, environment)?;
    let setup = arguments
        .setup
        .read()
        .map_err(|error| Failure::usage(error, environment))?;
    let commands = arguments
        .commands
        .choose()
        .map_err(|error| Failure::usage(error, environment))?;
    let process = ProcessStart::new(arguments, environment);
    let configuration = process.configuration();
    let (state_dir, ended) = match configuration {
        Ok(configuration) => (
            Some(configuration.paths.state_dir.clone()),
            start(arguments, setup, commands, process, configuration),
        ),
        Err(error) => (
            Paths::from_environment(environment)
                .ok()
                .map(|paths| paths.state_dir),
            Err(Failure::new(error)),
        ),
    };
    if let Some(state_dir) = state_dir {
        match &ended {
            Ok(ending) => life::remember(&state_dir, Exit::Node(ending.exit), &ending.reason),
            Err(failure) if failure.is_usage => {}
            Err(failure) => life::remember(&state_dir, failure.exit, &failure.to_string()),
        }
    }
    ended.map(|ending| Exit::Node(ending.exit))
}

/// What the process was started with.
struct ProcessStart {
    /// The variables that it has of itself.
    environment: Environment,
    /// Where the service definition keeps others.
    variables_file: Option<VariablesFile>,
    at: SystemTime,
}

impl ProcessStart {
    fn new(arguments: &Arguments, environment: &Environment) -> Self {
        let mut process = Self {
            environment: environment.clone(),
            variables_file: arguments.env_file.clone().map(VariablesFile::Given),
            at: SystemTime::now(),
        };
        if process.variables_file.is_none() {
            process.variables_file = Self::file_of_unit(&mut process.environment);
        }
        process
    }

    /// The `EnvironmentFile=` of a user unit. The system unit, which alone has a state folder of
    /// systemd's, names no such file: its secrets are credentials, and whoever can write its state
    /// folder must not set variables of the process.
    fn file_of_unit(process: &mut Environment) -> Option<VariablesFile> {
        let is_user_unit = process.process("OPENCLAW_SYSTEMD_UNIT").is_some()
            && process.process("STATE_DIRECTORY").is_none();
        let paths = Paths::from_environment(process)
            .ok()
            .filter(|_| is_user_unit)?;
        let file = service::systemd::environment_file(&paths.state_dir);
        VariablesFile::of_unit(file, process)
            .inspect_err(|error| warn!(%error, "a change of it is seen after a restart only"))
            .ok()
    }

    fn configuration(&self) -> Result<Configuration, ConfigurationError> {
        Configuration::load(&self.environment, self.variables_file.as_ref())
    }
}

/// Runs the node to its end. The state is locked until this returns.
fn start(
    arguments: &Arguments,
    setup: Option<Setup>,
    commands: CommandChoice,
    process: ProcessStart,
    configuration: Configuration,
) -> Result<Ending, Failure> {
    let Configuration {
        paths,
        environment,
        openclaw_json,
        settings,
        ..
    } = &configuration;
    for warning in &openclaw_json.warnings {
        warn!("{warning}");
    }

    let _lock = StateLock::acquire(&paths.state_dir)?;
    let mut database = Database::open(&paths.state_dir)?;
    let old_node_host = match database.identity()? {
        Some(_) => None,
        None => OldNodeHost::at_first_start(paths, &process.environment)?,
    };
    let profile = match &old_node_host {
        Some(old) => Some(old.profile().clone()),
        None => database.node_profile()?,
    };
    let saved = profile
        .as_ref()
        .and_then(|profile| profile.endpoint.as_ref())
        .map(saved_endpoint);
    let endpoint = planned(
        &arguments.endpoint.flags_over(&configuration),
        saved.as_ref(),
        &process.environment,
    )?;
    let way_in = match setup {
        Some(setup)
            if !setup.is_unnecessary(
                &endpoint,
                database.has_device_token(ROLE, endpoint.scope().as_str())?,
            ) =>
        {
            Some(setup.open(&settings.tls, environment, unix_ms())?)
        }
        Some(_) | None => None,
    };
    let Route {
        endpoint,
        reach,
        alternatives,
    } = match &way_in {
        Some(way_in) => {
            let flags = arguments.endpoint.flags();
            Route::by_setup_code(way_in, &flags, &settings.tls, environment)?
        }
        None => Route::to(endpoint, &settings.tls, environment)?,
    };

    if let Some(old) = &old_node_host {
        old.become_it(&mut database)?;
    }
    // The gateway of a setup code is the one that answers first.
    let endpoint_to_save = match &way_in {
        Some(_) => profile
            .as_ref()
            .and_then(|profile| profile.endpoint.clone()),
        None => Some(actors::endpoint_to_save(&endpoint)),
    };
    let profile = save_profile(
        &mut database,
        arguments,
        commands,
        profile.as_ref(),
        endpoint_to_save,
    )?;
    let identity = device_identity(&mut database)?;
    let device_token = database.device_token(DeviceTokenKey {
        device_id: identity.device_id().as_str(),
        role: ROLE,
        gateway_scope: endpoint.scope().as_str(),
    })?;
    let shared_credentials = match (&way_in, arguments.auth_from_env) {
        (Some(_), _) => SharedCredentials::None,
        (None, true) => SharedCredentials::OfEnvironment,
        (None, false) => SharedCredentials::OfEverywhere,
    };
    let Presented {
        credentials,
        sources: credential_sources,
        device_token,
    } = match way_in {
        Some(way_in) => Presented::by_setup_code(way_in),
        None => {
            let saved_scope = saved.and_then(|saved| saved.scope());
            let query = CredentialQuery {
                environment,
                openclaw_json,
                home: &paths.home,
                saved: saved_scope.as_ref(),
                planned: &endpoint.scope(),
                has_device_token: device_token.is_some(),
                only_environment: arguments.auth_from_env,
            };
            Presented::choose(query, device_token)?
        }
    };
    let hold_back = hold_back(&database, &endpoint, &credentials, device_token.as_ref())?;
    let earlier = database.begin_journal(Instance::current().as_raw(), unix_ms())?;
    let kept_results = database.kept_results(unix_ms())?;
    let last_exit = database.begin_life(unix_ms())?;
    let control_socket = control_socket(&paths.state_dir, &process.environment)
        .inspect_err(|error| warn!(%error, "no control socket; status cannot show this node"))
        .ok();
    let environment = BaseEnvironment::new(configuration.variables_for_commands());
    let browser = browser_options(&configuration, &environment);
    let reload = reload::reload(
        process,
        &configuration,
        shared_credentials,
        endpoint.scope(),
    );
    actors::run(NodeOptions {
        state_dir: configuration.paths.state_dir,
        description: NodeDescription {
            display_name: profile.display_name,
            instance_id: profile.node_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path_env: environment.search_path().to_string_lossy().into_owned(),
            offers_browser: browser.is_some(),
            only: profile.commands,
        },
        endpoint,
        reach,
        alternatives,
        identity,
        credentials,
        credential_sources,
        device_token,
        hold_back,
        exec_config: configuration.openclaw_json.exec,
        database,
        environment,
        browser,
        settings: configuration.settings,
        earlier,
        kept_results,
        last_exit,
        control_socket,
        reload,
    })
    .map_err(Failure::new)
}

/// What a gateway is shown.
struct Presented {
    credentials: Credentials,
    sources: CredentialSources,
    device_token: Option<SecretString>,
}

impl Presented {
    /// Nothing else is shown to a gateway that a setup code names (wire protocol §7.7).
    fn by_setup_code(way_in: WayIn) -> Self {
        Self {
            credentials: Credentials::new(None, None, Some(way_in.bootstrap_token)),
            sources: CredentialSources {
                token: None,
                password: None,
            },
            device_token: None,
        }
    }

    fn choose(
        query: CredentialQuery<'_>,
        device_token: Option<SecretString>,
    ) -> Result<Self, Failure> {
        let given = node_config::Credentials::resolve(query).map_err(Failure::new)?;
        for warning in &given.warnings {
            warn!("{warning}");
        }
        let sources = reload::sources(&given);
        let credentials = Credentials::new(
            given.token.map(|secret| secret.value),
            given.password.map(|secret| secret.value),
            None,
        );
        Ok(Self {
            credentials,
            sources,
            device_token,
        })
    }
}

/// What browsers are driven with, unless the configuration says that there is no browser proxy.
fn browser_options(
    configuration: &Configuration,
    environment: &BaseEnvironment,
) -> Option<ControlOptions> {
    let settings = &configuration.openclaw_json.browser;
    settings.is_offered().then(|| {
        let inherited = environment.with(Overrides::default());
        let pair = |(name, value): (&OsStr, &OsStr)| (name.to_owned(), value.to_owned());
        ControlOptions {
            settings: settings.clone(),
            places: Places {
                state_dir: configuration.paths.state_dir.clone(),
                temporary: PathBuf::from("/tmp"),
            },
            environment: inherited.iter().map(pair).collect(),
            headless_override: configuration
                .environment
                .text("OPENCLAW_BROWSER_HEADLESS")
                .and_then(as_flag),
        }
    })
}

fn as_flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Saves what this run uses, so that the next one needs no flags; every run does, before it
/// connects (CLI §1.1).
fn save_profile(
    database: &mut Database,
    arguments: &Arguments,
    commands: CommandChoice,
    previous: Option<&NodeProfile>,
    endpoint: Option<state::SavedEndpoint>,
) -> Result<NodeProfile, Failure> {
    let saved_id = previous.map(|profile| profile.node_id.as_str());
    let (node_id, tokens) = match plan_node_id(arguments.node_id.as_deref(), saved_id) {
        NodeIdPlan::Saved(node_id) | NodeIdPlan::Chosen(node_id) => (node_id, StoredTokens::Keep),
        NodeIdPlan::Generate => (uuid::Uuid::new_v4().to_string(), StoredTokens::Keep),
        NodeIdPlan::Replaced { node_id, previous } => {
            warn!(
                target: actors::OPERATOR_LINES,
                "node id changed from {previous} to {node_id}; the stored device token is forgotten"
            );
            (node_id, StoredTokens::Clear)
        }
    };
    let saved_name = previous.map(|profile| profile.display_name.as_str());
    let profile = NodeProfile {
        node_id,
        display_name: display_name(arguments.display_name.as_deref(), saved_name),
        endpoint,
        commands: commands.over(previous.and_then(|profile| profile.commands.clone())),
    };
    database.save_node_profile(&profile, tokens, unix_ms())?;
    Ok(profile)
}

fn device_identity(database: &mut Database) -> Result<DeviceIdentity, Failure> {
    if let Some(stored) = database.identity()? {
        return Ok(stored.identity);
    }
    let candidate = DeviceIdentity::generate().map_err(Failure::new)?;
    Ok(database.identity_or_insert(&candidate, unix_ms())?.identity)
}

/// How long to wait before presenting a credential that was terminally refused last time (D19).
fn hold_back(
    database: &Database,
    endpoint: &PlannedEndpoint,
    credentials: &Credentials,
    device_token: Option<&SecretString>,
) -> Result<Option<std::time::Duration>, Failure> {
    let mut credentials = credentials.clone();
    credentials.set_device_token(device_token.cloned());
    let auth = credentials.select(false);
    let scope = endpoint.scope();
    let failure = database.auth_failure_of(PresentedCredential {
        gateway_scope: scope.as_str(),
        secrets: &auth.secrets(),
    })?;
    Ok(failure.map(|failure| reconnect::hold_back(failure.attempts)))
}
