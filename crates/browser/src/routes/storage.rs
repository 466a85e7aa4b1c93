//! What a site keeps in the browser: `/cookies*`, `/storage/*` (browser proxy §7).

use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::browser::Browser;
use crate::element::Object;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;

/// Members of a cookie that the browser takes.
const COOKIE_MEMBERS: [&str; 9] = [
    "name", "value", "url", "domain", "path", "expires", "httpOnly", "secure", "sameSite",
];

/// `GET /cookies`.
///
/// # Errors
/// When the browser does not answer.
pub async fn cookies(page: &Page) -> Reply {
    let session = page.live.cdp().browser();
    let told = session.call("Storage.getCookies", json!({})).await?;
    let cookies: Vec<Value> = told
        .get("cookies")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(cookie)
        .collect();
    Ok(json!({"ok": true, "targetId": page.tab.target_id(), "cookies": cookies}))
}

fn cookie(told: &Value) -> Value {
    let member = |name: &str| told.get(name).cloned().unwrap_or_default();
    let is_session = told.get("session").and_then(Value::as_bool) == Some(true);
    let expires = match member("expires") {
        _ if is_session => json!(-1),
        expires => expires,
    };
    let same_site = match member("sameSite") {
        Value::Null => json!("Lax"),
        same_site => same_site,
    };
    json!({
        "name": member("name"),
        "value": member("value"),
        "domain": member("domain"),
        "path": member("path"),
        "expires": expires,
        "httpOnly": member("httpOnly"),
        "secure": member("secure"),
        "sameSite": same_site,
    })
}

/// `POST /cookies/set`.
///
/// # Errors
/// A cookie that is missing or of no site.
pub async fn set_cookie(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(given @ Value::Object(_)) = request.body.get("cookie") else {
        return Err(RouteError::bad_request("cookie is required"));
    };
    let page = Page::of(browser, request).await?;
    set(&page, &[given]).await?;
    Ok(page.done())
}

/// `POST /cookies/set-many`.
///
/// # Errors
/// Cookies that are missing or of no site.
pub async fn set_cookies(browser: &Rc<Browser>, request: &Request) -> Reply {
    let given: Vec<&Value> = match request.body.get("cookies") {
        Some(Value::Array(cookies)) if !cookies.is_empty() => cookies.iter().collect(),
        Some(_) | None => return Err(RouteError::bad_request("cookies are required")),
    };
    let page = Page::of(browser, request).await?;
    set(&page, &given).await?;
    let mut done = page.done();
    if let Value::Object(members) = &mut done {
        members.insert("added".to_owned(), given.len().into());
    }
    Ok(done)
}

async fn set(page: &Page, given: &[&Value]) -> Result<(), RouteError> {
    let mut cookies = Vec::with_capacity(given.len());
    for cookie in given {
        let has = |name: &str| {
            cookie
                .get(name)
                .and_then(Value::as_str)
                .is_some_and(|text| !text.trim().is_empty())
        };
        if !has("name") || cookie.get("value").and_then(Value::as_str).is_none() {
            return Err(RouteError::failed("cookie name and value are required"));
        }
        let is_of_a_site = has("url") || (has("domain") && has("path"));
        if !is_of_a_site {
            return Err(RouteError::failed("cookie requires url, or domain+path"));
        }
        let members: Map<String, Value> = COOKIE_MEMBERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), cookie.get(*name)?.clone())))
            .filter(|(_, value)| !value.is_null())
            .collect();
        cookies.push(Value::Object(members));
    }
    let session = page.live.cdp().browser();
    session
        .call("Storage.setCookies", json!({"cookies": cookies}))
        .await?;
    Ok(())
}

/// `POST /cookies/clear`.
///
/// # Errors
/// When the browser does not answer.
pub async fn clear_cookies(page: &Page) -> Reply {
    let session = page.live.cdp().browser();
    session.call("Storage.clearCookies", json!({})).await?;
    Ok(page.done())
}

/// The page's own name of a kind of storage.
fn storage(kind: &str) -> Result<&'static str, RouteError> {
    match kind {
        "local" => Ok("localStorage"),
        "session" => Ok("sessionStorage"),
        _ => Err(RouteError::bad_request("kind must be local|session")),
    }
}

/// Runs a function on the page's document.
async fn on_document(
    page: &Page,
    function: &str,
    arguments: &[Value],
) -> Result<Value, RouteError> {
    let document = Object::document(page.tab.session())
        .await
        .map_err(RouteError::failed)?;
    document
        .call(function, arguments)
        .await
        .map_err(RouteError::failed)
}

/// `GET /storage/:kind`.
///
/// # Errors
/// A kind that there is not, or a page that has none.
pub async fn read(browser: &Rc<Browser>, request: &Request, kind: &str) -> Reply {
    let storage = storage(kind)?;
    let page = Page::of(browser, request).await?;
    let function = "function (storage, key) {
        const kept = this.defaultView[storage];
        const keys = key === null ? Object.keys(kept) : [key];
        return Object.fromEntries(
            keys.map((key) => [key, kept.getItem(key)]).filter(([, value]) => value !== null));
    }";
    let key = request.query("key");
    let values = on_document(&page, function, &[json!(storage), json!(key)]).await?;
    Ok(json!({"ok": true, "targetId": page.tab.target_id(), "values": values}))
}

/// `POST /storage/:kind/set`.
///
/// # Errors
/// A kind or a key that there is not.
pub async fn write(browser: &Rc<Browser>, request: &Request, kind: &str) -> Reply {
    let storage = storage(kind)?;
    let Some(key) = request.text("key") else {
        return Err(RouteError::bad_request("key is required"));
    };
    let value = match request.body.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    };
    let page = Page::of(browser, request).await?;
    let function = "function (storage, key, value) {
        this.defaultView[storage].setItem(key, value);
    }";
    on_document(&page, function, &[json!(storage), json!(key), json!(value)]).await?;
    Ok(page.done())
}

/// `POST /storage/:kind/clear`.
///
/// # Errors
/// A kind that there is not.
pub async fn clear(browser: &Rc<Browser>, request: &Request, kind: &str) -> Reply {
    let storage = storage(kind)?;
    let page = Page::of(browser, request).await?;
    let function = "function (storage) { this.defaultView[storage].clear(); }";
    on_document(&page, function, &[json!(storage)]).await?;
    Ok(page.done())
}
