//! Whether credentials may cross a network in the clear (D16, wire protocol §1.4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Environment, PlannedEndpoint};

/// The opt-in; counts only from the process environment, and only as exactly `1`.
const VARIABLE: &str = "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS";

/// Why a plain `ws://` connection is refused, before any socket is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "SECURITY ERROR: Cannot connect to \"{host}\" over plaintext ws://. Credentials and commands \
     would cross the network in the clear. Use wss:// (--tls), or keep the gateway on loopback \
     and reach it through an SSH tunnel (ssh -N -L 18789:127.0.0.1:18789 user@gateway-host) or \
     Tailscale Serve.{hint}",
    hint = .hint.text()
)]
pub struct PlaintextRefused {
    host: String,
    hint: Hint,
}

/// What the variable could change about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// It is not set, and would lift this refusal.
    OptIn,
    /// It is set or would not help.
    None,
}

impl Hint {
    const fn text(self) -> &'static str {
        match self {
            Self::OptIn => {
                " If every network on the way is private and trusted, set \
                 OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1."
            }
            Self::None => "",
        }
    }
}

/// How far a host is, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// This machine.
    Loopback,
    /// An address of a private network, or a name that might be one.
    PrivateOrNamed,
    /// An address of the internet, or one that means no single machine.
    Public,
}

/// Whether the operator has opted in to plain connections in private networks.
#[must_use]
pub fn allows_insecure_private_ws(environment: &Environment) -> bool {
    environment
        .process(VARIABLE)
        .is_some_and(|value| value == "1")
}

/// Lets TLS and loopback pass; private addresses and host names only with the opt-in; public
/// addresses never.
///
/// # Errors
/// [`PlaintextRefused`], whose text tells the operator the ways out.
pub fn check_plaintext(
    endpoint: &PlannedEndpoint,
    allow_insecure_private: bool,
) -> Result<(), PlaintextRefused> {
    if endpoint.tls() {
        return Ok(());
    }
    let hint = match (reach(endpoint.host()), allow_insecure_private) {
        (Reach::Loopback, _) | (Reach::PrivateOrNamed, true) => return Ok(()),
        (Reach::PrivateOrNamed, false) => Hint::OptIn,
        (Reach::Public, _) => Hint::None,
    };
    Err(PlaintextRefused {
        host: endpoint.host().to_owned(),
        hint,
    })
}

impl PlannedEndpoint {
    /// Whether the endpoint is this machine's own loopback, as far as its name tells.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        reach(self.host()) == Reach::Loopback
    }
}

fn reach(host: &str) -> Reach {
    match host.parse() {
        Ok(IpAddr::V4(address)) => reach_v4(address),
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => reach_v4(address),
            None => reach_v6(address),
        },
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host);
            match name.eq_ignore_ascii_case("localhost") {
                true => Reach::Loopback,
                false => Reach::PrivateOrNamed,
            }
        }
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [first, second, ..] = address.octets();
    let is_shared = first == 100 && second & 0xc0 == 64;
    if address.is_loopback() {
        Reach::Loopback
    } else if address.is_private() || address.is_link_local() || is_shared {
        Reach::PrivateOrNamed
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let [first, ..] = address.segments();
    let is_site_local = first & 0xffc0 == 0xfec0;
    if address.is_loopback() {
        Reach::Loopback
    } else if address.is_unique_local() || address.is_unicast_link_local() || is_site_local {
        Reach::PrivateOrNamed
    } else {
        Reach::Public
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointFlags;

    fn endpoint(host: &str, tls: bool) -> PlannedEndpoint {
        let flags = EndpointFlags {
            host: Some(host.to_owned()),
            tls: Some(tls),
            ..Default::default()
        };
        PlannedEndpoint::plan(&flags, None).expect(host)
    }

    #[test]
    fn plain_connections_go_no_further_than_allowed() {
        // Host, allowed without the opt-in, allowed with it.
        let cases = [
            ("localhost", true, true),
            ("LOCALHOST.", true, true),
            ("127.0.0.1", true, true),
            ("127.255.3.4", true, true),
            ("::1", true, true),
            ("[::1]", true, true),
            ("::ffff:127.0.0.1", true, true),
            ("10.0.0.1", false, true),
            ("172.16.0.1", false, true),
            ("172.31.255.255", false, true),
            ("192.168.1.1", false, true),
            ("169.254.1.1", false, true),
            ("100.64.0.1", false, true),
            ("100.127.255.255", false, true),
            ("::ffff:10.0.0.1", false, true),
            ("fe80::1", false, true),
            ("febf::1", false, true),
            ("fc00::1", false, true),
            ("fdff::1", false, true),
            ("fec0::1", false, true),
            ("gateway", false, true),
            ("gateway.local", false, true),
            ("box.tail1234.ts.net", false, true),
            ("gateway.example.com", false, true),
            ("localhost.example.com", false, true),
            ("my.localhost", false, true),
            ("8.8.8.8", false, false),
            ("172.32.0.1", false, false),
            ("172.15.0.1", false, false),
            ("100.63.255.255", false, false),
            ("100.128.0.1", false, false),
            ("169.253.0.1", false, false),
            ("0.0.0.0", false, false),
            ("255.255.255.255", false, false),
            ("::", false, false),
            ("::ffff:8.8.8.8", false, false),
            ("2001:db8::1", false, false),
            ("fe00::1", false, false),
            ("ff02::1", false, false),
        ];
        for (host, without, with) in cases {
            let plain = endpoint(host, false);
            assert_eq!(
                check_plaintext(&plain, false).is_ok(),
                without,
                "{host} without"
            );
            assert_eq!(check_plaintext(&plain, true).is_ok(), with, "{host} with");
            assert_eq!(
                check_plaintext(&endpoint(host, true), false),
                Ok(()),
                "{host} over TLS"
            );
        }
    }

    #[test]
    fn the_refusal_names_the_host_and_the_ways_out() {
        let text = |host, allow| {
            check_plaintext(&endpoint(host, false), allow)
                .unwrap_err()
                .to_string()
        };
        let private = text("gateway.local", false);
        assert!(
            private.starts_with(
                "SECURITY ERROR: Cannot connect to \"gateway.local\" over plaintext ws://. "
            ),
            "{private}"
        );
        for way_out in ["wss://", "SSH tunnel", "Tailscale"] {
            assert!(private.contains(way_out), "{private}");
        }
        assert!(
            private.ends_with("set OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1."),
            "{private}"
        );
        // A way that leads nowhere is not shown.
        for public in [text("8.8.8.8", false), text("8.8.8.8", true)] {
            assert!(
                public.contains("wss://") && !public.contains(VARIABLE),
                "{public}"
            );
        }
    }

    #[test]
    fn only_exactly_one_opts_in() {
        for (value, allowed) in [
            ("1", true),
            ("true", false),
            (" 1", false),
            ("1\n", false),
            ("", false),
            ("0", false),
        ] {
            let environment = [(VARIABLE, value)].into_iter().collect();
            assert_eq!(
                allows_insecure_private_ws(&environment),
                allowed,
                "{value:?}"
            );
        }
        assert!(!allows_insecure_private_ws(&Environment::default()));
    }
}
