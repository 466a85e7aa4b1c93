//! The launchd agent: the template, with what is this machine's own put in, and back.

use std::path::{Path, PathBuf};

use plist::{Dictionary, Value};

use crate::definition::Definition;
use crate::drift::{self, Values};

/// The agent that operators may also copy by hand.
const TEMPLATE: &[u8] = include_bytes!("../../../launchd/ai.openclaw.node.plist");

/// The option by which the node is told where its secrets are.
pub(crate) const ENV_FILE_OPTION: &str = "--env-file";
/// The option by which the node writes its log itself, and rotates it by size: launchd does not.
pub(crate) const LOG_FILE_OPTION: &str = "--log-file";

/// What an agent needs beside the definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentPlaces {
    /// The file of secrets.
    pub environment_file: PathBuf,
    /// What the node writes.
    pub log_file: PathBuf,
}

/// A definition that no agent can carry.
#[derive(Debug, thiserror::Error)]
pub enum UnrenderableAgent {
    /// A path that is not UTF-8, which a property list cannot hold.
    #[error("{path} cannot be written into a service file: it is not UTF-8", path = .path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A character that XML cannot hold.
    #[error(
        "{what} cannot be written into a service file: it holds a control character or a line break"
    )]
    Character {
        /// What the word is, such as `argument --display-name`.
        what: String,
    },
    /// The property list itself.
    #[error("the launchd agent cannot be written: {0}")]
    Plist(String),
}

impl From<plist::Error> for UnrenderableAgent {
    // As text, so that a build without launchd holds nothing of the crate.
    fn from(error: plist::Error) -> Self {
        Self::Plist(error.to_string())
    }
}

/// Writes the agent.
///
/// # Errors
/// [`UnrenderableAgent`], when a value has no place in a property list.
pub fn render(definition: &Definition, places: &AgentPlaces) -> Result<String, UnrenderableAgent> {
    let template = Value::from_reader_xml(TEMPLATE)?;
    let mut agent = template.into_dictionary().unwrap_or_default();
    agent.insert(
        "ProgramArguments".to_owned(),
        arguments(definition, places)?,
    );
    let mut variables = Dictionary::new();
    for (name, value) in &definition.environment {
        let value = word(&format!("variable {name}"), value)?;
        variables.insert(name.clone(), value);
    }
    agent.insert("EnvironmentVariables".to_owned(), variables.into());
    let log_file = word("the log file's path", text(&places.log_file)?)?;
    agent.insert("StandardOutPath".to_owned(), log_file.clone());
    agent.insert("StandardErrorPath".to_owned(), log_file);
    let mut written = Vec::new();
    Value::Dictionary(agent).to_writer_xml(&mut written)?;
    let mut written = String::from_utf8_lossy(&written).into_owned();
    written.push('\n');
    Ok(written)
}

fn arguments(definition: &Definition, places: &AgentPlaces) -> Result<Value, UnrenderableAgent> {
    let program = word("the program's path", text(&definition.program)?)?;
    let environment_file = word(
        "the environment file's path",
        text(&places.environment_file)?,
    )?;
    let mut arguments = vec![
        program,
        Value::String("run".to_owned()),
        Value::String(ENV_FILE_OPTION.to_owned()),
        environment_file,
        Value::String(LOG_FILE_OPTION.to_owned()),
        word("the log file's path", text(&places.log_file)?)?,
    ];
    let mut option = "";
    for argument in &definition.run_arguments {
        arguments.push(word(&format!("argument {option}"), argument)?);
        option = argument;
    }
    Ok(Value::Array(arguments))
}

/// XML 1.0 holds no control characters, and its readers fold line breaks.
fn word(what: &str, value: &str) -> Result<Value, UnrenderableAgent> {
    let is_unwritable = |character: char| {
        (character.is_ascii_control() && character != '\t')
            || matches!(character, '\u{fffe}' | '\u{ffff}')
    };
    if value.contains(is_unwritable) {
        return Err(UnrenderableAgent::Character {
            what: what.to_owned(),
        });
    }
    Ok(Value::String(value.to_owned()))
}

fn text(path: &Path) -> Result<&str, UnrenderableAgent> {
    path.to_str().ok_or_else(|| UnrenderableAgent::Path {
        path: path.to_owned(),
    })
}

/// What an agent says that matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Agent {
    /// Program and arguments, without upstream's shell wrapper.
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) environment_file: Option<PathBuf>,
    pub(crate) working_directory: Option<PathBuf>,
    dictionary: Dictionary,
}

impl Agent {
    /// Reads an agent, in XML or binary form.
    pub(crate) fn read(path: &Path) -> Result<Self, plist::Error> {
        let dictionary = Value::from_file(path)?
            .into_dictionary()
            .unwrap_or_default();
        let all: Vec<String> = dictionary
            .get("ProgramArguments")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_string().map(str::to_owned))
            .collect();
        let (command, environment_file) = without_wrapper(all);
        let environment = dictionary
            .get("EnvironmentVariables")
            .and_then(Value::as_dictionary)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_string()?.to_owned())))
            .collect();
        Ok(Self {
            command,
            environment,
            environment_file,
            working_directory: dictionary
                .get("WorkingDirectory")
                .and_then(Value::as_string)
                .map(PathBuf::from),
            dictionary,
        })
    }

    /// Reads what [`render`] wrote.
    pub(crate) fn parse(text: &str) -> Result<Dictionary, plist::Error> {
        Ok(Value::from_reader_xml(text.as_bytes())?
            .into_dictionary()
            .unwrap_or_default())
    }

    /// The dictionary as it is.
    pub(crate) const fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }
}

/// Upstream starts its node as `/bin/sh wrapper.sh file.env node …` or `wrapper.sh file.env node …`.
fn without_wrapper(all: Vec<String>) -> (Vec<String>, Option<PathBuf>) {
    let wrapper = all
        .iter()
        .take(2)
        .position(|word| word.ends_with("-env-wrapper.sh"));
    if let Some(at) = wrapper {
        let file = all.get(at + 1).map(PathBuf::from);
        return (all.into_iter().skip(at + 2).collect(), file);
    }
    let file = all.windows(2).find_map(|pair| match pair {
        [option, file] if option == ENV_FILE_OPTION => Some(PathBuf::from(file)),
        _ => None,
    });
    (all, file)
}

/// What is compared of an agent: one value per key, and one per variable.
pub(crate) fn values(agent: &Dictionary, source: &Path) -> Values {
    let mut values = Values::new();
    let source = Some(source.to_owned());
    for (key, value) in agent {
        if let ("EnvironmentVariables", Some(variables)) = (key.as_str(), value.as_dictionary()) {
            for (name, value) in variables {
                let key = format!("EnvironmentVariables.{name}");
                let value = drift::shown_variable(name, shown(value));
                values.insert(key, (value, source.clone()));
            }
        } else {
            values.insert(key.clone(), (shown(value), source.clone()));
        }
    }
    values
}

fn shown(value: &Value) -> String {
    match value {
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(words) => words.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> AgentPlaces {
        AgentPlaces {
            environment_file: "/Users/a b/.openclaw/service-env/ai.openclaw.node.env".into(),
            log_file: "/Users/a b/Library/Logs/openclaw/node.log".into(),
        }
    }

    fn definition(arguments: &[&str]) -> Definition {
        Definition {
            program: "/usr/local/bin/openclaw-node".into(),
            run_arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            environment: vec![("HOME".to_owned(), "/Users/a b".to_owned())],
        }
    }

    #[test]
    fn what_is_rendered_reads_back() {
        let arguments = ["--display-name", "My \"node\" 50% & <b> 'é' 🦀 ]]>"];
        let text = render(&definition(&arguments), &places()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.plist");
        std::fs::write(&path, &text).unwrap();
        let agent = Agent::read(&path).unwrap();
        let mut command = vec![
            "/usr/local/bin/openclaw-node",
            "run",
            "--env-file",
            "/Users/a b/.openclaw/service-env/ai.openclaw.node.env",
            "--log-file",
            "/Users/a b/Library/Logs/openclaw/node.log",
        ];
        command.extend(arguments);
        assert_eq!(agent.command, command);
        assert_eq!(agent.environment, definition(&[]).environment);
        assert_eq!(agent.environment_file, Some(places().environment_file));
        assert_eq!(&Agent::parse(&text).unwrap(), agent.dictionary());
    }

    #[test]
    fn a_character_that_xml_cannot_hold_is_refused_and_named() {
        for wrong in ["a\nb", "a\0b", "a\u{1b}b", "a\rb"] {
            let error = render(&definition(&["--display-name", wrong]), &places())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("argument --display-name cannot"),
                "{error}"
            );
        }
    }

    #[test]
    fn upstreams_wrapper_is_seen_through() {
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let bare = words(&["/n/node", "/o/index.js", "node", "run"]);
        for wrapped in [
            words(&[
                "/bin/sh",
                "/s/ai.openclaw.node-env-wrapper.sh",
                "/s/e.env",
                "/n/node",
                "/o/index.js",
                "node",
                "run",
            ]),
            words(&[
                "/s/ai.openclaw.node-env-wrapper.sh",
                "/s/e.env",
                "/n/node",
                "/o/index.js",
                "node",
                "run",
            ]),
        ] {
            assert_eq!(
                without_wrapper(wrapped),
                (bare.clone(), Some("/s/e.env".into()))
            );
        }
        assert_eq!(without_wrapper(bare.clone()), (bare, None));
    }
}
