//! Service files on disk: written whole or not at all, with the mode that they are meant to have.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Mode of what only its owner may read: secrets, and units, as upstream has them (service §2.1).
pub(crate) const PRIVATE_FILE: u32 = 0o600;
/// Mode of what everybody may read, such as a system unit.
pub(crate) const PUBLIC_FILE: u32 = 0o644;

/// Mode of folders that are made for private files.
const PRIVATE_FOLDER: u32 = 0o700;
/// Mode of folders that are made for public files.
const PUBLIC_FOLDER: u32 = 0o755;

/// Writes a file beside its place and moves it there; a symlink at its place is replaced.
///
/// # Errors
/// Those of the file system.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("it names no file"))?;
    make_folder(
        folder,
        if mode == PRIVATE_FILE {
            PRIVATE_FOLDER
        } else {
            PUBLIC_FOLDER
        },
    )?;
    // A temporary file is private from its first moment on.
    let mut file = tempfile::Builder::new()
        .prefix(".openclaw-node-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Makes a folder and those above it; one that is there keeps its mode.
///
/// # Errors
/// Those of the file system.
pub(crate) fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(folder)
}

/// Removes a file; says whether there was one.
///
/// # Errors
/// Those of the file system.
pub(crate) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps a copy of a file beside it, for its owner only.
///
/// # Errors
/// Those of the file system.
pub(crate) fn back_up(path: &Path) -> io::Result<PathBuf> {
    let copy = backup_path(path);
    write(&copy, &fs::read_to_string(path)?, PRIVATE_FILE)?;
    Ok(copy)
}

/// Where the copy of a replaced file is: `<path>.bak`, as upstream has it.
#[must_use]
pub(crate) fn backup_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/unit");
        write(&path, "one", PUBLIC_FILE).unwrap();
        assert_eq!(mode(&path), 0o644);
        write(&path, "two", PRIVATE_FILE).unwrap();
        assert_eq!(
            (mode(&path), fs::read_to_string(&path).unwrap().as_str()),
            (0o600, "two")
        );
        let copy = back_up(&path).unwrap();
        assert_eq!(copy, folder.path().join("a/b/unit.bak"));
        assert_eq!(mode(&copy), 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }

    #[test]
    fn a_symlink_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, path) = (folder.path().join("target"), folder.path().join("unit"));
        fs::write(&target, "untouched").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        write(&path, "mine", PRIVATE_FILE).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
    }
}
