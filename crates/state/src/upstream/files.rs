//! The files of 2026.5.x.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::UpstreamError;

/// No identity, token or profile comes near this, in bytes.
pub(super) const SMALL_LIMIT_BYTES: u64 = 1024 * 1024;

/// A document that a gateway could send in one frame fits (wire protocol §1.2), in bytes.
pub(super) const APPROVALS_LIMIT_BYTES: u64 = 25 * 1024 * 1024;

/// Reads a file; `None` when there is none, and inside what is wrong with its content.
///
/// # Errors
/// [`UpstreamError::Unreadable`].
pub(super) fn read(
    path: &Path,
    limit_bytes: u64,
) -> Result<Option<Result<String, String>>, UpstreamError> {
    let unreadable = |error: &io::Error| UpstreamError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    // A pipe in the place of a file must not hold the node up.
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    if !metadata.is_file() {
        return Ok(Some(Err("it is not a regular file".to_owned())));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit_bytes + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit_bytes {
        return Ok(Some(Err(format!("it is larger than {limit_bytes} bytes"))));
    }
    Ok(Some(
        String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
    ))
}
