//! The executables of the gateway's skills, which `autoAllowSkills` lets run without an entry
//! (exec and approvals §8.2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::allowlist::Resolution;

/// The executables of the gateway's skills, as this machine has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkillBins {
    files: BTreeMap<String, PathBuf>,
}

impl SkillBins {
    /// The names that a gateway gave, with the files that they stand for on the node's own `PATH`.
    /// Names that are not found are left out.
    pub fn new(resolved: impl IntoIterator<Item = (String, Resolution)>) -> Self {
        let file = |resolution: Resolution| resolution.trusted_path().map(PathBuf::from);
        Self {
            files: resolved
                .into_iter()
                .filter_map(|(name, resolution)| Some((name, file(resolution)?)))
                .collect(),
        }
    }

    /// Whether a command's executable is one of them: it was given by its name alone, and that
    /// leads to the same file.
    #[must_use]
    pub fn contain(&self, resolution: &Resolution) -> bool {
        self.files
            .get(&resolution.raw_token)
            .is_some_and(|file| resolution.trusted_path() == Some(file))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::SkillBins;
    use crate::allowlist::Resolution;

    fn resolution(token: &str, found: Option<&str>, real: Option<&str>) -> Resolution {
        Resolution {
            raw_token: token.to_owned(),
            resolved_path: found.map(PathBuf::from),
            real_path: real.map(PathBuf::from),
        }
    }

    #[test]
    fn a_skill_is_known_by_its_name_and_its_file() {
        let bins = SkillBins::new([
            (
                "tool".to_owned(),
                resolution("tool", Some("/opt/bin/tool"), Some("/opt/real")),
            ),
            ("gone".to_owned(), resolution("gone", None, None)),
        ]);
        for (token, found, real, expected) in [
            ("tool", Some("/opt/bin/tool"), Some("/opt/real"), true),
            (
                "tool",
                Some("/home/op/bin/tool"),
                Some("/home/op/bin/tool"),
                false,
            ),
            (
                "/opt/bin/tool",
                Some("/opt/bin/tool"),
                Some("/opt/real"),
                false,
            ),
            ("./tool", Some("/opt/bin/tool"), Some("/opt/real"), false),
            ("tool", None, None, false),
            ("gone", None, None, false),
            ("gone", Some("/tmp/gone"), Some("/tmp/gone"), false),
        ] {
            assert_eq!(
                bins.contain(&resolution(token, found, real)),
                expected,
                "{token} {found:?}"
            );
        }
    }
}
