//! The systemd unit: the template, with what is this machine's own put in.

use std::path::{Path, PathBuf};

use crate::definition::Definition;
use crate::words::{self, Unwritable};

/// Where a unit lives and what it may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A user's own service manager.
    User,
    /// The machine's service manager, with a user of its own for the node.
    System,
}

impl Scope {
    const fn template(self) -> &'static str {
        match self {
            Self::User => include_str!("../../../systemd/openclaw-node.service"),
            Self::System => include_str!("../../../systemd/openclaw-node.system.service"),
        }
    }

    /// How systemd's tools are told which manager is meant.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::User => "--user",
            Self::System => "--system",
        }
    }
}

/// Where a unit takes its secrets from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of `NAME=value` lines, which need not be there.
    EnvironmentFile(PathBuf),
    /// Files that systemd copies for the service, by name (D20).
    Credentials(Vec<(String, PathBuf)>),
}

/// A definition that no unit file can carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnrenderableUnit {
    /// A word that cannot be written.
    #[error("{what} cannot be written into a service file: {reason}")]
    Word {
        /// What the word is, such as `argument --display-name`.
        what: String,
        /// Why not.
        reason: Unwritable,
    },
    /// A path that is not UTF-8.
    #[error("{path} cannot be written into a service file: it is not UTF-8", path = .path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
}

/// Writes the unit.
///
/// # Errors
/// [`UnrenderableUnit`], when a value has no place in a unit file.
pub fn render(
    scope: Scope,
    definition: &Definition,
    secrets: &SecretSource,
) -> Result<String, UnrenderableUnit> {
    let mut unit = format!(
        "# Written by openclaw-node {}; `openclaw-node install --force` writes it anew.\n\
         # Put changes into a drop-in: systemctl {} edit openclaw-node\n",
        env!("CARGO_PKG_VERSION"),
        scope.flag(),
    );
    let body = scope
        .template()
        .lines()
        .skip_while(|line| line.starts_with('#'));
    let mut environment = Some(environment_lines(definition)?);
    let mut secrets = Some(secret_lines(secrets)?);
    for line in body {
        match line.split_once('=').map(|(key, _)| key) {
            Some("ExecStart") => unit.push_str(&exec_start(definition)?),
            Some("Environment") => unit.push_str(&environment.take().unwrap_or_default()),
            Some("EnvironmentFile" | "LoadCredential") => {
                unit.push_str(&secrets.take().unwrap_or_default());
            }
            _ => {
                unit.push_str(line);
                unit.push('\n');
            }
        }
    }
    Ok(unit)
}

fn exec_start(definition: &Definition) -> Result<String, UnrenderableUnit> {
    let path = text(&definition.program)?;
    let mut line = word("the program's path", words::program(path))?;
    line.push_str(" run");
    let mut option = "";
    for argument in &definition.run_arguments {
        let written = word(&format!("argument {option}"), words::argument(argument))?;
        line.push(' ');
        line.push_str(&written);
        option = argument;
    }
    Ok(format!("ExecStart={line}\n"))
}

fn environment_lines(definition: &Definition) -> Result<String, UnrenderableUnit> {
    let mut lines = String::new();
    for (name, value) in &definition.environment {
        let written = word(&format!("variable {name}"), words::assignment(name, value))?;
        lines.push_str(&format!("Environment={written}\n"));
    }
    Ok(lines)
}

fn secret_lines(secrets: &SecretSource) -> Result<String, UnrenderableUnit> {
    match secrets {
        SecretSource::EnvironmentFile(path) => {
            let path = word("the environment file's path", words::bare_path(text(path)?))?;
            Ok(format!("EnvironmentFile=-{path}\n"))
        }
        SecretSource::Credentials(files) => {
            let mut lines = String::new();
            for (name, path) in files {
                let path = word("a credential's path", words::bare_path(text(path)?))?;
                lines.push_str(&format!("LoadCredential={name}:{path}\n"));
            }
            Ok(lines)
        }
    }
}

fn word(what: &str, written: Result<String, Unwritable>) -> Result<String, UnrenderableUnit> {
    written.map_err(|reason| UnrenderableUnit::Word {
        what: what.to_owned(),
        reason,
    })
}

fn text(path: &Path) -> Result<&str, UnrenderableUnit> {
    path.to_str().ok_or_else(|| UnrenderableUnit::Path {
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit_file::UnitFile;

    fn definition(arguments: &[&str]) -> Definition {
        Definition {
            program: "/opt/my tools/50%/openclaw-node".into(),
            run_arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            environment: vec![
                ("HOME".to_owned(), "/home/a b".to_owned()),
                ("OPENCLAW_SERVICE_KIND".to_owned(), "node".to_owned()),
            ],
        }
    }

    fn read(text: &str) -> UnitFile {
        let mut unit = UnitFile::default();
        unit.read(text, Path::new("/u"));
        unit
    }

    #[test]
    fn what_is_rendered_reads_back() {
        let arguments = [
            "--display-name",
            "My \"node\" 50% $HOME \\ é",
            "--port",
            "1",
        ];
        let secrets = SecretSource::EnvironmentFile("/home/a b/100%/node.systemd.env".into());
        let text = render(Scope::User, &definition(&arguments), &secrets).unwrap();
        let unit = read(&text);
        let mut command = vec!["/opt/my tools/50%/openclaw-node", "run"];
        command.extend(arguments);
        assert_eq!(unit.command().unwrap(), command);
        assert_eq!(unit.environment(), definition(&[]).environment);
        assert_eq!(
            unit.environment_files(Path::new("/home/a")),
            [Path::new("/home/a b/100%/node.systemd.env")]
        );
        assert!(!text.contains("%h"), "{text}");
    }

    #[test]
    fn everything_else_is_as_in_the_template() {
        for scope in [Scope::User, Scope::System] {
            let secrets = SecretSource::Credentials(Vec::new());
            let rendered = read(&render(scope, &definition(&[]), &secrets).unwrap());
            let template = read(scope.template());
            let own = [
                "ExecStart",
                "Environment",
                "EnvironmentFile",
                "LoadCredential",
            ];
            let fixed = |unit: &UnitFile| -> Vec<_> {
                unit.directives()
                    .iter()
                    .filter(|directive| !own.contains(&directive.key.as_str()))
                    .cloned()
                    .collect()
            };
            assert_eq!(fixed(&rendered), fixed(&template));
            assert!(fixed(&template).len() > 15);
        }
    }

    #[test]
    fn credentials_are_named_by_file() {
        let files = vec![("OPENCLAW_GATEWAY_TOKEN".to_owned(), "/etc/x/T".into())];
        let text = render(
            Scope::System,
            &definition(&[]),
            &SecretSource::Credentials(files),
        )
        .unwrap();
        assert!(
            text.contains("\nLoadCredential=OPENCLAW_GATEWAY_TOKEN:/etc/x/T\n"),
            "{text}"
        );
        assert!(!text.contains("EnvironmentFile"), "{text}");
    }

    #[test]
    fn a_line_break_is_refused_and_named() {
        let secrets = SecretSource::Credentials(Vec::new());
        let error = render(
            Scope::User,
            &definition(&["--display-name", "a\nb"]),
            &secrets,
        )
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "argument --display-name cannot be written into a service file: it holds a line break or a NUL, which no service file can carry"
        );
    }
}
