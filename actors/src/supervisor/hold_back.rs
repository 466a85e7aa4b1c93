//! A credential that was refused for good is held back at the next start (D19), but only until
//! another one is where it came from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use sd_notify::NotifyState;
use secrecy::{ExposeSecret, SecretString};

use super::reload::{ReloadCause, ReloadRequested};
use super::{State, Supervisor};
use crate::announce::Severity;
use crate::notify;

/// How often the files of credentials are looked at; nobody who corrects one waits noticeably.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What tells a file that was written or replaced: device, inode, size, and the time of its last
/// change in seconds and nanoseconds. `None` for one that is not there.
type FileState = Option<(u64, u64, u64, i64, i64)>;

impl Supervisor {
    /// Waits before the first attempt, and looks meanwhile for another credential.
    pub(super) fn hold_back(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        // Whoever reads the line below may act on it at once.
        let files = states(&self.reload.credential_files);
        self.enter(State::HeldBack { wait });
        let status = self.lifecycle.state().status_line(&self.endpoint.url());
        self.announcer
            .line(Severity::Warning, &format!("openclaw-node: {status}"));
        notify(&[NotifyState::Ready]);
        self.notified_ready = true;
        self.connect_after(wait, ctx);
        self.watch_credentials(files, ctx);
    }

    fn watch_credentials(&mut self, before: Vec<FileState>, ctx: &mut Context<Self>) {
        let change = change(Arc::clone(&self.reload.credential_files), before);
        let watch = ctx.spawn(change.into_actor(self).map(|now, actor, ctx| {
            if let Some(now) = now {
                ctx.notify(ReloadRequested(ReloadCause::ChangedFile));
                actor.watch_credentials(now, ctx);
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
async fn change(files: Arc<[PathBuf]>, before: Vec<FileState>) -> Option<Vec<FileState>> {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let files = Arc::clone(&files);
        // A disk may be slow, and the supervisor must not wait for it.
        let now = tokio::task::spawn_blocking(move || states(&files))
            .await
            .ok()?;
        if now != before {
            return Some(now);
        }
    }
}

fn states(files: &[PathBuf]) -> Vec<FileState> {
    let state = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ))
    };
    files.iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_made_or_removed_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let [written, made, other] =
            ["written", "made", "other"].map(|name| folder.path().join(name));
        fs::write(&written, "a").unwrap();
        let files = [written.clone(), made.clone()];
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&written, "ab").unwrap(),
            &|| {
                fs::write(&other, "ab").unwrap();
                fs::rename(&other, &written).unwrap();
            },
            &|| fs::write(&made, "").unwrap(),
            &|| fs::remove_file(&written).unwrap(),
        ];
        for change in changes {
            let before = states(&files);
            assert_eq!(states(&files), before);
            change();
            assert_ne!(states(&files), before);
        }
    }
}
