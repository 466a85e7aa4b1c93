//! Which policy applies to a run: openclaw.json and the approvals document, resolved per agent.
//!
//! Both sides may restrict, neither may widen what the other gives: the lower [`Security`] and
//! the higher [`Ask`] win (exec and approvals §5). Where neither gives a value, a node nobody has
//! configured runs only what an allowlist names and asks for the rest (divergence D9).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{Document, Entry, PolicyFields};
pub use crate::exec_config::{ExecConfig, ExecLayer, Mode};

/// The agent whose policy applies to a run that names none (divergence D2).
pub const DEFAULT_AGENT: &str = "main";

/// The agent key whose fields and allowlist apply to every agent (exec and approvals §9).
pub const WILDCARD_AGENT: &str = "*";

/// What `security` is where nothing gives a value (divergence D9).
pub const UNSET_SECURITY: Security = Security::Allowlist;

/// What `ask` is where nothing gives a value (divergence D9).
pub const UNSET_ASK: Ask = Ask::OnMiss;

/// What `askFallback` is where nothing gives a value (divergence D9).
pub const UNSET_ASK_FALLBACK: Security = Security::Deny;

/// How much may run. Ordered from the strictest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Nothing runs.
    Deny,
    /// What an allowlist names runs.
    Allowlist,
    /// Everything runs.
    Full,
}

impl Security {
    /// The wire spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allowlist => "allowlist",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Security {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Security {
    type Err = UnknownValue;

    /// Reads the wire spelling, exactly.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Deny, Self::Allowlist, Self::Full]
            .into_iter()
            .find(|value| value.as_str() == text)
            .ok_or(UnknownValue("deny, allowlist or full"))
    }
}

/// When a human is asked. Ordered from never to always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Never.
    Off,
    /// When `security` is allowlist and no entry matches.
    OnMiss,
    /// Before every run.
    Always,
}

impl Ask {
    /// The wire spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::OnMiss => "on-miss",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Ask {
    type Err = UnknownValue;

    /// Reads the wire spelling, exactly.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Off, Self::OnMiss, Self::Always]
            .into_iter()
            .find(|value| value.as_str() == text)
            .ok_or(UnknownValue("off, on-miss or always"))
    }
}

/// A word that is none of those a policy field knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use one of {0}")]
pub struct UnknownValue(pub(crate) &'static str);

/// What approval a run request carries, after its plan has been checked (exec and approvals §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// None: the policy alone decides.
    None,
    /// A human approved this run.
    Explicit(Grant),
    /// The gateway could ask nobody and leaves it to `askFallback`.
    AskFallback,
    /// A model approved this run in a human's place.
    AutoReview,
}

/// How far a human's approval reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// This run: `allow-once`, or `approved` without a valid `approvalDecision`.
    Once,
    /// This run and every like it: `allow-always`.
    Always,
}

/// Where a resolved value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `agents.<id>` of the approvals document.
    DocumentAgent,
    /// `agents.*` of the approvals document.
    DocumentWildcard,
    /// `defaults` of the approvals document.
    DocumentDefaults,
    /// `tools.exec` of the agent in openclaw.json.
    ConfigAgent,
    /// `tools.exec` of openclaw.json.
    Config,
    /// The gateway could ask nobody: `askFallback` stands in.
    AskFallback,
    /// Nothing gives a value.
    BuiltIn,
}

/// A value and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Resolved<T> {
    pub(crate) const fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }
}

/// What the approvals document says for one agent, without the configuration.
///
/// This is what a plan remembers and what a stale plan is compared with (exec and approvals §10,
/// §11). A default of divergence D9 counts where neither the document nor the configuration gives
/// a value; what only the configuration gives counts as full or off.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentPolicy<'a> {
    /// How much may run.
    pub security: Resolved<Security>,
    /// When a human is asked.
    pub ask: Resolved<Ask>,
    /// What `security` falls to when a human should be asked and nobody can be.
    pub ask_fallback: Resolved<Security>,
    /// Whether the gateway's skill executables count as listed.
    pub auto_allow_skills: Resolved<bool>,
    /// The entries of the wildcard agent, then those of the agent itself.
    pub allowlist: Vec<&'a Entry>,
}

/// The policy that applies to one run.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPolicy<'a> {
    /// The approval that the run carries; [`Approval::AskFallback`] has lowered the fields below.
    pub approval: Approval,
    /// How much may run.
    pub security: Resolved<Security>,
    /// When a human is asked.
    pub ask: Resolved<Ask>,
    /// What `security` falls to when a human should be asked and nobody can be.
    pub ask_fallback: Resolved<Security>,
    /// Whether the gateway's skill executables count as listed.
    pub auto_allow_skills: Resolved<bool>,
    /// The entries of the wildcard agent, then those of the agent itself.
    pub allowlist: Vec<&'a Entry>,
}

/// The agent key that a request's `agentId` means (divergence D2).
pub fn agent_key(agent_id: Option<&str>) -> &str {
    agent_id.unwrap_or(DEFAULT_AGENT)
}

/// Resolves what the document alone says for an agent; `agent_id` is compared verbatim.
pub fn document_policy<'a>(
    config: &ExecConfig,
    document: &'a Document,
    agent_id: Option<&str>,
) -> DocumentPolicy<'a> {
    let agent = agent_key(agent_id);
    let security = match config.security(agent) {
        Some(_) => Security::Full,
        None => UNSET_SECURITY,
    };
    let ask = match config.ask(agent) {
        Some(_) => Ask::Off,
        None => UNSET_ASK,
    };
    resolve_document(
        document,
        agent,
        Resolved::new(security, Source::BuiltIn),
        Resolved::new(ask, Source::BuiltIn),
    )
}

/// Resolves the policy for one run (exec and approvals §5, steps 1 to 4; divergences D2, D9).
pub fn resolve<'a>(
    config: &ExecConfig,
    document: &'a Document,
    agent_id: Option<&str>,
    approval: Approval,
) -> ResolvedPolicy<'a> {
    let agent = agent_key(agent_id);
    let config_security = config.security(agent);
    let config_ask = config.ask(agent);
    let DocumentPolicy {
        mut security,
        mut ask,
        ask_fallback,
        auto_allow_skills,
        allowlist,
    } = resolve_document(
        document,
        agent,
        config_security.unwrap_or(Resolved::new(UNSET_SECURITY, Source::BuiltIn)),
        config_ask.unwrap_or(Resolved::new(UNSET_ASK, Source::BuiltIn)),
    );
    if let Some(stricter) = config_security.filter(|given| given.value < security.value) {
        security = stricter;
    }
    if let Some(stricter) = config_ask.filter(|given| given.value > ask.value) {
        ask = stricter;
    }
    if approval == Approval::AskFallback {
        ask = Resolved::new(Ask::Off, Source::AskFallback);
        if ask_fallback.value < security.value {
            security = Resolved::new(ask_fallback.value, Source::AskFallback);
        }
    }
    ResolvedPolicy {
        approval,
        security,
        ask,
        ask_fallback,
        auto_allow_skills,
        allowlist,
    }
}

fn resolve_document<'a>(
    document: &'a Document,
    agent: &str,
    security: Resolved<Security>,
    ask: Resolved<Ask>,
) -> DocumentPolicy<'a> {
    let own = document.agents.get(agent);
    let wildcard = document.agents.get(WILDCARD_AGENT);
    let layers = [
        (own.map(|agent| &agent.fields), Source::DocumentAgent),
        (
            wildcard.map(|agent| &agent.fields),
            Source::DocumentWildcard,
        ),
        (Some(&document.defaults), Source::DocumentDefaults),
    ];
    DocumentPolicy {
        security: first(layers, |fields| fields.security).unwrap_or(security),
        ask: first(layers, |fields| fields.ask).unwrap_or(ask),
        ask_fallback: first(layers, |fields| fields.ask_fallback)
            .unwrap_or(Resolved::new(UNSET_ASK_FALLBACK, Source::BuiltIn)),
        auto_allow_skills: first(layers, |fields| fields.auto_allow_skills)
            .unwrap_or(Resolved::new(false, Source::BuiltIn)),
        allowlist: allowlist_entries(document, agent),
    }
}

/// The entries of the wildcard agent, then those of the agent itself.
pub(crate) fn allowlist_entries<'a>(document: &'a Document, agent: &str) -> Vec<&'a Entry> {
    // Running as agent `*` must not list the wildcard's entries twice.
    let own = document
        .agents
        .get(agent)
        .filter(|_| agent != WILDCARD_AGENT);
    [document.agents.get(WILDCARD_AGENT), own]
        .into_iter()
        .flatten()
        .flat_map(|agent| agent.allowlist.iter().flatten())
        .collect()
}

fn first<T>(
    layers: [(Option<&PolicyFields>, Source); 3],
    field: fn(&PolicyFields) -> Option<T>,
) -> Option<Resolved<T>> {
    layers.into_iter().find_map(|(fields, source)| {
        let value = fields.and_then(field)?;
        Some(Resolved::new(value, source))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        Approval, Ask, ExecConfig, ExecLayer, Grant, Mode, Resolved, Security, Source,
        document_policy, resolve,
    };
    use crate::document::Document;

    const SECURITIES: [Security; 3] = [Security::Deny, Security::Allowlist, Security::Full];
    const ASKS: [Ask; 3] = [Ask::Off, Ask::OnMiss, Ask::Always];

    fn document(file: &Value) -> Document {
        Document::from_value(file.as_object().unwrap(), &mut || "id".to_owned()).unwrap()
    }

    fn layer(security: Option<Security>, ask: Option<Ask>) -> ExecLayer {
        ExecLayer {
            security,
            ask,
            mode: None,
            ..ExecLayer::default()
        }
    }

    fn mode(mode: Mode) -> ExecLayer {
        ExecLayer {
            mode: Some(mode),
            ..ExecLayer::default()
        }
    }

    fn effective(config: &ExecConfig, file: &Value, agent: Option<&str>) -> (Security, Ask) {
        let document = document(file);
        let policy = resolve(config, &document, agent, Approval::None);
        (policy.security.value, policy.ask.value)
    }

    /// Every value and none.
    fn optional<T: Copy>(values: &[T]) -> Vec<Option<T>> {
        std::iter::once(None)
            .chain(values.iter().copied().map(Some))
            .collect()
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for security in SECURITIES {
            assert_eq!(security.as_str().parse(), Ok(security));
            assert_eq!(json!(security), json!(security.as_str()));
        }
        for ask in ASKS {
            assert_eq!(ask.as_str().parse(), Ok(ask));
            assert_eq!(json!(ask), json!(ask.as_str()));
        }
        for mode in [
            Mode::Deny,
            Mode::Allowlist,
            Mode::Ask,
            Mode::Auto,
            Mode::Full,
        ] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
            assert_eq!(json!(mode), json!(mode.as_str()));
        }
        assert!("FULL".parse::<Security>().is_err());
        assert!("on_miss".parse::<Ask>().is_err());
        assert!("".parse::<Mode>().is_err());
    }

    #[test]
    fn the_stricter_side_wins_and_nothing_given_is_the_default() {
        for config_security in optional(&SECURITIES) {
            for config_ask in optional(&ASKS) {
                let config = ExecConfig::new(layer(config_security, config_ask));
                for document_security in optional(&SECURITIES) {
                    for document_ask in optional(&ASKS) {
                        let file = json!({"defaults": {
                            "security": document_security, "ask": document_ask}});
                        let given = [config_security, document_security];
                        let security = given.into_iter().flatten().min();
                        let given = [config_ask, document_ask];
                        let ask = given.into_iter().flatten().max();
                        assert_eq!(
                            effective(&config, &file, Some("main")),
                            (
                                security.unwrap_or(Security::Allowlist),
                                ask.unwrap_or(Ask::OnMiss)
                            ),
                            "{config:?} {file}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn an_agent_of_the_document_goes_before_the_wildcard_and_that_before_the_defaults() {
        let full = ExecConfig::new(mode(Mode::Full));
        for (file, agent, security) in [
            (
                json!({"defaults": {"security": "deny"}, "agents": {"main": {"security": "full"}}}),
                "main",
                Security::Full,
            ),
            (
                json!({"defaults": {"security": "full"}, "agents": {"main": {"security": "deny"}}}),
                "main",
                Security::Deny,
            ),
            (
                json!({"agents": {"main": {"security": "deny"}}}),
                "ops",
                Security::Full,
            ),
            (
                json!({"agents": {"main": {"security": "deny"}}}),
                "MAIN",
                Security::Full,
            ),
            (
                json!({"agents": {"*": {"security": "deny"}, "ops": {"security": "full"}}}),
                "ops",
                Security::Full,
            ),
            (
                json!({"agents": {"*": {"security": "deny"}, "ops": {"ask": "off"}}}),
                "ops",
                Security::Deny,
            ),
            (
                json!({"defaults": {"security": "allowlist"}, "agents": {"*": {"security": "deny"}}}),
                "main",
                Security::Deny,
            ),
            (
                json!({"defaults": {"security": "deny"}, "agents": {"main": {"security": "bogus"}}}),
                "main",
                Security::Deny,
            ),
            (
                json!({"agents": {"default": {"security": "deny"}}}),
                "main",
                Security::Deny,
            ),
            (
                json!({"agents": {"default": {"security": "deny"}}}),
                "default",
                Security::Full,
            ),
        ] {
            let found = effective(&full, &file, Some(agent));
            assert_eq!(found.0, security, "{file} {agent}");
        }
    }

    #[test]
    fn a_run_without_an_agent_is_one_of_main() {
        let full = ExecConfig::new(mode(Mode::Full));
        let file = json!({"agents": {"main": {"security": "deny"}}});
        assert_eq!(effective(&full, &file, None).0, Security::Deny);
    }

    #[test]
    fn the_allowlist_is_the_wildcards_and_then_the_agents() {
        let document = document(&json!({"agents": {
            "*": {"allowlist": ["any"]}, "ops": {"allowlist": ["own"]}, "dev": {"allowlist": []}}}));
        let patterns = |agent| -> Vec<String> {
            let policy = resolve(
                &ExecConfig::default(),
                &document,
                Some(agent),
                Approval::None,
            );
            let entries = policy.allowlist.into_iter();
            entries.map(|entry| entry.pattern.clone()).collect()
        };
        assert_eq!(patterns("ops"), ["any", "own"]);
        assert_eq!(patterns("dev"), ["any"]);
        assert_eq!(patterns("other"), ["any"]);
        assert_eq!(patterns("*"), ["any"]);
    }

    #[test]
    fn where_nobody_can_be_asked_the_fallback_stands_in() {
        for security in SECURITIES {
            for fallback in SECURITIES {
                let document = document(&json!({"defaults": {
                    "security": security, "ask": "always", "askFallback": fallback}}));
                let config = ExecConfig::new(mode(Mode::Full));
                let policy = resolve(&config, &document, None, Approval::AskFallback);
                assert_eq!(policy.security.value, security.min(fallback));
                assert_eq!(policy.ask.value, Ask::Off);
                for approval in [
                    Approval::None,
                    Approval::AutoReview,
                    Approval::Explicit(Grant::Once),
                ] {
                    let policy = resolve(&config, &document, None, approval);
                    assert_eq!(policy.security.value, security);
                    assert_eq!(policy.ask.value, Ask::Always);
                }
            }
        }
        let document = Document::default();
        let config = ExecConfig::new(mode(Mode::Full));
        let policy = resolve(&config, &document, None, Approval::AskFallback);
        assert_eq!(policy.security.value, Security::Deny);
    }

    #[test]
    fn every_value_says_where_it_came_from() {
        let config = ExecConfig::new(layer(Some(Security::Allowlist), None))
            .with_agent("ops", layer(None, Some(Ask::Always)));
        let document = document(&json!({
            "defaults": {"ask": "off", "autoAllowSkills": true},
            "agents": {"*": {"askFallback": "full"}, "ops": {"security": "full"}, "dev": {"security": "deny"}},
        }));
        let sources = |agent, approval| {
            let policy = resolve(&config, &document, Some(agent), approval);
            (
                policy.security.source,
                policy.ask.source,
                policy.ask_fallback.source,
                policy.auto_allow_skills.source,
            )
        };
        assert_eq!(
            sources("ops", Approval::None),
            (
                Source::Config,
                Source::ConfigAgent,
                Source::DocumentWildcard,
                Source::DocumentDefaults
            )
        );
        assert_eq!(
            sources("dev", Approval::None),
            (
                Source::DocumentAgent,
                Source::DocumentDefaults,
                Source::DocumentWildcard,
                Source::DocumentDefaults
            )
        );
        assert_eq!(sources("dev", Approval::AskFallback).1, Source::AskFallback);
        let empty = Document::default();
        let unset = resolve(&ExecConfig::default(), &empty, None, Approval::None);
        assert_eq!(
            unset.security,
            Resolved::new(Security::Allowlist, Source::BuiltIn)
        );
        assert_eq!(
            unset.auto_allow_skills,
            Resolved::new(false, Source::BuiltIn)
        );
        let lowered = resolve(&ExecConfig::default(), &empty, None, Approval::AskFallback);
        assert_eq!(
            lowered.security,
            Resolved::new(Security::Deny, Source::AskFallback)
        );
    }

    #[test]
    fn the_document_alone_does_not_know_the_configuration() {
        let empty = Document::default();
        let of = |config: &ExecConfig| {
            let policy = document_policy(config, &empty, None);
            (
                policy.security.value,
                policy.ask.value,
                policy.ask_fallback.value,
            )
        };
        assert_eq!(
            of(&ExecConfig::default()),
            (Security::Allowlist, Ask::OnMiss, Security::Deny)
        );
        let deny = ExecConfig::new(mode(Mode::Deny));
        assert_eq!(of(&deny), (Security::Full, Ask::Off, Security::Deny));
        let security = ExecConfig::new(layer(Some(Security::Full), None));
        assert_eq!(of(&security), (Security::Full, Ask::OnMiss, Security::Deny));
    }
}
