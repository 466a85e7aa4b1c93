//! One node per state folder: two with the same identity would take each other's tokens.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::{StateError, folder};

/// The longest text a process id can take, in bytes, with room to spare.
const PID_TEXT_LIMIT: u64 = 32;

/// The claim of one running node on a state folder.
///
/// It lasts as long as this value, and the kernel ends it when the process dies, however it dies.
/// The file stays behind: removing it would let two processes lock two different files.
#[derive(Debug)]
pub struct StateLock {
    _held: Flock<File>,
}

impl StateLock {
    /// Claims `<stateDir>/state/openclaw-node.lock` and writes this process's id into it.
    ///
    /// # Errors
    /// [`StateError::Locked`] names the process that holds it; [`StateError::NotADirectory`] and
    /// [`StateError::Unusable`] when there is no folder for it.
    pub fn acquire(state_dir: &Path) -> Result<Self, StateError> {
        folder::prepare(state_dir)?;
        let path = folder::lock_path(state_dir);
        let unusable = |error| StateError::unusable(&path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(folder::FILE_MODE)
            .open(&path)
            .map_err(unusable)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                write_pid(&mut held).map_err(unusable)?;
                Ok(Self { _held: held })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let pid = read_pid(&mut file).map_err(unusable)?;
                Err(StateError::Locked { path, pid })
            }
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }
}

/// The process that holds the claim on a state folder; `None` when there is none, or the system
/// does not tell. Looks without trying to lock, which could make a starting node give up.
#[must_use]
pub fn lock_holder(state_dir: &Path) -> Option<u32> {
    let mut file = File::open(folder::lock_path(state_dir)).ok()?;
    let inode = file.metadata().ok()?.ino();
    let pid = read_pid(&mut file).ok()??;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .any(|line| is_lock_of(line, pid, inode))
        .then_some(pid)
}

/// Whether a line of `/proc/locks` is a held lock of this process on this inode, as in
/// `1: FLOCK  ADVISORY  WRITE 707 00:19:3141 0 EOF`. File systems show devices of their own
/// making there, so the device is not compared.
fn is_lock_of(line: &str, pid: u32, inode: u64) -> bool {
    let mut words = line.split_whitespace().skip(1);
    words.next() == Some("FLOCK")
        && words.nth(2).and_then(|word| word.parse().ok()) == Some(pid)
        && words
            .next()
            .and_then(|place| place.rsplit(':').next()?.parse().ok())
            == Some(inode)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(folder::FILE_MODE))?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = Vec::new();
    file.take(PID_TEXT_LIMIT).read_to_end(&mut text)?;
    Ok(str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_known_without_locking() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock_holder(dir.path()), None);
        let lock = StateLock::acquire(dir.path()).unwrap();
        if Path::new("/proc/locks").exists() {
            assert_eq!(lock_holder(dir.path()), Some(std::process::id()));
        }
        drop(lock);
        assert_eq!(lock_holder(dir.path()), None);
    }

    #[test]
    fn lines_of_other_locks_are_told_apart() {
        let held = "1: FLOCK  ADVISORY  WRITE 707 00:19:3141 0 EOF";
        assert!(is_lock_of(held, 707, 3141));
        assert!(!is_lock_of(held, 707, 314));
        assert!(!is_lock_of(held, 70, 3141));
        assert!(!is_lock_of(
            "1: POSIX  ADVISORY  WRITE 707 00:19:3141 0 EOF",
            707,
            3141
        ));
        // Somebody who waits for it.
        assert!(!is_lock_of(
            "1: -> FLOCK  ADVISORY  WRITE 707 00:19:3141 0 EOF",
            707,
            3141
        ));
        assert!(!is_lock_of("", 0, 0));
    }
}
