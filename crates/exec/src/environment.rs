//! The environment of a command: what it inherits from the node, what a request may add, and where
//! programs are searched (exec and approvals §2 and §6, divergence D10).
//!
//! The node's own environment is handed in once, at start; nothing here reads the process.

mod git;
mod keys;
mod search_path;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use approvals::command::trim;
use serde_json::{Map, Value};

/// Marks a process as started by OpenClaw (exec and approvals §6).
const MARKER: (&str, &str) = ("OPENCLAW_CLI", "1");

/// Tells an OpenClaw process that its `PATH` is in order already (exec and approvals §2).
const BOOTSTRAPPED: &str = "OPENCLAW_PATH_BOOTSTRAPPED";

/// What every command starts from: the node's environment without anything that could change which
/// code a command runs, and without the node's own credentials.
#[derive(Clone)]
pub struct BaseEnvironment {
    variables: Arc<BTreeMap<OsString, OsString>>,
    search_path: OsString,
    home: Option<PathBuf>,
    has_shell_startup: bool,
}

impl BaseEnvironment {
    /// Sanitises the environment that the node was started with and puts its `PATH` in order.
    ///
    /// Looks at the disk for which of the usual program folders exist, so it is called once, at
    /// start.
    pub fn new(process: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let process: BTreeMap<OsString, OsString> = process.into_iter().collect();
        let search_path = search_path::of(&process);
        let has_shell_startup = process
            .iter()
            .any(|(key, value)| is_shell_startup_key(&key.to_string_lossy()) && !value.is_empty());
        let home = home(&process);

        let mut variables: BTreeMap<OsString, OsString> = process
            .into_iter()
            .filter_map(|(key, value)| {
                let name = trim(&key.to_string_lossy()).to_ascii_uppercase();
                if name.is_empty() {
                    return None;
                }
                let value = match name.as_str() {
                    "GIT_ALLOW_PROTOCOL" => git::allowed_protocols(value),
                    "GIT_PROTOCOL_FROM_USER" => git::protocol_from_user(value),
                    name if keys::is_withheld(name) => return None,
                    _ => value,
                };
                Some((key, value))
            })
            .collect();
        variables.insert("PATH".into(), search_path.clone());
        variables.insert(BOOTSTRAPPED.into(), "1".into());
        variables.insert(MARKER.0.into(), MARKER.1.into());

        Self {
            variables: Arc::new(variables),
            search_path,
            home,
            has_shell_startup,
        }
    }

    /// `PATH` as commands get it: what `system.which` searches and `connect` reports as `pathEnv`.
    /// Never empty.
    pub fn search_path(&self) -> &OsStr {
        &self.search_path
    }

    /// What `~` stands for: `OPENCLAW_HOME`, else `HOME`, else the user database's entry.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// Whether the node itself was started with a file for shells to source (`BASH_ENV`, `ENV`).
    ///
    /// Commands never see these; preparing a plan for a shell refuses while they are set
    /// (exec and approvals §10).
    pub fn has_shell_startup(&self) -> bool {
        self.has_shell_startup
    }

    /// The environment of one command. An override wins over what is inherited.
    pub fn with(&self, overrides: Overrides) -> CommandEnvironment {
        CommandEnvironment {
            inherited: Arc::clone(&self.variables),
            overrides,
        }
    }
}

/// The complete environment of one command. Values may be secrets of the user, so that only names
/// can be printed.
#[derive(Clone)]
pub struct CommandEnvironment {
    inherited: Arc<BTreeMap<OsString, OsString>>,
    overrides: Overrides,
}

impl CommandEnvironment {
    /// Every variable; where a name comes twice, the later one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let inherited = self
            .inherited
            .iter()
            .map(|(key, value)| (key.as_os_str(), value.as_os_str()));
        let overrides = self
            .overrides
            .accepted
            .iter()
            .filter(|(key, _)| key.as_str() != MARKER.0)
            .map(|(key, value)| (OsStr::new(key), OsStr::new(value)));
        inherited.chain(overrides)
    }

    /// `PATH`, which no request can override.
    pub fn search_path(&self) -> &OsStr {
        self.inherited
            .get(OsStr::new("PATH"))
            .map_or(OsStr::new(""), OsString::as_os_str)
    }
}

impl fmt::Debug for BaseEnvironment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_set()
            .entries(self.variables.keys())
            .finish()
    }
}

impl fmt::Debug for CommandEnvironment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_set()
            .entries(self.iter().map(|(key, _)| key))
            .finish()
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.accepted.keys()).finish()
    }
}

/// What a request adds to the environment, checked (`params.env`).
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Overrides {
    accepted: BTreeMap<String, String>,
}

impl Overrides {
    /// Checks the `env` member of a request. A value that is no string is passed over, as upstream
    /// does; one unacceptable name refuses the whole run.
    ///
    /// # Errors
    /// [`OverrideRejection`], whose text is the answer to the gateway.
    pub fn parse(env: &Map<String, Value>) -> Result<Self, OverrideRejection> {
        let mut accepted = BTreeMap::new();
        let mut rejection = OverrideRejection {
            blocked: BTreeSet::new(),
            invalid: BTreeSet::new(),
        };
        for (key, value) in env {
            let Value::String(value) = value else {
                continue;
            };
            let name = trim(key);
            if !is_override_name(name) {
                let shown = if name.is_empty() { key } else { name };
                rejection.invalid.insert(shown.to_owned());
                continue;
            }
            let upper = name.to_ascii_uppercase();
            if keys::is_pager(&upper) && matches!(value.as_str(), "" | "cat") {
                accepted.insert(name.to_owned(), String::new());
            } else if keys::is_blocked_override(&upper) {
                rejection.blocked.insert(upper);
            } else {
                accepted.insert(name.to_owned(), value.clone());
            }
        }
        if rejection.blocked.is_empty() && rejection.invalid.is_empty() {
            Ok(Self { accepted })
        } else {
            Err(rejection)
        }
    }

    /// What is left of the overrides when the command resolves to a shell wrapper: terminal, colour
    /// and locale settings and switched-off pagers (exec and approvals §6).
    #[must_use]
    pub fn for_shell_wrapper(mut self) -> Self {
        self.accepted.retain(|key, _| {
            is_portable_name(key) && keys::is_shell_override(&key.to_ascii_uppercase())
        });
        self
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty()
    }
}

/// Which overrides of a request are refused. `Display` is the exact text for the gateway, whose
/// code is `INVALID_REQUEST` (exec and approvals §6).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct OverrideRejection {
    blocked: BTreeSet<String>,
    invalid: BTreeSet<String>,
}

impl fmt::Display for OverrideRejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |label: &str, keys: &BTreeSet<String>| {
            (!keys.is_empty()).then(|| format!("{label}: {}", join(keys)))
        };
        let parts: Vec<String> = [
            part("blocked override keys", &self.blocked),
            part("invalid non-portable override keys", &self.invalid),
        ]
        .into_iter()
        .flatten()
        .collect();
        write!(
            formatter,
            "SYSTEM_RUN_DENIED: environment override rejected ({})",
            parts.join("; ")
        )
    }
}

/// Which `NAME=value` assignments in an argv are refused. `Display` is the exact text for the
/// gateway, whose code is `INVALID_REQUEST` (exec and approvals §6).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "SYSTEM_RUN_DENIED: command env assignment rejected (blocked env assignment keys: {})",
    join(.blocked)
)]
pub struct AssignmentRejection {
    blocked: BTreeSet<String>,
}

/// Checks the names that a command line assigns before its program (`env NAME=value …`), as if
/// each were an override with an ordinary value: so `PAGER=cat` is refused here.
pub fn blocked_assignment_keys<Key: AsRef<str>>(
    keys: impl IntoIterator<Item = Key>,
) -> Option<AssignmentRejection> {
    let blocked: BTreeSet<String> = keys
        .into_iter()
        .map(|key| trim(key.as_ref()).to_ascii_uppercase())
        .filter(|name| is_override_name(name) && keys::is_blocked_override(name))
        .collect();
    (!blocked.is_empty()).then_some(AssignmentRejection { blocked })
}

/// Whether a variable of this name makes a shell source a file before it does anything else.
pub fn is_shell_startup_key(key: &str) -> bool {
    matches!(trim(key).to_ascii_uppercase().as_str(), "BASH_ENV" | "ENV")
}

/// `[A-Za-z_][A-Za-z0-9_]*`.
fn is_portable_name(name: &str) -> bool {
    is_override_name(name) && !name.contains(['(', ')'])
}

/// `[A-Za-z_][A-Za-z0-9_()]*`: portable names and those of Windows such as `ProgramFiles(x86)`.
fn is_override_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'(' | b')'))
}

fn join(keys: &BTreeSet<String>) -> String {
    keys.iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// `OPENCLAW_HOME` (in which a leading `~` is `HOME`), else `HOME`, else the user database.
fn home(process: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
    let own = search_path::user_home(process);
    let named = process
        .get(OsStr::new("OPENCLAW_HOME"))
        .filter(|value| !value.is_empty());
    match (named.map(Path::new), own) {
        (Some(named), Some(own)) => Some(crate::search::expand_home(named, Some(&own))),
        (Some(named), None) => Some(named.to_owned()),
        (None, own) => own,
    }
}

#[cfg(test)]
mod tests;
