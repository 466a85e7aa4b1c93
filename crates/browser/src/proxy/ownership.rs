//! Whose page it is, and closing it only if it still is that one (browser proxy §1.7).

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::CommandError;
use crate::browser::Browser;
use crate::browser::live::Live;
use crate::request::{Method, Request, trimmed};

/// The path that is handled here and not by a route.
pub(super) const PATH: &str = "/__openclaw/session-tab/close-owned";

/// What proves later that a page is this one.
pub(crate) fn of(browser: &Browser, live: &Live, target: &str) -> Value {
    json!({
        "status": "durable",
        "nativeTargetId": target,
        "profileFingerprint": profile_fingerprint(browser),
        "browserInstanceFingerprint": instance_fingerprint(live),
    })
}

fn profile_fingerprint(browser: &Browser) -> String {
    let profile = browser.profile();
    let endpoint = profile
        .endpoint
        .as_ref()
        .map(|endpoint| format!("http://{}", endpoint.authority()))
        .unwrap_or_default();
    fingerprint(&json!([profile.name, endpoint]).to_string())
}

fn instance_fingerprint(live: &Live) -> String {
    fingerprint(&live.identity().websocket.to_ascii_lowercase())
}

fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// What a gateway remembers of a page.
struct Ownership<'a> {
    target: &'a str,
    profile: &'a str,
    instance: &'a str,
}

fn read(request: &Request) -> Option<Ownership<'_>> {
    let ownership = request.body.get("ownership")?;
    let text = |name: &str| trimmed(ownership.get(name));
    (text("status") == Some("durable")).then_some(())?;
    Some(Ownership {
        target: text("nativeTargetId")?,
        profile: text("profileFingerprint")?,
        instance: text("browserInstanceFingerprint")?,
    })
}

/// Refuses what is no owned close before anything is looked at.
pub(super) fn check(request: &Request) -> Result<(), CommandError> {
    if request.method != Method::Post {
        return Err(CommandError::invalid("owned tab close requires POST"));
    }
    Ok(())
}

/// Closes the page if it is the one that is remembered.
pub(super) async fn close(browser: &Browser, request: &Request) -> Result<Value, CommandError> {
    let Some(owned) = read(request) else {
        return Err(CommandError::invalid(
            "valid durable tab ownership required",
        ));
    };
    if owned.profile != profile_fingerprint(browser) {
        return Ok(json!({"status": "ownership-mismatch"}));
    }
    let Some(live) = browser.running().await else {
        return Ok(json!({"status": "missing"}));
    };
    if owned.instance != instance_fingerprint(&live) {
        return Ok(json!({"status": "ownership-mismatch"}));
    }
    let Ok(listed) = browser.list_tabs(&live).await else {
        return Ok(json!({"status": "unavailable", "reason": "target-lookup-failed"}));
    };
    if !listed.iter().any(|tab| tab.id == owned.target) {
        return Ok(json!({"status": "missing"}));
    }
    match live.close(owned.target).await {
        Ok(()) => Ok(json!({"status": "closed"})),
        Err(_) => Ok(json!({"status": "unavailable", "reason": "target-close-failed"})),
    }
}
