//! The last step of every text snapshot: what is new, the character budget, and the figures.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::named::{NamedRefs, RefInfo, refs_json};
use super::roles::is_interactive;

/// Ends a snapshot that had to be cut (browser proxy §5.2).
const TOO_LARGE: &str = "[...TRUNCATED - page too large]";

/// Ends a snapshot whose tree is deeper than is printed.
const TOO_DEEP: &str = "[...TRUNCATED - accessibility tree too deep]";

/// One line of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The line without its end.
    pub(crate) text: String,
    /// The ref that the line shows.
    pub(crate) reference: Option<String>,
}

impl Line {
    fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            reference: None,
        }
    }
}

/// A snapshot before budget and delta.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The lines, the first one with its indentation.
    pub(crate) lines: Vec<Line>,
    /// Every ref that was given, shown or not.
    pub(crate) refs: NamedRefs,
    /// Whether some of the tree was too deep to print.
    pub(crate) is_too_deep: bool,
}

/// What tells one element from another between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum KeyKind {
    /// The ref itself, where refs stay with their elements.
    Ref,
    /// Role, name and count, where refs are given anew each time.
    Role,
}

impl KeyKind {
    fn key(self, reference: &str, info: &RefInfo) -> String {
        match self {
            Self::Ref => reference.to_owned(),
            Self::Role => format!(
                "{}\0{}\0{}",
                info.role,
                info.name.as_deref().unwrap_or_default(),
                info.nth.unwrap_or(0)
            ),
        }
    }

    /// The keys of everything that a snapshot showed.
    pub(crate) fn keys(self, refs: &NamedRefs) -> HashSet<String> {
        refs.iter()
            .map(|(reference, info)| self.key(reference, info))
            .collect()
    }
}

/// A snapshot ready to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The text.
    pub(crate) text: String,
    /// The refs that the text shows.
    pub(crate) refs: NamedRefs,
    /// Lines of the text.
    pub(crate) lines: usize,
    /// Shown refs of elements that a user acts on.
    pub(crate) interactive: usize,
    /// Shown elements that the last snapshot of the same kind did not show; none for a first one.
    pub(crate) new_elements: Option<usize>,
    /// Whether anything was cut.
    pub(crate) is_truncated: bool,
}

impl Finished {
    /// The members that the snapshot adds to its answer, in the recorded order.
    pub(crate) fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        members.insert("snapshot".to_owned(), json!(self.text));
        members.insert("refs".to_owned(), refs_json(&self.refs));
        members.insert(
            "stats".to_owned(),
            json!({
                "lines": self.lines,
                "chars": utf16_length(&self.text),
                "refs": self.refs.len(),
                "interactive": self.interactive,
            }),
        );
        if let Some(new_elements) = self.new_elements {
            members.insert("newElements".to_owned(), json!(new_elements));
        }
        if self.is_truncated {
            members.insert("truncated".to_owned(), json!(true));
        }
        members
    }
}

/// A link of the page for the list that some snapshots end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageLink {
    /// Its text, or its address where it has none.
    pub(crate) text: String,
    /// Its absolute address.
    pub(crate) url: String,
}

/// Finishes a draft.
///
/// `placeholder` stands in where there are no lines; `budget` is in UTF-16 units; `previous` are the
/// keys of the last snapshot of the same kind and document.
pub(crate) fn finish(
    draft: Draft,
    placeholder: &str,
    links: &[PageLink],
    budget: Option<usize>,
    key_kind: KeyKind,
    previous: Option<&HashSet<String>>,
) -> Finished {
    let mut lines = trimmed(draft.lines);
    if lines.is_empty() {
        lines.push(Line::plain(placeholder));
    }
    if draft.is_too_deep {
        lines.extend([Line::plain(""), Line::plain(TOO_DEEP)]);
    }
    if !links.is_empty() {
        lines.extend([Line::plain(""), Line::plain("Links:")]);
        lines.extend(
            links.iter().zip(1..).map(|(link, number)| {
                Line::plain(format!("{number}. {} -> {}", link.text, link.url))
            }),
        );
    }
    if let Some(previous) = previous {
        mark_new(&mut lines, &draft.refs, key_kind, previous);
    }
    let whole: usize = lines
        .iter()
        .map(|line| utf16_length(&line.text) + 1)
        .sum::<usize>()
        .saturating_sub(1);
    let is_cut = budget.is_some_and(|budget| whole > budget);
    if let Some(budget) = budget
        && is_cut
    {
        cut(&mut lines, budget);
    }
    let shown: HashSet<&str> = lines
        .iter()
        .filter_map(|line| line.reference.as_deref())
        .collect();
    let mut refs = draft.refs;
    refs.retain(|(reference, _)| shown.contains(reference.as_str()));
    let new_elements = previous.map(|previous| {
        key_kind
            .keys(&refs)
            .iter()
            .filter(|key| !previous.contains(*key))
            .count()
    });
    let text = lines
        .iter()
        .map(|line| line.text.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    Finished {
        lines: if text.is_empty() { 0 } else { lines.len() },
        interactive: refs
            .iter()
            .filter(|(_, info)| is_interactive(&info.role))
            .count(),
        text,
        refs,
        new_elements,
        is_truncated: is_cut || draft.is_too_deep,
    }
}

/// The lines as one trimmed text has them: without the first one's indentation.
fn trimmed(mut lines: Vec<Line>) -> Vec<Line> {
    if let Some(first) = lines.first_mut() {
        first.text = first.text.trim_start().to_owned();
    }
    if let Some(last) = lines.last_mut() {
        last.text.truncate(last.text.trim_end().len());
    }
    lines
}

fn mark_new(
    lines: &mut Vec<Line>,
    refs: &NamedRefs,
    key_kind: KeyKind,
    previous: &HashSet<String>,
) {
    let infos: std::collections::HashMap<&str, &RefInfo> = refs
        .iter()
        .map(|(reference, info)| (reference.as_str(), info))
        .collect();
    let mut marked = HashSet::new();
    for line in lines.iter_mut() {
        let Some(reference) = &line.reference else {
            continue;
        };
        let Some(info) = infos.get(reference.as_str()) else {
            continue;
        };
        let key = key_kind.key(reference, info);
        if !previous.contains(&key) {
            line.text.push_str(" [new]");
            marked.insert(key);
        }
    }
    if !marked.is_empty() {
        lines.push(Line::plain(format!(
            "{} new element(s) since last snapshot",
            marked.len()
        )));
    }
}

/// Keeps the whole lines that fit with the marker, and ends with the marker.
fn cut(lines: &mut Vec<Line>, budget: usize) {
    let marker = if budget >= TOO_LARGE.len() {
        TOO_LARGE
    } else {
        "…"
    };
    // Two line ends and the marker come after the last line that is kept.
    let tail = 2 + utf16_length(marker);
    let mut length = 0;
    let mut kept = 0;
    for line in lines.iter() {
        let longer = length + usize::from(length > 0) + utf16_length(&line.text);
        if longer + tail > budget {
            break;
        }
        length = longer;
        kept += 1;
    }
    lines.truncate(kept);
    if length > 0 {
        lines.push(Line::plain(""));
    } else {
        lines.clear();
    }
    lines.push(Line::plain(marker));
}

/// The length of a text as upstream counts it.
pub(crate) fn utf16_length(text: &str) -> usize {
    if text.is_ascii() {
        text.len()
    } else {
        text.chars().map(char::len_utf16).sum()
    }
}
