//! The files that shared credentials may be in, and whether they are still what was read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What tells a file that was written or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FileState {
    /// It changed while it was read, so nobody knows what was read.
    Unsure,
    Missing,
    There {
        device: u64,
        inode: u64,
        size: u64,
        /// The time of its last change, in seconds and nanoseconds since 1970.
        changed: (i64, i64),
    },
}

impl FileState {
    fn of(file: &PathBuf) -> Self {
        match fs::metadata(file) {
            Err(_) => Self::Missing,
            Ok(metadata) => Self::There {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            },
        }
    }

    fn unless_changed_since(self, time: (i64, i64)) -> Self {
        match self {
            Self::There { changed, .. } if changed >= time => Self::Unsure,
            known => known,
        }
    }
}

/// The files, as they were when they were last looked at.
#[derive(Debug, Clone)]
pub struct CredentialFiles {
    files: Arc<[PathBuf]>,
    seen: Vec<FileState>,
}

impl CredentialFiles {
    /// The files as they are now. They were read at some time after `since`, so whatever changed
    /// since then counts as changed.
    #[must_use]
    pub fn read_since(files: Vec<PathBuf>, since: SystemTime) -> Self {
        let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let since = (seconds, i64::from(since.subsec_nanos()));
        let seen = files.iter().map(FileState::of);
        Self {
            seen: seen
                .map(|state| state.unless_changed_since(since))
                .collect(),
            files: files.into(),
        }
    }

    /// Looks at the files again, and says whether one of them is another one than before. A disk may
    /// be slow.
    pub(crate) fn look(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(FileState::of).collect();
        let is_changed = now != self.seen;
        self.seen = now;
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_made_or_removed_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let [written, made, other] =
            ["written", "made", "other"].map(|name| folder.path().join(name));
        fs::write(&written, "a").unwrap();
        let paths = vec![written.clone(), made.clone()];
        let changed = fs::metadata(&written).unwrap().modified().unwrap();
        let later = changed + std::time::Duration::from_nanos(1);
        let mut files = CredentialFiles::read_since(paths.clone(), later);
        assert!(!files.look());
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&written, "ab").unwrap(),
            &|| {
                fs::write(&other, "ab").unwrap();
                fs::rename(&other, &written).unwrap();
            },
            &|| fs::write(&made, "").unwrap(),
            &|| fs::remove_file(&written).unwrap(),
        ];
        for change in changes {
            change();
            assert!(files.look());
            assert!(!files.look());
        }
        fs::write(&written, "a").unwrap();
        let mut files = CredentialFiles::read_since(paths, changed);
        assert!(files.look(), "it was written when it may have been read");
        assert!(!files.look());
    }
}
