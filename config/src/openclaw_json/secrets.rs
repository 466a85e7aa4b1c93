//! `secrets`, and references to what it provides (config §4.1).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ValueKind;
use secrecy::SecretString;

use super::OpenclawJsonError;
use crate::Environment;
use crate::setting::Setting;
use crate::substitution;

/// The provider that a reference means when nothing names another.
const DEFAULT_PROVIDER: &str = "default";

/// How long a provider may take, unless told otherwise (config §4.1).
const DEFAULT_TIMEOUT_MS: u64 = 5_000;
/// How much a provider may answer, unless told otherwise, in bytes (config §4.1).
const DEFAULT_SIZE: u64 = 1024 * 1024;
/// The most that a provider can be allowed to answer, in bytes.
const SIZE_LIMIT: u64 = 20 * 1024 * 1024;

/// `secrets`: where references lead.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `defaults.env`: the provider of `$NAME`.
    pub default_env: Option<String>,
    /// `providers`, by alias.
    pub providers: BTreeMap<String, Provider>,
}

/// One entry of `secrets.providers`.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Environment variables.
    Env(EnvProvider),
    /// A file.
    File(FileProvider),
    /// A program.
    Exec(ExecProvider),
    /// Upstream's own store.
    Store,
    /// A program that an upstream plugin brings.
    Plugin,
}

impl Provider {
    /// The source that references to it must name.
    #[must_use]
    pub const fn source(&self) -> SecretSource {
        match self {
            Self::Env(_) => SecretSource::Env,
            Self::File(_) => SecretSource::File,
            Self::Exec(_) | Self::Plugin => SecretSource::Exec,
            Self::Store => SecretSource::Store,
        }
    }
}

/// Environment variables that references may name.
#[derive(Debug, Clone)]
pub struct EnvProvider {
    /// The only names, if there is a list; an empty one permits none.
    pub allowlist: Option<BTreeSet<String>>,
}

/// A file that holds secrets.
#[derive(Debug, Clone)]
pub struct FileProvider {
    /// Where it is; `~` is home.
    pub path: String,
    /// How it is read.
    pub mode: FileMode,
    /// How long reading may take.
    pub timeout: Duration,
    /// How large it may be, in bytes.
    pub max_bytes: u64,
}

/// What a file of secrets holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// An object, in which references point.
    Json,
    /// One secret.
    SingleValue,
}

/// A program that prints secrets.
#[derive(Debug, Clone)]
pub struct ExecProvider {
    /// The absolute path of the program.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables that it gets, beside nothing.
    pub env: BTreeMap<String, SecretString>,
    /// Variables of the node that it gets.
    pub pass_env: Vec<String>,
    /// Folders that it must lie in, if there are any.
    pub trusted_dirs: Vec<PathBuf>,
    /// How long it may take.
    pub timeout: Duration,
    /// How long it may be silent.
    pub no_output_timeout: Duration,
    /// How much it may print, in bytes.
    pub max_output_bytes: u64,
    /// Whether its answer must be JSON; otherwise one secret may stand there as plain text.
    pub json_only: bool,
}

/// Where a reference looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretSource {
    /// The environment.
    Env,
    /// A file.
    File,
    /// A program.
    Exec,
    /// Upstream's own store.
    Store,
}

impl SecretSource {
    /// The word in openclaw.json.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::File => "file",
            Self::Exec => "exec",
            Self::Store => "store",
        }
    }

    /// Whether `id` can name a secret there.
    fn accepts(self, id: &str) -> bool {
        match self {
            Self::Env | Self::Store => is_variable(id),
            Self::File => is_pointer(id),
            Self::Exec => is_exec_id(id),
        }
    }
}

/// A reference to a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretReference {
    /// Where it looks.
    pub source: SecretSource,
    /// Through which provider.
    pub provider: String,
    /// For which secret.
    pub id: String,
}

/// What stands where a credential is expected; never blank.
#[derive(Debug, Clone)]
pub enum SecretInput {
    /// The credential, trimmed.
    Plain(SecretString),
    /// A reference to it.
    Reference(SecretReference),
    /// A text with `${VAR}` of variables that are not set.
    Incomplete {
        /// Those variables.
        variables: Vec<String>,
    },
}

impl SecretInput {
    /// Reads a text, or an object of exactly `source`, `provider` and `id`. `None` for a blank text.
    pub(super) fn read(
        value: &Setting<'_>,
        secrets: &Secrets,
        environment: &Environment,
    ) -> Result<Option<Self>, OpenclawJsonError> {
        match &value.value.kind {
            ValueKind::String(text) => Ok(Self::from_text(text, secrets, environment)),
            ValueKind::Table(_) => reference(value).map(|found| Some(Self::Reference(found))),
            _ => Err(value.wrong(REFERENCE)),
        }
    }

    fn from_text(text: &str, secrets: &Secrets, environment: &Environment) -> Option<Self> {
        let trimmed = text.trim();
        let braced = trimmed
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'));
        let name = braced.or_else(|| trimmed.strip_prefix('$'));
        if let Some(name) = name.filter(|name| is_variable(name)) {
            let value = braced.and_then(|name| substitution::value(environment, name));
            return match value {
                Some(value) => plain(value),
                None => Some(Self::Reference(SecretReference {
                    source: SecretSource::Env,
                    provider: secrets.default_env().to_owned(),
                    id: name.to_owned(),
                })),
            };
        }
        let expanded = substitution::expand(text, environment);
        match expanded.missing.is_empty() {
            true => plain(&expanded.text),
            false => Some(Self::Incomplete {
                variables: expanded.missing,
            }),
        }
    }
}

fn plain(value: &str) -> Option<SecretInput> {
    let value = value.trim();
    (!value.is_empty()).then(|| SecretInput::Plain(SecretString::from(value)))
}

/// What is expected where a credential stands.
const REFERENCE: &str =
    "a string, or a secret reference {source: env|file|exec|store, provider, id}";

fn reference(value: &Setting<'_>) -> Result<SecretReference, OpenclawJsonError> {
    let mut text = BTreeMap::new();
    for (name, member) in value.members()? {
        if !matches!(name, "source" | "provider" | "id") {
            return Err(value.wrong(REFERENCE));
        }
        text.insert(name, member.text()?);
    }
    let (Some(source), Some(provider), Some(id)) =
        (text.get("source"), text.get("provider"), text.get("id"))
    else {
        return Err(value.wrong(REFERENCE));
    };
    let source = match *source {
        "env" => SecretSource::Env,
        "file" => SecretSource::File,
        "exec" => SecretSource::Exec,
        "store" => SecretSource::Store,
        _ => return Err(value.wrong(REFERENCE)),
    };
    if !is_alias(provider) {
        return Err(
            value.wrong("a secret reference whose provider matches ^[a-z][a-z0-9_-]{0,63}$")
        );
    }
    if !source.accepts(id) {
        return Err(value.wrong(match source {
            SecretSource::Env | SecretSource::Store => {
                "a secret reference whose id matches ^[A-Z][A-Z0-9_]{0,127}$"
            }
            SecretSource::File => {
                "a secret reference whose id is a JSON pointer such as /gateway/token, or \"value\""
            }
            SecretSource::Exec => {
                "a secret reference whose id matches ^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,255}$ without . and .. between slashes"
            }
        }));
    }
    Ok(SecretReference {
        source,
        provider: (*provider).to_owned(),
        id: (*id).to_owned(),
    })
}

impl Secrets {
    /// The provider of `$NAME`.
    #[must_use]
    pub fn default_env(&self) -> &str {
        self.default_env.as_deref().unwrap_or(DEFAULT_PROVIDER)
    }

    pub(super) fn read(root: &Setting<'_>) -> Result<Self, OpenclawJsonError> {
        let mut read = Self::default();
        let Some(secrets) = root.member("secrets")? else {
            return Ok(read);
        };
        if let Some(defaults) = secrets.member("defaults")?
            && let Some(env) = defaults.member("env")?
        {
            read.default_env = Some(alias(&env)?.to_owned());
        }
        if let Some(providers) = secrets.member("providers")? {
            for (name, provider) in providers.members()? {
                read.providers
                    .insert(name.to_owned(), self::provider(&provider)?);
            }
        }
        Ok(read)
    }
}

fn alias<'a>(value: &Setting<'a>) -> Result<&'a str, OpenclawJsonError> {
    let text = value.text()?;
    match is_alias(text) {
        true => Ok(text),
        false => Err(value.wrong("a provider's name, ^[a-z][a-z0-9_-]{0,63}$")),
    }
}

fn provider(value: &Setting<'_>) -> Result<Provider, OpenclawJsonError> {
    let expected = "a provider with source \"env\", \"file\", \"exec\" or \"store\"";
    let source = value.member("source")?;
    let source = source.ok_or_else(|| value.wrong(expected))?;
    match source.text()? {
        "env" => {
            let allowlist = value.optional("allowlist", variables)?;
            Ok(Provider::Env(EnvProvider {
                allowlist: allowlist.map(|names| names.into_iter().collect()),
            }))
        }
        "file" => file_provider(value).map(Provider::File),
        "exec" if value.member("pluginIntegration")?.is_some() => Ok(Provider::Plugin),
        "exec" => exec_provider(value).map(Provider::Exec),
        "store" => Ok(Provider::Store),
        _ => Err(source.wrong("\"env\", \"file\", \"exec\" or \"store\"")),
    }
}

fn file_provider(value: &Setting<'_>) -> Result<FileProvider, OpenclawJsonError> {
    let path = value
        .optional("path", Setting::text)?
        .filter(|path| !path.is_empty());
    let Some(path) = path else {
        return Err(value.wrong("a file provider with a path"));
    };
    let mode = match value.member("mode")? {
        None => FileMode::Json,
        Some(mode) => match mode.text()? {
            "json" => FileMode::Json,
            "singleValue" => FileMode::SingleValue,
            _ => return Err(mode.wrong("\"json\" or \"singleValue\"")),
        },
    };
    Ok(FileProvider {
        path: path.to_owned(),
        mode,
        timeout: value
            .optional("timeoutMs", Setting::timeout)?
            .unwrap_or(Duration::from_millis(DEFAULT_TIMEOUT_MS)),
        max_bytes: value.optional("maxBytes", size)?.unwrap_or(DEFAULT_SIZE),
    })
}

fn exec_provider(value: &Setting<'_>) -> Result<ExecProvider, OpenclawJsonError> {
    let absolute = "an absolute path without quotes and shell characters";
    let Some(command) = value.member("command")? else {
        return Err(value.wrong("an exec provider with a command"));
    };
    let path = Path::new(command.text()?);
    if !path.is_absolute() || !is_plain_path(command.text()?) {
        return Err(command.wrong(absolute));
    }
    let mut env = BTreeMap::new();
    if let Some(variables) = value.member("env")? {
        for (name, variable) in variables.members()? {
            env.insert(name.to_owned(), SecretString::from(variable.text()?));
        }
    }
    let mut trusted_dirs = Vec::new();
    if let Some(dirs) = value.member("trustedDirs")? {
        for dir in dirs.items()? {
            let path = Path::new(dir.text()?);
            if !path.is_absolute() {
                return Err(dir.wrong("an absolute path"));
            }
            trusted_dirs.push(path.to_owned());
        }
    }
    let timeout = value
        .optional("timeoutMs", Setting::timeout)?
        .unwrap_or(Duration::from_millis(DEFAULT_TIMEOUT_MS));
    Ok(ExecProvider {
        command: path.to_owned(),
        args: value.optional("args", Setting::texts)?.unwrap_or_default(),
        env,
        pass_env: value.optional("passEnv", variables)?.unwrap_or_default(),
        trusted_dirs,
        timeout,
        no_output_timeout: value
            .optional("noOutputTimeoutMs", Setting::timeout)?
            .unwrap_or(timeout),
        max_output_bytes: value
            .optional("maxOutputBytes", size)?
            .unwrap_or(DEFAULT_SIZE),
        json_only: value.optional("jsonOnly", Setting::flag)?.unwrap_or(true),
    })
}

fn size(value: &Setting<'_>) -> Result<u64, OpenclawJsonError> {
    value.between(1..=SIZE_LIMIT, "a whole number of bytes from 1 to 20971520")
}

fn variables(value: &Setting<'_>) -> Result<Vec<String>, OpenclawJsonError> {
    let variable = |item: Setting<'_>| match item.text()? {
        name if is_variable(name) => Ok(name.to_owned()),
        _ => Err(item.wrong("a variable's name, ^[A-Z][A-Z0-9_]{0,127}$")),
    };
    value.items()?.into_iter().map(variable).collect()
}

fn is_alias(text: &str) -> bool {
    let rest = text.strip_prefix(|first: char| first.is_ascii_lowercase());
    rest.is_some_and(|rest| {
        rest.len() <= 63
            && rest.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
            })
    })
}

fn is_variable(text: &str) -> bool {
    let rest = text.strip_prefix(|first: char| first.is_ascii_uppercase());
    rest.is_some_and(|rest| {
        rest.len() <= 127
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    })
}

/// An RFC 6901 pointer that points into something, or the name of a file's only value.
fn is_pointer(text: &str) -> bool {
    let escapes = || {
        text.split('~')
            .skip(1)
            .all(|after| after.starts_with(['0', '1']))
    };
    text == "value" || (text.starts_with('/') && escapes())
}

fn is_exec_id(text: &str) -> bool {
    let rest = text.strip_prefix(|first: char| first.is_ascii_alphanumeric());
    let is_spelled = rest.is_some_and(|rest| {
        rest.len() <= 255
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._:/#-".contains(&byte))
    });
    is_spelled
        && text
            .split('/')
            .all(|segment| !matches!(segment, "." | ".."))
}

fn is_plain_path(text: &str) -> bool {
    !text
        .chars()
        .any(|character| character.is_control() || ";&|`$<>\"'".contains(character))
}
