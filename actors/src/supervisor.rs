//! Supervisor: owns the process. It makes connections, decides what follows their end, and is the
//! only one who ends the process.
//!
//! `actix::Supervisor` would restart at once and for ever, and could neither wait nor stop; here
//! each end of a connection goes through the pure policy of [`protocol::reconnect`], and a fresh
//! connection actor is made with the next generation number, or the process exits with a code.

mod reload;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use node_config::endpoint::PlannedEndpoint;
use protocol::close::{Close, CloseCode};
use protocol::connect::NodeDescription;
use protocol::credentials::Credentials;
use protocol::failure::{ConnectFailure, FailureCode};
use protocol::identity::DeviceIdentity;
use protocol::reconnect::{Decision, Ended, Next, Reconnect, Situation};
use sd_notify::NotifyState;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info};

use self::reload::Reloading;
use crate::announce::{self, Announcer};
use crate::approval::{Approval, Shutdown};
use crate::browser::{Browser, StopBrowsers};
use crate::connection::{Connection, ConnectionOptions, Disconnect};
use crate::exec::{ConnectionUp, Exec};
use crate::jitter;
use crate::pairing::{AwaitOperator, DeviceAccepted, OperatorTask, Pairing};
use crate::reload::Reload;
use crate::store::{ClearAuthFailure, ClearDeviceToken, RecordAuthFailure, Store, TokenScope};

/// Longest wait for the running commands to be gone at shutdown: TERM, 2 s, KILL, and a margin
/// for the kernel (interfaces: shutdown).
const STOP_COMMANDS: Duration = Duration::from_secs(5);
/// Longest wait for the connection's orderly end at shutdown.
const STOP_CONNECTION: Duration = Duration::from_secs(1);
/// Longest wait for the database while exiting.
const STORE_DEADLINE: Duration = Duration::from_secs(5);
/// Messages that may wait for this actor.
const MAILBOX: usize = 256;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// A terminal auth pause: only an operator can help.
    AuthPaused,
    /// SIGTERM.
    Terminated,
    /// SIGINT.
    Interrupted,
}

impl Exit {
    /// The process exit code (design: exit codes).
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::AuthPaused => 1,
            Self::Terminated => 143,
            Self::Interrupted => 130,
        }
    }
}

/// What the node is doing, as a service manager shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Waiting before the very first attempt (D19).
    HeldBack { wait: Duration },
    /// An attempt is under way, or the wait before the next.
    Connecting,
    /// In service.
    Connected {
        gateway_version: String,
        surface: SurfaceState,
    },
    /// The gateway waits for an operator to let this node in.
    AwaitingPairing { task: OperatorTask },
    /// On the way out.
    Stopping,
}

impl State {
    fn status_line(&self, url: &str) -> String {
        match self {
            Self::HeldBack { wait } => format!(
                "waiting {} before connecting: the gateway refused this credential last time",
                humantime::format_duration(*wait)
            ),
            Self::Connecting => format!("connecting to {url}"),
            Self::Connected {
                gateway_version,
                surface: SurfaceState::Pending { command },
            } => {
                format!(
                    "connected to {url} ({gateway_version}), commands await approval: {command}"
                )
            }
            Self::Connected {
                gateway_version, ..
            } => {
                format!("connected to {url} ({gateway_version})")
            }
            Self::AwaitingPairing {
                task: OperatorTask::ApproveDevice(pending),
            } => {
                format!("awaiting pairing: {}", pending.approval_command())
            }
            Self::AwaitingPairing {
                task: OperatorTask::WidenScopes,
            } => "awaiting approval of this node's scopes".to_owned(),
            Self::Stopping => "stopping".to_owned(),
        }
    }
}

/// What is known of the command surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SurfaceState {
    /// The gateway has not shown it.
    Unknown,
    /// Invokes come through.
    Approved,
    /// An operator has to approve it.
    Pending {
        /// With this command.
        command: String,
    },
}

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

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct StopRequested(Exit);

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
}

/// The supervisor actor.
pub(crate) struct Supervisor {
    endpoint: Rc<PlannedEndpoint>,
    node: Rc<NodeDescription>,
    identity: Rc<DeviceIdentity>,
    credentials: Credentials,
    token_scope: TokenScope,
    device_token: Option<SecretString>,
    /// What the latest attempt would present first, as the next start would: that is what a
    /// terminal failure is remembered of, also when a dead device token is forgotten meanwhile.
    presented: Vec<SecretString>,
    hold_back: Option<Duration>,
    family: Family,
    pairing: Option<Addr<Pairing>>,
    connection: Option<Addr<Connection>>,
    reconnect: Reconnect,
    generation: u64,
    state: State,
    announcer: Announcer,
    notified_ready: bool,
    reload: Reload,
    reloading: Reloading,
    /// Set once only the connection's end is waited for.
    stopping: Option<Exit>,
    exit: Rc<Cell<Option<Exit>>>,
}

impl Supervisor {
    /// Starts the supervisor; how the process ends is left in `exit` before the system stops.
    pub(crate) fn launch(
        options: SupervisorOptions,
        family: Family,
        exit: Rc<Cell<Option<Exit>>>,
    ) -> Addr<Self> {
        let token_scope = TokenScope {
            device_id: options.identity.device_id().as_str().to_owned(),
            gateway_scope: options.endpoint.scope(),
        };
        Self {
            endpoint: Rc::new(options.endpoint),
            node: Rc::new(options.node),
            identity: Rc::new(options.identity),
            credentials: options.credentials,
            token_scope,
            device_token: options.device_token,
            presented: Vec::new(),
            hold_back: options.hold_back,
            family,
            pairing: None,
            connection: None,
            reconnect: Reconnect::default(),
            generation: 0,
            state: State::Connecting,
            announcer: Announcer::default(),
            notified_ready: false,
            reload: options.reload,
            reloading: Reloading::No,
            stopping: None,
            exit,
        }
        .start()
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            debug!(state = ?state, generation = self.generation, "node state");
        }
        self.state = state;
        let status = self.state.status_line(&self.endpoint.url());
        notify(&[NotifyState::Status(&status)]);
    }

    fn connect(&mut self, ctx: &mut Context<Self>) {
        let Some(pairing) = self.pairing.clone() else {
            return;
        };
        if self.state == State::Stopping || self.connection.is_some() {
            return;
        }
        self.generation += 1;
        if !matches!(self.state, State::AwaitingPairing { .. }) {
            self.enter(State::Connecting);
        }
        let attempt = self.reconnect.attempt();
        let first_choice = self.credentials.select(false);
        self.presented = first_choice.secrets().into_iter().cloned().collect();
        debug!(generation = self.generation, ?attempt, "connecting");
        self.connection = Some(Connection::launch(ConnectionOptions {
            generation: self.generation,
            endpoint: Rc::clone(&self.endpoint),
            node: Rc::clone(&self.node),
            identity: Rc::clone(&self.identity),
            auth: self.credentials.select(attempt.add_device_token),
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

    fn connect_after(&self, wait: Duration, ctx: &mut Context<Self>) {
        debug!(wait = %humantime::format_duration(wait), "reconnecting");
        ctx.run_later(wait, Self::connect);
    }

    fn situation(&self, device_token_sent: bool) -> Situation {
        Situation {
            device_token_sent,
            device_token_stored: self.credentials.has_device_token(),
            token_configured: self.credentials.has_token(),
            other_credential_configured: self.credentials.has_other_than_device_token(),
            endpoint_trusted: self.endpoint.is_loopback() || self.endpoint.fingerprint().is_some(),
        }
    }

    fn follow(&mut self, decision: Decision, ended: ConnectionEnded, ctx: &mut Context<Self>) {
        match decision.next {
            Next::Reconnect { after } => {
                self.announcer.complain(complaint(&ended));
                self.enter(State::Connecting);
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
        let Some(pairing) = &self.pairing else { return };
        if pairing.try_send(AwaitOperator(task)).is_err() {
            error!("pairing actor does not take messages");
        }
    }

    fn exit_for_operator(&mut self, ended: &ConnectionEnded, ctx: &mut Context<Self>) {
        let close = ended
            .close
            .clone()
            .unwrap_or_else(|| Close::new(CloseCode::PolicyViolation, "connect failed"));
        let code = match &ended.ended {
            Ended::Refused(ConnectFailure {
                code: Some(code), ..
            }) => code.clone(),
            Ended::Refused(_) | Ended::Closed { .. } | Ended::Unreachable => {
                FailureCode::AuthDeviceTokenMismatch
            }
        };
        if let Ended::Refused(failure) = &ended.ended {
            self.announcer
                .line(&announce::connect_failed(&failure.error.message));
        }
        self.announcer.line(&announce::paused(&close, &code));
        self.announcer.line(&announce::closed(&close));
        if let Some(remedy) = announce::remedy(&code) {
            self.announcer.line(&format!("openclaw-node: {remedy}"));
        }
        self.enter(State::Stopping);
        let record = RecordAuthFailure {
            gateway_scope: self.token_scope.gateway_scope.clone(),
            secrets: std::mem::take(&mut self.presented),
            detail_code: code.name().to_owned(),
        };
        let recorded = self.family.store.send(record).timeout(STORE_DEADLINE);
        let browsers = self
            .family
            .browser
            .send(StopBrowsers)
            .timeout(STOP_COMMANDS);
        let recorded = async move {
            let (recorded, stopped) = futures_util::future::join(recorded, browsers).await;
            if let Err(error) = stopped {
                error!(%error, "browsers did not end in time");
            }
            recorded
        };
        ctx.spawn(recorded.into_actor(self).map(|recorded, actor, _| {
            if !matches!(recorded, Ok(Ok(()))) {
                error!("the failure is not remembered; the next start will try at once");
            }
            actor.leave(Exit::AuthPaused);
        }));
    }

    fn leave(&self, exit: Exit) {
        self.exit.set(Some(exit));
        System::current().stop();
    }

    fn stop(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        if self.state == State::Stopping {
            return debug!("already stopping; signal ignored");
        }
        self.enter(State::Stopping);
        notify(&[NotifyState::Stopping]);
        let commands_ended = self.family.approval.send(Shutdown).timeout(STOP_COMMANDS);
        let browsers_ended = self
            .family
            .browser
            .send(StopBrowsers)
            .timeout(STOP_COMMANDS);
        let all_ended = async move {
            let (commands, browsers) =
                futures_util::future::join(commands_ended, browsers_ended).await;
            if let Err(error) = browsers {
                error!(%error, "browsers did not end in time");
            }
            commands
        };
        ctx.spawn(all_ended.into_actor(self).map(move |ended, actor, ctx| {
            if let Err(error) = ended {
                error!(%error, "commands did not end in time");
            }
            actor.disconnect(exit, ctx);
        }));
    }

    /// Closes the connection and leaves when it has ended, or after a deadline.
    fn disconnect(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        self.stopping = Some(exit);
        let asked = self
            .connection
            .as_ref()
            .map(|connection| connection.try_send(Disconnect));
        match asked {
            Some(Ok(())) => {
                ctx.run_later(STOP_CONNECTION, move |actor, _| actor.leave(exit));
            }
            Some(Err(_)) | None => self.leave(exit),
        }
    }

    fn watch_signals(&self, ctx: &mut Context<Self>) {
        for (kind, exit) in [
            (SignalKind::terminate(), Exit::Terminated),
            (SignalKind::interrupt(), Exit::Interrupted),
        ] {
            match signal(kind) {
                Ok(mut stream) => {
                    let supervisor = ctx.address();
                    let watch = async move {
                        while stream.recv().await.is_some() {
                            if supervisor.send(StopRequested(exit)).await.is_err() {
                                break;
                            }
                        }
                    };
                    ctx.spawn(watch.into_actor(self));
                }
                Err(error) => {
                    error!(%error, "signal cannot be watched; it will end the node at once")
                }
            }
        }
    }

    /// Tells systemd that this actor still turns, at half of the interval that it asks for.
    fn feed_watchdog(ctx: &mut Context<Self>) {
        if let Some(interval) = sd_notify::watchdog_enabled() {
            ctx.run_interval(interval / 2, |_, _| notify(&[NotifyState::Watchdog]));
        }
    }
}

/// The line for an end that is followed by another attempt.
fn complaint(ended: &ConnectionEnded) -> String {
    match (&ended.ended, &ended.close) {
        (Ended::Unreachable, _) | (Ended::Closed { .. }, None) => {
            announce::connect_failed(&ended.detail)
        }
        (Ended::Refused(failure), _) => announce::connect_failed(&failure.error.message),
        (Ended::Closed { .. }, Some(close)) => announce::closed(close),
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager was not told");
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.watch_signals(ctx);
        self.watch_reload(ctx);
        Self::feed_watchdog(ctx);
        let pairing = Pairing::new(
            self.token_scope.clone(),
            self.device_token.take(),
            ctx.address(),
            self.family.store.clone(),
        );
        self.pairing = Some(pairing.start());
        match self.hold_back.take() {
            Some(wait) => {
                self.enter(State::HeldBack { wait });
                let status = self.state.status_line(&self.endpoint.url());
                self.announcer.line(&format!("openclaw-node: {status}"));
                notify(&[NotifyState::Ready]);
                self.notified_ready = true;
                ctx.run_later(wait, Self::connect);
            }
            None => self.connect(ctx),
        }
    }
}

impl Handler<ConnectionReady> for Supervisor {
    type Result = ();

    fn handle(&mut self, ready: ConnectionReady, _: &mut Context<Self>) {
        if ready.generation != self.generation || self.state == State::Stopping {
            return;
        }
        self.reconnect.connected();
        self.announcer.recovered();
        self.announcer
            .line(&announce::connected(&self.endpoint.url()));
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
            return self.leave(exit);
        }
        if self.state == State::Stopping {
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
        self.credentials.set_device_token(Some(kept.token));
    }
}

impl Handler<SurfaceChanged> for Supervisor {
    type Result = ();

    fn handle(&mut self, changed: SurfaceChanged, _: &mut Context<Self>) {
        if let State::Connected {
            gateway_version, ..
        } = &self.state
        {
            let gateway_version = gateway_version.clone();
            self.enter(State::Connected {
                gateway_version,
                surface: changed.0,
            });
        }
    }
}

impl Handler<StopRequested> for Supervisor {
    type Result = ();

    fn handle(&mut self, requested: StopRequested, ctx: &mut Context<Self>) {
        self.stop(requested.0, ctx);
    }
}
