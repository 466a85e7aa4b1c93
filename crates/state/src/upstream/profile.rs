//! What upstream's node host was told: its id, its name, its gateway, its commands.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::chain::Chain;
use super::database::UpstreamDatabase;
use super::{UpstreamError, files};
use crate::SavedEndpoint;

/// Where a gateway is if upstream was not told (wire protocol §1.1).
const DEFAULT_HOST: &str = "127.0.0.1";

/// Its port (wire protocol §1.1).
const DEFAULT_PORT: u16 = 18789;

/// The only version of the row and of the file (state §3.1, §3.2).
const VERSION: u64 = 1;

/// The row `nodeHost.config`, or `node.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamProfile {
    /// `client.instanceId` on the wire.
    pub node_id: String,
    /// The name that operators see, if one was ever stored.
    pub display_name: Option<String>,
    /// The gateway that it used last; its text as stored, not yet checked.
    pub endpoint: SavedEndpoint,
    /// The only commands that it offered; `None` if all.
    pub commands: Option<BTreeSet<String>>,
    /// SHA-256 of the text that all this was read from.
    pub text_sha256: [u8; 32],
}

pub(super) fn find(
    database: Option<&UpstreamDatabase>,
    state_dir: &Path,
) -> Result<Chain<UpstreamProfile>, UpstreamError> {
    let mut chain = Chain::new("node host's profile");
    chain.row(database, "config_machine_state", |database| {
        let text = database.profile()?;
        Ok(text.and_then(|text| text.as_deref().map(parse).transpose()))
    })?;
    chain.files(
        &state_dir.join("node.json"),
        files::SMALL_LIMIT_BYTES,
        |text| parse(&text).map(Some),
    )?;
    Ok(chain)
}

fn parse(text: &str) -> Result<UpstreamProfile, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("it is no JSON ({error})"))?;
    let profile = value.as_object().ok_or("it is no object")?;
    if profile.get("version").and_then(Value::as_u64) != Some(VERSION) {
        return Err("its version is not known".to_owned());
    }
    let no_gateway = Map::new();
    let gateway = match profile.get("gateway") {
        None | Some(Value::Null) => &no_gateway,
        Some(Value::Object(gateway)) => gateway,
        Some(_) => return Err("gateway is no object".to_owned()),
    };
    Ok(UpstreamProfile {
        node_id: text_of(profile, "nodeId")?.ok_or("nodeId is missing")?,
        display_name: text_of(profile, "displayName")?,
        endpoint: endpoint(gateway)?,
        commands: commands(profile.get("commands"))?,
        text_sha256: Sha256::digest(text).into(),
    })
}

fn endpoint(gateway: &Map<String, Value>) -> Result<SavedEndpoint, String> {
    let port = match gateway.get("port") {
        None | Some(Value::Null) => DEFAULT_PORT,
        Some(port) => port
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or("gateway.port is no number from 1 to 65535")?,
    };
    let tls = match gateway.get("tls") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(tls)) => *tls,
        Some(_) => return Err("gateway.tls is neither true nor false".to_owned()),
    };
    let tls_fingerprint = text_of(gateway, "tlsFingerprint")?;
    Ok(SavedEndpoint {
        host: text_of(gateway, "host")?.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        port,
        // 2026.5.x lets a pin alone stand for TLS (CLI §1.1).
        tls: tls || tls_fingerprint.is_some(),
        tls_fingerprint,
        context_path: text_of(gateway, "contextPath")?,
    })
}

fn commands(value: Option<&Value>) -> Result<Option<BTreeSet<String>>, String> {
    let wrong = || "commands is no list of command ids".to_owned();
    match value {
        None => Ok(None),
        Some(Value::Array(commands)) => commands
            .iter()
            .map(|command| {
                let command = command.as_str().map(str::trim).unwrap_or_default();
                (!command.is_empty())
                    .then(|| command.to_owned())
                    .ok_or_else(wrong)
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

/// A trimmed text; blank counts as absent.
fn text_of(object: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let text = text.trim();
            Ok((!text.is_empty()).then(|| text.to_owned()))
        }
        Some(_) => Err(format!("{name} is no text")),
    }
}
