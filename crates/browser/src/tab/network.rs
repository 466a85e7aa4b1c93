//! The requests of a page since it was attached to (browser proxy §7).

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::journal::{cut, push};
use super::text;
use crate::timestamp::now;

/// How many requests are kept.
const REQUESTS: usize = 500;

/// A request.
#[derive(Debug)]
struct Kept {
    /// The browser's id; a redirected request keeps it.
    id: String,
    /// As routes answer it.
    entry: Value,
}

/// The requests of a page.
#[derive(Debug, Default)]
pub struct Network {
    count: u64,
    kept: VecDeque<Kept>,
}

impl Network {
    /// The requests whose URL or type contains `filter`.
    #[must_use]
    pub fn requests(&self, filter: Option<&str>) -> Vec<Value> {
        self.kept
            .iter()
            .map(|kept| &kept.entry)
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
            "Network.loadingFailed" => {
                let reason = text(params, "errorText").to_owned();
                self.amend(text(params, "requestId"), |members| {
                    members.insert("failureText".to_owned(), Value::from(reason));
                });
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
        let entry = json!({
            "id": format!("r{}", self.count),
            "timestamp": now(),
            "method": text(&request, "method"),
            "url": cut(text(&request, "url")),
            "resourceType": text(params, "type").to_ascii_lowercase(),
        });
        let id = id.to_owned();
        push(&mut self.kept, Kept { id, entry }, REQUESTS);
    }

    /// Adds to the last request of this id.
    fn amend(&mut self, id: &str, amend: impl FnOnce(&mut Map<String, Value>)) {
        let kept = self.kept.iter_mut().rev().find(|kept| kept.id == id);
        if let Some(Value::Object(members)) = kept.map(|kept| &mut kept.entry) {
            amend(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(id: &str, url: &str) -> Value {
        json!({"requestId": id, "type": "Fetch", "request": {"method": "GET", "url": url}})
    }

    fn answered(id: &str, status: u16) -> Value {
        json!({"requestId": id, "response": {"status": status}})
    }

    #[test]
    fn an_answer_belongs_to_the_last_request_of_its_id() {
        let mut network = Network::default();
        network.observe("Network.requestWillBeSent", &begun("1", "http://a/"));
        let mut redirected = begun("1", "http://b/");
        redirected["redirectResponse"] = json!({"status": 302});
        network.observe("Network.requestWillBeSent", &redirected);
        network.observe("Network.responseReceived", &answered("1", 200));
        let seen = network.requests(None);
        let told: Vec<_> = seen
            .iter()
            .map(|request| (&request["id"], &request["status"], &request["ok"]))
            .collect();
        assert_eq!(
            told,
            [
                (&json!("r1"), &json!(302), &json!(false)),
                (&json!("r2"), &json!(200), &json!(true)),
            ]
        );
    }

    #[test]
    fn requests_that_never_end_are_bounded_too() {
        let mut network = Network::default();
        for number in 0..=REQUESTS {
            let begun = begun(&number.to_string(), "http://a/");
            network.observe("Network.requestWillBeSent", &begun);
        }
        network.observe("Network.responseReceived", &answered("0", 200));
        let seen = network.requests(None);
        assert_eq!(seen.len(), REQUESTS);
        assert_eq!(seen[0]["id"], "r2");
        assert!(seen.iter().all(|request| request.get("status").is_none()));
    }
}
