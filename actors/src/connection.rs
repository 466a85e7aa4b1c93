//! Connection: one WebSocket to the gateway, from dialling to its end.
//!
//! It owns the socket and nothing else. What arrives is decoded and handed on; it never waits for
//! whoever carries an invoke out. It lives for one attempt: whatever ends it is reported once, and
//! the supervisor makes a fresh one with the next generation number.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use protocol::close::{Close, CloseCode};
use protocol::connect::{
    CHALLENGE_DEADLINE, Challenge, ConnectParams, HELLO_DEADLINE, NodeDescription, ProtocolVersion,
};
use protocol::credentials::Auth;
use protocol::event::NodeEvent;
use protocol::failure::ConnectFailure;
use protocol::frame::{
    EventFrame, GatewayError, Method, ResponseFrame, ServerFrame, encode_request,
};
use protocol::hello::{GatewayRelease, Hello};
use protocol::identity::DeviceIdentity;
use protocol::invoke::{
    Command, InvokeCancel, InvokeError, InvokeId, InvokeRequest, InvokeResult, InvokeResultParams,
};
use protocol::pairing::PollSchedule;
use protocol::reconnect::Ended;
use protocol::surface::{SurfaceAnswer, empty_runner_inventory};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::approval::{Approval, CancelInvoke, ConnectionLost, Invoke};
use crate::browser::{Browser, BrowserCall, CancelBrowserCall, CancelBrowserCalls};
use crate::clock;
use crate::host_stats;
use crate::jitter;
use crate::pairing::{KeepToken, Pairing, SurfaceKnown};
use crate::socket::{self, DialError, Message as SocketMessage, Messages, Outbound, Writer};
use crate::supervisor::{ConnectionEnded, ConnectionReady, Supervisor};

/// How long the gateway's close frame may take to follow its refusal; it comes within 30 ms
/// (wire protocol §9).
const CLOSE_AFTER_REFUSAL: Duration = Duration::from_secs(1);
/// How long our own close frame may take to leave (wire protocol §14).
const CLOSE_FLUSH: Duration = Duration::from_millis(250);
/// Longest wait for a denial's acknowledgement before its result is sent anyway (§11.6).
const EVENT_ACKNOWLEDGEMENT: Duration = Duration::from_secs(2);
/// First wait before sending something again that the gateway could not take; it doubles. While
/// 2026.9.6 writes down that any node was paired, it refuses what the others send (§10).
const RESEND_AFTER: Duration = Duration::from_millis(100);
/// How often a result is sent again: for 6 s, longer than any such writing takes. A connection that
/// was superseded is refused for good.
const RESULT_RESENDS: u32 = 6;
/// How often the event before a failed result is sent again: within its acknowledgement's limit.
const EVENT_RESENDS: u32 = 4;
/// After this the answer to a request is not waited for any more (§12).
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How often host statistics are sent (§11.1).
const HOST_STATS_INTERVAL: Duration = Duration::from_secs(60);
/// Longest wait for the device token to be on disk.
const KEEP_TOKEN_DEADLINE: Duration = Duration::from_secs(10);
/// Refusals in a row that mean "the surface is pending"; a single one also happens to an approved
/// node right after hello (§10).
const SURFACE_REFUSALS: u32 = 2;
/// Answers and messages that may wait for this actor before their senders have to.
const MAILBOX: usize = 4096;

/// What one attempt needs to know.
pub(crate) struct ConnectionOptions {
    /// Counts the attempts of this process; part of every log line and message.
    pub(crate) generation: u64,
    /// Where to connect to.
    pub(crate) endpoint: Rc<node_config::endpoint::PlannedEndpoint>,
    /// What to tell about this node.
    pub(crate) node: Rc<NodeDescription>,
    /// Who this node is.
    pub(crate) identity: Rc<DeviceIdentity>,
    /// What to present.
    pub(crate) auth: Auth,
    /// Which protocol to offer.
    pub(crate) protocol: ProtocolVersion,
    /// Told when the connection is ready and when it ended.
    pub(crate) supervisor: Addr<Supervisor>,
    /// Told the device token and the state of the surface.
    pub(crate) pairing: Addr<Pairing>,
    /// Given the invokes that are decided about.
    pub(crate) approval: Addr<Approval>,
    /// Given the invokes for the browser.
    pub(crate) browser: Addr<Browser>,
}

/// Closes the connection in good order; [`ConnectionEnded`] follows.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Disconnect;

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

/// Asks the gateway which executables belong to its skills; no answer if it has none to give.
#[derive(Debug, Message)]
#[rtype(result = "Option<Vec<String>>")]
pub(crate) struct AskSkillBins;

enum Phase {
    /// No WebSocket yet.
    Dialing,
    /// Waiting for `connect.challenge`.
    Greeting,
    /// Waiting for hello-ok or a refusal.
    Presenting,
    /// Refused; waiting for the close frame that follows.
    Refused(ConnectFailure),
    /// In service.
    Ready {
        /// When hello-ok arrived, by [`clock::since_boot`].
        since: Duration,
        /// What kind of gateway it is.
        release: GatewayRelease,
    },
    /// Our close frame is on its way.
    Closing,
}

/// What the answer to a request of ours is for.
enum Pending {
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

/// The connection actor.
pub(crate) struct Connection {
    options: ConnectionOptions,
    phase: Phase,
    outbound: Option<Outbound>,
    /// When anything last arrived, by [`clock::since_boot`].
    last_inbound: Duration,
    /// How long silence may last; two ticks once the gateway told its interval (§12).
    silence_limit: Duration,
    watchdog: Option<SpawnHandle>,
    next_request: u64,
    pending: HashMap<String, (Duration, Pending)>,
    /// Invokes that the gateway still waits for, with the node id to echo.
    invokes: HashMap<InvokeId, String>,
    surface_refusals: u32,
    surface_polls: PollSchedule,
    host_stats_timer: Option<SpawnHandle>,
    reported: bool,
}

impl Connection {
    /// Starts an attempt.
    pub(crate) fn launch(options: ConnectionOptions) -> Addr<Self> {
        Self {
            options,
            phase: Phase::Dialing,
            outbound: None,
            last_inbound: clock::since_boot(),
            silence_limit: CHALLENGE_DEADLINE + HELLO_DEADLINE,
            watchdog: None,
            next_request: 0,
            pending: HashMap::new(),
            invokes: HashMap::new(),
            surface_refusals: 0,
            surface_polls: PollSchedule::default(),
            host_stats_timer: None,
            reported: false,
        }
        .start()
    }

    // --- ending ---------------------------------------------------------------------------------

    /// Reports how it ended, once, and stops.
    fn end(&mut self, ended: Ended, close: Option<Close>, detail: String, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.reported, true) {
            let generation = self.options.generation;
            debug!(generation, ?ended, detail, "connection ended");
            let report = ConnectionEnded {
                generation,
                ended,
                close,
                detail,
                device_token: self.options.auth.device_token().cloned(),
            };
            let supervisor = self.options.supervisor.clone();
            let approval = self.options.approval.clone();
            let browser = self.options.browser.clone();
            // Outlives this actor: both must hear of it whatever the state of their mailboxes.
            actix::spawn(async move {
                if approval.send(ConnectionLost { generation }).await.is_err() {
                    debug!(generation, "approval actor is gone");
                }
                if browser.send(CancelBrowserCalls(generation)).await.is_err() {
                    debug!(generation, "browser actor is gone");
                }
                if supervisor.send(report).await.is_err() {
                    debug!(generation, "supervisor is gone");
                }
            });
            self.invokes.clear();
            self.phase = Phase::Closing;
            if self.outbound.is_some() {
                // A close frame may still be on its way; the writer's end stops this actor.
                ctx.run_later(CLOSE_FLUSH, |_, ctx| ctx.stop());
                return;
            }
        }
        ctx.stop();
    }

    fn closed(&mut self, close: Close, ctx: &mut Context<Self>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closing);
        let ended = match phase {
            Phase::Refused(failure) => Ended::Refused(failure),
            Phase::Ready { since, .. } => Ended::Closed {
                close: close.clone(),
                connected_for: Some(clock::since_boot().saturating_sub(since)),
            },
            Phase::Dialing | Phase::Greeting | Phase::Presenting | Phase::Closing => {
                Ended::Closed {
                    close: close.clone(),
                    connected_for: None,
                }
            }
        };
        let detail = match &ended {
            Ended::Refused(failure) => failure.error.message.clone(),
            Ended::Unreachable | Ended::Closed { .. } => String::new(),
        };
        self.end(ended, Some(close), detail, ctx);
    }

    /// Gives up on the gateway: says so in a close frame if the socket still takes one.
    fn give_up(&mut self, reason: &str, ctx: &mut Context<Self>) {
        let close = Close::new(CloseCode::ClientTimeout, reason);
        if let Some(outbound) = &self.outbound {
            // The peer is presumed dead; whether the frame still fits changes nothing.
            outbound.close(&close).ok();
        }
        self.closed(close, ctx);
    }

    // --- sending --------------------------------------------------------------------------------

    fn request(
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
    fn encode(&mut self, method: Method, params: &impl Serialize) -> Option<(String, String)> {
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

    fn send_request(
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

    fn send_result(&mut self, answer: InvokeAnswer, ctx: &mut Context<Self>) {
        let Some(node_id) = self.invokes.remove(&answer.id) else {
            debug!(invoke = %answer.id, "nobody waits for this result any more; dropped");
            return;
        };
        self.request_result(answer, node_id, 0, ctx);
    }

    fn request_result(
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
    fn send_event_before_result(
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

    fn send_event(
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

    fn refuse_invoke(&mut self, id: InvokeId, error: InvokeError, ctx: &mut Context<Self>) {
        self.send_result(
            InvokeAnswer {
                id,
                result: Err(error),
                event: None,
            },
            ctx,
        );
    }

    // --- receiving ------------------------------------------------------------------------------

    fn on_text(&mut self, text: &str, ctx: &mut Context<Self>) {
        match ServerFrame::decode(text) {
            Ok(ServerFrame::Event(event)) => self.on_event(&event, ctx),
            Ok(ServerFrame::Response(response)) => self.on_response(response, ctx),
            Err(error) => debug!(%error, "frame ignored"),
        }
    }

    fn on_event(&mut self, event: &EventFrame<'_>, ctx: &mut Context<Self>) {
        let payload = event.payload.map_or("null", RawValue::get);
        match (event.name.as_ref(), &self.phase) {
            ("connect.challenge", Phase::Greeting) => self.on_challenge(payload, ctx),
            ("node.invoke.request", Phase::Ready { release, .. }) => {
                self.on_invoke(payload, *release, ctx);
            }
            ("node.invoke.cancel", Phase::Ready { .. }) => self.on_cancel(payload),
            ("node.pair.resolved", Phase::Ready { .. }) => self.publish_host_stats(ctx),
            ("shutdown", _) => info!(payload, "gateway announces its shutdown"),
            (name, _) => debug!(event = name, "event ignored"),
        }
    }

    fn on_challenge(&mut self, payload: &str, ctx: &mut Context<Self>) {
        let challenge = match Challenge::decode(payload) {
            Ok(challenge) => challenge,
            Err(error) => {
                let close = Close::new(CloseCode::PolicyViolation, &error.to_string());
                if let Some(outbound) = &self.outbound {
                    outbound.close(&close).ok();
                }
                return self.closed(close, ctx);
            }
        };
        let node = Rc::clone(&self.options.node);
        let identity = Rc::clone(&self.options.identity);
        let auth = self.options.auth.clone();
        let params = ConnectParams::answer(
            &challenge,
            &node,
            &identity,
            &auth,
            self.options.protocol,
            clock::unix_ms(),
        );
        self.phase = Phase::Presenting;
        self.request(Method::Connect, &params, Pending::Connect, ctx);
        ctx.run_later(HELLO_DEADLINE, |actor, ctx| {
            if matches!(actor.phase, Phase::Presenting) {
                actor.give_up("connect timeout", ctx);
            }
        });
    }

    fn on_response(&mut self, response: ResponseFrame<'_>, ctx: &mut Context<Self>) {
        let Some((_, pending)) = self.pending.remove(response.id.as_ref()) else {
            return debug!(id = %response.id, "response to no request of ours ignored");
        };
        match pending {
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

    fn on_refusal(&mut self, error: GatewayError, ctx: &mut Context<Self>) {
        self.phase = Phase::Refused(ConnectFailure::from(error));
        ctx.run_later(CLOSE_AFTER_REFUSAL, |actor, ctx| {
            actor.closed(
                Close::new(CloseCode::PolicyViolation, "connect failed"),
                ctx,
            );
        });
    }

    fn on_hello(&mut self, payload: &str, ctx: &mut Context<Self>) {
        let hello = match Hello::decode(payload) {
            Ok(hello) => hello,
            Err(error) => {
                warn!(%error, "the gateway's hello is not understood");
                return self.give_up("malformed hello-ok", ctx);
            }
        };
        self.silence_limit = hello.tick_interval * 2;
        self.watch(ctx);
        let token = hello.device_token.clone();
        // Nothing else is done with the connection until the token is on disk: a bootstrap token
        // is used up by now, so this is the only way back in (§7.4). The wait pauses this actor
        // alone, for about a millisecond.
        let keep = self.keep_token(token);
        ctx.wait(keep.into_actor(self).map(|kept, actor, ctx| match kept {
            Ok(()) => actor.on_ready(hello, ctx),
            Err(reason) => {
                warn!(reason, "device token not stored; giving this connection up");
                actor.give_up("device token not stored", ctx);
            }
        }));
    }

    fn keep_token(
        &self,
        token: Option<SecretString>,
    ) -> impl Future<Output = Result<(), String>> + use<> {
        let pairing = self.options.pairing.clone();
        async move {
            let Some(token) = token else { return Ok(()) };
            pairing
                .send(KeepToken { token })
                .timeout(KEEP_TOKEN_DEADLINE)
                .await
                .map_err(|error| error.to_string())?
        }
    }

    fn on_ready(&mut self, hello: Hello, ctx: &mut Context<Self>) {
        self.phase = Phase::Ready {
            since: clock::since_boot(),
            release: hello.release,
        };
        let shows_surface = hello.release == GatewayRelease::Current;
        let ready = ConnectionReady {
            generation: self.options.generation,
            gateway_version: hello.gateway_version,
            connection_id: hello.connection_id,
            shows_surface,
        };
        if self.options.supervisor.try_send(ready).is_err() {
            warn!("supervisor does not take messages");
        }
        if shows_surface {
            self.publish_host_stats(ctx);
        }
    }

    // --- invokes --------------------------------------------------------------------------------

    fn on_invoke(&mut self, payload: &str, release: GatewayRelease, ctx: &mut Context<Self>) {
        let request = match InvokeRequest::decode(payload) {
            Ok(request) => request,
            Err(error) => return debug!(%error, "invoke ignored"),
        };
        if self.invokes.contains_key(&request.id) {
            return info!(invoke = %request.id, "invoke is already under way; repetition ignored");
        }
        let id = request.id.clone();
        self.invokes.insert(request.id.clone(), request.node_id);
        let command = match request.command {
            Ok(command) => command,
            Err(name) => {
                debug!(invoke = %id, command = name, "command not supported");
                return self.refuse_invoke(
                    id,
                    InvokeError::unavailable("command not supported"),
                    ctx,
                );
            }
        };
        let command = match command {
            Command::System(command) => command,
            Command::Browser(command) => {
                let call = BrowserCall {
                    generation: self.options.generation,
                    id: request.id,
                    command,
                    params: request.params,
                    reply: ctx.address().recipient(),
                };
                let sent = self.options.browser.try_send(call).map_err(discard);
                return self.refuse_unless_sent(sent, id, ctx);
            }
        };
        let invoke = Invoke {
            generation: self.options.generation,
            id: request.id,
            command,
            params: request.params,
            idempotency_key: request.idempotency_key,
            release,
            reply: ctx.address().recipient(),
            gateway: ctx.address().recipient(),
        };
        let sent = self.options.approval.try_send(invoke).map_err(discard);
        self.refuse_unless_sent(sent, id, ctx);
    }

    fn refuse_unless_sent(
        &mut self,
        sent: Result<(), SendError<()>>,
        id: InvokeId,
        ctx: &mut Context<Self>,
    ) {
        let reason = match sent {
            Ok(()) => return,
            Err(SendError::Full(())) => "node busy: too many invokes wait for a decision",
            Err(SendError::Closed(())) => "node is stopping",
        };
        self.refuse_invoke(id, InvokeError::unavailable(reason), ctx);
    }

    fn on_cancel(&mut self, payload: &str) {
        let cancel = match InvokeCancel::decode(payload) {
            Ok(cancel) => cancel,
            Err(error) => return debug!(%error, "cancel ignored"),
        };
        if self.invokes.remove(&cancel.invoke_id).is_none() {
            return debug!(invoke = %cancel.invoke_id, "cancel of an unknown invoke ignored");
        }
        let approval = self.options.approval.clone();
        let browser = self.options.browser.clone();
        let of_browser = CancelBrowserCall(cancel.invoke_id.clone());
        let message = CancelInvoke {
            id: cancel.invoke_id,
        };
        // A cancel must not be lost to a full mailbox: the command would run on unheard.
        actix::spawn(async move {
            if approval.send(message).await.is_err() {
                debug!("approval actor is gone; nothing left to cancel");
            }
            if browser.send(of_browser).await.is_err() {
                debug!("browser actor is gone; nothing left to cancel");
            }
        });
    }

    // --- surface --------------------------------------------------------------------------------

    /// Tells the gateway how the machine is doing. Its answer also shows whether the surface is
    /// approved, so this is asked more often while it is not.
    fn publish_host_stats(&mut self, ctx: &mut Context<Self>) {
        if let Some(stats) = host_stats::read() {
            self.send_event(&NodeEvent::HostStats(stats), Pending::Publication, ctx);
        }
        self.publish_again_after(HOST_STATS_INTERVAL, ctx);
    }

    fn publish_again_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.host_stats_timer.take() {
            ctx.cancel_future(timer);
        }
        self.host_stats_timer = Some(ctx.run_later(wait, Self::publish_host_stats));
    }

    fn on_publication_answer<P>(
        &mut self,
        result: &Result<P, GatewayError>,
        ctx: &mut Context<Self>,
    ) {
        match SurfaceAnswer::of(result) {
            SurfaceAnswer::Approved => {
                self.surface_refusals = 0;
                self.tell_surface(SurfaceKnown::Approved);
            }
            SurfaceAnswer::Pending { request_id } => {
                self.surface_refusals = self.surface_refusals.saturating_add(1);
                let id_is_new = request_id.is_some();
                if self.surface_refusals == SURFACE_REFUSALS && !id_is_new {
                    let inventory = empty_runner_inventory();
                    let method = Method::NodeRunnerInventoryUpdate;
                    self.request(method, &inventory, Pending::SurfaceRequest, ctx);
                } else if self.surface_refusals >= SURFACE_REFUSALS {
                    self.tell_surface(SurfaceKnown::Pending { request_id });
                }
                let wait = self.surface_polls.next_wait(jitter::random());
                self.publish_again_after(wait, ctx);
            }
            SurfaceAnswer::Unrelated => {
                if let Err(error) = result {
                    debug!(%error, "publication not taken by the gateway");
                }
            }
        }
    }

    fn tell_surface(&self, known: SurfaceKnown) {
        if self.options.pairing.try_send(known).is_err() {
            debug!("pairing actor does not take messages");
        }
    }

    // --- deadlines ------------------------------------------------------------------------------

    /// Ends the connection when nothing arrived for too long, and forgets unanswered requests.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let now = clock::since_boot();
        let silence = now.saturating_sub(self.last_inbound);
        if silence >= self.silence_limit {
            return self.give_up("tick timeout", ctx);
        }
        self.pending
            .retain(|_, (sent, _)| now.saturating_sub(*sent) < REQUEST_DEADLINE);
        // Looks at least every second half of the limit, so that waking from a suspend is noticed.
        let wait = (self.silence_limit - silence).min(self.silence_limit / 2);
        let next = ctx.run_later(wait.max(Duration::from_millis(10)), Self::watch);
        if let Some(superseded) = self.watchdog.replace(next) {
            ctx.cancel_future(superseded);
        }
    }

    fn on_dialed(
        &mut self,
        dialed: Result<(Outbound, Writer, Messages), DialError>,
        ctx: &mut Context<Self>,
    ) {
        let (outbound, writer, messages) = match dialed {
            Ok(parts) => parts,
            Err(error) => return self.end(Ended::Unreachable, None, error.to_string(), ctx),
        };
        self.outbound = Some(outbound);
        self.phase = Phase::Greeting;
        self.last_inbound = clock::since_boot();
        ctx.add_stream(messages);
        ctx.spawn(writer.run().into_actor(self).map(|written, actor, ctx| {
            let reason = written.err().unwrap_or_default();
            actor.closed(Close::new(CloseCode::Abnormal, &reason), ctx);
        }));
        ctx.run_later(CHALLENGE_DEADLINE, |actor, ctx| {
            if matches!(actor.phase, Phase::Greeting) {
                actor.give_up("connect challenge timeout", ctx);
            }
        });
        self.watch(ctx);
    }
}

impl Actor for Connection {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        let endpoint = Rc::clone(&self.options.endpoint);
        let dial = async move { socket::dial(&endpoint).await };
        ctx.spawn(
            dial.into_actor(self)
                .map(|dialed, actor, ctx| actor.on_dialed(dialed, ctx)),
        );
    }
}

impl StreamHandler<SocketMessage> for Connection {
    fn handle(&mut self, message: SocketMessage, ctx: &mut Context<Self>) {
        self.last_inbound = clock::since_boot();
        match message {
            SocketMessage::Text(text) => self.on_text(&text, ctx),
            SocketMessage::Ping(payload) => {
                let answered = self
                    .outbound
                    .as_ref()
                    .map(|outbound| outbound.pong(payload));
                if let Some(Err(full)) = answered {
                    self.give_up(&full.to_string(), ctx);
                }
            }
            SocketMessage::Alive => {}
            SocketMessage::Ignored(what) => debug!(what, "message ignored"),
            SocketMessage::Closed(close) => {
                if let Some(outbound) = &self.outbound {
                    // The peer waits for the echo of its code, but has closed either way.
                    outbound.close(&Close::new(CloseCode::Normal, "")).ok();
                }
                self.closed(close, ctx);
            }
        }
    }

    /// The stream always delivers how it ended first.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<InvokeAnswer> for Connection {
    type Result = ();

    fn handle(&mut self, answer: InvokeAnswer, ctx: &mut Context<Self>) {
        if !self.invokes.contains_key(&answer.id) {
            return debug!(invoke = %answer.id, "answer to a cancelled invoke dropped");
        }
        let Some(event) = answer.event.clone() else {
            return self.send_result(answer, ctx);
        };
        if answer.result.is_ok() {
            self.send_event(&event, Pending::Event, ctx);
            return self.send_result(answer, ctx);
        }
        self.send_event_before_result(answer, event, 0, ctx);
    }
}

/// What could not be sent is not needed any more.
fn discard<T>(error: SendError<T>) -> SendError<()> {
    match error {
        SendError::Full(_) => SendError::Full(()),
        SendError::Closed(_) => SendError::Closed(()),
    }
}

/// Whether the gateway says itself that it will take something later.
fn may_resend(error: &GatewayError, resends: u32, limit: u32) -> bool {
    error.retryable == Some(true) && resends < limit
}

fn resend_after(resends: u32) -> Duration {
    RESEND_AFTER * (1 << resends.min(RESULT_RESENDS))
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

impl Handler<Disconnect> for Connection {
    type Result = ();

    fn handle(&mut self, _: Disconnect, ctx: &mut Context<Self>) {
        let close = Close::new(CloseCode::Normal, "");
        let Some(outbound) = &self.outbound else {
            return self.end(Ended::Unreachable, None, "stopped".to_owned(), ctx);
        };
        // The writer ends after the frame, which ends the connection; the timer is for a peer
        // that takes nothing any more.
        outbound.close(&close).ok();
        ctx.run_later(CLOSE_FLUSH, move |actor, ctx| actor.closed(close, ctx));
    }
}
