//! What comes of invokes: results, and the events that go with them, until the gateway has them.

use std::time::Duration;

use actix::prelude::*;
use protocol::event::NodeEvent;
use protocol::frame::{GatewayError, Method};
use protocol::invoke::{InvokeError, InvokeId, InvokeResult, InvokeResultParams};
use tracing::{debug, warn};

use super::Connection;
use super::requests::Pending;

/// Longest wait for a denial's acknowledgement before its result is sent anyway (§11.6).
const EVENT_ACKNOWLEDGEMENT: Duration = Duration::from_secs(2);
/// First wait before sending something again that the gateway could not take; it doubles. While
/// 2026.9.6 writes down that any node was paired, it refuses what the others send (§10).
const RESEND_AFTER: Duration = Duration::from_millis(100);
/// How often a result is sent again: for 6 s, longer than any such writing takes. A connection that
/// was superseded is refused for good.
pub(super) const RESULT_RESENDS: u32 = 6;
/// How often the event before a failed result is sent again: within its acknowledgement's limit.
pub(super) const EVENT_RESENDS: u32 = 4;

/// What came of an invoke.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct InvokeAnswer {
    /// Which invoke.
    pub(crate) id: InvokeId,
    /// Its result.
    pub(crate) result: InvokeResult,
    /// What the gateway is told beside the result. Before a failed result it must be
    /// acknowledged, or the gateway no longer knows the run (§11.6).
    pub(crate) event: Option<NodeEvent>,
}

impl Connection {
    pub(super) fn send_result(&mut self, answer: InvokeAnswer, ctx: &mut Context<Self>) {
        let Some(node_id) = self.invokes.remove(&answer.id) else {
            debug!(invoke = %answer.id, "nobody waits for this result any more; dropped");
            return;
        };
        self.request_result(answer, node_id, 0, ctx);
    }

    pub(super) fn request_result(
        &mut self,
        answer: InvokeAnswer,
        node_id: String,
        resends: u32,
        ctx: &mut Context<Self>,
    ) {
        // The answer stays until the gateway has taken it, so its text is made first.
        let params = InvokeResultParams::new(&answer.id, &node_id, &answer.result);
        let Some(frame) = self.encode(Method::NodeInvokeResult, &params) else {
            return;
        };
        let pending = Pending::Result {
            answer,
            node_id,
            resends,
        };
        self.send_request(frame, pending, ctx);
    }

    /// Sends the event that has to be acknowledged before this failed result (§11.6).
    pub(super) fn send_event_before_result(
        &mut self,
        answer: InvokeAnswer,
        event: NodeEvent,
        resends: u32,
        ctx: &mut Context<Self>,
    ) {
        let pending = Pending::EventBeforeResult { answer, resends };
        let Some(request) = self.send_event(&event, pending, ctx) else {
            return;
        };
        ctx.run_later(EVENT_ACKNOWLEDGEMENT, move |actor, ctx| {
            if let Some((_, Pending::EventBeforeResult { answer, .. })) =
                actor.pending.remove(&request)
            {
                debug!(invoke = %answer.id, "event not acknowledged in time");
                actor.send_result(answer, ctx);
            }
        });
    }

    pub(super) fn send_event(
        &mut self,
        event: &NodeEvent,
        pending: Pending,
        ctx: &mut Context<Self>,
    ) -> Option<String> {
        match event.params() {
            Ok(params) => self.request(Method::NodeEvent, &params, pending, ctx),
            Err(error) => {
                warn!(%error, event = event.name(), "event does not serialise; not sent");
                None
            }
        }
    }

    pub(super) fn refuse_invoke(
        &mut self,
        id: InvokeId,
        error: InvokeError,
        ctx: &mut Context<Self>,
    ) {
        self.send_result(
            InvokeAnswer {
                id,
                result: Err(error),
                event: None,
            },
            ctx,
        );
    }
}

impl Handler<InvokeAnswer> for Connection {
    type Result = ();

    fn handle(&mut self, mut answer: InvokeAnswer, ctx: &mut Context<Self>) {
        if !self.invokes.contains_key(&answer.id) {
            return debug!(invoke = %answer.id, "answer to a cancelled invoke dropped");
        }
        if answer.result.is_ok() {
            // Somebody waits for the result, and the event of a success may follow it (§11.6).
            let event = answer.event.take();
            self.send_result(answer, ctx);
            if let Some(event) = event {
                self.send_event(&event, Pending::Event, ctx);
            }
            return;
        }
        match answer.event.clone() {
            Some(event) => self.send_event_before_result(answer, event, 0, ctx),
            None => self.send_result(answer, ctx),
        }
    }
}

/// Whether the gateway says itself that it will take something later.
pub(super) fn may_resend(error: &GatewayError, resends: u32, limit: u32) -> bool {
    error.retryable == Some(true) && resends < limit
}

pub(super) fn resend_after(resends: u32) -> Duration {
    RESEND_AFTER * (1 << resends.min(RESULT_RESENDS))
}
