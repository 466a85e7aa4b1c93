//! `/tabs`, `/tabs/open`, … (browser proxy §4).

use std::rc::Rc;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::request::{Reply, Request, RouteError};

/// `GET /tabs`.
///
/// # Errors
/// When the browser does not answer.
pub async fn list(browser: &Rc<Browser>) -> Reply {
    let Some(live) = browser.running().await else {
        return Ok(json!({"running": false, "tabs": []}));
    };
    let tabs = browser.list_tabs(&live).await?;
    let tabs: Vec<Value> = tabs.iter().map(|tab| tab.to_json()).collect();
    Ok(json!({"running": true, "tabs": tabs}))
}

/// `POST /tabs/open`.
///
/// # Errors
/// A URL that is missing or refused.
pub async fn open(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(url) = request.text("url") else {
        return Err(RouteError::bad_request("url is required"));
    };
    let live = browser.ensure().await?;
    let target = live.create(url).await?;
    let listed = browser.list_tabs(&live).await?;
    let tab = listed
        .iter()
        .find(|tab| tab.id == target)
        .ok_or_else(|| RouteError::failed("the page was closed at once"))?;
    browser.close_excess(&live, &target).await;
    Ok(tab.to_json())
}
