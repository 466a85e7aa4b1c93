//! The proxy on the way to a gateway: `HTTPS_PROXY` and `NO_PROXY`, as everybody writes them.

use std::net::IpAddr;

use secrecy::SecretString;

use crate::endpoint::parse_host;
use crate::{Environment, PlannedEndpoint};

/// Where a proxy listens if its URL does not say.
const DEFAULT_PORT: u16 = 80;

/// A proxy that opens tunnels with HTTP CONNECT.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `user:password`, if the proxy wants to know who asks.
    pub credentials: Option<SecretString>,
}

/// The text of a variable is no proxy. Never shows it, for it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} is no proxy that can be used; give it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, or name the gateway in NO_PROXY"
)]
pub struct InvalidProxy {
    /// The variable.
    pub variable: &'static str,
}

impl Proxy {
    /// The proxy to reach `endpoint` through. Only `wss` goes through one, because a proxy sees all
    /// that is plain, and loopback never does.
    ///
    /// # Errors
    /// [`InvalidProxy`] when one is wanted for this endpoint and cannot be used.
    pub fn to(
        endpoint: &PlannedEndpoint,
        environment: &Environment,
    ) -> Result<Option<Self>, InvalidProxy> {
        if !endpoint.tls() || endpoint.is_loopback() {
            return Ok(None);
        }
        // The lower-case name is the older one and wins, as in curl.
        let find = |names: [&'static str; 2]| {
            names
                .into_iter()
                .find_map(|name| Some((name, environment.text(name)?)))
        };
        let Some((variable, text)) = find(["https_proxy", "HTTPS_PROXY"]) else {
            return Ok(None);
        };
        let exceptions = find(["no_proxy", "NO_PROXY"]).map_or("", |(_, text)| text);
        if exceptions
            .split([',', ' '])
            .any(|exception| is_excepted(endpoint, exception.trim()))
        {
            return Ok(None);
        }
        Self::parse(text).map(Some).ok_or(InvalidProxy { variable })
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return None,
            None => text,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(percent_decoded(credentials)?), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address)?;
        Some(Self {
            host: parse_host(host).ok()?,
            port: port.unwrap_or(DEFAULT_PORT),
            credentials: credentials.map(SecretString::from),
        })
    }
}

/// Splits `host`, `host:port`, `[address]` and `[address]:port`.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(after_bracket..)?.rsplit_once(':') {
        None => Some((authority, None)),
        Some((before, port)) => {
            let is_decimal = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| *port != 0 && is_decimal)?;
            Some((authority.get(..after_bracket + before.len())?, Some(port)))
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// Whether an entry of `NO_PROXY` names the endpoint: `*`, a domain with all that is below it, an
/// address, or a network, each but the last with or without a port.
fn is_excepted(endpoint: &PlannedEndpoint, exception: &str) -> bool {
    if exception == "*" {
        return true;
    }
    let host = endpoint.host().trim_end_matches('.');
    let address: Option<IpAddr> = host.parse().ok();
    if let (Some(address), Some((network, bits))) = (address, exception.split_once('/')) {
        return is_in_network(address, network, bits).unwrap_or(false);
    }
    let (name, port) = match exception.parse::<IpAddr>() {
        Ok(_) => (exception, None),
        Err(_) => match split_port(exception) {
            Some(parts) => parts,
            None => return false,
        },
    };
    if port.is_some_and(|port| port != endpoint.port()) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Some(address) = address {
        return name.parse() == Ok(address);
    }
    let domain = name.trim_start_matches("*.").trim_matches('.');
    if domain.is_empty() {
        return false;
    }
    let (host, domain) = (host.to_ascii_lowercase(), domain.to_ascii_lowercase());
    host.strip_suffix(domain.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_in_network(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    let shared = match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) if bits <= 32 => {
            (u32::from(address) ^ u32::from(network)).leading_zeros()
        }
        (IpAddr::V6(address), IpAddr::V6(network)) if bits <= 128 => {
            (u128::from(address) ^ u128::from(network)).leading_zeros()
        }
        _ => return None,
    };
    Some(shared >= bits)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::EndpointFlags;

    fn endpoint(host: &str, tls: bool) -> PlannedEndpoint {
        let flags = EndpointFlags {
            host: Some(host.to_owned()),
            tls: Some(tls),
            ..EndpointFlags::default()
        };
        PlannedEndpoint::plan(&flags, None).unwrap()
    }

    fn proxy_to(host: &str, tls: bool, variables: &[(&str, &str)]) -> Option<Proxy> {
        let environment = variables.iter().copied().collect();
        Proxy::to(&endpoint(host, tls), &environment).unwrap()
    }

    #[test]
    fn a_proxy_is_read_in_every_spelling() {
        let cases = [
            ("http://proxy.example:3128", ("proxy.example", 3128, None)),
            ("http://proxy.example:3128/", ("proxy.example", 3128, None)),
            ("HTTP://proxy.example", ("proxy.example", 80, None)),
            ("proxy.example:8080", ("proxy.example", 8080, None)),
            ("http://[::1]:8080", ("::1", 8080, None)),
            ("http://[::1]", ("::1", 80, None)),
            (
                "http://me:p%40ss@10.0.0.1:1",
                ("10.0.0.1", 1, Some("me:p@ss")),
            ),
        ];
        for (text, expected) in cases {
            let proxy = proxy_to("gateway.example", true, &[("HTTPS_PROXY", text)]).unwrap();
            let credentials = proxy
                .credentials
                .as_ref()
                .map(|secret| secret.expose_secret());
            assert_eq!((proxy.host.as_str(), proxy.port, credentials), expected);
        }
        for text in [
            "https://proxy.example",
            "socks5://proxy.example",
            "http://",
            "http://proxy.example:0",
            "http://proxy.example:x",
            "http://proxy.example/path",
            "http://me:%zz@proxy.example",
        ] {
            let environment = [("HTTPS_PROXY", text)].into_iter().collect();
            let refused = Proxy::to(&endpoint("gateway.example", true), &environment).unwrap_err();
            assert!(refused.to_string().contains("HTTPS_PROXY"), "{refused}");
        }
    }

    #[test]
    fn neither_loopback_nor_plain_connections_go_through_it() {
        let proxy = [("HTTPS_PROXY", "http://p:1")];
        for host in ["127.0.0.1", "::1", "localhost"] {
            assert!(proxy_to(host, true, &proxy).is_none(), "{host}");
        }
        assert!(proxy_to("10.0.0.1", false, &proxy).is_none());
        assert!(proxy_to("10.0.0.1", true, &proxy).is_some());
        // What no proxy is wanted for is not complained about.
        assert!(proxy_to("localhost", true, &[("HTTPS_PROXY", "socks5://x")]).is_none());
        let both = [("HTTPS_PROXY", "http://a"), ("https_proxy", "http://b")];
        assert_eq!(proxy_to("gateway.example", true, &both).unwrap().host, "b");
    }

    #[test]
    fn exceptions_name_hosts_domains_addresses_and_networks() {
        let cases = [
            ("gateway.example", "*", true),
            ("gateway.example", "gateway.example", true),
            ("gateway.example", "GATEWAY.example.", true),
            ("gateway.example", "other, example", true),
            ("gateway.example", ".example", true),
            ("gateway.example", "*.example", true),
            ("gateway.example", "way.example", false),
            ("gateway.example", "gateway.example:18789", true),
            ("gateway.example", "gateway.example:443", false),
            ("gateway.example", "", false),
            ("gateway.example", ".", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3:18789", true),
            ("10.1.2.3", "2.3", false),
            ("10.1.2.3", "10.1.0.0/16", true),
            ("10.1.2.3", "10.2.0.0/16", false),
            ("10.1.2.3", "0.0.0.0/0", true),
            ("10.1.2.3", "10.1.0.0/33", false),
            ("fd00::1", "fd00::1", true),
            ("fd00::1", "[fd00::1]:18789", true),
            ("fd00::1", "fd00::/8", true),
            ("fd00::1", "fe00::/8", false),
        ];
        for (host, exceptions, is_excepted) in cases {
            let variables = [("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", exceptions)];
            let proxy = proxy_to(host, true, &variables);
            assert_eq!(proxy.is_none(), is_excepted, "{host} {exceptions}");
        }
    }
}
