//! The environment as a value, so that a test or a service manager's credentials can stand in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// Where a variable comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableOrigin {
    /// The process was started with it.
    Process,
    /// A file that a service definition names: that of `--env-file`, or a unit's
    /// `EnvironmentFile=`. It stands for the process environment.
    EnvFile(PathBuf),
    /// A file that systemd provides as a credential (D20).
    CredentialFile(PathBuf),
    /// `<stateDir>/.env`.
    DotEnv(PathBuf),
    /// `env` of openclaw.json.
    ConfigVars,
}

impl VariableOrigin {
    /// The place of a variable of this origin, for an operator who looks for it.
    #[must_use]
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Process => name.to_owned(),
            Self::EnvFile(file) | Self::DotEnv(file) => format!("{}#{name}", file.display()),
            Self::CredentialFile(file) => file.display().to_string(),
            Self::ConfigVars => format!("env.vars.{name}"),
        }
    }

    /// Whether only whoever starts the process can set it.
    const fn is_process(&self) -> bool {
        match self {
            Self::Process | Self::EnvFile(_) => true,
            Self::CredentialFile(_) | Self::DotEnv(_) | Self::ConfigVars => false,
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Variable {
    value: OsString,
    origin: VariableOrigin,
    /// Where else it stands, and whether with another value.
    hidden: Vec<(VariableOrigin, bool)>,
}

/// Environment variables, taken once at start and passed on.
///
/// Printing it shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, Variable>);

impl Environment {
    /// The bytes of a variable, if it is set at all.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&OsStr> {
        let variable = self.0.get(OsStr::new(name))?;
        Some(variable.value.as_os_str())
    }

    /// The bytes of a variable that the process was started with; no file in the state folder can
    /// set it.
    #[must_use]
    pub fn process(&self, name: &str) -> Option<&OsStr> {
        let variable = self.0.get(OsStr::new(name))?;
        variable
            .origin
            .is_process()
            .then_some(variable.value.as_os_str())
    }

    /// The value of a variable without surrounding white space; `None` when it is unset, blank or
    /// not UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name)?
            .to_str()
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    /// Where a variable comes from.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<&VariableOrigin> {
        self.0
            .get(OsStr::new(name))
            .map(|variable| &variable.origin)
    }

    /// Where else a variable stands without effect, and whether with another value.
    pub(crate) fn hidden(&self, name: &str) -> &[(VariableOrigin, bool)] {
        self.0
            .get(OsStr::new(name))
            .map_or(&[], |variable| &variable.hidden)
    }

    /// Takes out the variables that have just these values.
    pub(crate) fn set_aside(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            if self.raw(name) == Some(OsStr::new(value)) {
                self.0.remove(OsStr::new(name));
            }
        }
    }

    /// Sets a variable, whatever it was.
    pub(crate) fn put(&mut self, name: &str, value: impl Into<OsString>, origin: VariableOrigin) {
        let variable = Variable {
            value: value.into(),
            origin,
            hidden: Vec::new(),
        };
        self.0.insert(name.into(), variable);
    }

    /// Sets a variable unless it is set already, be it to nothing.
    pub(crate) fn put_beneath(
        &mut self,
        name: &str,
        value: impl Into<OsString>,
        origin: VariableOrigin,
    ) {
        let value = value.into();
        match self.0.get_mut(OsStr::new(name)) {
            None => self.put(name, value, origin),
            Some(variable) => {
                let differs = variable.value != value;
                variable.hidden.push((origin, differs));
            }
        }
    }

    /// What commands may inherit: everything but what systemd provides as a credential.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .filter(|(_, variable)| !matches!(variable.origin, VariableOrigin::CredentialFile(_)))
            .map(|(name, variable)| (name.as_os_str(), variable.value.as_os_str()))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    /// Collects variables, for example `std::env::vars_os()`; of equal names the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let process = |(name, value): (K, V)| {
            let variable = Variable {
                value: value.into(),
                origin: VariableOrigin::Process,
                hidden: Vec::new(),
            };
            (name.into(), variable)
        };
        Self(variables.into_iter().map(process).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn blank_and_undecodable_values_count_as_unset() {
        let environment: Environment = [
            ("SET", OsStr::new("  value\n")),
            ("BLANK", OsStr::new(" \t")),
            ("BYTES", OsStr::from_bytes(b"\xff")),
        ]
        .into_iter()
        .collect();
        assert_eq!(environment.text("SET"), Some("value"));
        assert_eq!(environment.text("BLANK"), None);
        assert_eq!(environment.text("BYTES"), None);
        assert_eq!(environment.text("UNSET"), None);
        assert_eq!(environment.raw("SET"), Some(OsStr::new("  value\n")));
    }

    #[test]
    fn what_is_set_is_never_overridden_from_beneath() {
        let mut environment: Environment =
            [("SET", "process"), ("EMPTY", "")].into_iter().collect();
        let dot_env = VariableOrigin::DotEnv("/s/.env".into());
        for name in ["SET", "EMPTY", "NEW"] {
            environment.put_beneath(name, "file", dot_env.clone());
            environment.put_beneath(name, "config", VariableOrigin::ConfigVars);
        }
        assert_eq!(environment.text("SET"), Some("process"));
        assert_eq!(environment.raw("EMPTY"), Some(OsStr::new("")));
        assert_eq!(environment.text("NEW"), Some("file"));
        assert_eq!(environment.process("NEW"), None);
        assert_eq!(environment.process("SET"), Some(OsStr::new("process")));
        assert_eq!(
            environment.hidden("NEW"),
            [(VariableOrigin::ConfigVars, true)]
        );
        let place = environment.origin("NEW").map(|origin| origin.place("NEW"));
        assert_eq!(place.as_deref(), Some("/s/.env#NEW"));
    }

    #[test]
    fn printing_shows_names_only() {
        let environment: Environment = [("OPENCLAW_GATEWAY_TOKEN", "hunter2")]
            .into_iter()
            .collect();
        let printed = format!("{environment:?}");
        assert!(printed.contains("OPENCLAW_GATEWAY_TOKEN"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
