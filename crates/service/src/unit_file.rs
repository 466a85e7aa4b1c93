//! A unit as systemd sees it: the file, and the drop-ins over it.

use std::path::{Path, PathBuf};

use crate::words::{self, Unreadable};

/// One `Key=value`, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// `Unit`, `Service` or `Install`.
    pub section: String,
    /// Left of `=`.
    pub key: String,
    /// Right of `=`, trimmed, continuation lines joined.
    pub value: String,
    /// The file that says so.
    pub source: PathBuf,
}

/// The directives of a unit in the order that systemd reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile {
    directives: Vec<Directive>,
}

impl UnitFile {
    /// Adds what a file says; an empty value takes back what was said before, as systemd has it
    /// for lists.
    pub fn read(&mut self, text: &str, source: &Path) {
        let mut section = String::new();
        for line in logical_lines(text) {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                name.clone_into(&mut section);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            if value.is_empty() {
                self.directives
                    .retain(|old| old.section != section || old.key != key);
                continue;
            }
            self.directives.push(Directive {
                section: section.clone(),
                key: key.to_owned(),
                value: value.to_owned(),
                source: source.to_owned(),
            });
        }
    }

    /// Everything, in order.
    #[must_use]
    pub fn directives(&self) -> &[Directive] {
        &self.directives
    }

    /// All values of a key, in order.
    pub fn all<'a>(
        &'a self,
        section: &'a str,
        key: &'a str,
    ) -> impl Iterator<Item = &'a Directive> {
        self.directives
            .iter()
            .filter(move |directive| directive.section == section && directive.key == key)
    }

    /// The value of a key that has only one: the last.
    #[must_use]
    pub fn last(&self, section: &str, key: &str) -> Option<&Directive> {
        self.directives
            .iter()
            .rfind(|directive| directive.section == section && directive.key == key)
    }

    /// Program and arguments, without systemd's prefixes. Empty when there is no `ExecStart=`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn command(&self) -> Result<Vec<String>, Unreadable> {
        let Some(directive) = self.last("Service", "ExecStart") else {
            return Ok(Vec::new());
        };
        let value = directive
            .value
            .trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let mut words = words::split(value)?;
        for word in &mut words {
            *word = words::undoubled(word);
        }
        Ok(words)
    }

    /// `Environment=` as pairs, in order; of equal names the last counts, at the first one's place.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for directive in self.all("Service", "Environment") {
            for word in words::split(&directive.value).unwrap_or_default() {
                let word = word.replace("%%", "%");
                let Some((name, value)) = word.split_once('=') else {
                    continue;
                };
                match pairs.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => value.clone_into(known),
                    None => pairs.push((name.to_owned(), value.to_owned())),
                }
            }
        }
        pairs
    }

    /// `EnvironmentFile=` as paths; specifiers but `%%` and `%h` are left as they are.
    #[must_use]
    pub fn environment_files(&self, home: &Path) -> Vec<PathBuf> {
        self.all("Service", "EnvironmentFile")
            .map(|directive| {
                let path = directive.value.trim_start_matches('-');
                PathBuf::from(
                    path.replace("%h", &home.to_string_lossy())
                        .replace("%%", "%"),
                )
            })
            .collect()
    }
}

/// Lines without comments, with continuation lines joined by a space.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && begun.is_none()) {
            continue;
        }
        let (part, continues) = match line.strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        let whole = match begun.take() {
            Some(start) => start + " " + part.trim_start(),
            None => part.trim().to_owned(),
        };
        if continues {
            begun = Some(whole);
        } else {
            lines.push(whole);
        }
    }
    lines.extend(begun);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(files: &[(&str, &str)]) -> UnitFile {
        let mut unit = UnitFile::default();
        for (source, text) in files {
            unit.read(text, Path::new(source));
        }
        unit
    }

    #[test]
    fn a_unit_is_read_as_systemd_reads_it() {
        let unit = unit(&[(
            "/u",
            "# comment\n[Unit]\nDescription = A  b\n; another\n[Service]\n\
             ExecStart=/bin/x run \\\n  # between\n  --display-name \"My \\\"node\\\" 50%% $$5\"\n\
             Environment=A=1 \"B=two words\"\nEnvironment=A=50%%\n\
             EnvironmentFile=-%h/s/node.env\n",
        )]);
        assert_eq!(unit.last("Unit", "Description").unwrap().value, "A  b");
        assert_eq!(
            unit.command().unwrap(),
            ["/bin/x", "run", "--display-name", "My \"node\" 50% $5"]
        );
        assert_eq!(
            unit.environment(),
            [("A", "50%"), ("B", "two words")].map(|(name, value)| (name.into(), value.into()))
        );
        assert_eq!(
            unit.environment_files(Path::new("/home/a")),
            [Path::new("/home/a/s/node.env")]
        );
    }

    #[test]
    fn a_drop_in_overrides_and_an_empty_value_takes_back() {
        let unit = unit(&[
            (
                "/u",
                "[Service]\nExecStart=/bin/a\nRestart=always\nEnvironment=A=1\n",
            ),
            (
                "/d",
                "[Service]\nExecStart=\nExecStart=-/bin/b run\nRestart=no\nEnvironment=\n",
            ),
        ]);
        assert_eq!(unit.command().unwrap(), ["/bin/b", "run"]);
        let restart = unit.last("Service", "Restart").unwrap();
        assert_eq!(
            (restart.value.as_str(), restart.source.as_path()),
            ("no", Path::new("/d"))
        );
        assert_eq!(unit.environment(), []);
    }

    #[test]
    fn a_unit_without_a_command_is_no_error() {
        assert_eq!(
            unit(&[("/u", "nonsense\n[Service\n=\n")])
                .command()
                .unwrap(),
            Vec::<String>::new()
        );
    }
}
