//! The approvals document: the policy that an operator wrote for this node, per agent
//! (exec and approvals §9).

use std::collections::BTreeMap;
use std::fmt::Display;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

pub use crate::agent::{Agent, Entry, PolicyFields, Usage};
use crate::arg_pattern;
use crate::command::trim;
use crate::digest::sha256_hex;
use crate::members::Members;
use crate::normal_form;
use crate::policy::{Ask, DEFAULT_AGENT, Security};

/// The only version of the document there is.
pub const VERSION: u64 = 1;

/// The agent key that older releases used for what is `main` now.
const LEGACY_DEFAULT_AGENT: &str = "default";

/// An agent key that upstream refuses, so a document that holds it counts as unreadable.
const FORBIDDEN_AGENT: &str = "__proto__";

/// The approvals document, valid and in its normal form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Where a companion app would listen. Stored for the operator; nothing listens on Linux.
    pub socket: Socket,
    /// What applies where an agent says nothing.
    pub defaults: PolicyFields,
    /// What applies to single agents, and under `*` to all of them. Keys are compared verbatim.
    pub agents: BTreeMap<String, Agent>,
}

/// The companion app's socket.
#[derive(Clone, Debug, Default)]
pub struct Socket {
    /// Its path.
    pub path: Option<String>,
    /// What authenticates its messages. It never leaves this machine.
    pub token: Option<SecretString>,
}

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        let token = |socket: &Self| {
            socket
                .token
                .as_ref()
                .map(|token| token.expose_secret().to_owned())
        };
        self.path == other.path && token(self) == token(other)
    }
}

/// Why a document is not one. Says where, never what stands there: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The text is not JSON.
    #[error(
        "the approvals document is not JSON (line {line}, column {column}); store a new one with `approvals set`"
    )]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A member does not have its type.
    #[error(
        "{at} of the approvals document must be {expected}; store a corrected one with `approvals set`"
    )]
    Shape {
        /// The member, such as `agents.main.allowlist[2].pattern`.
        at: String,
        /// What it must be.
        expected: &'static str,
    },
    /// An `argPattern` needs an engine that may take for ever.
    #[error(
        "{at} looks around or back at a group, which this node does not run because it can take for ever; rewrite it without"
    )]
    Backtracking {
        /// The member.
        at: String,
    },
}

impl DocumentError {
    pub(crate) fn shape(at: impl Display, expected: &'static str) -> Self {
        Self::Shape {
            at: Self::place(at),
            expected,
        }
    }

    fn place(at: impl Display) -> String {
        /// Agent keys have no limit of their own, messages need one.
        const MAX_CHARS: usize = 120;
        at.to_string().chars().take(MAX_CHARS).collect()
    }
}

/// What a serialised document is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The row that this node reads again.
    Storage,
    /// The revision: the policy without how it was used.
    Revision,
    /// An operator: everything but the socket's token.
    Wire,
}

impl Document {
    /// Reads a stored document.
    ///
    /// # Errors
    ///
    /// Where upstream would not accept the text either; it then acts as [`Document::locked_down`].
    pub fn parse(raw: &str) -> Result<Self, DocumentError> {
        let value = serde_json::from_str(raw).map_err(|error| DocumentError::Syntax {
            line: error.line(),
            column: error.column(),
        })?;
        Self::from_stored(value)
    }

    /// Brings a document that an operator wrote into the normal form: values are trimmed, unknown
    /// ones dropped, texts in an allowlist made entries, and entries without an id given `new_id`.
    ///
    /// # Errors
    ///
    /// Where a member has a type that no normal form has a place for.
    pub fn from_value(
        file: &Map<String, Value>,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Self, DocumentError> {
        Self::from_stored(normal_form::of(file, new_id)?)
    }

    /// What a document that cannot be read acts as: nothing runs, nobody is asked.
    pub fn locked_down() -> Self {
        Self {
            defaults: PolicyFields {
                security: Some(Security::Deny),
                ask: Some(Ask::Off),
                ask_fallback: Some(Security::Deny),
                auto_allow_skills: Some(false),
            },
            ..Self::default()
        }
    }

    /// The text that is stored: JSON, two spaces per level, a line feed at the end. It holds the
    /// socket's token.
    pub fn canonical_text(&self) -> SecretString {
        text(&self.to_value(Purpose::Storage)).into()
    }

    /// What changes whenever the policy does, and only then (divergence D11): the SHA-256, in
    /// lower-case hexadecimal digits, of the canonical text without usage metadata.
    pub fn revision(&self) -> String {
        sha256_hex(text(&self.to_value(Purpose::Revision)))
    }

    /// The document as an operator may see it: without the socket's token.
    pub fn redacted(&self) -> Value {
        self.to_value(Purpose::Wire)
    }

    /// Refuses patterns that could be stored but would never match, although their author can see
    /// nothing wrong with them.
    pub(crate) fn refuse_backtracking(&self) -> Result<(), DocumentError> {
        let entries = self.agents.iter().flat_map(|(id, agent)| {
            let entries = agent.allowlist.iter().flatten().enumerate();
            entries.map(move |(index, entry)| (id, index, entry))
        });
        for (id, index, entry) in entries {
            let pattern = entry.arg_pattern.as_deref();
            if pattern.is_some_and(arg_pattern::needs_backtracking) {
                return Err(DocumentError::Backtracking {
                    at: DocumentError::place(format!("agents.{id}.allowlist[{index}].argPattern")),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn from_stored(value: Value) -> Result<Self, DocumentError> {
        let mut document = Members::of(value, "the root".to_owned())?;
        document.path.clear();
        document
            .take("version", "1", |value| {
                (value.as_f64() == Some(1.0)).then_some(())
            })?
            .ok_or_else(|| DocumentError::shape("version", "1"))?;
        let socket = match document.members("socket")? {
            None => Socket::default(),
            Some(mut socket) => Socket {
                path: socket.text("path")?.and_then(non_blank),
                token: socket.text("token")?.and_then(non_blank).map(Into::into),
            },
        };
        let defaults = match document.members("defaults")? {
            None => PolicyFields::default(),
            Some(mut defaults) => PolicyFields::read(&mut defaults)?,
        };
        let mut agents = BTreeMap::new();
        if let Some(members) = document.members("agents")? {
            for (id, agent) in members.map {
                let path = format!("agents.{id}");
                if id == FORBIDDEN_AGENT {
                    return Err(DocumentError::shape(path, "absent"));
                }
                agents.insert(id, Agent::read(Members::of(agent, path)?)?);
            }
        }
        if let Some(legacy) = agents.remove(LEGACY_DEFAULT_AGENT) {
            let merged = match agents.remove(DEFAULT_AGENT) {
                Some(main) => main.merged_with(legacy),
                None => legacy,
            };
            agents.insert(DEFAULT_AGENT.to_owned(), merged);
        }
        Ok(Self {
            socket,
            defaults,
            agents,
        })
    }

    fn to_value(&self, purpose: Purpose) -> Value {
        let mut socket = Map::new();
        put(&mut socket, "path", self.socket.path.clone());
        if purpose != Purpose::Wire {
            let token = self.socket.token.as_ref();
            put(&mut socket, "token", token.map(ExposeSecret::expose_secret));
        }
        let agents: Map<String, Value> = self
            .agents
            .iter()
            .map(|(id, agent)| (id.clone(), agent.to_value(purpose)))
            .collect();
        let mut defaults = Map::new();
        self.defaults.write(&mut defaults);
        let mut document = Map::new();
        put(&mut document, "version", Some(VERSION));
        if !socket.is_empty() {
            put(&mut document, "socket", Some(socket));
        }
        put(&mut document, "defaults", Some(defaults));
        put(&mut document, "agents", Some(agents));
        Value::Object(document)
    }
}

/// What stands for the revision where no document is stored, as upstream spells it.
pub fn missing_revision() -> String {
    format!("missing:{}", sha256_hex(""))
}

/// JSON as `JSON.stringify(value, null, 2)` lays it out, and a line feed.
pub(crate) fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn non_blank(text: String) -> Option<String> {
    Some(trim(&text).to_owned()).filter(|text| !text.is_empty())
}

/// Adds a member, if it has a value.
pub(crate) fn put(members: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(key.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::{Document, DocumentError, missing_revision};
    use crate::policy::{Ask, Security};

    /// Ids in the order in which they are asked for.
    fn ids() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("id-{count}")
        }
    }

    fn normalised(file: &Value) -> Result<Document, DocumentError> {
        Document::from_value(file.as_object().unwrap(), &mut ids())
    }

    fn parsed(file: &Value) -> Result<Document, DocumentError> {
        Document::parse(&file.to_string())
    }

    #[test]
    fn the_stored_text_has_the_members_in_order_and_two_spaces_per_level() {
        let document = normalised(&json!({
            "agents": {
                "ops": {"mcpTools": [], "x-note": 1, "allowlist": [], "ask": "off", "security": "full"},
                "main": {"allowlist": [{"pattern": "/usr/bin/\"e\u{1}é", "source": "allow-always", "x": [{}]}]},
            },
            "defaults": {"autoAllowSkills": true, "askFallback": "deny", "ask": "always", "security": "allowlist"},
            "socket": {"token": "t", "path": "/s"},
            "version": 1,
        }))
        .unwrap();
        let expected = r#"{
  "version": 1,
  "socket": {
    "path": "/s",
    "token": "t"
  },
  "defaults": {
    "security": "allowlist",
    "ask": "always",
    "askFallback": "deny",
    "autoAllowSkills": true
  },
  "agents": {
    "main": {
      "allowlist": [
        {
          "id": "id-1",
          "pattern": "/usr/bin/\"e\u0001é",
          "source": "allow-always",
          "x": [
            {}
          ]
        }
      ]
    },
    "ops": {
      "security": "full",
      "ask": "off",
      "allowlist": [],
      "mcpTools": [],
      "x-note": 1
    }
  }
}
"#;
        assert_eq!(document.canonical_text().expose_secret(), expected);
        assert_eq!(Document::parse(expected), Ok(document));
    }

    #[test]
    fn an_empty_document_still_has_its_sections() {
        let document = normalised(&json!({})).unwrap();
        assert_eq!(document, Document::default());
        assert_eq!(
            document.redacted(),
            json!({"version": 1, "defaults": {}, "agents": {}})
        );
    }

    #[test]
    fn what_an_operator_writes_is_put_right() {
        let cases = [
            // The version is forced, unknown members at the top vanish.
            (json!({"version": 7, "x": 1}), json!({"version": 1})),
            (
                json!({"defaults": {"security": " full ", "ask": "ON-MISS", "askFallback": 3, "x": 1}}),
                json!({"defaults": {"security": "full"}}),
            ),
            (json!({"defaults": "full"}), json!({"defaults": {}})),
            (
                json!({"defaults": null, "agents": null, "socket": null}),
                json!({}),
            ),
            (
                json!({"socket": {"path": "  ", "token": " \u{feff}", "x": 1}}),
                json!({}),
            ),
            (
                json!({"socket": {"path": " /s "}}),
                json!({"socket": {"path": "/s"}}),
            ),
            // Unknown members of agents and entries stay, commandText does not.
            (
                json!({"agents": {"a": {"x": [1], "security": "bogus", "ask": null, "allowlist": [
                    {"pattern": " /x ", "commandText": "secret", "y": {"z": 1}}]}}}),
                json!({"agents": {"a": {"allowlist": [{"id": "id-1", "pattern": " /x ", "y": {"z": 1}}], "x": [1]}}}),
            ),
            // Texts become entries; what names nothing is dropped, and a list of only that.
            (
                json!({"agents": {"a": {"allowlist": [" echo ", "", {"pattern": "  "}, {}, 3, null, [],
                    {"pattern": "b", "id": ""}, {"pattern": "c", "id": "own"}]}}}),
                json!({"agents": {"a": {"allowlist": [
                    {"id": "id-1", "pattern": "echo"}, {"id": "id-2", "pattern": "b"}, {"id": "own", "pattern": "c"}]}}}),
            ),
            (
                json!({"agents": {"a": {"allowlist": ["", 1]}, "b": {"allowlist": []}, "c": {"allowlist": "x"}}}),
                json!({"agents": {"a": {}, "b": {"allowlist": []}, "c": {}}}),
            ),
            // Another source than allow-always says nothing; whole numbers have no fraction.
            (
                json!({"agents": {"a": {"allowlist": [
                    {"id": "1", "pattern": "x", "source": "operator", "lastUsedAt": 5.0},
                    {"id": "2", "pattern": "y", "lastUsedAt": 5.5}]}}}),
                json!({"agents": {"a": {"allowlist": [
                    {"id": "1", "pattern": "x", "lastUsedAt": 5}, {"id": "2", "pattern": "y", "lastUsedAt": 5.5}]}}}),
            ),
        ];
        for (written, expected) in cases {
            let document = normalised(&written).unwrap();
            let mut whole = json!({"version": 1, "defaults": {}, "agents": {}});
            let members = whole.as_object_mut().unwrap();
            members.extend(expected.as_object().unwrap().clone());
            assert_eq!(document.redacted(), whole, "{written}");
            assert_eq!(
                Document::parse(document.canonical_text().expose_secret()),
                Ok(document),
                "{written}"
            );
        }
    }

    #[test]
    fn the_agent_default_becomes_main() {
        let document = normalised(&json!({"agents": {
            "default": {"security": "deny", "ask": "off", "x": 1, "y": 1, "allowlist": [
                {"id": "a", "pattern": "/USR/bin/x"}, {"id": "b", "pattern": "/usr/bin/x", "argPattern": "^1$"}, "new"],
                "mcpTools": [
                    {"server": "s", "tool": "t", "source": "allow-always", "addedAt": 1},
                    {"server": "s", "tool": "u", "source": "allow-always", "addedAt": 1}]},
            "main": {"security": "full", "autoAllowSkills": true, "y": 2, "allowlist": [{"id": "m", "pattern": "/usr/bin/x"}],
                "mcpTools": [{"server": "s", "tool": "t", "source": "allow-always", "addedAt": 2}]},
        }}))
        .unwrap();
        assert_eq!(
            document.redacted()["agents"],
            json!({"main": {
                "security": "full", "ask": "off", "autoAllowSkills": true,
                "allowlist": [
                    {"id": "m", "pattern": "/usr/bin/x"},
                    {"id": "b", "pattern": "/usr/bin/x", "argPattern": "^1$"},
                    {"id": "id-1", "pattern": "new"}],
                "mcpTools": [
                    {"server": "s", "tool": "t", "source": "allow-always", "addedAt": 2},
                    {"server": "s", "tool": "u", "source": "allow-always", "addedAt": 1}],
                "x": 1, "y": 2,
            }})
        );
        let alone = parsed(&json!({"version": 1, "agents": {"default": {"security": "deny"}}}));
        assert_eq!(
            alone.unwrap().agents["main"].fields.security,
            Some(Security::Deny)
        );
    }

    #[test]
    fn a_stored_text_that_is_no_document_is_refused_where_it_goes_wrong() {
        for (raw, message) in [
            ("", "is not JSON (line 1, column 0)"),
            ("{", "is not JSON (line 1, column 1)"),
            ("{\"version\": 1,\n}", "is not JSON (line 2, column 1)"),
            ("{\"version\": 1} x", "is not JSON (line 1, column 16)"),
            (
                "null",
                "the root of the approvals document must be an object",
            ),
            ("[]", "the root of the approvals document must be an object"),
            ("{}", "version of the approvals document must be 1"),
            (r#"{"version": 2}"#, "version of"),
            (r#"{"version": "1"}"#, "version of"),
            (r#"{"version": 1, "socket": []}"#, "socket of"),
            (r#"{"version": 1, "socket": {"path": 1}}"#, "socket.path of"),
            (
                r#"{"version": 1, "socket": {"token": null}}"#,
                "socket.token of",
            ),
            (r#"{"version": 1, "defaults": null}"#, "defaults of"),
            (
                r#"{"version": 1, "defaults": {"security": "bogus"}}"#,
                "defaults.security of",
            ),
            (
                r#"{"version": 1, "defaults": {"security": " full"}}"#,
                "defaults.security of",
            ),
            (
                r#"{"version": 1, "defaults": {"ask": null}}"#,
                "defaults.ask of",
            ),
            (
                r#"{"version": 1, "defaults": {"askFallback": "ask"}}"#,
                "defaults.askFallback of",
            ),
            (
                r#"{"version": 1, "defaults": {"autoAllowSkills": 1}}"#,
                "defaults.autoAllowSkills of",
            ),
            (r#"{"version": 1, "agents": []}"#, "agents of"),
            (
                r#"{"version": 1, "agents": {"__proto__": {}}}"#,
                "agents.__proto__ of",
            ),
            (r#"{"version": 1, "agents": {"a": null}}"#, "agents.a of"),
            (
                r#"{"version": 1, "agents": {"a": {"ask": "never"}}}"#,
                "agents.a.ask of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": {}}}}"#,
                "agents.a.allowlist of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": ["x", " "]}}}"#,
                "agents.a.allowlist[1] of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{}]}}}"#,
                "agents.a.allowlist[0].pattern of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": " "}]}}}"#,
                "agents.a.allowlist[0].pattern of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": "x", "id": 1}]}}}"#,
                "allowlist[0].id of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": "x", "source": 1}]}}}"#,
                "[0].source of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": "x", "argPattern": null}]}}}"#,
                "[0].argPattern of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": "x", "lastUsedAt": "1"}]}}}"#,
                "[0].lastUsedAt of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"allowlist": [{"pattern": "x", "commandText": 1}]}}}"#,
                "[0].commandText of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"mcpTools": [{"server": "s"}]}}}"#,
                "mcpTools[0].tool of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"mcpTools": [{"server": "s", "tool": "t", "source": "x", "addedAt": 1}]}}}"#,
                "mcpTools[0].source of",
            ),
            (
                r#"{"version": 1, "agents": {"a": {"mcpTools": [{"server": "s", "tool": "t", "source": "allow-always", "addedAt": -1}]}}}"#,
                "mcpTools[0].addedAt of",
            ),
        ] {
            let error = Document::parse(raw).unwrap_err().to_string();
            assert!(error.contains(message), "{raw}: {error}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused_and_does_not_overflow() {
        let raw = format!("{{\"version\":1,\"x\":{}", "[".repeat(1_000_000));
        assert!(matches!(
            Document::parse(&raw),
            Err(DocumentError::Syntax { .. })
        ));
    }

    #[test]
    fn no_message_and_no_debug_output_shows_a_value() {
        let wrong = json!({"version": 1, "socket": {"path": {"token": "hunter2"}}});
        assert!(!parsed(&wrong).unwrap_err().to_string().contains("hunter2"));
        let document = normalised(&json!({"socket": {"token": "hunter2"}})).unwrap();
        assert!(!format!("{document:?}").contains("hunter2"));
        let long = parsed(&json!({"version": 1, "agents": {"a".repeat(10_000): 1}}));
        assert!(long.unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn the_token_never_leaves_and_no_socket_is_shown_without_a_path() {
        let with_path = normalised(&json!({"socket": {"path": "/s", "token": "t"}})).unwrap();
        assert_eq!(with_path.redacted()["socket"], json!({"path": "/s"}));
        let without_path = normalised(&json!({"socket": {"token": "t"}})).unwrap();
        assert_eq!(without_path.redacted().get("socket"), None);
        let stored = without_path.canonical_text();
        assert!(stored.expose_secret().contains(r#""token": "t""#));
    }

    #[test]
    fn the_revision_follows_the_policy_and_not_its_use() {
        let file = |usage: Value| {
            let mut entry = json!({"id": "1", "pattern": "x"});
            entry
                .as_object_mut()
                .unwrap()
                .extend(usage.as_object().unwrap().clone());
            parsed(&json!({"version": 1, "agents": {"main": {"allowlist": [entry]}}})).unwrap()
        };
        let revision = file(json!({})).revision();
        assert_eq!(revision.len(), 64);
        let used = json!({"lastUsedAt": 1, "lastUsedCommand": "x y", "lastResolvedPath": "/x"});
        assert_eq!(file(used).revision(), revision);
        for change in [
            json!({"id": "2"}),
            json!({"pattern": "y"}),
            json!({"argPattern": "a"}),
            json!({"source": "allow-always"}),
            json!({"x": 1}),
        ] {
            assert_ne!(file(change.clone()).revision(), revision, "{change}");
        }
    }

    #[test]
    fn a_revision_without_usage_is_the_digest_of_the_stored_text() {
        let document = normalised(&json!({"defaults": {"security": "full"}})).unwrap();
        let text = document.canonical_text();
        assert_eq!(
            document.revision(),
            crate::digest::sha256_hex(text.expose_secret())
        );
        assert_eq!(
            missing_revision(),
            "missing:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_locked_down_document_says_so() {
        let defaults = Document::locked_down().defaults;
        assert_eq!(defaults.security, Some(Security::Deny));
        assert_eq!(defaults.ask, Some(Ask::Off));
        assert_eq!(defaults.ask_fallback, Some(Security::Deny));
        assert_eq!(defaults.auto_allow_skills, Some(false));
    }
}
