//! What a page asks its user: `/dialogs`, `/hooks/dialog`, `/hooks/file-chooser` (browser proxy §7).

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::paths::upload_source;
use crate::act::edit::click_on;
use crate::act::request::{Click, Target};
use crate::act::target::{Elements, Limit, Need};
use crate::browser::Browser;
use crate::element::Object;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::chooser;
use crate::tab::dialogs::{ARMED_FOR, Answer};

/// How long an answer that is given in advance may count.
const ARMED_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));
/// How long an element may take to be ready.
const ELEMENT_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a dialog may take to be gone after its answer.
const CLOSING: Duration = Duration::from_secs(5);

/// `GET /dialogs`.
#[must_use]
pub fn dialogs(page: &Page) -> Value {
    let state = page.tab.state().dialogs.to_state();
    page.answer(json!({"browserState": state}))
}

/// `POST /hooks/dialog`: answers the open dialog, or the next one.
///
/// # Errors
/// No answer, or a dialog that is not open.
pub async fn dialog(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(accept) = request.flag("accept") else {
        return Err(RouteError::bad_request("accept is required"));
    };
    let answer = Answer {
        accept,
        prompt_text: request
            .body
            .get("promptText")
            .and_then(Value::as_str)
            .map(str::to_owned),
    };
    let page = Page::of(browser, request).await?;
    let named = request.text("dialogId");
    let (is_pending, is_named) = {
        let state = page.tab.state();
        let dialogs = &state.dialogs;
        (
            dialogs.is_pending(),
            named.is_none_or(|id| dialogs.is_open(id)),
        )
    };
    if let (false, Some(id)) = (is_named, named) {
        return Err(RouteError::failed(format_args!(
            "Dialog \"{id}\" is not pending."
        )));
    }
    if !is_pending {
        let (least, most) = ARMED_BOUNDS;
        let lasts = request.timeout_within(ARMED_FOR, least, most);
        page.tab.change(|state| state.dialogs.arm(answer, lasts));
        return Ok(json!({"ok": true}));
    }
    page.tab.change(|state| state.dialogs.answer());
    let params = answer.to_params();
    page.tab
        .session()
        .call("Page.handleJavaScriptDialog", params)
        .await?;
    let until = Instant::now() + CLOSING;
    page.tab
        .until(until, |state| !state.dialogs.is_closing())
        .await;
    Ok(json!({"ok": true}))
}

/// `POST /hooks/file-chooser`: gives files to an input, to the chooser that a click opens, or to the
/// next chooser.
///
/// # Errors
/// Files that are missing or refused; an element that takes none.
pub async fn file_chooser(browser: &Rc<Browser>, request: &Request) -> Reply {
    let named: Vec<&str> = request
        .body
        .get("paths")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|path| !path.trim().is_empty())
        .collect();
    if named.is_empty() {
        return Err(RouteError::bad_request("paths are required"));
    }
    let opener = request.text("ref").map(|text| Target::Ref(text.to_owned()));
    let input = match (request.text("inputRef"), request.text("element")) {
        (Some(reference), _) => Some(Target::Ref(reference.to_owned())),
        (None, Some(selector)) => Some(Target::Selector(selector.to_owned())),
        (None, None) => None,
    };
    if opener.is_some() && input.is_some() {
        return Err(RouteError::bad_request(
            "ref cannot be combined with inputRef/element",
        ));
    }
    let places = &browser.options().places;
    let (uploads, inbound) = (places.uploads_dir(), places.inbound_dir());
    let files: Vec<PathBuf> = named
        .iter()
        .map(|path| upload_source(path, &uploads, &inbound))
        .collect::<Result<_, _>>()?;
    let page = Page::of(browser, request).await?;
    let upload = request.upload.as_ref();
    if let Some(input) = input {
        set_files(&page, &input, &files).await?;
        if let Some(upload) = upload {
            page.tab.change(|state| state.chooser.keep(upload));
        }
    } else {
        let (least, most) = ARMED_BOUNDS;
        let until = Instant::now() + request.timeout_within(ARMED_FOR, least, most);
        let served = page.tab.state().chooser.served;
        chooser::arm(&page.tab, files, upload.cloned(), until).await?;
        if let Some(opener) = opener {
            open_chooser(&page, &opener, served, until).await?;
        }
    }
    Ok(json!({"ok": true}))
}

/// Clicks on what opens a chooser, and waits until the chooser has the files.
async fn open_chooser(
    page: &Page,
    opener: &Target,
    served: u64,
    until: Instant,
) -> Result<(), RouteError> {
    let limit = Limit::new(ELEMENT_TIMEOUT);
    if let Err(failure) = click_on(&page.tab, opener, &Click::default(), limit).await {
        chooser::disarm(&page.tab).await;
        return Err(failure.into());
    }
    let until = until.min(Instant::now() + ELEMENT_TIMEOUT);
    let is_served = page
        .tab
        .until(until, |state| {
            state.chooser.served > served || state.chooser.failure.is_some()
        })
        .await;
    let failure = page.tab.state().chooser.failure.clone();
    match failure {
        Some(failure) => Err(RouteError::failed(failure)),
        None if is_served => Ok(()),
        None => {
            chooser::disarm(&page.tab).await;
            Err(RouteError::failed("Timeout waiting for file chooser"))
        }
    }
}

async fn set_files(page: &Page, input: &Target, files: &[PathBuf]) -> Result<(), RouteError> {
    let elements = Elements {
        tab: &page.tab,
        call: "setInputFiles",
    };
    let files: Vec<String> = files
        .iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    let limit = Limit::new(ELEMENT_TIMEOUT);
    elements
        .act(input, &[Need::Attached], limit, async |element: &Object| {
            let params = json!({"files": files, "objectId": element.id()});
            element
                .session()
                .call("DOM.setFileInputFiles", params)
                .await?;
            Ok(Ok(()))
        })
        .await?;
    Ok(())
}
