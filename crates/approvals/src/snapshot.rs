//! The approvals document over the wire: how it is reported, and how it is replaced
//! (exec and approvals §9, divergences D9, D11 and D14).
//!
//! A gateway takes full/off for whatever a document does not say. The document that is reported
//! therefore says explicitly what this node would do where neither the document nor openclaw.json
//! gives a value, and the hash is that of the reported document. This holds for a node on which
//! nothing was ever set too: it reports `exists: false`, because no row is written before a
//! `set`, with a document and a hash all the same, and a `set` that names this hash succeeds.
//! So storing what was just reported changes neither the policy nor the hash.

use std::path::Path;

use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::command::trim;
use crate::digest::sha256_hex;
use crate::document::{self, Document, DocumentError, missing_revision};
use crate::normal_form;
use crate::policy::{Ask, ExecConfig, Security};

/// Where operators are told that the document is (interfaces: approvals get).
#[must_use]
pub fn document_location(state_dir: &Path) -> String {
    format!(
        "{}/state/openclaw-node.sqlite#exec_approvals_config",
        state_dir.display()
    )
}

/// What the store holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    document: Document,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum State {
    #[default]
    Missing,
    Readable,
    Unreadable {
        revision: String,
        error: DocumentError,
    },
}

/// The answer to `system.execApprovals.get` and `.set`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Where the document is stored, for a human.
    pub path: String,
    /// Whether one is stored.
    pub exists: bool,
    /// What a `set` must name as its `baseHash`.
    pub hash: String,
    /// The document, without the socket's token.
    pub file: Value,
    /// What `defaults` comes to, if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_defaults: Option<ResolvedDefaults>,
}

/// What the defaults of a reported document come to; a gateway takes full/off for what is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedDefaults {
    /// How much may run.
    pub security: Security,
    /// When a human is asked.
    pub ask: Ask,
    /// What `security` falls to when a human should be asked and nobody can be.
    pub ask_fallback: Security,
    /// Whether the gateway's skill executables count as listed.
    pub auto_allow_skills: bool,
}

/// What a `set` comes to.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The text to store. It holds the socket's token.
    pub text: SecretString,
    /// What the store holds then.
    pub stored: Stored,
}

/// Why a request about the document is refused. All have the code `INVALID_REQUEST`, and the
/// message is what the error displays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// `includeResolvedDefaults` of a `get` is no boolean, or the parameters are no object.
    #[error("Error: INVALID_REQUEST: includeResolvedDefaults must be boolean")]
    ResolvedDefaultsNotBoolean,
    /// A `set` brings no document.
    #[error("Error: INVALID_REQUEST: exec approvals file required")]
    FileRequired,
    /// A `set` brings something that has no normal form.
    #[error("Error: INVALID_REQUEST: {0}")]
    Malformed(#[from] DocumentError),
    /// A `set` does not say which document it replaces.
    #[error("Error: INVALID_REQUEST: exec approvals base hash required; reload and retry")]
    BaseHashRequired,
    /// A `set` was written for another document than the present one.
    #[error("Error: INVALID_REQUEST: exec approvals changed; reload and retry")]
    Changed,
    /// The document changed between the check and the write.
    #[error("INVALID_REQUEST: exec approvals changed; reload and retry")]
    ChangedMeanwhile,
}

impl SnapshotError {
    /// What is wrong, without the code that only a gateway reads.
    #[must_use]
    pub fn reason(&self) -> String {
        let message = self.to_string();
        let reason = message.strip_prefix("Error: ").unwrap_or(&message);
        let reason = reason.strip_prefix("INVALID_REQUEST: ").unwrap_or(reason);
        reason.to_owned()
    }
}

/// Whether a `get` asks for the resolved defaults. `None` stands for absent parameters.
///
/// # Errors
///
/// [`SnapshotError::ResolvedDefaultsNotBoolean`].
pub fn wants_resolved_defaults(params: Option<&Value>) -> Result<bool, SnapshotError> {
    let members = match params {
        None => return Ok(false),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(SnapshotError::ResolvedDefaultsNotBoolean),
    };
    match members.get("includeResolvedDefaults") {
        None => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(_) => Err(SnapshotError::ResolvedDefaultsNotBoolean),
    }
}

impl From<Document> for Stored {
    fn from(document: Document) -> Self {
        Self {
            document,
            state: State::Readable,
        }
    }
}

impl Stored {
    /// Reads the stored text, if there is one. A text that is no document acts as
    /// [`Document::locked_down`] until a `set` replaces it.
    pub fn read(raw: Option<&str>) -> Self {
        let Some(raw) = raw else {
            return Self::default();
        };
        match Document::parse(raw) {
            Ok(document) => document.into(),
            Err(error) => Self::unreadable(raw, error),
        }
    }

    fn unreadable(raw: &str, error: DocumentError) -> Self {
        Self {
            document: Document::locked_down(),
            state: State::Unreadable {
                revision: sha256_hex(raw),
                error,
            },
        }
    }

    /// The document that counts.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Whether anything is stored, readable or not.
    pub fn exists(&self) -> bool {
        self.state != State::Missing
    }

    /// Why the stored text is no document, if it is none.
    pub fn error(&self) -> Option<&DocumentError> {
        match &self.state {
            State::Missing | State::Readable => None,
            State::Unreadable { error, .. } => Some(error),
        }
    }

    /// The hash that is reported, and that a `set` must name.
    pub fn revision(&self, config: &ExecConfig) -> String {
        match &self.state {
            State::Unreadable { revision, .. } => revision.clone(),
            State::Missing | State::Readable => config.made_explicit(&self.document).revision(),
        }
    }

    /// The document as it is reported, the socket's token included.
    #[must_use]
    pub fn reported(&self, config: &ExecConfig) -> Document {
        config.made_explicit(&self.document)
    }

    /// What is reported, under the path that a human is shown.
    pub fn snapshot(
        &self,
        path: &str,
        config: &ExecConfig,
        with_resolved_defaults: bool,
    ) -> Snapshot {
        let reported = self.reported(config);
        let defaults = reported.defaults;
        Snapshot {
            path: path.to_owned(),
            exists: self.exists(),
            hash: self.revision(config),
            file: reported.redacted(),
            resolved_defaults: with_resolved_defaults.then_some(ResolvedDefaults {
                security: defaults.security.unwrap_or(Security::Full),
                ask: defaults.ask.unwrap_or(Ask::Off),
                ask_fallback: defaults.ask_fallback.unwrap_or(Security::Deny),
                auto_allow_skills: defaults.auto_allow_skills.unwrap_or(false),
            }),
        }
    }

    /// What the parameters `{file, baseHash?}` of a `set` make of the store.
    ///
    /// The socket keeps what the new document does not give. The hash of a row that does not
    /// exist may also be named as [`missing_revision`], or not at all.
    ///
    /// # Errors
    ///
    /// Any [`SnapshotError`] but [`SnapshotError::ChangedMeanwhile`], which is for whoever writes
    /// the row and finds that it is no longer this one.
    pub fn replace(
        &self,
        params: &Value,
        config: &ExecConfig,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Replacement, SnapshotError> {
        let no_members = Map::new();
        let file = match params.get("file") {
            Some(Value::Object(file)) => file,
            // A list is an object in JavaScript, one without any of the members.
            Some(Value::Array(_)) => &no_members,
            _ => return Err(SnapshotError::FileRequired),
        };
        let normal = normal_form::of(file, new_id)?;
        self.check_base_hash(params, config)?;
        Ok(match Document::from_stored(normal.clone()) {
            Ok(mut document) => {
                document.refuse_backtracking()?;
                let current = &self.document.socket;
                let socket = &mut document.socket;
                socket.path = socket.path.take().or_else(|| current.path.clone());
                socket.token = socket.token.take().or_else(|| current.token.clone());
                Replacement {
                    text: document.canonical_text(),
                    stored: document.into(),
                }
            }
            Err(error) => {
                let text = document::text(&normal);
                Replacement {
                    stored: Self::unreadable(&text, error),
                    text: text.into(),
                }
            }
        })
    }

    fn check_base_hash(&self, params: &Value, config: &ExecConfig) -> Result<(), SnapshotError> {
        let given = params.get("baseHash").and_then(Value::as_str);
        let given = given.map(trim).filter(|hash| !hash.is_empty());
        match given {
            None if self.exists() => Err(SnapshotError::BaseHashRequired),
            None => Ok(()),
            Some(hash) if hash == self.revision(config) => Ok(()),
            Some(hash) if !self.exists() && hash == missing_revision() => Ok(()),
            Some(_) => Err(SnapshotError::Changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::{Replacement, SnapshotError, Stored, wants_resolved_defaults};
    use crate::digest::sha256_hex;
    use crate::document::missing_revision;
    use crate::policy::{ExecConfig, ExecLayer, Mode, Security};

    const PATH: &str = "/state/openclaw-node.sqlite#exec_approvals_config";

    fn full() -> ExecConfig {
        ExecConfig::new(ExecLayer {
            mode: Some(Mode::Full),
            ..ExecLayer::default()
        })
    }

    fn get(stored: &Stored, config: &ExecConfig) -> Value {
        serde_json::to_value(stored.snapshot(PATH, config, false)).unwrap()
    }

    fn set(
        stored: &Stored,
        config: &ExecConfig,
        params: &Value,
    ) -> Result<Replacement, SnapshotError> {
        let mut count = 0;
        stored.replace(params, config, &mut || {
            count += 1;
            format!("id-{count}")
        })
    }

    /// A store that holds `file`.
    fn holding(file: &Value) -> Stored {
        set(&Stored::default(), &full(), &json!({"file": file}))
            .unwrap()
            .stored
    }

    #[test]
    fn get_reads_its_parameters_strictly() {
        for (params, expected) in [
            (None, Some(false)),
            (Some(json!({})), Some(false)),
            (
                Some(json!({"includeResolvedDefaults": true, "x": 1})),
                Some(true),
            ),
            (Some(json!({"includeResolvedDefaults": false})), Some(false)),
            (Some(json!({"includeResolvedDefaults": null})), None),
            (Some(json!({"includeResolvedDefaults": "true"})), None),
            (Some(json!({"includeResolvedDefaults": 1})), None),
            (Some(json!([])), None),
            (Some(json!(null)), None),
            (Some(json!("x")), None),
        ] {
            let wanted = wants_resolved_defaults(params.as_ref());
            assert_eq!(wanted.ok(), expected, "{params:?}");
        }
        assert_eq!(
            wants_resolved_defaults(Some(&json!([])))
                .unwrap_err()
                .to_string(),
            "Error: INVALID_REQUEST: includeResolvedDefaults must be boolean"
        );
    }

    #[test]
    fn a_fresh_node_reports_what_it_would_do_and_stores_nothing() {
        let stored = Stored::read(None);
        let reported = get(&stored, &ExecConfig::default());
        assert_eq!(reported["exists"], json!(false));
        assert_eq!(reported["path"], json!(PATH));
        assert_eq!(
            reported["file"],
            json!({"version": 1, "defaults": {"security": "allowlist", "ask": "on-miss", "askFallback": "deny"}, "agents": {}})
        );
        assert_eq!(
            reported["hash"],
            json!(sha256_hex(format!("{:#}\n", reported["file"])))
        );
        assert_eq!(reported.get("resolvedDefaults"), None);
    }

    #[test]
    fn what_the_configuration_gives_is_not_made_explicit() {
        let reported = get(&Stored::read(None), &full());
        assert_eq!(reported["file"]["defaults"], json!({"askFallback": "deny"}));
    }

    #[test]
    fn resolved_defaults_are_complete() {
        let of = |stored: &Stored, config: &ExecConfig| {
            let snapshot = stored.snapshot(PATH, config, true);
            serde_json::to_value(snapshot.resolved_defaults).unwrap()
        };
        assert_eq!(
            of(&holding(&json!({})), &full()),
            json!({"security": "full", "ask": "off", "askFallback": "deny", "autoAllowSkills": false})
        );
        assert_eq!(
            of(&Stored::default(), &ExecConfig::default()),
            json!({"security": "allowlist", "ask": "on-miss", "askFallback": "deny", "autoAllowSkills": false})
        );
        let file = json!({"defaults": {"security": "deny", "ask": "always", "askFallback": "full", "autoAllowSkills": true}});
        assert_eq!(of(&holding(&file), &full()), file["defaults"]);
    }

    #[test]
    fn the_reported_document_can_be_set_back_and_keeps_its_hash() {
        let agents = ExecConfig::default().with_agent(
            "ops",
            ExecLayer {
                security: Some(Security::Full),
                ..ExecLayer::default()
            },
        );
        for config in [ExecConfig::default(), full(), agents] {
            for stored in [
                Stored::default(),
                holding(&json!({})),
                holding(
                    &json!({"defaults": {"ask": "off"}, "agents": {"main": {"allowlist": ["x"]}}}),
                ),
                holding(&json!({"socket": {"path": "/s", "token": "t"}})),
            ] {
                let reported = get(&stored, &config);
                let params = json!({"file": reported["file"], "baseHash": reported["hash"]});
                let replacement = set(&stored, &config, &params).unwrap();
                let again = get(&replacement.stored, &config);
                assert_eq!(again["exists"], json!(true));
                assert_eq!(again["file"], reported["file"]);
                assert_eq!(again["hash"], reported["hash"]);
            }
        }
    }

    #[test]
    fn a_set_stores_what_was_given_and_nothing_explicit() {
        let params = json!({"file": {"version": 3, "x": 1, "agents": {"main": {"allowlist": [{"pattern": "/x"}]}}}});
        let config = ExecConfig::default();
        let replacement = set(&Stored::default(), &config, &params).unwrap();
        let text = replacement.text.expose_secret();
        assert_eq!(
            serde_json::from_str::<Value>(text).unwrap(),
            json!({"version": 1, "defaults": {}, "agents": {"main": {"allowlist": [{"id": "id-1", "pattern": "/x"}]}}})
        );
        assert_eq!(Stored::read(Some(text)), replacement.stored);
        let reported = get(&replacement.stored, &config);
        assert_eq!(reported["file"]["defaults"]["security"], json!("allowlist"));
    }

    #[test]
    fn a_set_must_name_the_document_that_it_replaces() {
        const FILE_REQUIRED: &str = "Error: INVALID_REQUEST: exec approvals file required";
        const REQUIRED: &str =
            "Error: INVALID_REQUEST: exec approvals base hash required; reload and retry";
        const CHANGED: &str = "Error: INVALID_REQUEST: exec approvals changed; reload and retry";
        let config = full();
        let missing = Stored::default();
        let present = holding(&json!({}));
        let hash = present.revision(&config);
        let fresh_hash = missing.revision(&config);
        let file = json!({"version": 1});
        for (stored, params, refusal) in [
            (&present, json!({"baseHash": "x"}), Some(FILE_REQUIRED)),
            (
                &present,
                json!({"file": null, "baseHash": "x"}),
                Some(FILE_REQUIRED),
            ),
            (
                &present,
                json!({"file": "x", "baseHash": hash}),
                Some(FILE_REQUIRED),
            ),
            (&present, json!([]), Some(FILE_REQUIRED)),
            (&present, json!(null), Some(FILE_REQUIRED)),
            (&present, json!({"file": file}), Some(REQUIRED)),
            (
                &present,
                json!({"file": file, "baseHash": null}),
                Some(REQUIRED),
            ),
            (
                &present,
                json!({"file": file, "baseHash": 1}),
                Some(REQUIRED),
            ),
            (
                &present,
                json!({"file": file, "baseHash": "  "}),
                Some(REQUIRED),
            ),
            (
                &present,
                json!({"file": file, "baseHash": "deadbeef"}),
                Some(CHANGED),
            ),
            (
                &present,
                json!({"file": file, "baseHash": hash.to_uppercase()}),
                Some(CHANGED),
            ),
            (
                &present,
                json!({"file": file, "baseHash": missing_revision()}),
                Some(CHANGED),
            ),
            (&present, json!({"file": file, "baseHash": hash}), None),
            (
                &present,
                json!({"file": file, "baseHash": format!("  {hash} \n")}),
                None,
            ),
            (&present, json!({"file": [], "baseHash": hash}), None),
            (&missing, json!({"file": file}), None),
            (&missing, json!({"file": file, "baseHash": ""}), None),
            (
                &missing,
                json!({"file": file, "baseHash": fresh_hash}),
                None,
            ),
            (
                &missing,
                json!({"file": file, "baseHash": missing_revision()}),
                None,
            ),
            (
                &missing,
                json!({"file": file, "baseHash": "deadbeef"}),
                Some(CHANGED),
            ),
        ] {
            let error = set(stored, &config, &params)
                .err()
                .map(|error| error.to_string());
            assert_eq!(error.as_deref(), refusal, "{params}");
        }
        assert_eq!(
            SnapshotError::ChangedMeanwhile.to_string(),
            "INVALID_REQUEST: exec approvals changed; reload and retry"
        );
    }

    #[test]
    fn a_change_by_another_operator_is_noticed_and_use_is_not() {
        let config = full();
        let file = |at: u64, pattern: &str| json!({"agents": {"main": {"allowlist": [{"id": "1", "pattern": pattern, "lastUsedAt": at}]}}});
        let hash = holding(&file(1, "x")).revision(&config);
        let params = json!({"file": {}, "baseHash": hash});
        assert!(set(&holding(&file(2, "x")), &config, &params).is_ok());
        assert_eq!(
            set(&holding(&file(1, "y")), &config, &params).unwrap_err(),
            SnapshotError::Changed
        );
    }

    #[test]
    fn the_socket_is_kept_where_the_new_document_gives_none_and_never_minted() {
        let config = full();
        let token = |stored: &Stored| {
            let token = stored.document().socket.token.as_ref();
            token.map(|token| token.expose_secret().to_owned())
        };
        let stored = holding(&json!({"socket": {"path": " /s ", "token": "sekret"}}));
        assert_eq!(
            get(&stored, &config)["file"]["socket"],
            json!({"path": "/s"})
        );
        assert!(!get(&stored, &config).to_string().contains("sekret"));
        for (socket, path, kept) in [
            (json!(null), "/s", "sekret"),
            (json!({"path": " "}), "/s", "sekret"),
            (json!({"path": "/t"}), "/t", "sekret"),
            (json!({"token": "new"}), "/s", "new"),
        ] {
            let params = json!({"file": {"socket": socket}, "baseHash": stored.revision(&config)});
            let replacement = set(&stored, &config, &params).unwrap();
            assert_eq!(
                replacement.stored.document().socket.path.as_deref(),
                Some(path)
            );
            assert_eq!(token(&replacement.stored).as_deref(), Some(kept));
            assert!(replacement.text.expose_secret().contains(kept));
        }
        let fresh = holding(&json!({}));
        assert_eq!(fresh.document().socket.path, None);
        assert_eq!(token(&fresh), None);
        assert_eq!(get(&fresh, &config)["file"].get("socket"), None);
    }

    #[test]
    fn a_row_that_cannot_be_read_denies_everything_until_it_is_replaced() {
        let config = full();
        let raw = r#"{"version": 1, "agents": {"main": {"security": "everything"}}}"#;
        let stored = Stored::read(Some(raw));
        assert!(stored.error().is_some());
        let reported = get(&stored, &config);
        assert_eq!(reported["exists"], json!(true));
        assert_eq!(reported["hash"], json!(sha256_hex(raw)));
        assert_eq!(
            reported["file"],
            json!({"version": 1, "defaults": {"security": "deny", "ask": "off", "askFallback": "deny", "autoAllowSkills": false}, "agents": {}})
        );
        let params = json!({"file": {}, "baseHash": reported["hash"]});
        let replacement = set(&stored, &config, &params).unwrap();
        assert_eq!(replacement.stored.error(), None);
        assert_eq!(
            get(&replacement.stored, &config)["file"]["defaults"],
            json!({"askFallback": "deny"})
        );
    }

    #[test]
    fn a_set_of_wrong_types_locks_down_as_its_stored_text_does() {
        for agent in [
            json!({"autoAllowSkills": "yes"}),
            json!({"autoAllowSkills": null}),
            json!({"allowlist": [{"pattern": "x", "argPattern": 5}]}),
            json!({"allowlist": [{"pattern": "x", "id": 5}]}),
            json!({"mcpTools": [{}]}),
            json!("x"),
        ] {
            let params = json!({"file": {"agents": {"main": agent}}});
            let replacement = set(&Stored::default(), &full(), &params).unwrap();
            let stored = &replacement.stored;
            assert!(stored.error().is_some(), "{agent}");
            assert_eq!(stored.document().defaults.security, Some(Security::Deny));
            let text = replacement.text.expose_secret();
            assert_eq!(&Stored::read(Some(text)), stored, "{agent}");
        }
    }

    #[test]
    fn a_set_that_has_no_normal_form_is_refused() {
        for (file, at) in [
            (json!({"agents": []}), "agents"),
            (json!({"agents": {"main": null}}), "agents.main"),
            (json!({"socket": {"path": 1}}), "socket.path"),
            (json!({"socket": {"token": ["sekret"]}}), "socket.token"),
        ] {
            let error = set(&Stored::default(), &full(), &json!({"file": file})).unwrap_err();
            let message = error.to_string();
            let start = format!("Error: INVALID_REQUEST: {at} of the approvals document must be ");
            assert!(message.starts_with(&start), "{message}");
            assert!(!message.contains("sekret"));
        }
    }
}
