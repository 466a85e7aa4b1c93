//! Where a browser's debugging port is, and its HTTP side: `/json/version`, `/json/list`, …

use std::fmt;
use std::time::Duration;

use awc::http::Uri;
use serde_json::Value;

/// The largest answer of the HTTP side, in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A debugging endpoint, such as `http://127.0.0.1:18800`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    host: String,
    port: u16,
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Plain,
    Tls,
}

/// What is wrong with a CDP URL. Never says the URL itself, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No browser can be reached there.
    #[error("is not a CDP URL; use http://host:port or ws://host:port")]
    Malformed,
    /// It would have to be sent, and shown in status.
    #[error(
        "has a user name, a password or a query, which this node does not send; use \
         http://host:port, by a local tunnel that adds them"
    )]
    Credentials,
}

/// The HTTP side did not answer: nobody listens, or not a browser.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(String);

impl Endpoint {
    /// A browser on this machine.
    #[must_use]
    pub fn local(port: u16) -> Self {
        Self {
            scheme: Scheme::Plain,
            host: "127.0.0.1".to_owned(),
            port,
            path: String::new(),
        }
    }

    /// Parses `browser.cdpUrl`.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let uri: Uri = url.trim().parse().map_err(|_| UrlError::Malformed)?;
        let scheme = match uri.scheme_str() {
            Some("http" | "ws") => Scheme::Plain,
            Some("https" | "wss") => Scheme::Tls,
            Some(_) | None => return Err(UrlError::Malformed),
        };
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(UrlError::Credentials);
        }
        let host = authority.host().to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(match scheme {
            Scheme::Plain => 80,
            Scheme::Tls => 443,
        });
        Ok(Self {
            scheme,
            host,
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }

    /// The WebSocket that a browser at this endpoint tells under `path`.
    #[must_use]
    pub fn websocket(&self, path: &str) -> String {
        let scheme = match self.scheme {
            Scheme::Plain => "ws",
            Scheme::Tls => "wss",
        };
        format!("{scheme}://{}{path}", self.authority())
    }

    /// Asks the HTTP side.
    ///
    /// # Errors
    /// [`Unreachable`], within `deadline`.
    pub async fn get(&self, path: &str, deadline: Duration) -> Result<Value, Unreachable> {
        let unreachable = |error: String| Unreachable(error);
        let client = awc::Client::builder().timeout(deadline).finish();
        let asked = async {
            let mut response = client
                .get(format!("{self}{path}"))
                .send()
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            let body = response
                .body()
                .limit(MAX_ANSWER_BYTES)
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            serde_json::from_slice(&body).map_err(|error| unreachable(error.to_string()))
        };
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or_else(|_| {
                Err(unreachable(format!(
                    "no answer within {} ms",
                    deadline.as_millis()
                )))
            })
    }

    /// The browser-level WebSocket, from `/json/version`. The address in it is replaced by this
    /// endpoint's own, because a browser behind a proxy does not know how it is reached.
    ///
    /// # Errors
    /// [`Unreachable`].
    pub async fn browser_websocket(&self, deadline: Duration) -> Result<String, Unreachable> {
        if self.path.contains("/devtools/browser/") {
            return Ok(self.websocket(&self.path));
        }
        let version = self.get("/json/version", deadline).await?;
        let told = version
            .get("webSocketDebuggerUrl")
            .and_then(Value::as_str)
            .and_then(|url| url.parse::<Uri>().ok());
        let path = told
            .as_ref()
            .and_then(Uri::path_and_query)
            .ok_or_else(|| Unreachable("it tells no WebSocket".to_owned()))?;
        Ok(self.websocket(path.as_str()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Plain => "http",
            Scheme::Tls => "https",
        };
        write!(
            formatter,
            "{scheme}://{}:{}{}",
            self.host, self.port, self.path
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_address_and_no_more() {
        for (url, shown) in [
            ("http://127.0.0.1:9222", "http://127.0.0.1:9222"),
            (" ws://Host:9222/ ", "http://host:9222"),
            ("http://[::1]:9222/a/", "http://[::1]:9222/a"),
            ("wss://host", "https://host:443"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown, "{url}");
        }
        for url in [
            "",
            "host:9222",
            "ftp://host",
            "http://",
            "http://a b/?secret",
        ] {
            assert_eq!(Endpoint::parse(url), Err(UrlError::Malformed), "{url}");
        }
        for url in [
            "http://me:secret@host:9222",
            "http://secret@host:9222",
            "ws://host:9222/?token=secret",
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            assert_eq!(error, UrlError::Credentials, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
