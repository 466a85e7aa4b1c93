//! Taking over a node host of upstream's: all of it in one transaction, with a record of what came
//! from where.

use std::fmt;

use rusqlite::{Row, Transaction};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::approvals::write_approvals;
use crate::database::{Database, Durability, from_millis, to_millis};
use crate::device_token::write_token;
use crate::identity::IdentityRow;
use crate::node_profile::{NodeProfile, write_profile};
use crate::upstream::{Source, UpstreamNode};
use crate::{DeviceTokenKey, StateError};

/// What is taken over, of what [`UpstreamNode`] found.
#[derive(Debug)]
pub struct Import<'a> {
    /// What was found.
    pub node: &'a UpstreamNode,
    /// The profile that it makes.
    pub profile: &'a NodeProfile,
    /// The endpoint that the old node used last, which the token is bound to from now on (D18).
    pub gateway_scope: &'a str,
}

/// One of the items that make a node the node that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportItem {
    /// Node id, name, endpoint, commands.
    Profile,
    /// The device's key pair.
    Identity,
    /// The token that its gateway issued.
    DeviceToken,
    /// The approvals document.
    Approvals,
}

impl ImportItem {
    const ALL: [Self; 4] = [
        Self::Profile,
        Self::Identity,
        Self::DeviceToken,
        Self::Approvals,
    ];

    /// The name that records carry.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Identity => "identity",
            Self::DeviceToken => "deviceToken",
            Self::Approvals => "approvals",
        }
    }
}

impl fmt::Display for ImportItem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Where an item came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRecord {
    /// Which item.
    pub item: ImportItem,
    /// Path of the file, with `#table` if it is a database.
    pub source: String,
    /// The device that was taken over; `None` where the old node host never had an identity.
    pub device_id: Option<String>,
    /// SHA-256 of the value that was taken, which for an identity is the private key's PEM text.
    pub sha256: [u8; 32],
    /// When, unix milliseconds.
    pub imported_at_ms: u64,
}

impl Database {
    /// Writes all of `import`, or nothing; on disk when this returns. Says whether it was written:
    /// a database that already has an identity is left as it is.
    ///
    /// # Errors
    /// Those of writing.
    pub fn import(&mut self, import: &Import<'_>, now_ms: u64) -> Result<bool, StateError> {
        let node = import.node;
        let corrupt = |error| StateError::corrupt(self.path(), format!("device identity: {error}"));
        let identity = node.identity.as_ref().map(|found| &found.value);
        let identity = identity
            .map(|stored| IdentityRow::of(&stored.identity, stored.created_at_ms))
            .transpose()
            .map_err(corrupt)?;
        let records = records(import, now_ms);
        self.write(Durability::Full, |transaction| {
            if IdentityRow::select(transaction)?.is_some() {
                return Ok(false);
            }
            write_profile(transaction, import.profile, now_ms)?;
            if let Some(identity) = &identity {
                identity.insert(transaction)?;
            }
            if let Some((key, token)) = import.device_token() {
                write_token(transaction, key, token, now_ms)?;
            }
            if let Some(approvals) = &node.approvals {
                write_approvals(transaction, approvals.value.expose_secret(), now_ms)?;
            }
            for record in &records {
                insert_record(transaction, record)?;
            }
            Ok(true)
        })
    }

    /// What was taken over, and from where; empty for a node that began here.
    ///
    /// # Errors
    /// Those of reading.
    pub fn import_records(&self) -> Result<Vec<ImportRecord>, StateError> {
        self.read(|transaction| {
            transaction
                .prepare(
                    "SELECT item, source, device_id, sha256, imported_at_ms FROM import_record",
                )?
                .query_map([], read_record)?
                .collect()
        })
    }
}

impl Import<'_> {
    fn device_id(&self) -> Option<&str> {
        let identity = &self.node.identity.as_ref()?.value.identity;
        Some(identity.device_id().as_str())
    }

    fn device_token(&self) -> Option<(DeviceTokenKey<'_>, &SecretString)> {
        let key = DeviceTokenKey {
            device_id: self.device_id()?,
            role: protocol::connect::ROLE,
            gateway_scope: self.gateway_scope,
        };
        Some((key, &self.node.device_token.as_ref()?.value))
    }
}

fn records(import: &Import<'_>, now_ms: u64) -> Vec<ImportRecord> {
    let node = import.node;
    let record = |item, source: &Source, sha256| ImportRecord {
        item,
        source: source.to_string(),
        device_id: import.device_id().map(str::to_owned),
        sha256,
        imported_at_ms: now_ms,
    };
    let digest =
        |secret: &SecretString| -> [u8; 32] { Sha256::digest(secret.expose_secret()).into() };
    let profile = &node.profile;
    let mut records = vec![record(
        ImportItem::Profile,
        &profile.source,
        profile.value.text_sha256,
    )];
    if let Some(found) = &node.identity
        && let Ok(pem) = found.value.identity.private_key_pem()
    {
        records.push(record(ImportItem::Identity, &found.source, digest(&pem)));
    }
    if let Some(found) = &node.device_token {
        let sha256 = digest(&found.value);
        records.push(record(ImportItem::DeviceToken, &found.source, sha256));
    }
    if let Some(found) = &node.approvals {
        let sha256 = digest(&found.value);
        records.push(record(ImportItem::Approvals, &found.source, sha256));
    }
    records
}

fn insert_record(transaction: &Transaction<'_>, record: &ImportRecord) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO import_record (item, source, device_id, sha256, imported_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            record.item.name(),
            &record.source,
            &record.device_id,
            record.sha256,
            to_millis(record.imported_at_ms),
        ),
    )?;
    Ok(())
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<ImportRecord> {
    let name: String = row.get(0)?;
    let item = ImportItem::ALL
        .into_iter()
        .find(|item| item.name() == name)
        .ok_or(rusqlite::Error::InvalidQuery)?;
    Ok(ImportRecord {
        item,
        source: row.get(1)?,
        device_id: row.get(2)?,
        sha256: row.get(3)?,
        imported_at_ms: from_millis(row.get(4)?),
    })
}
