//! Everything that is read before a command does its work, in the order in which it depends on
//! each other: variables, places, openclaw.json, the node's own settings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::credentials::{PASSWORD_VARIABLE, TOKEN_VARIABLE};
use crate::edge_access::{ID_VARIABLE, SECRET_VARIABLE};
use crate::env_file::{self, EnvFileError, VariablesFile};
use crate::environment::VariableOrigin;
use crate::openclaw_json::{Provider, SecretInput, SecretReference, SecretSource};
use crate::paths::expand_tilde;
use crate::settings::{self, Settings, SettingsError};
use crate::{Environment, OpenclawJson, OpenclawJsonError, Paths, PathsError};

/// The variable by which systemd says where it provides credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// The state folder's file of variables.
const DOT_ENV: &str = ".env";

/// What is read at start, and again at every reload.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The places.
    pub paths: Paths,
    /// The variables of the process, and what lies beneath them: credentials of systemd,
    /// `<stateDir>/.env`, `env` of openclaw.json.
    pub environment: Environment,
    /// openclaw.json.
    pub openclaw_json: OpenclawJson,
    /// `openclaw-node.json5`.
    pub settings: Settings,
}

/// Why there is no configuration. The text is ready for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file of variables.
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    /// The places.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// openclaw.json.
    #[error(transparent)]
    OpenclawJson(#[from] OpenclawJsonError),
    /// `openclaw-node.json5`.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Configuration {
    /// Reads everything. The process's variables and those of the file that the service definition
    /// names, if there is one, win over all that is kept in the state folder.
    ///
    /// # Errors
    /// [`ConfigurationError`] for whatever cannot be obeyed.
    pub fn load(
        process: &Environment,
        variables_file: Option<&VariablesFile>,
    ) -> Result<Self, ConfigurationError> {
        let mut environment = process.clone();
        if let Some(file) = variables_file {
            file.put_into(&mut environment)?;
        }
        let paths = Paths::from_environment(&environment)?;
        put_credentials(&mut environment)?;
        let dot_env = paths.state_dir.join(DOT_ENV);
        for (name, value) in env_file::read_dot_env(&dot_env)? {
            environment.put_beneath(&name, value, VariableOrigin::DotEnv(dot_env.clone()));
        }
        let openclaw_json = OpenclawJson::load(&paths, &mut environment)?;
        let settings = Settings::load(&paths.state_dir.join(settings::FILE_NAME))?;
        Ok(Self {
            paths,
            environment,
            openclaw_json,
            settings,
        })
    }

    /// The variables that commands may inherit: not those from which a secret reference takes the
    /// gateway's credentials (D10).
    #[must_use]
    pub fn variables_for_commands(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let withheld = self.credential_variables();
        self.environment
            .variables()
            .filter(|(name, _)| name.to_str().is_none_or(|name| !withheld.contains(name)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The files that the gateway's credentials may be in, whether they are there or not. Files that
    /// openclaw.json includes are not among them.
    #[must_use]
    pub fn credential_files(&self, variables_file: Option<&VariablesFile>) -> Vec<PathBuf> {
        let providers = self.openclaw_json.secrets.providers.values();
        let of_references = providers.filter_map(|provider| match provider {
            Provider::File(file) => Some(expand_tilde(file.path.as_ref(), &self.paths.home)),
            Provider::Env(_) | Provider::Exec(_) | Provider::Store | Provider::Plugin => None,
        });
        let own = [
            self.paths.state_dir.join(DOT_ENV),
            self.paths.config_file.clone(),
        ];
        variables_file
            .map(|file| file.path().to_owned())
            .into_iter()
            .chain(own)
            .chain(of_references)
            .collect()
    }

    fn credential_variables(&self) -> BTreeSet<&str> {
        let gateway = &self.openclaw_json.gateway;
        let inputs = [
            &gateway.token,
            &gateway.password,
            &gateway.remote_token,
            &gateway.remote_password,
        ];
        let referenced = inputs
            .into_iter()
            .flatten()
            .filter_map(|input| match input {
                SecretInput::Reference(SecretReference {
                    source: SecretSource::Env,
                    id,
                    ..
                }) => Some(id.as_str()),
                SecretInput::Plain(_)
                | SecretInput::Reference(_)
                | SecretInput::Incomplete { .. } => None,
            });
        referenced
            .chain(gateway.filled_from.iter().map(String::as_str))
            .collect()
    }
}

/// Takes what systemd provides as credentials of the names that matter (D20).
fn put_credentials(environment: &mut Environment) -> Result<(), EnvFileError> {
    let Some(folder) = environment.process(CREDENTIALS_DIRECTORY) else {
        return Ok(());
    };
    let folder = PathBuf::from(folder);
    if !folder.is_absolute() {
        return Ok(());
    }
    for name in [
        TOKEN_VARIABLE,
        PASSWORD_VARIABLE,
        ID_VARIABLE,
        SECRET_VARIABLE,
    ] {
        let file = folder.join(name);
        if let Some(value) = env_file::read_credential(&file)? {
            environment.put_beneath(name, value, VariableOrigin::CredentialFile(file));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_that_systemd_provides_is_taken_and_no_command_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "OPENCLAW_GATEWAY_TOKEN",
            "OPENCLAW_GATEWAY_PASSWORD",
            "CF_ACCESS_CLIENT_ID",
            "CF_ACCESS_CLIENT_SECRET",
        ];
        for name in names {
            std::fs::write(folder.path().join(name), format!("{name}'s\n")).unwrap();
        }
        let process: Environment = [
            ("HOME", folder.path()),
            (CREDENTIALS_DIRECTORY, folder.path()),
        ]
        .into_iter()
        .collect();
        let configuration = Configuration::load(&process, None).unwrap();
        let inherited = configuration.variables_for_commands();
        for name in names {
            assert_eq!(
                configuration.environment.text(name),
                Some(format!("{name}'s").as_str())
            );
            assert!(inherited.iter().all(|(known, _)| known != name), "{name}");
        }
    }
}
