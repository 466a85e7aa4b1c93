//! The last terminal auth failure, so that a restarted node does not hammer its gateway (D19).

use rusqlite::{OptionalExtension as _, Transaction};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::StateError;
use crate::database::{Database, Durability, from_millis, to_millis};

/// How often the digest is hashed again: milliseconds for us, but a guess at a weak password
/// from a leaked database costs as much each time.
const DIGEST_ROUNDS: u32 = 1 << 12;

/// What a connect attempt presents: another gateway or another secret is worth a try at once.
#[derive(Debug, Clone, Copy)]
pub struct PresentedCredential<'a> {
    /// The endpoint, `ws(s)://host:port/path`.
    pub gateway_scope: &'a str,
    /// Every secret of the attempt, in a fixed order.
    pub secrets: &'a [&'a SecretString],
}

/// The remembered failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthFailure {
    /// The gateway's detail code, such as `AUTH_TOKEN_MISMATCH`.
    pub detail_code: String,
    /// How often in a row this credential has failed; at least 1.
    pub attempts: u32,
    /// When it last failed, unix milliseconds.
    pub at_ms: u64,
}

struct FailureRow {
    failure: AuthFailure,
    salt: [u8; 32],
    digest: [u8; 32],
}

impl FailureRow {
    fn select(transaction: &Transaction<'_>) -> rusqlite::Result<Option<Self>> {
        transaction
            .query_row(
                "SELECT detail_code, attempts, at_ms, credential_salt, credential_digest
                 FROM auth_failure",
                [],
                |row| {
                    Ok(Self {
                        failure: AuthFailure {
                            detail_code: row.get(0)?,
                            attempts: row.get(1)?,
                            at_ms: from_millis(row.get(2)?),
                        },
                        salt: row.get(3)?,
                        digest: row.get(4)?,
                    })
                },
            )
            .optional()
    }

    fn is_of(&self, credential: PresentedCredential<'_>) -> bool {
        digest(&self.salt, credential) == self.digest
    }
}

fn digest(salt: &[u8; 32], credential: PresentedCredential<'_>) -> [u8; 32] {
    let scope = credential.gateway_scope.as_bytes();
    let secrets = credential
        .secrets
        .iter()
        .map(|secret| secret.expose_secret().as_bytes());
    let mut hasher = Sha256::new_with_prefix(salt);
    for part in std::iter::once(scope).chain(secrets) {
        // The length keeps "ab" + "c" and "a" + "bc" apart.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut digest: [u8; 32] = hasher.finalize().into();
    for _ in 0..DIGEST_ROUNDS {
        digest = Sha256::new_with_prefix(salt)
            .chain_update(digest)
            .finalize()
            .into();
    }
    digest
}

impl Database {
    /// The remembered failure, if it is one of this very credential.
    ///
    /// # Errors
    /// Those of reading.
    pub fn auth_failure_of(
        &self,
        credential: PresentedCredential<'_>,
    ) -> Result<Option<AuthFailure>, StateError> {
        let row = self.read(FailureRow::select)?;
        Ok(row
            .filter(|row| row.is_of(credential))
            .map(|row| row.failure))
    }

    /// Remembers a terminal failure in place of the last one, and counts those in a row with the
    /// same credential. Of the credential only a salted digest is kept.
    ///
    /// # Errors
    /// [`StateError::NoRandomness`], and those of writing.
    pub fn record_auth_failure(
        &mut self,
        detail_code: &str,
        credential: PresentedCredential<'_>,
        now_ms: u64,
    ) -> Result<AuthFailure, StateError> {
        let attempts = self
            .auth_failure_of(credential)?
            .map_or(1, |previous| previous.attempts.saturating_add(1));
        let mut salt = [0_u8; 32];
        getrandom::fill(&mut salt).map_err(StateError::NoRandomness)?;
        let digest = digest(&salt, credential);
        self.write(Durability::Full, |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO auth_failure
                 (slot, detail_code, credential_salt, credential_digest, attempts, at_ms)
                 VALUES (1, ?1, ?2, ?3, ?4, ?5)",
                (detail_code, salt, digest, attempts, to_millis(now_ms)),
            )
        })?;
        Ok(AuthFailure {
            detail_code: detail_code.to_owned(),
            attempts,
            at_ms: now_ms,
        })
    }

    /// Forgets the failure: a connect succeeded. Writes nothing when there is none.
    ///
    /// # Errors
    /// Those of writing.
    pub fn clear_auth_failure(&mut self) -> Result<(), StateError> {
        if self.read(FailureRow::select)?.is_some() {
            self.write(Durability::Full, |transaction| {
                transaction.execute("DELETE FROM auth_failure", [])
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "ws://127.0.0.1:18789";

    fn database() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        (dir, database)
    }

    fn presented<'a>(secrets: &'a [&'a SecretString]) -> PresentedCredential<'a> {
        PresentedCredential {
            gateway_scope: SCOPE,
            secrets,
        }
    }

    #[test]
    fn failures_of_the_same_credential_are_counted() {
        let (dir, mut database) = database();
        let wrong = SecretString::from("wrong");
        let secrets = [&wrong];
        assert_eq!(database.auth_failure_of(presented(&secrets)).unwrap(), None);
        for attempts in 1..=3 {
            let at_ms = u64::from(attempts) * 1000;
            let expected = AuthFailure {
                detail_code: "AUTH_TOKEN_MISMATCH".to_owned(),
                attempts,
                at_ms,
            };
            let recorded = database
                .record_auth_failure("AUTH_TOKEN_MISMATCH", presented(&secrets), at_ms)
                .unwrap();
            assert_eq!(recorded, expected);
            // Each attempt is another process.
            drop(database);
            database = Database::open(dir.path()).unwrap();
            assert_eq!(
                database.auth_failure_of(presented(&secrets)).unwrap(),
                Some(expected)
            );
        }
        database.clear_auth_failure().unwrap();
        assert_eq!(database.auth_failure_of(presented(&secrets)).unwrap(), None);
        database.clear_auth_failure().unwrap();
    }

    #[test]
    fn anything_else_about_the_credential_is_a_new_try() {
        let (_dir, mut database) = database();
        let [a, b, ab, empty] = ["a", "b", "ab", ""].map(SecretString::from);
        let failed = [&a, &b];
        for _ in 0..2 {
            database
                .record_auth_failure("AUTH_TOKEN_MISMATCH", presented(&failed), 1)
                .unwrap();
        }
        let others: [&[&SecretString]; 6] = [
            &[],
            &[&a],
            &[&b, &a],
            &[&ab],
            &[&ab, &empty],
            &[&a, &b, &empty],
        ];
        for secrets in others {
            let lookup = database.auth_failure_of(presented(secrets)).unwrap();
            assert_eq!(lookup, None, "{} secrets", secrets.len());
        }
        let elsewhere = PresentedCredential {
            gateway_scope: "ws://127.0.0.1:18790",
            secrets: &failed,
        };
        assert_eq!(database.auth_failure_of(elsewhere).unwrap(), None);

        let changed = [&ab];
        let recorded = database
            .record_auth_failure("AUTH_TOKEN_MISMATCH", presented(&changed), 2)
            .unwrap();
        assert_eq!(recorded.attempts, 1);
        assert_eq!(database.auth_failure_of(presented(&failed)).unwrap(), None);
    }

    #[test]
    fn a_leaked_database_shows_neither_the_secret_nor_that_two_nodes_share_it() {
        let secret = SecretString::from("hunter2-gateway-token");
        let secrets = [&secret];
        let digests = [(); 2].map(|()| {
            let (dir, mut database) = database();
            database
                .record_auth_failure("AUTH_TOKEN_MISMATCH", presented(&secrets), 1)
                .unwrap();
            let row = database.read(FailureRow::select).unwrap().unwrap();
            drop(database);
            for entry in std::fs::read_dir(dir.path().join("state")).unwrap() {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                assert!(!bytes.windows(7).any(|window| window == b"hunter2"));
            }
            row.digest
        });
        assert_ne!(digests[0], digests[1]);
    }
}
