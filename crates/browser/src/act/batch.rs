//! Acts one after the other, as long as the page stays (browser proxy §6).

use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::perform::Performer;
use super::request::Act;

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// One entry per act that was begun.
    results: Vec<Value>,
    /// Why the rest was not begun.
    aborted: Option<Value>,
    /// The first failure.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    /// The members that the batch adds to its answer.
    pub(crate) fn members(self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("results".to_owned(), Value::Array(self.results));
        if let Some(aborted) = self.aborted {
            members.insert("aborted".to_owned(), aborted);
        }
        members
    }

    fn abort(&mut self, reason: &str, after: usize, url: &str, skipped: usize) {
        if skipped > 0 {
            self.aborted = Some(json!({
                "reason": reason,
                "afterAction": after,
                "url": url,
                "skipped": skipped,
            }));
        }
    }
}

/// Does acts until one fails, unless failures do not stop it, or the page is left or closed.
pub(crate) async fn batch(
    performer: &Performer<'_>,
    acts: &[Act],
    stops_on_error: bool,
    depth: usize,
) -> Outcome {
    let mut outcome = Outcome::default();
    let tab = &performer.page.tab;
    let document = tab.state().document;
    for (act, after) in acts.iter().zip(1..) {
        let skipped = acts.len() - after;
        let done = performer.perform(act, depth).await;
        let mut result = match &done {
            Ok(_) => json!({"ok": true}),
            Err(failure) => json!({"ok": false, "error": failure.in_batch()}),
        };
        let url = tab.url();
        let (is_gone, now) = {
            let state = tab.state();
            (state.is_gone, state.document)
        };
        if now != document
            && !is_gone
            && let Value::Object(members) = &mut result
        {
            members.insert("navigated".to_owned(), json!(true));
            members.insert("url".to_owned(), json!(url));
        }
        outcome.results.push(result);
        let failed = done.err().map(|failure: Failure| failure.in_batch());
        let is_failed = failed.is_some();
        outcome.failure = outcome.failure.or(failed);
        if is_gone {
            outcome.abort("closed", after, &url, skipped);
            break;
        }
        if now != document {
            outcome.abort("navigation", after, &url, skipped);
            break;
        }
        if is_failed && stops_on_error {
            break;
        }
    }
    outcome
}
