//! What a run re-checks before it starts, and what exactly is started (exec and approvals §7, §8.4,
//! §11; D7).
//!
//! The order of a run is: the policy snapshot of a delayed approval
//! ([`PolicySnapshot::still_holds_under`]), the decision, [`verify`], the plan's record ([`PlanRecord::admit`], D13), what the approval commits,
//! and [`Verified::start`] as the last thing before the process is started.
//!
//! [`PolicySnapshot::still_holds_under`]: approvals::plan::PolicySnapshot::still_holds_under
//! [`PlanRecord::admit`]: approvals::plan::PlanRecord::admit

use std::path::{Path, PathBuf};

use approvals::analysis::{Analysis, NotPinned, Payload};
use approvals::command::CommandLine;
use approvals::decision::{Allowed, Basis, DenialReason};
use approvals::plan::{DirectoryIdentity, PlanRefusal, SystemRunPlan};
use approvals::policy::{Approval, Security};
use approvals::wrapper::TrustPlan;

use crate::binding::{
    BindingRefusal, CwdSnapshot, Handover, HeldFile, descriptor_path, operand_index, pin_executable,
};
use crate::host::Host;
use crate::run::HeldDescriptor;

/// A run that the policy allows.
#[derive(Clone, Copy, Debug)]
pub struct AllowedRun<'a> {
    /// The command.
    pub command: &'a CommandLine,
    /// The working directory that the request names.
    pub cwd: Option<&'a str>,
    /// The plan that came along.
    pub plan: Option<&'a SystemRunPlan>,
    /// The approval that came along.
    pub approval: Approval,
    /// How much may run under the policy that applies.
    pub security: Security,
    /// Why the run is allowed.
    pub allowed: &'a Allowed,
    /// What it would execute.
    pub analysis: &'a Analysis,
}

/// A run that is tied to this machine as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// What is executed.
    pub argv: Vec<String>,
    cwd: VerifiedCwd,
    operand: Option<HeldOperand>,
}

/// What is started, and what it needs to be kept open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// What is executed.
    pub argv: Vec<String>,
    /// The file to execute, where it is not looked up by the first word.
    pub program: Option<PathBuf>,
    /// Where the command is started; the node's own working directory if `None`.
    pub cwd: Option<PathBuf>,
    /// What `argv`, `program` and `cwd` refer to.
    pub held: Vec<HeldDescriptor>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum VerifiedCwd {
    /// As the request names it; starting the process will tell whether it is there.
    Unchecked(Option<PathBuf>),
    Checked(CwdSnapshot),
}

/// A plan's file with the directory that its name is read in.
#[derive(Clone, Debug, Eq, PartialEq)]
struct HeldOperand {
    file: HeldFile,
    cwd: PathBuf,
}

/// Why a run that the policy allows is refused after all. The text is what the gateway is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VerifyError {
    /// The machine is not what the approval was given for.
    #[error(transparent)]
    Binding(#[from] BindingRefusal),
    /// The plan is not one that may run.
    #[error(transparent)]
    Plan(#[from] PlanRefusal),
    /// What was allowed cannot be told apart from what would run.
    #[error("{}", DenialReason::ExecutionPlanMiss.message())]
    ExecutionPlan,
}

impl VerifyError {
    /// The reason that the event of the refusal gives.
    #[must_use]
    pub fn reason(&self) -> DenialReason {
        match self {
            Self::Binding(_) | Self::Plan(_) => DenialReason::ApprovalRequired,
            Self::ExecutionPlan => DenialReason::ExecutionPlanMiss,
        }
    }
}

/// Ties a run to this machine: its working directory, its executable, the file that it runs.
///
/// With security full and no approval nothing is checked but the file binding of a plan that came
/// along, and the command is executed as it is. Looks at the disk, and reads all of a bound file; not
/// for a thread that must not wait.
///
/// # Errors
/// [`VerifyError::Binding`] and [`VerifyError::ExecutionPlan`].
pub fn verify(run: &AllowedRun<'_>, host: &Host<'_>) -> Result<Verified, VerifyError> {
    let is_approved = run.approval != Approval::None;
    let is_bound = is_approved || run.security == Security::Allowlist;
    let checked = is_bound
        .then(|| CwdSnapshot::capture(host, run.cwd))
        .transpose()?;
    let folder = match &checked {
        Some(snapshot) => snapshot.path().to_owned(),
        None => Host::absolute(host.cwd(), run.cwd.unwrap_or_default()),
    };
    let argv = if is_approved {
        pin_executable(run.command, host, &folder)?
    } else {
        run.command.argv().to_vec()
    };
    let planned = match (run.allowed.basis, run.analysis) {
        (Basis::Allowlist, Analysis::Direct(_)) => Some(pin_allowed(&argv, host, &folder)?),
        (Basis::Allowlist, Analysis::Payload(payload)) => pin_payload(run, payload)?,
        (Basis::Approval | Basis::ExactCommand | Basis::FullSecurity, _) => None,
    };
    let operand = run.plan.and_then(|plan| plan.mutable_file_operand.as_ref());
    let file = operand
        .map(|operand| HeldFile::open(operand, &argv, &folder))
        .transpose()?;
    if is_bound && run.plan.is_some() {
        let found = operand_index(&argv, run.command, host, &folder)?;
        match (found, operand) {
            (None, _) => {}
            (Some(_), None) => return Err(BindingRefusal::OperandNotBound.into()),
            (Some(index), Some(operand)) if index != operand.argv_index => {
                return Err(BindingRefusal::OperandChanged.into());
            }
            (Some(_), Some(_)) => {}
        }
    }
    let operand = file.map(|file| HeldOperand { file, cwd: folder });
    Ok(Verified {
        argv: planned.unwrap_or(argv),
        cwd: match checked {
            Some(snapshot) => VerifiedCwd::Checked(snapshot),
            None => VerifiedCwd::Unchecked(run.cwd.map(PathBuf::from)),
        },
        operand,
    })
}

/// The argv with the executable that the allowlist judged replaced by its real path. The wrappers
/// around it stay, and so does what they do (D7). A name that is not found stays as it is: `*` allows
/// that, and starting it will tell.
fn pin_allowed(argv: &[String], host: &Host<'_>, cwd: &Path) -> Result<Vec<String>, VerifyError> {
    let plan = TrustPlan::of(argv);
    if plan.blocked.is_some() {
        return Err(VerifyError::ExecutionPlan);
    }
    let mut argv = argv.to_vec();
    if let Some(executable) = argv.get_mut(plan.policy_index) {
        let resolution = host.resolve(executable, Some(cwd));
        if let Some(path) = resolution.trusted_path().and_then(Path::to_str) {
            path.clone_into(executable);
        }
    }
    Ok(argv)
}

/// The argv with the safe bins of its shell payload pinned; `None` if nothing needs to be.
fn pin_payload(
    run: &AllowedRun<'_>,
    payload: &Payload,
) -> Result<Option<Vec<String>>, VerifyError> {
    if payload.is_foreign {
        return Err(VerifyError::ExecutionPlan);
    }
    let pinned = payload
        .with_safe_bins_pinned(&run.allowed.satisfied)
        .map_err(|NotPinned| VerifyError::ExecutionPlan)?;
    let Some(pinned) = pinned else {
        return Ok(None);
    };
    let argv = run.command.with_payload(&pinned);
    argv.map(Some).ok_or(VerifyError::ExecutionPlan)
}

impl Verified {
    /// Where the command is started; the node's own working directory if `None`.
    #[must_use]
    pub fn cwd(&self) -> Option<&Path> {
        match &self.cwd {
            VerifiedCwd::Unchecked(cwd) => cwd.as_deref(),
            VerifiedCwd::Checked(snapshot) => Some(snapshot.path()),
        }
    }

    /// Which directory that is; `None` where nothing depends on it.
    #[must_use]
    pub fn cwd_identity(&self) -> Option<DirectoryIdentity> {
        match &self.cwd {
            VerifiedCwd::Unchecked(_) => None,
            VerifiedCwd::Checked(snapshot) => Some(snapshot.identity()),
        }
    }

    /// How the command is started: in the directory and with the file that [`verify`] found, by their
    /// descriptors where the system can do that. May look at the disk; the last thing before the
    /// start.
    ///
    /// # Errors
    /// [`BindingRefusal::CwdChanged`] and [`BindingRefusal::OperandChanged`].
    pub fn start(&self) -> Result<Start, VerifyError> {
        let mut held = Vec::new();
        let cwd = match &self.cwd {
            VerifiedCwd::Unchecked(cwd) => cwd.clone(),
            VerifiedCwd::Checked(snapshot) => {
                let directory = snapshot.hold()?;
                let path = descriptor_path(&directory);
                held.push(directory);
                Some(path.unwrap_or_else(|| snapshot.path().to_owned()))
            }
        };
        let Some(operand) = &self.operand else {
            let argv = self.argv.clone();
            return Ok(Start {
                argv,
                program: None,
                cwd,
                held,
            });
        };
        let Handover {
            argv,
            program,
            held: file,
        } = operand.file.hand_over(&self.argv, &operand.cwd)?;
        held.extend(file);
        Ok(Start {
            argv,
            program,
            cwd,
            held,
        })
    }
}

#[cfg(test)]
mod tests;
