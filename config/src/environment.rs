//! The environment as a value, so that a test or a service manager's credentials can stand in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

/// Environment variables, taken once at start and passed on.
///
/// Printing it shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The bytes of a variable, if it is set at all.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
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
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    /// Collects variables, for example `std::env::vars_os()`; of equal names the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
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
    fn printing_shows_names_only() {
        let environment: Environment = [("OPENCLAW_GATEWAY_TOKEN", "hunter2")]
            .into_iter()
            .collect();
        let printed = format!("{environment:?}");
        assert!(printed.contains("OPENCLAW_GATEWAY_TOKEN"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
