//! `browser.proxy` and `browser.proxy.upload.v1`: what the gateway asks for, checked in upstream's
//! order, and the two layers of errors (browser proxy §1).

pub mod files;
pub(crate) mod folder;
mod mime;
pub(crate) mod ownership;
pub mod params;
pub mod upload;

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;

use self::params::{Call, ErrorEnvelope};
use crate::control::Control;
use crate::profile::Driver;
use crate::request::{Method, Reason, Reply, Request, RouteError};
use crate::routes;

/// How long the status that a timeout's text carries may take.
const STATUS_DEADLINE: Duration = Duration::from_millis(750);

/// Which command was invoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyCommand {
    /// `browser.proxy`.
    Proxy,
    /// `browser.proxy.upload.v1`.
    UploadV1,
}

/// What the whole command fails with; the text goes after `Error: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

impl CommandError {
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self(format!("INVALID_REQUEST: {message}"))
    }
}

/// Carries a command out; the result is the payload's JSON text. Dropping the future cancels it.
///
/// # Errors
/// [`CommandError`].
pub async fn call(
    control: &Control,
    command: ProxyCommand,
    params: Option<&str>,
) -> Result<String, CommandError> {
    let Call {
        asked,
        profile,
        envelope,
        upload,
    } = Call::decode(command, params)?;
    let settings = control.settings();
    if !settings.proxy_enabled {
        return Err(CommandError(
            "UNAVAILABLE: node browser proxy disabled".to_owned(),
        ));
    }
    let mut request = asked.into_request()?;
    let is_owned_close = request.path == ownership::PATH;
    if is_owned_close {
        ownership::check(&request)?;
    }
    if !settings.enabled {
        return Err(CommandError(
            "browser control disabled: browser.enabled=false. Set browser.enabled=true.".to_owned(),
        ));
    }
    refuse_mutation(&request)?;
    refuse_host_local(&request)?;
    let requested = requested_profile(&request, profile.as_deref());
    let lists_profiles = request.path == "/profiles";
    let default = control.profiles().default_name();
    if lists_profiles && requested.is_none() {
        // Allowed; the list is cut down below.
    } else if !is_allowed(
        &settings.allow_profiles,
        requested.as_deref().unwrap_or(default),
    ) {
        return Err(CommandError::invalid("browser profile not allowed"));
    }
    let profile = requested.unwrap_or_else(|| default.to_owned());
    if let Some(upload) = upload {
        let staged = upload::stage(&control.places().uploads_dir(), &upload)?;
        let paths = staged.paths().iter();
        let paths = paths.map(|path| path.to_string_lossy().into()).collect();
        request.body.insert("paths".to_owned(), Value::Array(paths));
        request.upload = Some(Rc::new(staged));
    }
    let reply = timeout(request.timeout, async {
        if is_owned_close {
            let browser = match control.browser(&profile) {
                Ok(browser) => browser,
                Err(error) => return Ok(Err(error)),
            };
            return Ok(Ok(ownership::close(&browser, &request).await?));
        }
        Ok(dispatch(control, &profile, &request).await)
    });
    let mut reply = match reply.await {
        Ok(reply) => reply?,
        Err(_) => return Err(timed_out(control, &profile, &request).await),
    };
    if lists_profiles && let Ok(listed) = &mut reply {
        keep_allowed(listed, &settings.allow_profiles);
    }
    let route = route_of(control, &profile, lists_profiles);
    answer(reply, envelope, route)
}

async fn dispatch(control: &Control, profile: &str, request: &Request) -> Reply {
    let browser = control.browser(profile)?;
    routes::dispatch(control, &browser, request).await
}

fn answer(reply: Reply, envelope: ErrorEnvelope, route: Value) -> Result<String, CommandError> {
    let mut payload = Map::new();
    match (reply, envelope) {
        (Ok(result), _) => {
            let files = files::collect(&result)?;
            payload.insert("result".to_owned(), result);
            if !files.is_empty() {
                payload.insert("files".to_owned(), Value::Array(files));
            }
        }
        (Err(error), ErrorEnvelope::BrowserV1) => {
            payload.insert("error".to_owned(), to_body(&error));
        }
        (Err(error), ErrorEnvelope::None) => return Err(CommandError(error.to_string())),
    }
    if envelope == ErrorEnvelope::BrowserV1 {
        payload.insert("route".to_owned(), route);
    }
    let text = Value::Object(payload).to_string();
    files::check_encoded(&text)?;
    Ok(text)
}

/// The closed set of members that the gateway takes (browser proxy §1.4).
fn to_body(error: &RouteError) -> Value {
    let mut body = json!({"error": error.message});
    if let Value::Object(members) = &mut body {
        if let Some(code) = error.code {
            members.insert("code".to_owned(), code.name().into());
        }
        match &error.reason {
            Some(Reason::NavigationBlocked) => {
                members.insert("reason".to_owned(), "navigation_blocked".into());
            }
            Some(Reason::NoDisplay {
                profile,
                headless_source,
            }) => {
                members.insert("reason".to_owned(), "no_display_for_headed_profile".into());
                let details = json!({
                    "profile": profile,
                    "requestedHeadless": false,
                    "headlessSource": headless_source,
                    "displayPresent": false,
                });
                members.insert("details".to_owned(), details);
            }
            None => {}
        }
    }
    json!({"status": error.status, "body": body})
}

fn route_of(control: &Control, profile: &str, lists_profiles: bool) -> Value {
    match control.profiles().get(profile) {
        Some(profile) if !lists_profiles => json!({
            "status": "resolved",
            "profile": profile.name,
            "driver": profile.driver.name(),
        }),
        Some(_) | None => json!({"status": "unavailable"}),
    }
}

fn requested_profile(request: &Request, fallback: Option<&str>) -> Option<String> {
    request
        .query("profile")
        .or_else(|| request.text("profile"))
        .or(fallback)
        .map(str::to_owned)
}

fn is_allowed(allowed: &[String], profile: &str) -> bool {
    allowed.is_empty() || allowed.iter().any(|allowed| allowed == profile)
}

fn keep_allowed(listed: &mut Value, allowed: &[String]) {
    if let Some(Value::Array(profiles)) = listed.get_mut("profiles") {
        profiles.retain(|profile| {
            let name = profile.get("name").and_then(Value::as_str);
            name.is_some_and(|name| is_allowed(allowed, name))
        });
    }
}

/// What changes profiles for good is not done for a gateway, allowlist or not (browser proxy §1.5).
fn refuse_mutation(request: &Request) -> Result<(), CommandError> {
    let mutates = match request.method {
        Method::Post => matches!(
            request.path.as_str(),
            "/profiles/create" | "/profiles/import" | "/reset-profile"
        ),
        Method::Delete => request
            .path
            .strip_prefix("/profiles/")
            .is_some_and(|name| !name.is_empty() && !name.contains('/')),
        Method::Get => false,
    };
    if mutates {
        return Err(CommandError::invalid(
            "browser.proxy cannot mutate persistent browser profiles",
        ));
    }
    Ok(())
}

fn refuse_host_local(request: &Request) -> Result<(), CommandError> {
    let is_host_local = matches!(
        (request.method, request.path.as_str()),
        (
            Method::Get,
            "/system-profiles" | "/system-profile-import/status"
        ) | (Method::Post, "/system-profile-import/dismiss")
    );
    if is_host_local {
        return Err(CommandError::invalid(
            "browser.proxy cannot run host-local browser routes",
        ));
    }
    Ok(())
}

/// The text of a call that took too long, with what can be told about the browser in a moment.
async fn timed_out(control: &Control, profile: &str, request: &Request) -> CommandError {
    let action = match request.path.as_str() {
        "/act" | "/download" | "/navigate" | "/pdf" | "/screenshot" | "/snapshot"
        | "/wait/download" => "ws-backed browser action",
        _ => "browser action",
    };
    let mut text = format!(
        "browser proxy timed out for {} {} after {}ms; {action}; profile={profile}",
        request.method,
        request.path,
        request.timeout.as_millis()
    );
    let status = async {
        let browser = control.browser(profile).ok()?;
        let status = routes::status::status(&browser).await;
        let shown = |name: &str| match status.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "null".to_owned(),
        };
        let url = match browser.profile().driver {
            Driver::Openclaw => format!(", cdpUrl={}", shown("cdpUrl")),
            Driver::ExistingSession | Driver::Extension => String::new(),
        };
        Some(format!(
            "; status(running={}, cdpHttp={}, cdpReady={}, transport={}{url})",
            shown("running"),
            shown("cdpHttp"),
            shown("cdpReady"),
            shown("transport"),
        ))
    };
    if let Ok(Some(status)) = timeout(STATUS_DEADLINE, status).await {
        text.push_str(&status);
    }
    CommandError(text)
}
