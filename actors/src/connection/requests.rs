//! What this node asks the gateway, and the matching of answers to it.

use actix::prelude::*;
use protocol::frame::{Method, ResponseFrame, encode_request};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::answers::{EVENT_RESENDS, RESULT_RESENDS, may_resend, resend_after};
use super::{Connection, InvokeAnswer, Phase};
use crate::clock;

#[derive(Debug, Message)]
#[rtype(result = "Option<Vec<String>>")]
pub(crate) struct AskSkillBins;

/// What the answer to a request of ours is for.
pub(super) enum Pending {
    Connect,
    Event,
    EventBeforeResult {
        answer: InvokeAnswer,
        resends: u32,
    },
    Result {
        answer: InvokeAnswer,
        node_id: String,
        resends: u32,
    },
    SkillBins(oneshot::Sender<Option<Vec<String>>>),
    /// Host statistics, or the question for the surface request's id.
    Publication,
    SurfaceRequest,
}

impl Connection {
    pub(super) fn request(
        &mut self,
        method: Method,
        params: &impl Serialize,
        pending: Pending,
        ctx: &mut Context<Self>,
    ) -> Option<String> {
        let frame = self.encode(method, params)?;
        self.send_request(frame, pending, ctx)
    }

    /// A request frame with its id; `None` when it does not serialise.
    pub(super) fn encode(
        &mut self,
        method: Method,
        params: &impl Serialize,
    ) -> Option<(String, String)> {
        self.next_request += 1;
        let id = self.next_request.to_string();
        match encode_request(&id, method, params) {
            Ok(text) => Some((id, text)),
            Err(error) => {
                warn!(%error, method = method.name(), "request does not serialise; not sent");
                None
            }
        }
    }

    pub(super) fn send_request(
        &mut self,
        (id, text): (String, String),
        pending: Pending,
        ctx: &mut Context<Self>,
    ) -> Option<String> {
        let sent = self.outbound.as_ref().map(|outbound| outbound.text(text));
        match sent {
            Some(Ok(())) => {
                self.pending
                    .insert(id.clone(), (clock::since_boot(), pending));
                Some(id)
            }
            Some(Err(full)) => {
                self.give_up(&full.to_string(), ctx);
                None
            }
            None => None,
        }
    }

    pub(super) fn on_response(&mut self, response: ResponseFrame<'_>, ctx: &mut Context<Self>) {
        let Some((_, pending)) = self.pending.remove(response.id.as_ref()) else {
            return debug!(id = %response.id, "response to no request of ours ignored");
        };
        match pending {
            Pending::Connect if !matches!(self.phase, Phase::Presenting) => {
                debug!("the answer to connect came too late");
            }
            Pending::Connect => match response.result {
                Ok(payload) => self.on_hello(payload.map_or("null", RawValue::get), ctx),
                Err(error) => self.on_refusal(error, ctx),
            },
            Pending::Event => {
                if let Err(error) = response.result {
                    debug!(%error, "event not taken by the gateway");
                }
            }
            Pending::EventBeforeResult { answer, resends } => {
                match (response.result, &answer.event) {
                    (Err(error), Some(event)) if may_resend(&error, resends, EVENT_RESENDS) => {
                        let event = event.clone();
                        ctx.run_later(resend_after(resends), move |actor, ctx| {
                            actor.send_event_before_result(answer, event, resends + 1, ctx);
                        });
                    }
                    (result, _) => {
                        if let Err(error) = result {
                            debug!(%error, invoke = %answer.id, "event not taken by the gateway");
                        }
                        self.send_result(answer, ctx);
                    }
                }
            }
            Pending::Result {
                answer,
                node_id,
                resends,
            } => match response.result {
                Ok(payload) => {
                    let payload = payload.map_or("null", RawValue::get);
                    if payload.contains("\"ignored\":true") {
                        info!(invoke = %answer.id, "the gateway no longer waited for this result");
                    }
                }
                Err(error) if may_resend(&error, resends, RESULT_RESENDS) => {
                    debug!(invoke = %answer.id, %error, "result sent again soon");
                    ctx.run_later(resend_after(resends), move |actor, ctx| {
                        actor.request_result(answer, node_id, resends + 1, ctx);
                    });
                }
                Err(error) => {
                    warn!(invoke = %answer.id, %error, "result not taken by the gateway");
                }
            },
            Pending::SkillBins(asker) => {
                let payload = response
                    .result
                    .map(|payload| payload.map_or("null", RawValue::get));
                let bins = match payload.map(protocol::skills::decode_bins) {
                    Ok(Ok(bins)) => Some(bins),
                    Ok(Err(error)) => {
                        debug!(%error, "the gateway's skills are not understood");
                        None
                    }
                    Err(error) => {
                        debug!(%error, "the gateway does not tell its skills");
                        None
                    }
                };
                // Whoever asked may have stopped waiting.
                asker.send(bins).ok();
            }
            Pending::Publication | Pending::SurfaceRequest => {
                self.on_publication_answer(&response.result, ctx);
            }
        }
    }
}

impl Handler<AskSkillBins> for Connection {
    type Result = ResponseFuture<Option<Vec<String>>>;

    fn handle(&mut self, _: AskSkillBins, ctx: &mut Context<Self>) -> Self::Result {
        let (asker, answer) = oneshot::channel();
        if matches!(self.phase, Phase::Ready { .. }) {
            let params = serde_json::Map::new();
            self.request(Method::SkillsBins, &params, Pending::SkillBins(asker), ctx);
        }
        // Without a connection the asker is dropped here or with the request, which ends the wait.
        Box::pin(async move { answer.await.unwrap_or(None) })
    }
}
