//! The working directory of a command, held on to by what it is rather than what it is called.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use approvals::plan::DirectoryIdentity;
use nix::fcntl::OFlag;

use super::{BindingRefusal, mutability};
use crate::host::Host;
use crate::run::HeldDescriptor;

/// A working directory as it was when it was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CwdSnapshot {
    path: PathBuf,
    identity: DirectoryIdentity,
}

impl CwdSnapshot {
    /// Checks a request's working directory, the node's own if it names none.
    ///
    /// # Errors
    /// A path that is no directory, or that leads through a symlink which this user could change.
    pub fn capture(host: &Host<'_>, cwd: Option<&str>) -> Result<Self, BindingRefusal> {
        Self::at(&Host::absolute(host.cwd(), cwd.unwrap_or_default()))
    }

    fn at(path: &Path) -> Result<Self, BindingRefusal> {
        let missing = |_| BindingRefusal::CwdMissing;
        let link = path.symlink_metadata().map_err(missing)?;
        let target = path.metadata().map_err(missing)?;
        let real = path.canonicalize().map_err(missing)?;
        let real_target = real.metadata().map_err(missing)?;
        if !target.is_dir() {
            return Err(BindingRefusal::CwdNotDirectory);
        }
        if link.is_symlink() || mutability::has_mutable_symlink(path) {
            return Err(BindingRefusal::CwdNotCanonical);
        }
        let identity = identity(&target);
        if identity != self::identity(&link) || identity != self::identity(&real_target) {
            return Err(BindingRefusal::CwdMismatch);
        }
        Ok(Self {
            path: real,
            identity,
        })
    }

    /// The real path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which directory it was.
    #[must_use]
    pub fn identity(&self) -> DirectoryIdentity {
        self.identity
    }

    /// Whether the path still means the same directory.
    ///
    /// # Errors
    /// [`BindingRefusal::CwdChanged`].
    pub fn recheck(&self) -> Result<(), BindingRefusal> {
        match Self::at(&self.path) {
            Ok(now) if now.identity == self.identity => Ok(()),
            Ok(_) | Err(_) => Err(BindingRefusal::CwdChanged),
        }
    }
}

impl CwdSnapshot {
    /// Opens the directory, if the path still means the same one.
    ///
    /// # Errors
    /// [`BindingRefusal::CwdChanged`].
    pub(crate) fn hold(&self) -> Result<HeldDescriptor, BindingRefusal> {
        self.recheck()?;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECTORY.bits())
            .open(&self.path)
            .map_err(|_| BindingRefusal::CwdChanged)?;
        match opened.metadata() {
            Ok(now) if identity(&now) == self.identity => Ok(HeldDescriptor::from(opened)),
            Ok(_) | Err(_) => Err(BindingRefusal::CwdChanged),
        }
    }
}

/// Which directory a command's unchecked working directory is, and its real path.
pub(crate) fn resolve_unchecked(
    host: &Host<'_>,
    cwd: Option<&str>,
) -> Result<CwdSnapshot, BindingRefusal> {
    let inaccessible = |_| BindingRefusal::CwdInaccessible;
    let path = host
        .cwd()
        .join(cwd.unwrap_or_default())
        .canonicalize()
        .map_err(inaccessible)?;
    let identity = identity(&path.metadata().map_err(inaccessible)?);
    Ok(CwdSnapshot { path, identity })
}

fn identity(metadata: &Metadata) -> DirectoryIdentity {
    let age = metadata
        .created()
        .ok()
        .and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    DirectoryIdentity {
        device: metadata.dev(),
        inode: metadata.ino(),
        created_ns: age.and_then(|age| i64::try_from(age.as_nanos()).ok()),
    }
}
