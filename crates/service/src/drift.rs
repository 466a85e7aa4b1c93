//! Where an installed service differs from what this version would write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::definition::{self, Platform};
use crate::manager::Installed;
use crate::unit_file::UnitFile;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The directive or key, such as `Restart` or `Environment.PATH`.
    pub key: String,
    /// What is installed; `None` where there is nothing.
    pub current: Option<String>,
    /// What this version would write; `None` where it would write nothing.
    pub expected: Option<String>,
    /// The file that says what is installed.
    pub source: Option<PathBuf>,
}

/// Variables that a definition keeps because an operator or the installing shell chose them.
pub const KEPT_VARIABLES: [&str; 7] = [
    "HOME",
    "TMPDIR",
    "OPENCLAW_HOME",
    "OPENCLAW_STATE_DIR",
    "OPENCLAW_CONFIG_PATH",
    "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS",
    "OPENCLAW_NODE_LOG",
];

/// The variables of a definition: what `chosen` says of [`KEPT_VARIABLES`], the search path and
/// the markers, in upstream's order (service §2.1).
#[must_use]
pub fn environment(
    chosen: impl Fn(&str) -> Option<String>,
    platform: Platform,
    home: &Path,
) -> Vec<(String, String)> {
    let kept = |name: &str| Some((name.to_owned(), chosen(name)?));
    let path = definition::search_path(platform, home, Path::is_dir);
    let [before_path @ .., insecure, log] = KEPT_VARIABLES;
    before_path
        .into_iter()
        .filter_map(kept)
        .chain([("PATH".to_owned(), path)])
        .chain([insecure, log].into_iter().filter_map(kept))
        .chain(definition::markers())
        .collect()
}

/// [`environment`] with what an installed service chose.
#[must_use]
pub fn expected_environment(
    installed: &Installed,
    platform: Platform,
    home: &Path,
) -> Vec<(String, String)> {
    let chosen = |name: &str| {
        installed
            .environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    environment(chosen, platform, home)
}

/// What stands for a value that may be a secret: somebody else's variable, or a credential that
/// was written into the definition itself.
const SET: &str = "set (not shown)";

/// The value of a variable, if it is one that this program writes itself; those hold no secrets.
pub(crate) fn shown_variable(name: &str, value: String) -> String {
    let is_own = name == "PATH"
        || KEPT_VARIABLES.contains(&name)
        || definition::markers().iter().any(|(known, _)| known == name);
    if is_own { value } else { SET.to_owned() }
}

/// What is compared: values by key, each with the file that says so.
pub(crate) type Values = BTreeMap<String, (String, Option<PathBuf>)>;

/// The values of a unit: one per directive, and one per variable.
pub(crate) fn unit_values(unit: &UnitFile) -> Values {
    let mut values = Values::new();
    for directive in unit.directives() {
        let key = directive.key.as_str();
        if matches!(key, "Environment" | "ExecStart") {
            continue;
        }
        // What may stand there more than once counts as a whole.
        let all: Vec<&str> = unit
            .all(&directive.section, key)
            .map(|directive| directive.value.as_str())
            .collect();
        let value = match key {
            "SetCredential" | "SetCredentialEncrypted" => SET.to_owned(),
            "After" | "Wants" | "LoadCredential" | "EnvironmentFile" | "WantedBy" => all.join(" "),
            _ => directive.value.clone(),
        };
        values.insert(key.to_owned(), (value, Some(directive.source.clone())));
    }
    let source = |key| unit.last("Service", key).map(|found| found.source.clone());
    for (name, value) in unit.environment() {
        let value = shown_variable(&name, value);
        values.insert(
            format!("Environment.{name}"),
            (value, source("Environment")),
        );
    }
    if let Some(directive) = unit.last("Service", "ExecStart") {
        let command = unit
            .command()
            .map_or_else(|_| directive.value.clone(), |words| words.join(" "));
        values.insert(
            "ExecStart".to_owned(),
            (command, Some(directive.source.clone())),
        );
    }
    values
}

/// Every key that differs, sorted.
pub(crate) fn compare(current: &Values, expected: &Values) -> Vec<Drift> {
    let mut keys: Vec<&String> = current.keys().chain(expected.keys()).collect();
    keys.sort();
    keys.dedup();
    let value = |values: &Values, key: &String| values.get(key).map(|(value, _)| value.clone());
    keys.into_iter()
        .filter(|key| value(current, key) != value(expected, key))
        .map(|key| Drift {
            key: key.clone(),
            current: value(current, key),
            expected: value(expected, key),
            source: current.get(key).and_then(|(_, source)| source.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(files: &[(&str, &str)]) -> Values {
        let mut unit = UnitFile::default();
        for (source, text) in files {
            unit.read(text, Path::new(source));
        }
        unit_values(&unit)
    }

    #[test]
    fn differences_name_the_file_that_made_them() {
        let written = "[Unit]\nAfter=a\n[Service]\nExecStart=/bin/x run\nRestart=always\nEnvironment=HOME=1\nEnvironment=PATH=2\n";
        let expected = unit(&[("/new", written)]);
        assert_eq!(compare(&unit(&[("/u", written)]), &expected), []);
        let current = unit(&[
            ("/u", written),
            (
                "/d.conf",
                "[Service]\nRestart=no\nEnvironment=\"PATH=3\" OPENCLAW_HOME=4\nMemoryMax=1G\n",
            ),
        ]);
        let found: Vec<_> = compare(&current, &expected)
            .into_iter()
            .map(|drift| {
                assert_eq!(drift.source, Some("/d.conf".into()));
                (drift.key, drift.current, drift.expected)
            })
            .collect();
        let row = |key: &str, current: Option<&str>, expected: Option<&str>| {
            (
                key.to_owned(),
                current.map(str::to_owned),
                expected.map(str::to_owned),
            )
        };
        assert_eq!(
            found,
            [
                row("Environment.OPENCLAW_HOME", Some("4"), None),
                row("Environment.PATH", Some("3"), Some("2")),
                row("MemoryMax", Some("1G"), None),
                row("Restart", Some("no"), Some("always")),
            ]
        );
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_shown() {
        let planted = "[Service]\nEnvironment=OPENCLAW_GATEWAY_TOKEN=hunter2\n\
            Environment=OPENCLAW_PROXY_URL=http://user:hunter2@proxy\n\
            SetCredential=OPENCLAW_GATEWAY_TOKEN:hunter2\n";
        let found = compare(&unit(&[("/d.conf", planted)]), &Values::new());
        let told: Vec<_> = found
            .iter()
            .map(|drift| (drift.key.as_str(), drift.current.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("Environment.OPENCLAW_GATEWAY_TOKEN", Some(SET)),
                ("Environment.OPENCLAW_PROXY_URL", Some(SET)),
                ("SetCredential", Some(SET)),
            ]
        );
    }

    #[test]
    fn variables_have_upstreams_order() {
        let chosen = |name: &str| (name != "OPENCLAW_HOME").then(|| "x".to_owned());
        let names: Vec<String> = environment(chosen, Platform::Linux, Path::new("/nowhere"))
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names,
            [
                "HOME",
                "TMPDIR",
                "OPENCLAW_STATE_DIR",
                "OPENCLAW_CONFIG_PATH",
                "PATH",
                "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS",
                "OPENCLAW_NODE_LOG",
                "OPENCLAW_LAUNCHD_LABEL",
                "OPENCLAW_SYSTEMD_UNIT",
                "OPENCLAW_LOG_PREFIX",
                "OPENCLAW_SERVICE_MARKER",
                "OPENCLAW_SERVICE_KIND",
            ]
        );
    }
}
