//! A descriptor that a command finds something by, open until the command is over.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// A file or folder that is held open. Commands do not inherit it.
#[derive(Clone, Debug)]
pub struct HeldDescriptor(Arc<File>);

impl From<File> for HeldDescriptor {
    fn from(file: File) -> Self {
        Self(Arc::new(file))
    }
}

/// What is held is the same if it is held by the same descriptor.
impl PartialEq for HeldDescriptor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for HeldDescriptor {}

impl HeldDescriptor {
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
