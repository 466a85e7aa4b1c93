//! Where the credential of an attempt came from, as `status` shows it.

use protocol::credentials::Auth;

/// The places of the shared credentials, in the words of `auth explain`: `env`, `config`,
/// `remote`, `credentials-directory`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CredentialSources {
    /// Where the shared token came from.
    pub token: Option<&'static str>,
    /// Where the password came from.
    pub password: Option<&'static str>,
}

impl CredentialSources {
    /// Where what an attempt presents came from; `None` when it presents nothing.
    pub(crate) fn of(self, auth: &Auth) -> Option<String> {
        match auth {
            Auth::None => None,
            Auth::Token { .. } | Auth::TokenWithDeviceToken { .. } => self.token,
            Auth::Password(_) => self.password,
            Auth::DeviceToken(_) => Some("device-token"),
            Auth::Bootstrap(_) => Some("bootstrap-token"),
        }
        .map(str::to_owned)
    }
}
