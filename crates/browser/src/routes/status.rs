//! `/`, `/profiles`, `/start`, `/stop` (browser proxy §3.3).

use std::rc::Rc;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::control::Control;
use crate::profile::Profile;
use crate::request::{Reply, Request};

/// `GET /`: never starts anything.
pub async fn status(browser: &Browser) -> Value {
    let profile = browser.profile();
    let settings = &browser.options().settings;
    let live = browser.running().await;
    let is_running = live.is_some();
    let found = browser.executable();
    let headless = live
        .as_ref()
        .map_or_else(|| browser.headless(), |live| live.identity().headless);
    let identity = live.as_ref().map(|live| live.identity());
    let graphics = match &live {
        Some(live) => live.graphics().await,
        None => Value::Null,
    };
    let (port, url) = endpoint_of(profile);
    json!({
        "enabled": settings.enabled,
        "profile": profile.name,
        "driver": profile.driver.name(),
        "transport": profile.driver.transport(),
        "running": is_running,
        "cdpReady": is_running,
        "cdpHttp": is_running,
        "pageReady": is_running,
        "pid": live.as_ref().and_then(|live| live.pid()),
        "cdpPort": port,
        "cdpUrl": url,
        "chosenBrowser": identity
            .and_then(|identity| identity.executable.as_ref())
            .map(|executable| executable.kind.name()),
        "detectedBrowser": found.as_ref().ok().map(|found| found.kind.name()),
        "detectedExecutablePath": found.as_ref().ok().map(|found| found.path.to_string_lossy()),
        "detectError": found.as_ref().err().map(ToString::to_string),
        "userDataDir": identity
            .and_then(|identity| identity.user_data_dir.as_ref())
            .map(|folder| folder.to_string_lossy()),
        "color": profile.color,
        "headless": headless.is_headless,
        "headlessSource": headless.source,
        "noSandbox": settings.no_sandbox,
        "executablePath": profile.executable_path.as_ref().map(|path| path.to_string_lossy()),
        "attachOnly": profile.attach_only,
        "graphics": graphics,
    })
}

fn endpoint_of(profile: &Profile) -> (Option<u16>, Option<String>) {
    match &profile.endpoint {
        Some(endpoint) => (Some(endpoint.port()), Some(endpoint.to_string())),
        None => (None, None),
    }
}

/// `GET /profiles`.
///
/// # Errors
/// None of its own.
pub async fn profiles(control: &Control) -> Reply {
    let mut listed = Vec::new();
    for profile in control.profiles().all() {
        let browser = control.browser(&profile.name)?;
        let live = browser.current();
        let tabs = match &live {
            Some(live) => browser.list_tabs(live).await.map_or(0, |tabs| tabs.len()),
            None => 0,
        };
        let (port, url) = endpoint_of(profile);
        listed.push(json!({
            "name": profile.name,
            "transport": profile.driver.transport(),
            "cdpPort": port,
            "cdpUrl": url,
            "color": profile.color,
            "driver": profile.driver.name(),
            "running": live.is_some(),
            "tabCount": tabs,
            "isDefault": profile.name == control.profiles().default_name(),
            "isRemote": profile.is_remote(),
            "reconcileReason": Value::Null,
        }));
    }
    Ok(json!({"profiles": listed}))
}

/// `POST /start`.
///
/// # Errors
/// Why the browser does not start.
pub async fn start(browser: &Rc<Browser>, request: &Request) -> Reply {
    let headless = request
        .query_flag("headless")
        .or_else(|| request.flag("headless"));
    browser.start(headless).await?;
    Ok(json!({"ok": true, "profile": browser.profile().name}))
}

/// `POST /stop`.
pub async fn stop(browser: &Rc<Browser>) -> Value {
    let stopped = browser.stop().await;
    json!({"ok": true, "stopped": stopped, "profile": browser.profile().name})
}
