//! Where a running node answers questions about itself (interfaces: live data and control).

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::Environment;

/// The socket's name in the state folder.
const FILE_NAME: &str = "node.sock";

/// How much of the digest of the state folder names a socket elsewhere, in bytes.
const DIGEST_BYTES: usize = 8;

/// Why there is no place for the socket.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path of {path} is too long for a socket, and XDG_RUNTIME_DIR names no folder to put it in; set it to /run/user/<uid>",
    path = .path.display()
)]
pub struct NoPlaceForSocket {
    /// Where it would have been.
    pub path: PathBuf,
}

/// The socket of the node whose state is in `state_dir`: `<stateDir>/node.sock`, and where the
/// system takes no path of that length (108 bytes on Linux),
/// `$XDG_RUNTIME_DIR/openclaw-node-<digest>.sock`.
///
/// # Errors
/// [`NoPlaceForSocket`] when neither works.
pub fn control_socket(
    state_dir: &Path,
    environment: &Environment,
) -> Result<PathBuf, NoPlaceForSocket> {
    let path = state_dir.join(FILE_NAME);
    if is_address(&path) {
        return Ok(path);
    }
    let digest = Sha256::digest(state_dir.as_os_str().as_bytes());
    let name = digest
        .iter()
        .take(DIGEST_BYTES)
        .fold("openclaw-node-".to_owned(), |name, byte| {
            name + &format!("{byte:02x}")
        });
    environment
        .raw("XDG_RUNTIME_DIR")
        .map(Path::new)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name + ".sock"))
        .filter(|path| is_address(path))
        .ok_or(NoPlaceForSocket { path })
}

fn is_address(path: &Path) -> bool {
    SocketAddr::from_pathname(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(folder: &str) -> Environment {
        [("XDG_RUNTIME_DIR", folder)].into_iter().collect()
    }

    #[test]
    fn it_is_in_the_state_folder_as_long_as_its_path_fits() {
        let nothing = runtime("");
        let short = control_socket(Path::new("/home/a/.openclaw"), &nothing).unwrap();
        assert_eq!(short, Path::new("/home/a/.openclaw/node.sock"));
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert_eq!(
            control_socket(&long, &nothing),
            Err(NoPlaceForSocket {
                path: long.join("node.sock")
            })
        );
        let elsewhere = control_socket(&long, &runtime("/run/user/1000")).unwrap();
        let name = elsewhere.file_name().unwrap().to_str().unwrap();
        assert_eq!(elsewhere.parent(), Some(Path::new("/run/user/1000")));
        assert_eq!(name.len(), "openclaw-node-0123456789abcdef.sock".len());
        let other = PathBuf::from(format!("/{}", "y".repeat(120)));
        assert_ne!(
            control_socket(&other, &runtime("/run/user/1000")).unwrap(),
            elsewhere
        );
        assert!(control_socket(&long, &runtime("run")).is_err());
        assert!(control_socket(&long, &runtime(long.to_str().unwrap())).is_err());
    }
}
