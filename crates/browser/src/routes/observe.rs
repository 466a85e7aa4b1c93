//! What a page has said: `/console`, `/errors`, `/requests`, `/text` (browser proxy §7).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::element::Object;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::journal::Level;

/// Between two looks for an element that is not there yet.
const PROBE: Duration = Duration::from_millis(100);
/// How much text is answered unless the request says otherwise, in UTF-16 units.
const DEFAULT_TEXT: usize = 40_000;
/// The text of the main part of a page.
const MAIN_TEXT: &str = "function () {
    const part = this.querySelector('article') ?? this.querySelector('main') ?? this.body;
    return part ? (part.innerText ?? part.textContent ?? '') : '';
}";
/// The text of an element.
const ELEMENT_TEXT: &str = "function () { return this.innerText ?? this.textContent ?? ''; }";

/// `GET /console`.
///
/// # Errors
/// None of its own.
pub fn console(page: &Page, request: &Request) -> Reply {
    let least = request.query("level").map(Level::of);
    let messages = page.tab.state().journal.messages(least);
    Ok(page.answer(json!({"messages": messages})))
}

/// `GET /errors`.
///
/// # Errors
/// None of its own.
pub fn errors(page: &Page, request: &Request) -> Reply {
    let errors = page.tab.state().journal.errors();
    if request.query_flag("clear") == Some(true) {
        page.tab.change(|state| state.journal.clear_errors());
    }
    Ok(page.answer(json!({"errors": errors})))
}

/// `GET /requests`.
///
/// # Errors
/// None of its own.
pub fn requests(page: &Page, request: &Request) -> Reply {
    let requests = page.tab.state().network.requests(request.query("filter"));
    if request.query_flag("clear") == Some(true) {
        page.tab.change(|state| state.network.clear());
    }
    Ok(page.answer(json!({"requests": requests})))
}

/// `GET /text`. An element that is not there is waited for, as long as the gateway waits.
///
/// # Errors
/// A page that cannot be read.
pub async fn text(page: &Page, request: &Request) -> Reply {
    let read = page
        .tab
        .unless_blocked(read(page, request.query("selector")));
    let Some(text) = read.await else {
        let state = page.tab.state().dialogs.to_state();
        return Ok(page.answer(json!({"blockedByDialog": true, "browserState": state})));
    };
    let text = text?;
    let most = request
        .query_number("maxChars")
        .filter(|most| *most >= 1.0)
        .map_or(DEFAULT_TEXT, |most| {
            most.to_string().parse().unwrap_or(DEFAULT_TEXT)
        });
    let (text, truncated) = cut(text, most);
    Ok(page.answer(json!({"text": text, "truncated": truncated})))
}

async fn read(page: &Page, selector: Option<&str>) -> Result<String, RouteError> {
    let text = loop {
        let document = Object::document(page.tab.session())
            .await
            .map_err(RouteError::failed)?;
        let Some(selector) = selector else {
            break document.call(MAIN_TEXT, &[]).await;
        };
        let found = document.find(selector).await.map_err(RouteError::failed)?;
        if let (Some(element), _) = found {
            break element.call(ELEMENT_TEXT, &[]).await;
        }
        sleep(PROBE).await;
    };
    match text.map_err(RouteError::failed)? {
        Value::String(text) => Ok(text),
        _ => Ok(String::new()),
    }
}

/// The beginning of a text, counted as JavaScript does.
fn cut(text: String, most: usize) -> (String, bool) {
    let mut units = 0;
    for (position, c) in text.char_indices() {
        units += c.len_utf16();
        if units > most {
            return (text.get(..position).unwrap_or_default().to_owned(), true);
        }
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn text_is_counted_in_utf16_units() {
        for (text, most, expected, is_cut) in [
            ("abc", 3, "abc", false),
            ("abc", 2, "ab", true),
            ("a😀b", 3, "a😀", true),
            ("a😀b", 2, "a", true),
        ] {
            assert_eq!(cut(text.to_owned(), most), (expected.to_owned(), is_cut));
        }
    }
}
