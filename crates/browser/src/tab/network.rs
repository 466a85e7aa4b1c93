//! The requests of a page since it was attached to (browser proxy §7).

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::journal::{cut, push};
use super::text;
use crate::timestamp::now;

/// How many requests are kept.
const REQUESTS: usize = 500;

/// The requests of a page.
#[derive(Debug, Default)]
pub struct Network {
    count: u64,
    kept: VecDeque<Value>,
    /// The browser's id of each request that is under way, with ours.
    under_way: HashMap<String, String>,
    /// When a request last began or ended.
    last_change: Option<Instant>,
}

impl Network {
    /// The requests whose URL or type contains `filter`.
    #[must_use]
    pub fn requests(&self, filter: Option<&str>) -> Vec<Value> {
        self.kept
            .iter()
            .filter(|request| {
                filter.is_none_or(|filter| {
                    text(request, "url").contains(filter)
                        || text(request, "resourceType").contains(filter)
                })
            })
            .cloned()
            .collect()
    }

    /// Forgets the requests.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// How many requests are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// When a request last began or ended.
    #[must_use]
    pub fn last_change(&self) -> Option<Instant> {
        self.last_change
    }

    pub(super) fn observe(&mut self, method: &str, params: &Value) {
        match method {
            "Network.requestWillBeSent" => self.begin(params),
            "Network.responseReceived" => {
                if let Some(response) = params.get("response") {
                    let status = response.get("status").and_then(Value::as_u64).unwrap_or(0);
                    self.amend(text(params, "requestId"), |members| {
                        members.insert("status".to_owned(), Value::from(status));
                        let is_ok = status == 0 || (200..300).contains(&status);
                        members.insert("ok".to_owned(), Value::from(is_ok));
                    });
                }
            }
            "Network.loadingFinished" => self.end(text(params, "requestId")),
            "Network.loadingFailed" => {
                let reason = text(params, "errorText").to_owned();
                self.amend(text(params, "requestId"), |members| {
                    members.insert("failureText".to_owned(), Value::from(reason));
                });
                self.end(text(params, "requestId"));
            }
            _ => {}
        }
    }

    fn begin(&mut self, params: &Value) {
        let id = text(params, "requestId");
        if let Some(redirect) = params.get("redirectResponse") {
            let status = redirect.get("status").and_then(Value::as_u64).unwrap_or(0);
            self.amend(id, |members| {
                members.insert("status".to_owned(), Value::from(status));
                members.insert("ok".to_owned(), Value::from(false));
            });
        }
        let request = params.get("request").cloned().unwrap_or_default();
        self.count += 1;
        let ours = format!("r{}", self.count);
        self.under_way.insert(id.to_owned(), ours.clone());
        self.last_change = Some(Instant::now());
        let entry = json!({
            "id": ours,
            "timestamp": now(),
            "method": text(&request, "method"),
            "url": cut(text(&request, "url")),
            "resourceType": text(params, "type").to_ascii_lowercase(),
        });
        push(&mut self.kept, entry, REQUESTS);
    }

    fn amend(&mut self, id: &str, amend: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let Some(ours) = self.under_way.get(id) else {
            return;
        };
        let entry = self
            .kept
            .iter_mut()
            .rev()
            .find(|entry| text(entry, "id") == ours);
        if let Some(Value::Object(members)) = entry {
            amend(members);
        }
    }

    fn end(&mut self, id: &str) {
        if self.under_way.remove(id).is_some() {
            self.last_change = Some(Instant::now());
        }
    }
}
