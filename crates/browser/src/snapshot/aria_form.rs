//! The aria form of a snapshot: the accessibility tree as a flat list (browser proxy §5.1).

use serde_json::{Map, Value, json};

use super::ax::{AxNode, positions};
use super::named::{Identity, NamedRefs, RefInfo};

/// Nodes that are listed unless the caller says otherwise.
pub(crate) const DEFAULT_LIMIT: usize = 500;

/// Nodes that are listed at most.
pub(crate) const HIGHEST_LIMIT: usize = 2000;

/// The `nodes` member, and the refs by which acts address them.
pub(crate) fn aria_nodes(nodes: &[AxNode<'_>], limit: usize) -> (Vec<Value>, NamedRefs) {
    let positions = positions(nodes);
    let mut has_parent = vec![false; nodes.len()];
    for child in nodes.iter().flat_map(|node| &node.children) {
        if let Some(has_parent) = positions
            .get(child)
            .and_then(|position| has_parent.get_mut(*position))
        {
            *has_parent = true;
        }
    }
    let root = has_parent
        .iter()
        .position(|has_parent| !has_parent)
        .unwrap_or(0);
    let mut listed = Vec::new();
    let mut refs = NamedRefs::new();
    let mut stack = vec![(root, 0_usize)];
    while let Some((position, depth)) = stack.pop() {
        if listed.len() >= limit {
            break;
        }
        let Some(node) = nodes.get(position) else {
            continue;
        };
        let reference = format!("ax{}", listed.len() + 1);
        let mut members = Map::new();
        members.insert("ref".to_owned(), json!(reference));
        members.insert("role".to_owned(), json!(node.role));
        members.insert("name".to_owned(), json!(node.name));
        if !node.value.is_empty() {
            members.insert("value".to_owned(), json!(node.value));
        }
        if !node.description.is_empty() {
            members.insert("description".to_owned(), json!(node.description));
        }
        if let Some(id) = node.backend_node_id {
            members.insert("backendDOMNodeId".to_owned(), json!(id));
        }
        members.insert("depth".to_owned(), json!(depth));
        listed.push(Value::Object(members));
        refs.push((
            reference,
            RefInfo {
                role: node.role.to_lowercase(),
                name: Some(node.name.trim().to_owned()),
                nth: None,
                backend_node_id: node.backend_node_id,
                frame_id: None,
                process_frame: None,
                identity: Identity::NodeId,
            },
        ));
        stack.extend(
            node.children
                .iter()
                .rev()
                .filter_map(|child| positions.get(child))
                .map(|child| (*child, depth + 1)),
        );
    }
    (listed, refs)
}
