//! A text file of bounded size, read without waiting for anybody.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Why there is no text.
#[derive(Debug)]
pub(crate) enum NoText {
    /// The system refused.
    Unreadable(io::Error),
    /// It is a folder, a pipe or a device.
    NotAFile,
    /// It is larger than the reader takes.
    TooLarge,
    /// It is not UTF-8.
    NotUtf8,
}

/// An open file. What is known of it is of the file that will be read, whatever takes its place.
#[derive(Debug)]
pub(crate) struct TextFile {
    file: File,
    /// Who owns it, and who else may read it.
    pub(crate) metadata: Metadata,
}

impl TextFile {
    /// Opens a regular file; `None` where there is none. `flags` are added to those of the open.
    pub(crate) fn open(path: &Path, flags: OFlag) -> Result<Option<Self>, NoText> {
        // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((flags | OFlag::O_NONBLOCK).bits())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NoText::Unreadable(error)),
        };
        let metadata = file.metadata().map_err(NoText::Unreadable)?;
        if metadata.is_file() {
            Ok(Some(Self { file, metadata }))
        } else {
            Err(NoText::NotAFile)
        }
    }

    /// Reads at most so many bytes.
    pub(crate) fn read(self, limit_bytes: u64) -> Result<String, NoText> {
        let mut bytes = Vec::new();
        self.file
            .take(limit_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(NoText::Unreadable)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(NoText::TooLarge);
        }
        String::from_utf8(bytes).map_err(|_| NoText::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_bounded_size_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let read = |limit| match TextFile::open(&path, OFlag::empty()) {
            Ok(Some(file)) => file.read(limit).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        assert!(matches!(read(4), Ok(None)));
        std::fs::write(&path, "text").unwrap();
        assert!(matches!(read(4), Ok(Some(text)) if text == "text"));
        assert!(matches!(read(3), Err(NoText::TooLarge)));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(read(4), Err(NoText::NotUtf8)));
        std::fs::remove_file(&path).unwrap();
        // Nobody writes to it, and nobody waits for that.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(4), Err(NoText::NotAFile)));
        assert!(matches!(
            TextFile::open(folder.path(), OFlag::empty()),
            Err(NoText::NotAFile)
        ));
    }
}
