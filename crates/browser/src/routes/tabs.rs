//! `/tabs` and what is below it (browser proxy §4).

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::browser::Browser;
use crate::browser::live::Live;
use crate::browser::tabs::{self, ListedTab};
use crate::proxy::ownership;
use crate::request::{Reply, Request, RouteError};
use crate::tab::text;

/// How long a new page may take to arrive somewhere before it is answered where it is.
const ARRIVAL: Duration = Duration::from_secs(2);
/// Between two looks at a new page.
const ARRIVAL_PROBE: Duration = Duration::from_millis(15);
/// How long a new page may take to be listed.
const LISTED: Duration = Duration::from_secs(1);
/// How long a guarded page may take to load, before it is answered as it is.
const GUARDED_LOAD: Duration = Duration::from_secs(10);

/// `GET /tabs`.
///
/// # Errors
/// When the browser does not answer.
pub async fn list(browser: &Rc<Browser>) -> Reply {
    browser.check_driver()?;
    let Some(live) = browser.running().await else {
        return Ok(json!({"running": false, "tabs": []}));
    };
    Ok(json!({"running": true, "tabs": listed(browser, &live).await?}))
}

/// The pages as routes answer them; where one may not be is not told.
async fn listed(browser: &Rc<Browser>, live: &Rc<Live>) -> Result<Vec<Value>, RouteError> {
    let mut answered = Vec::new();
    for tab in browser.list_tabs(live).await? {
        let mut entry = tab.to_json();
        if browser.policy().guards()
            && browser.policy().check_place(&tab.url).await.is_err()
            && let Value::Object(members) = &mut entry
        {
            members.insert("url".to_owned(), "".into());
            members.insert("title".to_owned(), "".into());
            members.insert(
                "urlUnavailableReason".to_owned(),
                "navigation_blocked".into(),
            );
        }
        answered.push(entry);
    }
    Ok(answered)
}

/// `POST /tabs/open`.
///
/// # Errors
/// A URL that is missing or refused.
pub async fn open(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(url) = request.text("url") else {
        return Err(RouteError::bad_request("url is required"));
    };
    let (live, tab) = open_page(browser, url, request.text("label")).await?;
    let mut answer = tab.with(Some(ownership::of(browser, &live, &tab.id)));
    if let Value::Object(members) = &mut answer {
        members.insert(
            "resolvedProfile".to_owned(),
            browser.profile().name.as_str().into(),
        );
    }
    Ok(answer)
}

async fn open_page(
    browser: &Rc<Browser>,
    url: &str,
    label: Option<&str>,
) -> Result<(Rc<Live>, ListedTab), RouteError> {
    browser.policy().check(url).await?;
    if let Some(label) = label {
        tabs::check_label(label)?;
    }
    let live = browser.ensure().await?;
    let target = if browser.policy().guards() {
        guarded(browser, &live, url).await?
    } else {
        let target = live.create(url).await?;
        arrive(&live, &target, url).await?;
        target
    };
    if let Some(label) = label {
        browser.label(&target, label)?;
    }
    live.use_last(&target);
    let until = Instant::now() + LISTED;
    let tab = loop {
        if let Some(tab) = find(browser, &live, &target).await? {
            break tab;
        }
        if Instant::now() >= until {
            return Err(RouteError::failed("the page was closed at once"));
        }
        sleep(ARRIVAL_PROBE).await;
    };
    browser.close_excess(&live, &target).await;
    Ok((live, tab))
}

/// Opens a page that is looked at before it goes anywhere.
async fn guarded(browser: &Rc<Browser>, live: &Rc<Live>, url: &str) -> Result<String, RouteError> {
    let target = live.create("about:blank").await?;
    let tab = live.tab(&target).await?;
    if url == "about:blank" {
        return Ok(target);
    }
    let went = super::navigate::go(&tab, url, Instant::now() + GUARDED_LOAD).await;
    let refused = match went {
        Err(error) if error.status == 400 => Some(error),
        // Whatever else it is, the page shows it.
        Ok(_) | Err(_) => browser.policy().check_place(&tab.url()).await.err(),
    };
    if let Some(error) = refused {
        live.close(&target).await?;
        return Err(error);
    }
    Ok(target)
}

/// Waits until a new page has left the blank one: its first document is there.
async fn arrive(live: &Live, target: &str, url: &str) -> Result<(), RouteError> {
    if url == "about:blank" {
        return Ok(());
    }
    let session = live.cdp().attach(target).await?;
    let until = Instant::now() + ARRIVAL;
    loop {
        let tree = session.call("Page.getFrameTree", json!({})).await?;
        let at = tree
            .pointer("/frameTree/frame")
            .map_or("", |frame| text(frame, "url"));
        if !matches!(at, "" | ":" | "about:blank") || Instant::now() >= until {
            break;
        }
        sleep(ARRIVAL_PROBE).await;
    }
    let params = json!({"sessionId": session.id()});
    let detach = live.cdp().browser();
    detach.call("Target.detachFromTarget", params).await?;
    Ok(())
}

async fn find(
    browser: &Browser,
    live: &Live,
    target: &str,
) -> Result<Option<ListedTab>, RouteError> {
    let listed = browser.list_tabs(live).await?;
    Ok(listed.into_iter().find(|tab| tab.id == target))
}

/// The running browser, for what makes no sense without one.
async fn running(browser: &Rc<Browser>) -> Result<Rc<Live>, RouteError> {
    browser
        .running()
        .await
        .ok_or_else(|| RouteError::conflict("browser not running"))
}

/// `POST /tabs/focus`.
///
/// # Errors
/// 404 for a page that there is not.
pub async fn focus(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(named) = request.text("targetId") else {
        return Err(RouteError::bad_request("targetId is required"));
    };
    let live = running(browser).await?;
    let target = browser.resolve(&live, Some(named)).await?;
    live.focus(&target).await?;
    Ok(json!({"ok": true, "targetId": target}))
}

/// `DELETE /tabs/:targetId`.
///
/// # Errors
/// 404 for a page that there is not.
pub async fn close(browser: &Rc<Browser>, request: &Request, named: &str) -> Reply {
    let live = running(browser).await?;
    let named = decoded(named);
    let target = if request.query("targetIdMode") == Some("raw") {
        let tab = find(browser, &live, &named).await?;
        tab.ok_or_else(|| tabs::not_found(&named))?.id
    } else {
        browser.resolve(&live, Some(&named)).await?
    };
    live.close(&target).await?;
    Ok(json!({"ok": true, "targetId": target}))
}

/// `POST /tabs/action`.
///
/// # Errors
/// An action that there is not.
pub async fn action(browser: &Rc<Browser>, request: &Request) -> Reply {
    match request.text("action") {
        Some("list") => {
            let tabs = match browser.running().await {
                Some(live) => listed(browser, &live).await?,
                None => Vec::new(),
            };
            Ok(json!({"ok": true, "tabs": tabs}))
        }
        Some("new") => {
            let url = request.text("url").unwrap_or("about:blank");
            let (live, tab) = open_page(browser, url, request.text("label")).await?;
            let ownership = ownership::of(browser, &live, &tab.id);
            Ok(json!({"ok": true, "tab": tab.with(Some(ownership))}))
        }
        Some("label") => {
            let Some(named) = request.text("targetId") else {
                return Err(RouteError::bad_request("targetId is required"));
            };
            let Some(label) = request.text("label") else {
                return Err(RouteError::bad_request("label is required"));
            };
            let live = running(browser).await?;
            let target = browser.resolve(&live, Some(named)).await?;
            browser.label(&target, label)?;
            let tab = find(browser, &live, &target).await?;
            let tab = tab.ok_or_else(|| tabs::not_found(named))?;
            Ok(json!({"ok": true, "tab": tab.to_json()}))
        }
        Some("close") => {
            let live = running(browser).await?;
            let target = match request.number("index") {
                Some(_) => at_index(browser, &live, request).await?,
                None => browser.resolve(&live, request.text("targetId")).await?,
            };
            live.close(&target).await?;
            Ok(json!({"ok": true, "targetId": target}))
        }
        Some("select") => {
            let live = running(browser).await?;
            if request.number("index").is_none() {
                return Err(RouteError::bad_request("index is required"));
            }
            let target = at_index(browser, &live, request).await?;
            live.focus(&target).await?;
            Ok(json!({"ok": true, "targetId": target}))
        }
        Some(_) | None => Err(RouteError::bad_request("unknown tab action")),
    }
}

async fn at_index(
    browser: &Rc<Browser>,
    live: &Rc<Live>,
    request: &Request,
) -> Result<String, RouteError> {
    let listed = browser.list_tabs(live).await?;
    let index = request.number("index").unwrap_or(-1.0);
    listed
        .into_iter()
        .enumerate()
        .find(|(position, _)| f64::from(u32::try_from(*position).unwrap_or(u32::MAX)) == index)
        .map(|(_, tab)| tab.id)
        .ok_or_else(|| RouteError::not_found("tab not found"))
}

/// What the gateway writes into a path as `%2F`.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        decoded.push(code.unwrap_or(*first));
        rest = tail
            .get(if code.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_path_segment_is_decoded_once() {
        for (given, expected) in [
            ("t1", "t1"),
            ("a%3Ab", "a:b"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%2525", "%25"),
        ] {
            assert_eq!(decoded(given), expected);
        }
    }
}
