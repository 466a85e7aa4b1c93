//! Who may connect: shared secret, device token, bootstrap token, and the limit on failures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use protocol::frame::GatewayError;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::options::{AuthMode, RateLimit, Release};

/// The `auth` member of a connect request; blank values are absent.
#[derive(Debug, Default)]
pub(crate) struct PresentedAuth {
    token: Option<SecretString>,
    password: Option<SecretString>,
    device_token: Option<SecretString>,
    bootstrap_token: Option<SecretString>,
}

fn present(secret: Option<&SecretString>) -> Option<&str> {
    secret
        .map(|secret| secret.expose_secret().trim())
        .filter(|text| !text.is_empty())
}

impl PresentedAuth {
    /// Reads the `auth` member, which the connect schema has already checked.
    pub(crate) fn parse(auth: Option<&Value>) -> Self {
        let secret = |name: &str| {
            let text = auth?.get(name)?.as_str()?;
            Some(SecretString::from(text))
        };
        Self {
            token: secret("token"),
            password: secret("password"),
            device_token: secret("deviceToken"),
            bootstrap_token: secret("bootstrapToken"),
        }
    }

    /// The token a device signs: the first member that is there, in this order (§6). A blank one
    /// counts here, because the signature covers what stands in the request.
    pub(crate) fn signed_token(&self) -> &str {
        [&self.token, &self.device_token, &self.bootstrap_token]
            .into_iter()
            .find_map(Option::as_ref)
            .map_or("", |secret| secret.expose_secret())
    }

    pub(crate) fn bootstrap_token(&self) -> Option<&str> {
        present(self.bootstrap_token.as_ref())
    }

    /// Whether no credential was presented at all.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_shared_secret()
            && self.bootstrap_token().is_none()
            && self.device_token_candidate().is_none()
    }

    fn has_shared_secret(&self) -> bool {
        present(self.token.as_ref())
            .or(present(self.password.as_ref()))
            .is_some()
    }

    /// What could be a device token, and whether it was presented as one.
    fn device_token_candidate(&self) -> Option<(&str, bool)> {
        present(self.device_token.as_ref())
            .map(|token| (token, true))
            .or_else(|| present(self.token.as_ref()).map(|token| (token, false)))
    }
}

/// Which credential let somebody in; `auth.method` of hello-ok.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// The shared token.
    Token,
    /// The shared password.
    Password,
    /// A token that this gateway gave to this device.
    DeviceToken,
    /// A setup code.
    BootstrapToken,
    /// The gateway asks for nothing.
    None,
}

impl AuthMethod {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Password => "password",
            Self::DeviceToken => "device-token",
            Self::BootstrapToken => "bootstrap-token",
            Self::None => "none",
        }
    }

    /// Whether whoever came in this way knew the gateway's own secret.
    pub(crate) const fn is_shared_secret(self) -> bool {
        matches!(self, Self::Token | Self::Password)
    }
}

/// Why a credential was refused (§9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthFailure {
    TokenMissing,
    TokenMismatch,
    PasswordMissing,
    PasswordMismatch,
    DeviceTokenMismatch,
    ScopeMismatch,
    BootstrapTokenInvalid,
    RateLimited(Duration),
}

impl AuthFailure {
    /// The refusal as it goes over the wire.
    pub(crate) fn error(
        self,
        release: Release,
        auth: &PresentedAuth,
        has_device: bool,
    ) -> GatewayError {
        let (code, reason, text) = match self {
            Self::TokenMissing => (
                "AUTH_TOKEN_MISSING",
                "token_missing",
                "gateway token missing (provide gateway auth token)",
            ),
            Self::TokenMismatch => (
                "AUTH_TOKEN_MISMATCH",
                "token_mismatch",
                "gateway token mismatch (provide gateway auth token)",
            ),
            Self::PasswordMissing => (
                "AUTH_PASSWORD_MISSING",
                "password_missing",
                "gateway password missing (provide gateway auth password)",
            ),
            Self::PasswordMismatch => (
                "AUTH_PASSWORD_MISMATCH",
                "password_mismatch",
                "gateway password mismatch (provide gateway auth password)",
            ),
            Self::DeviceTokenMismatch => (
                "AUTH_DEVICE_TOKEN_MISMATCH",
                "device_token_mismatch",
                "device token mismatch (rotate/reissue device token)",
            ),
            Self::ScopeMismatch => (
                "AUTH_SCOPE_MISMATCH",
                "scope_mismatch",
                "device token scope mismatch (re-pair or approve scope upgrade)",
            ),
            Self::BootstrapTokenInvalid => (
                "AUTH_BOOTSTRAP_TOKEN_INVALID",
                "bootstrap_token_invalid",
                match release {
                    Release::May => "bootstrap token invalid or expired (scan a fresh setup code)",
                    Release::September => {
                        "setup code invalid, expired, revoked, or already used (create a new code; review `openclaw devices list`)"
                    }
                },
            ),
            Self::RateLimited(_) => (
                "AUTH_RATE_LIMITED",
                "rate_limited",
                "too many failed authentication attempts (retry later)",
            ),
        };
        let can_retry = self == Self::TokenMismatch
            && has_device
            && present(auth.password.as_ref()).is_none()
            && present(auth.token.as_ref()).is_some()
            && present(auth.device_token.as_ref()).is_none();
        let next_step = match self {
            Self::TokenMismatch if can_retry => "retry_with_device_token",
            Self::TokenMissing | Self::PasswordMissing => "update_auth_configuration",
            Self::TokenMismatch | Self::PasswordMismatch | Self::DeviceTokenMismatch => {
                "update_auth_credentials"
            }
            Self::RateLimited(_) => "wait_then_retry",
            Self::ScopeMismatch | Self::BootstrapTokenInvalid => "review_auth_configuration",
        };
        let retry_after = match (self, release) {
            (Self::RateLimited(after), Release::September) => Some(after),
            _ => None,
        };
        GatewayError {
            code: "INVALID_REQUEST".to_owned(),
            message: format!("unauthorized: {text}"),
            retryable: retry_after.map(|_| true),
            retry_after_ms: retry_after
                .map(|after| after.as_millis().try_into().unwrap_or(u64::MAX)),
            details: json!({
                "code": code,
                "authReason": reason,
                "canRetryWithDeviceToken": can_retry,
                "recommendedNextStep": next_step,
            }),
        }
    }
}

/// What the registry of devices says about a credential.
pub(crate) trait DeviceCredentials {
    /// Whether this is the device's current token for the role and covers the scopes.
    fn check_device_token(&self, token: &str) -> Result<(), AuthFailure>;
    /// Whether this bootstrap token is valid for the device; binds it to the device if so.
    fn check_bootstrap_token(&mut self, token: &str) -> Result<(), AuthFailure>;
}

/// Which failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    SharedSecret,
    DeviceToken,
    BootstrapToken,
}

/// Counts failures per address and locks out who fails too often.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: RateLimit,
    clients: HashMap<(IpAddr, Scope), Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    failures: Vec<Instant>,
    locked_until: Option<Instant>,
}

/// Addresses beyond this are forgotten, oldest lockouts with them: it is a test gateway's memory.
const MAX_CLIENTS: usize = 1024;

impl RateLimiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            clients: HashMap::new(),
        }
    }

    fn exempt(&self, address: IpAddr) -> bool {
        self.limit.exempt_loopback && address.is_loopback()
    }

    fn check(&mut self, address: IpAddr, scope: Scope, now: Instant) -> Result<(), AuthFailure> {
        if self.exempt(address) {
            return Ok(());
        }
        let locked = self
            .clients
            .get(&(address, scope))
            .and_then(|client| client.locked_until);
        match locked.and_then(|until| until.checked_duration_since(now)) {
            Some(left) if !left.is_zero() => Err(AuthFailure::RateLimited(left)),
            _ => Ok(()),
        }
    }

    fn record(&mut self, address: IpAddr, scope: Scope, now: Instant) {
        if self.exempt(address) {
            return;
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.clear();
        }
        let client = self.clients.entry((address, scope)).or_default();
        client
            .failures
            .retain(|failure| now.duration_since(*failure) < self.limit.window);
        client.failures.push(now);
        if client.failures.len() >= self.limit.max_attempts {
            client.failures.clear();
            client.locked_until = Some(now + self.limit.lockout);
        }
    }
}

/// What [`authenticate`] decides from.
pub(crate) struct Attempt<'a> {
    pub(crate) mode: &'a AuthMode,
    pub(crate) release: Release,
    pub(crate) auth: &'a PresentedAuth,
    pub(crate) address: IpAddr,
    pub(crate) now: Instant,
}

/// Decides whether somebody is let in, in the order of the real gateways: shared secret, then
/// bootstrap token, then device token (§7.2).
pub(crate) fn authenticate(
    attempt: &Attempt<'_>,
    limiter: &mut RateLimiter,
    device: Option<&mut dyn DeviceCredentials>,
) -> Result<AuthMethod, AuthFailure> {
    let Attempt {
        auth, address, now, ..
    } = *attempt;
    let (mut decision, shared_failed) = match limiter.check(address, Scope::SharedSecret, now) {
        Err(limited) if auth.has_shared_secret() => (Err(limited), false),
        _ => {
            let decision = check_shared_secret(attempt);
            let failed = matches!(
                decision,
                Err(AuthFailure::TokenMismatch | AuthFailure::PasswordMismatch)
            );
            (decision, failed)
        }
    };
    if let Some(device) = device {
        decision = check_device_credentials(attempt, limiter, decision, device);
    }
    if shared_failed && decision.is_err() {
        limiter.record(address, Scope::SharedSecret, now);
    }
    decision
}

fn check_device_credentials(
    attempt: &Attempt<'_>,
    limiter: &mut RateLimiter,
    mut decision: Result<AuthMethod, AuthFailure>,
    device: &mut dyn DeviceCredentials,
) -> Result<AuthMethod, AuthFailure> {
    let Attempt {
        auth, address, now, ..
    } = *attempt;
    if let Some(token) = auth.bootstrap_token() {
        let checked = limiter
            .check(address, Scope::BootstrapToken, now)
            .and_then(|()| device.check_bootstrap_token(token));
        match checked {
            Ok(()) => decision = Ok(AuthMethod::BootstrapToken),
            Err(failure) => {
                if decision.is_err() {
                    decision = Err(failure);
                }
                if failure == AuthFailure::BootstrapTokenInvalid {
                    limiter.record(address, Scope::BootstrapToken, now);
                }
            }
        }
    }
    let (Err(failure), Some((token, explicit))) = (decision, auth.device_token_candidate()) else {
        return decision;
    };
    limiter.check(address, Scope::DeviceToken, now)?;
    match device.check_device_token(token) {
        Ok(()) => Ok(AuthMethod::DeviceToken),
        Err(token_failure) => {
            limiter.record(address, Scope::DeviceToken, now);
            // A token that was not presented as a device token failed as a shared one (§7.2).
            let scope_mismatch = token_failure == AuthFailure::ScopeMismatch;
            Err(if explicit || scope_mismatch {
                token_failure
            } else {
                failure
            })
        }
    }
}

fn check_shared_secret(attempt: &Attempt<'_>) -> Result<AuthMethod, AuthFailure> {
    let token = present(attempt.auth.token.as_ref());
    let password = present(attempt.auth.password.as_ref());
    // The September release compares the secret whichever member it stands in (§9).
    let (as_token, as_password) = match attempt.release {
        Release::May => (token, password),
        Release::September => (token.or(password), password.or(token)),
    };
    match attempt.mode {
        AuthMode::None => Ok(AuthMethod::None),
        AuthMode::Token(secret) => match as_token {
            None => Err(AuthFailure::TokenMissing),
            Some(token) if token == secret.expose_secret() => Ok(AuthMethod::Token),
            Some(_) => Err(AuthFailure::TokenMismatch),
        },
        AuthMode::Password(secret) => match as_password {
            None => Err(AuthFailure::PasswordMissing),
            Some(password) if password == secret.expose_secret() => Ok(AuthMethod::Password),
            Some(_) => Err(AuthFailure::PasswordMismatch),
        },
    }
}
