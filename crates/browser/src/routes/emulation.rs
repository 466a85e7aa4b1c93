//! `/set/*` and `/permissions/grant`: how the world looks to a page (browser proxy §7).

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::devices;
use crate::browser::Browser;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::interception::{Credentials, Interception};

/// `POST /set/:what`.
///
/// # Errors
/// Members that are missing or wrong; 404 for what cannot be set.
pub async fn set(browser: &Rc<Browser>, request: &Request, what: &str) -> Reply {
    match what {
        "offline" => offline(browser, request).await,
        "headers" => headers(browser, request).await,
        "credentials" => credentials(browser, request).await,
        "geolocation" => geolocation(browser, request).await,
        "media" => media(browser, request).await,
        "timezone" => timezone(browser, request).await,
        "locale" => locale(browser, request).await,
        "device" => device(browser, request).await,
        _ => Err(RouteError::not_found("Not Found")),
    }
}

async fn offline(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(offline) = request.flag("offline") else {
        return Err(RouteError::bad_request("offline is required"));
    };
    let page = Page::of(browser, request).await?;
    let params = json!({
        "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
    });
    let session = page.tab.session();
    session
        .call("Network.emulateNetworkConditions", params)
        .await?;
    Ok(page.done())
}

async fn headers(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(Value::Object(given)) = request.body.get("headers") else {
        return Err(RouteError::bad_request("headers is required"));
    };
    let headers: Map<String, Value> = given
        .iter()
        .filter(|(_, value)| value.is_string())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let page = Page::of(browser, request).await?;
    let params = json!({"headers": headers});
    let session = page.tab.session();
    session.call("Network.setExtraHTTPHeaders", params).await?;
    Ok(page.done())
}

async fn credentials(browser: &Rc<Browser>, request: &Request) -> Reply {
    let credentials = if request.flag("clear") == Some(true) {
        None
    } else {
        let Some(username) = request.text("username") else {
            return Err(RouteError::bad_request(
                "username is required (or set clear=true)",
            ));
        };
        let password = request.body.get("password").and_then(Value::as_str);
        Some(Credentials {
            username: username.to_owned(),
            password: password.unwrap_or_default().to_owned(),
        })
    };
    let page = Page::of(browser, request).await?;
    page.tab
        .change(|state| state.interception.authenticate(credentials));
    Interception::apply(&page.tab, page.tab.session()).await?;
    Ok(page.done())
}

async fn geolocation(browser: &Rc<Browser>, request: &Request) -> Reply {
    if request.flag("clear") == Some(true) {
        let page = Page::of(browser, request).await?;
        let session = page.tab.session();
        session
            .call("Emulation.clearGeolocationOverride", json!({}))
            .await?;
        return Ok(page.done());
    }
    let (Some(latitude), Some(longitude)) =
        (request.number("latitude"), request.number("longitude"))
    else {
        return Err(RouteError::bad_request(
            "latitude and longitude are required (or set clear=true)",
        ));
    };
    let accuracy = request.number("accuracy").unwrap_or(0.0);
    for (name, value, most) in [
        ("latitude", latitude, 90.0),
        ("longitude", longitude, 180.0),
    ] {
        if !(-most..=most).contains(&value) {
            return Err(RouteError::bad_request(format!(
                "{name} must be between -{most} and {most}."
            )));
        }
    }
    if accuracy < 0.0 {
        return Err(RouteError::bad_request("accuracy must be non-negative."));
    }
    let page = Page::of(browser, request).await?;
    let origin = match request.text("origin") {
        Some(origin) => origin_of(origin),
        None => origin_of(&page.tab.url()),
    };
    if let Some(origin) = origin {
        let params = json!({"origin": origin, "permissions": ["geolocation"]});
        let session = page.live.cdp().browser();
        session.call("Browser.grantPermissions", params).await?;
    }
    let params = json!({"latitude": latitude, "longitude": longitude, "accuracy": accuracy});
    let session = page.tab.session();
    session
        .call("Emulation.setGeolocationOverride", params)
        .await?;
    Ok(page.done())
}

async fn media(browser: &Rc<Browser>, request: &Request) -> Reply {
    let scheme = match request.text("colorScheme") {
        Some(scheme @ ("dark" | "light" | "no-preference")) => scheme.to_owned(),
        Some("none") => String::new(),
        Some(_) | None => {
            return Err(RouteError::bad_request(
                "colorScheme must be dark|light|no-preference|none",
            ));
        }
    };
    let page = Page::of(browser, request).await?;
    let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
    let session = page.tab.session();
    session
        .call("Emulation.setEmulatedMedia", json!({"features": features}))
        .await?;
    Ok(page.done())
}

async fn timezone(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(timezone) = request.text("timezoneId") else {
        return Err(RouteError::bad_request("timezoneId is required"));
    };
    let page = Page::of(browser, request).await?;
    let params = json!({"timezoneId": timezone});
    let session = page.tab.session();
    let set = session.call("Emulation.setTimezoneOverride", params).await;
    if let Err(error) = set {
        // Upstream accepts a zone that there is not; its pages then stay in the zone they were in.
        tracing::debug!(timezone, %error, "the browser does not take the time zone");
    }
    Ok(page.done())
}

async fn locale(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(locale) = request.text("locale") else {
        return Err(RouteError::bad_request("locale is required"));
    };
    let page = Page::of(browser, request).await?;
    let session = page.tab.session();
    // The browser refuses a second override unless the first one is taken back.
    for params in [json!({}), json!({"locale": locale})] {
        let set = session.call("Emulation.setLocaleOverride", params).await;
        if let Err(error) = set {
            tracing::debug!(locale, %error, "the browser does not take the locale");
        }
    }
    Ok(page.done())
}

async fn device(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(name) = request.text("name") else {
        return Err(RouteError::bad_request("name is required"));
    };
    let page = Page::of(browser, request).await?;
    let Some(device) = devices::find(name) else {
        return Err(RouteError::failed(format_args!(
            "Unknown device \"{name}\"."
        )));
    };
    let session = page.tab.session();
    let metrics = json!({
        "width": device.width,
        "height": device.height,
        "deviceScaleFactor": device.scale,
        "mobile": device.is_mobile,
    });
    let user_agent = json!({"userAgent": device.user_agent()});
    let touch = json!({"enabled": device.is_mobile});
    for (method, params) in [
        ("Emulation.setDeviceMetricsOverride", metrics),
        ("Emulation.setUserAgentOverride", user_agent),
        ("Emulation.setTouchEmulationEnabled", touch),
    ] {
        session.call(method, params).await?;
    }
    Ok(page.done())
}

/// `POST /permissions/grant`.
///
/// # Errors
/// An origin or permissions that are none.
pub async fn grant(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(origin) = request.text("origin").and_then(origin_of) else {
        return Err(RouteError::bad_request("origin must be an http(s) origin"));
    };
    let names = |member: &str| -> Vec<String> {
        let names = request.body.get(member).and_then(Value::as_array);
        names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let (wanted, optional) = (names("permissions"), names("optionalPermissions"));
    if wanted.is_empty() {
        return Err(RouteError::bad_request("permissions are required"));
    }
    let page = Page::of(browser, request).await?;
    let session = page.live.cdp().browser();
    let grant = async |permissions: &[String]| {
        let params = json!({"origin": origin, "permissions": permissions});
        session.call("Browser.grantPermissions", params).await
    };
    let all: Vec<String> = wanted.iter().chain(&optional).cloned().collect();
    let (granted, unsupported) = match grant(&all).await {
        Ok(_) => (all, Vec::new()),
        Err(_) if !optional.is_empty() => {
            grant(&wanted).await?;
            (wanted, optional)
        }
        Err(error) => return Err(error.into()),
    };
    Ok(json!({
        "ok": true,
        "origin": origin,
        "grantedPermissions": granted,
        "unsupportedPermissions": unsupported,
        "grantMethod": "cdp",
    }))
}

/// The origin of a URL of the web.
fn origin_of(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then(|| url.origin().ascii_serialization())
}
