//! What a page wrote to its console, and the errors that it did not catch (browser proxy §7).

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::text;
use crate::timestamp::now;

/// How many console messages are kept.
const MESSAGES: usize = 500;
/// How many errors are kept.
const ERRORS: usize = 200;
/// The longest text that is kept, in bytes.
const TEXT_BYTES: usize = 2048;

/// How important a console message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `console.debug`.
    Debug,
    /// `console.log` and whatever has no level of its own.
    Info,
    /// `console.warn`.
    Warning,
    /// `console.error`.
    Error,
}

impl Level {
    /// The level of a message type, or of the filter that an agent names.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "error" | "assert" => Self::Error,
            "warning" | "warn" => Self::Warning,
            "debug" | "verbose" => Self::Debug,
            _ => Self::Info,
        }
    }
}

/// What a page said since it was attached to.
#[derive(Debug, Default)]
pub struct PageJournal {
    messages: VecDeque<Value>,
    errors: VecDeque<Value>,
}

impl PageJournal {
    /// The console messages of at least this level.
    #[must_use]
    pub fn messages(&self, least: Option<Level>) -> Vec<Value> {
        self.messages
            .iter()
            .filter(|message| least.is_none_or(|least| Level::of(text(message, "type")) >= least))
            .cloned()
            .collect()
    }

    /// The errors.
    #[must_use]
    pub fn errors(&self) -> Vec<Value> {
        self.errors.iter().cloned().collect()
    }

    /// Forgets the errors.
    pub fn clear_errors(&mut self) {
        self.errors.clear();
    }

    pub(super) fn on_console(&mut self, params: &Value) {
        let words: Vec<String> = params
            .get("args")
            .and_then(Value::as_array)
            .map(|args| args.iter().map(shown).collect())
            .unwrap_or_default();
        let frame = params.pointer("/stackTrace/callFrames/0");
        let number = |name| {
            frame
                .and_then(|frame| frame.get(name))
                .and_then(Value::as_u64)
                .unwrap_or(0)
        };
        let (line, column) = (number("lineNumber"), number("columnNumber"));
        let message = json!({
            "type": text(params, "type"),
            "text": cut(&words.join(" ")),
            "timestamp": now(),
            "location": {
                "url": frame.map_or("", |frame| text(frame, "url")),
                "line": line,
                "column": column,
                "lineNumber": line,
                "columnNumber": column,
            },
        });
        push(&mut self.messages, message, MESSAGES);
    }

    pub(super) fn on_exception(&mut self, params: &Value) {
        let Some(details) = params.get("exceptionDetails") else {
            return;
        };
        let exception = details.get("exception").cloned().unwrap_or_default();
        let stack = text(&exception, "description");
        let name = text(&exception, "className");
        let first_line = stack.lines().next().unwrap_or_default();
        let message = match first_line.split_once(": ") {
            Some((_, message)) if !name.is_empty() => message.to_owned(),
            _ if !first_line.is_empty() => first_line.to_owned(),
            _ => match exception.get("value") {
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => text(details, "text").to_owned(),
            },
        };
        let mut error = json!({"message": cut(&message)});
        if let Value::Object(members) = &mut error {
            if !name.is_empty() {
                members.insert("name".to_owned(), Value::from(name));
                members.insert("stack".to_owned(), Value::from(cut(stack)));
            }
            members.insert("timestamp".to_owned(), Value::from(now()));
        }
        push(&mut self.errors, error, ERRORS);
    }
}

pub(super) fn push<T>(ring: &mut VecDeque<T>, value: T, limit: usize) {
    ring.push_back(value);
    if ring.len() > limit {
        ring.pop_front();
    }
}

/// The beginning of a text that is too long to keep.
pub(super) fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(TEXT_BYTES);
    text.get(..end).unwrap_or(text)
}

/// A console argument as one reads it: `log one {a: 1}`.
fn shown(argument: &Value) -> String {
    match argument.get("value") {
        Some(Value::String(text)) => return text.clone(),
        Some(value) if argument.get("preview").is_none() && !value.is_object() => {
            return value.to_string();
        }
        Some(_) | None => {}
    }
    if let Some(preview) = argument.get("preview") {
        return preview_of(preview);
    }
    let description = text(argument, "description");
    match text(argument, "unserializableValue") {
        "" if description.is_empty() => text(argument, "type").to_owned(),
        "" => description.to_owned(),
        special => special.to_owned(),
    }
}

fn preview_of(preview: &Value) -> String {
    let is_array = text(preview, "subtype") == "array";
    let plain = matches!(text(preview, "subtype"), "" | "array")
        && matches!(text(preview, "type"), "object");
    if !plain {
        return text(preview, "description").to_owned();
    }
    let properties = preview.get("properties").and_then(Value::as_array);
    let mut parts: Vec<String> = properties
        .into_iter()
        .flatten()
        .map(|property| {
            let value = match text(property, "type") {
                "object" if text(property, "value").is_empty() => "Object",
                _ => text(property, "value"),
            };
            if is_array {
                value.to_owned()
            } else {
                format!("{}: {value}", text(property, "name"))
            }
        })
        .collect();
    if preview.get("overflow").and_then(Value::as_bool) == Some(true) {
        parts.push("…".to_owned());
    }
    let inner = parts.join(", ");
    if is_array {
        format!("[{inner}]")
    } else {
        format!("{{{inner}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_arguments_are_joined_as_one_reads_them() {
        let mut journal = PageJournal::default();
        journal.on_console(&json!({
            "type": "log",
            "args": [
                {"type": "string", "value": "log one"},
                {"type": "object", "preview": {"type": "object", "overflow": false,
                    "properties": [{"name": "a", "type": "number", "value": "1"}]}},
                {"type": "number", "value": 7},
                {"type": "undefined"},
                {"type": "number", "unserializableValue": "NaN", "description": "NaN"},
            ],
            "stackTrace": {"callFrames": [{"url": "http://x/", "lineNumber": 4, "columnNumber": 105}]},
        }));
        let messages = journal.messages(None);
        assert_eq!(messages[0]["text"], "log one {a: 1} 7 undefined NaN");
        assert_eq!(messages[0]["location"]["column"], 105);
        assert!(journal.messages(Some(Level::Error)).is_empty());
    }

    #[test]
    fn the_oldest_messages_make_room() {
        let mut journal = PageJournal::default();
        for number in 0..=MESSAGES {
            journal.on_console(
                &json!({"type": "error", "args": [{"type": "number", "value": number}]}),
            );
        }
        let messages = journal.messages(Some(Level::Error));
        assert_eq!(messages.len(), MESSAGES);
        assert_eq!(messages[0]["text"], "1");
    }

    #[test]
    fn an_error_tells_its_message_and_where_it_was_thrown() {
        let mut journal = PageJournal::default();
        journal.on_exception(
            &json!({"exceptionDetails": {"text": "Uncaught", "exception": {
            "className": "Error", "description": "Error: boom\n    at http://x/:6:85"}}}),
        );
        journal.on_exception(
            &json!({"exceptionDetails": {"text": "Uncaught", "exception": {
            "type": "string", "value": "plain"}}}),
        );
        let errors = journal.errors();
        assert_eq!(errors[0]["message"], "boom");
        assert_eq!(errors[0]["name"], "Error");
        assert_eq!(errors[1]["message"], "plain");
    }
}
