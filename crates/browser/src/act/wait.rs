//! Waiting for a page (browser proxy §6).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::evaluate::predicate;
use super::failure::{Failure, single_quoted, waited_in_vain};
use super::request::Wait;
use super::target::Limit;
use crate::element::{Object, ScriptError};
use crate::tab::Tab;

const SHOWS_TEXT: &str = include_str!("wait.js");

const IS_SHOWN: &str = "function () {
  const { width, height } = this.getBoundingClientRect();
  return width > 0 && height > 0 && getComputedStyle(this).visibility === 'visible';
}";

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How far a document has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadState {
    Load,
    DomContentLoaded,
    NetworkIdle,
}

impl LoadState {
    /// Reads the word for it; another word is none.
    pub(crate) fn read(word: &str) -> Option<Self> {
        match word {
            "load" => Some(Self::Load),
            "domcontentloaded" => Some(Self::DomContentLoaded),
            "networkidle" => Some(Self::NetworkIdle),
            _ => None,
        }
    }

    /// The lifecycle event that says so.
    const fn event(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::DomContentLoaded => "DOMContentLoaded",
            Self::NetworkIdle => "networkIdle",
        }
    }
}

/// Waits for everything that is asked for, one after the other, each at most `timeout`.
pub(crate) async fn wait(tab: &Tab, wait: &Wait, timeout: Duration) -> Result<(), Failure> {
    if let Some(time) = wait.time {
        sleep(time).await;
    }
    if let Some(text) = &wait.text {
        let shown = until(timeout, async || shows_text(tab, text).await).await?;
        or_vain(shown, timeout, &text_locator(text), "visible")?;
    }
    if let Some(text) = &wait.text_gone {
        let gone = until(timeout, async || Ok(!shows_text(tab, text).await?)).await?;
        or_vain(gone, timeout, &text_locator(text), "hidden")?;
    }
    if let Some(selector) = &wait.selector {
        let shown = until(timeout, async || shows_element(tab, selector).await).await?;
        let locator = format!("locator({})", single_quoted(selector));
        or_vain(shown, timeout, &locator, "visible")?;
    }
    if let Some(pattern) = &wait.url {
        let limit = Limit::new(timeout);
        let there = tab
            .until(limit.at, |state| {
                is_like(pattern, &state.url) && state.lifecycle.contains(LoadState::Load.event())
            })
            .await;
        or_late(there, timeout, "page.waitForURL")?;
    }
    if let Some(state) = wait.load_state {
        let limit = Limit::new(timeout);
        let reached = tab
            .until(limit.at, |page| page.lifecycle.contains(state.event()))
            .await;
        or_late(reached, timeout, "page.waitForLoadState")?;
    }
    if let Some(source) = &wait.function {
        let predicate = predicate(tab, source).await?;
        let holds = until(timeout, async || {
            let holds = predicate.holds(tab).await?;
            Ok(holds)
        });
        // A promise that never settles is no answer in time.
        let holds = tokio::time::timeout(timeout, holds).await;
        or_late(holds.unwrap_or(Ok(false))?, timeout, "page.waitForFunction")?;
    }
    Ok(())
}

fn text_locator(text: &str) -> String {
    format!("getByText({})", single_quoted(text))
}

fn or_vain(holds: bool, timeout: Duration, locator: &str, state: &str) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    let what = format!("{locator}.first() to be {state}");
    Err(Failure::Timeout(waited_in_vain(
        "locator.waitFor",
        timeout,
        &what,
    )))
}

fn or_late(holds: bool, timeout: Duration, call: &str) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    let message = format!("{call}: Timeout {}ms exceeded.", timeout.as_millis());
    Err(Failure::Timeout(message))
}

/// Looks at a condition until it holds. A document that is gone while it is looked at is looked at
/// again; what a script throws ends the wait.
async fn until(
    timeout: Duration,
    holds: impl AsyncFn() -> Result<bool, ScriptError>,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        match holds().await {
            Ok(true) => return Ok(true),
            Err(ScriptError::Thrown(text)) => return Err(Failure::Other(text)),
            Ok(false) | Err(ScriptError::Cdp(_)) => {}
        }
        if Instant::now() + LOOK_EVERY >= deadline {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn shows_text(tab: &Tab, text: &str) -> Result<bool, ScriptError> {
    let document = Object::document(tab.session()).await?;
    let shown = document.call(SHOWS_TEXT, &[json!(text)]).await?;
    Ok(shown == Value::Bool(true))
}

async fn shows_element(tab: &Tab, selector: &str) -> Result<bool, ScriptError> {
    let document = Object::document(tab.session()).await?;
    let Some(element) = document.find(selector).await?.0 else {
        return Ok(false);
    };
    Ok(element.call(IS_SHOWN, &[]).await? == Value::Bool(true))
}

/// Whether an address is like a pattern: the same, matched by `*` (no slash) and `**` (anything), or
/// holding it where it has no star.
pub(crate) fn is_like(pattern: &str, url: &str) -> bool {
    let pattern = pattern.trim();
    if pattern == url || pattern == "*" {
        return true;
    }
    if !pattern.contains('*') {
        return !pattern.is_empty() && url.contains(pattern);
    }
    glob(pattern.as_bytes(), url.as_bytes())
}

fn glob(pattern: &[u8], url: &[u8]) -> bool {
    // Where a star can be tried again with one byte more: the pattern after it, the rest of the
    // address, and whether it may pass a slash.
    let mut single: Option<(&[u8], &[u8])> = None;
    let mut double: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut url) = (pattern, url);
    loop {
        match pattern {
            [b'*', b'*', rest @ ..] => {
                double = Some((rest, url));
                single = None;
                pattern = rest;
                continue;
            }
            [b'*', rest @ ..] => {
                single = Some((rest, url));
                pattern = rest;
                continue;
            }
            [wanted, rest @ ..] if url.first() == Some(wanted) => {
                pattern = rest;
                url = url.get(1..).unwrap_or_default();
                continue;
            }
            [] if url.is_empty() => return true,
            _ => {}
        }
        if let Some((rest, [passed, behind @ ..])) = single
            && *passed != b'/'
        {
            single = Some((rest, behind));
            (pattern, url) = (rest, behind);
        } else if let Some((rest, [_, behind @ ..])) = double {
            double = Some((rest, behind));
            single = None;
            (pattern, url) = (rest, behind);
        } else {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn matches_addresses() {
        let url = "http://127.0.0.1:8080/shop/index.html?page=2";
        for pattern in [
            url,
            "*",
            "**/index.html*",
            "**",
            "http://*/shop/*",
            "index.html",
            "**/shop/**",
            "http://**page=2",
        ] {
            assert!(is_like(pattern, url), "{pattern}");
        }
        for pattern in [
            "",
            "http://*",
            "*/index.html",
            "**/index.html",
            "other",
            "**/x/**",
        ] {
            assert!(!is_like(pattern, url), "{pattern}");
        }
    }
}
