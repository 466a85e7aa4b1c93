//! Who waits for a run, and what they are told.

use std::sync::Arc;

use actix::prelude::*;
use approvals::decision::DenialReason;
use exec::run::RunPayload;
use protocol::event::{ExecDenied, ExecEventHead, ExecFinished, NodeEvent};
use protocol::invoke::{InvokeError, InvokeErrorCode, InvokeId, InvokeResult};
use serde::Serialize;
use tracing::{info, warn};

use crate::connection::InvokeAnswer;

/// Who asked for a run, and how to reach them.
#[derive(Clone)]
pub(crate) struct RunAsker {
    /// The connection that asked.
    pub(crate) generation: u64,
    /// Its invoke.
    pub(crate) id: InvokeId,
    /// Who waits for the answer.
    pub(crate) reply: Recipient<InvokeAnswer>,
}

impl RunAsker {
    pub(super) fn answer(&self, result: InvokeResult, event: Option<NodeEvent>) {
        let id = self.id.clone();
        answer(&self.reply, InvokeAnswer { id, result, event });
    }
}

/// Which run this is, for logs and the event that follows it.
#[derive(Debug, Clone)]
pub(crate) struct RunLabel {
    /// What the event says about it.
    pub(crate) head: ExecEventHead,
    /// Echoed in the event.
    pub(crate) suppress_notify_on_exit: bool,
}

/// Answers whoever asked, waiting for room in its mailbox: a result is never dropped silently.
pub(crate) fn answer(reply: &Recipient<InvokeAnswer>, answer: InvokeAnswer) {
    let id = answer.id.clone();
    let delivery = reply.send(answer);
    actix::spawn(async move {
        if delivery.await.is_err() {
            info!(invoke = %id, "the connection that asked is gone; result dropped");
        }
    });
}

/// Answers everybody who waits; the event is sent once.
pub(super) fn answer_all(
    askers: &[RunAsker],
    label: &RunLabel,
    payload: &RunPayload,
    result: InvokeResult,
) {
    let Some((last, others)) = askers.split_last() else {
        return;
    };
    let mut event = Some(NodeEvent::ExecFinished(ExecFinished {
        head: label.head.clone(),
        exit_code: payload.exit_code,
        timed_out: payload.timed_out,
        success: payload.success,
        output: payload.event_output(),
        suppress_notify_on_exit: label.suppress_notify_on_exit,
    }));
    for asker in others {
        asker.answer(result.clone(), event.take());
    }
    last.answer(result, event);
}

/// Refuses a run whose command is no longer what was decided on.
pub(super) fn deny(askers: &[RunAsker], label: &RunLabel, reason: DenialReason, message: String) {
    let mut event = Some(NodeEvent::ExecDenied(ExecDenied {
        head: label.head.clone(),
        reason: reason.as_str().to_owned(),
        suppress_notify_on_exit: label.suppress_notify_on_exit,
    }));
    let error = InvokeError {
        code: InvokeErrorCode::SystemRunDenied,
        message,
    };
    for asker in askers {
        asker.answer(Err(error.clone()), event.take());
    }
}

/// Serialises a payload for the wire.
pub(crate) fn to_json(payload: &impl Serialize) -> InvokeResult {
    let json = serde_json::to_string(payload).map_err(|error| {
        warn!(%error, "payload does not serialise");
        InvokeError::unavailable("node invocation failed")
    })?;
    Ok(Arc::new(json))
}
