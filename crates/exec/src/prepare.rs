//! `system.run.prepare`: turns a command into a plan that an approval can be bound to
//! (exec and approvals §10).

use approvals::command::{CommandLine, ShellUse, command_text};
use approvals::plan::{DirectoryIdentity, FileOperand, PolicySnapshot, SystemRunPlan};
use approvals::policy::{Ask, Security};
use approvals::usage::{Coverage, InlineCode};
use serde::Serialize;

use crate::binding::{
    BindingRefusal, CwdSnapshot, bind_operand, pin_executable, resolve_unchecked,
};
use crate::environment::Overrides;
use crate::host::Host;
use crate::request::{PrepareRequest, RequestError};

/// The policy that a command is prepared under.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PreparePolicy {
    /// How much may run.
    pub security: Security,
    /// When a human is asked.
    pub ask: Ask,
    /// Whether this node wants inline code to be approved.
    pub strict_inline_eval: bool,
    /// What the approvals document says for the agent.
    pub snapshot: PolicySnapshot,
}

/// The answer to `system.run.prepare`, serialised as it goes out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// What an approval would be for.
    pub plan: SystemRunPlan,
    exec_policy: ExecPolicy,
    allow_always_coverage: Coverage,
    /// Which directory the command would run in, to be remembered with the plan (D13).
    #[serde(skip)]
    pub cwd: DirectoryIdentity,
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct ExecPolicy {
    security: Security,
    ask: Ask,
}

/// Prepares a command. Looks at the disk, and reads all of the file that the command would run; not
/// for a thread that must not wait.
///
/// # Errors
/// A command that no approval can be bound to, or an environment that no command may get.
pub fn prepare(
    request: &PrepareRequest,
    policy: &PreparePolicy,
    host: &Host<'_>,
) -> Result<Prepared, RequestError> {
    let bound = needs_binding(request, policy);
    let (cwd, argv, operand) = if bound {
        bind(&request.command, request.cwd.as_deref(), host).map_err(|refusal| match refusal {
            BindingRefusal::Unbindable => RequestError::UnsupportedShape,
            refusal => refusal.into(),
        })?
    } else {
        let cwd = resolve_unchecked(host, request.cwd.as_deref())?;
        (cwd, request.command.argv().to_vec(), None)
    };
    Overrides::parse(&request.environment)?;
    let command_text = command_text(&argv);
    let preview = request
        .command
        .preview()
        .filter(|preview| *preview != command_text);
    let path = cwd.path().to_str().ok_or(BindingRefusal::CwdMissing)?;
    let allow_always_coverage = if bound {
        let is_strict = policy.strict_inline_eval || request.strict_inline_eval;
        coverage(&argv, &request.command, host, path, is_strict)
    } else {
        Coverage::default()
    };
    Ok(Prepared {
        plan: SystemRunPlan {
            cwd: Some(path.to_owned()),
            command_preview: preview.map(str::to_owned),
            agent_id: request.agent_id.clone(),
            session_key: request.session_key.clone(),
            mutable_file_operand: operand,
            policy_snapshot: Some(policy.snapshot.clone()),
            command_text,
            argv,
        },
        exec_policy: ExecPolicy {
            security: policy.security,
            ask: policy.ask,
        },
        allow_always_coverage,
        cwd: cwd.identity(),
    })
}

/// What an "allow always" would remember of `command`, pinned as `argv`, in the canonical directory
/// `cwd`.
fn coverage(
    argv: &[String],
    command: &CommandLine,
    host: &Host<'_>,
    cwd: &str,
    is_strict: bool,
) -> Coverage {
    let pinned = CommandLine::new(argv.to_vec(), None);
    let pinned = match (&pinned, command.payload()) {
        // A payload that the sender vouched for shows only in the command itself.
        (_, Some(_)) | (Err(_), None) => command,
        (Ok(pinned), None) => pinned,
    };
    let inline_code = if is_strict {
        InlineCode::Strict
    } else {
        InlineCode::Unchecked
    };
    Coverage::of(&host.analyse(pinned, Some(cwd)), cwd, inline_code)
}

/// A plan that nobody will ever be asked about is not bound to anything.
fn needs_binding(request: &PrepareRequest, policy: &PreparePolicy) -> bool {
    let Some((security, ask)) = request.gateway_policy else {
        return true;
    };
    policy.security.min(security) != Security::Full
        || policy.ask.max(ask) != Ask::Off
        || policy.strict_inline_eval
        || request.strict_inline_eval
}

type Bound = (CwdSnapshot, Vec<String>, Option<FileOperand>);

fn bind(
    command: &CommandLine,
    cwd: Option<&str>,
    host: &Host<'_>,
) -> Result<Bound, BindingRefusal> {
    if *command.shell() == ShellUse::Opaque {
        return Err(BindingRefusal::Unbindable);
    }
    let cwd = CwdSnapshot::capture(host, cwd)?;
    let argv = pin_executable(command, host, cwd.path())?;
    let operand = bind_operand(&argv, command, host, cwd.path())?;
    Ok((cwd, argv, operand))
}
