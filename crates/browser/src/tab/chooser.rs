//! Files that are given to a page in advance, for the next file chooser that it opens.

use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Tab;
use crate::cdp::{CdpError, Session};
use crate::proxy::upload::Staged;

/// What is known of file choosers.
#[derive(Debug, Default)]
pub struct Chooser {
    armed: Option<Armed>,
    /// Uploads that the page was given: it may read them as long as it is there.
    kept: Vec<Rc<Staged>>,
    /// How many choosers were given files.
    pub served: u64,
    /// Why the last one was not.
    pub failure: Option<String>,
}

/// Files that wait for a chooser.
#[derive(Debug)]
struct Armed {
    until: Instant,
    files: Vec<PathBuf>,
    /// The upload that the files belong to; it goes with this unless a chooser takes them.
    upload: Option<Rc<Staged>>,
}

impl Chooser {
    /// Keeps an upload until the page is gone.
    pub fn keep(&mut self, upload: &Rc<Staged>) {
        if !self.kept.iter().any(|kept| Rc::ptr_eq(kept, upload)) {
            self.kept.push(Rc::clone(upload));
        }
    }

    /// The page is gone, and nobody reads its uploads any more.
    pub fn release(&mut self) {
        self.armed = None;
        self.kept.clear();
    }

    /// The page outlives this node's interest in it, and may still read what it was given.
    pub fn leave(&mut self) {
        self.armed = None;
        for upload in self.kept.drain(..) {
            upload.leave();
        }
    }
}

/// Gives these files to the next chooser that opens before `until`. Until then no chooser is shown.
///
/// # Errors
/// [`CdpError`].
pub async fn arm(
    tab: &Rc<Tab>,
    files: Vec<PathBuf>,
    upload: Option<Rc<Staged>>,
    until: Instant,
) -> Result<(), CdpError> {
    tab.change(|state| {
        state.chooser.armed = Some(Armed {
            until,
            files,
            upload,
        });
        state.chooser.failure = None;
    });
    let expiring = Rc::downgrade(tab);
    actix_rt::spawn(async move {
        sleep_until(until).await;
        let Some(tab) = expiring.upgrade() else {
            return;
        };
        let armed = tab.state().chooser.armed.as_ref().map(|armed| armed.until);
        if armed == Some(until) {
            disarm(&tab).await;
        }
    });
    let hold = json!({"enabled": true});
    tab.session()
        .call("Page.setInterceptFileChooserDialog", hold)
        .await?;
    Ok(())
}

/// No chooser came: the next one is the user's.
pub async fn disarm(tab: &Tab) {
    tab.change(|state| state.chooser.armed = None);
    let_go(tab).await;
}

/// Lets choosers be shown again, unless files wait for one by now.
async fn let_go(tab: &Tab) {
    if tab.state().chooser.armed.is_some() {
        return;
    }
    let off = json!({"enabled": false});
    let off = tab
        .session()
        .call("Page.setInterceptFileChooserDialog", off);
    if let Err(error) = off.await {
        debug!(%error, "a page was gone before its file choosers were let go of");
    }
}

/// A chooser would open.
pub(super) fn on_opened(tab: &Rc<Tab>, session: Session, params: &Value) {
    let armed = tab.change(|state| state.chooser.armed.take());
    let tab = Rc::clone(tab);
    let Some(armed) = armed.filter(|armed| armed.until > Instant::now()) else {
        actix_rt::spawn(async move { let_go(&tab).await });
        return;
    };
    let files: Vec<String> = armed
        .files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let node = params.get("backendNodeId").cloned().unwrap_or_default();
    actix_rt::spawn(async move {
        let given = json!({"files": files, "backendNodeId": node});
        let set = session.call("DOM.setFileInputFiles", given).await;
        let_go(&tab).await;
        tab.change(|state| match set {
            Ok(_) => {
                state.chooser.served += 1;
                if let Some(upload) = &armed.upload {
                    state.chooser.keep(upload);
                }
            }
            Err(error) => state.chooser.failure = Some(error.to_string()),
        });
    });
}
