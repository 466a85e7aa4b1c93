//! Files that are given to a page in advance, for the next file chooser that it opens.

use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::debug;

use super::Tab;
use crate::cdp::Session;

/// What is known of file choosers.
#[derive(Debug, Default)]
pub struct Chooser {
    armed: Option<(Instant, Vec<PathBuf>)>,
    /// How many choosers were given files.
    pub served: u64,
    /// Why the last one was not.
    pub failure: Option<String>,
}

impl Chooser {
    /// Gives these files to the next chooser that opens before `until`.
    pub fn arm(&mut self, files: Vec<PathBuf>, until: Instant) {
        self.armed = Some((until, files));
        self.failure = None;
    }

    /// Whether files wait for a chooser.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// No chooser came.
    pub fn disarm(&mut self) {
        self.armed = None;
    }
}

/// A chooser would open.
pub(super) fn on_opened(tab: &Rc<Tab>, session: Session, params: &Value) {
    let armed = tab.change(|state| state.chooser.armed.take());
    let Some((_, files)) = armed.filter(|(until, _)| *until > Instant::now()) else {
        return;
    };
    let files: Vec<String> = files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let node = params.get("backendNodeId").cloned().unwrap_or_default();
    let tab = Rc::clone(tab);
    actix_rt::spawn(async move {
        let given = json!({"files": files, "backendNodeId": node});
        let set = session.call("DOM.setFileInputFiles", given).await;
        let off = json!({"enabled": false});
        if let Err(error) = session
            .call("Page.setInterceptFileChooserDialog", off)
            .await
        {
            debug!(%error, "a page was gone before its file chooser was let go of");
        }
        tab.change(|state| match set {
            Ok(_) => state.chooser.served += 1,
            Err(error) => state.chooser.failure = Some(error.to_string()),
        });
    });
}
