//! The files that go with a result (browser proxy §1.3).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{CommandError, mime};

/// The largest file, in bytes.
pub const FILE_LIMIT_BYTES: usize = 10 * 1024 * 1024;
/// All files together, in bytes.
pub const TOTAL_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// The most files.
pub const COUNT_LIMIT: usize = 256;
/// The payload as text within JSON text, in bytes.
const ENCODED_LIMIT_BYTES: usize = 24 * 1024 * 1024;

/// Reads every file that the result names.
///
/// # Errors
/// [`CommandError`] with upstream's texts.
pub(super) fn collect(result: &Value) -> Result<Vec<Value>, CommandError> {
    let paths = paths(result);
    if paths.len() > COUNT_LIMIT {
        return Err(CommandError(format!(
            "browser proxy response exceeds {COUNT_LIMIT} file limit"
        )));
    }
    let mut total = 0_usize;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = read(Path::new(path)).map_err(|reason| {
            CommandError(format!(
                "browser proxy file read failed for {path}: Error: {reason}"
            ))
        })?;
        total = total.saturating_add(bytes.len());
        if total > TOTAL_LIMIT_BYTES {
            return Err(CommandError(
                "browser proxy files exceed 16 MiB aggregate limit".to_owned(),
            ));
        }
        let mut file = json!({"path": path, "base64": STANDARD.encode(&bytes)});
        if let (Value::Object(members), Some(kind)) =
            (&mut file, mime::detect(Path::new(path), &bytes))
        {
            members.insert("mimeType".to_owned(), kind.into());
        }
        files.push(file);
    }
    Ok(files)
}

/// Where results name files, each once.
fn paths(result: &Value) -> BTreeSet<&str> {
    let single = ["/path", "/imagePath", "/download/path"];
    let of_downloads = result
        .get("downloads")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|download| download.get("path"));
    single
        .into_iter()
        .filter_map(|pointer| result.pointer(pointer))
        .chain(of_downloads)
        .filter_map(Value::as_str)
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "file not found".to_owned(),
        _ => error.to_string(),
    };
    let file = File::open(path).map_err(unreadable)?;
    let limit = u64::try_from(FILE_LIMIT_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > FILE_LIMIT_BYTES {
        return Err("browser proxy file exceeds 10 MiB limit".to_owned());
    }
    Ok(bytes)
}

/// The payload travels as a text within JSON, where quotes and backslashes count twice.
pub(super) fn check_encoded(payload: &str) -> Result<(), CommandError> {
    let escaped = payload
        .bytes()
        .filter(|byte| matches!(byte, b'"' | b'\\'))
        .count();
    if payload.len() + escaped + 2 > ENCODED_LIMIT_BYTES {
        return Err(CommandError(
            "browser proxy payload exceeds 24 MiB encoded limit".to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: usize) -> String {
        let path = dir.join(name);
        std::fs::write(&path, vec![b'x'; bytes]).unwrap();
        path.to_string_lossy().into_owned()
    }

    #[test]
    fn every_named_file_is_sent_once() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (file(dir.path(), "a.txt", 3), file(dir.path(), "b", 3));
        let result = json!({
            "path": first, "imagePath": first, "download": {"path": second},
            "downloads": [{"path": second}, {"path": first}], "other": {"path": "/nope"},
        });
        let files = collect(&result).unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(
            files[0],
            json!({"path": first, "base64": "eHh4", "mimeType": "text/plain"})
        );
        assert!(collect(&json!({"ok": true})).unwrap().is_empty());
    }

    #[test]
    fn files_beyond_the_limits_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let large = file(dir.path(), "large", FILE_LIMIT_BYTES + 1);
        let error = collect(&json!({"path": large})).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "browser proxy file read failed for {large}: Error: browser proxy file exceeds 10 MiB \
                 limit"
            )
        );
        let (a, b) = (
            file(dir.path(), "a", FILE_LIMIT_BYTES),
            file(dir.path(), "b", FILE_LIMIT_BYTES),
        );
        let error = collect(&json!({"path": a, "imagePath": b})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "browser proxy files exceed 16 MiB aggregate limit"
        );
        let error = collect(&json!({"path": "/nonexistent"})).unwrap_err();
        assert!(error.to_string().ends_with(": Error: file not found"));
    }

    #[test]
    fn quotes_count_twice() {
        let half = ENCODED_LIMIT_BYTES / 2;
        assert!(check_encoded(&"\"".repeat(half - 1)).is_ok());
        assert!(check_encoded(&"\"".repeat(half)).is_err());
    }
}
