//! The node's own settings file, `<stateDir>/openclaw-node.json5` (interfaces: own settings).
//!
//! Nobody else writes or reads it, so a key that is not known here is a mistake, and is refused
//! with the words that are known.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use serde_json::{Map, Value};

use crate::Fingerprint;
use crate::json5_text::parse_json5;
use crate::lines::Lines;
use crate::text_file::{NoText, TextFile};

/// The file's name in the state folder.
pub const FILE_NAME: &str = "openclaw-node.json5";

/// The largest file that is read, in bytes.
const FILE_LIMIT_BYTES: u64 = 256 * 1024;

/// Commands that may run at a time, and that may wait, at most: beyond it a machine is only slower.
const COUNT_LIMIT: u64 = 65_536;

/// The longest duration that may be given, 100 years: what is longer is a slip of the pen.
const DURATION_LIMIT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The smallest journal that is worth having, in bytes.
const JOURNAL_MINIMUM_BYTES: u64 = 64 * 1024;

/// Units of sizes, in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Everything that the file can say; what it leaves out has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// How commands are run.
    pub exec: ExecSettings,
    /// What is kept about them.
    pub journal: JournalSettings,
    /// What a gateway with TLS must prove.
    pub tls: TlsSettings,
}

/// `exec`: how commands are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Commands that run at a time.
    pub max_concurrent: NonZeroUsize,
    /// Commands that wait for their turn.
    pub max_queued: usize,
    /// The time limit of a command that comes without one.
    pub default_timeout: Option<Duration>,
    /// What becomes of the commands of a connection that is lost.
    pub on_disconnect: OnDisconnect,
    /// How long a lost connection may take to come back before its commands are ended.
    pub disconnect_grace: Duration,
    /// What one command may use.
    pub limits: Limits,
}

impl Default for ExecSettings {
    fn default() -> Self {
        Self {
            max_concurrent: NonZeroUsize::MIN.saturating_add(63),
            max_queued: 1024,
            default_timeout: None,
            on_disconnect: OnDisconnect::Kill,
            disconnect_grace: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// `exec.onDisconnect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The commands are ended, unless the connection comes back in time.
    Kill,
    /// The commands end by themselves; nobody is told.
    Finish,
}

/// `exec.limits`: what one command with all its descendants may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processors, in thousandths.
    pub cpu_millis: Option<u64>,
}

/// `journal`: how much is kept about the commands that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSettings {
    /// For how long.
    pub max_age: Duration,
    /// How much room it may take, in bytes.
    pub max_size: u64,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(30 * 24 * 60 * 60),
            max_size: 64 << 20,
        }
    }
}

/// `tls`: what a gateway with TLS must prove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates that are accepted, and no others; with none of them chain and name are checked.
    pub pins: Vec<Fingerprint>,
    /// A PEM file of roots that are trusted instead of the machine's.
    pub ca_file: Option<PathBuf>,
}

/// Why the file cannot be obeyed. The text says what to mend, and where.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is there, but cannot be read.
    #[error("cannot read {file}: {source}; let this user read it, or remove it", file = .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not JSON5, or not of a size that settings have.
    #[error("{file}: {detail}", file = .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the line where there is one.
        detail: String,
    },
    /// A value is not what it should be.
    #[error("{place}: {key} must be {expected}")]
    Wrong {
        /// The file and the line.
        place: String,
        /// The way to the value, as in `exec.limits.memory`.
        key: String,
        /// What should stand there.
        expected: String,
    },
    /// A key means nothing.
    #[error("{place}: unknown key {key}; expected one of {expected}")]
    UnknownKey {
        /// The file and the line.
        place: String,
        /// The way to the key.
        key: String,
        /// The keys that mean something there.
        expected: String,
    },
}

impl Settings {
    /// Reads the file; one that is not there leaves every default.
    ///
    /// # Errors
    /// [`SettingsError`], whose text is ready for the operator.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        match read(file)? {
            Some(text) => Self::parse(file, &text),
            None => Ok(Self::default()),
        }
    }

    fn parse(file: &Path, text: &str) -> Result<Self, SettingsError> {
        let value = parse_json5(text).map_err(|error| SettingsError::Syntax {
            file: file.to_owned(),
            detail: error.to_string(),
        })?;
        let lines = Lines::of(text);
        let file = Origin {
            file,
            lines: Some(&lines),
        };
        let root = Section::new(file, "", &value, &["exec", "journal", "tls"])?;
        let mut settings = Self::default();
        let keys = [
            "maxConcurrent",
            "maxQueued",
            "defaultTimeout",
            "onDisconnect",
            "disconnectGrace",
            "limits",
        ];
        if let Some(exec) = root.section("exec", &keys)? {
            settings.exec.apply(&exec)?;
        }
        if let Some(journal) = root.section("journal", &["maxAge", "maxSize"])? {
            settings.journal.apply(&journal)?;
        }
        if let Some(tls) = root.section("tls", &["pins", "caFile"])? {
            settings.tls.apply(&tls)?;
        }
        Ok(settings)
    }
}

impl ExecSettings {
    fn apply(&mut self, exec: &Section<'_>) -> Result<(), SettingsError> {
        if let Some(count) = exec.count("maxConcurrent", 1)?
            && let Some(count) = NonZeroUsize::new(count)
        {
            self.max_concurrent = count;
        }
        if let Some(count) = exec.count("maxQueued", 0)? {
            self.max_queued = count;
        }
        self.default_timeout = exec.duration("defaultTimeout", Duration::from_millis(1))?;
        self.on_disconnect = match exec.get("onDisconnect") {
            None => self.on_disconnect,
            Some(Value::String(word)) if word == "kill" => OnDisconnect::Kill,
            Some(Value::String(word)) if word == "finish" => OnDisconnect::Finish,
            Some(_) => return Err(exec.wrong("onDisconnect", "\"kill\" or \"finish\"")),
        };
        if let Some(grace) = exec.duration("disconnectGrace", Duration::ZERO)? {
            self.disconnect_grace = grace;
        }
        if let Some(limits) = exec.section("limits", &["memory", "pids", "cpu"])? {
            self.limits = Limits {
                memory: limits.size("memory", 1 << 20)?,
                pids: limits.count("pids", 1)?.map(|count| count as u64),
                cpu_millis: limits.processors("cpu")?,
            };
        }
        Ok(())
    }
}

impl JournalSettings {
    fn apply(&mut self, journal: &Section<'_>) -> Result<(), SettingsError> {
        if let Some(max_age) = journal.duration("maxAge", Duration::from_secs(1))? {
            self.max_age = max_age;
        }
        if let Some(max_size) = journal.size("maxSize", JOURNAL_MINIMUM_BYTES)? {
            self.max_size = max_size;
        }
        Ok(())
    }
}

impl TlsSettings {
    fn apply(&mut self, tls: &Section<'_>) -> Result<(), SettingsError> {
        let expected = "a list of SHA-256 certificate fingerprints, 64 hex digits each";
        self.pins = match tls.get("pins") {
            None => Vec::new(),
            Some(Value::Array(pins)) => pins
                .iter()
                .map(|pin| pin.as_str().and_then(|pin| pin.parse().ok()))
                .collect::<Option<_>>()
                .ok_or_else(|| tls.wrong("pins", expected))?,
            Some(_) => return Err(tls.wrong("pins", expected)),
        };
        self.ca_file = match tls.get("caFile") {
            None => None,
            Some(Value::String(path)) if Path::new(path).is_absolute() => Some(path.into()),
            Some(_) => return Err(tls.wrong("caFile", "the absolute path of a PEM file")),
        };
        Ok(())
    }
}

/// Where an object stands.
#[derive(Clone, Copy)]
struct Origin<'a> {
    file: &'a Path,
    lines: Option<&'a Lines>,
}

impl Origin<'_> {
    /// Where a member of the object stands.
    fn of(self, member: &str) -> Self {
        Self {
            file: self.file,
            lines: self.lines.and_then(|lines| lines.member(member)),
        }
    }

    /// The file, with the line where it is known.
    fn place(self) -> String {
        let file = self.file.display();
        match self.lines.map_or(0, Lines::line) {
            0 => file.to_string(),
            line => format!("{file}:{line}"),
        }
    }
}

/// An object of the file, all of whose keys are known.
struct Section<'a> {
    file: Origin<'a>,
    key: String,
    members: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    fn new(
        file: Origin<'a>,
        key: &str,
        value: &'a Value,
        known: &[&str],
    ) -> Result<Self, SettingsError> {
        let Value::Object(members) = value else {
            let key = if key.is_empty() {
                "the whole file"
            } else {
                key
            };
            return Err(SettingsError::Wrong {
                place: file.place(),
                key: key.to_owned(),
                expected: "an object".to_owned(),
            });
        };
        let section = Self {
            file,
            key: key.to_owned(),
            members,
        };
        match members.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(SettingsError::UnknownKey {
                place: file.of(unknown).place(),
                key: section.path(unknown),
                expected: known.join(", "),
            }),
            None => Ok(section),
        }
    }

    fn section(&self, name: &str, known: &[&str]) -> Result<Option<Self>, SettingsError> {
        let value = self.members.get(name);
        value
            .map(|value| Self::new(self.file.of(name), &self.path(name), value, known))
            .transpose()
    }

    /// A value; `null` stands for the default.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn path(&self, name: &str) -> String {
        match self.key.as_str() {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        }
    }

    fn wrong(&self, name: &str, expected: impl Into<String>) -> SettingsError {
        SettingsError::Wrong {
            place: self.file.of(name).place(),
            key: self.path(name),
            expected: expected.into(),
        }
    }

    fn count(&self, name: &str, minimum: u64) -> Result<Option<usize>, SettingsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let count = value
            .as_u64()
            .filter(|count| (minimum..=COUNT_LIMIT).contains(count))
            .and_then(|count| usize::try_from(count).ok());
        let expected = || format!("a whole number from {minimum} to {COUNT_LIMIT}");
        count.map(Some).ok_or_else(|| self.wrong(name, expected()))
    }

    fn duration(&self, name: &str, minimum: Duration) -> Result<Option<Duration>, SettingsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let duration = value
            .as_str()
            .and_then(|text| humantime::parse_duration(text).ok())
            .filter(|duration| (minimum..=DURATION_LIMIT).contains(duration));
        let expected = if minimum.is_zero() {
            "a duration such as \"5s\"".to_owned()
        } else {
            let minimum = humantime::format_duration(minimum);
            format!("a duration such as \"90s\" or \"2h 30m\", at least {minimum}")
        };
        duration.map(Some).ok_or_else(|| self.wrong(name, expected))
    }

    fn size(&self, name: &str, minimum: u64) -> Result<Option<u64>, SettingsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let size = match value {
            Value::Number(bytes) => bytes.as_u64(),
            Value::String(text) => size(text),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let expected =
            || format!("a size such as \"64MiB\", or a number of bytes, at least {minimum}");
        size.filter(|size| (minimum..=i64::MAX.cast_unsigned()).contains(size))
            .map(Some)
            .ok_or_else(|| self.wrong(name, expected()))
    }

    fn processors(&self, name: &str) -> Result<Option<u64>, SettingsError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let millis = value
            .as_f64()
            .filter(|processors| (0.01..=1024.0).contains(processors));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 10 and 1 024 000 by the filter above"
        )]
        millis
            .map(|processors| Some((processors * 1000.0).round() as u64))
            .ok_or_else(|| {
                self.wrong(
                    name,
                    "a number of processors from 0.01 to 1024, such as 1.5",
                )
            })
    }
}

/// A whole number with a unit, in bytes.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, bytes) = SIZE_UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1));
    number.trim_end().parse::<u64>().ok()?.checked_mul(bytes)
}

fn read(file: &Path) -> Result<Option<String>, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let syntax = |detail| SettingsError::Syntax {
        file: file.to_owned(),
        detail,
    };
    let refused = |reason| match reason {
        NoText::Unreadable(source) => unreadable(source),
        NoText::NotAFile => unreadable(io::Error::other("it is not a regular file")),
        NoText::TooLarge => syntax(format!("larger than {FILE_LIMIT_BYTES} bytes")),
        NoText::NotUtf8 => syntax("it is not UTF-8".to_owned()),
    };
    match TextFile::open(file, OFlag::empty()).map_err(refused)? {
        Some(opened) => opened.read(FILE_LIMIT_BYTES).map(Some).map_err(refused),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(Path::new("own.json5"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_file_and_an_empty_object_leave_every_default() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Settings::load(&dir.path().join(FILE_NAME)).unwrap();
        assert_eq!(absent, Settings::default());
        assert_eq!(parse("{}").unwrap(), Settings::default());
        assert_eq!(parse("{exec: {limits: {}}, journal: {}}"), Ok(absent));
        let exec = Settings::default().exec;
        assert_eq!((exec.max_concurrent.get(), exec.max_queued), (64, 1024));
        assert_eq!(exec.disconnect_grace, Duration::from_secs(5));
        assert_eq!(exec.on_disconnect, OnDisconnect::Kill);
    }

    #[test]
    fn every_key_is_obeyed() {
        let settings = parse(
            "{ // ours
               exec: {
                 maxConcurrent: 2, maxQueued: 0, defaultTimeout: '1h 30m', onDisconnect: 'finish',
                 disconnectGrace: '0s', limits: { memory: '512MiB', pids: 100, cpu: 1.5 },
               },
               journal: { maxAge: '7days', maxSize: 1000000 },
               tls: {
                 pins: ['SHA256:00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF'],
                 caFile: '/etc/ca.pem',
               },
             }",
        );
        let pin = "00112233445566778899aabbccddeeff".repeat(2);
        let expected = Settings {
            exec: ExecSettings {
                max_concurrent: NonZeroUsize::new(2).unwrap(),
                max_queued: 0,
                default_timeout: Some(Duration::from_secs(5400)),
                on_disconnect: OnDisconnect::Finish,
                disconnect_grace: Duration::ZERO,
                limits: Limits {
                    memory: Some(512 << 20),
                    pids: Some(100),
                    cpu_millis: Some(1500),
                },
            },
            journal: JournalSettings {
                max_age: Duration::from_secs(7 * 24 * 60 * 60),
                max_size: 1_000_000,
            },
            tls: TlsSettings {
                pins: vec![pin.parse().unwrap()],
                ca_file: Some(PathBuf::from("/etc/ca.pem")),
            },
        };
        assert_eq!(settings, Ok(expected));
        let nulls = "{exec: {defaultTimeout: null, limits: {memory: null, pids: null, cpu: null}}}";
        assert_eq!(parse(nulls), Ok(Settings::default()));
    }

    #[test]
    fn a_mistake_is_refused_with_its_place_and_what_was_expected() {
        let table = [
            ("[]", "own.json5:1: the whole file must be an object"),
            ("{exec: 1}", "own.json5:1: exec must be an object"),
            (
                "{tools: {}}",
                "own.json5:1: unknown key tools; expected one of exec, journal, tls",
            ),
            (
                "{exec: {limits: {disk: 1}}}",
                "own.json5:1: unknown key exec.limits.disk; expected one of memory, pids, cpu",
            ),
            (
                "{exec: {maxConcurrent: 0}}",
                "own.json5:1: exec.maxConcurrent must be a whole number from 1 to 65536",
            ),
            (
                "{exec: {maxQueued: 1.5}}",
                "own.json5:1: exec.maxQueued must be a whole number from 0 to 65536",
            ),
            (
                "{exec: {defaultTimeout: 30}}",
                "own.json5:1: exec.defaultTimeout must be a duration such as \"90s\" or \"2h 30m\", at least 1ms",
            ),
            (
                "{exec: {defaultTimeout: '0s'}}",
                "own.json5:1: exec.defaultTimeout must be a duration such as \"90s\" or \"2h 30m\", at least 1ms",
            ),
            (
                "{exec: {disconnectGrace: 'soon'}}",
                "own.json5:1: exec.disconnectGrace must be a duration such as \"5s\"",
            ),
            (
                "{exec: {onDisconnect: 'stop'}}",
                "own.json5:1: exec.onDisconnect must be \"kill\" or \"finish\"",
            ),
            (
                "{exec: {limits: {memory: '1 fortnight'}}}",
                "own.json5:1: exec.limits.memory must be a size such as \"64MiB\", or a number of bytes, at least 1048576",
            ),
            (
                "{exec: {limits: {cpu: 0}}}",
                "own.json5:1: exec.limits.cpu must be a number of processors from 0.01 to 1024, such as 1.5",
            ),
            (
                "{journal: {maxSize: '1KiB'}}",
                "own.json5:1: journal.maxSize must be a size such as \"64MiB\", or a number of bytes, at least 65536",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        let deep = parse(
            "{\n  exec: {\n    // megabytes\n    limits: { pids: 5,\n      memory: true },\n  },\n}",
        );
        let deep = deep.unwrap_err();
        assert!(
            deep.starts_with("own.json5:5: exec.limits.memory must be a size"),
            "{deep}"
        );
        let broken = parse("{\n  exec: {\n    maxQueued 5\n  }\n}").unwrap_err();
        assert!(
            broken.starts_with("own.json5: not valid JSON5: "),
            "{broken}"
        );
        assert!(broken.contains("line 3"), "{broken}");
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("nested"));
    }

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        let table = [
            ("1KiB", Some(1024)),
            ("2 MiB", Some(2 << 20)),
            ("3MB", Some(3_000_000)),
            ("7B", Some(7)),
            ("7", Some(7)),
            ("1.5GiB", None),
            ("-1KiB", None),
            ("", None),
            ("99999999999TiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_file_of_settings_is_refused_unread() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Settings::load(dir.path()).unwrap_err().to_string();
        assert!(folder.contains("not a regular file"), "{folder}");
        let file = dir.path().join(FILE_NAME);
        std::fs::write(&file, " ".repeat(300_000)).unwrap();
        let large = Settings::load(&file).unwrap_err().to_string();
        assert!(large.contains("larger than"), "{large}");
    }
}
