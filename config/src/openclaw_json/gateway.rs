//! `gateway`: of this machine's own gateway, what a node that connects to it has to know.

use std::collections::BTreeSet;
use std::str::FromStr;

use config::{Map, Value, ValueKind};

use super::{Layer, OpenclawJsonError, SecretInput, Secrets};
use crate::Environment;
use crate::endpoint::DEFAULT_PORT;
use crate::setting::Setting;
use crate::substitution;

/// The variable that moves the gateway's port.
const PORT_VARIABLE: &str = "OPENCLAW_GATEWAY_PORT";

/// What is expected of a port.
const PORT: &str = "a whole number from 1 to 65535";

/// `gateway`, as far as a node obeys it.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// `mode`: which of the credentials below count.
    pub mode: GatewayMode,
    /// `port`, or `OPENCLAW_GATEWAY_PORT` where that is set.
    pub port: u16,
    /// `tls.enabled`: whether a node connects with TLS, unless told otherwise.
    pub tls_enabled: bool,
    /// `auth.mode`, if given.
    pub auth_mode: Option<AuthMode>,
    /// `auth.token`.
    pub token: Option<SecretInput>,
    /// `auth.password`.
    pub password: Option<SecretInput>,
    /// `remote.token`.
    pub remote_token: Option<SecretInput>,
    /// `remote.password`.
    pub remote_password: Option<SecretInput>,
    /// The variables that one of these four was filled from.
    pub filled_from: BTreeSet<String>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            mode: GatewayMode::Local,
            port: DEFAULT_PORT,
            tls_enabled: false,
            auth_mode: None,
            token: None,
            password: None,
            remote_token: None,
            remote_password: None,
            filled_from: BTreeSet::new(),
        }
    }
}

/// `gateway.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayMode {
    /// The gateway that this file configures.
    Local,
    /// Another machine's gateway.
    Remote,
}

/// `gateway.auth.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// No credential.
    None,
    /// A shared token.
    Token,
    /// A password.
    Password,
    /// A proxy vouches for its users; a password for everybody else.
    TrustedProxy,
}

impl FromStr for GatewayMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "local" => Ok(Self::Local),
            "remote" => Ok(Self::Remote),
            _ => Err(()),
        }
    }
}

impl FromStr for AuthMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "none" => Ok(Self::None),
            "token" => Ok(Self::Token),
            "password" => Ok(Self::Password),
            "trusted-proxy" => Ok(Self::TrustedProxy),
            _ => Err(()),
        }
    }
}

/// What the environment sets, above the file. What is no port is passed over, as upstream does.
pub(super) fn from_environment(
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<Layer> {
    let text = environment.text(PORT_VARIABLE)?;
    let Some(port) = text.parse::<u16>().ok().filter(|port| *port > 0) else {
        warnings.push(format!("{PORT_VARIABLE} is not {PORT}; it is ignored"));
        return None;
    };
    let origin = PORT_VARIABLE.to_owned();
    let value = |kind| Value::new(Some(&origin), kind);
    let gateway = Map::from_iter([("port".to_owned(), value(ValueKind::I64(port.into())))]);
    Some(Layer(Map::from_iter([(
        "gateway".to_owned(),
        value(ValueKind::Table(gateway)),
    )])))
}

impl Gateway {
    pub(super) fn read(
        root: &Setting<'_>,
        secrets: &Secrets,
        environment: &Environment,
    ) -> Result<Self, OpenclawJsonError> {
        let mut read = Self::default();
        let Some(gateway) = root.member("gateway")? else {
            return Ok(read);
        };
        if let Some(mode) = gateway.member("mode")? {
            read.mode = parsed(&mode, "\"local\" or \"remote\"")?;
        }
        if let Some(port) = gateway.member("port")? {
            let port = port.between(1..=u16::MAX.into(), PORT)?;
            read.port = u16::try_from(port).unwrap_or(DEFAULT_PORT);
        }
        if let Some(tls) = gateway.member("tls")? {
            read.tls_enabled = tls.optional("enabled", Setting::flag)?.unwrap_or(false);
        }
        let mut filled_from = BTreeSet::new();
        let mut secret = |owner: &Setting<'_>, name| match owner.member(name)? {
            Some(value) => {
                if let ValueKind::String(text) = &value.value.kind {
                    filled_from.extend(substitution::names(text));
                }
                SecretInput::read(&value, secrets, environment)
            }
            None => Ok(None),
        };
        if let Some(auth) = gateway.member("auth")? {
            let expected = "\"none\", \"token\", \"password\" or \"trusted-proxy\"";
            let mode = auth.member("mode")?;
            read.auth_mode = mode.map(|mode| parsed(&mode, expected)).transpose()?;
            read.token = secret(&auth, "token")?;
            read.password = secret(&auth, "password")?;
        }
        if let Some(remote) = gateway.member("remote")? {
            read.remote_token = secret(&remote, "token")?;
            read.remote_password = secret(&remote, "password")?;
        }
        read.filled_from = filled_from;
        Ok(read)
    }
}

fn parsed<T: FromStr>(value: &Setting<'_>, expected: &'static str) -> Result<T, OpenclawJsonError> {
    let parsed = value.text().ok().and_then(|word| word.parse().ok());
    parsed.ok_or_else(|| value.wrong(expected))
}
