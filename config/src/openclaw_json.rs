//! The keys of openclaw.json that a node obeys (config §4).
//!
//! The file belongs to upstream, so unknown keys are none of our business; a key that is obeyed
//! must have exactly the type that it should have, because guessing at a policy is worse than not
//! starting.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use approvals::policy::{ExecConfig, ExecLayer, UnknownValue};
use approvals::safe_bins::{ProfileSettings, SafeBinSettings};
use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use nix::fcntl::OFlag;

use crate::browser::BrowserSettings;
use crate::nesting::{DEPTH_LIMIT, is_too_deep};
use crate::setting::Setting;

/// The largest file that is read, in bytes (config §4).
const FILE_LIMIT_BYTES: u64 = 2 * 1024 * 1024;

/// The top-level keys under which a node finds anything.
const KEYS: [&str; 5] = ["agents", "browser", "gateway", "nodeHost", "tools"];

/// What openclaw.json says, where it says anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenclawJson {
    /// `tools.exec` and that of single agents.
    pub exec: ExecConfig,
    /// `browser`, `nodeHost.browserProxy` and what they follow from.
    pub browser: BrowserSettings,
}

/// Why openclaw.json cannot be obeyed. The text names the file; a wrong value is never shown.
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
    /// A key that the node obeys has a value that it cannot obey.
    #[error("{file}: {key} must be {expected}", file = .file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The path of the key, as in `agents.list[0].tools.exec.ask`.
        key: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A key that takes one of a few words has another one.
    #[error("{file}: {key} has an unknown value; {source}", file = .file.display())]
    UnknownWord {
        /// The file.
        file: PathBuf,
        /// The path of the key.
        key: String,
        /// The words that it takes.
        source: UnknownValue,
    },
    /// Two places say what one agent may do.
    #[error("{file}: {key} repeats what {first} says about the same agent; keep one of them", file = .file.display())]
    Repeated {
        /// The file.
        file: PathBuf,
        /// The second place.
        key: String,
        /// The first place.
        first: String,
    },
}

impl OpenclawJson {
    /// Reads the file; a missing one says nothing.
    ///
    /// # Errors
    /// [`OpenclawJsonError`], whose text is ready for the operator.
    pub fn load(file: &Path) -> Result<Self, OpenclawJsonError> {
        let Some(text) = read(file)? else {
            return Ok(Self::default());
        };
        let layer = FileLayer::parse(file, &text)?;
        let syntax = |error: ConfigError| OpenclawJsonError::Syntax {
            file: file.to_owned(),
            detail: error.to_string(),
        };
        let layered = Config::builder()
            .add_source(layer)
            .build()
            .map_err(syntax)?;
        let root = Setting {
            file,
            key: String::new(),
            value: &layered.cache,
        };
        Ok(Self {
            exec: exec_config(&root)?,
            browser: BrowserSettings::read(&root)?,
        })
    }
}

/// The file as one layer of settings, cut down to what a node obeys.
///
/// Its types are kept as written: the values are looked at as they are, and never through the
/// conversions of [`Config`], which would read `"yes"` as true.
#[derive(Debug, Clone)]
struct FileLayer(Map<String, Value>);

impl FileLayer {
    fn parse(file: &Path, text: &str) -> Result<Self, OpenclawJsonError> {
        if is_too_deep(text) {
            return Err(OpenclawJsonError::Syntax {
                file: file.to_owned(),
                detail: format!("it is nested deeper than {DEPTH_LIMIT} levels"),
            });
        }
        let parsed: serde_json::Value =
            json5::from_str(text).map_err(|error| OpenclawJsonError::Syntax {
                file: file.to_owned(),
                detail: error.to_string(),
            })?;
        let serde_json::Value::Object(members) = parsed else {
            return Err(OpenclawJsonError::Wrong {
                file: file.to_owned(),
                key: "the whole file".to_owned(),
                expected: "an object",
            });
        };
        let origin = file.display().to_string();
        // Other keys are left out here, because the package reads dots in them as paths.
        let obeyed = members
            .into_iter()
            .filter(|(key, _)| KEYS.contains(&key.as_str()));
        Ok(Self(
            obeyed
                .map(|(key, value)| (key, typed(&origin, value)))
                .collect(),
        ))
    }
}

impl Source for FileLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn typed(origin: &String, value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => ValueKind::Nil,
        serde_json::Value::Bool(value) => ValueKind::Boolean(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => ValueKind::I64(number),
            (None, Some(number)) => ValueKind::U64(number),
            (None, None) => number.as_f64().map_or(ValueKind::Nil, ValueKind::Float),
        },
        serde_json::Value::String(text) => ValueKind::String(text),
        serde_json::Value::Array(items) => {
            ValueKind::Array(items.into_iter().map(|item| typed(origin, item)).collect())
        }
        serde_json::Value::Object(members) => ValueKind::Table(
            members
                .into_iter()
                .map(|(key, value)| (key, typed(origin, value)))
                .collect(),
        ),
    };
    Value::new(Some(origin), kind)
}

fn read(file: &Path) -> Result<Option<String>, OpenclawJsonError> {
    let unreadable = |source| OpenclawJsonError::Unreadable {
        file: file.to_owned(),
        source,
    };
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(file);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !opened.metadata().map_err(unreadable)?.is_file() {
        return Err(OpenclawJsonError::NotAFile {
            file: file.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    opened
        .take(FILE_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        return Err(OpenclawJsonError::TooLarge {
            file: file.to_owned(),
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(OpenclawJsonError::Syntax {
            file: file.to_owned(),
            detail: "it is not UTF-8".to_owned(),
        }),
    }
}

fn exec_config(root: &Setting<'_>) -> Result<ExecConfig, OpenclawJsonError> {
    let mut config = ExecConfig::new(own_exec(root)?.map(|(_, layer)| layer).unwrap_or_default());
    // The ids of openclaw.json do not differ by case alone.
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (id, key, layer) in agents(root)? {
        if let Some(first) = seen.insert(id.trim().to_lowercase(), key.clone()) {
            return Err(OpenclawJsonError::Repeated {
                file: root.file.to_owned(),
                key,
                first,
            });
        }
        config = config.with_agent(id, layer);
    }
    Ok(config)
}

/// `tools.exec` below the root or an agent.
fn own_exec(owner: &Setting<'_>) -> Result<Option<(String, ExecLayer)>, OpenclawJsonError> {
    let Some(tools) = owner.member("tools")? else {
        return Ok(None);
    };
    let Some(exec) = tools.member("exec")? else {
        return Ok(None);
    };
    let layer = ExecLayer {
        security: exec.word("security")?,
        ask: exec.word("ask")?,
        mode: exec.word("mode")?,
        strict_inline_eval: optional(&exec, "strictInlineEval", Setting::flag)?.unwrap_or(false),
        safe_bins: safe_bins(&exec)?,
    };
    Ok(Some((exec.key, layer)))
}

fn optional<'a, T>(
    owner: &Setting<'a>,
    name: &str,
    read: fn(&Setting<'a>) -> Result<T, OpenclawJsonError>,
) -> Result<Option<T>, OpenclawJsonError> {
    owner.member(name)?.map(|member| read(&member)).transpose()
}

/// `safeBins`, `safeBinProfiles` and `safeBinTrustedDirs` (exec and approvals §8.5).
fn safe_bins(exec: &Setting<'_>) -> Result<SafeBinSettings, OpenclawJsonError> {
    let mut settings = SafeBinSettings {
        bins: optional(exec, "safeBins", Setting::texts)?,
        trusted_dirs: optional(exec, "safeBinTrustedDirs", Setting::texts)?.unwrap_or_default(),
        ..SafeBinSettings::default()
    };
    if let Some(profiles) = exec.member("safeBinProfiles")? {
        for (name, profile) in profiles.members()? {
            let flags =
                |name| optional(&profile, name, Setting::texts).map(Option::unwrap_or_default);
            let profile = ProfileSettings {
                min_positional: optional(&profile, "minPositional", Setting::count)?,
                max_positional: optional(&profile, "maxPositional", Setting::count)?,
                allowed_value_flags: flags("allowedValueFlags")?,
                denied_flags: flags("deniedFlags")?,
            };
            settings.profiles.insert(name.to_owned(), profile);
        }
    }
    Ok(settings)
}

/// Every agent that has its own `tools.exec`: its id, where that stands, and what it says.
fn agents<'a>(root: &Setting<'a>) -> Result<Vec<(&'a str, String, ExecLayer)>, OpenclawJsonError> {
    let mut found = Vec::new();
    let Some(agents) = root.member("agents")? else {
        return Ok(found);
    };
    if let Some(list) = agents.member("list")? {
        for agent in list.items()? {
            if let Some((key, layer)) = own_exec(&agent)? {
                let Some(id) = agent.member("id")? else {
                    return Err(agent.wrong("an object with an id"));
                };
                found.push((id.text()?, key, layer));
            }
        }
    }
    if let Some(entries) = agents.member("entries")? {
        for (id, agent) in entries.members()? {
            if let Some((key, layer)) = own_exec(&agent)? {
                found.push((id, key, layer));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use approvals::policy::{Ask, Mode, Security};

    use super::*;

    fn load(text: impl AsRef<[u8]>) -> Result<OpenclawJson, OpenclawJsonError> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("openclaw.json");
        fs::write(&file, text).unwrap();
        OpenclawJson::load(&file)
    }

    fn layer(security: Option<Security>, ask: Option<Ask>, mode: Option<Mode>) -> ExecLayer {
        ExecLayer {
            security,
            ask,
            mode,
            ..ExecLayer::default()
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_like_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = OpenclawJson::load(&dir.path().join("openclaw.json")).unwrap();
        assert_eq!(missing, OpenclawJson::default());
        for text in [
            "{}",
            "// nothing\n{ /* at all */ }",
            "\u{feff}{}",
            "{tools: {}, agents: {}}",
            "{tools: {exec: {}}, agents: {list: [], entries: {}}}",
            // Upstream's business.
            "{gateway: {port: 'nonsense'}, tools: {web: 7, exec: {host: 'node', timeoutSec: []}}}",
            "{agents: {defaults: {workspace: '~'}, list: [{id: 'main'}, {name: 5}], entries: {x: {}}}}",
            // A dot in a key is no path.
            "{'tools.exec.security': 'full', 'tools.exec': {security: 'full'}}",
        ] {
            assert_eq!(load(text).expect(text), missing, "{text}");
        }
    }

    #[test]
    fn every_word_of_the_policy_is_understood() {
        let cases = [
            ("security: 'deny'", layer(Some(Security::Deny), None, None)),
            (
                "security: 'allowlist'",
                layer(Some(Security::Allowlist), None, None),
            ),
            ("security: 'full'", layer(Some(Security::Full), None, None)),
            ("ask: 'off'", layer(None, Some(Ask::Off), None)),
            ("ask: 'on-miss'", layer(None, Some(Ask::OnMiss), None)),
            ("ask: 'always'", layer(None, Some(Ask::Always), None)),
            ("mode: 'deny'", layer(None, None, Some(Mode::Deny))),
            (
                "mode: 'allowlist'",
                layer(None, None, Some(Mode::Allowlist)),
            ),
            ("mode: 'ask'", layer(None, None, Some(Mode::Ask))),
            ("mode: 'auto'", layer(None, None, Some(Mode::Auto))),
            ("mode: 'full'", layer(None, None, Some(Mode::Full))),
            (
                "security: 'full', ask: 'always', mode: 'deny', security: 'deny',",
                layer(Some(Security::Deny), Some(Ask::Always), Some(Mode::Deny)),
            ),
        ];
        for (members, layer) in cases {
            let global = load(format!("{{tools: {{exec: {{{members}}}}}}}")).expect(members);
            assert_eq!(global.exec, ExecConfig::new(layer.clone()), "{members}");
            let of_one = ExecConfig::default().with_agent("ops", layer);
            for place in ["list: [{id: 'ops', #}]", "entries: {ops: {#}}"] {
                let own = format!("tools: {{exec: {{{members}}}}}");
                let text = format!("{{agents: {{{}}}}}", place.replace('#', &own));
                assert_eq!(load(&text).expect(&text).exec, of_one, "{text}");
            }
        }
    }

    #[test]
    fn filters_and_inline_code_are_configured_for_all_and_for_one() {
        let read = load(
            "{
                tools: {exec: {
                    safeBins: ['sort'],
                    safeBinProfiles: {mytool: {
                        minPositional: 0, maxPositional: 1,
                        allowedValueFlags: ['--x'], deniedFlags: ['-z'],
                    }},
                    safeBinTrustedDirs: ['/opt/tools'],
                }},
                agents: {list: [{id: 'ops', tools: {exec: {strictInlineEval: true}}}]},
            }",
        );
        let profile = ProfileSettings {
            min_positional: Some(0),
            max_positional: Some(1),
            allowed_value_flags: vec!["--x".to_owned()],
            denied_flags: vec!["-z".to_owned()],
        };
        let global = ExecLayer {
            safe_bins: SafeBinSettings {
                bins: Some(vec!["sort".to_owned()]),
                profiles: [("mytool".to_owned(), profile)].into(),
                trusted_dirs: vec!["/opt/tools".to_owned()],
            },
            ..ExecLayer::default()
        };
        let own = ExecLayer {
            strict_inline_eval: true,
            ..ExecLayer::default()
        };
        let config = read.unwrap().exec;
        assert!(config.strict_inline_eval("ops"));
        assert!(!config.strict_inline_eval("main"));
        assert_eq!(config, ExecConfig::new(global).with_agent("ops", own));
    }

    #[test]
    fn all_places_are_read_together() {
        let read = load(
            "{
                // JSON5, as operators write it.
                tools: {exec: {security: 'allowlist', ask: 'on-miss',},},
                agents: {
                    list: [
                        {id: 'main', tools: {exec: {ask: 'always'}}},
                        {id: 'plain'},
                    ],
                    entries: {
                        'Ops.Team': {tools: {exec: {mode: 'full'}}},
                        quiet: {tools: {profile: 'minimal'}},
                    },
                },
            }",
        );
        let expected = ExecConfig::new(layer(Some(Security::Allowlist), Some(Ask::OnMiss), None))
            .with_agent("main", layer(None, Some(Ask::Always), None))
            .with_agent("Ops.Team", layer(None, None, Some(Mode::Full)));
        assert_eq!(read.unwrap().exec, expected);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_by_its_key() {
        let cases = [
            ("[]", "the whole file must be an object"),
            (
                "{tools: {exec: {strictInlineEval: 'yes'}}}",
                "tools.exec.strictInlineEval must be true or false",
            ),
            (
                "{tools: {exec: {safeBins: 'sort'}}}",
                "tools.exec.safeBins must be an array",
            ),
            (
                "{tools: {exec: {safeBinTrustedDirs: [1]}}}",
                "tools.exec.safeBinTrustedDirs[0] must be a string",
            ),
            (
                "{tools: {exec: {safeBinProfiles: {x: {maxPositional: -1}}}}}",
                "tools.exec.safeBinProfiles.x.maxPositional must be a whole number, 0 or more",
            ),
            ("7", "the whole file must be an object"),
            ("null", "the whole file must be an object"),
            ("{tools: null}", "tools must be an object"),
            ("{tools: []}", "tools must be an object"),
            ("{tools: {exec: 'full'}}", "tools.exec must be an object"),
            (
                "{tools: {exec: {security: 1}}}",
                "tools.exec.security must be a string",
            ),
            (
                "{tools: {exec: {security: null}}}",
                "tools.exec.security must be a string",
            ),
            (
                "{tools: {exec: {security: ['full']}}}",
                "tools.exec.security must be a string",
            ),
            (
                "{tools: {exec: {ask: false}}}",
                "tools.exec.ask must be a string",
            ),
            (
                "{tools: {exec: {mode: {}}}}",
                "tools.exec.mode must be a string",
            ),
            (
                "{tools: {exec: {security: 'Full'}}}",
                "tools.exec.security has an unknown value; use one of deny, allowlist or full",
            ),
            (
                "{tools: {exec: {security: ' full'}}}",
                "tools.exec.security has an unknown value; use one of deny, allowlist or full",
            ),
            (
                "{tools: {exec: {ask: 'never'}}}",
                "tools.exec.ask has an unknown value; use one of off, on-miss or always",
            ),
            (
                "{tools: {exec: {mode: ''}}}",
                "tools.exec.mode has an unknown value; use one of deny, allowlist, ask, auto or full",
            ),
            ("{agents: []}", "agents must be an object"),
            ("{agents: {list: {}}}", "agents.list must be an array"),
            (
                "{agents: {list: ['main']}}",
                "agents.list[0] must be an object",
            ),
            (
                "{agents: {list: [{}, {tools: 1}]}}",
                "agents.list[1].tools must be an object",
            ),
            (
                "{agents: {list: [{tools: {exec: {}}}]}}",
                "agents.list[0] must be an object with an id",
            ),
            (
                "{agents: {list: [{id: 7, tools: {exec: {}}}]}}",
                "agents.list[0].id must be a string",
            ),
            (
                "{agents: {list: [{id: 'a', tools: {exec: {ask: 'x'}}}]}}",
                "agents.list[0].tools.exec.ask has an unknown value; use one of",
            ),
            (
                "{agents: {entries: []}}",
                "agents.entries must be an object",
            ),
            (
                "{agents: {entries: {a: 1}}}",
                "agents.entries.a must be an object",
            ),
            (
                "{agents: {entries: {a: {tools: {exec: {mode: 1}}}}}}",
                "agents.entries.a.tools.exec.mode must be a string",
            ),
            (
                "{agents: {list: [{id: 'A', tools: {exec: {}}}], entries: {a: {tools: {exec: {}}}}}}",
                "agents.entries.a.tools.exec repeats what agents.list[0].tools.exec says about the \
                 same agent; keep one of them",
            ),
            (
                "{agents: {entries: {b: {tools: {exec: {}}}, B: {tools: {exec: {}}}}}}",
                "agents.entries.b.tools.exec repeats what agents.entries.B.tools.exec says",
            ),
        ];
        for (text, expected) in cases {
            let error = load(text).expect_err(text).to_string();
            let (file, complaint) = error.split_once(": ").unwrap();
            assert!(file.ends_with("openclaw.json"), "{error}");
            assert!(complaint.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn text_that_is_not_json5_is_refused_with_its_place() {
        for text in [
            "",
            "{",
            "{tools: }",
            "{} {}",
            "tools: {}",
            "{tools: {exec: {ask: off}}}",
        ] {
            let error = load(text).expect_err(text).to_string();
            assert!(
                error.contains("openclaw.json is not valid JSON5: "),
                "{text:?}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        let error = load("{\n  tools: {exec: !},\n}").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        let error = load(b"{\xff: 1}").unwrap_err().to_string();
        assert!(error.ends_with("it is not UTF-8"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_never_shown() {
        for text in [
            "{tools: {exec: {security: 'hunter2'}}}",
            "{tools: 'hunter2'}",
            "{gateway: {auth: {token: 'hunter2'}}, tools: {exec: {ask: 'hunter2'}}}",
            "{gateway: {auth: {token: 'hunter2' 'hunter2'}}}",
        ] {
            let error = load(text).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn only_a_regular_file_of_bearable_size_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("openclaw.json");
        fs::create_dir(&file).unwrap();
        let error = OpenclawJson::load(&file).unwrap_err();
        assert!(
            matches!(error, OpenclawJsonError::NotAFile { .. }),
            "{error:?}"
        );

        // Nobody writes to this pipe, so reading it would wait for ever.
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = OpenclawJson::load(&pipe).unwrap_err();
        assert!(
            matches!(error, OpenclawJsonError::NotAFile { .. }),
            "{error:?}"
        );

        let below_a_file = dir.path().join("file").join("openclaw.json");
        fs::write(dir.path().join("file"), "").unwrap();
        let error = OpenclawJson::load(&below_a_file).unwrap_err();
        assert!(
            matches!(error, OpenclawJsonError::Unreadable { .. }),
            "{error:?}"
        );

        let linked = dir.path().join("linked.json");
        fs::write(
            dir.path().join("real.json"),
            "{tools: {exec: {mode: 'deny'}}}",
        )
        .unwrap();
        std::os::unix::fs::symlink("real.json", &linked).unwrap();
        assert_ne!(
            OpenclawJson::load(&linked).unwrap(),
            OpenclawJson::default()
        );

        let limit = usize::try_from(FILE_LIMIT_BYTES).unwrap();
        let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
        assert!(load(padded(limit)).is_ok());
        assert!(matches!(
            load(padded(limit + 1)),
            Err(OpenclawJsonError::TooLarge { .. })
        ));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        for text in ["[".repeat(1_000_000), "{a:".repeat(600_000)] {
            let error = load(text).unwrap_err().to_string();
            assert!(
                error.ends_with("it is nested deeper than 128 levels"),
                "{error}"
            );
        }
        let deepest = format!("{{a: {}{}}}", "[".repeat(127), "]".repeat(127));
        assert!(load(deepest).is_ok());
    }
}
