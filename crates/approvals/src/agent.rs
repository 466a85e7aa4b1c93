//! The parts of the approvals document: agents, and the entries of their allowlists.

use serde_json::{Map, Number, Value};

use crate::command::trim;
use crate::document::{DocumentError, Purpose, put};
use crate::members::Members;
use crate::policy::{Ask, Security};

/// The value of `source` on entries that an allow-always decision wrote.
const ALLOW_ALWAYS: &str = "allow-always";

/// The policy fields that an agent and the defaults have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyFields {
    /// How much may run.
    pub security: Option<Security>,
    /// When a human is asked.
    pub ask: Option<Ask>,
    /// What `security` falls to when a human should be asked and nobody can be.
    pub ask_fallback: Option<Security>,
    /// Whether the gateway's skill executables count as listed.
    pub auto_allow_skills: Option<bool>,
}

/// What applies to one agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agent {
    /// The policy fields.
    pub fields: PolicyFields,
    /// What may run. An empty list says no more than none, and is kept as it was written.
    pub allowlist: Option<Vec<Entry>>,
    /// Grants for MCP tools, which this node stores and does not read.
    pub mcp_tools: Option<Vec<Map<String, Value>>>,
    /// Members that this node does not know.
    pub extra: Map<String, Value>,
}

/// One rule of an allowlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// What identifies it to an operator's tool.
    pub id: Option<String>,
    /// The executable it names: a path glob, a bare name, `*`, or a generated marker.
    pub pattern: String,
    /// What its arguments must match; an empty text counts as none.
    pub arg_pattern: Option<String>,
    /// Whether an allow-always decision wrote it. Such an entry holds only for what it is bound to.
    pub allow_always: bool,
    /// How it was last used. Not part of the policy, nor of the revision (divergence D11).
    pub usage: Usage,
    /// Members that this node does not know.
    pub extra: Map<String, Value>,
}

/// How an entry was last used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// When, in unix milliseconds.
    pub at: Option<Number>,
    /// The text of the command; absent for entries that are bound by a hash.
    pub command: Option<String>,
    /// The executable, its symlinks resolved.
    pub resolved_path: Option<String>,
}

impl PolicyFields {
    pub(crate) fn read(members: &mut Members) -> Result<Self, DocumentError> {
        const SECURITY: &str = "deny, allowlist or full";
        Ok(Self {
            security: members.parse("security", SECURITY)?,
            ask: members.parse("ask", "off, on-miss or always")?,
            ask_fallback: members.parse("askFallback", SECURITY)?,
            auto_allow_skills: members
                .take("autoAllowSkills", "true or false", |value| value.as_bool())?,
        })
    }

    pub(crate) fn write(&self, members: &mut Map<String, Value>) {
        put(members, "security", self.security.map(Security::as_str));
        put(members, "ask", self.ask.map(Ask::as_str));
        let ask_fallback = self.ask_fallback.map(Security::as_str);
        put(members, "askFallback", ask_fallback);
        put(members, "autoAllowSkills", self.auto_allow_skills);
    }
}

impl Agent {
    pub(crate) fn read(mut members: Members) -> Result<Self, DocumentError> {
        let fields = PolicyFields::read(&mut members)?;
        let allowlist = members.list("allowlist", |value, path| match value {
            Value::String(pattern) => Entry::naming(&pattern, path),
            value => Entry::read(Members::of(value, path)?),
        })?;
        let mcp_tools = members.list("mcpTools", |value, path| {
            let grant = Members::of(value, path)?;
            check_mcp_tool(&grant)?;
            Ok(grant.map)
        })?;
        Ok(Self {
            fields,
            allowlist,
            mcp_tools,
            extra: members.map,
        })
    }

    /// This agent, with what only `legacy` says. Entries that differ in case alone are the same.
    pub(crate) fn merged_with(self, legacy: Self) -> Self {
        let mut allowlist: Vec<Entry> = Vec::new();
        let mut seen = Vec::new();
        for entry in [self.allowlist, legacy.allowlist]
            .into_iter()
            .flatten()
            .flatten()
        {
            let argument_pattern = entry.arg_pattern.as_deref().unwrap_or_default();
            let key = (
                trim(&entry.pattern).to_lowercase(),
                trim(argument_pattern).to_owned(),
            );
            if !seen.contains(&key) {
                seen.push(key);
                allowlist.push(entry);
            }
        }
        let mut extra = legacy.extra;
        extra.extend(self.extra);
        Self {
            fields: PolicyFields {
                security: self.fields.security.or(legacy.fields.security),
                ask: self.fields.ask.or(legacy.fields.ask),
                ask_fallback: self.fields.ask_fallback.or(legacy.fields.ask_fallback),
                auto_allow_skills: self
                    .fields
                    .auto_allow_skills
                    .or(legacy.fields.auto_allow_skills),
            },
            allowlist: Some(allowlist).filter(|allowlist| !allowlist.is_empty()),
            mcp_tools: merged_mcp_tools(self.mcp_tools, legacy.mcp_tools),
            extra,
        }
    }

    pub(crate) fn to_value(&self, purpose: Purpose) -> Value {
        let mut agent = Map::new();
        self.fields.write(&mut agent);
        let allowlist = self.allowlist.as_ref().map(|entries| -> Vec<Value> {
            let entries = entries.iter();
            entries.map(|entry| entry.to_value(purpose)).collect()
        });
        put(&mut agent, "allowlist", allowlist);
        let mcp_tools = self.mcp_tools.clone().map(|mut grants| {
            if purpose == Purpose::Revision {
                for grant in &mut grants {
                    grant.shift_remove("lastUsedAt");
                }
            }
            Value::from_iter(grants)
        });
        put(&mut agent, "mcpTools", mcp_tools);
        agent.extend(self.extra.clone());
        Value::Object(agent)
    }
}

/// What upstream demands of a grant; one that falls short makes the document unreadable.
fn check_mcp_tool(grant: &Members) -> Result<(), DocumentError> {
    let is_name = |value: Option<&Value>| {
        let name = value.and_then(Value::as_str);
        name.is_some_and(|name| !trim(name).is_empty())
    };
    let is_time = |value: &Value| value.as_f64().is_some_and(|time| time >= 0.0);
    for key in ["server", "tool"] {
        if !is_name(grant.map.get(key)) {
            return Err(grant.error(key, "a text that is not blank"));
        }
    }
    if grant.map.get("source").and_then(Value::as_str) != Some(ALLOW_ALWAYS) {
        return Err(grant.error("source", ALLOW_ALWAYS));
    }
    if !grant.map.get("addedAt").is_some_and(is_time) {
        return Err(grant.error("addedAt", "a number, 0 or more"));
    }
    if !grant.map.get("lastUsedAt").is_none_or(is_time) {
        return Err(grant.error("lastUsedAt", "a number, 0 or more"));
    }
    Ok(())
}

fn merged_mcp_tools(
    own: Option<Vec<Map<String, Value>>>,
    legacy: Option<Vec<Map<String, Value>>>,
) -> Option<Vec<Map<String, Value>>> {
    let (Some(mut grants), Some(others)) = (own.clone(), legacy.clone()) else {
        return own.or(legacy);
    };
    for other in others {
        let is_same = |grant: &Map<String, Value>| {
            ["server", "tool"]
                .iter()
                .all(|&key| grant.get(key) == other.get(key))
        };
        if !grants.iter().any(is_same) {
            grants.push(other);
        }
    }
    Some(grants)
}

impl Entry {
    fn naming(pattern: &str, path: String) -> Result<Self, DocumentError> {
        match trim(pattern) {
            "" => Err(DocumentError::shape(path, "a text that is not blank")),
            pattern => Ok(Self {
                pattern: pattern.to_owned(),
                ..Self::default()
            }),
        }
    }

    fn read(mut members: Members) -> Result<Self, DocumentError> {
        let pattern = members
            .text("pattern")?
            .filter(|pattern| !trim(pattern).is_empty())
            .ok_or_else(|| members.error("pattern", "a text that is not blank"))?;
        let entry = Self {
            pattern,
            id: members.text("id")?,
            arg_pattern: members.text("argPattern")?,
            allow_always: members
                .text("source")?
                .is_some_and(|source| source == ALLOW_ALWAYS),
            usage: Usage {
                at: members.take("lastUsedAt", "a number", number)?,
                command: members.text("lastUsedCommand")?,
                resolved_path: members.text("lastResolvedPath")?,
            },
            extra: Map::new(),
        };
        members.text("commandText")?;
        Ok(Self {
            extra: members.map,
            ..entry
        })
    }

    pub(crate) fn to_value(&self, purpose: Purpose) -> Value {
        let mut entry = Map::new();
        put(&mut entry, "id", self.id.clone());
        put(&mut entry, "pattern", Some(self.pattern.clone()));
        put(&mut entry, "argPattern", self.arg_pattern.clone());
        put(
            &mut entry,
            "source",
            self.allow_always.then_some(ALLOW_ALWAYS),
        );
        if purpose != Purpose::Revision {
            put(&mut entry, "lastUsedAt", self.usage.at.clone());
            put(&mut entry, "lastUsedCommand", self.usage.command.clone());
            let resolved_path = self.usage.resolved_path.clone();
            put(&mut entry, "lastResolvedPath", resolved_path);
        }
        entry.extend(self.extra.clone());
        Value::Object(entry)
    }
}

/// A number, whole ones without a fraction, as JavaScript writes them.
fn number(value: &Value) -> Option<Number> {
    /// The largest number up to which every whole one has a representation of its own.
    const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
    let Value::Number(number) = value else {
        return None;
    };
    match number.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within i64")]
        Some(whole) if whole.fract() == 0.0 && whole.abs() <= MAX_SAFE => {
            Some(Number::from(whole as i64))
        }
        _ => Some(number.clone()),
    }
}
