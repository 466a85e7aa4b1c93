//! Which of all the places that may hold a credential supplies it (config §4.2, D20).

use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use crate::openclaw_json::{AuthMode, Gateway, GatewayMode, SecretInput};
use crate::secret_provider::{SecretError, SecretSources};
use crate::{Environment, GatewayScope, OpenclawJson, VariableOrigin};

/// The variable that holds the gateway's shared token (config §4.2).
pub const TOKEN_VARIABLE: &str = "OPENCLAW_GATEWAY_TOKEN";

/// The variable that holds the gateway's password (config §4.2).
pub const PASSWORD_VARIABLE: &str = "OPENCLAW_GATEWAY_PASSWORD";

/// The code by which upstream's tools know the failure (config §4.1).
pub const UNAVAILABLE: &str = "GATEWAY_SECRET_REF_UNAVAILABLE";

/// The two shared credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// The gateway's shared token.
    Token,
    /// The gateway's password.
    Password,
}

impl CredentialKind {
    /// The word in texts and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Token => Self::Password,
            Self::Password => Self::Token,
        }
    }

    const fn variable(self) -> &'static str {
        match self {
            Self::Token => TOKEN_VARIABLE,
            Self::Password => PASSWORD_VARIABLE,
        }
    }
}

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource {
    /// A variable, be it of the process, of `.env` or of `env.vars`.
    Environment,
    /// What systemd provides as a credential (D20).
    CredentialsDirectory,
    /// `gateway.auth` of openclaw.json.
    Config,
    /// `gateway.remote` of openclaw.json.
    Remote,
}

impl CredentialSource {
    /// The word in `auth explain` (interfaces).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "env",
            Self::CredentialsDirectory => "credentials-directory",
            Self::Config => "config",
            Self::Remote => "remote",
        }
    }
}

/// A credential that will be used.
#[derive(Debug, Clone)]
pub struct GivenSecret {
    /// The value, trimmed and not blank.
    pub value: SecretString,
    /// Which kind of place it came from.
    pub source: CredentialSource,
    /// The place: a variable, a file or a key.
    pub path: String,
}

/// A credential that is there, but will not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Which one.
    pub credential: CredentialKind,
    /// Which kind of place it stands in.
    pub source: CredentialSource,
    /// The place.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// The shared credentials for the gateway. Which of them a connect sends is the protocol's choice.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The gateway's shared token.
    pub token: Option<GivenSecret>,
    /// The gateway's password.
    pub password: Option<GivenSecret>,
    /// What else is there.
    pub passed_over: Vec<PassedOver>,
    /// Where places disagree.
    pub warnings: Vec<String>,
}

/// A reference that could decide which credential is used leads nowhere, so none is.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is configured as a secret reference but is unavailable in this command path.\n\
     Cause: {cause}.\n\
     Fix: set OPENCLAW_GATEWAY_TOKEN or OPENCLAW_GATEWAY_PASSWORD, or mend what {path} refers to; `openclaw-node auth explain` shows every source."
)]
pub struct CredentialError {
    /// The key.
    pub path: &'static str,
    /// Why, without any value.
    pub cause: String,
}

impl CredentialError {
    /// Upstream's words for it, without the cause.
    #[must_use]
    pub fn headline(&self) -> String {
        let text = self.to_string();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// Everything that the choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct CredentialQuery<'a> {
    /// The variables, with all that lies beneath them.
    pub environment: &'a Environment,
    /// The configuration.
    pub openclaw_json: &'a OpenclawJson,
    /// What `~` stands for in paths of secret files.
    pub home: &'a Path,
    /// The endpoint that an earlier run saved.
    pub saved: Option<&'a GatewayScope>,
    /// The endpoint that will be connected to.
    pub planned: &'a GatewayScope,
    /// Whether a device token is stored that `planned` issued.
    pub has_device_token: bool,
    /// `--auth-from-env`: nothing but variables counts.
    pub only_environment: bool,
}

impl Credentials {
    /// Chooses. References are followed only where they can decide; that may run a program or read
    /// a slow disk, for as long as their providers permit.
    ///
    /// # Errors
    /// [`CredentialError`] when a reference that could decide leads nowhere.
    pub fn resolve(query: CredentialQuery<'_>) -> Result<Self, CredentialError> {
        let mut selection = Selection::new(query);
        if query.only_environment {
            selection.pass_over_all("only variables count with --auth-from-env");
        } else if query.has_device_token && query.saved == Some(query.planned) {
            selection.pass_over_all(
                "the gateway has given this node a device token, so that only variables count",
            );
        }
        selection.choose()
    }

    /// Takes both from the environment. Values are literal: `${X}` in one is not expanded.
    #[must_use]
    pub fn from_environment(environment: &Environment) -> Self {
        let mut warnings = Vec::new();
        let mut passed_over = Vec::new();
        let mut given = |credential: CredentialKind| {
            let variable = credential.variable();
            let origin = environment.origin(variable)?;
            let path = origin.place(variable);
            let value = environment.text(variable)?;
            for (hidden, differs) in environment.hidden(variable) {
                let hidden_path = hidden.place(variable);
                if *differs {
                    warnings.push(format!(
                        "{path} and {hidden_path} hold different values; {path} is used"
                    ));
                }
                passed_over.push(PassedOver {
                    credential,
                    source: source_of(hidden),
                    path: hidden_path,
                    reason: format!("{path} wins"),
                });
            }
            Some(GivenSecret {
                value: SecretString::from(value),
                source: source_of(origin),
                path,
            })
        };
        let token = given(CredentialKind::Token);
        let password = given(CredentialKind::Password);
        Self {
            token,
            password,
            passed_over,
            warnings,
        }
    }

    fn get(&self, credential: CredentialKind) -> &Option<GivenSecret> {
        match credential {
            CredentialKind::Token => &self.token,
            CredentialKind::Password => &self.password,
        }
    }

    fn slot(&mut self, credential: CredentialKind) -> &mut Option<GivenSecret> {
        match credential {
            CredentialKind::Token => &mut self.token,
            CredentialKind::Password => &mut self.password,
        }
    }
}

const fn source_of(origin: &VariableOrigin) -> CredentialSource {
    match origin {
        VariableOrigin::CredentialFile(_) => CredentialSource::CredentialsDirectory,
        VariableOrigin::Process
        | VariableOrigin::EnvFile(_)
        | VariableOrigin::DotEnv(_)
        | VariableOrigin::ConfigVars => CredentialSource::Environment,
    }
}

/// The keys that may hold a credential, in the order in which upstream follows references.
const KEYS: [(CredentialKind, CredentialSource, &str); 4] = [
    (
        CredentialKind::Token,
        CredentialSource::Config,
        "gateway.auth.token",
    ),
    (
        CredentialKind::Password,
        CredentialSource::Config,
        "gateway.auth.password",
    ),
    (
        CredentialKind::Token,
        CredentialSource::Remote,
        "gateway.remote.token",
    ),
    (
        CredentialKind::Password,
        CredentialSource::Remote,
        "gateway.remote.password",
    ),
];

/// One of the keys, and what is known about it so far.
struct Key<'a> {
    credential: CredentialKind,
    source: CredentialSource,
    path: &'static str,
    input: &'a SecretInput,
    /// The credential, as soon as it is known.
    value: Option<SecretString>,
    /// Why following it was in vain.
    failure: Option<String>,
}

struct Selection<'a> {
    query: CredentialQuery<'a>,
    keys: Vec<Key<'a>>,
    chosen: Credentials,
}

impl<'a> Selection<'a> {
    fn new(query: CredentialQuery<'a>) -> Self {
        let gateway = &query.openclaw_json.gateway;
        let inputs = [
            &gateway.token,
            &gateway.password,
            &gateway.remote_token,
            &gateway.remote_password,
        ];
        let keys =
            KEYS.into_iter()
                .zip(inputs)
                .filter_map(|((credential, source, path), input)| {
                    let input = input.as_ref()?;
                    Some(Key {
                        credential,
                        source,
                        path,
                        input,
                        value: match input {
                            SecretInput::Plain(value) => Some(value.clone()),
                            SecretInput::Reference(_) | SecretInput::Incomplete { .. } => None,
                        },
                        failure: None,
                    })
                });
        Self {
            query,
            keys: keys.collect(),
            chosen: Credentials::from_environment(query.environment),
        }
    }

    fn gateway(&self) -> &'a Gateway {
        &self.query.openclaw_json.gateway
    }

    fn is_remote(&self) -> bool {
        self.gateway().mode == GatewayMode::Remote
    }

    /// Leaves out what openclaw.json says, and notes why.
    fn pass_over_all(&mut self, reason: &str) {
        for key in std::mem::take(&mut self.keys) {
            self.chosen
                .passed_over
                .push(key.passed_over(reason.to_owned()));
        }
    }

    fn choose(mut self) -> Result<Credentials, CredentialError> {
        self.follow_references();
        self.require_references()?;
        for credential in [CredentialKind::Token, CredentialKind::Password] {
            let winner = self.winner(credential, None);
            let Some(index) = winner else { continue };
            let Some(key) = self.keys.get(index) else {
                continue;
            };
            let given = key.value.clone().map(|value| GivenSecret {
                value,
                source: key.source,
                path: key.path.to_owned(),
            });
            *self.chosen.slot(credential) = given;
        }
        self.explain_the_others();
        Ok(self.chosen)
    }

    /// The key that supplies a credential when the key `pretended` has a value; `None` when a
    /// variable or nothing does.
    fn winner(&self, credential: CredentialKind, pretended: Option<usize>) -> Option<usize> {
        if self.chosen.get(credential).is_some() {
            return None;
        }
        let order: &[CredentialSource] = match self.is_remote() {
            true => &[CredentialSource::Remote, CredentialSource::Config],
            false => &[CredentialSource::Config],
        };
        order.iter().find_map(|source| {
            self.keys.iter().enumerate().position(|(index, key)| {
                key.credential == credential
                    && key.source == *source
                    && (key.value.is_some() || pretended == Some(index))
            })
        })
    }

    /// Whether there is a credential when the key `pretended` has a value.
    fn is_there(&self, credential: CredentialKind, pretended: Option<usize>) -> bool {
        self.chosen.get(credential).is_some() || self.winner(credential, pretended).is_some()
    }

    /// Whether a reference can decide which credential is sent.
    fn may_decide(&self, index: usize, key: &Key<'_>) -> bool {
        let is_local = !self.is_remote();
        let mode = self.gateway().auth_mode;
        let is_demanded = is_local && mode.is_some_and(|mode| mode.demands(key.credential));
        let is_excluded = is_local && mode.is_some() && !is_demanded;
        !is_excluded
            && self.winner(key.credential, Some(index)) == Some(index)
            && (is_demanded || !self.is_there(key.credential.other(), Some(index)))
    }

    fn follow_references(&mut self) {
        let sources = SecretSources {
            secrets: &self.query.openclaw_json.secrets,
            environment: self.query.environment,
            home: self.query.home,
        };
        for index in 0..self.keys.len() {
            let followed = match self.keys.get(index) {
                Some(key) if key.value.is_none() && self.may_decide(index, key) => {
                    follow(key.input, sources)
                }
                Some(_) | None => continue,
            };
            if let Some(key) = self.keys.get_mut(index) {
                match followed {
                    Ok(value) => key.value = Some(value),
                    Err(cause) => key.failure = Some(cause),
                }
            }
        }
    }

    /// Refuses to go on without a reference that could have decided.
    fn require_references(&self) -> Result<(), CredentialError> {
        let mode = self.gateway().auth_mode;
        for key in self.keys.iter().filter(|key| key.value.is_none()) {
            let has_other = self.is_there(key.credential.other(), None);
            let is_missed = match (self.gateway().mode, key.source) {
                (GatewayMode::Local, CredentialSource::Remote) => false,
                (GatewayMode::Local, _) => {
                    mode.map_or(!has_other, |mode| mode.demands(key.credential))
                }
                (GatewayMode::Remote, CredentialSource::Remote) => !has_other,
                (GatewayMode::Remote, _) => {
                    !has_other && mode.is_none_or(|mode| mode.demands(key.credential))
                }
            };
            if is_missed && !self.is_there(key.credential, None) {
                return Err(CredentialError {
                    path: key.path,
                    cause: key
                        .failure
                        .clone()
                        .unwrap_or_else(|| "the reference cannot be followed".to_owned()),
                });
            }
        }
        Ok(())
    }

    fn explain_the_others(&mut self) {
        let is_remote = self.is_remote();
        for key in std::mem::take(&mut self.keys) {
            let winner = self.chosen.get(key.credential).as_ref();
            let path = winner.map(|winner| winner.path.clone());
            let reason = match (&key.failure, path) {
                _ if key.source == CredentialSource::Remote && !is_remote => {
                    "gateway.mode is not \"remote\"".to_owned()
                }
                (_, Some(path)) if path == key.path => continue,
                (Some(cause), _) => {
                    let text = format!("{} leads nowhere: {cause}", key.path);
                    self.chosen.warnings.push(text);
                    format!("its reference leads nowhere: {cause}")
                }
                (None, Some(path)) => {
                    let differs = |value: &SecretString| {
                        winner.is_some_and(|winner| {
                            winner.value.expose_secret() != value.expose_secret()
                        })
                    };
                    if key.value.as_ref().is_some_and(differs) {
                        self.chosen.warnings.push(format!(
                            "{path} and {} hold different values; {path} is used",
                            key.path
                        ));
                    }
                    format!("{path} wins")
                }
                (None, None) => match self.chosen.get(key.credential.other()) {
                    Some(other) => format!(
                        "the {} of {} is used",
                        key.credential.other().as_str(),
                        other.path
                    ),
                    None => "gateway.auth.mode does not ask for it".to_owned(),
                },
            };
            self.chosen.passed_over.push(key.passed_over(reason));
        }
    }
}

impl Key<'_> {
    fn passed_over(&self, reason: String) -> PassedOver {
        PassedOver {
            credential: self.credential,
            source: self.source,
            path: self.path.to_owned(),
            reason,
        }
    }
}

impl AuthMode {
    /// Whether a gateway in this mode wants the credential.
    const fn demands(self, credential: CredentialKind) -> bool {
        match (self, credential) {
            (Self::Token, CredentialKind::Token)
            | (Self::Password | Self::TrustedProxy, CredentialKind::Password) => true,
            (Self::Token, CredentialKind::Password)
            | (Self::Password | Self::TrustedProxy, CredentialKind::Token)
            | (Self::None, _) => false,
        }
    }
}

fn follow(input: &SecretInput, sources: SecretSources<'_>) -> Result<SecretString, String> {
    match input {
        SecretInput::Plain(value) => Ok(value.clone()),
        SecretInput::Reference(reference) => sources
            .follow(reference)
            .map_err(|error: SecretError| error.to_string()),
        SecretInput::Incomplete { variables } => Err(format!(
            "environment variable {} is missing or empty",
            variables.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    #[test]
    fn only_the_two_variables_count_and_blank_is_absent() {
        let cases: [(Variables, Option<&str>, Option<&str>); 8] = [
            (&[], None, None),
            (&[(TOKEN_VARIABLE, "t")], Some("t"), None),
            (&[(PASSWORD_VARIABLE, "p")], None, Some("p")),
            (
                &[(TOKEN_VARIABLE, "t"), (PASSWORD_VARIABLE, "p")],
                Some("t"),
                Some("p"),
            ),
            (
                &[(TOKEN_VARIABLE, "  t \n"), (PASSWORD_VARIABLE, "\t")],
                Some("t"),
                None,
            ),
            (&[(TOKEN_VARIABLE, "")], None, None),
            (
                &[(TOKEN_VARIABLE, "${NOT_EXPANDED}")],
                Some("${NOT_EXPANDED}"),
                None,
            ),
            (&[("CLAWDBOT_GATEWAY_TOKEN", "old")], None, None),
        ];
        for (variables, token, password) in cases {
            let credentials = Credentials::from_environment(&variables.iter().copied().collect());
            let exposed = |secret: &Option<GivenSecret>| {
                secret
                    .as_ref()
                    .map(|secret| secret.value.expose_secret().to_owned())
            };
            assert_eq!(
                exposed(&credentials.token).as_deref(),
                token,
                "{variables:?}"
            );
            assert_eq!(
                exposed(&credentials.password).as_deref(),
                password,
                "{variables:?}"
            );
        }
    }

    #[test]
    fn printing_shows_where_a_secret_came_from_but_not_the_secret() {
        let environment = [(TOKEN_VARIABLE, "hunter2")].into_iter().collect();
        let printed = format!("{:?}", Credentials::from_environment(&environment));
        assert!(printed.contains(TOKEN_VARIABLE), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn what_disagrees_beneath_the_environment_is_told() {
        let mut environment: Environment = [(TOKEN_VARIABLE, "a")].into_iter().collect();
        let dot_env = VariableOrigin::DotEnv("/s/.env".into());
        environment.put_beneath(TOKEN_VARIABLE, "b", dot_env);
        environment.put_beneath(TOKEN_VARIABLE, "a", VariableOrigin::ConfigVars);
        let credentials = Credentials::from_environment(&environment);
        assert_eq!(
            credentials.warnings,
            [format!(
                "{TOKEN_VARIABLE} and /s/.env#{TOKEN_VARIABLE} hold different values; {TOKEN_VARIABLE} is used"
            )]
        );
        assert_eq!(credentials.passed_over.len(), 2);
    }
}
