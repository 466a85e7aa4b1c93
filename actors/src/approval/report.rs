//! What a decision about a run looks like to others: the answer, the event and the journal.

use ::exec::clearance::{Clearance, Denial};
use ::exec::request::RunRequest;
use approvals::decision::{Basis, Satisfier};
use approvals::policy::agent_key;
use approvals::usage::RuleKey;
use protocol::event::{ExecDenied, ExecEventHead, NodeEvent};
use protocol::invoke::{InvokeError, InvokeErrorCode};
use state::journal::Decided as JournalDecided;
use tracing::warn;

use super::Asker;
use crate::clock;
use crate::connection::InvokeAnswer;
use crate::exec::{NoteDenied, answer};

/// What events call the host (wire protocol §11.6).
const EVENT_HOST: &str = "node";

/// What every event of a run begins with.
pub(super) fn event_head(request: &RunRequest) -> ExecEventHead {
    ExecEventHead {
        session_key: request.event_session_key().to_owned(),
        run_id: request.run_id.clone(),
        host: EVENT_HOST,
        command: request.command.text().to_owned(),
    }
}

/// What the journal says about a decision.
pub(super) fn journal_entry(
    asker: &Asker,
    request: &RunRequest,
    decision: &str,
    rule: Option<String>,
) -> JournalDecided {
    JournalDecided {
        invoke_id: asker.id.as_str().to_owned(),
        run_id: request.run_id.clone(),
        agent: agent_key(request.agent_id.as_deref()).to_owned(),
        session: request.event_session_key().to_owned(),
        command: request.command.text().to_owned(),
        accepted_at_ms: asker.accepted_at_ms,
        decided_at_ms: clock::unix_ms(),
        decision: decision.to_owned(),
        rule,
    }
}

/// What allowed a run, in the journal's words.
pub(super) fn rule(clearance: &Clearance) -> String {
    let allowed = &clearance.allowed;
    match allowed.basis {
        Basis::Approval => "approval".to_owned(),
        Basis::FullSecurity => "security=full".to_owned(),
        Basis::ExactCommand => "exact command".to_owned(),
        Basis::Allowlist => {
            let rules = allowed.satisfied.iter().flatten();
            let rules = rules.map(|satisfier| match satisfier {
                Satisfier::Entry(matched) => entry(&matched.key),
                Satisfier::SafeBin => "safe bin".to_owned(),
                Satisfier::SafeBuiltin => "builtin".to_owned(),
                Satisfier::Skill => "skill".to_owned(),
            });
            rules.collect::<Vec<_>>().join("; ")
        }
    }
}

fn entry(key: &RuleKey) -> String {
    match &key.arg_pattern {
        Some(arguments) => format!("{} {arguments}", key.pattern),
        None => key.pattern.clone(),
    }
}

/// Refuses a run.
pub(super) fn deny(asker: &Asker, request: &RunRequest, denial: Denial) {
    let decided = journal_entry(asker, request, denial.reason.as_str(), None);
    if asker.exec.try_send(NoteDenied(decided)).is_err() {
        warn!(invoke = %asker.id, "the denial is not in the run journal");
    }
    let event = NodeEvent::ExecDenied(ExecDenied {
        head: event_head(request),
        reason: denial.reason.as_str().to_owned(),
        suppress_notify_on_exit: request.suppress_notify_on_exit,
    });
    let error = InvokeError {
        code: InvokeErrorCode::SystemRunDenied,
        message: denial.message,
    };
    answer(
        &asker.reply,
        InvokeAnswer {
            id: asker.id.clone(),
            result: Err(error),
            event: Some(event),
        },
    );
}
