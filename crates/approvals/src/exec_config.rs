//! What openclaw.json says about the policy (exec and approvals §5, step 1).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::{Document, PolicyFields};
use crate::policy::{
    Ask, Resolved, Security, Source, UNSET_ASK, UNSET_ASK_FALLBACK, UNSET_SECURITY, UnknownValue,
    WILDCARD_AGENT,
};
use crate::safe_bins::{SafeBinSettings, SafeBins};

/// `tools.exec.mode`: one word for a pair of [`Security`] and [`Ask`] (exec and approvals §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// deny, off.
    Deny,
    /// allowlist, off.
    Allowlist,
    /// allowlist, on-miss.
    Ask,
    /// allowlist, on-miss. A model may review misses where one is at hand; this node has none.
    Auto,
    /// full, off.
    Full,
}

impl Mode {
    /// The wire spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allowlist => "allowlist",
            Self::Ask => "ask",
            Self::Auto => "auto",
            Self::Full => "full",
        }
    }

    const fn security(self) -> Security {
        match self {
            Self::Deny => Security::Deny,
            Self::Allowlist | Self::Ask | Self::Auto => Security::Allowlist,
            Self::Full => Security::Full,
        }
    }

    const fn ask(self) -> Ask {
        match self {
            Self::Deny | Self::Allowlist | Self::Full => Ask::Off,
            Self::Ask | Self::Auto => Ask::OnMiss,
        }
    }
}

impl FromStr for Mode {
    type Err = UnknownValue;

    /// Reads the wire spelling, exactly.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Deny,
            Self::Allowlist,
            Self::Ask,
            Self::Auto,
            Self::Full,
        ]
        .into_iter()
        .find(|value| value.as_str() == text)
        .ok_or(UnknownValue("deny, allowlist, ask, auto or full"))
    }
}

/// One `tools.exec` object of openclaw.json: what it says about the policy, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecLayer {
    /// `security`.
    pub security: Option<Security>,
    /// `ask`.
    pub ask: Option<Ask>,
    /// `mode`; where it is given, it decides both others.
    pub mode: Option<Mode>,
    /// `strictInlineEval`: whether inline code always needs a human. What one layer demands no
    /// other takes back.
    pub strict_inline_eval: bool,
    /// `safeBins` and its neighbours.
    pub safe_bins: SafeBinSettings,
}

impl ExecLayer {
    fn security(&self) -> Option<Security> {
        self.mode.map(Mode::security).or(self.security)
    }

    fn ask(&self) -> Option<Ask> {
        self.mode.map(Mode::ask).or(self.ask)
    }
}

/// What openclaw.json says about the policy: `tools.exec`, and `tools.exec` of single agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecConfig {
    global: ExecLayer,
    safe_bins: SafeBins,
    agents: BTreeMap<String, AgentLayer>,
}

/// What openclaw.json says about one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AgentLayer {
    own: ExecLayer,
    /// Together with the global ones.
    safe_bins: SafeBins,
}

impl ExecConfig {
    /// A configuration with `tools.exec` alone.
    pub fn new(global: ExecLayer) -> Self {
        Self {
            safe_bins: SafeBins::new(&[&global.safe_bins]),
            global,
            agents: BTreeMap::new(),
        }
    }

    /// Adds `agents.entries.<id>.tools.exec`, or that of the `agents.list[]` member with this
    /// `id`. openclaw.json does not distinguish the case of agent ids, the approvals document does.
    #[must_use]
    pub fn with_agent(mut self, id: &str, layer: ExecLayer) -> Self {
        let safe_bins = SafeBins::new(&[&self.global.safe_bins, &layer.safe_bins]);
        let layer = AgentLayer {
            own: layer,
            safe_bins,
        };
        self.agents.insert(config_key(id), layer);
        self
    }

    /// The filters that an agent may run without an entry. `agent` is the agent's key.
    #[must_use]
    pub fn safe_bins(&self, agent: &str) -> &SafeBins {
        let own = self.agents.get(&config_key(agent));
        own.map_or(&self.safe_bins, |layer| &layer.safe_bins)
    }

    /// Whether inline code of an agent always needs a human. `agent` is the agent's key.
    #[must_use]
    pub fn strict_inline_eval(&self, agent: &str) -> bool {
        let own = self.agents.get(&config_key(agent));
        self.global.strict_inline_eval || own.is_some_and(|layer| layer.own.strict_inline_eval)
    }

    pub(crate) fn security(&self, agent: &str) -> Option<Resolved<Security>> {
        self.given(agent, ExecLayer::security)
    }

    pub(crate) fn ask(&self, agent: &str) -> Option<Resolved<Ask>> {
        self.given(agent, ExecLayer::ask)
    }

    fn given<T>(&self, agent: &str, field: fn(&ExecLayer) -> Option<T>) -> Option<Resolved<T>> {
        let own = self
            .agents
            .get(&config_key(agent))
            .and_then(|layer| field(&layer.own));
        match own {
            Some(value) => Some(Resolved::new(value, Source::ConfigAgent)),
            None => field(&self.global).map(|value| Resolved::new(value, Source::Config)),
        }
    }

    /// The document that says explicitly what [`resolve`] would otherwise take from the defaults
    /// of divergence D9, so that a gateway, which assumes full/off for what it does not see,
    /// comes to the same answer as this node.
    ///
    /// A default that an agent's own `tools.exec` overrules is spelled out for that agent too:
    /// storing the answer of `get` unchanged must not change what any agent may do.
    pub(crate) fn made_explicit(&self, document: &Document) -> Document {
        let mut explicit = document.clone();
        let defaults = &document.defaults;
        if defaults.security.is_none() && self.global.security().is_none() {
            explicit.defaults.security = Some(UNSET_SECURITY);
            self.spell_out(&mut explicit, ExecLayer::security, |fields| {
                &mut fields.security
            });
        }
        if defaults.ask.is_none() && self.global.ask().is_none() {
            explicit.defaults.ask = Some(UNSET_ASK);
            self.spell_out(&mut explicit, ExecLayer::ask, |fields| &mut fields.ask);
        }
        explicit
            .defaults
            .ask_fallback
            .get_or_insert(UNSET_ASK_FALLBACK);
        explicit
    }

    fn spell_out<T: Copy>(
        &self,
        document: &mut Document,
        given: fn(&ExecLayer) -> Option<T>,
        field: fn(&mut PolicyFields) -> &mut Option<T>,
    ) {
        let wildcard = document.agents.get_mut(WILDCARD_AGENT);
        if wildcard.is_some_and(|agent| field(&mut agent.fields).is_some()) {
            return;
        }
        for (id, layer) in &self.agents {
            if let Some(value) = given(&layer.own) {
                let agent = document.agents.entry(id.clone()).or_default();
                field(&mut agent.fields).get_or_insert(value);
            }
        }
    }
}

fn config_key(agent: &str) -> String {
    agent.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{ExecConfig, ExecLayer, Mode};
    use crate::document::Document;
    use crate::policy::{Approval, Ask, Security, resolve};

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

    #[test]
    fn a_mode_stands_for_a_pair() {
        for (word, security, ask) in [
            (Mode::Deny, Security::Deny, Ask::Off),
            (Mode::Allowlist, Security::Allowlist, Ask::Off),
            (Mode::Ask, Security::Allowlist, Ask::OnMiss),
            (Mode::Auto, Security::Allowlist, Ask::OnMiss),
            (Mode::Full, Security::Full, Ask::Off),
        ] {
            let config = ExecConfig::new(mode(word));
            assert_eq!(effective(&config, &json!({}), None), (security, ask));
            // A mode decides both, whatever stands beside it.
            let beside = ExecLayer {
                mode: Some(word),
                ..layer(Some(Security::Deny), Some(Ask::Always))
            };
            let config = ExecConfig::new(beside);
            assert_eq!(effective(&config, &json!({}), None), (security, ask));
        }
    }

    #[test]
    fn an_agents_own_configuration_overrides_field_by_field() {
        let config = ExecConfig::new(layer(Some(Security::Full), Some(Ask::Always)))
            .with_agent("Ops", layer(Some(Security::Allowlist), None))
            .with_agent("dev", mode(Mode::Full))
            .with_agent("none", ExecLayer::default());
        let of = |agent| effective(&config, &json!({}), Some(agent));
        assert_eq!(of("main"), (Security::Full, Ask::Always));
        assert_eq!(of("ops"), (Security::Allowlist, Ask::Always));
        assert_eq!(of(" OPS "), (Security::Allowlist, Ask::Always));
        assert_eq!(of("dev"), (Security::Full, Ask::Off));
        assert_eq!(of("none"), (Security::Full, Ask::Always));
    }

    #[test]
    fn storing_the_explicit_document_changes_no_decision_and_not_its_hash() {
        let layers = [
            ExecLayer::default(),
            layer(Some(Security::Full), None),
            layer(None, Some(Ask::Always)),
            mode(Mode::Ask),
            mode(Mode::Full),
        ];
        let files = [
            json!({}),
            json!({"defaults": {"security": "full"}}),
            json!({"defaults": {"ask": "off", "askFallback": "full"}}),
            json!({"agents": {"*": {"security": "deny"}}}),
            json!({"agents": {"ops": {"security": "full"}, "*": {"ask": "always"}}}),
            json!({"agents": {"main": {"allowlist": ["x"]}, "ops": {"ask": "off", "askFallback": "full"}}}),
        ];
        for global in &layers {
            for own in &layers {
                let config = ExecConfig::new(global.clone()).with_agent("ops", own.clone());
                for file in &files {
                    let document = document(file);
                    let explicit = config.made_explicit(&document);
                    assert_eq!(config.made_explicit(&explicit), explicit);
                    for agent in ["main", "ops", "dev"] {
                        for approval in [Approval::None, Approval::AskFallback] {
                            let of = |document| {
                                let policy = resolve(&config, document, Some(agent), approval);
                                let fields = (policy.security.value, policy.ask.value);
                                (fields, policy.ask_fallback.value, policy.allowlist.len())
                            };
                            assert_eq!(of(&document), of(&explicit), "{config:?} {file} {agent}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn only_what_nothing_gives_becomes_explicit() {
        let fields = |config: &ExecConfig, file: &Value| {
            config.made_explicit(&document(file)).redacted()["defaults"].clone()
        };
        let unset = ExecConfig::default();
        assert_eq!(
            fields(&unset, &json!({})),
            json!({"security": "allowlist", "ask": "on-miss", "askFallback": "deny"})
        );
        assert_eq!(
            fields(&unset, &json!({"defaults": {"security": "full"}})),
            json!({"security": "full", "ask": "on-miss", "askFallback": "deny"})
        );
        let full = ExecConfig::new(mode(Mode::Full));
        assert_eq!(fields(&full, &json!({})), json!({"askFallback": "deny"}));
        let security = ExecConfig::new(layer(Some(Security::Deny), None));
        assert_eq!(
            fields(&security, &json!({"defaults": {"askFallback": "full"}})),
            json!({"ask": "on-miss", "askFallback": "full"})
        );
        let agent = ExecConfig::default().with_agent("ops", layer(Some(Security::Full), None));
        let explicit = agent.made_explicit(&Document::default()).redacted();
        assert_eq!(explicit["agents"], json!({"ops": {"security": "full"}}));
    }
}
