//! Folders that only this user may look into.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
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

/// Where to put what is passed on: `/tmp/openclaw` if it is this user's or can be made, otherwise a
/// folder with the user's number in its name.
#[must_use]
pub(crate) fn temporary_folder(base: &Path) -> PathBuf {
    let preferred = base.join("openclaw");
    if is_ours(&preferred) || (!preferred.exists() && make_private(&preferred).is_ok()) {
        return preferred;
    }
    base.join(format!("openclaw-{}", Uid::current()))
}

fn is_ours(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|metadata| {
        metadata.is_dir()
            && metadata.uid() == Uid::current().as_raw()
            && metadata.permissions().mode() & 0o022 == 0
    })
}
