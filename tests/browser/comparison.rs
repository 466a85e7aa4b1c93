//! Whether an answer is the recorded one, apart from what differs from run to run.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

/// Members whose value is another one in every run; their kind has to be the same.
const PASSING: &[&str] = &[
    "backendDOMNodeId",
    "box",
    "closedAt",
    "expiresAtMs",
    "featureStatus",
    "disabledFeatures",
    "devices",
    "frameId",
    "headers",
    "observedAt",
    "openedAt",
    "stack",
    "timestamp",
    // A page that is loading has no title yet.
    "title",
    "version",
    "renderer",
    "driverBugWorkarounds",
    "videoDecoding",
    "videoEncoding",
    "wsPath",
];

/// Where a recording was cut.
const CUT: &str = "…";

/// What stands for something of this run: the recorded names, and what they are here.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Recorded text to the text of this run.
    fixed: Vec<(String, String)>,
    /// `<TARGET1>`, `t3` and the like, as they are met.
    met: BTreeMap<String, String>,
}

impl Names {
    /// `recorded` is `here` in this run.
    pub(crate) fn fix(&mut self, recorded: &str, here: &str) {
        self.fixed.push((recorded.to_owned(), here.to_owned()));
    }

    /// Forgets what was met: another browser runs.
    pub(crate) fn forget(&mut self) {
        self.met.clear();
    }

    /// A recorded request with the names of this run.
    pub(crate) fn to_here(&self, recorded: &Value) -> Value {
        match recorded {
            Value::String(text) => Value::String(self.text_to_here(text)),
            Value::Array(items) => items.iter().map(|item| self.to_here(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), self.member_to_here(name, value)))
                .collect(),
            other => other.clone(),
        }
    }

    /// The two fingerprints of a page are recorded under one name.
    fn member_to_here(&self, name: &str, value: &Value) -> Value {
        match self.met.get(&format!("fingerprint {name}")) {
            Some(here) if value.as_str() == Some("<sha256>") => Value::String(here.clone()),
            Some(_) | None => self.to_here(value),
        }
    }

    fn text_to_here(&self, text: &str) -> String {
        let mut here = text.to_owned();
        for (recorded, this) in &self.fixed {
            here = here.replace(recorded, this);
        }
        for (recorded, this) in &self.met {
            if recorded.starts_with('<') {
                here = here.replace(recorded, this);
            } else if here == *recorded {
                here.clone_from(this);
            } else if here == format!("/tabs/{recorded}") {
                here = format!("/tabs/{this}");
            }
        }
        here
    }

    /// Notes what differs between a recorded answer and one of this run.
    pub(crate) fn compare(
        &mut self,
        recorded: &Value,
        here: &Value,
        at: &str,
        differences: &mut Vec<String>,
    ) {
        match (recorded, here) {
            (Value::Object(recorded), Value::Object(members)) => {
                let is_cut = recorded.contains_key(CUT);
                for (name, value) in recorded.iter().filter(|(name, _)| *name != CUT) {
                    let at = format!("{at}/{name}");
                    if let (true, Some(Value::String(here))) =
                        (value.as_str() == Some("<sha256>"), members.get(name))
                    {
                        let key = format!("fingerprint {name}");
                        self.met.insert(key, here.clone());
                    }
                    match members.get(name) {
                        None => differences.push(format!("{at}: missing")),
                        Some(here) if PASSING.contains(&name.as_str()) => {
                            let kind = std::mem::discriminant::<Value>;
                            if kind(value) != kind(here) {
                                differences.push(format!("{at}: {here} is of another kind"));
                            }
                        }
                        Some(here) => self.compare(value, here, &at, differences),
                    }
                }
                for (name, value) in members {
                    if !is_cut && !recorded.contains_key(name) {
                        differences.push(format!("{at}/{name}: not expected: {value}"));
                    }
                }
            }
            (Value::Array(recorded), Value::Array(items)) => {
                // The order of pages is that of their use, which input events count for too.
                let by_place = at.ends_with("/tabs");
                let (mut recorded, mut items) = (recorded.clone(), items.clone());
                if by_place {
                    recorded.sort_by_key(|tab| place(&self.to_here(tab)));
                    items.sort_by_key(place);
                }
                let is_cut = recorded
                    .last()
                    .and_then(Value::as_str)
                    .is_some_and(|text| text.starts_with(CUT));
                if is_cut {
                    recorded.pop();
                    items.truncate(recorded.len());
                }
                if recorded.len() != items.len() {
                    differences.push(format!(
                        "{at}: {} items instead of {}",
                        items.len(),
                        recorded.len()
                    ));
                }
                for (index, (recorded, here)) in recorded.iter().zip(&items).enumerate() {
                    self.compare(recorded, here, &format!("{at}/{index}"), differences);
                }
            }
            (Value::String(recorded), _) if is_stand_in(recorded) => {}
            (Value::String(recorded), Value::String(here)) => {
                self.compare_text(recorded, here, at, differences);
            }
            (recorded, here) if recorded == here => {}
            (Value::Number(recorded), Value::Number(here))
                if self.text_to_here(&recorded.to_string()).parse().ok() == here.as_u64() => {}
            (recorded, here) => differences.push(format!("{at}: {here} instead of {recorded}")),
        }
    }

    fn compare_text(
        &mut self,
        recorded: &str,
        here: &str,
        at: &str,
        differences: &mut Vec<String>,
    ) {
        // Which number the browser's first page has depends on when it is seen.
        if let (Some((recorded, recorded_tab)), Some((here, tab))) =
            (recorded.rsplit_once(" on "), here.rsplit_once(" on "))
            && is_tab_number(recorded_tab)
            && is_tab_number(tab)
        {
            self.compare_text(recorded_tab, tab, at, differences);
            return self.compare_text(recorded, here, at, differences);
        }
        if is_tab_number(recorded) && is_tab_number(here) {
            let known = self
                .met
                .entry(recorded.to_owned())
                .or_insert_with(|| here.to_owned());
            if known != here {
                differences.push(format!("{at}: {here} instead of {known}"));
            }
            return;
        }
        let expected = self.text_to_here(recorded);
        let (pattern, names) = pattern(&expected);
        let Some(found) = pattern.captures(here) else {
            return differences.push(format!("{at}: {here:?} instead of {expected:?}"));
        };
        for (index, name) in names.into_iter().enumerate() {
            if let (Some(name), Some(value)) = (name, found.get(index + 1)) {
                self.met.insert(name, value.as_str().to_owned());
            }
        }
    }
}

/// What tells pages apart.
fn place(tab: &Value) -> String {
    format!("{} {}", tab["url"], tab["label"])
}

/// Whether the whole text stands for a value that was not recorded.
fn is_stand_in(text: &str) -> bool {
    matches!(text, "<pid>" | "<token>")
        || (text.starts_with('<')
            && (text.ends_with(" chars total>")
                || text.ends_with(" entries>")
                || text.ends_with(" keys>")))
}

fn is_tab_number(text: &str) -> bool {
    text.strip_prefix('t')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// A pattern for a recorded text, with the name that each of its groups gives a value.
fn pattern(recorded: &str) -> (Regex, Vec<Option<String>>) {
    let stand_in = Regex::new(
        r"…?<(TARGET[0-9]*|uuid|sha256|base64 [0-9]+ chars|token|size|[0-9]+ chars total|[0-9]+ keys)>",
    )
    .unwrap();
    let mut pattern = String::from("(?s)^");
    let mut names = Vec::new();
    let mut end = 0;
    for found in stand_in.find_iter(recorded) {
        pattern.push_str(&regex::escape(&recorded[end..found.start()]));
        end = found.end();
        let name = found.as_str();
        let (part, name) = match name {
            "<size>" => ("([0-9]+x[0-9]+ \\([0-9]+ pixels\\))", None),
            "<uuid>" => ("([0-9a-f-]{36})", None),
            "<sha256>" => ("(sha256:[0-9a-f]{64})", Some(name)),
            _ if name.trim_start_matches(CUT).starts_with("<TARGET") => {
                ("([0-9A-F]{32})", Some(name))
            }
            _ => ("(.*)", None),
        };
        pattern.push_str(part);
        // The two fingerprints are recorded under one name, so they cannot be told apart.
        names.push(name.filter(|name| *name != "<sha256>").map(str::to_owned));
    }
    pattern.push_str(&regex::escape(&recorded[end..]));
    pattern.push('$');
    (Regex::new(&pattern).unwrap(), names)
}
