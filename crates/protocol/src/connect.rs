//! The challenge, and the one `connect` request that answers it (§4, §5).

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::credentials::Auth;
use crate::identity::{DeviceIdentity, SignaturePayload};
use crate::invoke::Command;

/// Longest wait for TCP, TLS and the HTTP upgrade together (§1.3).
pub const UPGRADE_DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait for `connect.challenge` after the upgrade (§1.3).
pub const CHALLENGE_DEADLINE: Duration = Duration::from_secs(15);
/// Longest wait from the connect request to hello-ok or a refusal (§1.3).
pub const HELLO_DEADLINE: Duration = Duration::from_secs(15);

/// `client.id` of a node host; decides which bootstrap profiles and events apply (§5).
pub const CLIENT_ID: &str = "node-host";
/// `client.mode` and `role` of a node.
pub const ROLE: &str = "node";

/// The `connect.challenge` event's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// To be signed; never blank.
    pub nonce: String,
    /// The gateway's clock in unix milliseconds, when it sent a usable one. Signing with it makes
    /// the handshake immune to a wrong local clock (§4).
    pub gateway_time_ms: Option<u64>,
}

/// A challenge without a nonce cannot be answered (§4).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("connect challenge missing nonce")]
pub struct MissingNonce;

/// Largest integer that a JavaScript gateway represents exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

impl Challenge {
    /// Decodes the payload.
    ///
    /// # Errors
    /// [`MissingNonce`] when the nonce is absent, blank or not a string.
    pub fn decode(payload: &str) -> Result<Self, MissingNonce> {
        #[derive(Deserialize)]
        struct Raw {
            nonce: Option<serde_json::Value>,
            ts: Option<serde_json::Value>,
        }
        let raw: Raw = serde_json::from_str(payload).map_err(|_| MissingNonce)?;
        let nonce = raw
            .nonce
            .as_ref()
            .and_then(serde_json::Value::as_str)
            .map(str::trim)
            .filter(|nonce| !nonce.is_empty())
            .ok_or(MissingNonce)?
            .to_owned();
        let gateway_time_ms = raw
            .ts
            .as_ref()
            .and_then(serde_json::Value::as_u64)
            .filter(|time| *time <= MAX_SAFE_INTEGER);
        Ok(Self {
            nonce,
            gateway_time_ms,
        })
    }
}

/// Which machine this is, in the words that decide whether a gateway permits commands (§5.1).
///
/// They are part of the pairing: a different spelling later asks for a new approval, so they are
/// constants of the build and never read from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// `client.platform`.
    pub name: &'static str,
    /// `client.deviceFamily`.
    pub device_family: &'static str,
}

impl Platform {
    /// The platform that this binary was built for.
    pub const CURRENT: Self = if cfg!(target_os = "macos") {
        Self {
            name: "macos",
            device_family: "Mac",
        }
    } else {
        Self {
            name: "linux",
            device_family: "Linux",
        }
    };
}

/// What a node tells about itself; constant for the life of the process.
#[derive(Debug, Clone)]
pub struct NodeDescription {
    /// `client.displayName`, shown to operators; absent when blank.
    pub display_name: String,
    /// `client.instanceId`: the configured node id, metadata only (§3).
    pub instance_id: String,
    /// `client.version`. A non-calendar version is never compared with the gateway's (§5.2).
    pub version: String,
    /// The PATH that commands will see.
    pub path_env: String,
    /// Whether it offers its browser.
    pub offers_browser: bool,
    /// The only commands to offer, of those that there are; `None` offers all.
    pub only: Option<BTreeSet<String>>,
}

impl NodeDescription {
    /// The commands that this node offers, in the order that it declares them in.
    pub fn declared(&self) -> impl Iterator<Item = Command> + '_ {
        Command::declared(self.offers_browser).filter(|command| match &self.only {
            Some(only) => only.contains(command.name()),
            None => true,
        })
    }

    /// Whether a gateway may ask for this command.
    #[must_use]
    pub fn declares(&self, wanted: Command) -> bool {
        self.declared().any(|command| command == wanted)
    }
}

/// Protocol numbers that a connect request may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProtocolVersion {
    /// What every gateway from 2026.5.20 on speaks.
    #[default]
    Four,
    /// What some gateways ask nodes to fall back to (§9, PROTOCOL_MISMATCH).
    Three,
}

impl ProtocolVersion {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Three => 3,
        }
    }
}

/// The params of the `connect` request: exactly the members that every gateway version accepts.
///
/// Gateways refuse unknown and null members anywhere in it, so there is no map and no option in
/// here that could serialise as one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectParams<'a> {
    min_protocol: u8,
    max_protocol: u8,
    client: Client<'a>,
    caps: &'static [&'static str],
    commands: Vec<&'static str>,
    path_env: &'a str,
    #[serde(
        skip_serializing_if = "Auth::is_none",
        serialize_with = "serialize_auth"
    )]
    auth: &'a Auth,
    role: &'static str,
    scopes: [&'static str; 0],
    device: DeviceProof<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    id: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
    version: &'a str,
    platform: &'static str,
    device_family: &'static str,
    mode: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance_id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceProof<'a> {
    id: &'a str,
    public_key: String,
    signature: String,
    signed_at: u64,
    nonce: &'a str,
}

/// The capability names that a node declares (§5.3).
const CAPABILITIES: &[&str] = &["system"];
/// The same for one that offers its browser.
const CAPABILITIES_WITH_BROWSER: &[&str] = &["system", "browser"];

impl<'a> ConnectParams<'a> {
    /// Answers a challenge. `local_time_ms` is used only if the gateway told no time of its own.
    #[must_use]
    pub fn answer(
        challenge: &'a Challenge,
        node: &'a NodeDescription,
        identity: &'a DeviceIdentity,
        auth: &'a Auth,
        protocol: ProtocolVersion,
        local_time_ms: u64,
    ) -> Self {
        let signed_at = challenge.gateway_time_ms.unwrap_or(local_time_ms);
        let platform = Platform::CURRENT;
        let payload = SignaturePayload {
            device_id: identity.device_id().as_str(),
            client_id: CLIENT_ID,
            client_mode: ROLE,
            role: ROLE,
            scopes: &[],
            signed_at_ms: signed_at,
            token: auth
                .signed_token()
                .map_or("", |token| token.expose_secret()),
            nonce: &challenge.nonce,
            platform: platform.name,
            device_family: platform.device_family,
        };
        Self {
            min_protocol: protocol.number(),
            max_protocol: protocol.number(),
            client: Client {
                id: CLIENT_ID,
                display_name: node.display_name.trim(),
                version: &node.version,
                platform: platform.name,
                device_family: platform.device_family,
                mode: ROLE,
                instance_id: node.instance_id.trim(),
            },
            caps: if node
                .declared()
                .any(|command| matches!(command, Command::Browser(_)))
            {
                CAPABILITIES_WITH_BROWSER
            } else {
                CAPABILITIES
            },
            commands: node.declared().map(Command::name).collect(),
            path_env: &node.path_env,
            auth,
            role: ROLE,
            scopes: [],
            device: DeviceProof {
                id: identity.device_id().as_str(),
                public_key: identity.public_key(),
                signature: identity.sign(&payload.v3()),
                signed_at,
                nonce: &challenge.nonce,
            },
        }
    }
}

/// Credentials leave the process here and nowhere else.
fn serialize_auth<S: Serializer>(auth: &&Auth, serializer: S) -> Result<S::Ok, S::Error> {
    auth.serialize_exposed(serializer)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::identity::DevicePublicKey;

    fn node() -> NodeDescription {
        NodeDescription {
            display_name: "lab box".to_owned(),
            instance_id: "11111111-2222-4333-8444-555555555555".to_owned(),
            version: "0.1.0".to_owned(),
            path_env: "/usr/bin:/bin".to_owned(),
            offers_browser: false,
            only: None,
        }
    }

    fn params(auth: &Auth) -> serde_json::Value {
        let challenge = Challenge {
            nonce: "n".to_owned(),
            gateway_time_ms: Some(7),
        };
        let identity = DeviceIdentity::from_seed(&[1; 32]);
        let node = node();
        let params = ConnectParams::answer(
            &challenge,
            &node,
            &identity,
            auth,
            ProtocolVersion::default(),
            99,
        );
        serde_json::to_value(params).unwrap()
    }

    #[test]
    fn the_request_carries_the_exact_set_of_members() {
        let params = params(&Auth::None);
        let members: Vec<&str> = params
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            [
                "minProtocol",
                "maxProtocol",
                "client",
                "caps",
                "commands",
                "pathEnv",
                "role",
                "scopes",
                "device"
            ],
            "an absent credential leaves the member out instead of sending null"
        );
        assert_eq!(params["client"]["mode"], "node");
        assert_eq!(
            params["device"]["signedAt"], 7,
            "the gateway's clock is the one that counts"
        );
        assert_eq!(params["scopes"], serde_json::json!([]));
        assert!(
            params["commands"]
                .as_array()
                .unwrap()
                .iter()
                .all(serde_json::Value::is_string),
            "{params}"
        );
    }

    #[test]
    fn the_signature_covers_the_token_that_is_sent() {
        let auth = Auth::DeviceToken(SecretString::from("D"));
        let params = params(&auth);
        assert_eq!(
            params["auth"],
            serde_json::json!({"token": "D", "deviceToken": "D"})
        );
        let key = DevicePublicKey::parse(params["device"]["publicKey"].as_str().unwrap()).unwrap();
        let platform = Platform::CURRENT;
        let payload = SignaturePayload {
            device_id: params["device"]["id"].as_str().unwrap(),
            client_id: "node-host",
            client_mode: "node",
            role: "node",
            scopes: &[],
            signed_at_ms: 7,
            token: "D",
            nonce: "n",
            platform: platform.name,
            device_family: platform.device_family,
        };
        key.verify(
            &payload.v3(),
            params["device"]["signature"].as_str().unwrap(),
        )
        .unwrap();
    }

    #[test]
    fn a_browser_is_declared_only_if_it_is_offered() {
        let declared = |offers_browser| {
            let challenge = Challenge {
                nonce: "n".to_owned(),
                gateway_time_ms: None,
            };
            let identity = DeviceIdentity::from_seed(&[1; 32]);
            let node = NodeDescription {
                offers_browser,
                ..node()
            };
            let auth = Auth::None;
            let version = ProtocolVersion::default();
            let params = ConnectParams::answer(&challenge, &node, &identity, &auth, version, 99);
            let params = serde_json::to_string(&params).unwrap();
            ["\"browser\"", "browser.proxy\"", "browser.proxy.upload.v1"]
                .map(|name| params.contains(name))
        };
        assert_eq!(declared(true), [true; 3]);
        assert_eq!(declared(false), [false; 3]);
    }

    #[test]
    fn a_list_of_commands_leaves_nothing_else_declared() {
        let with = |names: &[&str]| NodeDescription {
            offers_browser: true,
            only: Some(names.iter().map(|&name| name.to_owned()).collect()),
            ..node()
        };
        let names =
            |node: &NodeDescription| -> Vec<&str> { node.declared().map(Command::name).collect() };
        let which = with(&["system.which", "not.there"]);
        assert_eq!(names(&which), ["system.which"]);
        let run = Command::parse("system.run").unwrap();
        assert!(!which.declares(run) && with(&["system.run"]).declares(run));
        assert_eq!(names(&with(&[])), Vec::<&str>::new());
    }

    #[test]
    fn blank_metadata_is_left_out() {
        let challenge = Challenge {
            nonce: "n".to_owned(),
            gateway_time_ms: None,
        };
        let identity = DeviceIdentity::from_seed(&[1; 32]);
        let node = NodeDescription {
            display_name: "  ".to_owned(),
            ..node()
        };
        let auth = Auth::None;
        let params = ConnectParams::answer(
            &challenge,
            &node,
            &identity,
            &auth,
            ProtocolVersion::Three,
            99,
        );
        let params = serde_json::to_value(params).unwrap();
        assert!(params["client"].get("displayName").is_none());
        assert_eq!(params["device"]["signedAt"], 99);
        assert_eq!(
            (&params["minProtocol"], &params["maxProtocol"]),
            (&3.into(), &3.into())
        );
    }

    #[test]
    fn a_challenge_needs_a_nonce_but_no_clock() {
        let cases = [
            (r#"{"nonce":" a ","ts":5}"#, Some(("a", Some(5)))),
            (r#"{"nonce":"a"}"#, Some(("a", None))),
            (r#"{"nonce":"a","ts":-1}"#, Some(("a", None))),
            (r#"{"nonce":"a","ts":1.5}"#, Some(("a", None))),
            (r#"{"nonce":"a","ts":9007199254740992}"#, Some(("a", None))),
            (r#"{"nonce":"a","ts":"soon"}"#, Some(("a", None))),
            (r#"{"nonce":"  ","ts":5}"#, None),
            (r#"{"nonce":5}"#, None),
            ("{}", None),
            ("nonsense", None),
        ];
        for (payload, expected) in cases {
            let challenge = Challenge::decode(payload).ok();
            let seen = challenge
                .as_ref()
                .map(|c| (c.nonce.as_str(), c.gateway_time_ms));
            assert_eq!(seen, expected, "{payload}");
        }
    }
}
