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

/// Why the HTTP side did not answer.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It is not a URL that a browser can be reached at.
    #[error("\"{0}\" is not a CDP URL; use http://host:port or ws://host:port")]
    Malformed(String),
    /// Nobody listens, or not a browser.
    #[error("{0}")]
    Unreachable(String),
}

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
    /// [`EndpointError::Malformed`].
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(url.to_owned());
        let uri: Uri = url.trim().parse().map_err(|_| malformed())?;
        let scheme = match uri.scheme_str() {
            Some("http" | "ws") => Scheme::Plain,
            Some("https" | "wss") => Scheme::Tls,
            Some(_) | None => return Err(malformed()),
        };
        let host = uri.host().ok_or_else(malformed)?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(match scheme {
            Scheme::Plain => 80,
            Scheme::Tls => 443,
        });
        Ok(Self {
            scheme,
            host,
            port,
            path: uri
                .path_and_query()
                .map(|path| path.as_str().trim_end_matches('/').to_owned())
                .unwrap_or_default(),
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
    /// [`EndpointError`], within `deadline`.
    pub async fn get(&self, path: &str, deadline: Duration) -> Result<Value, EndpointError> {
        let unreachable = |error: String| EndpointError::Unreachable(error);
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
    /// [`EndpointError`].
    pub async fn browser_websocket(&self, deadline: Duration) -> Result<String, EndpointError> {
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
            .ok_or_else(|| EndpointError::Unreachable("it tells no WebSocket".to_owned()))?;
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
