//! Acts on a page (browser proxy §6).
//!
//! ```text
//! request   one type per kind of act; read makes it of a body
//! perform   does one act, batch several
//! target    finds the element and waits until it can be acted on
//! mouse, keyboard, edit, wait, evaluate: what is done
//! failure   what is said when it cannot be done
//! ```

mod batch;
pub(crate) mod edit;
mod evaluate;
pub(crate) mod failure;
mod keyboard;
mod keys;
mod mouse;
mod perform;
mod read;
pub(crate) mod request;
pub(crate) mod target;
pub(crate) mod wait;

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::batch::batch;
use self::perform::{GRACE, Performer};
use self::request::{Act, Kind};
use crate::browser::Browser;
use crate::browser::downloads::{DownloadError, Mark};
use crate::request::{ActCode, Reply, Request, RouteError};
use crate::routes::Page;

/// How long an act waits for the downloads that it began.
const DOWNLOADS_WITHIN: Duration = Duration::from_secs(1);

/// `POST /act`.
///
/// # Errors
/// [`RouteError`].
pub async fn act(browser: &Rc<Browser>, request: &Request) -> Reply {
    let evaluate_enabled = browser.options().settings.evaluate_enabled;
    let act = Act::read(&request.body, evaluate_enabled)?;
    let page = Page::of(browser, request).await?;
    for named in act.batched_target_ids() {
        let resolved = page.browser.resolve(&page.live, Some(named)).await;
        if resolved.as_deref() != Ok(page.tab.target_id()) {
            return Err(RouteError::act(
                403,
                ActCode::TargetIdMismatch,
                "batched action targetId must match request targetId",
            ));
        }
    }
    if act.kind == Kind::Close {
        let url = page.tab.url();
        page.live.close(page.tab.target_id()).await?;
        return Ok(page.answer_at(&url, json!({})));
    }
    let since = page.live.downloads.mark();
    let performer = Performer {
        page: &page,
        evaluate_enabled,
    };
    let done = if page.tab.is_blocked() {
        None
    } else {
        page.tab.unless_blocked(answer(&performer, &act)).await
    };
    let Some(done) = done else {
        let state = page.tab.state().dialogs.to_state();
        return Ok(page.answer(json!({"blockedByDialog": true, "browserState": state})));
    };
    let downloads = downloads(&page, since).await?;
    let mut members = done?;
    if !downloads.is_empty() {
        members.insert("downloads".to_owned(), Value::Array(downloads));
    }
    Ok(page.answer(Value::Object(members)))
}

/// What an act adds to its answer.
async fn answer(performer: &Performer<'_>, act: &Act) -> Result<Map<String, Value>, RouteError> {
    if let Kind::Batch {
        acts,
        stops_on_error,
    } = &act.kind
    {
        let outcome = batch(performer, acts, *stops_on_error, 0).await;
        return Ok(outcome.members());
    }
    let value = performer.perform(act, 0).await?;
    Ok(value
        .map(|value| ("result".to_owned(), value))
        .into_iter()
        .collect())
}

/// What the page began to download. One that takes longer goes on without the act.
async fn downloads(page: &Page, since: Mark) -> Result<Vec<Value>, RouteError> {
    let deadline = Instant::now() + DOWNLOADS_WITHIN;
    let is_meant = |frame: &str| page.tab.owns_frame(frame);
    let downloads = &page.live.downloads;
    let mut saved = Vec::new();
    while downloads.has_begun(since, is_meant) {
        match downloads.take_next(since, is_meant, None, deadline).await {
            Ok(download) => saved.push(download.to_json()),
            Err(DownloadError::Deadline) => break,
            Err(error) => return Err(RouteError::failed(error)),
        }
        // Another one may follow at once.
        let more = deadline.min(Instant::now() + GRACE);
        downloads.begins(since, is_meant, more).await;
    }
    Ok(saved)
}
