//! Chrome's accessibility nodes, as far as snapshots read them.
//!
//! The tree of a large page is megabytes of JSON, most of which says where names come from. It is
//! therefore read straight into these types instead of into JSON values.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cdp::CdpError;

/// An answer of `Accessibility.getFullAXTree`, `queryAXTree` or `getPartialAXTree`.
#[derive(Debug)]
pub(crate) struct AxTree(pub(crate) Box<RawValue>);

impl AxTree {
    /// The nodes in the browser's order.
    ///
    /// # Errors
    /// [`CdpError::Malformed`].
    pub(crate) fn nodes(&self) -> Result<Vec<AxNode<'_>>, CdpError> {
        let answer: WireAnswer<'_> =
            serde_json::from_str(self.0.get()).map_err(CdpError::malformed)?;
        Ok(answer.nodes.into_iter().map(AxNode::from).collect())
    }
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow, default)]
    nodes: Vec<WireNode<'a>>,
}

/// A node as the browser writes it. Ids and names of properties never have escapes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireNode<'a> {
    node_id: &'a str,
    #[serde(default)]
    ignored: bool,
    #[serde(borrow, default)]
    role: WireValue<'a>,
    #[serde(borrow, default)]
    name: WireValue<'a>,
    #[serde(borrow, default)]
    value: WireValue<'a>,
    #[serde(borrow, default)]
    description: WireValue<'a>,
    #[serde(rename = "backendDOMNodeId", default)]
    backend_dom_node_id: Option<i64>,
    #[serde(borrow, default)]
    child_ids: Vec<&'a str>,
    #[serde(borrow, default)]
    properties: Vec<WireProperty<'a>>,
}

#[derive(Deserialize, Default)]
struct WireValue<'a> {
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireProperty<'a> {
    name: &'a str,
    #[serde(borrow)]
    value: WireValue<'a>,
}

/// One node of an accessibility tree.
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
    /// Names and the JSON of their values.
    properties: Vec<(&'a str, &'a str)>,
}

impl<'a> From<WireNode<'a>> for AxNode<'a> {
    fn from(node: WireNode<'a>) -> Self {
        let role = text(node.role.value);
        Self {
            id: node.node_id,
            is_ignored: node.ignored,
            role: if role.is_empty() {
                Cow::Borrowed("unknown")
            } else {
                role
            },
            name: text(node.name.value),
            value: text(node.value.value),
            description: text(node.description.value),
            backend_node_id: node.backend_dom_node_id.filter(|id| *id > 0),
            children: node.child_ids,
            properties: node
                .properties
                .into_iter()
                .filter_map(|property| Some((property.name, property.value.value?.get())))
                .collect(),
        }
    }
}

impl<'a> AxNode<'a> {
    /// The JSON of a property's value, such as `checked`; the last one where Chrome repeats it.
    fn property(&self, name: &str) -> Option<&'a str> {
        self.properties
            .iter()
            .rev()
            .find(|(property, _)| *property == name)
            .map(|(_, value)| *value)
    }

    /// Whether a property is true, or the token `true`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        matches!(self.property(name), Some("true" | "\"true\""))
    }

    /// Whether a property is the token `mixed`.
    pub(crate) fn is_mixed(&self, name: &str) -> bool {
        self.property(name) == Some("\"mixed\"")
    }

    /// A property that is a number, as it is written.
    pub(crate) fn number(&self, name: &str) -> Option<&'a str> {
        self.property(name)
            .filter(|value| value.parse::<f64>().is_ok())
    }

    /// A property that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.property(name).and_then(string)
    }
}

/// Where each node id stands among the nodes.
pub(crate) fn positions<'a>(nodes: &[AxNode<'a>]) -> HashMap<&'a str, usize> {
    nodes
        .iter()
        .enumerate()
        .map(|(position, node)| (node.id, position))
        .collect()
}

/// The text of a value; anything but a text, number or boolean is empty.
fn text(value: Option<&RawValue>) -> Cow<'_, str> {
    let Some(json) = value.map(RawValue::get) else {
        return Cow::Borrowed("");
    };
    match json.bytes().next() {
        Some(b'"') => string(json).unwrap_or_default(),
        Some(b'{' | b'[' | b'n') | None => Cow::Borrowed(""),
        Some(_) => Cow::Borrowed(json),
    }
}

/// A JSON string's text.
fn string(json: &str) -> Option<Cow<'_, str>> {
    // Without escapes the text is what stands between the quotes.
    match json.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(json).ok().map(Cow::Owned),
    }
}
