//! The folder in which a managed browser keeps its data.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid};
use serde_json::{Map, Value, json};
use tracing::debug;

use crate::proxy::folder::{make_private, write_private};

/// A browser's own lock: a symbolic link that names the machine and the process.
const LOCK: &str = "SingletonLock";
/// A symbolic link to the socket on which another start of the browser would be told of this one. It is
/// in a folder of its own, because its path has to be short.
const SOCKET: &str = "SingletonSocket";
/// Lies in the profile, and beside the socket.
const COOKIE: &str = "SingletonCookie";
/// What the names of such folders begin with.
const SOCKET_FOLDERS: [&str; 2] = ["org.chromium.Chromium.", ".org.chromium.Chromium."];
/// The largest preferences that are read, in bytes.
const MAX_PREFERENCES: u64 = 8 * 1024 * 1024;

/// Removes the lock of a browser that is gone.
///
/// # Errors
/// The process that holds it, when that lives.
pub(super) fn unlock(folder: &Path) -> Result<(), i32> {
    let Ok(holder) = fs::read_link(folder.join(LOCK)) else {
        return Ok(());
    };
    let pid = holder
        .to_string_lossy()
        .rsplit_once('-')
        .and_then(|(_, pid)| pid.parse::<i32>().ok())
        .filter(|pid| *pid > 0);
    if let Some(pid) = pid
        && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
        && is_browser_in(pid, folder)
    {
        return Err(pid);
    }
    remove_socket(folder);
    for name in [LOCK, SOCKET, COOKIE] {
        // A browser replaces what cannot be removed, or says why it cannot.
        fs::remove_file(folder.join(name)).ok();
    }
    Ok(())
}

/// Removes the folder of the socket, which a browser leaves that ends by a signal; the browser has to
/// be gone.
pub(crate) fn remove_socket(folder: &Path) {
    let Ok(socket) = fs::read_link(folder.join(SOCKET)) else {
        return;
    };
    let Some(folder) = socket.parent() else {
        return;
    };
    let is_sockets = folder.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        SOCKET_FOLDERS.iter().any(|start| name.starts_with(start))
    });
    if !is_sockets || !is_own_folder(folder) {
        return;
    }
    for name in [SOCKET, COOKIE] {
        fs::remove_file(folder.join(name)).ok();
    }
    if let Err(error) = fs::remove_dir(folder) {
        debug!(folder = %folder.display(), %error, "the folder of a browser's socket stays");
    }
}

fn is_own_folder(folder: &Path) -> bool {
    fs::symlink_metadata(folder)
        .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == Uid::current().as_raw())
}

/// Whether the process uses this folder; a number is given to another process in time.
fn is_browser_in(pid: i32, folder: &Path) -> bool {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(words) => String::from_utf8_lossy(&words).contains(&*folder.to_string_lossy()),
        // A zombie, or a system that does not show it.
        Err(_) => cfg!(not(target_os = "linux")),
    }
}

/// Makes the folder, and tells the browser what it would otherwise ask the user. Upstream lets the
/// browser make these files in a start of their own; a browser completes them just as well.
pub(super) fn prepare(folder: &Path, profile: &str, downloads: &Path) -> io::Result<()> {
    let default = folder.join("Default");
    make_private(&default)?;
    let preferences = default.join("Preferences");
    merge(
        &preferences,
        json!({
            "profile": {"name": profile, "exit_type": "Normal", "exited_cleanly": true},
            "download": {
                "default_directory": downloads.to_string_lossy(),
                "prompt_for_download": false,
            },
            "net": {"network_prediction_options": 2},
            "credentials_enable_service": false,
        }),
    )
}

/// Writes members into a JSON file and leaves the others as they are. A file that is no JSON is the
/// browser's to repair.
fn merge(file: &Path, members: Value) -> io::Result<()> {
    let mut document = match fs::metadata(file) {
        Ok(metadata) if metadata.len() <= MAX_PREFERENCES => {
            match serde_json::from_slice(&fs::read(file)?) {
                Ok(document @ Value::Object(_)) => document,
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        Ok(_) => return Ok(()),
        Err(_) => Value::Object(Map::new()),
    };
    let before = document.clone();
    overlay(&mut document, members);
    if document == before {
        return Ok(());
    }
    let written = file.with_extension("openclaw");
    fs::remove_file(&written).ok();
    write_private(&written, document.to_string().as_bytes())?;
    fs::rename(&written, file)
}

fn overlay(document: &mut Value, members: Value) {
    match (document, members) {
        (Value::Object(document), Value::Object(members)) => {
            for (name, value) in members {
                overlay(document.entry(name).or_insert(Value::Null), value);
            }
        }
        (document, value) => *document = value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_completed_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("user-data");
        prepare(&folder, "work", Path::new("/tmp/downloads")).unwrap();
        let file = folder.join("Default/Preferences");
        let mut document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(document["profile"]["name"], "work");
        document["profile"]["exit_type"] = "Crashed".into();
        document["mine"] = 7.into();
        fs::write(&file, document.to_string()).unwrap();
        prepare(&folder, "work", Path::new("/tmp/downloads")).unwrap();
        let document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(document["profile"]["exit_type"], "Normal");
        assert_eq!(document["mine"], 7);
    }

    #[test]
    fn the_lock_of_a_browser_that_is_gone_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join(LOCK);
        // This process lives, but is no browser in that folder.
        let holder = format!("host-{}", std::process::id());
        for holder in [holder.as_str(), "host-999999999", "nonsense"] {
            std::os::unix::fs::symlink(holder, &lock).unwrap();
            assert_eq!(unlock(dir.path()), Ok(()));
            assert!(fs::symlink_metadata(&lock).is_err(), "{holder}");
        }
    }

    #[test]
    fn only_the_folder_of_a_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(SOCKET);
        let linked = |name: &str| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(SOCKET), "").unwrap();
            std::os::unix::fs::symlink("1", folder.join(COOKIE)).unwrap();
            fs::remove_file(&link).ok();
            std::os::unix::fs::symlink(folder.join(SOCKET), &link).unwrap();
            folder
        };
        let folder = linked("org.chromium.Chromium.AbCdEf");
        remove_socket(dir.path());
        assert!(!folder.exists());
        let folder = linked("documents");
        remove_socket(dir.path());
        assert!(folder.join(SOCKET).exists());
        let folder = linked(".org.chromium.Chromium.AbCdEf");
        fs::write(folder.join("more"), "").unwrap();
        remove_socket(dir.path());
        assert!(folder.join("more").exists());
    }
}
