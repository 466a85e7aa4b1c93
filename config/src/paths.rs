//! Where the node's state and configuration are (state §3, config §4).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use crate::Environment;

/// The places that everything else is found from; all absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `OPENCLAW_HOME`, else `HOME`, else the account's home; what `~` stands for.
    pub home: PathBuf,
    /// `OPENCLAW_STATE_DIR`, else `~/.openclaw`.
    pub state_dir: PathBuf,
    /// `OPENCLAW_CONFIG_PATH`, else `<stateDir>/openclaw.json`.
    pub config_file: PathBuf,
}

/// Why the places cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// Neither the environment nor the account says where home is.
    #[error("this user has no home directory; set HOME or OPENCLAW_HOME")]
    NoHome,
    /// A relative path could not be completed.
    #[error("cannot tell which folder {path} means: {source}; use an absolute path", path = .path.display())]
    NoWorkingDirectory {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Paths {
    /// Applies upstream's rules: values are trimmed, blank ones count as unset, a leading `~` is
    /// home, relative paths count from the working directory.
    ///
    /// # Errors
    /// [`PathsError`], whose text names the variable to set.
    pub fn from_environment(environment: &Environment) -> Result<Self, PathsError> {
        let home = home(environment)?;
        let state_dir = match path_variable(environment, "OPENCLAW_STATE_DIR") {
            Some(given) => absolute(&expand_tilde(&given, &home))?,
            None => home.join(".openclaw"),
        };
        let config_file = match path_variable(environment, "OPENCLAW_CONFIG_PATH") {
            Some(given) => absolute(&expand_tilde(&given, &home))?,
            None => state_dir.join("openclaw.json"),
        };
        Ok(Self {
            home,
            state_dir,
            config_file,
        })
    }

    /// Further folders that `$include` may reach: `OPENCLAW_INCLUDE_ROOTS`, separated by colons.
    pub(crate) fn include_roots(&self, environment: &Environment) -> Vec<PathBuf> {
        let listed = environment
            .raw("OPENCLAW_INCLUDE_ROOTS")
            .unwrap_or_default();
        listed
            .as_bytes()
            .split(|byte| *byte == b':')
            .map(<[u8]>::trim_ascii)
            .filter(|root| !root.is_empty())
            .filter_map(|root| absolute(&expand_tilde(OsStr::from_bytes(root), &self.home)).ok())
            .collect()
    }
}

fn home(environment: &Environment) -> Result<PathBuf, PathsError> {
    let account_home = || -> Result<PathBuf, PathsError> {
        path_variable(environment, "HOME")
            .map(PathBuf::from)
            .or_else(|| Some(User::from_uid(Uid::current()).ok()??.dir))
            .ok_or(PathsError::NoHome)
    };
    let home = match path_variable(environment, "OPENCLAW_HOME") {
        Some(given) if tail_after_tilde(&given).is_some() => expand_tilde(&given, &account_home()?),
        Some(given) => PathBuf::from(given),
        None => account_home()?,
    };
    absolute(&home)
}

/// A path from a variable, without surrounding ASCII white space; `None` when unset or blank.
fn path_variable(environment: &Environment, name: &str) -> Option<OsString> {
    let trimmed = environment.raw(name)?.as_bytes().trim_ascii();
    (!trimmed.is_empty()).then(|| OsString::from_vec(trimmed.to_vec()))
}

fn absolute(path: &Path) -> Result<PathBuf, PathsError> {
    std::path::absolute(path).map_err(|source| PathsError::NoWorkingDirectory {
        path: path.to_owned(),
        source,
    })
}

/// What follows `~` when it stands for home: nothing, or a separator and more. `~user` does not.
fn tail_after_tilde(path: &OsStr) -> Option<&OsStr> {
    let tail = path.as_bytes().strip_prefix(b"~")?;
    (tail.is_empty() || tail.starts_with(b"/")).then(|| OsStr::from_bytes(tail))
}

pub(crate) fn expand_tilde(path: &OsStr, home: &Path) -> PathBuf {
    match tail_after_tilde(path) {
        Some(tail) => {
            let mut expanded = home.as_os_str().to_owned();
            expanded.push(tail);
            PathBuf::from(expanded)
        }
        None => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables = &'static [(&'static str, &'static str)];

    fn paths(variables: &[(&str, &str)]) -> Paths {
        let environment = variables.iter().copied().collect();
        Paths::from_environment(&environment).unwrap()
    }

    #[test]
    fn each_variable_moves_what_it_names() {
        let cases: [(Variables, &str, &str); 12] = [
            (
                &[("HOME", "/home/a")],
                "/home/a/.openclaw",
                "/home/a/.openclaw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "/var/lib/claw")],
                "/var/lib/claw",
                "/var/lib/claw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", " /srv/claw \n")],
                "/srv/claw",
                "/srv/claw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "  ")],
                "/home/a/.openclaw",
                "/home/a/.openclaw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "~/claw")],
                "/home/a/claw",
                "/home/a/claw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "~")],
                "/home/a",
                "/home/a/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_HOME", "/opt/claw")],
                "/opt/claw/.openclaw",
                "/opt/claw/.openclaw/openclaw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_HOME", "~/inner")],
                "/home/a/inner/.openclaw",
                "/home/a/inner/.openclaw/openclaw.json",
            ),
            (
                &[
                    ("HOME", "/home/a"),
                    ("OPENCLAW_HOME", "/opt/claw"),
                    ("OPENCLAW_STATE_DIR", "~/s"),
                ],
                "/opt/claw/s",
                "/opt/claw/s/openclaw.json",
            ),
            (
                &[
                    ("HOME", "/home/a"),
                    ("OPENCLAW_CONFIG_PATH", "/etc/claw.json5"),
                ],
                "/home/a/.openclaw",
                "/etc/claw.json5",
            ),
            (
                &[
                    ("HOME", "/home/a"),
                    ("OPENCLAW_STATE_DIR", "/srv/claw"),
                    ("OPENCLAW_CONFIG_PATH", "~/claw.json"),
                ],
                "/srv/claw",
                "/home/a/claw.json",
            ),
            (
                &[("HOME", "/home/a"), ("OPENCLAW_HOME", " ")],
                "/home/a/.openclaw",
                "/home/a/.openclaw/openclaw.json",
            ),
        ];
        for (variables, state_dir, config_file) in cases {
            let paths = paths(variables);
            assert_eq!(paths.state_dir, Path::new(state_dir), "{variables:?}");
            assert_eq!(paths.config_file, Path::new(config_file), "{variables:?}");
        }
    }

    #[test]
    fn a_relative_path_counts_from_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        let relative = paths(&[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "sub/claw")]);
        assert_eq!(relative.state_dir, here.join("sub/claw"));
    }

    #[test]
    fn another_users_tilde_is_an_ordinary_name() {
        let here = std::env::current_dir().unwrap();
        let odd = paths(&[("HOME", "/home/a"), ("OPENCLAW_STATE_DIR", "~root/claw")]);
        assert_eq!(odd.state_dir, here.join("~root/claw"));
    }

    #[test]
    fn without_home_the_account_says_where_it_is() {
        let account = User::from_uid(Uid::current()).unwrap().unwrap();
        assert_eq!(paths(&[]).home, account.dir);
        assert_eq!(paths(&[("HOME", " ")]).home, account.dir);
    }

    #[test]
    fn a_path_that_is_not_utf8_is_taken_as_it_is() {
        let environment: Environment = [
            ("HOME", OsStr::new("/home/a")),
            ("OPENCLAW_STATE_DIR", OsStr::from_bytes(b"/srv/\xff")),
        ]
        .into_iter()
        .collect();
        let paths = Paths::from_environment(&environment).unwrap();
        assert_eq!(paths.state_dir, Path::new(OsStr::from_bytes(b"/srv/\xff")));
    }
}
