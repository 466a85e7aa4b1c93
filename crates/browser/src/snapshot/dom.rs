//! `DOMSnapshot.captureSnapshot`: the documents of a page with their layout, read once.

use std::collections::HashMap;

use serde_json::{Value, json};

/// The computed styles to ask for, in the order in which [`Style`] reads them.
pub(crate) fn capture_params() -> Value {
    json!({"computedStyles": ["cursor", "display", "visibility", "pointer-events"]})
}

/// The computed styles of an element that has a box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style<'a> {
    pub(crate) cursor: &'a str,
    pub(crate) display: &'a str,
    pub(crate) visibility: &'a str,
    pub(crate) pointer_events: &'a str,
}

/// What kind of node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Element,
    Text,
    /// A shadow root: `open` and `closed` ones, not the browser's own.
    ShadowRoot,
    /// Documents, comments, doctypes, and what the browser adds of its own.
    Other,
}

/// A node of a document.
#[derive(Debug)]
pub(crate) struct DomNode<'a> {
    pub(crate) kind: NodeKind,
    /// The tag as the browser spells it, upper case for HTML.
    pub(crate) tag: &'a str,
    /// The text of a text node.
    pub(crate) text: &'a str,
    pub(crate) backend_node_id: i64,
    attributes: Vec<(&'a str, &'a str)>,
    pub(crate) children: Vec<usize>,
    /// None where nothing is laid out, such as below `display: none`.
    pub(crate) style: Option<Style<'a>>,
    /// Whether it covers any of the page.
    pub(crate) has_area: bool,
    /// The document that an iframe shows, as a position among the documents.
    pub(crate) content_document: Option<usize>,
    /// Whether an option is the selected one.
    pub(crate) is_selected_option: bool,
}

impl<'a> DomNode<'a> {
    /// An attribute's value.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        self.attributes
            .iter()
            .find(|(attribute, _)| *attribute == name)
            .map(|(_, value)| *value)
    }
}

/// A document of the page.
#[derive(Debug)]
pub(crate) struct DomDocument<'a> {
    pub(crate) frame_id: &'a str,
    /// The frame whose own process it is in; none in the page's.
    pub(crate) process_frame: Option<String>,
    pub(crate) nodes: Vec<DomNode<'a>>,
}

impl DomDocument<'_> {
    /// The browser's id of the document node: no two documents of a process share one.
    pub(crate) fn identity(&self) -> i64 {
        self.nodes
            .first()
            .map_or(0, |document| document.backend_node_id)
    }

    /// What tells it from any other document that the tab shows or showed.
    pub(crate) fn key(&self) -> (String, i64) {
        (self.frame_id.to_owned(), self.identity())
    }

    /// Moves the documents that its iframes show behind `by` others.
    pub(crate) fn shift_content_documents(&mut self, by: usize) {
        for node in &mut self.nodes {
            if let Some(document) = &mut node.content_document {
                *document += by;
            }
        }
    }

    /// Where the body stands among the nodes.
    pub(crate) fn body(&self) -> Option<usize> {
        self.nodes
            .iter()
            .position(|node| matches!(node.tag, "BODY" | "FRAMESET"))
    }
}

/// The documents of an answer, the main frame's first.
pub(crate) fn documents(answer: &Value) -> Vec<DomDocument<'_>> {
    let strings: Vec<&str> = array(answer, "strings")
        .iter()
        .map(|text| text.as_str().unwrap_or_default())
        .collect();
    array(answer, "documents")
        .iter()
        .map(|document| read_document(document, &strings))
        .collect()
}

fn read_document<'a>(document: &'a Value, strings: &[&'a str]) -> DomDocument<'a> {
    let text = |index: Option<&Value>| -> &'a str {
        index
            .and_then(Value::as_u64)
            .and_then(|index| strings.get(usize::try_from(index).ok()?))
            .copied()
            .unwrap_or_default()
    };
    let nodes = document.get("nodes").unwrap_or(&Value::Null);
    let column = |name: &str| array(nodes, name);
    let (types, names, values) = (column("nodeType"), column("nodeName"), column("nodeValue"));
    let (ids, attributes) = (column("backendNodeId"), column("attributes"));
    let shadow_types = sparse(nodes, "shadowRootType");
    let content_documents = sparse(nodes, "contentDocumentIndex");
    let selected = sparse(nodes, "optionSelected");
    let pseudo = sparse(nodes, "pseudoType");
    let mut read: Vec<DomNode<'a>> = ids
        .iter()
        .enumerate()
        .map(|(position, id)| DomNode {
            kind: match types.get(position).and_then(Value::as_u64) {
                Some(1) if !pseudo.contains_key(&position) => NodeKind::Element,
                Some(3) => NodeKind::Text,
                Some(11) => match text(shadow_types.get(&position).copied().flatten()) {
                    "open" | "closed" => NodeKind::ShadowRoot,
                    _ => NodeKind::Other,
                },
                _ => NodeKind::Other,
            },
            tag: text(names.get(position)),
            text: text(values.get(position)),
            backend_node_id: id.as_i64().unwrap_or_default(),
            attributes: attributes
                .get(position)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default()
                .chunks(2)
                .map(|pair| (text(pair.first()), text(pair.get(1))))
                .collect(),
            children: Vec::new(),
            style: None,
            has_area: false,
            content_document: content_documents
                .get(&position)
                .copied()
                .flatten()
                .and_then(Value::as_u64)
                .and_then(|index| usize::try_from(index).ok()),
            is_selected_option: selected.contains_key(&position),
        })
        .collect();
    for (child, parent) in column("parentIndex").iter().enumerate() {
        let parent = parent
            .as_u64()
            .and_then(|parent| usize::try_from(parent).ok());
        // A parent comes before its children; anything else would be a cycle.
        if let Some(parent) = parent.filter(|parent| *parent < child)
            && let Some(parent) = read.get_mut(parent)
        {
            parent.children.push(child);
        }
    }
    let layout = document.get("layout").unwrap_or(&Value::Null);
    let (styles, bounds) = (array(layout, "styles"), array(layout, "bounds"));
    for (box_position, node) in array(layout, "nodeIndex").iter().enumerate() {
        let Some(node) = node
            .as_u64()
            .and_then(|node| read.get_mut(usize::try_from(node).ok()?))
        else {
            continue;
        };
        let style = styles.get(box_position).and_then(Value::as_array);
        let style = style.map(Vec::as_slice).unwrap_or_default();
        if node.style.is_none() {
            node.style = Some(Style {
                cursor: text(style.first()),
                display: text(style.get(1)),
                visibility: text(style.get(2)),
                pointer_events: text(style.get(3)),
            });
        }
        let bounds = bounds.get(box_position).and_then(Value::as_array);
        let side = |side: usize| bounds.and_then(|bounds| bounds.get(side)?.as_f64());
        node.has_area |= side(2) > Some(0.0) && side(3) > Some(0.0);
    }
    DomDocument {
        frame_id: text(document.get("frameId")),
        process_frame: None,
        nodes: read,
    }
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value
        .get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// A column that only some nodes have, by the node's position; booleans have no values.
fn sparse<'a>(nodes: &'a Value, name: &str) -> HashMap<usize, Option<&'a Value>> {
    let column = nodes.get(name).unwrap_or(&Value::Null);
    let values = array(column, "value");
    array(column, "index")
        .iter()
        .enumerate()
        .filter_map(|(row, position)| {
            let position = usize::try_from(position.as_u64()?).ok()?;
            Some((position, values.get(row)))
        })
        .collect()
}
