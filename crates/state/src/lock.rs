//! One node per state folder: two with the same identity would take each other's tokens.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
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
