//! What an operator changes in the document, piece by piece.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::command::trim;
use crate::document::{Agent, Document, DocumentError, Entry, PolicyFields};
use crate::policy::{Ask, Security};

/// A policy with a name, for all agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Everything runs and nobody is asked.
    Yolo,
    /// What is listed runs, a human is asked about the rest.
    Strict,
    /// Nothing runs.
    Deny,
}

impl Preset {
    /// What it says.
    #[must_use]
    pub const fn fields(self) -> PolicyFields {
        let (security, ask, ask_fallback) = match self {
            Self::Yolo => (Security::Full, Ask::Off, Security::Full),
            Self::Strict => (Security::Allowlist, Ask::OnMiss, Security::Deny),
            Self::Deny => (Security::Deny, Ask::Off, Security::Deny),
        };
        PolicyFields {
            security: Some(security),
            ask: Some(ask),
            ask_fallback: Some(ask_fallback),
            auto_allow_skills: None,
        }
    }
}

impl Document {
    /// Adds an entry to an agent's allowlist, unless one with this pattern and without an
    /// `argPattern` is there; returns whether it was added.
    pub fn allow(
        &mut self,
        agent: &str,
        pattern: &str,
        new_id: &mut dyn FnMut() -> String,
    ) -> bool {
        let pattern = trim(pattern);
        let entries = self.agents.entry(agent.to_owned()).or_default();
        let entries = entries.allowlist.get_or_insert_default();
        let is_same = |entry: &Entry| {
            trim(&entry.pattern) == pattern
                && entry.arg_pattern.as_deref().unwrap_or_default().is_empty()
                && !entry.allow_always
        };
        if entries.iter().any(is_same) {
            return false;
        }
        entries.push(Entry {
            id: Some(new_id()),
            pattern: pattern.to_owned(),
            ..Entry::default()
        });
        true
    }

    /// Removes every entry with this pattern from an agent's allowlist; returns how many.
    pub fn disallow(&mut self, agent: &str, pattern: &str) -> usize {
        let Some(holder) = self.agents.get_mut(agent) else {
            return 0;
        };
        let entries = holder.allowlist.get_or_insert_default();
        let before = entries.len();
        entries.retain(|entry| trim(&entry.pattern) != trim(pattern));
        let removed = before - entries.len();
        if entries.is_empty() {
            holder.allowlist = None;
        }
        if *holder == Agent::default() {
            self.agents.remove(agent);
        }
        removed
    }

    /// Makes a preset the policy of all agents. Allowlists stay; returns the agents whose own
    /// policy is gone.
    pub fn apply(&mut self, preset: Preset) -> Vec<String> {
        self.defaults = preset.fields();
        let mut overruled = Vec::new();
        self.agents.retain(|id, agent| {
            if std::mem::take(&mut agent.fields) != PolicyFields::default() {
                overruled.push(id.clone());
            }
            *agent != Agent::default()
        });
        overruled
    }
}

/// Refuses a document of an operator in which a policy field has a value that the normal form
/// would silently drop, as upstream does with what a gateway sends.
///
/// # Errors
/// The first such field.
pub fn refuse_unknown_words(file: &Map<String, Value>) -> Result<(), DocumentError> {
    let agents = file.get("agents").and_then(Value::as_object);
    let agents = agents.into_iter().flatten();
    let agents = agents.map(|(id, agent)| (format!("agents.{id}."), Some(agent)));
    let defaults = ("defaults.".to_owned(), file.get("defaults"));
    for (at, holder) in std::iter::once(defaults).chain(agents) {
        let Some(holder) = holder.and_then(Value::as_object) else {
            continue;
        };
        check::<Security>(holder, &at, "security", "deny, allowlist or full")?;
        check::<Ask>(holder, &at, "ask", "off, on-miss or always")?;
        check::<Security>(holder, &at, "askFallback", "deny, allowlist or full")?;
    }
    Ok(())
}

fn check<T: FromStr>(
    holder: &Map<String, Value>,
    at: &str,
    key: &str,
    expected: &'static str,
) -> Result<(), DocumentError> {
    match holder.get(key) {
        None | Some(Value::Null) => Ok(()),
        Some(value)
            if value
                .as_str()
                .is_some_and(|text| trim(text).parse::<T>().is_ok()) =>
        {
            Ok(())
        }
        Some(_) => Err(DocumentError::shape(format!("{at}{key}"), expected)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(file: &Value) -> Document {
        Document::from_value(file.as_object().unwrap(), &mut || "id".to_owned()).unwrap()
    }

    #[test]
    fn entries_are_added_once_and_removed_without_a_trace() {
        let mut edited = document(&json!({"agents": {
            "ops": {"allowlist": [{"id": "1", "pattern": "rg", "argPattern": "x"}]}}}));
        let before = edited.clone();
        let mut ids = 0;
        let mut new_id = || {
            ids += 1;
            format!("new-{ids}")
        };
        assert!(edited.allow("*", " rg ", &mut new_id));
        assert!(!edited.allow("*", "rg", &mut new_id));
        assert!(edited.allow("ops", "rg", &mut new_id));
        assert_eq!(
            edited.redacted()["agents"],
            json!({
                "*": {"allowlist": [{"id": "new-1", "pattern": "rg"}]},
                "ops": {"allowlist": [
                    {"id": "1", "pattern": "rg", "argPattern": "x"}, {"id": "new-2", "pattern": "rg"}]},
            })
        );
        assert_eq!(edited.disallow("*", "rg"), 1);
        assert_eq!(edited.disallow("*", "rg"), 0);
        assert_eq!(edited.disallow("nobody", "rg"), 0);
        assert!(!edited.agents.contains_key("*"));
        assert_eq!(edited.disallow("ops", "rg"), 2);
        assert!(!edited.agents.contains_key("ops"));
        assert!(before.agents.contains_key("ops"));
    }

    #[test]
    fn a_preset_holds_for_every_agent_and_keeps_what_is_listed() {
        let file = json!({
            "defaults": {"autoAllowSkills": true},
            "agents": {
                "main": {"security": "full", "allowlist": [{"id": "1", "pattern": "rg"}]},
                "ops": {"ask": "always"},
                "dev": {"allowlist": [{"id": "2", "pattern": "ls"}]},
            },
        });
        for (preset, defaults) in [
            (
                Preset::Yolo,
                json!({"security": "full", "ask": "off", "askFallback": "full"}),
            ),
            (
                Preset::Strict,
                json!({"security": "allowlist", "ask": "on-miss", "askFallback": "deny"}),
            ),
            (
                Preset::Deny,
                json!({"security": "deny", "ask": "off", "askFallback": "deny"}),
            ),
        ] {
            let mut edited = document(&file);
            assert_eq!(edited.apply(preset), ["main", "ops"]);
            assert_eq!(
                edited.redacted(),
                json!({"version": 1, "defaults": defaults, "agents": {
                    "dev": {"allowlist": [{"id": "2", "pattern": "ls"}]},
                    "main": {"allowlist": [{"id": "1", "pattern": "rg"}]},
                }})
            );
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_not_dropped_in_silence() {
        for (file, at) in [
            (
                json!({"defaults": {"security": "denny"}}),
                "defaults.security",
            ),
            (json!({"defaults": {"ask": true}}), "defaults.ask"),
            (
                json!({"agents": {"main": {"askFallback": "ask"}}}),
                "agents.main.askFallback",
            ),
        ] {
            let error = refuse_unknown_words(file.as_object().unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(at), "{error}");
        }
        let fine = json!({"defaults": {"security": " full ", "ask": null}, "agents": {"a": 1}});
        assert_eq!(refuse_unknown_words(fine.as_object().unwrap()), Ok(()));
    }
}
