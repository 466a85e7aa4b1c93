//! What the operator chose for this node: its instance id, its name, its gateway.

use std::collections::BTreeSet;

use rusqlite::types::Type;
use rusqlite::{Error, OptionalExtension as _, Row, Transaction};

use crate::StateError;
use crate::database::{Database, Durability, to_millis};

/// The gateway endpoint that the last `run` planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedEndpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
    /// Whether the connection is `wss`.
    pub tls: bool,
    /// Pinned SHA-256 of the leaf certificate, lower-case hex.
    pub tls_fingerprint: Option<String>,
    /// Path of the WebSocket endpoint, with its leading `/`.
    pub context_path: Option<String>,
}

/// The node's settings that outlive a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProfile {
    /// `client.instanceId` on the wire; metadata only, the gateway knows the node by its device id.
    pub node_id: String,
    /// The name that operators see.
    pub display_name: String,
    /// The gateway, once one was planned.
    pub endpoint: Option<SavedEndpoint>,
    /// The only commands to offer, of those that there are; `None` offers all.
    pub commands: Option<BTreeSet<String>>,
}

/// What becomes of the device tokens when a profile is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredTokens {
    /// They stay.
    Keep,
    /// They go, in the same transaction: the node id was changed on purpose (D17).
    Clear,
}

fn read_profile(row: &Row<'_>) -> rusqlite::Result<NodeProfile> {
    let endpoint = match (row.get(2)?, row.get(3)?, row.get(4)?) {
        (Some(host), Some(port), Some(tls)) => Some(SavedEndpoint {
            host,
            port,
            tls,
            tls_fingerprint: row.get(5)?,
            context_path: row.get(6)?,
        }),
        _ => None,
    };
    let commands: Option<String> = row.get(7)?;
    let commands = commands
        .map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|error| Error::FromSqlConversionFailure(7, Type::Text, Box::new(error)))?;
    Ok(NodeProfile {
        node_id: row.get(0)?,
        display_name: row.get(1)?,
        endpoint,
        commands,
    })
}

fn select_profile(transaction: &Transaction<'_>) -> rusqlite::Result<Option<NodeProfile>> {
    transaction
        .query_row(
            "SELECT node_id, display_name, gateway_host, gateway_port, gateway_tls,
                    gateway_tls_fingerprint, gateway_context_path, commands_json
             FROM node_profile",
            [],
            read_profile,
        )
        .optional()
}

pub(crate) fn write_profile(
    transaction: &Transaction<'_>,
    profile: &NodeProfile,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let endpoint = profile.endpoint.as_ref();
    let commands = profile
        .commands
        .as_ref()
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))?;
    transaction.execute(
        "INSERT OR REPLACE INTO node_profile
         (slot, node_id, display_name, gateway_host, gateway_port, gateway_tls,
          gateway_tls_fingerprint, gateway_context_path, commands_json, updated_at_ms)
         VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            &profile.node_id,
            &profile.display_name,
            endpoint.map(|endpoint| &endpoint.host),
            endpoint.map(|endpoint| endpoint.port),
            endpoint.map(|endpoint| endpoint.tls),
            endpoint.and_then(|endpoint| endpoint.tls_fingerprint.as_ref()),
            endpoint.and_then(|endpoint| endpoint.context_path.as_ref()),
            commands,
            to_millis(now_ms),
        ),
    )?;
    Ok(())
}

pub(crate) fn write_endpoint(
    transaction: &Transaction<'_>,
    endpoint: &SavedEndpoint,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE node_profile
         SET gateway_host = ?1, gateway_port = ?2, gateway_tls = ?3, gateway_tls_fingerprint = ?4,
             gateway_context_path = ?5, updated_at_ms = ?6",
        (
            &endpoint.host,
            endpoint.port,
            endpoint.tls,
            &endpoint.tls_fingerprint,
            &endpoint.context_path,
            to_millis(now_ms),
        ),
    )?;
    Ok(())
}

impl Database {
    /// The saved profile, or `None` before the first run.
    ///
    /// # Errors
    /// Those of reading.
    pub fn node_profile(&self) -> Result<Option<NodeProfile>, StateError> {
        self.read(select_profile)
    }

    /// Saves the profile, and with [`StoredTokens::Clear`] forgets every device token in the same
    /// transaction. Says how many tokens were forgotten.
    ///
    /// Nothing is written when nothing changes, so that an ordinary start costs no disk flush.
    ///
    /// # Errors
    /// Those of writing.
    pub fn save_node_profile(
        &mut self,
        profile: &NodeProfile,
        tokens: StoredTokens,
        now_ms: u64,
    ) -> Result<usize, StateError> {
        if tokens == StoredTokens::Keep && self.node_profile()?.as_ref() == Some(profile) {
            return Ok(0);
        }
        self.write(Durability::Full, |transaction| {
            write_profile(transaction, profile, now_ms)?;
            match tokens {
                StoredTokens::Keep => Ok(0),
                StoredTokens::Clear => transaction.execute("DELETE FROM device_token", []),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::DeviceTokenKey;

    const KEY: DeviceTokenKey<'static> = DeviceTokenKey {
        device_id: "device",
        role: "node",
        gateway_scope: "ws://127.0.0.1:18789",
    };

    fn profile() -> NodeProfile {
        NodeProfile {
            node_id: "7f4df8a4-9f0f-4c1e-a3b2-000000000000".to_owned(),
            display_name: "Kitchen \u{1f373}".to_owned(),
            endpoint: Some(endpoint()),
            commands: Some(["system.run".to_owned()].into()),
        }
    }

    fn endpoint() -> SavedEndpoint {
        SavedEndpoint {
            host: "gateway.example.com".to_owned(),
            port: 65_535,
            tls: true,
            tls_fingerprint: Some("ab".repeat(32)),
            context_path: Some("/claw".to_owned()),
        }
    }

    fn keep(database: &mut Database, key: DeviceTokenKey<'_>, token: &str) {
        let token = SecretString::from(token);
        database.keep_pairing(key, &token, &endpoint(), 1).unwrap();
    }

    fn with_token() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(dir.path()).unwrap();
        keep(&mut database, KEY, "token");
        (dir, database)
    }

    #[test]
    fn a_profile_is_read_back_as_it_was_saved() {
        let (_dir, mut database) = with_token();
        assert_eq!(database.node_profile().unwrap(), None);
        let without_endpoint = NodeProfile {
            endpoint: None,
            ..profile()
        };
        let plain = NodeProfile {
            endpoint: Some(SavedEndpoint {
                host: "::1".to_owned(),
                port: 1,
                tls: false,
                tls_fingerprint: None,
                context_path: None,
            }),
            ..profile()
        };
        for saved in [without_endpoint, profile(), plain] {
            assert_eq!(
                database
                    .save_node_profile(&saved, StoredTokens::Keep, 1)
                    .unwrap(),
                0
            );
            assert_eq!(database.node_profile().unwrap(), Some(saved));
        }
        assert!(database.device_token(KEY).unwrap().is_some());
    }

    #[test]
    fn saving_the_same_profile_again_writes_nothing() {
        let (dir, mut database) = with_token();
        let observer = Database::open(dir.path()).unwrap();
        database
            .save_node_profile(&profile(), StoredTokens::Keep, 1)
            .unwrap();
        let before = observer.data_version().unwrap();
        database
            .save_node_profile(&profile(), StoredTokens::Keep, 2)
            .unwrap();
        assert_eq!(observer.data_version().unwrap(), before);
        let renamed = NodeProfile {
            display_name: "Attic".to_owned(),
            ..profile()
        };
        database
            .save_node_profile(&renamed, StoredTokens::Keep, 3)
            .unwrap();
        assert_ne!(observer.data_version().unwrap(), before);
    }

    #[test]
    fn a_new_node_id_can_take_every_token_with_it() {
        let (_dir, mut database) = with_token();
        database
            .save_node_profile(&profile(), StoredTokens::Keep, 1)
            .unwrap();
        let elsewhere = DeviceTokenKey {
            gateway_scope: "wss://other:443",
            ..KEY
        };
        keep(&mut database, elsewhere, "other");
        let renumbered = NodeProfile {
            node_id: "another".to_owned(),
            ..profile()
        };
        let cleared = database
            .save_node_profile(&renumbered, StoredTokens::Clear, 2)
            .unwrap();
        assert_eq!(cleared, 2);
        assert!(database.device_token(KEY).unwrap().is_none());
        assert!(database.device_token(elsewhere).unwrap().is_none());
        assert_eq!(database.node_profile().unwrap(), Some(renumbered));
    }

    #[test]
    fn a_profile_that_cannot_be_saved_keeps_the_tokens() {
        let (_dir, mut database) = with_token();
        let nameless = NodeProfile {
            node_id: String::new(),
            ..profile()
        };
        assert!(
            database
                .save_node_profile(&nameless, StoredTokens::Clear, 1)
                .is_err()
        );
        assert!(database.device_token(KEY).unwrap().is_some());
    }
}
