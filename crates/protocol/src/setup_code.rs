//! Setup codes: how a gateway tells a machine where it is and lets it in once (§7.6).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde::Deserialize;

/// What may stand before a code, in any case.
const PREFIX: &str = "oc-pair://";
/// Most endpoints that a code may name.
const URLS_MAX: usize = 8;
/// The largest payload that a gateway hands out, in bytes; no code is longer than its base64.
pub const PAYLOAD_LIMIT_BYTES: usize = 24_576;

/// Where a gateway is, and the token that lets one device in.
#[derive(Debug, Clone)]
pub struct SetupCode {
    /// The endpoints to try, in this order; at least one.
    pub urls: Vec<String>,
    /// The one of them whose certificate is pinned.
    pub pinned_url: String,
    /// SHA-256 of that one's certificate, as it stands in the code.
    pub tls_fingerprint: Option<String>,
    /// The token.
    pub bootstrap_token: SecretString,
    /// When the token loses its worth, unix milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// Why a text is no usable setup code; upstream's words (§7.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupCodeError {
    /// It is neither a code nor a URL.
    #[error("Invalid pairing setup code or URL.")]
    Syntax,
    /// What it contains makes no sense.
    #[error("Invalid pairing setup payload.")]
    Payload,
    /// It came too late.
    #[error("Pairing setup code has expired.")]
    Expired,
}

/// Releases add members; unknown ones mean nothing here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    url: String,
    urls: Option<Vec<String>>,
    bootstrap_token: SecretString,
    expires_at_ms: Option<u64>,
    tls_fingerprint: Option<String>,
}

impl SetupCode {
    /// Reads a code, with or without `oc-pair://` before it. Whether it has expired is for
    /// [`SetupCode::check_expiry`] to say.
    ///
    /// # Errors
    /// [`SetupCodeError::Syntax`] or [`SetupCodeError::Payload`].
    pub fn decode(text: &str) -> Result<Self, SetupCodeError> {
        let text = text.trim();
        let code = match text.split_at_checked(PREFIX.len()) {
            Some((prefix, code)) if prefix.eq_ignore_ascii_case(PREFIX) => code,
            _ => text,
        };
        if code.is_empty() || code.len() > PAYLOAD_LIMIT_BYTES * 4 / 3 + 4 {
            return Err(SetupCodeError::Syntax);
        }
        let payload = URL_SAFE_NO_PAD
            .decode(code)
            .map_err(|_| SetupCodeError::Syntax)?;
        Self::from_payload(&payload)
    }

    /// Reads what a code contains, which is also what a join URL answers.
    ///
    /// # Errors
    /// [`SetupCodeError::Payload`].
    pub fn from_payload(payload: &[u8]) -> Result<Self, SetupCodeError> {
        use secrecy::ExposeSecret as _;

        let payload: Payload =
            serde_json::from_slice(payload).map_err(|_| SetupCodeError::Payload)?;
        let urls = payload.urls.unwrap_or_else(|| vec![payload.url.clone()]);
        let is_sound = (1..=URLS_MAX).contains(&urls.len())
            && !payload.bootstrap_token.expose_secret().trim().is_empty();
        if !is_sound {
            return Err(SetupCodeError::Payload);
        }
        Ok(Self {
            urls,
            pinned_url: payload.url,
            tls_fingerprint: payload.tls_fingerprint,
            bootstrap_token: payload.bootstrap_token,
            expires_at_ms: payload.expires_at_ms,
        })
    }

    /// Refuses a code that is too old to be tried.
    ///
    /// # Errors
    /// [`SetupCodeError::Expired`].
    pub fn check_expiry(&self, now_ms: u64) -> Result<(), SetupCodeError> {
        match self.expires_at_ms {
            Some(expires_at_ms) if expires_at_ms <= now_ms => Err(SetupCodeError::Expired),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    fn code(payload: &serde_json::Value) -> String {
        URL_SAFE_NO_PAD.encode(payload.to_string())
    }

    #[test]
    fn the_codes_of_both_releases_are_read() {
        let may = code(&json!({ "url": "ws://10.0.0.1:18789", "bootstrapToken": "b" }));
        let read = SetupCode::decode(&may).unwrap();
        assert_eq!(read.urls, ["ws://10.0.0.1:18789"]);
        assert_eq!(read.bootstrap_token.expose_secret(), "b");
        assert_eq!(read.check_expiry(u64::MAX), Ok(()));

        let september = code(&json!({
            "url": "wss://a.example",
            "urls": ["ws://127.0.0.1:1", "wss://a.example"],
            "bootstrapToken": "b",
            "expiresAtMs": 100,
            "tlsFingerprint": "ab",
            "later": {},
        }));
        for text in [
            september.clone(),
            format!("oc-pair://{september}"),
            format!(" OC-Pair://{september}\n"),
        ] {
            let read = SetupCode::decode(&text).unwrap();
            assert_eq!(read.urls, ["ws://127.0.0.1:1", "wss://a.example"]);
            assert_eq!(read.pinned_url, "wss://a.example");
            assert_eq!(read.tls_fingerprint.as_deref(), Some("ab"));
            assert_eq!(read.check_expiry(99), Ok(()));
            assert_eq!(read.check_expiry(100), Err(SetupCodeError::Expired));
            assert!(!format!("{read:?}").contains("\"b\""));
        }
    }

    #[test]
    fn anything_else_is_refused_in_upstreams_words() {
        use SetupCodeError::{Payload, Syntax};
        let many = vec!["ws://h"; URLS_MAX + 1];
        let cases = [
            (String::new(), Syntax),
            ("oc-pair://".to_owned(), Syntax),
            ("oc-pair://a b".to_owned(), Syntax),
            ("oc-pair://YQ==".to_owned(), Syntax),
            ("x".repeat(PAYLOAD_LIMIT_BYTES * 2), Syntax),
            (URL_SAFE_NO_PAD.encode("{"), Payload),
            (code(&json!({ "url": "ws://h" })), Payload),
            (code(&json!({ "bootstrapToken": "b" })), Payload),
            (
                code(&json!({ "url": "ws://h", "bootstrapToken": " " })),
                Payload,
            ),
            (
                code(&json!({ "url": "ws://h", "urls": [], "bootstrapToken": "b" })),
                Payload,
            ),
            (
                code(&json!({ "url": "ws://h", "urls": many, "bootstrapToken": "b" })),
                Payload,
            ),
            (
                code(&json!({ "url": "ws://h", "bootstrapToken": "b", "expiresAtMs": -1 })),
                Payload,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(SetupCode::decode(&text).unwrap_err(), expected, "{text}");
        }
    }
}
