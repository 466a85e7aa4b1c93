//! Whether a run is cleared, and for what exactly: everything about a decision that needs no
//! other actor. It looks at the disk, so it may run on any thread that may wait.

use std::path::Path;

use approvals::analysis::Analysis;
use approvals::decision::{Allowed, Candidate, Decision, DenialReason, Refusal, decide};
use approvals::plan::PolicySnapshot;
use approvals::policy::{ExecConfig, agent_key, document_policy, resolve};
use approvals::skills::SkillBins;
use exec::environment::BaseEnvironment;
use exec::host::Host;
use exec::request::RunRequest;
use exec::verify::{AllowedRun, Verified, VerifyError, verify};

use super::current::Current;

/// What the gateway is told of a run whose plan was approved under another policy (exec and
/// approvals §11).
const POLICY_CHANGED: &str =
    "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again";

/// What a decision is made from.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) config: &'a ExecConfig,
    pub(super) current: &'a Current,
    pub(super) skills: &'a SkillBins,
    pub(super) environment: &'a BaseEnvironment,
    pub(super) node_cwd: &'a Path,
}

/// A run that may start, unless its plan's record or a last look says otherwise.
pub(super) struct Clearance {
    /// What is executed, and where.
    pub(super) verified: Verified,
    /// Why it is allowed.
    pub(super) allowed: Allowed,
    /// What it would execute, as the allowlist sees it.
    pub(super) analysis: Analysis,
}

/// A refusal by policy: the event's reason and the result's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) reason: DenialReason,
    pub(super) message: String,
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
    pub(super) fn approval_required(message: impl Into<String>) -> Self {
        Self {
            reason: DenialReason::ApprovalRequired,
            message: message.into(),
        }
    }
}

/// Decides about a run, and ties it to this machine if it is allowed.
pub(super) fn clear(
    request: &RunRequest,
    circumstances: Circumstances<'_>,
) -> Result<Clearance, Denial> {
    let Circumstances {
        config,
        current,
        skills,
        environment,
        node_cwd,
    } = circumstances;
    let document = current.document();
    let agent = request.agent_id.as_deref();
    let approval = request.approval.kind();
    let host = Host::new(environment, node_cwd);
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
    let agent = agent_key(agent);
    let candidate = Candidate {
        command: &request.command,
        analysis: &analysis,
        cwd,
        allowlist: current.allowlist(agent),
        safe_bins: config.safe_bins(agent),
        skills: Some(skills),
        strict_inline_eval: config.strict_inline_eval(agent),
        has_unresolved_wrapper: host.has_unresolved_wrapper(&request.command, cwd),
    };
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
    let verified = verify(&run, &host)?;
    if request.needs_screen_recording {
        return Err(DenialReason::ScreenRecording.into());
    }
    Ok(Clearance {
        verified,
        allowed,
        analysis,
    })
}
