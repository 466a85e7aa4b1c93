//! Secrets in a file that only this user can read.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use secrecy::SecretString;
use serde_json::Value;

use super::timed_out;
use crate::openclaw_json::{FileMode, FileProvider};
use crate::paths::expand_tilde;
use crate::text_file::{NoText, TextFile};

/// The id that means the only secret of a file.
const SINGLE_VALUE: &str = "value";

pub(super) fn secret(
    provider: &FileProvider,
    id: &str,
    home: &Path,
) -> Result<SecretString, String> {
    let path = expand_tilde(provider.path.as_ref(), home);
    if !path.is_absolute() {
        return Err("path must be absolute".to_owned());
    }
    if provider.mode == FileMode::SingleValue && id != SINGLE_VALUE {
        return Err("a file of one value is asked for the id \"value\"".to_owned());
    }
    let text = read_in_time(path, provider)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match provider.mode {
        FileMode::SingleValue => {
            let value = text.strip_suffix('\n').unwrap_or(text);
            Ok(SecretString::from(
                value.strip_suffix('\r').unwrap_or(value),
            ))
        }
        FileMode::Json => {
            // The parser's own words could quote the file.
            let parsed: Value =
                serde_json::from_str(text).map_err(|_| "the file is not JSON".to_owned())?;
            if !parsed.is_object() {
                return Err("the file does not hold a JSON object".to_owned());
            }
            match parsed.pointer(id) {
                Some(Value::String(secret)) => Ok(SecretString::from(secret.as_str())),
                Some(_) => Err(format!("{id} is not a string")),
                None => Err(format!("there is no {id} in the file")),
            }
        }
    }
}

/// Reads on a thread of its own: a disk that hangs must not hang the node.
fn read_in_time(path: PathBuf, provider: &FileProvider) -> Result<String, String> {
    let limit = provider.max_bytes;
    let (sender, receiver) = mpsc::sync_channel(1);
    let reader = std::thread::Builder::new().name("secret-file".to_owned());
    reader
        .spawn(move || sender.send(read(&path, limit)))
        .map_err(|error| format!("no thread to read with: {error}"))?;
    match receiver.recv_timeout(provider.timeout) {
        Ok(read) => read,
        Err(RecvTimeoutError::Timeout) => Err(timed_out(provider.timeout)),
        Err(RecvTimeoutError::Disconnected) => Err("reading the file failed".to_owned()),
    }
}

fn read(path: &Path, limit: u64) -> Result<String, String> {
    let shown = path.display();
    let refused = |reason| match reason {
        NoText::Unreadable(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            format!("{shown} must not be a symbolic link")
        }
        NoText::Unreadable(error) => format!("cannot read {shown}: {error}"),
        NoText::NotAFile => format!("{shown} must be a regular file"),
        NoText::TooLarge => format!("{shown} is larger than {limit} bytes"),
        NoText::NotUtf8 => format!("{shown} is not UTF-8"),
    };
    let missing = || refused(NoText::Unreadable(Errno::ENOENT.into()));
    let file = TextFile::open(path, OFlag::O_NOFOLLOW)
        .map_err(refused)?
        .ok_or_else(missing)?;
    if file.metadata.nlink() > 1 {
        return Err(format!("{shown} must not have other hard links"));
    }
    if file.metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "others may read or change {shown}; run chmod 600 on it"
        ));
    }
    if file.metadata.uid() != Uid::effective().as_raw() {
        return Err(format!(
            "{shown} must belong to the user that the node runs as"
        ));
    }
    file.read(limit).map_err(refused)
}
