//! `auth explain`: which of all the places supplies each credential, and why not the others.

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use node_config::{
    Configuration, CredentialError, CredentialQuery, Credentials, Environment, GatewayScope,
    GivenSecret, PassedOver, PlannedEndpoint, VariablesFile, credentials,
};
use protocol::connect::ROLE;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use state::{Database, DeviceTokenKey};

use super::endpoint_arguments::{EndpointArguments, saved_endpoint};
use super::output;
use super::route::planned;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which source supplies each credential, and why the others do not; never a value
    Explain(Explain),
}

#[derive(Debug, Args)]
struct Explain {
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Ignore openclaw.json: only variables count
    #[arg(long, hide = true)]
    auth_from_env: bool,
    /// Read variables from this file, as `run` does
    #[arg(long, value_name = "FILE", hide = true)]
    env_file: Option<PathBuf>,
    /// Print the values, for tests
    #[arg(long, hide = true)]
    reveal: bool,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Explain(explain) => explain.run(environment),
    }
}

/// What is presented, and what is not (interfaces: `auth explain`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    token: Option<Given>,
    password: Option<Given>,
    device_token: DeviceToken,
    bootstrap_token: BootstrapToken,
    passed_over: Vec<Passed>,
    warnings: Vec<String>,
    error: Option<Unavailable>,
}

#[derive(Serialize)]
struct Given {
    source: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Serialize)]
struct DeviceToken {
    present: bool,
    endpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[derive(Serialize)]
struct BootstrapToken {
    present: bool,
}

#[derive(Serialize)]
struct Passed {
    credential: &'static str,
    source: &'static str,
    path: String,
    reason: String,
}

#[derive(Serialize)]
struct Unavailable {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    path: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// What the state folder knows.
struct Stored {
    endpoint: PlannedEndpoint,
    saved: Option<GatewayScope>,
    device_token: Option<SecretString>,
}

impl Explain {
    fn run(&self, environment: &Environment) -> Result<Exit, Failure> {
        if self.reveal && stdout().is_terminal() {
            return Err(Failure::new(
                "--reveal prints secrets and is for tests; send standard output to a file or a pipe",
            ));
        }
        planned(&self.endpoint.flags(), None, environment)?;
        let variables_file = self.env_file.clone().map(VariablesFile::Given);
        let configuration =
            Configuration::load(environment, variables_file.as_ref()).map_err(Failure::new)?;
        let stored = self.stored(&configuration, environment)?;
        let resolved = Credentials::resolve(CredentialQuery {
            environment: &configuration.environment,
            openclaw_json: &configuration.openclaw_json,
            home: &configuration.paths.home,
            saved: stored.saved.as_ref(),
            planned: &stored.endpoint.scope(),
            has_device_token: stored.device_token.is_some(),
            only_environment: self.auth_from_env,
        });
        let explanation = self.explain(resolved, &stored, configuration.openclaw_json.warnings);
        if self.json {
            output::json_line(&explanation).map_err(Failure::new)?;
        } else {
            output::print(&explanation.to_text());
        }
        Ok(match explanation.error {
            None => Exit::Done,
            Some(_) => Exit::Failure,
        })
    }

    fn stored(
        &self,
        configuration: &Configuration,
        environment: &Environment,
    ) -> Result<Stored, Failure> {
        let database = Database::open_read_only(&configuration.paths.state_dir)?;
        let profile = match &database {
            Some(database) => database.node_profile()?,
            None => None,
        };
        let saved = profile
            .and_then(|profile| profile.endpoint)
            .map(|saved| saved_endpoint(&saved));
        let flags = self.endpoint.flags_over(configuration);
        let endpoint = planned(&flags, saved.as_ref(), environment)?;
        let mut device_token = None;
        if let Some(database) = &database
            && let Some(stored) = database.identity()?
        {
            device_token = database.device_token(DeviceTokenKey {
                device_id: stored.identity.device_id().as_str(),
                role: ROLE,
                gateway_scope: endpoint.scope().as_str(),
            })?;
        }
        Ok(Stored {
            saved: saved.and_then(|saved| saved.scope()),
            endpoint,
            device_token,
        })
    }

    fn explain(
        &self,
        resolved: Result<Credentials, CredentialError>,
        stored: &Stored,
        mut warnings: Vec<String>,
    ) -> Explanation {
        let revealed =
            |secret: &SecretString| self.reveal.then(|| secret.expose_secret().to_owned());
        let given = |secret: GivenSecret| Given {
            source: secret.source.as_str(),
            path: secret.path,
            value: revealed(&secret.value),
        };
        let (credentials, error) = match resolved {
            Ok(credentials) => (credentials, None),
            Err(error) => (Credentials::default(), Some(Unavailable::from(error))),
        };
        warnings.extend(credentials.warnings);
        let mut passed_over: Vec<Passed> = credentials
            .passed_over
            .into_iter()
            .map(Passed::from)
            .collect();
        let presented_first = match (&credentials.token, &credentials.password) {
            (Some(first), _) | (None, Some(first)) => Some(first.path.clone()),
            (None, None) => None,
        };
        let endpoint = stored.endpoint.scope().to_string();
        if let Some(first) = presented_first.filter(|_| stored.device_token.is_some()) {
            passed_over.push(Passed {
                credential: "deviceToken",
                source: "state",
                path: endpoint.clone(),
                reason: format!("{first} is presented first"),
            });
        }
        Explanation {
            token: credentials.token.map(given),
            password: credentials.password.map(given),
            device_token: DeviceToken {
                present: stored.device_token.is_some(),
                endpoint,
                value: stored.device_token.as_ref().and_then(revealed),
            },
            // A setup code's token is never kept (wire protocol §7.7).
            bootstrap_token: BootstrapToken { present: false },
            passed_over,
            warnings,
            error,
        }
    }
}

impl From<PassedOver> for Passed {
    fn from(passed: PassedOver) -> Self {
        Self {
            credential: passed.credential.as_str(),
            source: passed.source.as_str(),
            path: passed.path,
            reason: passed.reason,
        }
    }
}

impl From<CredentialError> for Unavailable {
    fn from(error: CredentialError) -> Self {
        Self {
            code: Some(credentials::UNAVAILABLE),
            path: error.path.to_owned(),
            message: error.headline(),
            cause: Some(error.cause),
        }
    }
}

impl Explanation {
    /// One line for each thing that there is to know.
    fn to_text(&self) -> String {
        let mut lines = Vec::new();
        let given = |given: &Option<Given>| match given {
            Some(Given {
                source,
                path,
                value: None,
            }) => format!("{path} ({source})"),
            Some(Given {
                source,
                path,
                value: Some(value),
            }) => format!("{path} ({source}) {value}"),
            None => "none".to_owned(),
        };
        lines.push(format!("token:           {}", given(&self.token)));
        lines.push(format!("password:        {}", given(&self.password)));
        let device_token = match self.device_token.present {
            true => "stored",
            false => "none",
        };
        lines.push(format!(
            "device token:    {device_token} for {}",
            self.device_token.endpoint
        ));
        lines.push("bootstrap token: none".to_owned());
        for passed in &self.passed_over {
            lines.push(format!(
                "passed over:     {} ({}): {}",
                passed.path, passed.credential, passed.reason
            ));
        }
        for warning in &self.warnings {
            lines.push(format!("warning:         {warning}"));
        }
        if let Some(error) = &self.error {
            lines.push(format!("error:           {}", error.message));
            if let Some(cause) = &error.cause {
                lines.push(format!("                 {cause}"));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
