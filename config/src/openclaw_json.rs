//! The keys of openclaw.json that a node obeys (config §4).
//!
//! The file belongs to upstream, so unknown keys are none of our business; a key that is obeyed
//! must have exactly the type that it should have, because guessing at a policy is worse than not
//! starting.

mod exec;
mod gateway;
mod secrets;

use std::io;
use std::path::{Path, PathBuf};

use approvals::policy::{ExecConfig, UnknownValue};
use config::{Config, ConfigError, Map, Source, Value, ValueKind};

pub use self::gateway::{AuthMode, Gateway, GatewayMode};
pub use self::secrets::{
    EnvProvider, ExecProvider, FileMode, FileProvider, Provider, SecretInput, SecretReference,
    SecretSource, Secrets,
};

use crate::browser::BrowserSettings;
use crate::document::{self, FILE_LIMIT_BYTES, HardLinks};
use crate::env_file;
use crate::environment::VariableOrigin;
use crate::setting::{Origins, Setting};
use crate::{Environment, Paths, include, substitution};

/// The top-level keys under which a node finds anything.
const KEYS: [&str; 7] = [
    "agents", "browser", "env", "gateway", "nodeHost", "secrets", "tools",
];

/// Values that may be secrets: they are expanded when they are read as such, because whether a
/// credential stands there or a reference to one shows only in what was written (config §4.1).
const SECRET_KEYS: [&str; 4] = [
    "gateway.auth.password",
    "gateway.auth.token",
    "gateway.remote.password",
    "gateway.remote.token",
];

/// Variables that openclaw.json must not set, because they say how far it may reach.
const RESERVED_VARIABLES: [&str; 3] = [
    "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS",
    "OPENCLAW_CONFIG_READONLY",
    "OPENCLAW_INCLUDE_ROOTS",
];

/// What openclaw.json says, where it says anything.
#[derive(Debug, Clone, Default)]
pub struct OpenclawJson {
    /// `tools.exec` and that of single agents.
    pub exec: ExecConfig,
    /// `gateway`: how its own machine's gateway is reached, and with what.
    pub gateway: Gateway,
    /// `secrets`: where secret references lead.
    pub secrets: Secrets,
    /// What is worth telling the operator, though it stops nothing.
    pub warnings: Vec<String>,
    /// `browser`, `nodeHost.browserProxy` and what they follow from.
    pub browser: BrowserSettings,
}

/// Why openclaw.json cannot be obeyed. The text names the file and, where there is one, the line;
/// a wrong value is never shown.
#[derive(Debug, thiserror::Error)]
pub enum OpenclawJsonError {
    /// It is there, but cannot be read.
    #[error("cannot read {file}: {source}; let this user read it", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{file} is not a regular file; put the configuration there, or point OPENCLAW_CONFIG_PATH at it", file = .file.display())]
    NotAFile {
        /// The path.
        file: PathBuf,
    },
    /// An included file has several names.
    #[error("{file} has other hard links; copy it, so that nobody changes it under another name", file = .file.display())]
    HardLinked {
        /// The file.
        file: PathBuf,
    },
    /// It is larger than 2 MiB.
    #[error("{file} is larger than {FILE_LIMIT_BYTES} bytes; that is no openclaw.json", file = .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It is not JSON5.
    #[error("{file} is not valid JSON5: {detail}", file = .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// `$include` cannot be followed.
    #[error("{place}: $include: {reason}")]
    Include {
        /// The file and the line.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A key that the node obeys has a value that it cannot obey.
    #[error("{place}: {key} must be {expected}")]
    Wrong {
        /// The file and the line.
        place: String,
        /// The path of the key, as in `agents.list[0].tools.exec.ask`.
        key: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A key that takes one of a few words has another one.
    #[error("{place}: {key} has an unknown value; {source}")]
    UnknownWord {
        /// The file and the line.
        place: String,
        /// The path of the key.
        key: String,
        /// The words that it takes.
        source: UnknownValue,
    },
    /// Two places say what one agent may do.
    #[error("{place}: {key} repeats what {first} says about the same agent; keep one of them")]
    Repeated {
        /// The file and the line.
        place: String,
        /// The second place.
        key: String,
        /// The first place.
        first: String,
    },
}

impl OpenclawJson {
    /// Reads the file with all that it includes; a missing one says nothing. Its `env` goes
    /// beneath `environment`, from which its `${VAR}` are filled.
    ///
    /// # Errors
    /// [`OpenclawJsonError`], whose text is ready for the operator.
    pub fn load(paths: &Paths, environment: &mut Environment) -> Result<Self, OpenclawJsonError> {
        let file = &paths.config_file;
        let root = match document::read(file, HardLinks::Allowed)? {
            Some(root) => root,
            None => Value::new(None, ValueKind::Table(Map::new())),
        };
        let roots = paths.include_roots(environment);
        let mut root = include::resolve(root, file, &roots, &KEYS)?;
        let mut origins = Origins::new(file);
        put_variables(&root, &origins, environment)?;
        let mut warnings = Vec::new();
        fill_in(
            &mut root,
            String::new(),
            environment,
            &mut origins,
            &mut warnings,
        );

        let layered = Layers::new(file, root)?
            .above(gateway::from_environment(environment, &mut warnings))
            .build()
            .map_err(|error| OpenclawJsonError::Syntax {
                file: file.to_owned(),
                detail: error.to_string(),
            })?;
        let root = Setting {
            origins: &origins,
            key: String::new(),
            value: &layered.cache,
        };
        let secrets = Secrets::read(&root)?;
        let gateway = Gateway::read(&root, &secrets, environment)?;
        Ok(Self {
            exec: exec::exec_config(&root)?,
            browser: BrowserSettings::read(&root, gateway.port)?,
            gateway,
            secrets,
            warnings,
        })
    }
}

/// Layers of settings, the later ones above the earlier: the file, the environment.
///
/// Types are kept as written: the values are looked at as they are, and never through the
/// conversions of [`Config`], which would read `"yes"` as true.
struct Layers(Vec<Layer>);

#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Layers {
    fn new(file: &Path, root: Value) -> Result<Self, OpenclawJsonError> {
        let place = root
            .origin()
            .map_or_else(|| file.display().to_string(), str::to_owned);
        let ValueKind::Table(members) = root.kind else {
            return Err(OpenclawJsonError::Wrong {
                place,
                key: "the whole file".to_owned(),
                expected: "an object",
            });
        };
        // An included file can bring in what is none of ours; a dot in it would be read as a path.
        let obeyed = members
            .into_iter()
            .filter(|(key, _)| KEYS.contains(&key.as_str()));
        Ok(Self(vec![Layer(obeyed.collect())]))
    }

    fn above(mut self, layer: Option<Layer>) -> Self {
        self.0.extend(layer);
        self
    }

    fn build(self) -> Result<Config, ConfigError> {
        let layers = self.0.into_iter();
        layers
            .fold(Config::builder(), |builder, layer| {
                builder.add_source(layer)
            })
            .build()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Puts `env.vars`, and what stands beside it in `env`, beneath the environment. Blank values,
/// names that no variable can have and values that would need another variable are passed over.
fn put_variables(
    root: &Value,
    origins: &Origins,
    environment: &mut Environment,
) -> Result<(), OpenclawJsonError> {
    if !matches!(root.kind, ValueKind::Table(_)) {
        return Ok(());
    }
    let root = Setting {
        origins,
        key: String::new(),
        value: root,
    };
    let Some(env) = root.member("env")? else {
        return Ok(());
    };
    let mut found = Vec::new();
    if let Some(vars) = env.member("vars")? {
        for (name, value) in vars.members()? {
            found.push((name, value.text()?));
        }
    }
    for (name, value) in env.members()? {
        if name != "vars"
            && name != "shellEnv"
            && let ValueKind::String(text) = &value.value.kind
        {
            found.push((name, text));
        }
    }
    for (name, value) in found {
        let is_usable = env_file::is_name(name)
            && !RESERVED_VARIABLES.contains(&name.to_ascii_uppercase().as_str())
            && !value.trim().is_empty()
            && !value.contains('\0')
            && substitution::names(value).is_empty();
        if is_usable {
            environment.put_beneath(name, value, VariableOrigin::ConfigVars);
        }
    }
    Ok(())
}

/// Fills `${VAR}` in every string but those that may be secrets, and notes where objects stand.
fn fill_in(
    value: &mut Value,
    key: String,
    environment: &Environment,
    origins: &mut Origins,
    warnings: &mut Vec<String>,
) {
    if matches!(value.kind, ValueKind::Table(_))
        && let Some(place) = value.origin()
    {
        origins.objects.insert(key.clone(), place.to_owned());
    }
    match &mut value.kind {
        ValueKind::String(text) if !SECRET_KEYS.contains(&key.as_str()) => {
            let expanded = substitution::expand(text, environment);
            for name in expanded.missing {
                warnings.push(format!(
                    "{key} of openclaw.json names {name}, which is not set; it stays as it is written"
                ));
            }
            *text = expanded.text;
        }
        ValueKind::Table(members) => {
            for (name, member) in members {
                let key = match key.as_str() {
                    "" => name.clone(),
                    owner => format!("{owner}.{name}"),
                };
                fill_in(member, key, environment, origins, warnings);
            }
        }
        ValueKind::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                fill_in(
                    item,
                    format!("{key}[{index}]"),
                    environment,
                    origins,
                    warnings,
                );
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
