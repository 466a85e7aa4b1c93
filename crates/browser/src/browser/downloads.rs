//! What pages download: always into the managed folder, under a name that this node chooses
//! (browser proxy §7).

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use uuid::Uuid;

use crate::cdp::{CdpError, Session};
use crate::tab::text;

/// How many downloads are remembered.
const REMEMBERED: usize = 200;
/// The longest part of a suggested name that is kept, in bytes.
const NAME_BYTES: usize = 180;

/// Where a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    UnderWay,
    Completed,
    Cancelled,
}

#[derive(Debug, Clone)]
struct Download {
    number: u64,
    guid: String,
    frame: String,
    url: String,
    suggested: String,
    progress: Progress,
    is_taken: bool,
}

/// A download that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Where it came from.
    pub url: String,
    /// What the server or the page calls it.
    pub suggested: String,
    /// Where it is.
    pub path: PathBuf,
}

impl Saved {
    /// As routes answer it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "url": self.url,
            "suggestedFilename": self.suggested,
            "path": self.path.to_string_lossy(),
        })
    }
}

/// Why a download has no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// None began, or it did not end in time.
    #[error("Timeout waiting for download")]
    Deadline,
    /// The browser gave it up.
    #[error("Download was cancelled: {0}")]
    Cancelled(String),
    /// The file cannot be put where it belongs.
    #[error("Download could not be saved to {path}: {reason}")]
    NotSaved {
        /// Where it belongs.
        path: String,
        /// What the system said.
        reason: String,
    },
}

/// A point in time among downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// The downloads of a browser.
#[derive(Debug)]
pub struct Downloads {
    folder: PathBuf,
    count: Cell<u64>,
    known: RefCell<Vec<Download>>,
    changed: Notify,
}

impl Downloads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            count: Cell::new(0),
            known: RefCell::default(),
            changed: Notify::new(),
        }
    }

    pub(super) async fn enable(&self, browser: &Session) -> Result<(), CdpError> {
        crate::proxy::folder::make_private(&self.folder).unwrap_or_else(|error| {
            warn!(folder = %self.folder.display(), %error, "downloads have no folder");
        });
        let params = json!({
            "behavior": "allowAndName",
            "downloadPath": self.folder.to_string_lossy(),
            "eventsEnabled": true,
        });
        browser.call("Browser.setDownloadBehavior", params).await?;
        Ok(())
    }

    pub(super) fn observe(&self, method: &str, params: &Value) {
        let guid = text(params, "guid");
        let mut known = self.known.borrow_mut();
        if method == "Browser.downloadWillBegin" {
            self.count.set(self.count.get() + 1);
            known.push(Download {
                number: self.count.get(),
                guid: guid.to_owned(),
                frame: text(params, "frameId").to_owned(),
                url: text(params, "url").to_owned(),
                suggested: text(params, "suggestedFilename").to_owned(),
                progress: Progress::UnderWay,
                is_taken: false,
            });
            if known.len() > REMEMBERED {
                known.remove(0);
            }
        } else if let Some(download) = known.iter_mut().find(|known| known.guid == guid) {
            download.progress = match text(params, "state") {
                "completed" => Progress::Completed,
                "canceled" => Progress::Cancelled,
                _ => Progress::UnderWay,
            };
        }
        self.changed.notify_waiters();
    }

    /// Now: only downloads that begin later are meant.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.count.get())
    }

    /// Whether a download of one of these frames began since.
    #[must_use]
    pub fn has_begun(&self, since: Mark, is_meant: impl Fn(&str) -> bool) -> bool {
        self.known.borrow().iter().any(|download| {
            download.number > since.0 && !download.is_taken && is_meant(&download.frame)
        })
    }

    /// Waits until a download of one of these frames begins, at most until `deadline`.
    pub async fn begins(
        &self,
        since: Mark,
        is_meant: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> bool {
        loop {
            let changed = self.changed.notified();
            if self.has_begun(since, &is_meant) {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// Waits for the next download of one of these frames to be complete, and puts it at `target` or,
    /// without one, under a name of its own in the downloads folder.
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn take_next(
        &self,
        since: Mark,
        is_meant: impl Fn(&str) -> bool,
        target: Option<&Path>,
        deadline: Instant,
    ) -> Result<Saved, DownloadError> {
        loop {
            let changed = self.changed.notified();
            let ended = self
                .known
                .borrow_mut()
                .iter_mut()
                .find(|download| {
                    download.number > since.0 && !download.is_taken && is_meant(&download.frame)
                })
                .filter(|download| download.progress != Progress::UnderWay)
                .map(|download| {
                    download.is_taken = true;
                    download.clone()
                });
            if let Some(download) = ended {
                return self.save(download, target);
            }
            if timeout_at(deadline, changed).await.is_err() {
                return Err(DownloadError::Deadline);
            }
        }
    }

    fn save(&self, download: Download, target: Option<&Path>) -> Result<Saved, DownloadError> {
        if download.progress == Progress::Cancelled {
            return Err(DownloadError::Cancelled(download.url));
        }
        let path = target.map_or_else(
            || {
                let name = safe_name(&download.suggested);
                self.folder.join(format!("{}-{name}", Uuid::new_v4()))
            },
            Path::to_owned,
        );
        let received = self.folder.join(&download.guid);
        std::fs::rename(&received, &path).map_err(|error| DownloadError::NotSaved {
            path: path.to_string_lossy().into_owned(),
            reason: error.to_string(),
        })?;
        Ok(Saved {
            url: download.url,
            suggested: download.suggested,
            path,
        })
    }
}

/// A suggested name without anything that means more than a name.
fn safe_name(suggested: &str) -> String {
    let last = suggested.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .map(|c| {
            if c.is_control() || "<>:\"|?*".contains(c) {
                '_'
            } else {
                c
            }
        })
        .collect();
    let plain = plain.trim().trim_start_matches('.');
    let end = plain.floor_char_boundary(NAME_BYTES);
    match plain.get(..end) {
        Some(name) if !name.is_empty() => name.to_owned(),
        Some(_) | None => "download.bin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_stays_in_the_folder() {
        for (suggested, expected) in [
            ("file.bin", "file.bin"),
            ("../../etc/passwd", "passwd"),
            ("..\\x.txt", "x.txt"),
            (".bashrc", "bashrc"),
            ("..", "download.bin"),
            ("", "download.bin"),
            ("a\nb\"c", "a_b_c"),
        ] {
            assert_eq!(safe_name(suggested), expected, "{suggested}");
        }
        assert!(safe_name(&"ä".repeat(300)).len() <= NAME_BYTES);
    }
}
