//! `POST /response/body`: the next response whose URL is like a pattern (browser proxy §7).

use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use crate::act::wait::is_like;
use crate::browser::Browser;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::text;

/// How long a response may take unless the request says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// The least and the most that a request can ask for.
const TIMEOUT_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));
/// How much of a body is answered unless the request says otherwise, in characters.
const DEFAULT_CHARS: f64 = 200_000.0;

/// `POST /response/body`.
///
/// # Errors
/// No pattern; no such response in time.
pub async fn response_body(browser: &Rc<Browser>, request: &Request) -> Reply {
    let Some(pattern) = request.text("url") else {
        return Err(RouteError::bad_request("url is required"));
    };
    let (least, most) = TIMEOUT_BOUNDS;
    let deadline = Instant::now() + request.timeout_within(DEFAULT_TIMEOUT, least, most);
    let page = Page::of(browser, request).await?;
    let found = timeout_at(deadline, next_response(&page, pattern)).await;
    let Ok(found) = found else {
        return Err(RouteError::failed(format_args!(
            "Response not found for url pattern \"{pattern}\". Run 'openclaw browser requests' to \
             inspect recent network activity."
        )));
    };
    let response = found?;
    let limit = request
        .number("maxChars")
        .filter(|limit| *limit >= 1.0)
        .unwrap_or(DEFAULT_CHARS);
    Ok(page.answer(json!({"response": shortened(response, limit)})))
}

/// Waits for a response that is complete.
async fn next_response(page: &Page, pattern: &str) -> Result<Map<String, Value>, RouteError> {
    let session = page.tab.session();
    let mut events = session.events();
    let mut awaited: Option<(String, Value)> = None;
    loop {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Err(RouteError::failed("the page is gone")),
        };
        let id = text(&event.params, "requestId");
        match event.method.as_str() {
            "Network.responseReceived" if awaited.is_none() => {
                let response = event.params.get("response").cloned().unwrap_or_default();
                if is_like(pattern, text(&response, "url")) {
                    awaited = Some((id.to_owned(), response));
                }
            }
            "Network.loadingFinished" | "Network.loadingFailed" => {
                let Some((_, response)) = awaited.take_if(|(awaited, _)| awaited == id) else {
                    continue;
                };
                let params = json!({"requestId": id});
                let body = session.call("Network.getResponseBody", params).await;
                return Ok(to_members(&response, &body.unwrap_or_default()));
            }
            _ => {}
        }
    }
}

fn to_members(response: &Value, body: &Value) -> Map<String, Value> {
    let headers: Map<String, Value> = response
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    let content = text(body, "body");
    let content = match body.get("base64Encoded").and_then(Value::as_bool) {
        Some(true) => STANDARD
            .decode(content)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default(),
        Some(false) | None => content.to_owned(),
    };
    let mut members = Map::new();
    members.insert("url".to_owned(), text(response, "url").into());
    let status = response.get("status").cloned().unwrap_or_default();
    members.insert("status".to_owned(), status);
    members.insert("headers".to_owned(), Value::Object(headers));
    members.insert("body".to_owned(), content.into());
    members
}

/// A body that is not longer than `limit` characters.
fn shortened(mut response: Map<String, Value>, limit: f64) -> Map<String, Value> {
    let Some(Value::String(body)) = response.get_mut("body") else {
        return response;
    };
    let mut count = 0.0;
    let end = body.char_indices().find_map(|(position, _)| {
        count += 1.0;
        (count > limit).then_some(position)
    });
    if let Some(end) = end {
        body.truncate(end);
        response.insert("truncated".to_owned(), true.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_body_is_cut_and_says_so() {
        let response = |body: &str| to_members(&json!({"url": "u"}), &json!({"body": body}));
        let cut = shortened(response("äbc"), 2.0);
        assert_eq!(
            (&cut["body"], &cut["truncated"]),
            (&json!("äb"), &json!(true))
        );
        let whole = shortened(response("äb"), 2.0);
        assert_eq!(whole["body"], "äb");
        assert!(!whole.contains_key("truncated"));
    }
}
