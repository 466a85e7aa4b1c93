//! `POST /download` and `POST /wait/download` (browser proxy §7).

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::paths::download_target;
use crate::act::edit::click_on;
use crate::act::request::{Click, Target};
use crate::act::target::Limit;
use crate::browser::Browser;
use crate::browser::downloads::{DownloadError, Mark};
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;

/// How long a download may take unless the request says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// The least and the most that a request can ask for.
const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(600));
/// How long the element that begins it may take to be ready.
const CLICK_TIMEOUT: Duration = Duration::from_secs(8);

/// `POST /download`: clicks on an element and waits for what that downloads.
///
/// # Errors
/// Members that are missing or refused; no download in time.
pub async fn download(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(reference) = request.text("ref") else {
        return Err(RouteError::bad_request("ref is required"));
    };
    let Some(path) = request.text("path") else {
        return Err(RouteError::bad_request("path is required"));
    };
    let path = download_target(&browser.options().places.downloads_dir(), path)?;
    let page = Page::of(browser, request).await?;
    let since = page.live.downloads.mark();
    let deadline = Instant::now() + timeout(request);
    let target = Target::Ref(reference.to_owned());
    let limit = Limit::new(CLICK_TIMEOUT);
    click_on(&page.tab, &target, &Click::default(), limit).await?;
    answer(&page, since, Some(path), deadline).await
}

/// `POST /wait/download`: waits for whatever the page downloads next.
///
/// # Errors
/// A path that is refused; no download in time.
pub async fn wait(browser: &Rc<Browser>, request: &Request) -> Reply {
    let folder = browser.options().places.downloads_dir();
    let path = match request.text("path") {
        Some(path) => Some(download_target(&folder, path)?),
        None => None,
    };
    let page = Page::of(browser, request).await?;
    let since = page.live.downloads.mark();
    answer(&page, since, path, Instant::now() + timeout(request)).await
}

fn timeout(request: &Request) -> Duration {
    let (least, most) = TIMEOUT_BOUNDS;
    request.timeout_within(DEFAULT_TIMEOUT, least, most)
}

async fn answer(page: &Page, since: Mark, path: Option<PathBuf>, deadline: Instant) -> Reply {
    let is_meant = |frame: &str| page.tab.owns_frame(frame);
    let saved = page
        .live
        .downloads
        .take_next(since, is_meant, path.as_deref(), deadline)
        .await;
    let saved = saved.map_err(|error: DownloadError| RouteError::failed(error))?;
    Ok(json!({
        "ok": true,
        "targetId": page.tab.target_id(),
        "download": saved.to_json(),
    }))
}
