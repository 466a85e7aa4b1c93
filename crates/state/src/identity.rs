//! The device identity at rest: made once, checked on every read.

use protocol::identity::{DeviceIdentity, IdentityError};
use rusqlite::{OptionalExtension as _, Row, Transaction};
use secrecy::{ExposeSecret as _, SecretString};

use crate::StateError;
use crate::database::{Database, Durability, from_millis, to_millis};

/// The identity of this device, as stored.
#[derive(Debug)]
pub struct StoredIdentity {
    /// The key pair, with the device id that follows from it.
    pub identity: DeviceIdentity,
    /// When it was made, unix milliseconds.
    pub created_at_ms: u64,
}

/// The columns of a row, not yet believed.
pub(crate) struct IdentityRow {
    device_id: String,
    private_key_pem: SecretString,
    public_key_pem: String,
    created_at_ms: i64,
}

impl IdentityRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            device_id: row.get(0)?,
            private_key_pem: SecretString::from(row.get::<_, String>(1)?),
            public_key_pem: row.get(2)?,
            created_at_ms: row.get(3)?,
        })
    }

    pub(crate) fn of(identity: &DeviceIdentity, created_at_ms: u64) -> Result<Self, IdentityError> {
        Ok(Self {
            device_id: identity.device_id().as_str().to_owned(),
            private_key_pem: identity.private_key_pem()?,
            public_key_pem: identity.public_key_pem()?,
            created_at_ms: to_millis(created_at_ms),
        })
    }

    pub(crate) fn insert(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute(
            "INSERT INTO device_identity
             (slot, device_id, private_key_pem, public_key_pem, created_at_ms)
             VALUES (1, ?1, ?2, ?3, ?4)",
            (
                &self.device_id,
                self.private_key_pem.expose_secret(),
                &self.public_key_pem,
                self.created_at_ms,
            ),
        )?;
        Ok(())
    }

    pub(crate) fn select(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Self>> {
        transaction
            .query_row(
                "SELECT device_id, private_key_pem, public_key_pem, created_at_ms
                 FROM device_identity",
                [],
                Self::read,
            )
            .optional()
    }
}

impl Database {
    /// The identity of this device, or `None` when it has none yet.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] when the stored id or public key is not that of the stored private
    /// key: such a node would be a stranger to its gateway.
    pub fn identity(&self) -> Result<Option<StoredIdentity>, StateError> {
        let row = self.read(IdentityRow::select)?;
        row.map(|row| self.validated(row)).transpose()
    }

    /// The identity of this device; `candidate` becomes it when there is none yet.
    ///
    /// Of two processes that start at once, both get the identity of the first.
    ///
    /// # Errors
    /// Those of [`Database::identity`], and of writing.
    pub fn identity_or_insert(
        &mut self,
        candidate: &DeviceIdentity,
        now_ms: u64,
    ) -> Result<StoredIdentity, StateError> {
        let candidate = IdentityRow::of(candidate, now_ms).map_err(|error| {
            StateError::corrupt(self.path(), format!("device identity: {error}"))
        })?;
        let row = self.write(Durability::Full, |transaction| {
            if let Some(row) = IdentityRow::select(transaction)? {
                return Ok(row);
            }
            candidate.insert(transaction)?;
            Ok(candidate)
        })?;
        self.validated(row)
    }

    fn validated(&self, row: IdentityRow) -> Result<StoredIdentity, StateError> {
        let corrupt = |detail: String| StateError::corrupt(self.path(), detail);
        let identity = DeviceIdentity::from_private_key_pem(&row.private_key_pem)
            .map_err(|error| corrupt(format!("device identity: {error}")))?;
        if identity.device_id().as_str() != row.device_id {
            return Err(corrupt(
                "the device id is not that of the device's key".to_owned(),
            ));
        }
        let public_key_pem = identity
            .public_key_pem()
            .map_err(|error| corrupt(format!("device identity: {error}")))?;
        if public_key_pem != row.public_key_pem {
            return Err(corrupt(
                "the public key is not that of the device's key".to_owned(),
            ));
        }
        Ok(StoredIdentity {
            identity,
            created_at_ms: from_millis(row.created_at_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        (dir, database)
    }

    #[test]
    fn the_first_identity_stays() {
        let (_dir, mut database) = database();
        assert!(database.identity().unwrap().is_none());
        let first = DeviceIdentity::generate().unwrap();
        let second = DeviceIdentity::generate().unwrap();
        for (candidate, now_ms) in [(&first, 1), (&second, 2)] {
            let stored = database.identity_or_insert(candidate, now_ms).unwrap();
            assert_eq!(stored.identity.device_id(), first.device_id());
            assert_eq!(stored.identity.sign("x"), first.sign("x"));
            assert_eq!(stored.created_at_ms, 1);
        }
        let read = database.identity().unwrap().unwrap();
        assert_eq!(read.identity.device_id(), first.device_id());
    }

    #[test]
    fn an_identity_whose_parts_do_not_belong_together_is_corrupt() {
        let other = DeviceIdentity::generate().unwrap();
        let changes = [
            ("device_id", other.device_id().to_string()),
            ("public_key_pem", other.public_key_pem().unwrap()),
            (
                "private_key_pem",
                other.private_key_pem().unwrap().expose_secret().to_owned(),
            ),
            ("private_key_pem", "not a key".to_owned()),
        ];
        for (column, value) in changes {
            let (_dir, mut database) = database();
            let identity = DeviceIdentity::generate().unwrap();
            database.identity_or_insert(&identity, 1).unwrap();
            database
                .write(Durability::Full, |transaction| {
                    let sql = format!("UPDATE device_identity SET {column} = ?1");
                    transaction.execute(&sql, [&value])
                })
                .unwrap();
            for error in [
                database.identity().unwrap_err(),
                database.identity_or_insert(&identity, 2).unwrap_err(),
            ] {
                assert!(
                    matches!(error, StateError::Corrupt { .. }),
                    "{column}: {error:?}"
                );
                assert!(
                    !error.to_string().contains(value.trim()),
                    "{column} is shown: {error}"
                );
            }
        }
    }
}
