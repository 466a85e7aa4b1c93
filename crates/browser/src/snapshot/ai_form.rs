//! The default form of a snapshot, in the grammar of Playwright's AI snapshot (browser proxy §5.3).

use std::collections::HashMap;

use super::ai_tree::{AiNode, AxByNode, Item, ai_tree, drop_wrappers};
use super::dom::DomDocument;
use super::finish::{Draft, Line};
use super::named::{Identity, NamedRefs, RefInfo};
use super::role_form::{RoleOptions, quoted};
use super::roles::{is_interactive, is_structural};
use super::yaml::{yaml_key, yaml_value};

/// A longer name tells the reader nothing, and is left out.
const LONGEST_NAME_UTF16: usize = 900;

/// Documents whose refs are remembered at most.
const MOST_DOCUMENTS: usize = 64;

/// The refs that a tab's elements were given by the default form. They stay with their elements as
/// long as role and name stay the same.
#[derive(Debug, Default)]
pub(crate) struct AiRefs {
    documents: HashMap<(String, i64), DocumentRefs>,
}

#[derive(Debug, Default)]
struct DocumentRefs {
    /// Such as `f7`, or empty for the first document of a tab.
    prefix: String,
    last: u32,
    by_element: HashMap<i64, (String, RefInfo)>,
}

impl AiRefs {
    /// Where a ref of the default form is.
    pub(crate) fn find(&self, reference: &str) -> Option<&RefInfo> {
        self.documents
            .values()
            .flat_map(|document| document.by_element.values())
            .find(|(given, _)| given == reference)
            .map(|(_, info)| info)
    }

    /// The ref of an element, a new one where it has none or has become something else.
    fn give(&mut self, document: &DomDocument<'_>, node: &AiNode) -> String {
        let refs = self.documents.entry(document.key()).or_default();
        let name = Some(node.name.clone()).filter(|name| !name.is_empty());
        if let Some((reference, info)) = refs.by_element.get(&node.backend_node_id)
            && info.role == node.role
            && info.name == name
        {
            return reference.clone();
        }
        refs.last += 1;
        let reference = format!("{}e{}", refs.prefix, refs.last);
        let info = RefInfo {
            role: node.role.clone(),
            name,
            nth: None,
            backend_node_id: Some(node.backend_node_id),
            frame_id: None,
            process_frame: document.process_frame.clone(),
            identity: Identity::Ref,
        };
        refs.by_element
            .insert(node.backend_node_id, (reference.clone(), info));
        reference
    }

    /// Forgets documents that are gone, and says how the refs of new ones begin.
    fn enter(&mut self, documents: &[DomDocument<'_>], sequence: &mut dyn FnMut(&str) -> u32) {
        self.documents
            .retain(|key, _| documents.iter().any(|document| document.key() == *key));
        for document in documents.iter().take(MOST_DOCUMENTS) {
            self.documents
                .entry(document.key())
                .or_insert_with(|| DocumentRefs {
                    prefix: match sequence(document.frame_id) {
                        0 => String::new(),
                        sequence => format!("f{sequence}"),
                    },
                    ..DocumentRefs::default()
                });
        }
    }
}

/// Renders the page in the default form.
///
/// `sequence` is a frame's place in the order in which the tab's frames came, 0 for the first;
/// `options` thin the text as `refs=aria` snapshots can be.
pub(crate) fn ai_draft(
    documents: &[DomDocument<'_>],
    ax: &[AxByNode<'_>],
    ai_refs: &mut AiRefs,
    sequence: &mut dyn FnMut(&str) -> u32,
    options: RoleOptions,
) -> Draft {
    ai_refs.enter(documents, sequence);
    let mut items = ai_tree(documents, ax);
    give_refs(&mut items, documents, ai_refs);
    let items = drop_wrappers(items);
    let mut rows = Vec::new();
    list(&items, 0, true, &mut rows);
    let refs_of = |row: &Row<'_>| {
        let (reference, node) = row.reference.as_ref().zip(row.node)?;
        let info = ai_refs
            .documents
            .get(&documents.get(node.document)?.key())?
            .by_element
            .get(&node.backend_node_id)?;
        Some((reference.clone(), info.1.clone()))
    };
    if let Some(deepest) = options.depth {
        rows.retain(|row| row.level <= deepest);
    }
    if options.is_interactive {
        rows.retain(|row| {
            row.reference.is_some() && row.node.is_some_and(|node| is_interactive(&node.role))
        });
        return Draft {
            refs: rows.iter().filter_map(refs_of).collect(),
            lines: rows.iter().map(Row::interactive_line).collect(),
            is_too_deep: false,
        };
    }
    if options.is_compact {
        rows.retain(|row| {
            row.node
                .is_none_or(|node| !is_structural(&node.role) || !node.name.is_empty())
        });
    }
    let refs: NamedRefs = rows.iter().filter_map(refs_of).collect();
    if options.is_compact {
        rows = compacted(rows);
    }
    Draft {
        refs,
        lines: rows.iter().map(Row::line).collect(),
        is_too_deep: false,
    }
}

fn give_refs(items: &mut [Item], documents: &[DomDocument<'_>], ai_refs: &mut AiRefs) {
    for item in items {
        let Item::Node(node) = item else { continue };
        if node.is_pointable
            && let Some(document) = documents.get(node.document)
        {
            node.reference = Some(ai_refs.give(document, node));
        }
        give_refs(&mut node.children, documents, ai_refs);
    }
}

/// A line before it is text.
struct Row<'a> {
    level: usize,
    /// None for texts and properties.
    node: Option<&'a AiNode>,
    reference: Option<String>,
    /// The line without indentation, ref included; for an element without what follows its key.
    head: String,
    /// What follows an element's key: `:`, `: text` or nothing.
    tail: String,
    /// Whether a hand is shown.
    has_pointer: bool,
}

impl Row<'_> {
    fn line(&self) -> Line {
        Line {
            text: format!("{}- {}{}", "  ".repeat(self.level), self.head, self.tail),
            reference: self.reference.clone(),
        }
    }

    /// The line of an interactive snapshot: flat, with the ref before the states.
    fn interactive_line(&self) -> Line {
        let mut text = String::from("- ");
        if let Some(node) = self.node {
            text.push_str(&node.role);
            push_name(&mut text, node);
            if let Some(reference) = &self.reference {
                text.push_str(&format!(" [ref={reference}]"));
            }
            push_states(&mut text, node);
            if self.has_pointer {
                text.push_str(" [cursor=pointer]");
            }
        }
        text.push_str(&self.tail);
        Line {
            text,
            reference: self.reference.clone(),
        }
    }

    fn has_content(&self) -> bool {
        self.reference.is_some()
            || self.tail.len() > 1
            || self.node.is_none() && !self.head.ends_with(':')
    }
}

fn list<'a>(items: &'a [Item], level: usize, shows_pointer: bool, rows: &mut Vec<Row<'a>>) {
    for item in items {
        let node = match item {
            Item::Text(text) => {
                rows.push(plain_row(level, "text", text));
                continue;
            }
            Item::Node(node) => node,
        };
        let has_pointer = shows_pointer && node.has_pointer && node.reference.is_some();
        let mut key = node.role.clone();
        push_name(&mut key, node);
        push_states(&mut key, node);
        if let Some(reference) = &node.reference {
            key.push_str(&format!(" [ref={reference}]"));
        }
        if has_pointer {
            key.push_str(" [cursor=pointer]");
        }
        let only_text = match node.children.as_slice() {
            [Item::Text(text)] if node.properties.is_empty() => Some(text),
            _ => None,
        };
        let tail = match only_text {
            Some(text) => format!(": {}", yaml_value(text)),
            None if node.children.is_empty() && node.properties.is_empty() => String::new(),
            None => ":".to_owned(),
        };
        rows.push(Row {
            level,
            node: Some(node),
            reference: node.reference.clone(),
            head: yaml_key(&key),
            tail,
            has_pointer,
        });
        for (property, value) in &node.properties {
            rows.push(plain_row(level + 1, property, value));
        }
        if only_text.is_none() {
            list(
                &node.children,
                level + 1,
                shows_pointer && !has_pointer,
                rows,
            );
        }
    }
}

fn plain_row<'a>(level: usize, key: &str, value: &str) -> Row<'a> {
    Row {
        level,
        node: None,
        reference: None,
        head: format!("{key}: {}", yaml_value(value)),
        tail: String::new(),
        has_pointer: false,
    }
}

fn push_name(text: &mut String, node: &AiNode) {
    if !node.name.is_empty() && node.name.encode_utf16().count() <= LONGEST_NAME_UTF16 {
        text.push(' ');
        text.push_str(&quoted(&node.name));
    }
}

fn push_states(text: &mut String, node: &AiNode) {
    for state in &node.states {
        text.push_str(&format!(" [{state}]"));
    }
}

/// Keeps rows with a ref or a value, and what such rows are in.
fn compacted(rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    let mut keep = vec![false; rows.len()];
    let mut above: Vec<(usize, usize)> = Vec::new();
    for (position, row) in rows.iter().enumerate() {
        while above.last().is_some_and(|(level, _)| *level >= row.level) {
            above.pop();
        }
        above.push((row.level, position));
        let kept = if row.reference.is_some() {
            above.as_slice()
        } else if row.has_content() {
            above.get(above.len() - 1..).unwrap_or_default()
        } else {
            &[]
        };
        for (_, position) in kept {
            if let Some(keep) = keep.get_mut(*position) {
                *keep = true;
            }
        }
    }
    let mut keep = keep.into_iter();
    rows.into_iter()
        .filter(|_| keep.next().unwrap_or(false))
        .collect()
}
