//! `--pair` and `--pair-if-needed`: which setup code, and whether it is needed (wire protocol §7.6).

use clap::Args;
use node_config::{Environment, PlannedEndpoint, Reach, TlsSettings, candidates};
use protocol::setup_code::{SetupCode, SetupCodeError};
use secrecy::SecretString;

use crate::exit::Failure;

/// Length of the short code at the end of a join URL.
const JOIN_CODE_LENGTH: usize = 22;

#[derive(Debug, Args)]
pub(super) struct SetupArguments {
    /// Pair with a setup code, oc-pair:// URL or join URL; flags for the gateway win over it
    #[arg(long, value_name = "CODE-OR-URL")]
    pair: Option<String>,
    /// Use the saved device token where there is one, and this setup code otherwise
    #[arg(long, value_name = "CODE-OR-URL", conflicts_with = "pair")]
    pair_if_needed: Option<String>,
}

/// What was given, before anything is fetched or anybody is asked.
#[derive(Debug)]
pub(super) struct Setup {
    target: Target,
    /// Whether a saved device token makes it unnecessary.
    only_if_needed: bool,
}

#[derive(Debug)]
enum Target {
    Code {
        code: SetupCode,
        endpoints: Vec<PlannedEndpoint>,
    },
    /// The path that redeems the code, on the host that issued it.
    Join(PlannedEndpoint),
}

/// The way in that a setup code opens.
#[derive(Debug)]
pub(super) struct WayIn {
    /// The gateway's endpoints, in the order in which they are tried; at least one.
    pub(super) endpoints: Vec<PlannedEndpoint>,
    /// The token that lets this device in, once.
    pub(super) bootstrap_token: SecretString,
}

impl SetupArguments {
    /// Reads the code; `None` when there is none.
    ///
    /// # Errors
    /// Upstream's words for what is no code.
    pub(super) fn read(&self) -> Result<Option<Setup>, String> {
        let (text, only_if_needed) = match (&self.pair, &self.pair_if_needed) {
            (Some(text), _) => (text, false),
            (None, Some(text)) => (text, true),
            (None, None) => return Ok(None),
        };
        Ok(Some(Setup {
            target: Target::read(text.trim())?,
            only_if_needed,
        }))
    }
}

impl Target {
    fn read(text: &str) -> Result<Self, String> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let tls = scheme.eq_ignore_ascii_case("https");
            if tls || scheme.eq_ignore_ascii_case("http") {
                return join_endpoint(tls, rest).map(Self::Join);
            }
        }
        let code = SetupCode::decode(text).map_err(|error| error.to_string())?;
        let endpoints = candidates(&code).map_err(|error| error.to_string())?;
        Ok(Self::Code { code, endpoints })
    }
}

fn join_endpoint(tls: bool, rest: &str) -> Result<PlannedEndpoint, String> {
    let is_short_code = |code: &str| {
        code.len() == JOIN_CODE_LENGTH
            && code
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let scheme = if tls { "wss" } else { "ws" };
    let endpoint = rest
        .rsplit_once("/j/")
        .filter(|(_, code)| is_short_code(code))
        .and_then(|_| PlannedEndpoint::from_url(&format!("{scheme}://{rest}"), None))
        .ok_or("Join URL must end with the exact /j/<shortcode> form.")?;
    if !tls && !endpoint.is_loopback() {
        return Err("Plain HTTP join URLs are allowed only for loopback gateways.".to_owned());
    }
    Ok(endpoint)
}

impl Setup {
    /// Whether this node can connect without it: it has a device token for `endpoint`, which is
    /// where it would go, and the code leads there too as far as can be told without redeeming it.
    pub(super) fn is_unnecessary(
        &self,
        endpoint: &PlannedEndpoint,
        has_device_token: bool,
    ) -> bool {
        let leads_there = match &self.target {
            Target::Join(_) => true,
            Target::Code { endpoints, .. } => endpoints
                .iter()
                .any(|candidate| candidate.scope() == endpoint.scope()),
        };
        self.only_if_needed && has_device_token && leads_there
    }

    /// Finds out where it leads. A join URL is redeemed for that, which can be done once.
    ///
    /// # Errors
    /// When it is too late, or the join URL does not answer with a code.
    pub(super) fn open(
        self,
        tls: &TlsSettings,
        environment: &Environment,
        now_ms: u64,
    ) -> Result<WayIn, Failure> {
        let (code, endpoints) = match self.target {
            Target::Code { code, endpoints } => (code, endpoints),
            Target::Join(endpoint) => {
                let code = redeem(&endpoint, tls, environment)?;
                let endpoints = candidates(&code).map_err(Failure::new)?;
                (code, endpoints)
            }
        };
        code.check_expiry(now_ms)
            .map_err(|expired: SetupCodeError| {
                Failure::new(format_args!(
                    "{expired} Make a fresh one on the gateway: openclaw devices join-code"
                ))
            })?;
        Ok(WayIn {
            endpoints,
            bootstrap_token: code.bootstrap_token,
        })
    }
}

fn redeem(
    endpoint: &PlannedEndpoint,
    tls: &TlsSettings,
    environment: &Environment,
) -> Result<SetupCode, Failure> {
    // A pin of the settings is no reason to refuse a plain loopback URL.
    let tls = if endpoint.tls() {
        tls.clone()
    } else {
        TlsSettings::default()
    };
    let reach = Reach::to(endpoint, tls, environment).map_err(Failure::new)?;
    actix::System::new()
        .block_on(actors::reach::join(endpoint, &reach))
        .map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_url_ends_with_its_code_and_is_plain_only_on_loopback() {
        const CODE: &str = "0123456789_-ABCDEFabcd";
        for (url, redeemed) in [
            ("https://gateway.example/j/", "wss://gateway.example:443/j/"),
            (
                "https://gateway.example:8443/claw/j/",
                "wss://gateway.example:8443/claw/j/",
            ),
            ("HTTPS://gateway.example/j/", "wss://gateway.example:443/j/"),
            ("http://127.0.0.1:18789/j/", "ws://127.0.0.1:18789/j/"),
            ("http://[::1]:18789/j/", "ws://[::1]:18789/j/"),
        ] {
            let target = Target::read(&format!("{url}{CODE}")).unwrap();
            let Target::Join(endpoint) = target else {
                panic!("{url} is no join URL");
            };
            assert_eq!(endpoint.url(), format!("{redeemed}{CODE}"));
        }
        for (url, complaint) in [
            (format!("https://gateway.example/j/{CODE}x"), "exact /j/"),
            (format!("https://gateway.example/j/{CODE}?x"), "exact /j/"),
            (format!("https://me@gateway.example/j/{CODE}"), "exact /j/"),
            (format!("https://gateway.example/{CODE}"), "exact /j/"),
            ("https://gateway.example/j/".to_owned(), "exact /j/"),
            (
                format!("http://gateway.example/j/{CODE}"),
                "only for loopback",
            ),
            (
                format!("ftp://gateway.example/j/{CODE}"),
                "setup code or URL",
            ),
            ("anything".to_owned(), "payload"),
        ] {
            let refused = Target::read(&url).unwrap_err();
            assert!(refused.contains(complaint), "{url}: {refused}");
        }
    }
}
