//! What a system unit needs beside itself: a user of its own, and files of secrets.

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::User;
use secrecy::{ExposeSecret as _, SecretString};

use super::session::in_one_line;
use crate::environment_file::EnvironmentFile;
use crate::files::{self, PRIVATE_FILE};
use crate::manager::ServiceError;
use crate::tools::{QUESTION, Tools};

/// The user that a system unit runs as.
pub const SYSTEM_USER: &str = "openclaw-node";
/// The state folder of a system unit, which is also its user's home.
pub const SYSTEM_STATE_DIR: &str = "/var/lib/openclaw-node";

/// The user as `sysusers.d(5)` describes one.
const SYSTEM_USER_LINE: &str =
    "u openclaw-node - \"OpenClaw node host\" /var/lib/openclaw-node /usr/sbin/nologin";
/// The same for those who have no systemd-sysusers.
const SYSTEM_USER_COMMAND: &str = "useradd --system --user-group --home-dir /var/lib/openclaw-node --shell /usr/sbin/nologin openclaw-node";

/// Makes the user where there is none.
pub(super) fn ensure(tools: &Tools) -> Result<(), ServiceError> {
    let is_there = || matches!(User::from_name(SYSTEM_USER), Ok(Some(_)));
    if is_there() {
        return Ok(());
    }
    let reason = match tools.run("systemd-sysusers", ["--inline", SYSTEM_USER_LINE], QUESTION) {
        Ok(answer) if answer.is_success() && is_there() => return Ok(()),
        Ok(answer) => in_one_line(&answer.stderr),
        Err(error) => error.to_string(),
    };
    Err(ServiceError::NoAccount {
        user: SYSTEM_USER,
        reason,
        command: SYSTEM_USER_COMMAND,
    })
}

/// Reads the secrets, one file each.
pub(super) fn load_secrets(folder: &Path, names: &[&str]) -> Result<EnvironmentFile, ServiceError> {
    let mut secrets = EnvironmentFile::default();
    for name in names {
        let path = folder.join(name);
        match fs::read_to_string(&path).map(SecretString::from) {
            Ok(text) => secrets.set(name, text.expose_secret())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ServiceError::File { path, source }),
        }
    }
    Ok(secrets)
}

/// Writes each secret into a file of its own, for root only, and removes those that are gone.
pub(super) fn store_secrets(
    folder: &Path,
    names: &[&str],
    secrets: &EnvironmentFile,
) -> Result<(), ServiceError> {
    for name in names {
        let path = folder.join(name);
        let stored = match secrets.get(name) {
            Some(secret) => files::write(&path, secret.expose_secret(), PRIVATE_FILE),
            None => files::remove(&path).map(|_| ()),
        };
        stored.map_err(|source| ServiceError::File { path, source })?;
    }
    // Only an empty folder goes, and it need not be there.
    fs::remove_dir(folder).ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_files_of_their_own_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("openclaw-node");
        let names = ["TOKEN", "PASSWORD"];
        assert!(load_secrets(&folder, &names).unwrap().is_empty());
        let mut secrets = EnvironmentFile::default();
        secrets.set("TOKEN", "t $1").unwrap();
        store_secrets(&folder, &names, &secrets).unwrap();
        assert_eq!(fs::read_to_string(folder.join("TOKEN")).unwrap(), "t $1");
        let loaded = load_secrets(&folder, &names).unwrap();
        assert_eq!(loaded.names().collect::<Vec<_>>(), ["TOKEN"]);
        store_secrets(&folder, &names, &EnvironmentFile::default()).unwrap();
        assert!(!folder.exists());
    }
}
