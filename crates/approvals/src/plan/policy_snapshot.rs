//! The policy that a plan was prepared under (exec and approvals §10, §11).

use serde::Serialize;
use serde_json::Value;

use super::InvalidPlan;
use crate::policy::{Ask, DocumentPolicy, Security};

/// The approvals document's policy for one agent as it was when a plan was prepared.
///
/// The node's own configuration is not part of it: it is not what an operator edits between
/// question and answer, and it is looked at afresh anyway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySnapshot {
    security: Security,
    ask: Ask,
    ask_fallback: Security,
    auto_allow_skills: bool,
    /// Sorted, each rule once.
    allowlist_rules: Vec<SnapshotRule>,
}

/// What an allowlist entry grants, without its identity and its usage.
///
/// Rules are ordered by the bytes of pattern, argument pattern and source; an absent one comes first
/// (exec and approvals §10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotRule {
    /// The entry's pattern.
    pub pattern: String,
    /// The entry's `argPattern`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
    /// What made the entry, unless an operator wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<RuleSource>,
}

/// What made an allowlist entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSource {
    /// A human's "allow always".
    AllowAlways,
}

impl PolicySnapshot {
    /// A snapshot of these values; the rules are put in order, each once.
    #[must_use]
    pub fn new(
        security: Security,
        ask: Ask,
        ask_fallback: Security,
        auto_allow_skills: bool,
        mut rules: Vec<SnapshotRule>,
    ) -> Self {
        rules.sort_unstable();
        rules.dedup();
        Self {
            security,
            ask,
            ask_fallback,
            auto_allow_skills,
            allowlist_rules: rules,
        }
    }

    /// Takes a snapshot of what the approvals document says for an agent.
    #[must_use]
    pub fn of(policy: &DocumentPolicy<'_>) -> Self {
        let rules = policy.allowlist.iter().map(|entry| SnapshotRule {
            pattern: entry.pattern.clone(),
            arg_pattern: entry.arg_pattern.clone(),
            source: entry.allow_always.then_some(RuleSource::AllowAlways),
        });
        Self::new(
            policy.security.value,
            policy.ask.value,
            policy.ask_fallback.value,
            policy.auto_allow_skills.value,
            rules.collect(),
        )
    }

    /// Reads a snapshot as it stands in a plan.
    ///
    /// # Errors
    /// Anything that this node would not have written.
    pub fn parse(value: &Value) -> Result<Self, InvalidPlan> {
        let members = value.as_object().ok_or(InvalidPlan)?;
        let word = |name: &str| members.get(name).and_then(Value::as_str).ok_or(InvalidPlan);
        let rules = members
            .get("allowlistRules")
            .and_then(Value::as_array)
            .ok_or(InvalidPlan)?;
        Ok(Self::new(
            word("security")?.parse().map_err(|_| InvalidPlan)?,
            word("ask")?.parse().map_err(|_| InvalidPlan)?,
            word("askFallback")?.parse().map_err(|_| InvalidPlan)?,
            members
                .get("autoAllowSkills")
                .and_then(Value::as_bool)
                .ok_or(InvalidPlan)?,
            rules
                .iter()
                .map(SnapshotRule::parse)
                .collect::<Result<_, _>>()?,
        ))
    }

    /// Whether what was approved under this snapshot still holds under `current`: the same settings,
    /// and every rule still there or made again by an "allow always". Further rules do no harm.
    #[must_use]
    pub fn still_holds_under(&self, current: &Self) -> bool {
        let kept = |rule: &SnapshotRule| {
            let has = |rule: &SnapshotRule| current.allowlist_rules.binary_search(rule).is_ok();
            let source = Some(RuleSource::AllowAlways);
            has(rule)
                || has(&SnapshotRule {
                    source,
                    ..rule.clone()
                })
        };
        self.security == current.security
            && self.ask == current.ask
            && self.ask_fallback == current.ask_fallback
            && self.auto_allow_skills == current.auto_allow_skills
            && self.allowlist_rules.iter().all(kept)
    }
}

impl SnapshotRule {
    fn parse(value: &Value) -> Result<Self, InvalidPlan> {
        let members = value.as_object().ok_or(InvalidPlan)?;
        let pattern = members
            .get("pattern")
            .and_then(Value::as_str)
            .ok_or(InvalidPlan)?;
        let arg_pattern = match members.get("argPattern") {
            None => None,
            Some(Value::String(pattern)) => Some(pattern.clone()),
            Some(_) => return Err(InvalidPlan),
        };
        let source = match members.get("source") {
            None => None,
            Some(Value::String(source)) if source == "allow-always" => {
                Some(RuleSource::AllowAlways)
            }
            Some(_) => return Err(InvalidPlan),
        };
        Ok(Self {
            pattern: pattern.to_owned(),
            arg_pattern,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, arg_pattern: Option<&str>, generated: bool) -> SnapshotRule {
        SnapshotRule {
            pattern: pattern.to_owned(),
            arg_pattern: arg_pattern.map(str::to_owned),
            source: generated.then_some(RuleSource::AllowAlways),
        }
    }

    fn snapshot(rules: &[SnapshotRule]) -> PolicySnapshot {
        PolicySnapshot::new(
            Security::Allowlist,
            Ask::OnMiss,
            Security::Deny,
            false,
            rules.to_vec(),
        )
    }

    #[test]
    fn rules_are_sorted_by_bytes_and_told_once() {
        let sorted = [
            rule("Z", None, false),
            rule("a", None, false),
            rule("a", None, true),
            rule("a", Some(""), false),
            rule("a", Some("b"), false),
            rule("a", Some("b"), true),
            rule("ab", None, false),
            rule("\u{e000}", None, false),
            rule("\u{10000}", None, false),
        ];
        let mut shuffled = sorted.to_vec();
        shuffled.reverse();
        shuffled.extend_from_slice(&sorted);
        assert_eq!(snapshot(&shuffled).allowlist_rules, sorted);
    }

    #[test]
    fn a_snapshot_holds_until_something_was_taken_away() {
        let [a, b] = [rule("a", None, false), rule("b", Some("x"), false)];
        let before = snapshot(std::slice::from_ref(&a));
        let upgraded = rule("a", None, true);
        assert!(before.still_holds_under(&before));
        assert!(before.still_holds_under(&snapshot(&[a.clone(), b.clone()])));
        assert!(before.still_holds_under(&snapshot(std::slice::from_ref(&upgraded))));
        assert!(!before.still_holds_under(&snapshot(&[b])));
        assert!(!before.still_holds_under(&snapshot(&[])));
        assert!(!snapshot(&[upgraded]).still_holds_under(&before));
        for other in [
            PolicySnapshot {
                security: Security::Full,
                ..before.clone()
            },
            PolicySnapshot {
                ask: Ask::Always,
                ..before.clone()
            },
            PolicySnapshot {
                ask_fallback: Security::Full,
                ..before.clone()
            },
            PolicySnapshot {
                auto_allow_skills: true,
                ..before.clone()
            },
        ] {
            assert!(!before.still_holds_under(&other), "{other:?}");
        }
    }
}
