//! The role form of a snapshot: Chrome's accessibility tree, one line per node (browser proxy §5.2).

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::ax::{AxNode, positions};
use super::cursor::CursorElement;
use super::finish::{Draft, Line};
use super::named::{Identity, NamedRefs, RefInfo};
use super::roles::{is_content, is_interactive, is_structural};

/// Levels that are printed at most (browser proxy §5.2).
const DEEPEST: usize = 100;

/// What to leave out of a role snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct RoleOptions {
    /// Only what a user acts on.
    pub(crate) is_interactive: bool,
    /// No unnamed structure.
    pub(crate) is_compact: bool,
    /// Levels below the root that are printed at most.
    pub(crate) depth: Option<usize>,
}

/// What the browser said besides the accessibility nodes; by DOM node.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// Elements that look or act clickable though their role does not say so.
    pub(crate) cursor_elements: HashMap<i64, CursorElement>,
    /// The frames that iframes show.
    pub(crate) iframe_frames: HashMap<i64, String>,
}

/// Which part of the page a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The whole document of the main frame.
    Page,
    /// The subtree of one DOM node. Transparent nodes add no depth there.
    Subtree(i64),
}

/// A snapshot's root is gone from the accessibility tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Snapshot root is no longer present in the accessibility tree; retry.")]
pub(crate) struct RootIsGone;

struct RoleNode<'a> {
    ax: &'a AxNode<'a>,
    role: String,
    name: Cow<'a, str>,
    is_transparent: bool,
    children: Vec<usize>,
    has_parent: bool,
    depth: usize,
    reference: Option<String>,
    nth: usize,
    cursor: Option<&'a CursorElement>,
}

/// Renders the nodes, in the order in which Chrome gave them, as a draft.
///
/// # Errors
/// [`RootIsGone`].
pub(crate) fn role_draft<'a>(
    nodes: &'a [AxNode<'a>],
    scope: Scope,
    options: RoleOptions,
    with_urls: bool,
    surroundings: &'a Surroundings,
) -> Result<Draft, RootIsGone> {
    let (mut tree, roots) = build(nodes, scope, surroundings)?;
    let refs = give_refs(&mut tree, scope, surroundings);
    let mut draft = Draft {
        refs,
        ..Draft::default()
    };
    let is_flat = options.is_interactive && scope != Scope::Page;
    let mut stack: Vec<usize> = roots.into_iter().rev().collect();
    while let Some(position) = stack.pop() {
        let Some(node) = tree.get(position) else {
            continue;
        };
        if options.depth.is_some_and(|deepest| node.depth > deepest) {
            continue;
        }
        if node.depth > DEEPEST {
            draft.is_too_deep = true;
            continue;
        }
        if is_shown(node, options) {
            let level = if is_flat { 0 } else { node.depth };
            draft.lines.push(Line {
                text: render(node, level, with_urls),
                reference: node.reference.clone(),
            });
        }
        stack.extend(node.children.iter().rev());
    }
    Ok(draft)
}

fn build<'a>(
    nodes: &'a [AxNode<'a>],
    scope: Scope,
    surroundings: &'a Surroundings,
) -> Result<(Vec<RoleNode<'a>>, Vec<usize>), RootIsGone> {
    let positions = positions(nodes);
    let mut tree: Vec<RoleNode<'a>> = nodes
        .iter()
        .map(|ax| {
            let role = ax.role.to_lowercase();
            let is_transparent = scope != Scope::Page
                && (ax.is_ignored
                    || matches!(role.as_str(), "none" | "presentation" | "fragment")
                    || role == "generic" && ax.name.is_empty());
            let cursor = ax
                .backend_node_id
                .and_then(|id| surroundings.cursor_elements.get(&id));
            let name = match cursor {
                Some(cursor) if ax.name.is_empty() => Cow::Borrowed(cursor.text.as_str()),
                _ => Cow::Borrowed(ax.name.as_ref()),
            };
            RoleNode {
                ax,
                role,
                name,
                is_transparent,
                children: ax
                    .children
                    .iter()
                    .filter_map(|id| positions.get(id).copied())
                    .collect(),
                has_parent: false,
                depth: 0,
                reference: None,
                nth: 0,
                cursor,
            }
        })
        .collect();
    let with_parents: Vec<usize> = tree
        .iter()
        .flat_map(|node| node.children.iter().copied())
        .collect();
    for child in with_parents {
        if let Some(child) = tree.get_mut(child) {
            child.has_parent = true;
        }
    }
    let mut roots: Vec<usize> = match scope {
        Scope::Subtree(root) => {
            let root = tree
                .iter()
                .position(|node| node.ax.backend_node_id == Some(root));
            vec![root.ok_or(RootIsGone)?]
        }
        Scope::Page => (0..tree.len())
            .filter(|position| tree.get(*position).is_some_and(|node| !node.has_parent))
            .collect(),
    };
    if roots.is_empty() && !tree.is_empty() {
        roots.push(0);
    }
    set_depths(&mut tree, &roots);
    Ok((tree, roots))
}

/// Gives every node its depth, and cuts edges that lead to a node a second time.
fn set_depths(tree: &mut [RoleNode<'_>], roots: &[usize]) {
    let mut reached = vec![false; tree.len()];
    let mut stack: Vec<(usize, usize)> = roots.iter().map(|root| (*root, 0)).collect();
    for root in roots {
        if let Some(reached) = reached.get_mut(*root) {
            *reached = true;
        }
    }
    while let Some((position, depth)) = stack.pop() {
        let Some(node) = tree.get_mut(position) else {
            continue;
        };
        node.depth = depth;
        node.children.retain(|child| {
            reached
                .get_mut(*child)
                .is_some_and(|reached| !std::mem::replace(reached, true))
        });
        let below = depth + usize::from(!node.is_transparent);
        stack.extend(node.children.iter().map(|child| (*child, below)));
    }
}

fn give_refs(tree: &mut [RoleNode<'_>], scope: Scope, surroundings: &Surroundings) -> NamedRefs {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    let mut refs = NamedRefs::new();
    for node in tree.iter_mut() {
        let has_ref = is_interactive(&node.role)
            || is_content(&node.role) && !node.name.is_empty()
            || node.role == "iframe"
            || node.cursor.is_some();
        if !has_ref || node.is_transparent {
            continue;
        }
        let count = counts
            .entry((node.role.clone(), node.name.to_string()))
            .or_default();
        node.nth = *count;
        *count += 1;
        let reference = format!("e{}", refs.len() + 1);
        let frame_id = node
            .ax
            .backend_node_id
            .filter(|_| node.role == "iframe")
            .and_then(|id| surroundings.iframe_frames.get(&id));
        refs.push((
            reference.clone(),
            RefInfo {
                role: node.role.clone(),
                name: Some(node.name.to_string()).filter(|name| !name.is_empty()),
                nth: Some(node.nth),
                backend_node_id: node.ax.backend_node_id,
                frame_id: frame_id.cloned(),
                process_frame: None,
                identity: match scope {
                    Scope::Page => Identity::NodeId,
                    Scope::Subtree(_) => Identity::Marker,
                },
            },
        ));
        node.reference = Some(reference);
    }
    for (_, info) in &mut refs {
        let key = (info.role.clone(), info.name.clone().unwrap_or_default());
        if counts.get(&key) == Some(&1) {
            info.nth = None;
        }
    }
    refs
}

fn is_shown(node: &RoleNode<'_>, options: RoleOptions) -> bool {
    if node.is_transparent {
        return false;
    }
    if options.is_interactive {
        return is_interactive(&node.role) || node.role == "iframe" || node.cursor.is_some();
    }
    !(options.is_compact
        && is_structural(&node.role)
        && node.name.is_empty()
        && node.reference.is_none())
}

fn render(node: &RoleNode<'_>, level: usize, with_urls: bool) -> String {
    let mut line = format!("{}- {}", "  ".repeat(level), node.ax.role);
    if !node.name.is_empty() {
        line.push(' ');
        line.push_str(&quoted(&node.name));
    }
    if let Some(reference) = &node.reference {
        // Writing to a String cannot fail.
        let _ = write!(line, " [ref={reference}]");
    }
    if node.reference.is_some() && node.nth > 0 {
        let _ = write!(line, " [nth={}]", node.nth);
    }
    push_states(&mut line, node.ax);
    if !node.ax.value.is_empty() {
        line.push_str(" value=");
        line.push_str(&quoted(&node.ax.value));
    }
    if with_urls
        && node.reference.is_some()
        && node.role == "link"
        && let Some(url) = node.ax.text("url")
        && !url.is_empty()
    {
        let _ = write!(line, " [url={url}]");
    }
    if let Some(cursor) = node.cursor {
        line.push_str(&cursor.suffix());
    }
    line
}

/// The states, in the order that upstream prints them.
fn push_states(line: &mut String, node: &AxNode<'_>) {
    const STATES: [&str; 7] = [
        "checked", "disabled", "expanded", "pressed", "selected", "level", "invalid",
    ];
    for state in STATES {
        if node.is_set(state) {
            let _ = write!(line, " [{state}]");
        } else if node.is_mixed(state) {
            let _ = write!(line, " [{state}=mixed]");
        } else {
            match state {
                "level" => {
                    if let Some(level) = node.number(state) {
                        let _ = write!(line, " [level={level}]");
                    }
                }
                "invalid" => {
                    if let Some(kind) = node.text(state).filter(|kind| kind != "false") {
                        let _ = write!(line, " [invalid={kind}]");
                    }
                }
                _ => {}
            }
        }
    }
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::{RoleOptions, RootIsGone, Scope, Surroundings, role_draft};
    use crate::snapshot::ax::AxTree;

    fn tree(nodes: &serde_json::Value) -> AxTree {
        AxTree(to_raw_value(&json!({"nodes": nodes})).unwrap())
    }

    fn lines(nodes: &serde_json::Value, options: RoleOptions) -> (Vec<String>, bool) {
        let tree = tree(nodes);
        let surroundings = Surroundings::default();
        let nodes = tree.nodes().unwrap();
        let draft = role_draft(&nodes, Scope::Page, options, true, &surroundings).unwrap();
        let lines = draft.lines.into_iter().map(|line| line.text).collect();
        (lines, draft.is_too_deep)
    }

    fn role(role: &str) -> serde_json::Value {
        json!({"type": "role", "value": role})
    }

    #[test]
    fn writes_names_values_states_and_addresses() {
        let property = |name: &str, value: serde_json::Value| json!({"name": name, "value": {"type": "token", "value": value}});
        let nodes = json!([
            {"nodeId": "1", "role": role("RootWebArea"), "name": {"value": "A \"b\" \u{2028}"}, "childIds": ["2", "3", "9"]},
            {"nodeId": "2", "role": role("slider"), "value": {"value": 3}, "properties": [
                property("checked", json!("mixed")), property("disabled", json!(true)),
                property("level", json!(2)), property("invalid", json!("grammar")),
            ]},
            {"nodeId": "3", "role": role("link"), "name": {"value": "Go"}, "properties": [property("url", json!("http://x/"))]},
        ]);
        let (lines, _) = lines(&nodes, RoleOptions::default());
        assert_eq!(
            lines,
            [
                "- RootWebArea \"A \\\"b\\\" \u{2028}\"",
                "  - slider [ref=e1] [checked=mixed] [disabled] [level=2] [invalid=grammar] value=\"3\"",
                "  - link \"Go\" [ref=e2] [url=http://x/]",
            ]
        );
    }

    #[test]
    fn ends_where_the_tree_is_too_deep_or_goes_in_circles() {
        let deep: Vec<_> = (0..150)
            .map(|depth| {
                json!({"nodeId": depth.to_string(), "role": role("group"), "childIds": [(depth + 1).to_string()]})
            })
            .collect();
        let (shown, is_too_deep) = lines(&json!(deep), RoleOptions::default());
        assert_eq!((shown.len(), is_too_deep), (101, true));
        let circle = json!([
            {"nodeId": "1", "role": role("group"), "childIds": ["2"]},
            {"nodeId": "2", "role": role("group"), "childIds": ["1"]},
        ]);
        let (shown, is_too_deep) = lines(&circle, RoleOptions::default());
        assert_eq!((shown.len(), is_too_deep), (2, false));
    }

    #[test]
    fn says_that_a_part_is_gone() {
        let tree = tree(&json!([{"nodeId": "1", "role": role("group"), "backendDOMNodeId": 4}]));
        let nodes = tree.nodes().unwrap();
        let surroundings = Surroundings::default();
        let gone = role_draft(
            &nodes,
            Scope::Subtree(5),
            RoleOptions::default(),
            false,
            &surroundings,
        );
        assert_eq!(gone.unwrap_err(), RootIsGone);
    }
}
