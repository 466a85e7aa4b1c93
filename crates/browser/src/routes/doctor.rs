//! `GET /doctor`: what works and what to do about the rest (browser proxy §3.3).

use std::rc::Rc;

use serde_json::{Value, json};

use super::status::status;
use crate::browser::Browser;
use crate::profile::Driver;
use crate::request::{Reply, Request};

/// One line of the diagnosis.
fn check(id: &str, label: &str, verdict: &str, summary: &str, hint: Option<&str>) -> Value {
    let mut check = json!({"id": id, "label": label, "status": verdict, "summary": summary});
    if let (Value::Object(members), Some(hint)) = (&mut check, hint) {
        members.insert("fixHint".to_owned(), hint.into());
    }
    check
}

/// `GET /doctor`.
///
/// # Errors
/// None of its own.
pub async fn doctor(browser: &Rc<Browser>, request: &Request) -> Reply {
    let profile = browser.profile();
    let status = status(browser).await;
    let is_running = status.get("running").and_then(Value::as_bool) == Some(true);
    let transport = profile.driver.transport();
    let mut checks = vec![
        check("plugin-enabled", "Browser plugin", "pass", "enabled", None),
        check(
            "profile",
            "Profile",
            "pass",
            &format!("{} via {transport}", profile.name),
            None,
        ),
    ];
    if profile.is_managed() {
        checks.push(match browser.executable() {
            Ok(found) => check(
                "managed-executable",
                "Chromium executable",
                "pass",
                &format!("{} at {}", found.kind.name(), found.path.display()),
                None,
            ),
            Err(missing) => check(
                "managed-executable",
                "Chromium executable",
                "fail",
                &missing.to_string(),
                Some("install Chrome, Brave, Edge or Chromium on the node, or set browser.executablePath"),
            ),
        });
    }
    checks.extend(match (profile.driver, is_running) {
        (Driver::Openclaw, true) => vec![
            check(
                "cdp-http",
                "CDP HTTP",
                "pass",
                "CDP HTTP endpoint is reachable",
                None,
            ),
            check(
                "cdp-websocket",
                "CDP WebSocket",
                "pass",
                "CDP WebSocket is reachable",
                None,
            ),
            graphics(&status),
        ],
        (Driver::Openclaw, false) => vec![check(
            "browser-running",
            "Browser",
            "info",
            "browser is not running",
            Some("it is started by the first call that needs it, or with action=start"),
        )],
        (Driver::ExistingSession | Driver::Extension, _) => vec![check(
            "driver",
            "Driver",
            "fail",
            &format!(
                "this node does not offer driver \"{}\"",
                profile.driver.name()
            ),
            Some("use a profile with driver \"openclaw\""),
        )],
    });
    if is_running && request.query_flag("deep") == Some(true) {
        checks.push(live_snapshot(browser).await);
    }
    let is_ok = checks
        .iter()
        .all(|check| check.get("status").and_then(Value::as_str) != Some("fail"));
    Ok(json!({
        "ok": is_ok,
        "profile": profile.name,
        "transport": transport,
        "checks": checks,
        "status": status,
    }))
}

fn graphics(status: &Value) -> Value {
    let told = status.get("graphics").cloned().unwrap_or_default();
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or("unknown");
    let count = |name: &str| told.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    let device = told
        .pointer("/devices/0/device")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    let summary = format!(
        "{}; renderer {}; backend {}; device {device}; video decode {}, encode {}",
        text("acceleration"),
        text("renderer"),
        text("backend"),
        count("videoDecoding"),
        count("videoEncoding"),
    );
    check("graphics", "Graphics", "info", &summary, None)
}

/// Reads a page's accessibility tree, as a snapshot would.
async fn live_snapshot(browser: &Rc<Browser>) -> Value {
    let read = async {
        let (live, tab) = browser.page(None).await?;
        let session = tab.session();
        let tree = session
            .call("Accessibility.getFullAXTree", json!({}))
            .await?;
        let nodes = tree
            .get("nodes")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let listed = browser.list_tabs(&live).await?;
        let name = listed
            .iter()
            .find(|listed| listed.id == tab.target_id())
            .map_or_else(
                || tab.target_id().to_owned(),
                |tab| tab.suggested().to_owned(),
            );
        Ok::<_, crate::request::RouteError>((nodes, name))
    };
    match read.await {
        Ok((nodes, name)) => check(
            "live-snapshot",
            "Live snapshot",
            "pass",
            &format!("CDP accessibility snapshot returned {nodes} nodes on {name}"),
            None,
        ),
        Err(error) => check(
            "live-snapshot",
            "Live snapshot",
            "fail",
            &error.message,
            Some("stop the browser and start it again"),
        ),
    }
}
