//! Which of several credentials a connect attempt presents (§7.2, §7.3).

use secrecy::{ExposeSecret as _, SecretString};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// Everything that could prove to a gateway that this node may connect.
///
/// Blank values are absent; [`Credentials::new`] sees to that.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    token: Option<SecretString>,
    password: Option<SecretString>,
    bootstrap_token: Option<SecretString>,
    device_token: Option<SecretString>,
}

fn trimmed(secret: Option<SecretString>) -> Option<SecretString> {
    let secret = secret?;
    let text = secret.expose_secret();
    match text.trim() {
        "" => None,
        trimmed if trimmed.len() == text.len() => Some(secret),
        trimmed => Some(SecretString::from(trimmed)),
    }
}

impl Credentials {
    /// Takes what the environment and the configuration gave; each value is trimmed.
    #[must_use]
    pub fn new(
        token: Option<SecretString>,
        password: Option<SecretString>,
        bootstrap_token: Option<SecretString>,
    ) -> Self {
        Self {
            token: trimmed(token),
            password: trimmed(password),
            bootstrap_token: trimmed(bootstrap_token),
            device_token: None,
        }
    }

    /// Replaces what the environment and the configuration gave; the other tokens stay.
    pub fn set_shared(&mut self, token: Option<SecretString>, password: Option<SecretString>) {
        self.token = trimmed(token);
        self.password = trimmed(password);
    }

    /// Replaces the stored device token: the one that this gateway issued to this device.
    pub fn set_device_token(&mut self, token: Option<SecretString>) {
        self.device_token = trimmed(token);
    }

    /// Drops the token of a setup code. Says whether there was one.
    pub fn forget_bootstrap_token(&mut self) -> bool {
        self.bootstrap_token.take().is_some()
    }

    /// Whether a device token is there.
    #[must_use]
    pub fn has_device_token(&self) -> bool {
        self.device_token.is_some()
    }

    /// Whether a shared gateway token is there.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether anything but the device token is there to fall back to.
    #[must_use]
    pub fn has_other_than_device_token(&self) -> bool {
        self.token.is_some() || self.password.is_some() || self.bootstrap_token.is_some()
    }

    /// Chooses what the next attempt sends. `add_device_token` is the one-shot retry of §7.3.
    #[must_use]
    pub fn select(&self, add_device_token: bool) -> Auth {
        match (
            &self.token,
            &self.password,
            &self.device_token,
            &self.bootstrap_token,
        ) {
            (Some(token), _, Some(device_token), _) if add_device_token => {
                Auth::TokenWithDeviceToken {
                    token: token.clone(),
                    device_token: device_token.clone(),
                }
            }
            (Some(token), password, _, _) => Auth::Token {
                token: token.clone(),
                password: password.clone(),
            },
            (None, Some(password), _, _) => Auth::Password(password.clone()),
            (None, None, Some(device_token), _) => Auth::DeviceToken(device_token.clone()),
            (None, None, None, Some(bootstrap)) => Auth::Bootstrap(bootstrap.clone()),
            (None, None, None, None) => Auth::None,
        }
    }
}

/// The `auth` member of one connect request.
#[derive(Debug, Clone)]
pub enum Auth {
    /// No member at all.
    None,
    /// The shared token, with the password beside it if both are configured.
    Token {
        /// The gateway's shared token.
        token: SecretString,
        /// The gateway's password.
        password: Option<SecretString>,
    },
    /// The shared token again, this time with the stored device token (§7.3).
    TokenWithDeviceToken {
        /// The gateway's shared token; the one that is signed.
        token: SecretString,
        /// The stored device token.
        device_token: SecretString,
    },
    /// The gateway's password; it is never part of the signature.
    Password(SecretString),
    /// The stored device token, in both members, so that a stale one is reported as such (§7.2).
    DeviceToken(SecretString),
    /// The token of a setup code.
    Bootstrap(SecretString),
}

impl Auth {
    /// Whether the member is left out.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The token that the device signature covers (§6).
    #[must_use]
    pub const fn signed_token(&self) -> Option<&SecretString> {
        match self {
            Self::None | Self::Password(_) => None,
            Self::Token { token, .. } | Self::TokenWithDeviceToken { token, .. } => Some(token),
            Self::DeviceToken(token) | Self::Bootstrap(token) => Some(token),
        }
    }

    /// The stored device token, if it was part of the attempt.
    #[must_use]
    pub const fn device_token(&self) -> Option<&SecretString> {
        match self {
            Self::TokenWithDeviceToken { device_token, .. } | Self::DeviceToken(device_token) => {
                Some(device_token)
            }
            Self::None | Self::Token { .. } | Self::Password(_) | Self::Bootstrap(_) => None,
        }
    }

    /// Every secret of the attempt, for a digest that recognises the same credential again.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretString> {
        match self {
            Self::None => Vec::new(),
            Self::Token { token, password } => {
                std::iter::once(token).chain(password.as_ref()).collect()
            }
            Self::TokenWithDeviceToken {
                token,
                device_token,
            } => vec![token, device_token],
            Self::Password(secret) | Self::DeviceToken(secret) | Self::Bootstrap(secret) => {
                vec![secret]
            }
        }
    }

    /// A name for logs and status; never a value.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token { .. } => "token",
            Self::TokenWithDeviceToken { .. } => "token and device token",
            Self::Password(_) => "password",
            Self::DeviceToken(_) => "device token",
            Self::Bootstrap(_) => "bootstrap token",
        }
    }

    /// Writes the secrets in the clear, for the connect request only.
    pub(crate) fn serialize_exposed<S: Serializer>(
        &self,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        fn write<S: Serializer>(
            serializer: S,
            members: &[(&'static str, &SecretString)],
        ) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(members.len()))?;
            for (name, secret) in members {
                map.serialize_entry(name, secret.expose_secret())?;
            }
            map.end()
        }
        match self {
            Self::None => serializer.serialize_none(),
            Self::Token {
                token,
                password: None,
            } => write(serializer, &[("token", token)]),
            Self::Token {
                token,
                password: Some(password),
            } => write(serializer, &[("token", token), ("password", password)]),
            Self::TokenWithDeviceToken {
                token,
                device_token,
            } => write(
                serializer,
                &[("token", token), ("deviceToken", device_token)],
            ),
            Self::Password(password) => write(serializer, &[("password", password)]),
            Self::DeviceToken(token) => {
                write(serializer, &[("token", token), ("deviceToken", token)])
            }
            Self::Bootstrap(token) => write(serializer, &[("bootstrapToken", token)]),
        }
    }
}

/// Wraps [`Auth`] where a test or a tool must see the JSON that would be sent.
#[derive(Debug)]
pub struct ExposedAuth<'a>(pub &'a Auth);

impl Serialize for ExposedAuth<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_exposed(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Option<SecretString> {
        (!text.is_empty()).then(|| SecretString::from(text))
    }

    /// token, password, device token, bootstrap token, one-shot retry → auth member, signed token.
    #[test]
    fn selection_follows_the_documented_order() {
        let cases = [
            (
                ["T", "P", "D", "B"],
                false,
                r#"{"token":"T","password":"P"}"#,
                Some("T"),
            ),
            (["T", "", "D", "B"], false, r#"{"token":"T"}"#, Some("T")),
            (
                ["T", "P", "D", "B"],
                true,
                r#"{"token":"T","deviceToken":"D"}"#,
                Some("T"),
            ),
            (
                ["T", "P", "", "B"],
                true,
                r#"{"token":"T","password":"P"}"#,
                Some("T"),
            ),
            (["", "P", "D", "B"], false, r#"{"password":"P"}"#, None),
            (
                ["", "", "D", "B"],
                false,
                r#"{"token":"D","deviceToken":"D"}"#,
                Some("D"),
            ),
            (
                ["", "", "D", "B"],
                true,
                r#"{"token":"D","deviceToken":"D"}"#,
                Some("D"),
            ),
            (
                ["", "", "", "B"],
                false,
                r#"{"bootstrapToken":"B"}"#,
                Some("B"),
            ),
            (["", "", "", ""], false, "null", None),
            (
                [" T ", "  ", "\n", ""],
                false,
                r#"{"token":"T"}"#,
                Some("T"),
            ),
        ];
        for ([token, password, device, bootstrap], retry, expected, signed) in cases {
            let mut credentials =
                Credentials::new(secret(token), secret(password), secret(bootstrap));
            credentials.set_device_token(secret(device));
            let auth = credentials.select(retry);
            assert_eq!(
                serde_json::to_string(&ExposedAuth(&auth)).unwrap(),
                expected
            );
            assert_eq!(
                auth.signed_token().map(|token| token.expose_secret()),
                signed
            );
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        let mut credentials =
            Credentials::new(secret("hunter2-token"), secret("hunter2-password"), None);
        credentials.set_device_token(secret("hunter2-device"));
        let printed = format!("{credentials:?} {:?}", credentials.select(true));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
