//! The ways out: a terminal auth pause, a signal. Whatever runs is ended first, and the connection
//! closed in good order, each with a deadline.

use std::time::Duration;

use actix::prelude::*;
use protocol::close::{Close, CloseCode};
use protocol::failure::{ConnectFailure, FailureCode};
use protocol::reconnect::Ended;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error};

use super::{ConnectionEnded, STORE_DEADLINE, State, Supervisor};
use crate::announce::{self, Severity};
use crate::approval::Shutdown;
use crate::browser::StopBrowsers;
use crate::connection::Disconnect;
use crate::notify;
use crate::store::RecordAuthFailure;
use crate::watchdog::Due;

/// Longest wait for the running commands to be gone at shutdown: TERM, 2 s, KILL, and a margin
/// for the kernel (interfaces: shutdown).
const STOP_COMMANDS: Duration = Duration::from_secs(5);
/// Longest wait for the connection's orderly end at shutdown.
const STOP_CONNECTION: Duration = Duration::from_secs(1);

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
    /// What is remembered of it, where nothing more is known.
    const fn in_words(self) -> &'static str {
        match self {
            Self::AuthPaused => "the gateway refused this node",
            Self::Terminated => "stopped by SIGTERM",
            Self::Interrupted => "stopped by SIGINT",
        }
    }

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

/// How a node ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// As an exit code.
    pub exit: Exit,
    /// In words.
    pub reason: String,
}

#[derive(Debug, Message)]
#[rtype(result = "()")]
struct StopRequested(Exit);

impl Supervisor {
    pub(super) fn exit_for_operator(&mut self, ended: &ConnectionEnded, ctx: &mut Context<Self>) {
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
            self.announcer.line(
                Severity::Error,
                &announce::connect_failed(&failure.error.message),
            );
        }
        let paused = announce::paused(&close, &code);
        self.announcer.line(Severity::Error, &paused);
        self.announcer
            .line(Severity::Error, &announce::closed(&close));
        if let Some(remedy) = announce::remedy(&code) {
            self.announcer
                .line(Severity::Error, &format!("openclaw-node: {remedy}"));
        }
        self.enter(State::Stopping);
        notify(&[NotifyState::Stopping]);
        self.due = Due::within(STORE_DEADLINE.max(STOP_COMMANDS), "the node has not ended");
        let record = RecordAuthFailure {
            gateway_scope: self.token_scope.gateway_scope.clone(),
            secrets: std::mem::take(&mut self.presented),
            detail_code: code.name().to_owned(),
        };
        let recorded = self.family.store.send(record).timeout(STORE_DEADLINE);
        let done = futures_util::future::join(recorded, self.end_everything());
        ctx.spawn(done.into_actor(self).map(|(recorded, ()), actor, _| {
            if !matches!(recorded, Ok(Ok(()))) {
                error!("the failure is not remembered; the next start will try at once");
            }
            actor.leave(Exit::AuthPaused, paused);
        }));
    }

    /// Ends commands and browsers; done when they are gone, or after a deadline.
    fn end_everything(&self) -> impl Future<Output = ()> + use<> {
        let commands = self.family.approval.send(Shutdown).timeout(STOP_COMMANDS);
        let browsers = self
            .family
            .browser
            .send(StopBrowsers)
            .timeout(STOP_COMMANDS);
        async move {
            let (commands, browsers) = futures_util::future::join(commands, browsers).await;
            if let Err(error) = commands {
                error!(%error, "commands did not end in time");
            }
            if let Err(error) = browsers {
                error!(%error, "browsers did not end in time");
            }
        }
    }

    pub(super) fn leave(&self, exit: Exit, reason: String) {
        self.ended.set(Some(Ending { exit, reason }));
        System::current().stop();
    }

    /// Leaves as a signal asked to.
    pub(super) fn leave_as_asked(&self, exit: Exit) {
        self.leave(exit, exit.in_words().to_owned());
    }

    pub(super) fn stop(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        if self.lifecycle.is_stopping() {
            return debug!("already stopping; signal ignored");
        }
        self.enter(State::Stopping);
        notify(&[NotifyState::Stopping]);
        self.due = Due::within(STOP_COMMANDS + STOP_CONNECTION, "the node has not ended");
        ctx.spawn(
            self.end_everything()
                .into_actor(self)
                .map(move |(), actor, ctx| actor.disconnect(exit, ctx)),
        );
    }

    /// Closes the connection and leaves when it has ended, or after a deadline.
    pub(super) fn disconnect(&mut self, exit: Exit, ctx: &mut Context<Self>) {
        self.stopping = Some(exit);
        let asked = self
            .connection
            .as_ref()
            .map(|connection| connection.try_send(Disconnect));
        match asked {
            Some(Ok(())) => {
                ctx.run_later(STOP_CONNECTION, move |actor, _| actor.leave_as_asked(exit));
            }
            Some(Err(_)) | None => self.leave_as_asked(exit),
        }
    }

    pub(super) fn watch_signals(&self, ctx: &mut Context<Self>) {
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
}

impl Handler<StopRequested> for Supervisor {
    type Result = ();

    fn handle(&mut self, requested: StopRequested, ctx: &mut Context<Self>) {
        self.stop(requested.0, ctx);
    }
}
