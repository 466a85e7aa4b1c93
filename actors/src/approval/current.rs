//! The document that counts, with what was made of it.

use std::sync::Arc;

use approvals::document::Document;
use approvals::rules::Rules;
use approvals::snapshot::Stored;
use approvals::usage::RecordedUse;

/// What the store holds, uses that are not written yet included, and its allowlists, ready to be
/// searched.
#[derive(Clone, Debug)]
pub(super) struct Current {
    stored: Stored,
    /// Shared by all versions of the document that differ in its use alone.
    rules: Arc<Rules>,
}

impl Current {
    /// Prepares a document. `home` is what a leading `~` in a pattern stands for.
    pub(super) fn of(stored: Stored, home: Option<&str>) -> Self {
        Self {
            rules: Arc::new(Rules::of(stored.document(), home)),
            stored,
        }
    }

    /// What the store holds.
    pub(super) fn stored(&self) -> &Stored {
        &self.stored
    }

    /// The document.
    pub(super) fn document(&self) -> &Document {
        self.stored.document()
    }

    /// Its allowlists.
    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The same with a use noted; `None` if there is nothing to note it in.
    pub(super) fn used(&self, agent: &str, used: &RecordedUse<'_>) -> Option<Self> {
        if !self.stored.exists() {
            return None;
        }
        let mut document = self.document().clone();
        document.record_use(agent, used).then(|| Self {
            stored: Stored::from(document),
            rules: Arc::clone(&self.rules),
        })
    }
}
