//! Following a secret reference to its secret (config §4.1). Whatever is not exactly as it should
//! be fails: a credential that is not there is safer than one from the wrong place.

mod file;
mod program;

use std::path::Path;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::Environment;
use crate::openclaw_json::{Provider, SecretReference, SecretSource, Secrets};
use crate::substitution;

/// What upstream shows in place of a secret; where it stands in a secret's stead, somebody stored
/// what they saw.
const REDACTED: [&str; 4] = [
    "REDACTED",
    "[REDACTED]",
    "[REDACTED CREDENTIAL]",
    "__OPENCLAW_REDACTED__",
];

/// Why a reference leads to no secret. No text contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No provider has the name.
    #[error("secrets.providers.{provider} is not configured")]
    NoProvider {
        /// The name.
        provider: String,
    },
    /// The provider is of another kind.
    #[error(
        "secrets.providers.{provider} has source \"{actual}\", but the reference asks for \"{wanted}\""
    )]
    OtherSource {
        /// The provider.
        provider: String,
        /// What it is.
        actual: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// `store`, or a plugin.
    #[error(
        "{what} is not supported here: only the gateway's own process can read it; use source \"env\", \"file\" or \"exec\""
    )]
    NotSupported {
        /// What is not.
        what: &'static str,
    },
    /// The variable is not on the provider's list.
    #[error("{variable} is not on the list secrets.providers.{provider}.allowlist")]
    NotAllowed {
        /// The variable.
        variable: String,
        /// The provider.
        provider: String,
    },
    /// The variable is unset or empty.
    #[error("environment variable {variable} is missing or empty")]
    NoVariable {
        /// The variable.
        variable: String,
    },
    /// The provider failed.
    #[error("secrets.providers.{provider}: {reason}")]
    Failed {
        /// The provider.
        provider: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// Where references are followed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretSources<'a> {
    /// The providers.
    pub(crate) secrets: &'a Secrets,
    /// The variables.
    pub(crate) environment: &'a Environment,
    /// What `~` stands for.
    pub(crate) home: &'a Path,
}

impl SecretSources<'_> {
    /// Follows a reference. The secret is trimmed and never blank. Waits for a program or a slow
    /// disk no longer than the provider may take.
    pub(crate) fn follow(&self, reference: &SecretReference) -> Result<SecretString, SecretError> {
        let name = reference.provider.as_str();
        let failed = |reason: String| SecretError::Failed {
            provider: name.to_owned(),
            reason,
        };
        let provider = self.provider(reference)?;
        let secret = match (provider, reference.source) {
            (None, SecretSource::Env) => self.variable(&reference.id)?,
            (None | Some(Provider::Store), _) => {
                return Err(SecretError::NotSupported {
                    what: "source \"store\"",
                });
            }
            (Some(Provider::Plugin), _) => {
                return Err(SecretError::NotSupported {
                    what: "a plugin's provider",
                });
            }
            (Some(Provider::Env(provider)), _) => {
                let is_allowed = provider
                    .allowlist
                    .as_ref()
                    .is_none_or(|names| names.contains(&reference.id));
                if !is_allowed {
                    return Err(SecretError::NotAllowed {
                        variable: reference.id.clone(),
                        provider: name.to_owned(),
                    });
                }
                self.variable(&reference.id)?
            }
            (Some(Provider::File(provider)), _) => {
                file::secret(provider, &reference.id, self.home).map_err(failed)?
            }
            (Some(Provider::Exec(provider)), _) => {
                program::secret(provider, reference, self.environment).map_err(failed)?
            }
        };
        let trimmed = secret.expose_secret().trim();
        if trimmed.is_empty() {
            return Err(failed(format!("the secret {} is blank", reference.id)));
        }
        if REDACTED.contains(&trimmed) {
            return Err(failed(format!(
                "the secret {} is a placeholder that was shown in place of the real one; store the real one",
                reference.id
            )));
        }
        Ok(SecretString::from(trimmed))
    }

    /// The provider; `None` for those that need no configuration.
    fn provider(&self, reference: &SecretReference) -> Result<Option<&Provider>, SecretError> {
        let name = reference.provider.as_str();
        let provider = self.secrets.providers.get(name);
        let matching = provider.filter(|provider| provider.source() == reference.source);
        let is_built_in = match reference.source {
            SecretSource::Env => name == self.secrets.default_env(),
            SecretSource::Store => true,
            SecretSource::File | SecretSource::Exec => false,
        };
        match (provider, matching) {
            (_, Some(provider)) => Ok(Some(provider)),
            (_, None) if is_built_in => Ok(None),
            (Some(provider), None) => Err(SecretError::OtherSource {
                provider: name.to_owned(),
                actual: provider.source().as_str(),
                wanted: reference.source.as_str(),
            }),
            (None, None) => Err(SecretError::NoProvider {
                provider: name.to_owned(),
            }),
        }
    }

    fn variable(&self, name: &str) -> Result<SecretString, SecretError> {
        substitution::value(self.environment, name)
            .map(SecretString::from)
            .ok_or_else(|| SecretError::NoVariable {
                variable: name.to_owned(),
            })
    }
}

fn timed_out(after: Duration) -> String {
    format!(
        "no answer within {}; raise timeoutMs if it may take longer",
        humantime::format_duration(after)
    )
}

#[cfg(test)]
mod tests;
