//! Which gateway this run connects to (CLI §1.1, wire protocol §1.1).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::fingerprint::{Fingerprint, InvalidFingerprint};
use crate::proxy::split_port;

/// Where a gateway is unless told otherwise.
pub const DEFAULT_HOST: &str = "127.0.0.1";

/// The gateway's port unless told otherwise.
pub const DEFAULT_PORT: u16 = 18789;

/// The longest host name that DNS can hold, in bytes.
const HOST_LIMIT_BYTES: usize = 253;

/// The longest accepted context path, in bytes.
const CONTEXT_PATH_LIMIT_BYTES: usize = 2048;

/// The endpoint flags of `run` and `install`, as typed. Blank texts count as not given, but for
/// the context path, where a blank one takes the saved one away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointFlags {
    /// `--host`.
    pub host: Option<String>,
    /// `--port`, unparsed so that a bad one is refused in upstream's words.
    pub port: Option<String>,
    /// `--tls` is true, `--no-tls` false; of both the last one typed.
    pub tls: Option<bool>,
    /// `--tls-fingerprint`.
    pub tls_fingerprint: Option<String>,
    /// `--context-path`.
    pub context_path: Option<String>,
    /// `gateway.tls.enabled` of openclaw.json: what holds where neither the flags nor a saved
    /// endpoint say anything about TLS.
    pub tls_by_default: bool,
}

/// The endpoint that an earlier run saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedEndpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection was `wss`.
    pub tls: bool,
    /// The pinned certificate.
    pub fingerprint: Option<Fingerprint>,
    /// Path of the WebSocket endpoint, with its leading `/`.
    pub context_path: Option<String>,
}

/// The endpoint of this run, valid in every part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEndpoint {
    host: String,
    port: u16,
    security: Security,
    context_path: Option<String>,
}

/// A pin without TLS would mean nothing, so it cannot be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Plain,
    Tls { pin: Option<Fingerprint> },
}

/// Why the flags make no endpoint; upstream's words where it has any (CLI §1.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `--host` is neither a host name nor an IP address.
    #[error(
        "Invalid --host. Use a host name or an IP address without scheme, port or path, for example 127.0.0.1."
    )]
    Host,
    /// `--port` is no number from 1 to 65535.
    #[error("Invalid --port. Use a port number from 1 to 65535, for example 18789.")]
    Port,
    /// `--tls-fingerprint` is no fingerprint.
    #[error(transparent)]
    Fingerprint(#[from] InvalidFingerprint),
    /// A pin was given for a connection without TLS.
    #[error("--no-tls cannot be combined with --tls-fingerprint")]
    PinWithoutTls,
    /// `--context-path` cannot stand in a request.
    #[error(
        "Invalid --context-path. Use a URL path without spaces or a fragment, percent-encoded where needed, for example /gateway."
    )]
    ContextPath,
}

/// The endpoint that a device token belongs to: `ws(s)://host:port/path`, host in lower case,
/// port always there, no `/` at the end (D18).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GatewayScope(String);

impl GatewayScope {
    /// The text to store and compare.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl SavedEndpoint {
    /// The endpoint as device tokens know it; `None` when what was saved makes no endpoint.
    #[must_use]
    pub fn scope(&self) -> Option<GatewayScope> {
        let planned = PlannedEndpoint::plan(&EndpointFlags::default(), Some(self));
        planned.ok().map(|planned| planned.scope())
    }
}

impl PlannedEndpoint {
    /// Combines the flags with what an earlier run saved.
    ///
    /// Host and port: flag, saved, default. TLS, pin and path that were saved hold only for the
    /// host and port that they were saved with: another endpoint starts without them, and with TLS
    /// only where openclaw.json says so.
    ///
    /// # Errors
    /// [`EndpointError`], whose text is ready for the operator.
    pub fn plan(
        flags: &EndpointFlags,
        saved: Option<&SavedEndpoint>,
    ) -> Result<Self, EndpointError> {
        let (baseline_host, baseline_port) = saved.map_or((DEFAULT_HOST, DEFAULT_PORT), |saved| {
            (saved.host.as_str(), saved.port)
        });
        let host = parse_host(given(&flags.host).unwrap_or(baseline_host))?;
        let port = match given(&flags.port) {
            Some(text) => parse_port(text)?,
            None => baseline_port,
        };
        let is_unchanged = host.eq_ignore_ascii_case(baseline_host) && port == baseline_port;
        let saved = saved.filter(|_| is_unchanged);

        let given_pin = given(&flags.tls_fingerprint).map(str::parse).transpose()?;
        let kept_pin = saved.and_then(|saved| saved.fingerprint);
        let security = match (flags.tls, given_pin) {
            (Some(false), Some(_)) => return Err(EndpointError::PinWithoutTls),
            (Some(false), None) => Security::Plain,
            (_, Some(pin)) => Security::Tls { pin: Some(pin) },
            (Some(true), None) => Security::Tls { pin: kept_pin },
            (None, None)
                if kept_pin.is_some() || saved.map_or(flags.tls_by_default, |saved| saved.tls) =>
            {
                Security::Tls { pin: kept_pin }
            }
            (None, None) => Security::Plain,
        };
        let context_path = match &flags.context_path {
            Some(text) => parse_context_path(text)?,
            None => saved
                .and_then(|saved| saved.context_path.as_deref())
                .map_or(Ok(None), parse_context_path)?,
        };
        Ok(Self {
            host,
            port,
            security,
            context_path,
        })
    }

    /// Reads a gateway's URL, `ws://` or `wss://` with a host, and perhaps port and path; `None` if
    /// it is none. Without a port it is that of the scheme, 80 or 443 (wire protocol §1.1).
    #[must_use]
    pub fn from_url(url: &str, pin: Option<Fingerprint>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (security, default_port) = match (scheme, pin) {
            ("wss", pin) => (Security::Tls { pin }, 443),
            ("ws", None) => (Security::Plain, 80),
            _ => return None,
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at)?,
            None => (rest, ""),
        };
        let (host, port) = split_port(authority)?;
        if path.contains('?') {
            return None;
        }
        Some(Self {
            host: parse_host(host).ok()?,
            port: port.unwrap_or(default_port),
            security,
            context_path: parse_context_path(path).ok()?,
        })
    }

    /// Host name or IP address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port, 1 to 65535.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is `wss`.
    #[must_use]
    pub const fn tls(&self) -> bool {
        matches!(self.security, Security::Tls { .. })
    }

    /// The pinned certificate; only ever there with TLS.
    #[must_use]
    pub const fn fingerprint(&self) -> Option<Fingerprint> {
        match self.security {
            Security::Plain => None,
            Security::Tls { pin } => pin,
        }
    }

    /// The path as it is requested, with its leading `/`; `None` requests `/`.
    #[must_use]
    pub fn context_path(&self) -> Option<&str> {
        self.context_path.as_deref()
    }

    /// The URL to connect to, and to name in logs: no path at all when there is no context path,
    /// so that the request target is `/`.
    #[must_use]
    pub fn url(&self) -> String {
        let path = self.context_path.as_deref().unwrap_or("");
        format!("{}{path}", self.origin(&self.host))
    }

    /// The endpoint as device tokens know it.
    #[must_use]
    pub fn scope(&self) -> GatewayScope {
        let path = self
            .context_path
            .as_deref()
            .unwrap_or("")
            .trim_end_matches('/');
        GatewayScope(format!(
            "{}{path}",
            self.origin(&self.host.to_ascii_lowercase())
        ))
    }

    /// What the next run finds saved.
    #[must_use]
    pub fn to_saved(&self) -> SavedEndpoint {
        SavedEndpoint {
            host: self.host.clone(),
            port: self.port,
            tls: self.tls(),
            fingerprint: self.fingerprint(),
            context_path: self.context_path.clone(),
        }
    }

    fn origin(&self, host: &str) -> String {
        let scheme = if self.tls() { "wss" } else { "ws" };
        let port = self.port;
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}")
        } else {
            format!("{scheme}://{host}:{port}")
        }
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

/// Takes an IP address, bracketed or not, or a name that can stand in a URL as it is.
pub(crate) fn parse_host(text: &str) -> Result<String, EndpointError> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if bare.is_some() || text.contains(':') {
        let address: Ipv6Addr = bare
            .unwrap_or(text)
            .parse()
            .map_err(|_| EndpointError::Host)?;
        return Ok(address.to_string());
    }
    if text.parse::<Ipv4Addr>().is_ok() {
        return Ok(text.to_owned());
    }
    let is_name = text.len() <= HOST_LIMIT_BYTES
        && text
            .strip_suffix('.')
            .unwrap_or(text)
            .split('.')
            .all(|label| {
                !label.is_empty()
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            });
    // Resolvers read 127.1, 0x7f.1 and 2130706433 as addresses, so they are no names.
    if is_name && !ends_in_a_number(text) {
        Ok(text.to_owned())
    } else {
        Err(EndpointError::Host)
    }
}

fn ends_in_a_number(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hexadecimal = last
        .strip_prefix("0x")
        .or_else(|| last.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_port(text: &str) -> Result<u16, EndpointError> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port @ 1..) if is_decimal => Ok(port),
        _ => Err(EndpointError::Port),
    }
}

fn parse_context_path(text: &str) -> Result<Option<String>, EndpointError> {
    let text = text.trim();
    // What RFC 3986 lets stand unescaped in a path or a query.
    let is_clean = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte));
    if !is_clean || text.len() > CONTEXT_PATH_LIMIT_BYTES {
        return Err(EndpointError::ContextPath);
    }
    Ok(match text {
        "" | "/" => None,
        _ if text.starts_with('/') => Some(text.to_owned()),
        _ => Some(format!("/{text}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER_PIN: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

    type Words = &'static [&'static str];

    /// Flags from words: `host=…`, `port=…`, `tls`, `no-tls`, `pin=…`, `path=…`.
    fn flags(words: &[&str]) -> EndpointFlags {
        let mut flags = EndpointFlags::default();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = Some(match value {
                "PIN" => format!("SHA256:{PIN}"),
                "OTHER_PIN" => OTHER_PIN.to_uppercase(),
                value => value.to_owned(),
            });
            match name {
                "host" => flags.host = value,
                "port" => flags.port = value,
                "tls" => flags.tls = Some(true),
                "no-tls" => flags.tls = Some(false),
                "pin" => flags.tls_fingerprint = value,
                "path" => flags.context_path = value,
                _ => panic!("{word}"),
            }
        }
        flags
    }

    fn saved(tls: bool, pin: Option<&str>, path: Option<&str>) -> SavedEndpoint {
        SavedEndpoint {
            host: "gateway.example.com".to_owned(),
            port: 4000,
            tls,
            fingerprint: pin.map(|pin| pin.parse().unwrap()),
            context_path: path.map(str::to_owned),
        }
    }

    #[test]
    fn flags_saved_values_and_defaults_are_combined() {
        let plain = saved(false, None, None);
        let tls = saved(true, None, Some("/claw"));
        let pinned = saved(true, Some(PIN), Some("/claw"));
        // Flags, saved, URL, pin.
        let cases: [(Words, Option<&SavedEndpoint>, &str, Option<&str>); 32] = [
            (&[], None, "ws://127.0.0.1:18789", None),
            (
                &["host= ", "port= ", "pin= "],
                None,
                "ws://127.0.0.1:18789",
                None,
            ),
            (&["host= box "], None, "ws://box:18789", None),
            (&["port= 1 "], None, "ws://127.0.0.1:1", None),
            (&["port=65535", "tls"], None, "wss://127.0.0.1:65535", None),
            (&["pin=PIN"], None, "wss://127.0.0.1:18789", Some(PIN)),
            (
                &["tls", "pin=PIN"],
                None,
                "wss://127.0.0.1:18789",
                Some(PIN),
            ),
            (&["path=/claw"], None, "ws://127.0.0.1:18789/claw", None),
            (&["path=claw"], None, "ws://127.0.0.1:18789/claw", None),
            (
                &["path=/a/b/?x=1"],
                None,
                "ws://127.0.0.1:18789/a/b/?x=1",
                None,
            ),
            (&["path="], None, "ws://127.0.0.1:18789", None),
            (&["path=/"], None, "ws://127.0.0.1:18789", None),
            // Nothing about the endpoint changes: everything that was saved holds.
            (&[], Some(&plain), "ws://gateway.example.com:4000", None),
            (&[], Some(&tls), "wss://gateway.example.com:4000/claw", None),
            (
                &[],
                Some(&pinned),
                "wss://gateway.example.com:4000/claw",
                Some(PIN),
            ),
            (
                &["host=gateway.example.com", "port=4000"],
                Some(&pinned),
                "wss://gateway.example.com:4000/claw",
                Some(PIN),
            ),
            (
                &["host=GATEWAY.example.com"],
                Some(&pinned),
                "wss://GATEWAY.example.com:4000/claw",
                Some(PIN),
            ),
            // A flag wins over what was saved.
            (
                &["tls"],
                Some(&plain),
                "wss://gateway.example.com:4000",
                None,
            ),
            (
                &["tls"],
                Some(&pinned),
                "wss://gateway.example.com:4000/claw",
                Some(PIN),
            ),
            (
                &["no-tls"],
                Some(&tls),
                "ws://gateway.example.com:4000/claw",
                None,
            ),
            (
                &["no-tls"],
                Some(&pinned),
                "ws://gateway.example.com:4000/claw",
                None,
            ),
            (
                &["pin=OTHER_PIN"],
                Some(&pinned),
                "wss://gateway.example.com:4000/claw",
                Some(OTHER_PIN),
            ),
            (
                &["path=other"],
                Some(&pinned),
                "wss://gateway.example.com:4000/other",
                Some(PIN),
            ),
            (
                &["path= "],
                Some(&pinned),
                "wss://gateway.example.com:4000",
                Some(PIN),
            ),
            // Another host or port: TLS, pin and path belonged to the old one.
            (&["host=other"], Some(&pinned), "ws://other:4000", None),
            (
                &["port=4001"],
                Some(&pinned),
                "ws://gateway.example.com:4001",
                None,
            ),
            (
                &["host=other", "tls"],
                Some(&pinned),
                "wss://other:4000",
                None,
            ),
            (
                &["host=other", "pin=OTHER_PIN"],
                Some(&pinned),
                "wss://other:4000",
                Some(OTHER_PIN),
            ),
            (
                &["host=other", "path=/new"],
                Some(&tls),
                "ws://other:4000/new",
                None,
            ),
            // IPv6 is bracketed, whichever way it was given.
            (&["host=::1"], None, "ws://[::1]:18789", None),
            (&["host=[::1]"], None, "ws://[::1]:18789", None),
            (
                &["host=2001:DB8:0:0::1", "tls"],
                None,
                "wss://[2001:db8::1]:18789",
                None,
            ),
        ];
        for (words, saved, url, pin) in cases {
            let planned = PlannedEndpoint::plan(&flags(words), saved).unwrap();
            assert_eq!(planned.url(), url, "{words:?} {saved:?}");
            let planned_pin = planned.fingerprint().map(|pin| pin.to_string());
            assert_eq!(planned_pin.as_deref(), pin, "{words:?} {saved:?}");
            // What is saved leads to the same endpoint again.
            let again = PlannedEndpoint::plan(&flags(&[]), Some(&planned.to_saved())).unwrap();
            assert_eq!(again, planned, "{words:?} {saved:?}");
        }
    }

    #[test]
    fn what_makes_no_endpoint_is_refused_in_these_words() {
        const PORT: &str = "Invalid --port. Use a port number from 1 to 65535, for example 18789.";
        const PIN_TEXT: &str =
            "Invalid TLS fingerprint; expected a SHA-256 certificate fingerprint.";
        let cases: [(Words, &str); 33] = [
            (&["port=0"], PORT),
            (&["port=65536"], PORT),
            (&["port=-1"], PORT),
            (&["port=+80"], PORT),
            (&["port=80.0"], PORT),
            (&["port=0x50"], PORT),
            (&["port=http"], PORT),
            (&["port=99999999999999999999"], PORT),
            (&["pin=abc"], PIN_TEXT),
            (&["no-tls", "pin=abc"], PIN_TEXT),
            (
                &["no-tls", "pin=PIN"],
                "--no-tls cannot be combined with --tls-fingerprint",
            ),
            (&["host=ws://box"], "Invalid --host."),
            (&["host=box:80"], "Invalid --host."),
            (&["host=box/path"], "Invalid --host."),
            (&["host=user@box"], "Invalid --host."),
            (&["host=two words"], "Invalid --host."),
            (&["host=b\u{fc}ro"], "Invalid --host."),
            (&["host=a..b"], "Invalid --host."),
            (&["host=."], "Invalid --host."),
            (&["host=[box]"], "Invalid --host."),
            (&["host=[127.0.0.1]"], "Invalid --host."),
            (&["host=[::1"], "Invalid --host."),
            (&["host=fe80::1%eth0"], "Invalid --host."),
            (&["host=127.1"], "Invalid --host."),
            (&["host=0x7f000001"], "Invalid --host."),
            (&["host=2130706433"], "Invalid --host."),
            (&["host=127.0.0.1."], "Invalid --host."),
            (&["host=127.0.0.256"], "Invalid --host."),
            (&["path=/a b"], "Invalid --context-path."),
            (&["path=/a#b"], "Invalid --context-path."),
            (&["path=/a\r\nHost: evil"], "Invalid --context-path."),
            (&["path=/\u{fc}"], "Invalid --context-path."),
            (&["path=/a<b>"], "Invalid --context-path."),
        ];
        for (words, text) in cases {
            let error = PlannedEndpoint::plan(&flags(words), None).expect_err(&words.join(" "));
            assert!(error.to_string().starts_with(text), "{words:?}: {error}");
        }
        let long_host = flags(&[&format!("host={}", "a.".repeat(127))]);
        assert_eq!(
            PlannedEndpoint::plan(&long_host, None),
            Err(EndpointError::Host)
        );
        let long_path = flags(&[&format!("path=/{}", "a".repeat(CONTEXT_PATH_LIMIT_BYTES))]);
        assert_eq!(
            PlannedEndpoint::plan(&long_path, None),
            Err(EndpointError::ContextPath)
        );
    }

    #[test]
    fn a_scope_is_one_text_per_endpoint() {
        let scope = |words: &[&str]| PlannedEndpoint::plan(&flags(words), None).unwrap().scope();
        let cases: [(Words, &str); 8] = [
            (&[], "ws://127.0.0.1:18789"),
            (&["tls"], "wss://127.0.0.1:18789"),
            (
                &["host=Gateway.Example.COM", "port=443", "tls"],
                "wss://gateway.example.com:443",
            ),
            (&["path=/Claw"], "ws://127.0.0.1:18789/Claw"),
            (&["path=/Claw/"], "ws://127.0.0.1:18789/Claw"),
            (&["path=/"], "ws://127.0.0.1:18789"),
            (&["host=[2001:DB8::1]"], "ws://[2001:db8::1]:18789"),
            (&["host=localhost"], "ws://localhost:18789"),
        ];
        for (words, expected) in cases {
            assert_eq!(scope(words).as_str(), expected, "{words:?}");
        }
        // A pin is not part of where the gateway is.
        assert_eq!(scope(&["pin=PIN"]), scope(&["tls"]));
    }
}
