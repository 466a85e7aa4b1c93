//! The allowlists of a document, ready to be searched.

use std::collections::BTreeMap;

use crate::allowlist::Allowlist;
use crate::document::Document;
use crate::policy::{WILDCARD_AGENT, allowlist_entries};

/// The allowlists of a document's agents. They hold for as long as no entry is added, removed or
/// changed; that an entry was used changes nothing.
#[derive(Debug, Default)]
pub struct Rules {
    agents: BTreeMap<String, Allowlist>,
    others: Allowlist,
}

impl Rules {
    /// Prepares the allowlists of a document. `home` is what a leading `~` in a pattern stands for.
    #[must_use]
    pub fn of(document: &Document, home: Option<&str>) -> Self {
        let allowlist = |agent: &str| Allowlist::new(&allowlist_entries(document, agent), home);
        Self {
            agents: document
                .agents
                .keys()
                .map(|agent| (agent.clone(), allowlist(agent)))
                .collect(),
            others: allowlist(WILDCARD_AGENT),
        }
    }

    /// The allowlist that applies to an agent.
    #[must_use]
    pub fn for_agent(&self, agent: &str) -> &Allowlist {
        self.agents.get(agent).unwrap_or(&self.others)
    }
}
