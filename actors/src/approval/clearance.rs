//! Whether a run is cleared, and for what exactly: everything about a decision that needs no
//! other actor. It looks at the disk, so it may run on any thread that may wait.

use std::path::Path;

use approvals::allowlist::{Analysis, Candidate};
use approvals::decision::{Allowed, Decision, DenialReason, decide};
use approvals::plan::PolicySnapshot;
use approvals::policy::{Approval, ExecConfig, Security, document_policy, resolve};
use approvals::snapshot::Stored;
use exec::binding::BindingRefusal;
use exec::environment::BaseEnvironment;
use exec::host::Host;
use exec::request::RunRequest;
use exec::verify::{AllowedRun, Verified, VerifyError, verify};

/// What the gateway is told of a run whose plan was approved under another policy (exec and
/// approvals §11).
const POLICY_CHANGED: &str =
    "SYSTEM_RUN_DENIED: exec approval policy changed; request approval again";

/// What a decision is made from.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) config: &'a ExecConfig,
    pub(super) stored: &'a Stored,
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
        stored,
        environment,
        node_cwd,
    } = circumstances;
    let document = stored.document();
    let agent = request.agent_id.as_deref();
    let approval = request.approval.kind();
    let host = Host::new(environment, node_cwd);
    let cwd = request.cwd.as_deref();

    let approved_under = request
        .approval
        .plan()
        .and_then(|plan| plan.policy_snapshot.as_ref());
    if request.approval.is_delayed() {
        let current = PolicySnapshot::of(&document_policy(config, document, agent));
        if !approved_under.is_some_and(|snapshot| snapshot.still_holds_under(&current)) {
            return Err(Denial::approval_required(POLICY_CHANGED));
        }
    }
    let policy = resolve(config, document, agent, approval);
    let security = policy.security.value;
    let is_bound = approval != Approval::None || security == Security::Allowlist;
    if is_bound && security != Security::Deny && host.has_unresolved_wrapper(&request.command, cwd)
    {
        return Err(VerifyError::from(BindingRefusal::NoWrapper).into());
    }
    let analysis = host.analyse(&request.command, cwd);
    let home = environment.home().and_then(Path::to_str);
    let candidate = Candidate {
        command_text: request.command.text(),
        analysis: &analysis,
        cwd,
        home,
    };
    let allowed = match decide(&policy, &candidate) {
        Decision::Allow(allowed) => allowed,
        Decision::Deny(reason) => return Err(reason.into()),
    };
    let run = AllowedRun {
        command: &request.command,
        cwd,
        plan: request.approval.plan(),
        approval,
        security,
        basis: allowed.basis,
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
