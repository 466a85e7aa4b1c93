//! Folders that only this user may look into.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// Makes a folder and what leads to it, for this user alone.
///
/// # Errors
/// The system's.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Writes a new file that only this user may read.
///
/// # Errors
/// The system's, also where there is one already.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(content)
}

/// Nothing can be passed on safely.
#[derive(Debug, thiserror::Error)]
#[error(
    "neither {} nor {} can be made a folder that only this user can write to; remove the latter",
    .0.display(),
    .1.display()
)]
pub struct NoFolder(PathBuf, PathBuf);

/// Where to put what is passed on: `/tmp/openclaw`, or a folder with the user's number in its name
/// where the former is somebody else's. Anybody can make either before.
///
/// # Errors
/// [`NoFolder`].
pub(crate) fn temporary_folder(base: &Path) -> Result<PathBuf, NoFolder> {
    let preferred = base.join("openclaw");
    if is_made(&preferred) {
        return Ok(preferred);
    }
    let own = base.join(format!("openclaw-{}", Uid::current()));
    if is_made(&own) {
        return Ok(own);
    }
    Err(NoFolder(preferred, own))
}

fn is_made(folder: &Path) -> bool {
    // What is there may be somebody else's, or a link, so it is looked at in any case.
    make_private(folder).is_ok() && is_ours(folder)
}

fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == Uid::current().as_raw()
            && metadata.permissions().mode() & 0o022 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_can_write_to_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        let own = base.join(format!("openclaw-{}", Uid::current()));
        let preferred = base.join("openclaw");
        assert_eq!(temporary_folder(base).unwrap(), preferred);
        fs::set_permissions(&preferred, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(temporary_folder(base).unwrap(), own);
        fs::set_permissions(&preferred, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(temporary_folder(base).unwrap(), preferred);

        fs::remove_dir(&preferred).unwrap();
        std::os::unix::fs::symlink(base, &preferred).unwrap();
        assert_eq!(temporary_folder(base).unwrap(), own);
        fs::set_permissions(&own, fs::Permissions::from_mode(0o722)).unwrap();
        let error = temporary_folder(base).unwrap_err().to_string();
        assert!(error.contains("openclaw-"), "{error}");
        fs::remove_dir(&own).unwrap();
        std::os::unix::fs::symlink(base, &own).unwrap();
        temporary_folder(base).unwrap_err();
    }
}
