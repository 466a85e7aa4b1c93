//! What the operator gave to authenticate with, and where it came from.

use secrecy::SecretString;

use crate::Environment;

/// The variable that holds the gateway's shared token (config §4.2).
const TOKEN_VARIABLE: &str = "OPENCLAW_GATEWAY_TOKEN";

/// The variable that holds the gateway's password (config §4.2).
const PASSWORD_VARIABLE: &str = "OPENCLAW_GATEWAY_PASSWORD";

/// Where a secret came from, for status and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialSource {
    /// The process environment.
    Environment {
        /// The variable.
        variable: &'static str,
    },
}

impl CredentialSource {
    /// The word in `status` and `auth explain` (interfaces).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Environment { .. } => "env",
        }
    }
}

/// A secret that the operator gave.
#[derive(Debug, Clone)]
pub struct GivenSecret {
    /// The value, trimmed and not blank.
    pub value: SecretString,
    /// Where it came from.
    pub source: CredentialSource,
}

/// The shared credentials for the gateway. Which of them a connect sends is the protocol's choice.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The gateway's shared token.
    pub token: Option<GivenSecret>,
    /// The gateway's password.
    pub password: Option<GivenSecret>,
}

impl Credentials {
    /// Takes both from the environment. Values are literal: `${X}` in one is not expanded.
    #[must_use]
    pub fn from_environment(environment: &Environment) -> Self {
        Self {
            token: given(environment, TOKEN_VARIABLE),
            password: given(environment, PASSWORD_VARIABLE),
        }
    }
}

fn given(environment: &Environment, variable: &'static str) -> Option<GivenSecret> {
    let value = SecretString::from(environment.text(variable)?);
    Some(GivenSecret {
        value,
        source: CredentialSource::Environment { variable },
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

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
}
