//! Paths that a gateway names: they stay where they may be.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::request::RouteError;

/// Where a download may be saved: within the folder, whatever the path says.
///
/// # Errors
/// 400 with upstream's text.
pub(super) fn download_target(folder: &Path, named: &str) -> Result<PathBuf, RouteError> {
    let refused = || RouteError::bad_request("Invalid path: must stay within downloads directory");
    let named = Path::new(named);
    let within = named.strip_prefix(folder).unwrap_or(named);
    let is_plain = within
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain || within.file_name().is_none() {
        return Err(refused());
    }
    let path = folder.join(within);
    let parent = path.parent().unwrap_or(folder);
    crate::proxy::folder::make_private(parent).map_err(|_| refused())?;
    // A link within the folder must not lead out of it.
    let (parent, folder) = (fs::canonicalize(parent), fs::canonicalize(folder));
    match (parent, folder) {
        (Ok(parent), Ok(folder)) if parent.starts_with(&folder) => {}
        (Ok(_) | Err(_), Ok(_) | Err(_)) => return Err(refused()),
    }
    if fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(refused());
    }
    Ok(path)
}

/// Checks that a page may be given a file: only what was staged for it, or what a gateway sent to
/// this machine.
///
/// # Errors
/// 400 with upstream's text.
pub(super) fn upload_source(
    named: &str,
    uploads: &Path,
    inbound: &Path,
) -> Result<PathBuf, RouteError> {
    let refused = || {
        RouteError::bad_request(format!(
            "Invalid path: must stay within inbound media directory ({})",
            inbound.display()
        ))
    };
    let named = Path::new(named);
    let path = if named.is_absolute() {
        named.to_owned()
    } else {
        inbound.join(named)
    };
    let real = fs::canonicalize(&path).map_err(|_| refused())?;
    let is_within = [uploads, inbound]
        .iter()
        .any(|folder| fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder)));
    if !is_within || !real.is_file() {
        return Err(refused());
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_stays_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("downloads");
        let inside = folder.join("a/b.bin");
        for (named, expected) in [
            ("mine.bin", Some(folder.join("mine.bin"))),
            ("a/b.bin", Some(inside.clone())),
            (&*inside.to_string_lossy(), Some(inside.clone())),
            ("../x", None),
            ("a/../../x", None),
            ("/etc/passwd", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(download_target(&folder, named).ok(), expected, "{named}");
        }
        std::os::unix::fs::symlink("/etc", folder.join("out")).unwrap();
        assert!(download_target(&folder, "out/x").is_err());
        assert!(download_target(&folder, "out").is_err());
    }

    #[test]
    fn a_page_is_given_only_what_was_put_there_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let (uploads, inbound) = (dir.path().join("uploads"), dir.path().join("inbound"));
        for folder in [&uploads, &inbound] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", inbound.join("link")).unwrap();
        let take = |named: &Path| upload_source(&named.to_string_lossy(), &uploads, &inbound);
        assert!(take(&uploads.join("file")).is_ok());
        assert!(take(&inbound.join("file")).is_ok());
        assert!(take(Path::new("file")).is_ok());
        for named in [
            inbound.join("link"),
            inbound.join("../uploads/../../etc/passwd"),
            PathBuf::from("/etc/passwd"),
            inbound.join("missing"),
            inbound.clone(),
        ] {
            assert!(take(&named).is_err(), "{}", named.display());
        }
    }
}
