//! Finding the file that a command name stands for (exec and approvals §2 and §4, divergence D1).
//!
//! Nothing is cached: a look-up is a few system calls, and a remembered answer would be wrong the
//! moment something is installed or removed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use approvals::allowlist::Resolution;
use approvals::command::{javascript_text, trim};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use serde_json::Value;

/// Answers `system.which`: for each name the first file in `search_path` that this user may
/// execute, unresolved. Names that are not found are left out.
///
/// A name that is no string is read as [`javascript_text`]; one with a `/` or a `\` is never found.
pub fn which(names: &[Value], search_path: &OsStr) -> BTreeMap<String, String> {
    // A miss is remembered too: a list that repeats it must not search again and again.
    let mut sought = BTreeMap::new();
    for name in names {
        let name = javascript_text(name);
        let name = trim(&name);
        if name.is_empty() || is_path(name) || sought.contains_key(name) {
            continue;
        }
        let hit = folders(search_path)
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(|folder| folder.join(name))
            .find(|candidate| is_executable_file(candidate));
        let hit = hit.map(|hit| hit.to_string_lossy().into_owned());
        sought.insert(name.to_owned(), hit);
    }
    sought
        .into_iter()
        .filter_map(|(name, hit)| Some((name, hit?)))
        .collect()
}

/// The path that running `name` executes, found as `execvp` does: a name with a `/` is a path,
/// anything else is searched. A path that is not absolute counts from `cwd`, to which the command
/// changes before it is executed.
///
/// # Errors
/// What `execvp` would report: `EACCES` if a file of that name was found but may not be executed,
/// else `ENOENT`.
pub fn program(name: &str, cwd: Option<&Path>, search_path: &OsStr) -> Result<PathBuf, Errno> {
    if name.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.contains('/') {
        return Ok(name.into());
    }
    let mut exists = false;
    for folder in folders(search_path) {
        let candidate = Path::new(".").join(folder).join(name);
        let seen_from_here = below(cwd, &candidate);
        if is_executable_file(&seen_from_here) {
            return Ok(candidate);
        }
        exists |= seen_from_here.exists();
    }
    Err(if exists { Errno::EACCES } else { Errno::ENOENT })
}

/// Looks up the executable word of a command for the policy (exec and approvals §4).
///
/// A word with a `/` or a `\` is a path: with a leading `~` it lies below `home`, a relative one
/// below `cwd`, or the node's own folder without one. Anything else is searched in `search_path`,
/// whose relative and empty entries count from `cwd` if there is one.
pub fn resolve(
    token: &str,
    cwd: Option<&Path>,
    search_path: &OsStr,
    home: Option<&Path>,
) -> Resolution {
    let candidate = if is_path(token) {
        let path = below(cwd, &expand_home(Path::new(token), home));
        is_executable_file(&path).then_some(path)
    } else if token.is_empty() {
        None
    } else {
        folders(search_path)
            .filter(|folder| cwd.is_some() || !folder.as_os_str().is_empty())
            .map(|folder| below(cwd, &folder.join(token)))
            .find(|candidate| is_executable_file(candidate))
    };
    let real_path = candidate.as_ref().and_then(|path| path.canonicalize().ok());
    Resolution {
        raw_token: token.to_owned(),
        resolved_path: candidate,
        real_path,
    }
}

/// `path` with a leading `~` replaced by `home`.
pub(crate) fn expand_home(path: &Path, home: Option<&Path>) -> PathBuf {
    match (home, path.strip_prefix("~")) {
        (Some(home), Ok(rest)) if rest.as_os_str().is_empty() => home.to_owned(),
        (Some(home), Ok(rest)) => home.join(rest),
        _ => path.to_owned(),
    }
}

/// A regular file that this user may execute, behind any symbolic links (divergence D1).
///
/// The system is asked rather than the mode bits: it knows about groups, lists and mount options.
#[must_use]
pub fn is_executable_file(path: &Path) -> bool {
    access(path, AccessFlags::X_OK).is_ok() && path.metadata().is_ok_and(|found| found.is_file())
}

fn is_path(name: &str) -> bool {
    name.contains(['/', '\\'])
}

fn folders(search_path: &OsStr) -> impl Iterator<Item = &Path> {
    search_path
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|folder| Path::new(OsStr::from_bytes(folder)))
}

/// Whether an entry of a search path counts from the directory that a command runs in.
pub(crate) fn has_relative_folder(search_path: &OsStr) -> bool {
    folders(search_path).any(|folder| !folder.is_absolute())
}

/// A relative `path` counts from `cwd`.
fn below(cwd: Option<&Path>, path: &Path) -> PathBuf {
    cwd.map_or_else(|| path.to_owned(), |cwd| cwd.join(path))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A folder with `first` and `second` on the search path, and files of every kind in them.
    struct Folders {
        root: TempDir,
    }

    impl Folders {
        fn new() -> Self {
            let folders = Self {
                root: TempDir::new().unwrap(),
            };
            for folder in ["first", "second", "elsewhere"] {
                fs::create_dir(folders.path(folder)).unwrap();
            }
            folders.file("first/both", 0o755);
            folders.file("second/both", 0o755);
            folders.file("second/only", 0o755);
            folders.file("first/shadow", 0o644);
            folders.file("second/shadow", 0o755);
            folders.file("first/plain", 0o644);
            folders.file("first/5", 0o755);
            folders.file("first/a\\b", 0o755);
            folders.file("elsewhere/target", 0o755);
            fs::create_dir(folders.path("first/folder")).unwrap();
            symlink("../elsewhere/target", folders.path("first/link")).unwrap();
            symlink("../elsewhere", folders.path("first/linkedfolder")).unwrap();
            symlink("../elsewhere/nothing", folders.path("first/dangling")).unwrap();
            folders
        }

        fn file(&self, name: &str, mode: u32) {
            fs::write(self.path(name), "").unwrap();
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        fn root(&self) -> PathBuf {
            self.root.path().canonicalize().unwrap()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root().join(name)
        }

        fn search_path(&self) -> String {
            let root = self.root().display().to_string();
            format!(":{root}/missing:{root}/first::{root}/second")
        }

        fn which(&self, names: Value) -> Value {
            let names = names.as_array().unwrap();
            let found = which(names, OsStr::new(&self.search_path()));
            let root = format!("{}/", self.root().display());
            let short = |(name, path): (String, String)| (name, path.replace(&root, "").into());
            Value::Object(found.into_iter().map(short).collect())
        }
    }

    #[test]
    fn which_finds_the_first_file_that_may_be_executed() {
        let folders = Folders::new();
        let table = [
            (
                json!(["both", "only"]),
                json!({"both": "first/both", "only": "second/only"}),
            ),
            (json!(["shadow"]), json!({"shadow": "second/shadow"})),
            (json!(["link"]), json!({"link": "first/link"})),
            (
                json!(["plain", "folder", "linkedfolder", "dangling", "absent"]),
                json!({}),
            ),
            (json!(["..", ".", "", "  "]), json!({})),
            (
                json!(["/bin/sh", "./both", "first/both", "a\\b", "../first/both"]),
                json!({}),
            ),
            (
                json!([" only ", "\u{feff}both\n"]),
                json!({"only": "second/only", "both": "first/both"}),
            ),
            (json!(["both", "both"]), json!({"both": "first/both"})),
            (json!([5, 5.0, null, true, [], {}]), json!({"5": "first/5"})),
            (json!([]), json!({})),
        ];
        for (names, expected) in table {
            assert_eq!(folders.which(names.clone()), expected, "{names}");
        }
    }

    #[test]
    fn a_program_is_found_as_the_system_would() {
        let folders = Folders::new();
        let search_path = OsString::from(folders.search_path());
        let cwd = folders.path("elsewhere");
        let root = format!("{}/", folders.root().display());
        let table = [
            ("both", Ok("first/both")),
            ("shadow", Ok("second/shadow")),
            // An empty entry is the folder that the command runs in.
            ("target", Ok("./target")),
            ("a\\b", Ok("first/a\\b")),
            ("sub/x", Ok("sub/x")),
            ("./x", Ok("./x")),
            ("/x", Ok("/x")),
            ("absent", Err(Errno::ENOENT)),
            ("", Err(Errno::ENOENT)),
            ("plain", Err(Errno::EACCES)),
            ("folder", Err(Errno::EACCES)),
            ("dangling", Err(Errno::ENOENT)),
        ];
        for (name, expected) in table {
            let found = program(name, Some(&cwd), &search_path);
            let found = found.map(|path| path.display().to_string().replace(&root, ""));
            assert_eq!(found, expected.map(str::to_owned), "{name}");
        }
        assert_eq!(program("target", None, &search_path), Err(Errno::ENOENT));
    }

    #[test]
    fn a_word_is_resolved_to_the_file_and_to_what_it_really_is() {
        let folders = Folders::new();
        let search_path = OsString::from(folders.search_path());
        let first = folders.path("first");
        let absolute = folders.path("first/link").display().to_string();
        let home = folders.root();
        let table = [
            ("both", None, Some(("first/both", "first/both"))),
            ("link", None, Some(("first/link", "elsewhere/target"))),
            ("shadow", None, Some(("second/shadow", "second/shadow"))),
            ("plain", None, None),
            ("folder", None, None),
            ("absent", None, None),
            ("", None, None),
            ("..", None, None),
            ("~", None, None),
            (
                absolute.as_str(),
                None,
                Some(("first/link", "elsewhere/target")),
            ),
            (
                "./link",
                Some(&first),
                Some(("first/./link", "elsewhere/target")),
            ),
            (
                "../elsewhere/target",
                Some(&first),
                Some(("first/../elsewhere/target", "elsewhere/target")),
            ),
            ("a\\b", Some(&first), Some(("first/a\\b", "first/a\\b"))),
            ("./plain", Some(&first), None),
            ("./folder", Some(&first), None),
            (
                "~/first/link",
                None,
                Some(("first/link", "elsewhere/target")),
            ),
            ("~x/first/link", None, None),
            // The search path has an empty entry, which counts only with a folder to run in.
            (
                "target",
                Some(&folders.path("elsewhere")),
                Some(("elsewhere/target", "elsewhere/target")),
            ),
            ("target", None, None),
        ];
        for (token, cwd, expected) in table {
            let found = resolve(token, cwd.map(PathBuf::as_path), &search_path, Some(&home));
            let expected = Resolution {
                raw_token: token.to_owned(),
                resolved_path: expected.map(|(path, _)| folders.path(path)),
                real_path: expected.map(|(_, path)| folders.path(path)),
            };
            assert_eq!(found, expected, "{token}");
        }
    }

    #[test]
    fn relative_entries_count_from_the_folder_of_the_request() {
        let folders = Folders::new();
        let cwd = folders.root();
        let found = resolve("only", Some(&cwd), OsStr::new("second/../second"), None);
        assert_eq!(found.resolved_path, Some(cwd.join("second/../second/only")));
        assert_eq!(found.real_path, Some(cwd.join("second/only")));
        let found = program("only", Some(&cwd), OsStr::new("second"));
        assert_eq!(found, Ok("./second/only".into()));
    }
}
