//! The default form's tree: elements of the DOM with the roles and names that Chrome computed
//! (browser proxy §5.3). Wrappers that add nothing are dropped, texts joined.

use std::collections::HashMap;

use super::ax::AxNode;
use super::dom::{DomDocument, DomNode, NodeKind};

/// A child: text, or an element with a role.
#[derive(Debug)]
pub(crate) enum Item {
    Text(String),
    Node(AiNode),
}

/// An element of the default form.
#[derive(Debug, Default)]
pub(crate) struct AiNode {
    pub(crate) role: String,
    pub(crate) name: String,
    /// States in print order, such as `checked` or `level=1`.
    pub(crate) states: Vec<String>,
    pub(crate) backend_node_id: i64,
    /// The document it is in, as a position among the documents.
    pub(crate) document: usize,
    /// Whether a user can point at it; only then it has a ref.
    pub(crate) is_pointable: bool,
    /// Whether the pointer is a hand over it.
    pub(crate) has_pointer: bool,
    /// `/url` and `/placeholder`.
    pub(crate) properties: Vec<(&'static str, String)>,
    pub(crate) children: Vec<Item>,
    /// Set by [`super::ai_form`].
    pub(crate) reference: Option<String>,
}

/// Levels of the DOM that are walked at most; deeper ones are left out.
const DEEPEST: usize = 400;

/// Roles that never have a name (ARIA 1.2 §5.2.8.6).
const NAMELESS: [&str; 16] = [
    "caption",
    "code",
    "definition",
    "deletion",
    "emphasis",
    "generic",
    "iframe",
    "insertion",
    "mark",
    "paragraph",
    "presentation",
    "strong",
    "subscript",
    "superscript",
    "term",
    "time",
];

/// Accessibility nodes by DOM node.
pub(crate) type AxByNode<'a> = HashMap<i64, &'a AxNode<'a>>;

/// The default form's tree of the page. `ax` are the accessibility nodes of each document.
pub(crate) fn ai_tree(documents: &[DomDocument<'_>], ax: &[AxByNode<'_>]) -> Vec<Item> {
    let walk = Walk { documents, ax };
    walk.document(0, 0)
}

struct Walk<'a> {
    documents: &'a [DomDocument<'a>],
    ax: &'a [AxByNode<'a>],
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct Place<'a> {
    document: usize,
    depth: usize,
    /// The light children of the nearest shadow host, for its slots.
    host: Option<&'a DomNode<'a>>,
}

impl<'a> Walk<'a> {
    fn document(&self, document: usize, depth: usize) -> Vec<Item> {
        let Some(content) = self.documents.get(document) else {
            return Vec::new();
        };
        let Some(body) = content.body() else {
            return Vec::new();
        };
        let mut items = Vec::new();
        let place = Place {
            document,
            depth,
            host: None,
        };
        self.node(body, place, true, &mut items);
        normalise(items)
    }

    fn ax_of(&self, document: usize, node: i64) -> Option<&'a AxNode<'a>> {
        self.ax.get(document)?.get(&node).copied()
    }

    fn find(&self, position: usize, place: Place<'a>) -> Option<&'a DomNode<'a>> {
        self.documents.get(place.document)?.nodes.get(position)
    }

    fn node(&self, position: usize, place: Place<'a>, is_visible: bool, into: &mut Vec<Item>) {
        let Some(node) = self.find(position, place) else {
            return;
        };
        if place.depth > DEEPEST {
            return;
        }
        match node.kind {
            NodeKind::Text => {
                if is_visible && node.style.is_some() {
                    into.push(Item::Text(node.text.to_owned()));
                }
            }
            NodeKind::Element => self.element(node, place, into),
            NodeKind::ShadowRoot | NodeKind::Other => {}
        }
    }

    fn element(&self, node: &'a DomNode<'a>, place: Place<'a>, into: &mut Vec<Item>) {
        if matches!(
            node.tag,
            "SCRIPT" | "STYLE" | "NOSCRIPT" | "TEMPLATE" | "HEAD"
        ) {
            return;
        }
        let is_option = matches!(node.tag, "OPTION" | "OPTGROUP");
        // What has no box of its own may still have children that are shown, by `display: contents`.
        let has_box = node.style.is_some();
        let is_visible = node.style.is_none_or(|style| style.visibility == "visible");
        let ax = self.ax_of(place.document, node.backend_node_id);
        let role = role(node, ax);
        let is_inline = node.style.is_some_and(|style| style.display == "inline");
        let mut children = Vec::new();
        if (has_box && !is_inline) || node.tag == "BR" {
            children.push(Item::Text(" ".to_owned()));
        }
        self.children(node, &role, ax, place, is_visible, &mut children);
        if (has_box && !is_inline) || node.tag == "BR" {
            children.push(Item::Text(" ".to_owned()));
        }
        let is_one_text = is_inline && matches!(children.as_slice(), [Item::Text(_)]);
        let is_dissolved = match role.as_str() {
            "none" | "presentation" => true,
            "generic" => is_one_text || node.tag == "BR" || !has_box,
            _ => !(has_box && is_visible || is_option),
        };
        if is_dissolved || (!is_visible && !is_option) {
            into.append(&mut children);
            return;
        }
        let name = match ax {
            Some(ax) if is_named(&role, node) && !ax.is_ignored => collapse(&ax.name),
            _ => String::new(),
        };
        let is_active = self.is_active(node, ax, place)
            || node.content_document.is_some() && holds_active(&children);
        into.push(Item::Node(AiNode {
            states: states(&role, node, ax, is_active),
            backend_node_id: node.backend_node_id,
            document: place.document,
            is_pointable: node.has_area
                && node
                    .style
                    .is_some_and(|style| style.pointer_events != "none"),
            has_pointer: node.style.is_some_and(|style| style.cursor == "pointer"),
            properties: properties(&role, node, &name),
            children,
            role,
            name,
            reference: None,
        }));
    }

    fn children(
        &self,
        node: &'a DomNode<'a>,
        role: &str,
        ax: Option<&AxNode<'_>>,
        place: Place<'a>,
        is_visible: bool,
        into: &mut Vec<Item>,
    ) {
        let below = Place {
            depth: place.depth + 1,
            ..place
        };
        if let Some(document) = node.content_document {
            into.extend(self.document(document, below.depth));
            return;
        }
        if matches!(node.tag, "INPUT" | "TEXTAREA") {
            // Chrome's value of a password field is a row of bullets.
            let shows_value = matches!(
                role,
                "textbox" | "searchbox" | "spinbutton" | "slider" | "combobox"
            );
            if let Some(ax) = ax.filter(|ax| shows_value && !ax.value.is_empty()) {
                into.push(Item::Text(ax.value.to_string()));
            }
            return;
        }
        if node.tag == "OPTION" {
            let text = ax.map_or_else(|| self.text(node, place), |ax| ax.name.to_string());
            into.push(Item::Text(text));
            return;
        }
        let shadow_root = node
            .children
            .iter()
            .filter_map(|child| self.find(*child, place))
            .find(|child| child.kind == NodeKind::ShadowRoot);
        if let Some(shadow_root) = shadow_root {
            let inside = Place {
                host: Some(node),
                ..below
            };
            for child in &shadow_root.children {
                self.node(*child, inside, is_visible, into);
            }
            return;
        }
        if node.tag == "SLOT"
            && let Some(host) = place.host
        {
            let slot = node.attribute("name").unwrap_or_default();
            let assigned: Vec<usize> = host
                .children
                .iter()
                .copied()
                .filter(|child| {
                    self.find(*child, place).is_some_and(|child| {
                        child.kind != NodeKind::ShadowRoot
                            && child.attribute("slot").unwrap_or_default() == slot
                    })
                })
                .collect();
            if !assigned.is_empty() {
                let outside = Place {
                    host: None,
                    ..below
                };
                for child in assigned {
                    self.node(child, outside, is_visible, into);
                }
                return;
            }
        }
        for child in &node.children {
            self.node(*child, below, is_visible, into);
        }
    }

    /// Whether it has the focus. A page whose focus is nowhere else has it on its body; of the
    /// bodies, only the main frame's tells the reader anything.
    fn is_active(&self, node: &DomNode<'_>, ax: Option<&AxNode<'_>>, place: Place<'_>) -> bool {
        if node.tag != "BODY" {
            return ax.is_some_and(|ax| ax.is_set("focused"));
        }
        place.document == 0
            && self
                .documents
                .first()
                .and_then(|document| self.ax_of(0, document.identity()))
                .is_some_and(|root| root.is_set("focused"))
    }

    /// The text of an option, which has no box.
    fn text(&self, node: &'a DomNode<'a>, place: Place<'a>) -> String {
        node.children
            .iter()
            .filter_map(|child| self.find(*child, place))
            .map(|child| child.text)
            .collect()
    }
}

/// The role as ARIA spells it. Chrome has roles of its own, all of which start upper case.
fn role(node: &DomNode<'_>, ax: Option<&AxNode<'_>>) -> String {
    let explicit = node.attribute("role").unwrap_or_default().trim();
    if matches!(explicit, "none" | "presentation") {
        return "none".to_owned();
    }
    let computed = ax.map_or("none", |ax| ax.role.as_ref());
    let is_unnamed = ax.is_none_or(|ax| ax.name.is_empty());
    match computed {
        "image" | "SvgRoot" => "img",
        "Iframe" | "IframePresentational" => "iframe",
        "Date" | "DateTime" | "InputTime" | "ColorWell" => "textbox",
        "Details" => "group",
        "DescriptionListTerm" => "term",
        "DescriptionListDetail" => "definition",
        // Without a name these are no landmarks.
        "form" | "region" if is_unnamed && explicit.is_empty() => "generic",
        "none" | "generic" => match node.tag {
            "TBODY" | "THEAD" | "TFOOT" => "rowgroup",
            "OPTION" => "option",
            "IFRAME" => "iframe",
            _ => "generic",
        },
        other if other.starts_with(|first: char| first.is_ascii_uppercase()) => "generic",
        other => other,
    }
    .to_owned()
}

/// Whether one of the elements has the focus.
fn holds_active(items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Text(_) => false,
        Item::Node(node) => {
            node.states.iter().any(|state| state == "active") || holds_active(&node.children)
        }
    })
}

fn is_named(role: &str, node: &DomNode<'_>) -> bool {
    let is_table_named = || {
        ["aria-label", "aria-labelledby", "title"]
            .iter()
            .any(|attribute| node.attribute(attribute).is_some())
    };
    !NAMELESS.contains(&role) && (node.tag != "TABLE" || is_table_named())
}

fn states(role: &str, node: &DomNode<'_>, ax: Option<&AxNode<'_>>, is_active: bool) -> Vec<String> {
    let mut states = Vec::new();
    let Some(ax) = ax else {
        return states;
    };
    let mut push_if = |state: &str, is_set: bool| {
        if is_set {
            states.push(state.to_owned());
        }
    };
    push_if("checked=mixed", ax.is_mixed("checked"));
    push_if("checked", ax.is_set("checked"));
    push_if("disabled", ax.is_set("disabled"));
    push_if("expanded", ax.is_set("expanded"));
    push_if("active", is_active);
    let level = ax
        .number("level")
        .filter(|_| role == "heading" || node.attribute("aria-level").is_some());
    if let Some(level) = level {
        push_if(&format!("level={level}"), true);
    }
    push_if("pressed=mixed", ax.is_mixed("pressed"));
    push_if("pressed", ax.is_set("pressed"));
    let is_selected = if node.tag == "OPTION" {
        node.is_selected_option
    } else {
        ax.is_set("selected")
    };
    push_if("selected", is_selected);
    states
}

fn properties(role: &str, node: &DomNode<'_>, name: &str) -> Vec<(&'static str, String)> {
    let mut properties = Vec::new();
    if role == "link"
        && let Some(url) = node.attribute("href")
    {
        properties.push(("/url", url.to_owned()));
    }
    if matches!(role, "textbox" | "searchbox" | "combobox" | "spinbutton")
        && let Some(placeholder) = node.attribute("placeholder")
        && !placeholder.is_empty()
        && placeholder != name
    {
        properties.push(("/placeholder", placeholder.to_owned()));
    }
    properties
}

/// Joins and trims texts, drops a text that only repeats the name, then drops empty wrappers.
fn normalise(items: Vec<Item>) -> Vec<Item> {
    let mut joined: Vec<Item> = Vec::new();
    let mut pending = String::new();
    let flush = |pending: &mut String, joined: &mut Vec<Item>| {
        let text = collapse(pending);
        pending.clear();
        if !text.is_empty() {
            joined.push(Item::Text(text));
        }
    };
    for item in items {
        match item {
            Item::Text(text) => pending.push_str(&text),
            Item::Node(mut node) => {
                flush(&mut pending, &mut joined);
                node.children = normalise(node.children);
                if let [Item::Text(text)] = node.children.as_slice()
                    && *text == node.name
                {
                    node.children.clear();
                }
                joined.push(Item::Node(node));
            }
        }
    }
    flush(&mut pending, &mut joined);
    joined
}

/// Drops wrappers without a name that hold at most one element. Refs are given before.
pub(crate) fn drop_wrappers(items: Vec<Item>) -> Vec<Item> {
    items
        .into_iter()
        .flat_map(|item| match item {
            Item::Text(_) => vec![item],
            Item::Node(mut node) => {
                node.children = drop_wrappers(node.children);
                let is_wrapper = node.role == "generic"
                    && node.name.is_empty()
                    && match node.children.as_slice() {
                        [] => true,
                        [Item::Node(only)] => only.reference.is_some(),
                        _ => false,
                    };
                if is_wrapper {
                    node.children
                } else {
                    vec![Item::Node(node)]
                }
            }
        })
        .collect()
}

/// A text with every run of white space as one space, trimmed.
fn collapse(text: &str) -> String {
    text.replace('\u{200b}', "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
