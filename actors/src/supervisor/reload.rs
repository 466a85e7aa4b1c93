//! SIGHUP: everything is read again. Running commands and the connection stay; what was read
//! counts from the next command and the next connection on.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use protocol::connect::NodeDescription;
use protocol::reconnect::{Decision, Next};
use sd_notify::NotifyState;
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::{ConnectionEnded, State, Supervisor};
use crate::announce::Severity;
use crate::credential_source::CredentialSources;
use crate::reload::{PolicyReloaded, Reloaded, SettingsReloaded};
use crate::watchdog::Due;
use crate::{bounds, notify};

/// Longest wait for everything to be read: four credentials, from programs that may take the two
/// minutes that can be configured at most (config §4.1).
const DEADLINE: Duration = Duration::from_secs(8 * 60 + 10);

/// Read everything again.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct ReloadRequested(pub(super) ReloadCause);

/// Why everything is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReloadCause {
    /// A credential is held back, and a file that may say another one was changed.
    ChangedFile,
    /// SIGHUP: somebody wants the node to go on.
    Operator,
}

/// Whether a reload is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reloading {
    #[default]
    No,
    Yes,
    /// There was cause for it again meanwhile, perhaps after another change.
    AndOnceMore(ReloadCause),
}

impl Supervisor {
    pub(super) fn watch_reload(&self, ctx: &mut Context<Self>) {
        match signal(SignalKind::hangup()) {
            Ok(mut stream) => {
                let supervisor = ctx.address();
                let watch = async move {
                    while stream.recv().await.is_some() {
                        if supervisor
                            .send(ReloadRequested(ReloadCause::Operator))
                            .await
                            .is_err()
                        {
                            break;
                        }
                    }
                };
                ctx.spawn(watch.into_actor(self));
            }
            Err(error) => error!(%error, "SIGHUP cannot be watched; it will end the node"),
        }
    }

    /// Reads everything on a thread of its own, and hands it to `then`.
    fn read_again(
        &self,
        has_device_token: bool,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, Result<Reloaded, String>, &mut Context<Self>) + 'static,
    ) {
        let reload = Arc::clone(&self.reload.read);
        let read = tokio::task::spawn_blocking(move || reload(has_device_token));
        let read = tokio::time::timeout(DEADLINE, read);
        ctx.spawn(read.into_actor(self).map(|read, actor, ctx| {
            let read = match read {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!(
                    "not done within {}",
                    humantime::format_duration(DEADLINE)
                )),
            };
            then(actor, read, ctx);
        }));
    }

    fn use_shared(
        &mut self,
        token: Option<SecretString>,
        password: Option<SecretString>,
        sources: CredentialSources,
    ) {
        self.credentials.set_shared(token, password);
        self.credential_sources = sources;
    }

    fn take_over(&mut self, reloaded: Reloaded) {
        let Reloaded {
            token,
            password,
            credential_sources,
            exec_config,
            settings,
            environment,
        } = reloaded;
        self.use_shared(token, password, credential_sources);
        self.node = std::rc::Rc::new(NodeDescription {
            path_env: environment.search_path().to_string_lossy().into_owned(),
            ..(*self.node).clone()
        });
        let policy = PolicyReloaded {
            config: exec_config,
            environment: environment.clone(),
        };
        if self.family.approval.try_send(policy).is_err() {
            error!("approval actor does not take messages; the old policy counts");
        }
        let settings = SettingsReloaded {
            settings: settings.exec,
            bounds: bounds(settings.journal),
            environment,
        };
        if self.family.exec.try_send(settings).is_err() {
            error!("exec actor does not take messages; the old settings count");
        }
    }

    /// Follows a decision after the device token was forgotten. While there was one, the other
    /// credentials may not even have been looked at.
    pub(super) fn follow_without_device_token(
        &mut self,
        decision: Decision,
        ended: ConnectionEnded,
        ctx: &mut Context<Self>,
    ) {
        if !matches!(decision.next, Next::Exit) || self.credentials.has_other_than_device_token() {
            return self.follow(decision, ended, ctx);
        }
        self.due = Due::within(DEADLINE, "the credentials are not read again");
        self.read_again(false, ctx, move |actor, read, ctx| {
            if actor.is_past(&ended) {
                return;
            }
            let found = read.is_ok_and(|read| {
                actor.use_shared(read.token, read.password, read.credential_sources);
                actor.credentials.has_other_than_device_token()
            });
            if !found {
                return actor.follow(decision, ended, ctx);
            }
            info!("connecting with the credential that is configured");
            actor.enter(State::Connecting);
            actor.connect(ctx);
        });
    }
}

impl Handler<ReloadRequested> for Supervisor {
    type Result = ();

    fn handle(&mut self, ReloadRequested(cause): ReloadRequested, ctx: &mut Context<Self>) {
        if self.lifecycle.is_stopping() {
            return;
        }
        match self.reloading {
            Reloading::No => self.reloading = Reloading::Yes,
            Reloading::Yes => return self.reloading = Reloading::AndOnceMore(cause),
            Reloading::AndOnceMore(other) => {
                return self.reloading = Reloading::AndOnceMore(cause.max(other));
            }
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let held_back: Vec<_> = self
            .credentials
            .select(false)
            .secrets()
            .into_iter()
            .cloned()
            .collect();
        let has_device_token = self.credentials.has_device_token();
        self.read_again(has_device_token, ctx, move |actor, read, ctx| {
            match read {
                Ok(reloaded) => {
                    actor.take_over(reloaded);
                    actor.announcer.line(
                        Severity::Notice,
                        "openclaw-node: configuration and credentials were read again",
                    );
                }
                Err(error) => actor.announcer.line(
                    Severity::Error,
                    &format!(
                        "openclaw-node: nothing was reloaded, everything stays as it was: {error}"
                    ),
                ),
            }
            notify(&[NotifyState::Ready]);
            // What was changed may be just what the node waits for.
            if cause == ReloadCause::Operator || actor.presents_other_than(&held_back) {
                actor.connect(ctx);
            }
            match std::mem::take(&mut actor.reloading) {
                Reloading::AndOnceMore(again) => ctx.notify(ReloadRequested(again)),
                Reloading::No | Reloading::Yes => {}
            }
        });
    }
}
