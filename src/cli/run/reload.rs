//! What a running node reads again on SIGHUP.

use std::sync::Arc;

use actors::{CredentialFiles, CredentialSources, ReadAgain, Reload, Reloaded};
use exec::environment::BaseEnvironment;
use node_config::{Configuration, CredentialQuery, Credentials, GatewayScope, GivenSecret};
use tracing::warn;

use super::ProcessStart;

/// Where shared credentials may come from in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SharedCredentials {
    /// From nowhere: a setup code says what is shown (wire protocol §7.7).
    None,
    /// `--auth-from-env`.
    OfEnvironment,
    /// From every place.
    OfEverywhere,
}

/// Reads everything again as it was read at start. By then the endpoint is the saved one.
pub(super) fn reload(
    process: ProcessStart,
    started_with: &Configuration,
    shared: SharedCredentials,
    endpoint: GatewayScope,
) -> Reload {
    let credential_files = match shared {
        SharedCredentials::None => Vec::new(),
        SharedCredentials::OfEnvironment | SharedCredentials::OfEverywhere => {
            started_with.credential_files(process.variables_file.as_ref())
        }
    };
    let credential_files = CredentialFiles::read_since(credential_files, process.at);
    let read: ReadAgain = Arc::new(move |has_device_token| {
        let configuration = process.configuration().map_err(|error| error.to_string())?;
        let query = CredentialQuery {
            environment: &configuration.environment,
            openclaw_json: &configuration.openclaw_json,
            home: &configuration.paths.home,
            saved: Some(&endpoint),
            planned: &endpoint,
            has_device_token,
            only_environment: shared == SharedCredentials::OfEnvironment,
        };
        let given = match shared {
            SharedCredentials::None => Credentials::default(),
            SharedCredentials::OfEnvironment | SharedCredentials::OfEverywhere => {
                Credentials::resolve(query).map_err(|error| error.to_string())?
            }
        };
        for warning in configuration
            .openclaw_json
            .warnings
            .iter()
            .chain(&given.warnings)
        {
            warn!("{warning}");
        }
        Ok(Reloaded {
            credential_sources: sources(&given),
            token: given.token.map(|secret| secret.value),
            password: given.password.map(|secret| secret.value),
            environment: BaseEnvironment::new(configuration.variables_for_commands()),
            exec_config: configuration.openclaw_json.exec,
            settings: configuration.settings,
        })
    });
    Reload {
        read,
        credential_files,
    }
}

/// Where the shared credentials came from.
pub(super) fn sources(given: &Credentials) -> CredentialSources {
    let source = |secret: &Option<GivenSecret>| Some(secret.as_ref()?.source.as_str());
    CredentialSources {
        token: source(&given.token),
        password: source(&given.password),
    }
}
