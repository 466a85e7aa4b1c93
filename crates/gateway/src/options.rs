//! What a gateway is started with.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

use crate::faults::Faults;

/// Which OpenClaw release the gateway imitates, where the two differ visibly (wire protocol §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Release {
    /// 2026.5.20, the oldest supported release.
    May,
    /// 2026.9.6.
    #[default]
    September,
}

impl Release {
    /// The version as hello-ok reports it.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::May => "2026.5.20",
            Self::September => "2026.9.6",
        }
    }
}

/// How the gateway authenticates whoever connects (wire protocol §7).
#[derive(Debug, Clone)]
pub enum AuthMode {
    /// A shared token.
    Token(SecretString),
    /// A shared password.
    Password(SecretString),
    /// Nothing at all is asked.
    None,
}

/// When a first-time node is paired without an operator (wire protocol §9.2).
#[derive(Debug, Clone)]
pub struct PairingPolicy {
    /// Pair nodes on loopback silently; upstream's `gateway.nodes.pairing.autoApproveLocal`.
    pub auto_approve_local: bool,
    /// Pair nodes from these networks silently; upstream's `autoApproveCidrs`.
    pub auto_approve_cidrs: Vec<Cidr>,
}

impl Default for PairingPolicy {
    fn default() -> Self {
        Self {
            auto_approve_local: true,
            auto_approve_cidrs: Vec::new(),
        }
    }
}

/// Limits on failed authentications per client address (wire protocol §9).
#[derive(Debug, Clone)]
pub struct RateLimit {
    /// Failures within `window` before the address is locked out.
    pub max_attempts: usize,
    /// How long a failure counts.
    pub window: Duration,
    /// How long a locked-out address is refused, right credentials included.
    pub lockout: Duration,
    /// Never lock loopback out.
    pub exempt_loopback: bool,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            window: Duration::from_secs(60),
            lockout: Duration::from_secs(300),
            exempt_loopback: true,
        }
    }
}

/// The gateway's own clocks (wire protocol §1.3, §12).
#[derive(Debug, Clone)]
pub struct Timing {
    /// From the upgrade to an accepted connect request; then close 1000.
    pub handshake: Duration,
    /// Between WebSocket pings; a ping that is unanswered when the next is due ends the
    /// connection (September release only).
    pub ping_interval: Duration,
    /// Between tick events, and what hello-ok announces.
    pub tick_interval: Duration,
    /// From a close frame that the peer does not answer to the end of the TCP connection.
    pub close: Duration,
    /// Limit of an invoke whose caller names none.
    pub invoke: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(15),
            ping_interval: Duration::from_secs(25),
            tick_interval: Duration::from_secs(30),
            close: Duration::from_secs(30),
            invoke: Duration::from_secs(30),
        }
    }
}

/// Everything [`Gateway::start`](crate::Gateway::start) needs; the default is a 2026.9.6 gateway
/// in token mode on a free port that pairs loopback nodes silently.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The release to imitate.
    pub release: Release,
    /// How to authenticate.
    pub auth: AuthMode,
    /// When to pair silently.
    pub pairing: PairingPolicy,
    /// Believe `X-Forwarded-For` of loopback peers; upstream's `gateway.trustedProxies`.
    pub trust_proxy: bool,
    /// Limits on failed authentications.
    pub rate_limit: RateLimit,
    /// The gateway's clocks.
    pub timing: Timing,
    /// What `skills.bins` answers.
    pub skill_bins: Vec<String>,
    /// How many records of what nodes sent are kept; the oldest go first. 0 records nothing.
    pub journal_limit: usize,
    /// What goes wrong from the start.
    pub faults: Faults,
}

/// The shared token of [`GatewayOptions::default`].
pub const DEFAULT_TOKEN: &str = "loopback-gateway-token";

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            port: 0,
            release: Release::default(),
            auth: AuthMode::Token(SecretString::from(DEFAULT_TOKEN)),
            pairing: PairingPolicy::default(),
            trust_proxy: false,
            rate_limit: RateLimit::default(),
            timing: Timing::default(),
            skill_bins: Vec::new(),
            journal_limit: 65_536,
            faults: Faults::default(),
        }
    }
}

/// A network, such as `203.0.113.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text is not `<address>/<prefix length>`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a network; write it like 203.0.113.0/24")]
pub struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let network: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let longest = if network.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { network, prefix })
        };
        parse().ok_or_else(|| NotACidr(text.to_owned()))
    }
}

impl Cidr {
    /// Whether `address` lies in this network; never across address families.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                let bits = |ip: u32| ip.checked_shr(shift).unwrap_or(0);
                bits(network.to_bits()) == bits(address.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                let bits = |ip: u128| ip.checked_shr(shift).unwrap_or(0);
                bits(network.to_bits()) == bits(address.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_only() {
        let cases = [
            ("203.0.113.0/24", "203.0.113.7", true),
            ("203.0.113.0/24", "203.0.114.7", false),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "::1", true),
            ("0.0.0.0/0", "::1", false),
        ];
        for (network, address, expected) in cases {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                expected,
                "{network:?} {address}"
            );
        }
    }

    #[test]
    fn other_text_is_no_network() {
        for text in ["10.0.0.1", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
