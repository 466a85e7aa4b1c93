//! Whether a run is cleared, and for what exactly: everything about a decision that needs neither
//! the gateway nor the store. The running node and `approvals explain` both ask here.

use approvals::analysis::Analysis;
use approvals::decision::{Allowed, Candidate, Decision, DenialReason, Refusal, decide};
use approvals::document::Document;
use approvals::plan::PolicySnapshot;
use approvals::policy::{Approval, ExecConfig, agent_key, document_policy, resolve};
use approvals::rules::Rules;
use approvals::skills::SkillBins;

use crate::host::Host;
use crate::prepare::PreparePolicy;
use crate::request::RunRequest;
use crate::verify::{AllowedRun, Verified, VerifyError, verify};

/// What the gateway is told of a run whose plan was approved under another policy (exec and
/// approvals §11).
const POLICY_CHANGED: &str =
    "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again";

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The policy of openclaw.json.
    pub config: &'a ExecConfig,
    /// The approvals document.
    pub document: &'a Document,
    /// Its allowlists.
    pub rules: &'a Rules,
    /// The executables of the gateway's skills, as far as they are known.
    pub skills: &'a SkillBins,
    /// This machine.
    pub host: &'a Host<'a>,
}

impl<'a> Circumstances<'a> {
    /// What a command is prepared under.
    #[must_use]
    pub fn prepare_policy(&self, agent_id: Option<&str>) -> PreparePolicy {
        let effective = resolve(self.config, self.document, agent_id, Approval::None);
        let document = document_policy(self.config, self.document, agent_id);
        PreparePolicy {
            security: effective.security.value,
            ask: effective.ask.value,
            strict_inline_eval: self.config.strict_inline_eval(agent_key(agent_id)),
            snapshot: PolicySnapshot::of(&document),
        }
    }

    /// A run before the policy.
    pub(crate) fn candidate<'r>(
        &self,
        request: &'r RunRequest,
        analysis: &'r Analysis,
    ) -> Candidate<'r>
    where
        'a: 'r,
    {
        let cwd = request.cwd.as_deref();
        let agent = agent_key(request.agent_id.as_deref());
        Candidate {
            command: &request.command,
            analysis,
            cwd,
            allowlist: self.rules.for_agent(agent),
            safe_bins: self.config.safe_bins(agent),
            skills: Some(self.skills),
            strict_inline_eval: self.config.strict_inline_eval(agent),
            has_unresolved_wrapper: self.host.has_unresolved_wrapper(&request.command, cwd),
        }
    }
}

/// A run that may start, unless its plan's record or a last look says otherwise.
#[derive(Clone, Debug)]
pub struct Clearance {
    /// What is executed, and where.
    pub verified: Verified,
    /// Why it is allowed.
    pub allowed: Allowed,
    /// What it would execute, as the allowlist sees it.
    pub analysis: Analysis,
}

/// A refusal by policy: the event's reason and the result's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The reason that the event gives.
    pub reason: DenialReason,
    /// The message of the invoke result.
    pub message: String,
}

impl From<DenialReason> for Denial {
    fn from(reason: DenialReason) -> Self {
        Self {
            reason,
            message: reason.message().to_owned(),
        }
    }
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self {
            reason: refusal.reason(),
            message: refusal.to_string(),
        }
    }
}

impl From<VerifyError> for Denial {
    fn from(error: VerifyError) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

impl Denial {
    /// A refusal that a fresh approval would mend.
    pub fn approval_required(message: impl Into<String>) -> Self {
        Self {
            reason: DenialReason::ApprovalRequired,
            message: message.into(),
        }
    }
}

/// Decides about a run, and ties it to this machine if it is allowed. Looks at the disk, and reads
/// all of a file that a plan binds.
///
/// # Errors
/// What the gateway is told instead.
pub fn clear(request: &RunRequest, circumstances: Circumstances<'_>) -> Result<Clearance, Denial> {
    let Circumstances {
        config,
        document,
        host,
        ..
    } = circumstances;
    let agent = request.agent_id.as_deref();
    let approval = request.approval.kind();
    let cwd = request.cwd.as_deref();

    let approved_under = request
        .approval
        .plan()
        .and_then(|plan| plan.policy_snapshot.as_ref());
    if request.approval.is_delayed() {
        let now = PolicySnapshot::of(&document_policy(config, document, agent));
        if !approved_under.is_some_and(|snapshot| snapshot.still_holds_under(&now)) {
            return Err(Denial::approval_required(POLICY_CHANGED));
        }
    }
    let policy = resolve(config, document, agent, approval);
    let analysis = host.analyse(&request.command, cwd);
    let candidate = circumstances.candidate(request, &analysis);
    let allowed = match decide(&policy, &candidate) {
        Decision::Allow(allowed) => allowed,
        Decision::Deny(refusal) => return Err(refusal.into()),
    };
    let run = AllowedRun {
        command: &request.command,
        cwd,
        plan: request.approval.plan(),
        approval,
        security: policy.security.value,
        allowed: &allowed,
        analysis: &analysis,
    };
    let verified = verify(&run, host)?;
    if request.needs_screen_recording {
        return Err(DenialReason::ScreenRecording.into());
    }
    Ok(Clearance {
        verified,
        allowed,
        analysis,
    })
}
