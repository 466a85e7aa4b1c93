//! The folder that holds the database and the lock, private to this user.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::StateError;

/// Only this user may list or enter the folder.
const FOLDER_MODE: u32 = 0o700;

/// Only this user may read or write a file in it.
pub(crate) const FILE_MODE: u32 = 0o600;

/// The database inside a state folder.
pub(crate) fn database_path(state_dir: &Path) -> PathBuf {
    state_dir.join("state").join("openclaw-node.sqlite")
}

/// The lock file inside a state folder.
pub(crate) fn lock_path(state_dir: &Path) -> PathBuf {
    state_dir.join("state").join("openclaw-node.lock")
}

/// Makes `<stateDir>/state`, and `<stateDir>` itself where it is missing, for this user only.
///
/// A `state` folder that others may enter is closed to them: it holds the device's private key.
/// An existing `<stateDir>` keeps its mode, because the operator may have chosen a shared place.
pub(crate) fn prepare(state_dir: &Path) -> Result<(), StateError> {
    make_private(state_dir)?;
    let folder = state_dir.join("state");
    make_private(&folder)?;
    let metadata = fs::metadata(&folder).map_err(|error| StateError::unusable(&folder, error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        set_mode(&folder, FOLDER_MODE)?;
    }
    Ok(())
}

fn make_private(folder: &Path) -> Result<(), StateError> {
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(StateError::NotADirectory {
            path: folder.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(|error| StateError::unusable(folder, error))?;
            // The umask may have taken bits that the owner needs.
            set_mode(folder, FOLDER_MODE)?;
            flush_entry(folder);
            Ok(())
        }
        Err(error) => Err(StateError::unusable(folder, error)),
    }
}

/// Makes a new name survive a power loss, where the file system can do that.
pub(crate) fn flush_entry(path: &Path) {
    let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    else {
        return;
    };
    if let Err(error) = File::open(parent).and_then(|folder| folder.sync_all()) {
        tracing::debug!(path = %parent.display(), %error, "cannot flush the folder to disk");
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), StateError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| StateError::unusable(path, error))
}
