//! Why a gateway refused a connect request, and what class of failure that is (§9).

use std::fmt;

use crate::frame::GatewayError;

/// Defines the enum, its wire names and its classes from one table, so that a code can neither be
/// forgotten in one of them nor be spelled in two ways.
macro_rules! failure_codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal => $class:ident,)+) => {
        /// `error.details.code` of a refused connect request.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum FailureCode {
            $($(#[$doc])* $variant,)+
            /// A code that this version does not know.
            Other(String),
        }

        impl FailureCode {
            /// Every known code, for tests and documentation.
            pub const KNOWN: &[Self] = &[$(Self::$variant,)+];

            /// Parses the name on the wire.
            #[must_use]
            pub fn parse(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }

            /// The name on the wire.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }

            /// What a node has to do about it.
            #[must_use]
            pub const fn class(&self) -> FailureClass {
                match self {
                    $(Self::$variant => FailureClass::$class,)+
                    Self::Other(_) => FailureClass::Retry,
                }
            }
        }
    };
}

/// What a node has to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// Nothing but an operator's change of credentials or versions can help: exit 1.
    Terminal,
    /// As terminal, unless the stored device token has not been tried beside the token yet (§7.3).
    TokenMismatch,
    /// The stored device token is dead: forget it, then use another credential or exit (D12).
    DeviceTokenMismatch,
    /// An operator has to approve this device: stay, say so, and look again (D12).
    Pairing,
    /// An operator has to approve more scopes: as pairing, without a request to approve (D12).
    Scope,
    /// Too many failed attempts from this address: wait as long as the gateway says (D12).
    RateLimited,
    /// The gateway speaks another protocol version.
    ProtocolMismatch,
    /// May heal by itself: try again with backoff.
    Retry,
}

failure_codes! {
    /// No credential was sent, but one is needed.
    AuthTokenMissing = "AUTH_TOKEN_MISSING" => Terminal,
    /// The shared token is wrong.
    AuthTokenMismatch = "AUTH_TOKEN_MISMATCH" => TokenMismatch,
    /// No password was sent, but one is needed.
    AuthPasswordMissing = "AUTH_PASSWORD_MISSING" => Terminal,
    /// The password is wrong.
    AuthPasswordMismatch = "AUTH_PASSWORD_MISMATCH" => Terminal,
    /// The setup code is invalid, expired, revoked or used up.
    AuthBootstrapTokenInvalid = "AUTH_BOOTSTRAP_TOKEN_INVALID" => Terminal,
    /// A trusted proxy did not say who the user is.
    AuthIdentityHeaderRequired = "AUTH_IDENTITY_HEADER_REQUIRED" => Terminal,
    /// This release is older than the gateway on the same machine allows.
    ClientVersionMismatch = "CLIENT_VERSION_MISMATCH" => Terminal,
    /// The request carried no device proof.
    DeviceIdentityRequired = "DEVICE_IDENTITY_REQUIRED" => Terminal,
    /// Only for operators: a verified user is required.
    AuthVerifiedUserRequired = "AUTH_VERIFIED_USER_REQUIRED" => Terminal,
    /// Only for operators: the control UI needs a device identity.
    ControlUiDeviceIdentityRequired = "CONTROL_UI_DEVICE_IDENTITY_REQUIRED" => Terminal,
    /// The stored device token was rotated or revoked.
    AuthDeviceTokenMismatch = "AUTH_DEVICE_TOKEN_MISMATCH" => DeviceTokenMismatch,
    /// The device, its role or its metadata waits for approval.
    PairingRequired = "PAIRING_REQUIRED" => Pairing,
    /// The device token covers fewer scopes than asked for.
    AuthScopeMismatch = "AUTH_SCOPE_MISMATCH" => Scope,
    /// Locked out after too many failures.
    AuthRateLimited = "AUTH_RATE_LIMITED" => RateLimited,
    /// No common protocol version.
    ProtocolMismatch = "PROTOCOL_MISMATCH" => ProtocolMismatch,
    /// The device id does not follow from the public key.
    DeviceAuthDeviceIdMismatch = "DEVICE_AUTH_DEVICE_ID_MISMATCH" => Retry,
    /// The signature is too old or from the future.
    DeviceAuthSignatureExpired = "DEVICE_AUTH_SIGNATURE_EXPIRED" => Retry,
    /// The nonce is missing.
    DeviceAuthNonceRequired = "DEVICE_AUTH_NONCE_REQUIRED" => Retry,
    /// The nonce belongs to another challenge.
    DeviceAuthNonceMismatch = "DEVICE_AUTH_NONCE_MISMATCH" => Retry,
    /// The signature does not verify.
    DeviceAuthSignatureInvalid = "DEVICE_AUTH_SIGNATURE_INVALID" => Retry,
    /// The public key is no key.
    DeviceAuthPublicKeyInvalid = "DEVICE_AUTH_PUBLIC_KEY_INVALID" => Retry,
    /// The device proof failed for a reason without a code of its own.
    DeviceAuthInvalid = "DEVICE_AUTH_INVALID" => Retry,
    /// The gateway is in token mode without a token.
    AuthTokenNotConfigured = "AUTH_TOKEN_NOT_CONFIGURED" => Retry,
    /// The gateway is in password mode without a password.
    AuthPasswordNotConfigured = "AUTH_PASSWORD_NOT_CONFIGURED" => Retry,
    /// Tailscale sent no identity.
    AuthTailscaleIdentityMissing = "AUTH_TAILSCALE_IDENTITY_MISSING" => Retry,
    /// Tailscale's proxy headers are missing.
    AuthTailscaleProxyMissing = "AUTH_TAILSCALE_PROXY_MISSING" => Retry,
    /// Tailscale did not confirm the identity.
    AuthTailscaleWhoisFailed = "AUTH_TAILSCALE_WHOIS_FAILED" => Retry,
    /// Tailscale's identity is another than the one sent.
    AuthTailscaleIdentityMismatch = "AUTH_TAILSCALE_IDENTITY_MISMATCH" => Retry,
    /// Refused without further reason.
    AuthUnauthorized = "AUTH_UNAUTHORIZED" => Retry,
    /// Some authentication is required.
    AuthRequired = "AUTH_REQUIRED" => Retry,
    /// An `Origin` header reached the gateway; a proxy must have added it.
    ControlUiOriginNotAllowed = "CONTROL_UI_ORIGIN_NOT_ALLOWED" => Retry,
    /// The user's profile is not ready.
    AuthenticatedProfileUnavailable = "AUTHENTICATED_PROFILE_UNAVAILABLE" => Retry,
}

impl fmt::Display for FailureCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A refused connect request: the gateway's error, and the code in it.
#[derive(Debug, Clone)]
pub struct ConnectFailure {
    /// The code, absent for refusals without one, such as a gateway that still starts.
    pub code: Option<FailureCode>,
    /// The whole error.
    pub error: GatewayError,
}

impl From<GatewayError> for ConnectFailure {
    fn from(error: GatewayError) -> Self {
        Self {
            code: error.detail("code").map(FailureCode::parse),
            error,
        }
    }
}

impl ConnectFailure {
    /// What a node has to do about it. A refusal without a code is retried.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        self.code
            .as_ref()
            .map_or(FailureClass::Retry, FailureCode::class)
    }

    /// Whether the gateway only asks for a moment, because it still starts (§9, §13).
    #[must_use]
    pub fn is_gateway_starting(&self) -> bool {
        self.code.is_none()
            && self.error.code == "UNAVAILABLE"
            && self.error.detail("reason") == Some("startup-sidecars")
    }

    /// Whether the gateway hints that the stored device token would be accepted (§7.3).
    #[must_use]
    pub fn suggests_device_token(&self) -> bool {
        self.error.details.get("canRetryWithDeviceToken") == Some(&serde_json::Value::Bool(true))
            || self.error.detail("recommendedNextStep") == Some("retry_with_device_token")
            || self.code == Some(FailureCode::AuthTokenMismatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in FailureCode::KNOWN {
            assert_eq!(&FailureCode::parse(code.name()), code);
        }
        assert_eq!(
            FailureCode::parse("NEW"),
            FailureCode::Other("NEW".to_owned())
        );
    }

    #[test]
    fn the_codes_that_upstream_exits_for_are_terminal() {
        for name in [
            "AUTH_TOKEN_MISSING",
            "AUTH_PASSWORD_MISSING",
            "AUTH_PASSWORD_MISMATCH",
            "AUTH_BOOTSTRAP_TOKEN_INVALID",
            "AUTH_IDENTITY_HEADER_REQUIRED",
            "CLIENT_VERSION_MISMATCH",
        ] {
            assert_eq!(
                FailureCode::parse(name).class(),
                FailureClass::Terminal,
                "{name}"
            );
        }
        assert_eq!(
            FailureCode::AuthTokenMismatch.class(),
            FailureClass::TokenMismatch
        );
    }

    #[test]
    fn an_unknown_code_and_no_code_are_retried() {
        let unknown = ConnectFailure::from(GatewayError {
            details: serde_json::json!({"code": "BRAND_NEW"}),
            ..GatewayError::default()
        });
        assert_eq!(unknown.class(), FailureClass::Retry);
        assert_eq!(
            ConnectFailure::from(GatewayError::default()).class(),
            FailureClass::Retry
        );
    }

    #[test]
    fn a_starting_gateway_is_recognised_by_its_reason() {
        let starting = ConnectFailure::from(GatewayError {
            code: "UNAVAILABLE".to_owned(),
            details: serde_json::json!({"reason": "startup-sidecars"}),
            ..GatewayError::default()
        });
        assert!(starting.is_gateway_starting());
        assert!(!ConnectFailure::from(GatewayError::default()).is_gateway_starting());
    }
}
