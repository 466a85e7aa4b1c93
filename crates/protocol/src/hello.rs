//! hello-ok: what a gateway tells a node that it has accepted (§8).

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

/// Tick interval of a gateway that names none (§8).
const DEFAULT_TICK_INTERVAL: Duration = Duration::from_secs(30);
/// Bounds within which an announced tick interval is believed; outside of them the watchdog would
/// either spin or sleep for ever.
const TICK_INTERVAL_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(600));

/// The members of hello-ok that a node uses.
#[derive(Debug)]
pub struct Hello {
    /// The gateway's release, for logs and status.
    pub gateway_version: String,
    /// The gateway's name for this connection, for logs.
    pub connection_id: String,
    /// How often the gateway promises a tick.
    pub tick_interval: Duration,
    /// The token by which this device may connect from now on; to be stored before anything else
    /// is done with the connection (§7.4).
    pub device_token: Option<SecretString>,
    /// How far the gateway's own release goes, where that makes a difference to a node.
    pub release: GatewayRelease,
}

/// The two kinds of gateways that a node can tell apart by what they offer (§11.1, §15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayRelease {
    /// As 2026.5.20: ignores host statistics, shows a node nothing of its surface approval, and
    /// drops the members of a plan that it does not know.
    Early,
    /// As 2026.9.6: uses host statistics, shows in every answer to a publication whether the
    /// surface is approved, and hands plans back whole.
    Current,
}

/// The payload of an accepted connect request was not a hello-ok.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// Not the expected JSON.
    #[error("malformed hello-ok: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Something else than hello-ok.
    #[error("expected hello-ok, got \"{0}\"")]
    OtherType(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawHello {
    r#type: String,
    #[serde(default)]
    server: RawServer,
    #[serde(default)]
    features: RawFeatures,
    #[serde(default)]
    auth: RawAuth,
    #[serde(default)]
    policy: RawPolicy,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawServer {
    version: String,
    conn_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawFeatures {
    methods: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAuth {
    role: Option<String>,
    device_token: Option<SecretString>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPolicy {
    tick_interval_ms: Option<f64>,
}

/// A method that only current gateways offer. Not every method that a node may call is listed:
/// 2026.9.6 leaves out `node.runnerInventory.update`, for one.
const RELEASE_MARKER: &str = "node.invoke.progress";

impl Hello {
    /// Decodes the payload of the response to `connect`.
    ///
    /// # Errors
    /// [`HelloError`] when it is not a hello-ok.
    pub fn decode(payload: &str) -> Result<Self, HelloError> {
        let raw: RawHello = serde_json::from_str(payload)?;
        if raw.r#type != "hello-ok" {
            return Err(HelloError::OtherType(raw.r#type));
        }
        let tick_interval = raw
            .policy
            .tick_interval_ms
            .filter(|millis| millis.is_finite() && *millis > 0.0)
            .map_or(DEFAULT_TICK_INTERVAL, |millis| {
                Duration::try_from_secs_f64(millis / 1000.0)
                    .unwrap_or(TICK_INTERVAL_BOUNDS.1)
                    .clamp(TICK_INTERVAL_BOUNDS.0, TICK_INTERVAL_BOUNDS.1)
            });
        // A token for another role is not ours to keep (least privilege, §7.4).
        let for_node = raw
            .auth
            .role
            .as_deref()
            .is_none_or(|role| role == crate::connect::ROLE);
        Ok(Self {
            gateway_version: raw.server.version,
            connection_id: raw.server.conn_id,
            tick_interval,
            device_token: raw.auth.device_token.filter(|_| for_node),
            release: if raw
                .features
                .methods
                .iter()
                .any(|name| name == RELEASE_MARKER)
            {
                GatewayRelease::Current
            } else {
                GatewayRelease::Early
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_members_that_matter_are_taken_and_the_rest_is_ignored() {
        let hello = Hello::decode(
            r#"{"type":"hello-ok","protocol":4,"server":{"version":"2026.9.6","connId":"c"},
                "features":{"methods":["health","node.invoke.progress"],"events":["tick"]},
                "snapshot":{"x":[1]},"auth":{"role":"node","scopes":[],"deviceToken":"D",
                "deviceTokens":[{"role":"operator","deviceToken":"O"}]},
                "policy":{"maxPayload":26214400,"tickIntervalMs":15000}}"#,
        )
        .unwrap();
        assert_eq!(hello.gateway_version, "2026.9.6");
        assert_eq!(hello.connection_id, "c");
        assert_eq!(hello.tick_interval, Duration::from_secs(15));
        assert_eq!(hello.device_token.unwrap().expose_secret(), "D");
        assert_eq!(hello.release, GatewayRelease::Current);
    }

    #[test]
    fn a_bare_hello_gets_the_documented_defaults() {
        let hello = Hello::decode(r#"{"type":"hello-ok"}"#).unwrap();
        assert_eq!(hello.tick_interval, Duration::from_secs(30));
        assert!(hello.device_token.is_none());
        assert_eq!(hello.release, GatewayRelease::Early);
    }

    #[test]
    fn an_absurd_tick_interval_is_bounded() {
        for (announced, expected_ms) in [
            ("0", 30_000),
            ("-5", 30_000),
            ("1", 100),
            ("1e300", 600_000),
            ("2500.5", 2_500),
        ] {
            let payload =
                format!(r#"{{"type":"hello-ok","policy":{{"tickIntervalMs":{announced}}}}}"#);
            let interval = Hello::decode(&payload).unwrap().tick_interval;
            assert_eq!(interval.as_millis(), expected_ms, "{announced}");
        }
    }

    #[test]
    fn a_token_for_another_role_is_not_kept() {
        let hello =
            Hello::decode(r#"{"type":"hello-ok","auth":{"role":"operator","deviceToken":"O"}}"#)
                .unwrap();
        assert!(hello.device_token.is_none());
    }

    #[test]
    fn anything_else_is_no_hello() {
        assert!(Hello::decode(r#"{"type":"welcome"}"#).is_err());
        assert!(Hello::decode("[]").is_err());
    }
}
