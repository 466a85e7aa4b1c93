//! A credential that was refused for good is held back at the next start (D19), but only until
//! another one is where it came from.

use std::time::Duration;

use actix::prelude::*;
use sd_notify::NotifyState;
use secrecy::{ExposeSecret, SecretString};

use super::reload::{ReloadCause, ReloadRequested};
use super::{State, Supervisor};
use crate::announce::Severity;
use crate::credential_files::CredentialFiles;
use crate::notify;

/// How often the files of credentials are looked at; nobody who corrects one waits noticeably.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Waits before the first attempt, and looks meanwhile for another credential.
    pub(super) fn hold_back(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        self.enter(State::HeldBack { wait });
        let status = self.lifecycle.state().status_line(&self.endpoint.url());
        self.announcer
            .line(Severity::Warning, &format!("openclaw-node: {status}"));
        notify(&[NotifyState::Ready]);
        self.notified_ready = true;
        self.connect_after(wait, ctx);
        self.watch_credentials(self.reload.credential_files.clone(), ctx);
    }

    fn watch_credentials(&mut self, files: CredentialFiles, ctx: &mut Context<Self>) {
        let watch = ctx.spawn(change(files).into_actor(self).map(|files, actor, ctx| {
            if let Some(files) = files {
                ctx.notify(ReloadRequested(ReloadCause::ChangedFile));
                actor.watch_credentials(files, ctx);
            }
        }));
        self.credential_watch = Some(watch);
    }

    /// Whether the next attempt presents something else than these secrets.
    pub(super) fn presents_other_than(&self, secrets: &[SecretString]) -> bool {
        let auth = self.credentials.select(false);
        let now = auth.secrets().into_iter().map(ExposeSecret::expose_secret);
        !now.eq(secrets.iter().map(ExposeSecret::expose_secret))
    }
}

/// Waits until one of the files is not what it was; `None` when the node ends first.
async fn change(mut files: CredentialFiles) -> Option<CredentialFiles> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // The supervisor must not wait for a disk.
        let look = tokio::task::spawn_blocking(move || (files.look(), files));
        let is_changed;
        (is_changed, files) = look.await.ok()?;
        if is_changed {
            return Some(files);
        }
    }
}
