//! Who the old node is, and the token that its gateway gave it.

use std::path::Path;

use protocol::connect::ROLE;
use protocol::identity::DeviceIdentity;
use secrecy::SecretString;
use serde::Deserialize;

use super::chain::Chain;
use super::database::{IdentityColumns, UpstreamDatabase};
use super::{UpstreamError, files};
use crate::StoredIdentity;
use crate::database::from_millis;

/// The one version of both files (state §3.2).
const FILE_VERSION: u32 = 1;

/// `identity/device.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceFile {
    version: u32,
    device_id: String,
    public_key_pem: String,
    private_key_pem: SecretString,
    created_at_ms: Option<i64>,
}

/// `identity/device-auth.json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceAuthFile {
    version: u32,
    device_id: String,
    tokens: std::collections::BTreeMap<String, TokenEntry>,
}

#[derive(Deserialize)]
struct TokenEntry {
    token: SecretString,
}

pub(super) fn find(
    database: Option<&UpstreamDatabase>,
    state_dir: &Path,
) -> Result<Chain<StoredIdentity>, UpstreamError> {
    let file = state_dir.join("identity").join("device.json");
    let mut chain = Chain::new("device identity");
    chain.row(database, "device_identities", |database| {
        let columns = database.identity()?;
        Ok(columns.and_then(|columns| columns.map(validated).transpose()))
    })?;
    chain.files(&file, files::SMALL_LIMIT_BYTES, |text| {
        let file: DeviceFile = parse(&text)?;
        check_version(file.version)?;
        validated(IdentityColumns {
            device_id: file.device_id,
            private_key_pem: file.private_key_pem,
            public_key_pem: file.public_key_pem,
            created_at_ms: file.created_at_ms.unwrap_or(0),
        })
        .map(Some)
    })?;
    Ok(chain)
}

pub(super) fn find_token(
    database: Option<&UpstreamDatabase>,
    state_dir: &Path,
    device_id: &str,
) -> Result<Chain<SecretString>, UpstreamError> {
    let file = state_dir.join("identity").join("device-auth.json");
    let mut chain = Chain::new("device token");
    chain.row(database, "device_auth_tokens", |database| {
        database.device_token(device_id)
    })?;
    chain.files(&file, files::SMALL_LIMIT_BYTES, |text| {
        let mut file: DeviceAuthFile = parse(&text)?;
        check_version(file.version)?;
        if file.device_id != device_id {
            return Err("its token is that of another device".to_owned());
        }
        Ok(file.tokens.remove(ROLE).map(|entry| entry.token))
    })?;
    Ok(chain)
}

/// The three must belong together: with any other id or public key the gateway would not know the
/// device that signs.
fn validated(columns: IdentityColumns) -> Result<StoredIdentity, String> {
    let identity = DeviceIdentity::from_private_key_pem(&columns.private_key_pem)
        .map_err(|error| error.to_string())?;
    if identity.device_id().as_str() != columns.device_id {
        return Err("the device id is not that of the device's key".to_owned());
    }
    let public_key_pem = identity
        .public_key_pem()
        .map_err(|error| error.to_string())?;
    if public_key_pem.trim() != columns.public_key_pem.replace("\r\n", "\n").trim() {
        return Err("the public key is not that of the device's key".to_owned());
    }
    Ok(StoredIdentity {
        identity,
        created_at_ms: from_millis(columns.created_at_ms),
    })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    // The parser's own words could quote a secret.
    serde_json::from_str(text).map_err(|error| {
        format!(
            "line {} column {} is not what belongs there",
            error.line(),
            error.column()
        )
    })
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        FILE_VERSION => Ok(()),
        other => Err(format!("its version {other} is not known")),
    }
}
