//! A log file that is rotated by size, for systems whose service manager does not do it: launchd.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;
use nix::unistd::dup2_stderr;

/// The size at which a file is put aside, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How many files are kept beside the current one: `node.log.1` is the latest of them.
const KEPT: u32 = 3;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}", path = .path.display())]
pub(super) struct UnwritableLog {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    #[expect(
        clippy::disallowed_types,
        reason = "any thread may log, and nothing is awaited while it is held"
    )]
    current: std::sync::Mutex<Current>,
}

impl RotatingFile {
    /// Opens the file, and makes it and its folder where they are missing.
    pub(super) fn open(path: impl Into<PathBuf>) -> Result<Self, UnwritableLog> {
        Self::with_limit(path.into(), MAX_BYTES)
    }

    fn with_limit(path: PathBuf, max_bytes: u64) -> Result<Self, UnwritableLog> {
        match open_current(&path) {
            Ok(current) => Ok(Self {
                path,
                max_bytes,
                #[expect(clippy::disallowed_types, reason = "see the member")]
                current: std::sync::Mutex::new(current),
            }),
            Err(source) => Err(UnwritableLog { path, source }),
        }
    }

    /// Appends a line. What the disk does not take is lost: there is nobody to tell.
    pub(super) fn write(&self, line: &str) {
        let mut current = self
            .current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = line.len() as u64;
        if current.bytes > 0 && current.bytes.saturating_add(bytes) > self.max_bytes {
            // A file that cannot be put aside grows on: a long log is better than none.
            rotate(&self.path).ok();
            if let Ok(fresh) = open_current(&self.path) {
                follow(&current.file, &fresh.file);
                *current = fresh;
            }
        }
        if current.file.write_all(line.as_bytes()).is_ok() {
            current.bytes = current.bytes.saturating_add(bytes);
        }
    }
}

fn open_current(path: &Path) -> io::Result<Current> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Current { file, bytes })
}

/// Takes standard error along, where launchd has opened the same file for it: what is written there
/// when the node crashes belongs to the current file.
fn follow(from: &File, to: &File) {
    let is_same = || {
        let (stderr, from) = (fstat(io::stderr().as_fd())?, fstat(from)?);
        nix::Result::Ok((stderr.st_dev, stderr.st_ino) == (from.st_dev, from.st_ino))
    };
    if is_same() == Ok(true) {
        dup2_stderr(to).ok();
    }
}

/// Renames every file to the next number; the last one goes.
fn rotate(path: &Path) -> io::Result<()> {
    for number in (1..KEPT).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(folder: &Path) -> Vec<(String, u64)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, entry.metadata().unwrap().len())
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn however_much_is_written_the_files_stay_within_their_bound() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Library/Logs/openclaw");
        let log = RotatingFile::with_limit(folder.join("node.log"), 1000).unwrap();
        for number in 0..1000 {
            log.write(&format!("{number:09}\n"));
        }
        let names = ["node.log", "node.log.1", "node.log.2", "node.log.3"];
        let found = files(&folder);
        assert_eq!(found, names.map(|name| (name.to_owned(), 1000)));
        let newest = fs::read_to_string(folder.join("node.log")).unwrap();
        assert!(newest.ends_with("000000999\n"));
        let oldest = fs::read_to_string(folder.join("node.log.3")).unwrap();
        assert!(
            oldest.starts_with("000000600\n"),
            "no line is lost or torn between files"
        );
        let mode = fs::metadata(folder.join("node.log")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn what_an_earlier_process_wrote_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        fs::write(&path, "x".repeat(990)).unwrap();
        let log = RotatingFile::with_limit(path.clone(), 1000).unwrap();
        log.write("0123456789abcdef\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "0123456789abcdef\n");
        assert_eq!(fs::metadata(numbered(&path, 1)).unwrap().len(), 990);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = RotatingFile::open(file.join("node.log")).unwrap_err();
        assert!(refused.to_string().contains("file/node.log"), "{refused}");
    }
}
