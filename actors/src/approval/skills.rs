//! The gateway's skill executables, as this node last heard of them (wire protocol §11: `skills.bins`).

use std::time::Duration;

use approvals::skills::SkillBins;

/// How long an answer is taken as it is (exec and approvals §8.2, wire protocol §11).
const FRESH_FOR: Duration = Duration::from_secs(90);
/// How long after a question without an answer the next one is asked; until then the last answer
/// counts.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is known of the skills.
#[derive(Debug, Default)]
pub(super) struct Skills {
    bins: SkillBins,
    /// Until when no question is asked, by the clock since boot.
    quiet_until: Duration,
}

impl Skills {
    /// The last answer, resolved on this machine.
    pub(super) fn bins(&self) -> &SkillBins {
        &self.bins
    }

    /// Whether the gateway should be asked before the next decision.
    pub(super) fn are_stale(&self, now: Duration) -> bool {
        now >= self.quiet_until
    }

    /// Takes the gateway's answer, or none.
    pub(super) fn learn(&mut self, answer: Option<SkillBins>, now: Duration) {
        let quiet_for = match answer {
            Some(bins) => {
                self.bins = bins;
                FRESH_FOR
            }
            None => RETRY_AFTER,
        };
        self.quiet_until = now.saturating_add(quiet_for);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use approvals::allowlist::Resolution;
    use approvals::skills::SkillBins;

    use super::Skills;

    #[test]
    fn an_answer_holds_for_a_while_and_outlives_failures() {
        let tool = Resolution {
            raw_token: "tool".to_owned(),
            resolved_path: Some(PathBuf::from("/opt/tool")),
            real_path: None,
        };
        let at = Duration::from_secs;
        let mut skills = Skills::default();
        assert!(skills.are_stale(at(0)));
        skills.learn(
            Some(SkillBins::new([("tool".to_owned(), tool.clone())])),
            at(10),
        );
        assert!(!skills.are_stale(at(99)));
        assert!(skills.are_stale(at(100)));
        skills.learn(None, at(100));
        assert!(skills.bins().contain(&tool));
        assert!(!skills.are_stale(at(104)));
        assert!(skills.are_stale(at(105)));
        skills.learn(Some(SkillBins::default()), at(106));
        assert!(!skills.bins().contain(&tool));
    }
}
