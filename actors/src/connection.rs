//! Connection: one WebSocket to the gateway, from dialling to its end.
//!
//! It owns the socket and nothing else. What arrives is decoded and handed on; it never waits for
//! whoever carries an invoke out. It lives for one attempt: whatever ends it is reported once, and
//! the supervisor makes a fresh one with the next generation number.

mod answers;
mod handshake;
mod invokes;
mod requests;
mod surface;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use node_config::Reach;
use protocol::close::{Close, CloseCode};
use protocol::connect::{CHALLENGE_DEADLINE, HELLO_DEADLINE, NodeDescription, ProtocolVersion};
use protocol::credentials::Auth;
use protocol::failure::ConnectFailure;
use protocol::frame::{EventFrame, ServerFrame};
use protocol::hello::GatewayRelease;
use protocol::identity::DeviceIdentity;
use protocol::invoke::InvokeId;
use protocol::pairing::PollSchedule;
use protocol::reconnect::Ended;
use serde_json::value::RawValue;
use tracing::{debug, info};

pub(crate) use self::answers::InvokeAnswer;
pub(crate) use self::handshake::KEEP_TOKEN_DEADLINE;
pub(crate) use self::requests::AskSkillBins;
use self::requests::Pending;
use crate::approval::{Approval, ConnectionLost};
use crate::browser::{Browser, CancelBrowserCalls};
use crate::clock;
use crate::pairing::Pairing;
use crate::socket::{self, DialError, Message as SocketMessage, Messages, Outbound, Writer};
use crate::supervisor::{ConnectionEnded, Supervisor};
use crate::watchdog::{Due, Health, Probe};

/// How long our own close frame may take to leave (wire protocol §14).
const CLOSE_FLUSH: Duration = Duration::from_millis(250);
/// After this the answer to a request is not waited for any more (§12).
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Answers and messages that may wait for this actor before their senders have to.
const MAILBOX: usize = 4096;

/// What one attempt needs to know.
pub(crate) struct ConnectionOptions {
    /// Counts the attempts of this process; part of every log line and message.
    pub(crate) generation: u64,
    /// Where to connect to.
    pub(crate) endpoint: Rc<node_config::endpoint::PlannedEndpoint>,
    /// By which way.
    pub(crate) reach: Rc<Reach>,
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
    /// By when the silence has to be looked at again.
    next_watch: Due,
    next_request: u64,
    pending: HashMap<String, (Duration, Pending)>,
    /// Invokes that the gateway still waits for, with the node id to echo.
    invokes: HashMap<InvokeId, String>,
    surface_refusals: u32,
    surface_polls: PollSchedule,
    host_stats_timer: Option<SpawnHandle>,
    /// Whether the connect request was sent, with all that it tells.
    presented: bool,
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
            next_watch: Due::NOTHING,
            next_request: 0,
            pending: HashMap::new(),
            invokes: HashMap::new(),
            surface_refusals: 0,
            surface_polls: PollSchedule::default(),
            host_stats_timer: None,
            presented: false,
            reported: false,
        }
        .start()
    }

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
                presented: self.presented,
            };
            let supervisor = self.options.supervisor.clone();
            let approval = self.options.approval.clone();
            let browser = self.options.browser.clone();
            let told = futures_util::future::join3(
                approval.send(ConnectionLost { generation }),
                browser.send(CancelBrowserCalls(generation)),
                supervisor.send(report),
            );
            // Outlives this actor: all must hear of it whatever the state of their mailboxes, and
            // none waits for another, or a busy commands' thread would delay the next attempt.
            actix::spawn(async move {
                let (approval, browser, supervisor) = told.await;
                let gone = [
                    (approval.is_err(), "approval actor is gone"),
                    (browser.is_err(), "browser actor is gone"),
                    (supervisor.is_err(), "supervisor is gone"),
                ];
                for (_, message) in gone.iter().filter(|(is_gone, _)| *is_gone) {
                    debug!(generation, "{message}");
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
        self.next_watch = Due::within(wait, "the silence of the gateway is not watched");
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
        let reach = Rc::clone(&self.options.reach);
        let dial = async move { socket::dial(&endpoint, &reach).await };
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

impl Handler<Probe> for Connection {
    type Result = Health;

    fn handle(&mut self, _: Probe, _: &mut Context<Self>) -> Health {
        self.next_watch.health()
    }
}
