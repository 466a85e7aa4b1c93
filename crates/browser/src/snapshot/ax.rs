//! Chrome's accessibility nodes, as far as snapshots read them.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

/// One node of `Accessibility.getFullAXTree`, `queryAXTree` or `getPartialAXTree`.
#[derive(Debug, Clone)]
pub(crate) struct AxNode<'a> {
    /// The browser's id of the node; what `children` and parents name.
    pub(crate) id: &'a str,
    /// Whether assistive technology would not see it.
    pub(crate) is_ignored: bool,
    /// The role in Chrome's own spelling, such as `RootWebArea`; `unknown` where it has none.
    pub(crate) role: Cow<'a, str>,
    /// The accessible name, empty where it has none.
    pub(crate) name: Cow<'a, str>,
    /// The value, such as an input's text, empty where it has none.
    pub(crate) value: Cow<'a, str>,
    /// The description, empty where it has none.
    pub(crate) description: Cow<'a, str>,
    /// The DOM node behind it; inline text boxes have none.
    pub(crate) backend_node_id: Option<i64>,
    /// Ids of the children, in order.
    pub(crate) children: Vec<&'a str>,
    properties: Option<&'a Vec<Value>>,
}

impl<'a> AxNode<'a> {
    fn parse(node: &'a Value) -> Option<Self> {
        let id = node.get("nodeId").and_then(Value::as_str)?;
        if id.is_empty() {
            return None;
        }
        let role = ax_text(node.get("role"));
        Some(Self {
            id,
            is_ignored: node.get("ignored").and_then(Value::as_bool) == Some(true),
            role: if role.is_empty() {
                Cow::Borrowed("unknown")
            } else {
                role
            },
            name: ax_text(node.get("name")),
            value: ax_text(node.get("value")),
            description: ax_text(node.get("description")),
            backend_node_id: node
                .get("backendDOMNodeId")
                .and_then(Value::as_i64)
                .filter(|id| *id > 0),
            children: node
                .get("childIds")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
            properties: node.get("properties").and_then(Value::as_array),
        })
    }

    /// The value of a property such as `checked`; the last one where Chrome repeats it.
    pub(crate) fn property(&self, name: &str) -> Option<&'a Value> {
        self.properties?
            .iter()
            .rev()
            .find(|property| property.get("name").and_then(Value::as_str) == Some(name))?
            .get("value")?
            .get("value")
    }

    /// Whether a property is true, or the token `true`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        match self.property(name) {
            Some(Value::Bool(set)) => *set,
            Some(Value::String(token)) => token == "true",
            _ => false,
        }
    }

    /// Whether a property is the token `mixed`.
    pub(crate) fn is_mixed(&self, name: &str) -> bool {
        self.property(name).and_then(Value::as_str) == Some("mixed")
    }
}

/// The nodes of an answer of the browser, in its order.
pub(crate) fn ax_nodes(answer: &Value) -> Vec<AxNode<'_>> {
    answer
        .get("nodes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(AxNode::parse)
        .collect()
}

/// Where each node id stands among the nodes.
pub(crate) fn positions<'a>(nodes: &[AxNode<'a>]) -> HashMap<&'a str, usize> {
    nodes
        .iter()
        .enumerate()
        .map(|(position, node)| (node.id, position))
        .collect()
}

/// The text of an `AXValue`; anything but a text, number or boolean is empty.
fn ax_text(value: Option<&Value>) -> Cow<'_, str> {
    match value.and_then(|value| value.get("value")) {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Number(number)) => Cow::Owned(number.to_string()),
        Some(Value::Bool(truth)) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        _ => Cow::Borrowed(""),
    }
}
