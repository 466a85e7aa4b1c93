//! Files that a gateway sends for a page (browser proxy §1.6): staged in folders of their own, which
//! go with the page, or after a day where a node was killed before.

use std::cell::Cell;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tracing::warn;
use uuid::Uuid;

use super::CommandError;
use super::files::{COUNT_LIMIT, FILE_LIMIT_BYTES, TOTAL_LIMIT_BYTES};
use super::folder::{make_private, write_private};

/// Below the uploads folder; a name that pages' own uploads do not have.
const STAGING: &str = ".proxy-uploads";
/// Tells a staged upload from whatever else may be there.
const MARKER: &str = ".openclaw-browser-proxy-upload-v1";
/// What is in it.
const MARKER_CONTENT: &str = "openclaw-browser-proxy-upload-v1\n";
/// How long what nobody removed stays: upstream's nodes, which use the same folder, leave everything.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// The most uploads that are kept.
const MOST_KEPT: usize = 64;
/// The most that is kept, in bytes.
const MOST_KEPT_BYTES: u64 = 256 * 1024 * 1024;
/// The longest file name, in bytes.
const NAME_BYTES: usize = 180;

/// One file of an upload.
#[derive(Debug, PartialEq, Eq)]
struct UploadFile {
    name: String,
    content: Vec<u8>,
}

/// A staged upload; dropping it removes it. A browser reads a file only when the page does, or sends
/// it, so a page that was given the files owns this for as long as it is there.
#[derive(Debug)]
pub struct Staged {
    folder: PathBuf,
    paths: Vec<PathBuf>,
    is_left: Cell<bool>,
    /// Tells every node that uses the folder that somebody has this, however old it is.
    _lock: Option<File>,
}

impl Staged {
    /// Where the files are, in the order of the request.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Leaves the files to a page that outlives this node; they are removed after a day.
    pub(crate) fn leave(&self) {
        self.is_left.set(true);
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_left.get()
            && let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(folder = %self.folder.display(), %error, "a staged upload stays for a day");
        }
    }
}

/// Checks an upload and writes its files where a page can be given them.
pub(super) fn stage(uploads: &Path, upload: &Value) -> Result<Staged, CommandError> {
    let files = decode(upload)?;
    let root = uploads.join(STAGING);
    let failed = |error: io::Error| {
        CommandError(format!(
            "browser proxy upload staging failed: Error: {error}"
        ))
    };
    make_private(&root).map_err(failed)?;
    remove_old(&root, SystemTime::now());
    let wanted: u64 = files
        .iter()
        .map(|file| u64::try_from(file.content.len()).unwrap_or(u64::MAX))
        .sum();
    let (count, bytes) = kept(&root);
    if count >= MOST_KEPT || bytes.saturating_add(wanted) > MOST_KEPT_BYTES {
        return Err(CommandError(
            "RESOURCE_EXHAUSTED: browser proxy upload staging limit reached".to_owned(),
        ));
    }
    let folder = root.join(format!("upload-{}", Uuid::new_v4().simple()));
    make_private(&folder).map_err(failed)?;
    let mut staged = Staged {
        _lock: lock(&folder),
        folder,
        paths: Vec::with_capacity(files.len()),
        is_left: Cell::new(false),
    };
    write_private(&staged.folder.join(MARKER), MARKER_CONTENT.as_bytes()).map_err(failed)?;
    for (index, file) in files.iter().enumerate() {
        let folder = staged.folder.join(index.to_string());
        make_private(&folder).map_err(failed)?;
        let path = folder.join(&file.name);
        write_private(&path, &file.content).map_err(failed)?;
        staged.paths.push(path);
    }
    Ok(staged)
}

fn decode(upload: &Value) -> Result<Vec<UploadFile>, CommandError> {
    let invalid =
        |what: &str| CommandError::invalid(format_args!("invalid browser proxy upload {what}"));
    let envelope = upload.get("envelope").and_then(Value::as_str);
    if envelope != Some("browser-upload-v1") {
        return Err(invalid("envelope"));
    }
    let listed = match upload.get("files") {
        Some(Value::Array(files)) if !files.is_empty() => files,
        Some(_) | None => return Err(invalid("envelope")),
    };
    if listed.len() > COUNT_LIMIT {
        return Err(CommandError::invalid(format_args!(
            "browser proxy request exceeds {COUNT_LIMIT} file limit"
        )));
    }
    let mut total = 0_usize;
    let mut files = Vec::with_capacity(listed.len());
    for file in listed {
        let text = |member: &str| file.get(member).and_then(Value::as_str);
        let (Some(name), Some(encoded)) = (text("name"), text("contentBase64")) else {
            return Err(invalid("file"));
        };
        if name.trim().is_empty() {
            return Err(invalid("file"));
        }
        // Strict: what does not decode to exactly these characters again is refused too.
        let content = STANDARD.decode(encoded).map_err(|_| invalid("encoding"))?;
        if content.len() > FILE_LIMIT_BYTES {
            return Err(CommandError::invalid(
                "browser proxy file exceeds 10 MiB limit",
            ));
        }
        total += content.len();
        if total > TOTAL_LIMIT_BYTES {
            return Err(CommandError::invalid(
                "browser proxy files exceed 16 MiB aggregate limit",
            ));
        }
        files.push(UploadFile {
            name: safe_name(name),
            content,
        });
    }
    Ok(files)
}

/// The last part of a name, without what means something to a shell or a page's template.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .map(|c| {
            if c.is_control() || c == '!' || c == '%' {
                '_'
            } else {
                c
            }
        })
        .collect();
    let plain = plain.trim();
    let end = plain.floor_char_boundary(NAME_BYTES);
    match plain.get(..end) {
        Some("" | "." | "..") | None => "upload".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// The staged uploads: those that carry the marker.
fn uploads(root: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|folder| {
            fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_dir())
                && fs::read(folder.join(MARKER))
                    .is_ok_and(|content| content == MARKER_CONTENT.as_bytes())
        })
}

/// Locks a folder until the file is dropped, or this process is gone.
fn lock(folder: &Path) -> Option<File> {
    let locked = File::open(folder).and_then(|file| {
        file.try_lock()?;
        Ok(file)
    });
    locked
        .inspect_err(
            |error| warn!(folder = %folder.display(), %error, "an upload may be gone after a day"),
        )
        .ok()
}

fn is_locked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes what is older than a day, unless a node still has it. There is no timer: what was left behind is removed when more
/// comes, and its size is bounded until then.
fn remove_old(root: &Path, now: SystemTime) {
    for folder in uploads(root) {
        let is_old = fs::metadata(folder.join(MARKER))
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age >= KEPT_FOR));
        if is_old
            && !is_locked(&folder)
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            warn!(folder = %folder.display(), %error, "an old upload stays");
        }
    }
}

/// How many uploads are kept, and their size.
fn kept(root: &Path) -> (usize, u64) {
    uploads(root).fold((0, 0), |(count, bytes), folder| {
        (count + 1, bytes.saturating_add(size(&folder)))
    })
}

fn size(folder: &Path) -> u64 {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;

    use super::*;

    fn upload(files: Value) -> Value {
        json!({"envelope": "browser-upload-v1", "files": files})
    }

    #[test]
    fn files_are_staged_for_this_user_alone_and_go_with_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let files = json!([
            {"name": "he/../llo 2.txt", "contentBase64": "aGVsbG8y"},
            {"name": "100%!.txt", "contentBase64": ""},
        ]);
        let staged = stage(dir.path(), &upload(files)).unwrap();
        let names: Vec<_> = staged
            .paths
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["llo 2.txt", "100__.txt"]);
        assert_eq!(fs::read(&staged.paths[0]).unwrap(), b"hello2");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&staged.paths[0]), 0o600);
        assert_eq!(mode(&staged.folder), 0o700);
        let folder = staged.folder.clone();
        drop(staged);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_no_upload_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |given: Value| {
            let error = stage(dir.path(), &given).unwrap_err().to_string();
            error.strip_prefix("INVALID_REQUEST: ").unwrap().to_owned()
        };
        let file = |content: &str| upload(json!([{"name": "x", "contentBase64": content}]));
        assert_eq!(
            refusal(upload(json!([]))),
            "invalid browser proxy upload envelope"
        );
        assert_eq!(
            refusal(json!({"files": [1]})),
            "invalid browser proxy upload envelope"
        );
        assert_eq!(
            refusal(upload(json!([{"name": "x"}]))),
            "invalid browser proxy upload file"
        );
        for content in ["a!k=", "YQ", "YR==", " YQ=="] {
            assert_eq!(
                refusal(file(content)),
                "invalid browser proxy upload encoding"
            );
        }
    }

    #[test]
    fn uploads_are_removed_after_a_day_and_bounded_until_then() {
        let dir = tempfile::tempdir().unwrap();
        let one = upload(json!([{"name": "x", "contentBase64": "YQ=="}]));
        for _ in 0..MOST_KEPT {
            stage(dir.path(), &one).unwrap().leave();
        }
        let refused = stage(dir.path(), &one).unwrap_err().to_string();
        assert_eq!(
            refused,
            "RESOURCE_EXHAUSTED: browser proxy upload staging limit reached"
        );
        let root = dir.path().join(STAGING);
        let other = root.join("mine");
        fs::create_dir(&other).unwrap();
        remove_old(&root, SystemTime::now());
        assert_eq!(kept(&root).0, MOST_KEPT);
        remove_old(
            &root,
            SystemTime::now() + KEPT_FOR + Duration::from_secs(60),
        );
        assert_eq!(kept(&root).0, 0);
        assert!(other.exists(), "what is not ours stays");
    }

    #[test]
    fn what_a_page_still_has_is_never_old() {
        let dir = tempfile::tempdir().unwrap();
        let one = upload(json!([{"name": "x", "contentBase64": "YQ=="}]));
        let staged = stage(dir.path(), &one).unwrap();
        let root = dir.path().join(STAGING);
        let tomorrow = SystemTime::now() + KEPT_FOR + Duration::from_secs(60);
        remove_old(&root, tomorrow);
        assert_eq!(fs::read(&staged.paths[0]).unwrap(), b"a");
        staged.leave();
        drop(staged);
        remove_old(&root, tomorrow);
        assert_eq!(kept(&root).0, 0);
    }
}
