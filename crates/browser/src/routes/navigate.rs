//! `POST /navigate` (browser proxy §7).

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::browser::Browser;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::{Tab, TabState, text};

/// How long a navigation may take unless the request says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// The least and the most that a request can ask for.
const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// How long a download that a navigation turned into may take to be told of.
const DOWNLOAD_GRACE: Duration = Duration::from_millis(500);

/// `POST /navigate`.
///
/// # Errors
/// A URL that is missing or refused; why the page did not load.
pub async fn navigate(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(url) = request.text("url") else {
        return Err(RouteError::bad_request("url is required"));
    };
    browser.policy().check(url).await?;
    let (least, most) = TIMEOUT_BOUNDS;
    let timeout = request.timeout_within(DEFAULT_TIMEOUT, least, most);
    let deadline = Instant::now() + timeout;
    let page = Page::anywhere(browser, request).await?;
    let tab = &page.tab;
    let since = page.live.downloads.mark();
    let is_meant = |frame: &str| tab.owns_frame(frame);
    let failure = match go(tab, url, deadline).await {
        Ok(()) => {
            browser.policy().check_place(&tab.url()).await?;
            return Ok(json!({"ok": true, "url": tab.url(), "targetId": tab.target_id()}));
        }
        Err(failure) => failure,
    };
    let soon = deadline.min(Instant::now() + DOWNLOAD_GRACE);
    if !failure.message.contains("net::ERR_ABORTED")
        || !page.live.downloads.begins(since, is_meant, soon).await
    {
        return Err(failure);
    }
    let saved = page
        .live
        .downloads
        .take_next(since, is_meant, None, deadline)
        .await
        .map_err(RouteError::failed)?;
    Ok(json!({
        "ok": true,
        "url": url,
        "targetId": tab.target_id(),
        "download": saved.to_json(),
    }))
}

/// Goes somewhere and waits until the page has loaded, or shows a dialog before it has.
///
/// # Errors
/// What the browser says, or that it took too long.
pub(super) async fn go(tab: &Tab, url: &str, deadline: Instant) -> Result<(), RouteError> {
    let began = Instant::now();
    let timeout = deadline.saturating_duration_since(began);
    let before = tab.change(|state| {
        state.interception.refused = None;
        state.document
    });
    let params = json!({"url": url});
    let asked = tab.session().call_within("Page.navigate", params, timeout);
    let Some(answer) = tab.unless_blocked(asked).await else {
        return Ok(());
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(crate::cdp::CdpError::Deadline { .. }) => return Err(too_late(url, timeout)),
        Err(error) => return Err(RouteError::failed(format_args!("page.goto: {error}"))),
    };
    if let Some(error) = answer.get("errorText").and_then(Value::as_str)
        && !error.is_empty()
    {
        if let Some(refused) = tab.state().interception.refused.clone() {
            return Err(RouteError::navigation_blocked(refused));
        }
        return Err(RouteError::failed(format_args!(
            "page.goto: {error} at {}{}",
            shown(url),
            call_log(url)
        )));
    }
    let loader = text(&answer, "loaderId").to_owned();
    if loader.is_empty() {
        // Within the document; there is nothing to wait for.
        return Ok(());
    }
    let has_loaded = |state: &TabState| {
        state.dialogs.is_pending()
            || state.is_gone
            || (state.document > before && state.lifecycle.contains("load"))
    };
    if !tab.until(deadline, has_loaded).await {
        return Err(too_late(url, timeout));
    }
    let state = tab.state();
    if state.is_gone {
        return Err(RouteError::failed("page.goto: Page crashed"));
    }
    match &state.interception.refused {
        Some(refused) => Err(RouteError::navigation_blocked(refused)),
        None => Ok(()),
    }
}

fn too_late(url: &str, timeout: Duration) -> RouteError {
    RouteError::new(
        500,
        format!(
            "TimeoutError: page.goto: Timeout {}ms exceeded.{}",
            timeout.as_millis(),
            call_log(url)
        ),
    )
}

fn call_log(url: &str) -> String {
    format!(
        "\nCall log:\n\u{1b}[2m  - navigating to \"{}\", waiting until \"load\"\u{1b}[22m\n",
        shown(url)
    )
}

/// As upstream shows it: without the slash that stands for no path at all.
fn shown(url: &str) -> &str {
    match url.strip_suffix('/') {
        Some(start) if start.matches('/').count() == 2 => start,
        Some(_) | None => url,
    }
}
