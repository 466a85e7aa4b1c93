//! The endpoints that a setup code names, checked (wire protocol §7.6).

use protocol::setup_code::{SetupCode, SetupCodeError};

use crate::{Fingerprint, PlannedEndpoint};

/// Turns the URLs of a setup code into endpoints, in their order. The pin belongs to one of them.
///
/// # Errors
/// [`SetupCodeError::Payload`] when one is no `ws://` or `wss://` URL of a gateway, or the pin is
/// none, or belongs to an endpoint without TLS.
pub fn candidates(code: &SetupCode) -> Result<Vec<PlannedEndpoint>, SetupCodeError> {
    let invalid = SetupCodeError::Payload;
    let pin = match code.tls_fingerprint.as_deref() {
        Some(text) => Some(text.parse::<Fingerprint>().map_err(|_| invalid)?),
        None => None,
    };
    code.urls
        .iter()
        .map(|url| {
            let pin = pin.filter(|_| *url == code.pinned_url);
            PlannedEndpoint::from_url(url, pin).ok_or(invalid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const PIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn code(urls: &[&str], pinned: &str, pin: Option<&str>) -> SetupCode {
        SetupCode {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            pinned_url: pinned.to_owned(),
            tls_fingerprint: pin.map(str::to_owned),
            bootstrap_token: SecretString::from("b"),
            expires_at_ms: None,
        }
    }

    #[test]
    fn ports_follow_the_scheme_and_the_pin_follows_its_url() {
        let urls = ["ws://10.0.0.1", "wss://a.example/claw", "wss://[::1]:8443"];
        let found = candidates(&code(&urls, urls[1], Some(PIN))).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|endpoint| (endpoint.url(), endpoint.fingerprint().is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                ("ws://10.0.0.1:80".to_owned(), false),
                ("wss://a.example:443/claw".to_owned(), true),
                ("wss://[::1]:8443".to_owned(), false),
            ]
        );
    }

    #[test]
    fn anything_but_the_url_of_a_gateway_is_refused() {
        for url in [
            "",
            "a.example",
            "http://a.example",
            "wss:a.example",
            "wss://",
            "wss://me@a.example",
            "wss://a.example:0",
            "wss://a.example:99999",
            "wss://a.example?x=1",
            "wss://a.example/p#f",
            "wss://a b",
            " wss://a.example",
        ] {
            let refused = candidates(&code(&[url], url, None)).unwrap_err();
            assert_eq!(refused, SetupCodeError::Payload, "{url}");
        }
        let wrong_pin = candidates(&code(&["wss://a"], "wss://a", Some("12")));
        assert_eq!(wrong_pin.unwrap_err(), SetupCodeError::Payload);
        let plain = candidates(&code(&["ws://a"], "ws://a", Some(PIN)));
        assert_eq!(plain.unwrap_err(), SetupCodeError::Payload);
    }
}
