//! Where pages may go (browser proxy §8). Only http and https and exactly `about:blank`, without
//! credentials; and unless the configuration says so, nowhere in private networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use node_config::BrowserSettings;
use tokio::time::timeout;
use url::{Host, Url};

use crate::request::RouteError;

/// How long a name may take to be resolved.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// The one page that is always open.
const BLANK: &str = "about:blank";
/// What a page in a private network is refused with.
const BLOCKED: &str = "browser navigation blocked by policy";
/// What a name is refused with where only addresses are safe.
const STRICT: &str = "Navigation blocked: strict browser SSRF policy requires an IP-literal URL \
                      because browser DNS rebinding protections are unavailable for hostname-based \
                      navigation";
/// What a URL with a user name is refused with.
const CREDENTIALS: &str = "Navigation blocked: URL-embedded credentials are not supported for page \
                           navigation. Set HTTP Basic auth with `openclaw browser set credentials \
                           <username> <password>` or use an authenticated browser profile.";

/// How much is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// Private networks are allowed.
    Open,
    /// Private networks are refused, by name too.
    Guarded,
    /// Names are refused unless they are listed.
    Strict,
}

/// Where pages may go.
#[derive(Debug, Clone)]
pub struct Policy {
    strictness: Strictness,
    allowed_hostnames: Vec<String>,
}

impl Policy {
    /// What the configuration says.
    #[must_use]
    pub fn of(settings: &BrowserSettings) -> Self {
        Self {
            strictness: match settings.allow_private_network {
                Some(true) => Strictness::Open,
                None => Strictness::Guarded,
                Some(false) => Strictness::Strict,
            },
            allowed_hostnames: settings
                .allowed_hostnames
                .iter()
                .map(|pattern| pattern.trim().trim_end_matches('.').to_ascii_lowercase())
                .filter(|pattern| !pattern.is_empty())
                .collect(),
        }
    }

    /// Whether each request for a document has to be looked at, because a page or a server may send
    /// a page elsewhere.
    #[must_use]
    pub fn guards(&self) -> bool {
        self.strictness != Strictness::Open
    }

    /// Checks where an agent wants to go.
    ///
    /// # Errors
    /// 400 with upstream's texts; 500 for a name that does not resolve.
    pub async fn check(&self, text: &str) -> Result<(), RouteError> {
        if text == BLANK {
            return Ok(());
        }
        let url = Url::parse(text)
            .map_err(|_| RouteError::navigation_blocked(format!("Invalid URL: {text}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RouteError::navigation_blocked(format!(
                "Navigation blocked: unsupported protocol \"{}:\"",
                url.scheme()
            )));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RouteError::navigation_blocked(CREDENTIALS));
        }
        self.check_host(&url).await
    }

    /// Checks where a page is or is being sent. Unlike an agent, a page may be at addresses that
    /// belong to no network, such as `data:` or the browser's own error page.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn check_place(&self, text: &str) -> Result<(), RouteError> {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                if self.strictness == Strictness::Open {
                    return Ok(());
                }
                self.check_host(&url).await
            }
            Ok(url) if url.scheme() == "file" => Err(RouteError::navigation_blocked(BLOCKED)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn check_host(&self, url: &Url) -> Result<(), RouteError> {
        let name = match url.host() {
            Some(Host::Ipv4(address)) => return self.check_address(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => return self.check_address(IpAddr::V6(address)),
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
            None => return Err(RouteError::navigation_blocked(BLOCKED)),
        };
        let is_listed = self.lists(&name);
        match self.strictness {
            Strictness::Strict if !is_listed => {
                return Err(RouteError::navigation_blocked(STRICT));
            }
            Strictness::Open | Strictness::Guarded | Strictness::Strict => {}
        }
        let port = url.port_or_known_default().unwrap_or(80);
        let looked_up = timeout(
            RESOLVE_DEADLINE,
            tokio::net::lookup_host((name.as_str(), port)),
        );
        let addresses: Vec<IpAddr> = match looked_up.await {
            Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if addresses.is_empty() {
            return Err(RouteError::failed(format_args!(
                "getaddrinfo ENOTFOUND {name}"
            )));
        }
        if is_listed {
            return Ok(());
        }
        addresses
            .into_iter()
            .try_for_each(|address| self.check_address(address))
    }

    fn check_address(&self, address: IpAddr) -> Result<(), RouteError> {
        if self.strictness == Strictness::Open
            || is_public(address)
            || self.lists(&address.to_string())
        {
            return Ok(());
        }
        Err(RouteError::navigation_blocked(BLOCKED))
    }

    fn lists(&self, name: &str) -> bool {
        self.allowed_hostnames
            .iter()
            .any(|pattern| match pattern.strip_prefix("*.") {
                Some(domain) => name
                    .strip_suffix(domain)
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                None => pattern == name,
            })
    }
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let bits = (u32::from(high) << 16) | u32::from(low);
        is_public_v4(Ipv4Addr::from(bits))
    };
    match (a, b) {
        // NAT64 and 6to4 carry an IPv4 address.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => embedded(g, h),
        (0x2002, high) => embedded(high, c),
        // Documentation, Teredo and other special uses.
        (0x2001, 0x0db8) | (0x2001, 0..=0x01ff) => false,
        // Global unicast is all that is left.
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow_private_network: Option<bool>, allowed: &[&str]) -> Policy {
        Policy::of(&BrowserSettings {
            allow_private_network,
            allowed_hostnames: allowed.iter().map(|name| (*name).to_owned()).collect(),
            ..BrowserSettings::default()
        })
    }

    async fn refusal(policy: &Policy, url: &str) -> Option<String> {
        policy.check(url).await.err().map(|error| error.message)
    }

    #[tokio::test]
    async fn only_the_web_is_open() {
        for policy in [
            policy(None, &[]),
            policy(Some(true), &[]),
            policy(Some(false), &[]),
        ] {
            assert_eq!(refusal(&policy, "about:blank").await, None);
            for (url, message) in [
                (
                    "file:///etc/passwd",
                    "Navigation blocked: unsupported protocol \"file:\"",
                ),
                (
                    "javascript:alert(1)",
                    "Navigation blocked: unsupported protocol \"javascript:\"",
                ),
                ("not a url", "Invalid URL: not a url"),
                ("http://u:p@1.1.1.1/", CREDENTIALS),
                (
                    "about:blank#x",
                    "Navigation blocked: unsupported protocol \"about:\"",
                ),
            ] {
                assert_eq!(
                    refusal(&policy, url).await.as_deref(),
                    Some(message),
                    "{url}"
                );
            }
        }
    }

    #[tokio::test]
    async fn private_addresses_are_refused_in_every_spelling() {
        for strictness in [None, Some(false)] {
            let guarded = policy(strictness, &[]);
            for url in [
                "http://127.0.0.1/",
                "http://0x7f.1/",
                "http://2130706433/",
                "http://017700000001/",
                "http://[::1]/",
                "http://[::ffff:10.0.0.1]/",
                "http://[64:ff9b::7f00:1]/",
                "http://[2002:7f00:1::]/",
                "http://[fd00::1]/",
                "http://[fe80::1]/",
                "http://169.254.169.254/latest/meta-data/",
                "http://10.1.2.3/",
                "http://172.16.0.1/",
                "http://192.168.1.1/",
                "http://100.64.0.1/",
                "http://0.0.0.0/",
                "http://224.0.0.1/",
            ] {
                assert_eq!(
                    refusal(&guarded, url).await.as_deref(),
                    Some(BLOCKED),
                    "{url}"
                );
            }
            for url in ["http://1.1.1.1/", "https://[2606:4700:4700::1111]/"] {
                assert_eq!(refusal(&guarded, url).await, None, "{url}");
            }
        }
        let open = policy(Some(true), &[]);
        assert_eq!(refusal(&open, "http://169.254.169.254/").await, None);
    }

    #[tokio::test]
    async fn a_name_counts_by_what_it_resolves_to() {
        let guarded = policy(None, &[]);
        assert_eq!(
            refusal(&guarded, "http://localhost:1/").await.as_deref(),
            Some(BLOCKED)
        );
        let listed = policy(None, &["localhost"]);
        assert_eq!(refusal(&listed, "http://localhost:1/").await, None);
        let strict = policy(Some(false), &[]);
        assert_eq!(
            refusal(&strict, "http://localhost:1/").await.as_deref(),
            Some(STRICT)
        );
        let listed = policy(Some(false), &["LOCALHOST"]);
        assert_eq!(refusal(&listed, "http://localhost:1/").await, None);
    }

    #[test]
    fn a_pattern_covers_what_is_below_it() {
        let policy = policy(Some(false), &["*.example.com", "one.test"]);
        for name in ["a.example.com", "a.b.example.com", "one.test"] {
            assert!(policy.lists(name), "{name}");
        }
        for name in [
            "example.com",
            "badexample.com",
            ".example.com",
            "two.one.test",
        ] {
            assert!(!policy.lists(name), "{name}");
        }
    }

    #[tokio::test]
    async fn a_page_may_be_where_an_agent_may_not_go() {
        let guarded = policy(None, &[]);
        for place in [
            "about:blank",
            "about:srcdoc",
            "data:text/html,x",
            "chrome-error://x/",
        ] {
            assert_eq!(guarded.check_place(place).await, Ok(()), "{place}");
        }
        for place in ["file:///etc/passwd", "http://127.0.0.1/"] {
            assert!(guarded.check_place(place).await.is_err(), "{place}");
        }
    }
}
