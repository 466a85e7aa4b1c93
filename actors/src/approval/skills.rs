//! The gateway's skill executables, as this node last heard of them (wire protocol §11: `skills.bins`).

use std::time::Duration;

use ::exec::host::Host;
use ::exec::request::RunRequest;
use actix::prelude::*;
use approvals::policy::{Approval as PlanApproval, Security, resolve};
use approvals::skills::SkillBins;
use tracing::debug;

use super::{Approval, Deferred, MAILBOX};
use crate::clock;
use crate::connection::AskSkillBins;

/// Longest wait for the gateway to tell its skills; without an answer the last one counts.
const SKILLS_DEADLINE: Duration = Duration::from_secs(3);

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

impl Approval {
    /// Whether the outcome may depend on the gateway's skills.
    pub(super) fn needs_skills(&self, request: &RunRequest) -> bool {
        let agent = request.agent_id.as_deref();
        let approval = request.approval.kind();
        let policy = resolve(&self.config, self.current.document(), agent, approval);
        let is_decided_by_policy = match approval {
            PlanApproval::None | PlanApproval::AskFallback => true,
            PlanApproval::Explicit(_) | PlanApproval::AutoReview => false,
        };
        is_decided_by_policy
            && policy.auto_allow_skills.value
            && policy.security.value == Security::Allowlist
    }

    /// Does something once the gateway told its skills, or did not in time.
    pub(super) fn after_skills(
        &mut self,
        decide: Deferred,
        gateway: &Recipient<AskSkillBins>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(waiting) = &mut self.waiting_for_skills {
            if waiting.len() < MAILBOX {
                return waiting.push(decide);
            }
            return decide(self, ctx);
        }
        self.waiting_for_skills = Some(vec![decide]);
        let asked = tokio::time::timeout(SKILLS_DEADLINE, gateway.send(AskSkillBins));
        ctx.spawn(asked.into_actor(self).map(|answer, actor, ctx| {
            let names = match answer {
                Ok(Ok(names)) => names,
                Ok(Err(_)) | Err(_) => None,
            };
            if names.is_none() {
                debug!("the gateway did not tell its skills; the last answer counts");
            }
            let host = Host::new(&actor.environment, &actor.node_cwd);
            let bins = names.map(|names| host.resolve_skills(&names));
            actor.skills.learn(bins, clock::since_boot());
            for decide in actor.waiting_for_skills.take().unwrap_or_default() {
                decide(actor, ctx);
            }
        }));
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
