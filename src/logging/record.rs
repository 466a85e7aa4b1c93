//! An event as it is written.

use std::fmt::{self, Write as _};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// The longest line that is written, in bytes: what a pipe takes as a whole.
pub(super) const LINE_LIMIT_BYTES: usize = 4096;

/// What an event said.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
    at: SystemTime,
}

impl Record {
    /// Takes an event apart. `left_out` is how many like it were not written before it.
    pub(super) fn of(event: &Event<'_>, left_out: u64) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            level: *metadata.level(),
            target: metadata.target(),
            message: String::new(),
            fields: Vec::new(),
            at: SystemTime::now(),
        };
        event.record(&mut record);
        if left_out > 0 {
            record.fields.push(("left_out", left_out.into()));
        }
        record
    }

    fn is_operator_line(&self) -> bool {
        self.target == actors::OPERATOR_LINES
    }

    /// Its level as syslog counts: 3 is an error, 7 a detail for debugging.
    pub(super) fn priority(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        }
    }

    fn time(&self) -> impl fmt::Display {
        humantime::format_rfc3339_millis(self.at)
    }

    /// A line for people. An operator line is what it says and nothing else.
    pub(super) fn text(&self) -> String {
        let mut line = String::new();
        if self.is_operator_line() {
            line.push_str(&self.message);
        } else {
            let Self {
                level,
                target,
                message,
                ..
            } = self;
            // Writing to a string cannot fail.
            write!(line, "{} {level:>5} {target}: {message}", self.time()).ok();
            for (name, value) in &self.fields {
                match value {
                    Value::String(text) if is_plain(text) => write!(line, " {name}={text}"),
                    value => write!(line, " {name}={value}"),
                }
                .ok();
            }
        }
        finished(line)
    }

    /// One JSON object.
    pub(super) fn json(&self) -> String {
        let mut object = Map::new();
        let mut insert = |name: &str, value: Value| object.insert(name.to_owned(), value);
        insert("time", self.time().to_string().into());
        insert("level", self.level.as_str().to_lowercase().into());
        insert("target", self.target.into());
        insert("message", self.message.as_str().into());
        for (name, value) in &self.fields {
            insert(name, value.clone());
        }
        let line = Value::Object(object).to_string();
        if line.len() < LINE_LIMIT_BYTES {
            return line + "\n";
        }
        // Half an object is none: what is too long loses its fields, and then its end.
        let shortened = Self {
            message: cut(&self.message, LINE_LIMIT_BYTES / 8).to_owned(),
            fields: vec![("truncated", true.into())],
            ..*self
        };
        shortened.json()
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }
}

impl Record {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

/// Whether a value needs no quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"')
}

/// The longest beginning of at most so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// A whole line: of a length that a pipe takes at once, without what a terminal would obey.
fn finished(line: String) -> String {
    let obeyed = |c: char| c.is_control() && c != '\n';
    let mut line = if line.contains(obeyed) {
        line.chars()
            .map(|c| match c {
                c if obeyed(c) => c.escape_default().to_string(),
                c => c.to_string(),
            })
            .collect()
    } else {
        line
    };
    if line.len() >= LINE_LIMIT_BYTES {
        let end = cut(&line, LINE_LIMIT_BYTES - " …\n".len()).len();
        line.truncate(end);
        line.push_str(" …");
    }
    line.push('\n');
    line
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::logging) fn record(target: &'static str, message: &str) -> Record {
        Record {
            level: Level::WARN,
            target,
            message: message.to_owned(),
            fields: vec![
                ("generation", 3_u64.into()),
                ("error", "two words".into()),
                ("agent", "main".into()),
            ],
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_event_is_a_line_with_time_level_and_fields() {
        assert_eq!(
            record("t", "it broke").text(),
            "1970-01-01T00:00:00.000Z  WARN t: it broke generation=3 error=\"two words\" agent=main\n"
        );
        assert_eq!(
            record("t", "it broke").json(),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"target\":\"t\",\"message\":\"it broke\",\"generation\":3,\"error\":\"two words\",\"agent\":\"main\"}\n"
        );
    }

    #[test]
    fn an_operator_line_is_what_it_says() {
        let line = record(
            actors::OPERATOR_LINES,
            "node host gateway connected: ws://h:1",
        );
        assert_eq!(line.text(), "node host gateway connected: ws://h:1\n");
    }

    #[test]
    fn no_line_is_longer_than_a_pipe_takes_at_once() {
        let long = record("t", &"ü".repeat(10_000));
        for line in [long.text(), long.json()] {
            assert!(line.len() <= LINE_LIMIT_BYTES, "{}", line.len());
            assert!(line.ends_with('\n'));
        }
        let object: Value = serde_json::from_str(&long.json()).unwrap();
        assert_eq!(object["truncated"], true);
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(finished("a\u{1b}[2J\rb".to_owned()), "a\\u{1b}[2J\\rb\n");
    }
}
