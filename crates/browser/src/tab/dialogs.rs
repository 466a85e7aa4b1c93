//! The dialogs of a page: what waits for an answer, and what was answered (browser proxy §7).

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::text;
use crate::timestamp::now;

/// How long an answer that was given in advance counts.
pub const ARMED_FOR: Duration = Duration::from_secs(120);

/// How many answered dialogs are remembered.
const RECENT: usize = 20;

/// What is to be answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// OK or Cancel.
    pub accept: bool,
    /// What is typed into a prompt.
    pub prompt_text: Option<String>,
}

impl Answer {
    /// The params of `Page.handleJavaScriptDialog`.
    #[must_use]
    pub fn to_params(&self) -> Value {
        let mut params = json!({"accept": self.accept});
        if let (Value::Object(members), Some(text)) = (&mut params, &self.prompt_text) {
            members.insert("promptText".to_owned(), Value::from(text.as_str()));
        }
        params
    }
}

/// Who closed a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClosedBy {
    Agent,
    Armed,
    Remote,
}

#[derive(Debug)]
struct Pending {
    dialog: Value,
    id: String,
    answered_by: Option<ClosedBy>,
}

/// The dialogs of a page. A page has at most one that is open.
#[derive(Debug, Default)]
pub struct Dialogs {
    count: u64,
    pending: Option<Pending>,
    recent: VecDeque<Value>,
    armed: Option<(Instant, Answer)>,
}

impl Dialogs {
    /// Whether one waits for its answer.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.answered_by.is_none())
    }

    /// Whether one was answered and is not gone yet.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|pending| pending.answered_by.is_some())
    }

    /// Whether there was any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_none() && self.recent.is_empty()
    }

    /// `browserState` as routes answer it.
    #[must_use]
    pub fn to_state(&self) -> Value {
        let pending: Vec<&Value> = self
            .pending
            .iter()
            .filter(|pending| pending.answered_by.is_none())
            .map(|pending| &pending.dialog)
            .collect();
        json!({"dialogs": {"pending": pending, "recent": self.recent}})
    }

    /// Answers the next dialog in advance.
    pub fn arm(&mut self, answer: Answer, lasts: Duration) {
        self.armed = Some((Instant::now() + lasts, answer));
    }

    /// Whether `id` is the open dialog's.
    #[must_use]
    pub fn is_open(&self, id: &str) -> bool {
        self.is_pending()
            && self
                .pending
                .as_ref()
                .is_some_and(|pending| pending.id == id)
    }

    /// Takes the open dialog to be answered by the agent.
    pub fn answer(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.answered_by = Some(ClosedBy::Agent);
        }
    }

    /// A dialog opens. Returns the answer if one was given in advance, as call params.
    pub(super) fn open(&mut self, params: &Value) -> Option<Value> {
        self.close();
        self.count += 1;
        let id = format!("d{}", self.count);
        let kind = text(params, "type");
        let mut dialog = json!({
            "id": id,
            "type": kind,
            "message": text(params, "message"),
        });
        if let Value::Object(members) = &mut dialog {
            let default = text(params, "defaultPrompt");
            if kind == "prompt" {
                members.insert("defaultValue".to_owned(), Value::from(default));
            }
            members.insert("openedAt".to_owned(), Value::from(now()));
        }
        let armed = self.armed.take();
        let answer = armed.filter(|(until, _)| *until > Instant::now());
        self.pending = Some(Pending {
            dialog,
            id,
            answered_by: answer.is_some().then_some(ClosedBy::Armed),
        });
        answer.map(|(_, answer)| answer.to_params())
    }

    /// The open dialog is gone.
    pub(super) fn close(&mut self) {
        let Some(pending) = self.pending.take() else {
            return;
        };
        let mut dialog = pending.dialog;
        if let Value::Object(members) = &mut dialog {
            members.insert("closedAt".to_owned(), Value::from(now()));
            let closed_by = match pending.answered_by.unwrap_or(ClosedBy::Remote) {
                ClosedBy::Agent => "agent",
                ClosedBy::Armed => "armed",
                ClosedBy::Remote => "remote",
            };
            members.insert("closedBy".to_owned(), Value::from(closed_by));
        }
        self.recent.push_back(dialog);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}
