//! Supervisor: owns the process. It makes connections, decides what follows their end, and is the
//! only one who ends the process.
//!
//! `actix::Supervisor` would restart at once and for ever, and could neither wait nor stop; here
//! each end of a connection goes through the pure policy of [`protocol::reconnect`], and a fresh
//! connection actor is made with the next generation number, or the process exits with a code.

mod ending;
mod hold_back;
mod reload;
mod state;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use node_config::Reach;
use node_config::endpoint::PlannedEndpoint;
use protocol::close::Close;
use protocol::connect::{CHALLENGE_DEADLINE, HELLO_DEADLINE, NodeDescription, UPGRADE_DEADLINE};
use protocol::credentials::Credentials;
use protocol::failure::{FailureClass, FailureCode};
use protocol::identity::DeviceIdentity;
use protocol::pairing::{LONGEST_POLL_WAIT, PairingRequired};
use protocol::reconnect::{Decision, Ended, Next, Reconnect, Situation};
use sd_notify::NotifyState;
use secrecy::SecretString;
use tracing::{debug, error, info};

pub use self::ending::{Ending, Exit};
use self::reload::Reloading;
pub(crate) use self::state::SurfaceState;
use self::state::{Lifecycle, State};
use crate::announce::{self, Announcer, Severity};
use crate::approval::Approval;
use crate::browser::Browser;
use crate::candidates::Candidates;
use crate::connection::{Connection, ConnectionOptions, KEEP_TOKEN_DEADLINE};
use crate::credential_source::CredentialSources;
use crate::exec::{ConnectionUp, Exec};
use crate::jitter;
use crate::notify;
use crate::pairing::{AwaitOperator, DeviceAccepted, OperatorTask, Pairing};
use crate::reload::Reload;
use crate::status::{LastExit, NodeStatus};
use crate::store::{ClearAuthFailure, ClearDeviceToken, NoteAlive, Store, TokenScope};
use crate::watchdog::{Due, Health, Probe, Watchdog};

/// Longest wait for the database while exiting.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time that an attempt may take to be in service or over, with the disk write in it.
const ATTEMPT: Duration = Duration::from_secs(
    UPGRADE_DEADLINE.as_secs()
        + CHALLENGE_DEADLINE.as_secs()
        + HELLO_DEADLINE.as_secs()
        + KEEP_TOKEN_DEADLINE.as_secs(),
);
/// How often the database is told that the node lives: what is known of one that was killed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(300);
/// How long a connection is in service before the code of the start is let go of.
const SETTLED: Duration = Duration::from_secs(1);
/// Messages that may wait for this actor.
const MAILBOX: usize = 256;

/// A connection is in service; its device token is on disk.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionReady {
    /// Which connection.
    pub(crate) generation: u64,
    /// The gateway's release.
    pub(crate) gateway_version: String,
    /// The gateway's name for the connection.
    pub(crate) connection_id: String,
    /// Whether the gateway shows the state of the command surface.
    pub(crate) shows_surface: bool,
}

/// A connection, or the attempt to make one, is over. Sent exactly once per connection actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionEnded {
    /// Which connection.
    pub(crate) generation: u64,
    /// How, as the policy sees it.
    pub(crate) ended: Ended,
    /// The close frame, if there was a WebSocket.
    pub(crate) close: Option<Close>,
    /// Why, in words.
    pub(crate) detail: String,
    /// The stored device token, if the attempt presented it.
    pub(crate) device_token: Option<SecretString>,
    /// Whether the connect request was sent.
    pub(crate) presented: bool,
}

/// Time to see whether an operator has acted.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct PollNow;

/// A device token is on disk and valid from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct TokenKept {
    /// The token.
    pub(crate) token: SecretString,
}

/// The command surface was approved, or waits for it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SurfaceChanged(pub(crate) SurfaceState);

/// Asks what the node is doing. Running commands are not this actor's to tell.
#[derive(Debug, Message)]
#[rtype(result = "NodeStatus")]
pub(crate) struct TellStatus;

/// The other actors of the tree.
pub(crate) struct Family {
    pub(crate) store: Addr<Store>,
    pub(crate) approval: Addr<Approval>,
    pub(crate) exec: Addr<Exec>,
    pub(crate) browser: Addr<Browser>,
}

/// What the supervisor needs to know.
pub(crate) struct SupervisorOptions {
    pub(crate) endpoint: PlannedEndpoint,
    pub(crate) reach: Reach,
    pub(crate) alternatives: Vec<(PlannedEndpoint, Reach)>,
    pub(crate) node: NodeDescription,
    pub(crate) identity: DeviceIdentity,
    /// What to present, the stored device token included.
    pub(crate) credentials: Credentials,
    /// The stored device token.
    pub(crate) device_token: Option<SecretString>,
    /// How long to hold back the first attempt (D19).
    pub(crate) hold_back: Option<Duration>,
    /// Reads everything again.
    pub(crate) reload: Reload,
    /// Where the shared credentials came from.
    pub(crate) credential_sources: CredentialSources,
    /// How the node last ended.
    pub(crate) last_exit: Option<LastExit>,
}

/// The supervisor actor.
pub(crate) struct Supervisor {
    endpoint: Rc<PlannedEndpoint>,
    reach: Rc<Reach>,
    candidates: Candidates,
    node: Rc<NodeDescription>,
    identity: Rc<DeviceIdentity>,
    credentials: Credentials,
    token_scope: TokenScope,
    device_token: Option<SecretString>,
    /// What the latest attempt would present first, as the next start would: that is what a
    /// terminal failure is remembered of, also when a dead device token is forgotten meanwhile.
    presented: Vec<SecretString>,
    hold_back: Option<Duration>,
    /// Looks for another credential while one is held back.
    credential_watch: Option<SpawnHandle>,
    family: Family,
    pairing: Option<Addr<Pairing>>,
    connection: Option<Addr<Connection>>,
    /// The wait before the next attempt.
    retry: Option<SpawnHandle>,
    reconnect: Reconnect,
    generation: u64,
    lifecycle: Lifecycle,
    credential_sources: CredentialSources,
    /// What the latest attempt presents.
    credential_source: Option<String>,
    /// What has to happen next, and by when.
    due: Due,
    announcer: Announcer,
    notified_ready: bool,
    reload: Reload,
    reloading: Reloading,
    /// Set once only the connection's end is waited for.
    stopping: Option<Exit>,
    ended: Rc<Cell<Option<Ending>>>,
}

impl Supervisor {
    /// Starts the supervisor; how the process ends is left in `ended` before the system stops.
    pub(crate) fn launch(
        options: SupervisorOptions,
        family: Family,
        ended: Rc<Cell<Option<Ending>>>,
    ) -> Addr<Self> {
        let token_scope = TokenScope {
            device_id: options.identity.device_id().as_str().to_owned(),
            gateway_scope: options.endpoint.scope(),
        };
        Self {
            endpoint: Rc::new(options.endpoint),
            reach: Rc::new(options.reach),
            candidates: Candidates::new(options.alternatives),
            node: Rc::new(options.node),
            identity: Rc::new(options.identity),
            credentials: options.credentials,
            token_scope,
            device_token: options.device_token,
            presented: Vec::new(),
            hold_back: options.hold_back,
            credential_watch: None,
            family,
            pairing: None,
            connection: None,
            retry: None,
            reconnect: Reconnect::default(),
            generation: 0,
            lifecycle: Lifecycle::new(options.last_exit),
            credential_sources: options.credential_sources,
            credential_source: None,
            due: Due::NOTHING,
            announcer: Announcer::default(),
            notified_ready: false,
            reload: options.reload,
            reloading: Reloading::No,
            stopping: None,
            ended,
        }
        .start()
    }

    fn enter(&mut self, state: State) {
        if *self.lifecycle.state() != state {
            debug!(state = ?state, generation = self.generation, "node state");
        }
        self.lifecycle.enter(state);
        let status = self.lifecycle.state().status_line(&self.endpoint.url());
        notify(&[NotifyState::Status(&status)]);
    }

    fn connect(&mut self, ctx: &mut Context<Self>) {
        let Some(pairing) = self.pairing.clone() else {
            return;
        };
        if self.lifecycle.is_stopping() || self.connection.is_some() {
            return;
        }
        let waiting = [self.retry.take(), self.credential_watch.take()];
        for handle in waiting.into_iter().flatten() {
            ctx.cancel_future(handle);
        }
        self.generation += 1;
        if matches!(self.lifecycle.state(), State::AwaitingPairing { .. }) {
            self.lifecycle.retrying();
        } else {
            self.enter(State::Connecting);
        }
        self.due = Due::within(ATTEMPT, "the attempt to connect is not over");
        let attempt = self.reconnect.attempt();
        let first_choice = self.credentials.select(false);
        self.presented = first_choice.secrets().into_iter().cloned().collect();
        let auth = self.credentials.select(attempt.add_device_token);
        self.credential_source = self.credential_sources.of(&auth);
        debug!(generation = self.generation, ?attempt, "connecting");
        self.connection = Some(Connection::launch(ConnectionOptions {
            generation: self.generation,
            endpoint: Rc::clone(&self.endpoint),
            reach: Rc::clone(&self.reach),
            node: Rc::clone(&self.node),
            identity: Rc::clone(&self.identity),
            auth,
            protocol: attempt.protocol,
            supervisor: ctx.address(),
            pairing,
            approval: self.family.approval.clone(),
            browser: self.family.browser.clone(),
        }));
        if !std::mem::replace(&mut self.notified_ready, true) {
            // Ready is "trying": a gateway that is down must not make the start fail.
            notify(&[NotifyState::Ready]);
        }
    }

    fn connect_after(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        debug!(wait = %humantime::format_duration(wait), "reconnecting");
        self.lifecycle.retry_after(wait);
        self.due = Due::within(wait, "the next attempt has not started");
        let retry = ctx.run_later(wait, Self::connect);
        if let Some(earlier) = self.retry.replace(retry) {
            ctx.cancel_future(earlier);
        }
    }

    /// Whether something else was begun since a connection ended: the end of the process, or the
    /// next attempt, which a reload makes at once.
    fn is_past(&self, ended: &ConnectionEnded) -> bool {
        self.lifecycle.is_stopping() || self.generation != ended.generation
    }

    /// Turns to the next of several endpoints, if the last attempt told this one nothing. Says
    /// whether it is tried at once: not when all of them were tried since the last wait.
    fn try_next_candidate(&mut self, ended: &ConnectionEnded, ctx: &mut Context<Self>) -> bool {
        let current = (Rc::clone(&self.endpoint), Rc::clone(&self.reach));
        let Some(next) = self.candidates.after(current) else {
            return false;
        };
        info!(
            endpoint = self.endpoint.url(),
            reason = ended.detail,
            "endpoint of the setup code does not answer"
        );
        (self.endpoint, self.reach) = next.destination;
        self.token_scope.gateway_scope = self.endpoint.scope();
        if next.at_once {
            self.connect(ctx);
        }
        next.at_once
    }

    fn situation(&self, device_token_sent: bool) -> Situation {
        Situation {
            device_token_sent,
            device_token_stored: self.credentials.has_device_token(),
            token_configured: self.credentials.has_token(),
            other_credential_configured: self.credentials.has_other_than_device_token(),
            endpoint_trusted: self.endpoint.is_loopback()
                || self.endpoint.fingerprint().is_some()
                || !self.reach.tls.pins.is_empty(),
        }
    }

    fn follow(&mut self, decision: Decision, ended: ConnectionEnded, ctx: &mut Context<Self>) {
        match decision.next {
            Next::Reconnect { after } => {
                self.announcer.complain(&complaint(&ended));
                self.enter(waiting_state(&ended.ended, after));
                self.connect_after(after, ctx);
            }
            Next::AwaitPairing(pending) => {
                self.await_operator(OperatorTask::ApproveDevice(pending));
            }
            Next::AwaitScope => self.await_operator(OperatorTask::WidenScopes),
            Next::Exit => self.exit_for_operator(&ended, ctx),
        }
    }

    fn await_operator(&mut self, task: OperatorTask) {
        self.enter(State::AwaitingPairing { task: task.clone() });
        self.due = Due::within(LONGEST_POLL_WAIT, "nobody looked again for an approval");
        let Some(pairing) = &self.pairing else { return };
        if pairing.try_send(AwaitOperator(task)).is_err() {
            error!("pairing actor does not take messages");
        }
    }

    /// Watches over every part of the node, if the service manager wants to know.
    fn start_watchdog(&self, ctx: &mut Context<Self>) {
        if let Some(interval) = sd_notify::watchdog_enabled() {
            let parts = [
                ("supervisor", ctx.address().recipient()),
                ("approval", self.family.approval.clone().recipient()),
                ("exec", self.family.exec.clone().recipient()),
                ("store", self.family.store.clone().recipient()),
            ];
            Watchdog::new(interval, parts).start();
        }
    }

    fn give_sign_of_life(&mut self, _: &mut Context<Self>) {
        let_go_of_code();
        if self.family.store.try_send(NoteAlive).is_err() {
            debug!("store does not take messages");
        }
    }
}

/// A node is idle most of its life, and what it executed to start or for its last command need not
/// stay mapped. What it needs again comes from the page cache.
fn let_go_of_code() {
    #[cfg(target_os = "linux")]
    match ::exec::code_pages::let_go() {
        Ok(()) => debug!("let go of code"),
        Err(error) => debug!(%error, "code that is not needed stays mapped"),
    }
}

/// What the node is doing while it waits for its next attempt.
fn waiting_state(ended: &Ended, wait: Duration) -> State {
    match ended {
        Ended::Refused(failure) if failure.class() == FailureClass::RateLimited => {
            State::RateLimited { wait }
        }
        Ended::Refused(_) | Ended::Closed { .. } | Ended::Unreachable => State::Connecting,
    }
}

/// The line for an end that is followed by another attempt.
fn complaint(ended: &ConnectionEnded) -> String {
    match (&ended.ended, &ended.close) {
        (Ended::Unreachable, _) | (Ended::Closed { .. }, None) => {
            announce::connect_failed(&ended.detail)
        }
        (Ended::Refused(failure), _) if failure.code == Some(FailureCode::PairingRequired) => {
            announce::approval_needed(&PairingRequired::of(&failure.error))
        }
        (Ended::Refused(failure), _) => announce::connect_failed(&failure.error.message),
        (Ended::Closed { .. }, Some(close)) => announce::closed(close),
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch_signals(ctx);
        self.watch_reload(ctx);
        self.start_watchdog(ctx);
        ctx.run_interval(SIGN_OF_LIFE, Self::give_sign_of_life);
        let kept_token = self.device_token.take();
        let kept_token = kept_token.map(|token| (self.token_scope.gateway_scope.clone(), token));
        let pairing = Pairing::new(
            self.token_scope.device_id.clone(),
            kept_token,
            ctx.address(),
            self.family.store.clone(),
        );
        self.pairing = Some(pairing.start());
        match self.hold_back.take() {
            Some(wait) => self.hold_back(wait, ctx),
            None => self.connect(ctx),
        }
    }
}

impl Handler<ConnectionReady> for Supervisor {
    type Result = ();

    fn handle(&mut self, ready: ConnectionReady, ctx: &mut Context<Self>) {
        if ready.generation != self.generation || self.lifecycle.is_stopping() {
            return;
        }
        self.due = Due::NOTHING;
        self.reconnect.connected();
        self.candidates.settle();
        self.announcer.recovered();
        self.announcer
            .line(Severity::Notice, &announce::connected(&self.endpoint.url()));
        info!(
            generation = ready.generation,
            connection = ready.connection_id,
            gateway = ready.gateway_version,
            "connected"
        );
        self.enter(State::Connected {
            gateway_version: ready.gateway_version,
            surface: SurfaceState::Unknown,
        });
        let accepted = DeviceAccepted {
            shows_surface: ready.shows_surface,
        };
        if let Some(Err(error)) = self
            .pairing
            .as_ref()
            .map(|pairing| pairing.try_send(accepted))
        {
            error!(%error, "pairing actor does not take messages");
        }
        if let Err(error) = self.family.exec.try_send(ConnectionUp(ready.generation)) {
            error!(%error, "exec actor does not take messages");
        }
        if let Err(error) = self.family.store.try_send(ClearAuthFailure) {
            error!(%error, "store does not take messages");
        }
        ctx.run_later(SETTLED, |_, _| let_go_of_code());
    }
}

impl Handler<ConnectionEnded> for Supervisor {
    type Result = ();

    fn handle(&mut self, mut ended: ConnectionEnded, ctx: &mut Context<Self>) {
        if ended.generation != self.generation {
            return debug!(generation = ended.generation, "an earlier connection ended");
        }
        self.connection = None;
        if let Some(exit) = self.stopping {
            return self.leave_as_asked(exit);
        }
        if self.lifecycle.is_stopping() {
            return;
        }
        self.lifecycle
            .note_end(ended.close.as_ref(), &complaint(&ended));
        if !ended.presented && self.try_next_candidate(&ended, ctx) {
            return;
        }
        let situation = self.situation(ended.device_token.is_some());
        let decision = self
            .reconnect
            .ended(&ended.ended, situation, jitter::random());
        let dead_token = ended
            .device_token
            .take()
            .filter(|_| decision.clear_device_token);
        let Some(token) = dead_token else {
            return self.follow(decision, ended, ctx);
        };
        self.credentials.set_device_token(None);
        self.due = Due::within(STORE_DEADLINE, "the dead device token is not forgotten");
        let clear = ClearDeviceToken {
            scope: self.token_scope.clone(),
            token,
        };
        let cleared = self.family.store.send(clear).timeout(STORE_DEADLINE);
        ctx.spawn(cleared.into_actor(self).map(move |cleared, actor, ctx| {
            match cleared {
                Ok(Ok(true)) => info!("dead device token forgotten"),
                Ok(Ok(false)) => debug!("the stored device token is another one already"),
                Ok(Err(error)) => error!(%error, "dead device token not forgotten"),
                Err(error) => error!(%error, "dead device token not forgotten"),
            }
            if actor.is_past(&ended) {
                return;
            }
            actor.follow_without_device_token(decision, ended, ctx);
        }));
    }
}

impl Handler<PollNow> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: PollNow, ctx: &mut Context<Self>) {
        self.connect(ctx);
    }
}

impl Handler<TokenKept> for Supervisor {
    type Result = ();

    fn handle(&mut self, kept: TokenKept, _: &mut Context<Self>) {
        // A setup code lets a device in once, and is worth nothing from here on (§7.7).
        if self.credentials.forget_bootstrap_token() {
            self.presented.clear();
        }
        self.credentials.set_device_token(Some(kept.token));
    }
}

impl Handler<SurfaceChanged> for Supervisor {
    type Result = ();

    fn handle(&mut self, changed: SurfaceChanged, _: &mut Context<Self>) {
        if let State::Connected {
            gateway_version, ..
        } = self.lifecycle.state()
        {
            let gateway_version = gateway_version.clone();
            self.enter(State::Connected {
                gateway_version,
                surface: changed.0,
            });
        }
    }
}

impl Handler<TellStatus> for Supervisor {
    type Result = MessageResult<TellStatus>;

    fn handle(&mut self, _: TellStatus, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.lifecycle.status(
            self.endpoint.url(),
            self.generation,
            self.credential_source.clone(),
        ))
    }
}

impl Handler<Probe> for Supervisor {
    type Result = ResponseFuture<Health>;

    /// Answers for its connection too, which comes and goes.
    fn handle(&mut self, probe: Probe, _: &mut Context<Self>) -> Self::Result {
        let health = self.due.health();
        let connection = self.connection.clone();
        Box::pin(async move {
            match (health, connection) {
                // A connection that ended meanwhile owes no answer.
                (Health::Well, Some(connection)) => {
                    connection.send(probe).await.unwrap_or(Health::Well)
                }
                (health, _) => health,
            }
        })
    }
}
