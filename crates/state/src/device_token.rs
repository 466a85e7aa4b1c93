//! Device tokens, each bound to the gateway endpoint that issued it (D18).

use rusqlite::{OptionalExtension as _, Transaction};
use secrecy::{ExposeSecret as _, SecretString};

use crate::database::{Database, Durability, to_millis};
use crate::node_profile::write_endpoint;
use crate::{SavedEndpoint, StateError};

/// Who may use a token, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTokenKey<'a> {
    /// The device that it was issued to.
    pub device_id: &'a str,
    /// The role that it grants; `node` for this program (wire protocol §7.4).
    pub role: &'a str,
    /// The endpoint that issued it, `ws(s)://host:port/path`; it is sent to no other.
    pub gateway_scope: &'a str,
}

pub(crate) fn write_token(
    transaction: &Transaction<'_>,
    key: DeviceTokenKey<'_>,
    token: &SecretString,
    now_ms: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO device_token (device_id, role, gateway_scope, token, updated_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET token = excluded.token,
                                   updated_at_ms = excluded.updated_at_ms",
        (
            key.device_id,
            key.role,
            key.gateway_scope,
            token.expose_secret(),
            to_millis(now_ms),
        ),
    )?;
    Ok(())
}

impl Database {
    /// Stores the token that a hello brought, and the endpoint that issued it as the one to go to
    /// from now on, both or neither; on disk when this returns (wire protocol §7.6).
    ///
    /// # Errors
    /// Those of writing.
    pub fn keep_pairing(
        &mut self,
        key: DeviceTokenKey<'_>,
        token: &SecretString,
        endpoint: &SavedEndpoint,
        now_ms: u64,
    ) -> Result<(), StateError> {
        self.write(Durability::Full, |transaction| {
            write_token(transaction, key, token, now_ms)?;
            write_endpoint(transaction, endpoint, now_ms)
        })
    }

    /// Whether this machine's own device has a token for a role and an endpoint.
    ///
    /// # Errors
    /// Those of reading.
    pub fn has_device_token(&self, role: &str, gateway_scope: &str) -> Result<bool, StateError> {
        let Some(stored) = self.identity()? else {
            return Ok(false);
        };
        let token = self.device_token(DeviceTokenKey {
            device_id: stored.identity.device_id().as_str(),
            role,
            gateway_scope,
        })?;
        Ok(token.is_some())
    }

    /// The token for this device, role and endpoint.
    ///
    /// # Errors
    /// Those of reading.
    pub fn device_token(
        &self,
        key: DeviceTokenKey<'_>,
    ) -> Result<Option<SecretString>, StateError> {
        self.read(|transaction| {
            transaction
                .query_row(
                    "SELECT token FROM device_token
                     WHERE device_id = ?1 AND role = ?2 AND gateway_scope = ?3",
                    (key.device_id, key.role, key.gateway_scope),
                    |row| row.get::<_, String>(0).map(SecretString::from),
                )
                .optional()
        })
    }

    /// Forgets a token that the gateway refused, unless another has taken its place since it was
    /// sent (wire protocol §7.5). Says whether it was forgotten.
    ///
    /// # Errors
    /// Those of writing.
    pub fn clear_device_token_if(
        &mut self,
        key: DeviceTokenKey<'_>,
        sent: &SecretString,
    ) -> Result<bool, StateError> {
        let cleared = self.write(Durability::Full, |transaction| {
            transaction.execute(
                "DELETE FROM device_token
                 WHERE device_id = ?1 AND role = ?2 AND gateway_scope = ?3 AND token = ?4",
                (
                    key.device_id,
                    key.role,
                    key.gateway_scope,
                    sent.expose_secret(),
                ),
            )
        })?;
        Ok(cleared > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "ws://127.0.0.1:18789";
    const AWAY: &str = "wss://gateway.example.com:443/claw";

    fn key<'a>(device_id: &'a str, role: &'a str, gateway_scope: &'a str) -> DeviceTokenKey<'a> {
        DeviceTokenKey {
            device_id,
            role,
            gateway_scope,
        }
    }

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        (dir, database)
    }

    fn keep(database: &mut Database, key: DeviceTokenKey<'_>, token: &str) {
        let endpoint = SavedEndpoint {
            host: "127.0.0.1".to_owned(),
            port: 18_789,
            tls: false,
            tls_fingerprint: None,
            context_path: None,
        };
        let token = SecretString::from(token);
        database.keep_pairing(key, &token, &endpoint, 1).unwrap();
    }

    fn exposed(database: &Database, key: DeviceTokenKey<'_>) -> Option<String> {
        database
            .device_token(key)
            .unwrap()
            .map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn a_rotated_token_replaces_the_old_one() {
        let (_dir, mut database) = database();
        let key = key("device", "node", HOME);
        for token in ["first", "first", "second"] {
            keep(&mut database, key, token);
            assert_eq!(exposed(&database, key).as_deref(), Some(token));
        }
    }

    #[test]
    fn a_token_is_found_only_under_its_own_device_role_and_endpoint() {
        let (_dir, mut database) = database();
        let stored = key("device", "node", HOME);
        keep(&mut database, stored, "token");
        for other in [
            key("other", "node", HOME),
            key("device", "operator", HOME),
            key("device", "node", AWAY),
            key("device", "node", "wss://127.0.0.1:18789"),
        ] {
            assert_eq!(exposed(&database, other), None, "{other:?}");
            assert!(
                !database
                    .clear_device_token_if(other, &"token".into())
                    .unwrap()
            );
        }
        assert_eq!(exposed(&database, stored).as_deref(), Some("token"));
    }

    #[test]
    fn a_refused_token_is_cleared_unless_it_was_rotated_meanwhile() {
        let (_dir, mut database) = database();
        let home = key("device", "node", HOME);
        let away = key("device", "node", AWAY);
        keep(&mut database, home, "new");
        keep(&mut database, away, "new");
        assert!(!database.clear_device_token_if(home, &"old".into()).unwrap());
        assert_eq!(exposed(&database, home).as_deref(), Some("new"));
        assert!(database.clear_device_token_if(home, &"new".into()).unwrap());
        assert_eq!(exposed(&database, home), None);
        assert!(!database.clear_device_token_if(home, &"new".into()).unwrap());
        assert_eq!(exposed(&database, away).as_deref(), Some("new"));
    }

    #[test]
    fn a_cleared_token_is_not_left_in_the_file() {
        let (dir, mut database) = database();
        let home = key("device", "node", HOME);
        let token = SecretString::from("hunter2-device-token");
        let file_has_token = || {
            std::fs::read_dir(dir.path().join("state"))
                .unwrap()
                .any(|entry| {
                    let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                    bytes
                        .windows(20)
                        .any(|window| window == token.expose_secret().as_bytes())
                })
        };
        keep(&mut database, home, token.expose_secret());
        assert!(file_has_token());
        database.clear_device_token_if(home, &token).unwrap();
        // Closing writes the log back and removes it.
        drop(database);
        assert!(!file_has_token());
    }
}
