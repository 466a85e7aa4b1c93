//! Refs: the short names by which a snapshot's reader addresses elements.

use serde_json::{Map, Value, json};

/// What a snapshot says about one ref, and where the element is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefInfo {
    /// The role in lower case.
    pub(crate) role: String,
    /// The name, where it has one.
    pub(crate) name: Option<String>,
    /// Which of several with the same role and name it is, from 0; none where it is the only one.
    pub(crate) nth: Option<usize>,
    /// The element in the browser.
    pub(crate) backend_node_id: Option<i64>,
    /// The frame that an iframe shows.
    pub(crate) frame_id: Option<String>,
    /// The frame whose own process the element is in; none in the page's.
    pub(crate) process_frame: Option<String>,
    /// How the element is told to the reader.
    pub(crate) identity: Identity,
}

/// How an element's identity is told to the reader (browser proxy §5.2, §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// `backendDOMNodeId`: the role form of a whole page.
    NodeId,
    /// `domMarker`: the role form of a part or of a frame.
    Marker,
    /// Nothing but role and name: the default form.
    Ref,
}

impl RefInfo {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("role".to_owned(), json!(self.role));
        if let Some(name) = &self.name {
            members.insert("name".to_owned(), json!(name));
        }
        if let Some(nth) = self.nth {
            members.insert("nth".to_owned(), json!(nth));
        }
        if self.identity == Identity::NodeId
            && let Some(id) = self.backend_node_id
        {
            members.insert("backendDOMNodeId".to_owned(), json!(id));
        }
        if let Some(frame_id) = &self.frame_id {
            members.insert("frameId".to_owned(), json!(frame_id));
        }
        if self.identity == Identity::Marker {
            members.insert("domMarker".to_owned(), json!(true));
        }
        Value::Object(members)
    }
}

/// Refs in the order in which they were given.
pub(crate) type NamedRefs = Vec<(String, RefInfo)>;

/// The `refs` member of a snapshot.
pub(crate) fn refs_json(refs: &NamedRefs) -> Value {
    refs.iter()
        .map(|(reference, info)| (reference.clone(), info.to_json()))
        .collect::<Map<_, _>>()
        .into()
}

/// A ref as a caller writes it, `e12`, `@e12`, `ref=e12` and so on, without its decoration.
pub(crate) fn bare_ref(written: &str) -> &str {
    let trimmed = written.trim();
    trimmed
        .strip_prefix('@')
        .or_else(|| trimmed.strip_prefix("ref="))
        .unwrap_or(trimmed)
}
