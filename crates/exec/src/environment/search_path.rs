//! `PATH` as the node puts it in order at start (exec and approvals §2, service §5).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::BOOTSTRAPPED;

/// Used where the node's own `PATH` is unset or empty (exec and approvals §2).
const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Come before everything inherited, so that nothing shadows the system's own tools.
const SYSTEM: &[&str] = &["/usr/bin", "/bin"];

/// Folders below the user's home that package managers install programs into.
const BELOW_HOME: &[&str] = &[
    ".local/bin",
    ".npm-global/bin",
    ".local/share/pnpm",
    ".local/share/pnpm/bin",
    ".bun/bin",
    ".yarn/bin",
    #[cfg(target_os = "macos")]
    "Library/pnpm",
];

/// Variables that name such a folder.
const NAMED: &[&str] = &["XDG_BIN_HOME", "PNPM_HOME"];

/// Where Homebrew puts programs.
#[cfg(target_os = "macos")]
const HOMEBREW: &[&str] = &["/opt/homebrew/bin", "/usr/local/bin"];
#[cfg(not(target_os = "macos"))]
const HOMEBREW: &[&str] = &[];

/// The `PATH` for this process environment: the system's folders, then the inherited entries, then
/// the user's folders; each once, and of those not inherited only the existing ones.
///
/// A process that says it has been through this (`OPENCLAW_PATH_BOOTSTRAPPED`) keeps its order.
pub(super) fn of(process: &BTreeMap<OsString, OsString>) -> OsString {
    let inherited = process
        .get(OsStr::new("PATH"))
        .filter(|path| !path.as_bytes().trim_ascii().is_empty())
        .map_or(OsStr::new(DEFAULT), OsString::as_os_str);
    let is_ordered = process
        .get(OsStr::new(BOOTSTRAPPED))
        .is_some_and(|value| value == "1");
    if is_ordered {
        return inherited.to_owned();
    }

    let existing = |folder: PathBuf| folder.is_dir().then(|| folder.into_os_string());
    let system = SYSTEM.iter().map(PathBuf::from).filter_map(existing);
    let inherited = inherited
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
        .map(|entry| OsString::from_vec(entry.to_vec()));
    let user = user_folders(process).into_iter().filter_map(existing);

    let mut seen = BTreeSet::new();
    let entries: Vec<OsString> = system
        .chain(inherited)
        .chain(user)
        .filter(|entry| seen.insert(entry.clone()))
        .collect();
    entries.join(OsStr::new(":"))
}

/// The user's home: `HOME`, else the user database's entry.
pub(super) fn user_home(process: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let named = process
        .get(OsStr::new("HOME"))
        .filter(|value| !value.is_empty());
    named.map(PathBuf::from).or_else(|| {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
            .ok()
            .flatten();
        user.map(|user| user.dir)
    })
}

fn user_folders(process: &BTreeMap<OsString, OsString>) -> Vec<PathBuf> {
    let below_home = user_home(process)
        .into_iter()
        .flat_map(|home| BELOW_HOME.iter().map(move |folder| home.join(folder)));
    let named = NAMED
        .iter()
        .filter_map(|name| process.get(OsStr::new(name)))
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute());
    let homebrew = HOMEBREW.iter().map(Path::new).map(Path::to_owned);
    below_home.chain(named).chain(homebrew).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn of_these(process: &[(&str, &str)]) -> String {
        let process = process
            .iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        of(&process).into_string().unwrap()
    }

    /// What of [`SYSTEM`] this machine has.
    fn system() -> String {
        let existing = SYSTEM
            .iter()
            .copied()
            .filter(|folder| Path::new(folder).is_dir());
        existing.collect::<Vec<_>>().join(":")
    }

    #[test]
    fn the_systems_folders_come_first_and_each_only_once() {
        let process = [
            ("PATH", "/opt/a:/usr/bin:: /opt/b :/opt/a"),
            ("HOME", "/nowhere"),
        ];
        assert_eq!(of_these(&process), format!("{}:/opt/a:/opt/b", system()));
    }

    #[test]
    fn without_a_path_the_usual_one_is_used() {
        let rest = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin";
        for process in [
            &[("HOME", "/nowhere")][..],
            &[("HOME", "/nowhere"), ("PATH", " ")],
        ] {
            assert_eq!(of_these(process), format!("{}:{rest}", system()));
        }
    }

    #[test]
    fn the_users_folders_come_last_where_they_exist() {
        let home = TempDir::new().unwrap();
        let home = home.path().display().to_string();
        for folder in [".bun/bin", ".local/bin", ".local/share/pnpm", "xdg"] {
            fs::create_dir_all(format!("{home}/{folder}")).unwrap();
        }
        fs::create_dir_all(format!("{home}/.yarn")).unwrap();
        fs::write(format!("{home}/.yarn/bin"), "no folder").unwrap();
        let xdg = format!("{home}/xdg");
        let process = [
            ("PATH", "/opt/a"),
            ("HOME", &home),
            ("XDG_BIN_HOME", &xdg),
            ("PNPM_HOME", "xdg"),
        ];
        let user = [".local/bin", ".local/share/pnpm", ".bun/bin", "xdg"]
            .map(|folder| format!("{home}/{folder}"))
            .join(":");
        assert_eq!(of_these(&process), format!("{}:/opt/a:{user}", system()));
    }

    #[test]
    fn a_path_that_is_in_order_stays() {
        let process = [
            ("PATH", "/opt/a:/usr/bin"),
            ("OPENCLAW_PATH_BOOTSTRAPPED", "1"),
        ];
        assert_eq!(of_these(&process), "/opt/a:/usr/bin");
        let process = [("OPENCLAW_PATH_BOOTSTRAPPED", "1")];
        assert_eq!(of_these(&process), DEFAULT);
    }
}
