//! Scripts of the agent in a page (browser proxy §6).

use std::time::Duration;

use serde_json::{Value, json};

use super::failure::Failure;
use super::request::Target;
use super::target::{Elements, Limit};
use crate::cdp::{CdpError, Session};
use crate::element::{Object, ScriptError, thrown};
use crate::tab::Tab;

/// How much earlier the page gives up than the caller does.
const EARLIER: Duration = Duration::from_millis(500);

/// The shortest time that a script gets.
const SHORTEST: Duration = Duration::from_secs(1);

/// Runs an expression, a function or the body of one and returns its JSON value; `None` is
/// `undefined`.
pub(crate) async fn evaluate(
    tab: &Tab,
    source: &str,
    reference: Option<&str>,
    timeout: Duration,
) -> Result<Option<Value>, Failure> {
    let timeout = timeout.saturating_sub(EARLIER).max(SHORTEST).min(timeout);
    let function = wrapped(&callable(tab.session(), source, "el").await?, timeout);
    let Some(reference) = reference else {
        let document = Object::document(tab.session()).await?;
        return run(tab, &document, &function, false, timeout).await;
    };
    let target = Target::Ref(reference.to_owned());
    let elements = Elements {
        tab,
        call: "evaluate",
    };
    let element = elements
        .act(
            &target,
            &[super::target::Need::Attached],
            Limit::new(timeout),
            async |element| Ok(Ok(element.clone())),
        )
        .await?;
    run(tab, &element, &function, true, timeout).await
}

/// The source as an expression that is a function of `argument`.
async fn callable(session: &Session, source: &str, argument: &str) -> Result<String, Failure> {
    let source = source.trim();
    let params = json!({
        "expression": format!("\"use strict\";\n({source}\n);"),
        "sourceURL": "",
        "persistScript": false,
    });
    let compiled = session.call("Runtime.compileScript", params).await?;
    Ok(if compiled.get("exceptionDetails").is_none() {
        format!(
            "({argument}) => {{ const value = ({source}\n); return typeof value === 'function' ? value({argument}) : value; }}"
        )
    } else {
        format!("async ({argument}) => {{\n{source}\n}}")
    })
}

/// The function to call on the document or the element.
fn wrapped(callable: &str, timeout: Duration) -> String {
    let millis = timeout.as_millis();
    format!(
        "function (hasElement) {{
  'use strict';
  let result;
  try {{
    const run = {callable};
    result = hasElement ? run(this) : run();
  }} catch (error) {{
    throw new Error('Invalid evaluate function: ' + (error?.message || String(error)));
  }}
  if (typeof result?.then !== 'function') return result;
  const late = new Promise((_, reject) => setTimeout(
    () => reject(new Error('evaluate timed out after {millis}ms')), {millis}));
  return Promise.race([result, late]);
}}"
    )
}

async fn run(
    tab: &Tab,
    on: &Object,
    function: &str,
    has_element: bool,
    timeout: Duration,
) -> Result<Option<Value>, Failure> {
    let call = if has_element {
        "locator.evaluate"
    } else {
        "page.evaluate"
    };
    let watch = Running {
        tab,
        session: on.session(),
        is_over: false,
    };
    let answer = on
        .call_as_user(function, &[json!(has_element)], timeout + EARLIER)
        .await;
    watch.over(matches!(answer, Err(CdpError::Deadline { .. })));
    let answer = match answer {
        Ok(answer) => answer,
        Err(CdpError::Deadline { .. }) => {
            let millis = timeout.as_millis();
            let message = format!("{call}: Error: evaluate timed out after {millis}ms");
            return Err(Failure::Other(message));
        }
        // What cannot be told as JSON, or a page that is gone.
        Err(error) => return Err(Failure::Other(format!("{call}: {error}"))),
    };
    if let Some(thrown) = thrown(&answer) {
        return Err(Failure::Other(format!("{call}: {}", told(&thrown))));
    }
    let result = answer.get("result");
    let is_undefined = result
        .and_then(|result| result.get("type"))
        .and_then(Value::as_str)
        == Some("undefined");
    if is_undefined {
        return Ok(None);
    }
    // NaN and its like have no JSON.
    let value = result.and_then(|result| result.get("value")).cloned();
    Ok(Some(value.unwrap_or(Value::Null)))
}

/// What a script threw, without where: our wrapper is of no interest.
fn told(thrown: &str) -> String {
    let message = thrown.split("\n    at ").next().unwrap_or(thrown);
    // The wrapper itself cannot be read where the source has no end.
    match message.strip_prefix("SyntaxError: ") {
        Some(message) => format!("Error: Invalid evaluate function: {message}"),
        None => message.to_owned(),
    }
}

/// Ends a script that nobody waits for any more, unless a dialog holds it: that ends some day.
struct Running<'a> {
    tab: &'a Tab,
    session: &'a Session,
    is_over: bool,
}

impl Running<'_> {
    /// The wait is over; the script is not if it took too long.
    fn over(mut self, is_late: bool) {
        self.is_over = !is_late;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.is_over || self.tab.is_blocked() {
            return;
        }
        let session = self.session.clone();
        actix_rt::spawn(async move {
            // A page that is gone runs nothing.
            session
                .call("Runtime.terminateExecution", json!({}))
                .await
                .ok();
        });
    }
}

/// A condition that the agent wrote.
pub(crate) struct Predicate(String);

/// Reads a condition.
pub(crate) async fn predicate(tab: &Tab, source: &str) -> Result<Predicate, Failure> {
    let callable = callable(tab.session(), source, "").await?;
    Ok(Predicate(format!(
        "async function () {{ 'use strict'; const run = {callable}; return !!(await run()); }}"
    )))
}

impl Predicate {
    /// Whether it holds now.
    pub(crate) async fn holds(&self, tab: &Tab) -> Result<bool, ScriptError> {
        let document = Object::document(tab.session()).await?;
        match document.call(&self.0, &[]).await {
            Ok(holds) => Ok(holds == Value::Bool(true)),
            Err(ScriptError::Thrown(thrown)) => Err(ScriptError::Thrown(format!(
                "page.waitForFunction: {}",
                thrown.split("\n    at ").next().unwrap_or(&thrown)
            ))),
            Err(error) => Err(error),
        }
    }
}
