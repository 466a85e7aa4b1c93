//! Asks the browser for what snapshots are made of.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::{join, join_all, try_join};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ai_form::ai_draft;
use super::ai_tree::AxByNode;
use super::ax::{AxNode, AxTree};
use super::cursor::{CursorElement, FIND};
use super::dom::{DomDocument, capture_params, documents};
use super::finish::{Draft, PageLink};
use super::role_form::{RoleOptions, RootIsGone, Scope, Surroundings, role_draft};
use crate::cdp::{CALL_DEADLINE, CdpError, Session};
use crate::element::{Object, ObjectGroup, ScriptError};
use crate::tab::{Tab, text};

/// How often a frame that is waited for is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lists the links of a page.
const LINKS: &str = include_str!("links.js");

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Cdp(#[from] CdpError),
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    RootIsGone(#[from] RootIsGone),
    /// No element of a frame where the caller says that there is one.
    #[error("Frame \"{0}\" was unavailable while its browser snapshot was being captured.")]
    NoFrame(String),
}

/// What was captured.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) draft: Draft,
    /// What stands for an empty snapshot.
    pub(crate) placeholder: &'static str,
    /// The links for the list at the end.
    pub(crate) links: Vec<PageLink>,
    /// What tells the document from the one before.
    pub(crate) document: i64,
}

/// The accessibility tree of a session's root frame, or of another frame in it.
pub(crate) async fn full_tree(session: &Session, frame: Option<&str>) -> Result<AxTree, CdpError> {
    let params = frame.map_or_else(|| json!({}), |frame| json!({"frameId": frame}));
    // Keeping the tree makes the next one cheaper. Calls of a session are answered in order.
    let enabled = session.call("Accessibility.enable", json!({}));
    let tree = tree(session, "getFullAXTree", params);
    Ok(try_join(enabled, tree).await?.1)
}

async fn tree(session: &Session, method: &str, params: Value) -> Result<AxTree, CdpError> {
    let method = format!("Accessibility.{method}");
    let answer = session.call_raw(&method, params, CALL_DEADLINE).await?;
    Ok(AxTree(answer))
}

/// The role form of the whole page.
pub(crate) async fn whole_page(
    tab: &Tab,
    options: RoleOptions,
    has_urls: bool,
) -> Result<Captured, CaptureError> {
    let session = tab.session();
    let (tree, cursor_elements) = join(full_tree(session, None), cursor_elements(session)).await;
    let tree = tree?;
    let nodes = tree.nodes()?;
    let iframes = nodes
        .iter()
        .filter(|node| node.role.eq_ignore_ascii_case("iframe"))
        .filter_map(|node| node.backend_node_id);
    let surroundings = Surroundings {
        cursor_elements,
        iframe_frames: iframe_frames(session, iframes).await,
    };
    let draft = role_draft(&nodes, Scope::Page, options, has_urls, &surroundings)?;
    Ok(Captured {
        draft,
        placeholder: if options.is_interactive {
            "(no interactive elements)"
        } else {
            "(empty page)"
        },
        links: Vec::new(),
        document: i64::try_from(tab.state().document).unwrap_or_default(),
    })
}

/// The role form of the part that a selector names, in the page or in one of its frames.
pub(crate) async fn part(
    tab: &Tab,
    options: RoleOptions,
    has_urls: bool,
    selector: Option<&str>,
    frame: Option<&str>,
    deadline: Instant,
) -> Result<Captured, CaptureError> {
    let (document, frame_id) = match frame {
        None => (Object::document(tab.session()).await?, None),
        Some(frame) => {
            let (document, id) = frame_document(tab, frame, deadline).await?;
            (document, Some(id))
        }
    };
    let identity = document.describe().await?;
    let mut captured = Captured {
        draft: Draft::default(),
        placeholder: if options.is_interactive {
            "(no interactive elements)"
        } else {
            "(empty)"
        },
        links: Vec::new(),
        document: backend_node_id(&identity).unwrap_or_default(),
    };
    let root = match selector {
        Some(selector) => document.find(selector).await?.0,
        None => {
            let root = "function () { return this.documentElement; }";
            document.call_for_object(root, &[]).await?
        }
    };
    let Some(root) = root else {
        return Ok(captured);
    };
    let session = document.session();
    let root_id = backend_node_id(&root.describe().await?).ok_or(RootIsGone)?;
    let trees = subtree(session, root_id, frame_id.as_deref()).await?;
    let nodes = trees.nodes(root_id)?;
    let iframes = nodes
        .iter()
        .filter(|node| node.role.eq_ignore_ascii_case("iframe"))
        .filter_map(|node| node.backend_node_id);
    let surroundings = Surroundings {
        iframe_frames: iframe_frames(session, iframes).await,
        ..Surroundings::default()
    };
    let scope = Scope::Subtree(root_id);
    captured.draft = role_draft(&nodes, scope, options, false, &surroundings)?;
    if session.id() != tab.session().id() {
        // Acts have to know whose process an element is in.
        for (_, info) in &mut captured.draft.refs {
            info.process_frame.clone_from(&frame_id);
        }
    }
    if has_urls {
        captured.links = links(&document).await;
    }
    Ok(captured)
}

/// The default form of the whole page, frames included.
pub(crate) async fn default_form(
    tab: &Tab,
    options: RoleOptions,
    has_urls: bool,
) -> Result<Captured, CaptureError> {
    let page = process_documents(tab.session());
    let sessions: Vec<(String, Session)> = tab
        .state()
        .frame_sessions
        .iter()
        .map(|(frame, session)| (frame.clone(), session.clone()))
        .collect();
    let others = join_all(sessions.iter().map(|(frame, session)| async move {
        // A frame that is gone is not shown.
        Some((frame, process_documents(session).await.ok()?))
    }));
    let (page, others) = join(page, others).await;
    let (page, page_trees) = page?;
    let others: Vec<_> = others.into_iter().flatten().collect();
    let mut found = documents(&page);
    let mut trees: Vec<Option<&AxTree>> = page_trees.iter().map(Option::as_ref).collect();
    for (frame, (snapshot, more_trees)) in &others {
        let first = found.len();
        for mut document in documents(snapshot) {
            document.process_frame = Some((*frame).clone());
            document.shift_content_documents(first);
            found.push(document);
        }
        trees.extend(more_trees.iter().map(Option::as_ref));
        adopt(tab, &mut found, frame, first).await;
    }
    let nodes = trees
        .into_iter()
        .map(|tree| tree.map_or_else(|| Ok(Vec::new()), AxTree::nodes))
        .collect::<Result<Vec<_>, CdpError>>()?;
    let by_node: Vec<AxByNode<'_>> = nodes
        .iter()
        .map(|nodes| {
            nodes
                .iter()
                .filter_map(|node| Some((node.backend_node_id?, node)))
                .collect()
        })
        .collect();
    let document = found.iter().fold(0_i64, |all, document| {
        all.wrapping_mul(31).wrapping_add(document.identity())
    });
    let draft = {
        let refs = &mut *tab.refs.borrow_mut();
        let frames = &mut refs.frames;
        let mut sequence = |frame: &str| frames.place(frame);
        ai_draft(&found, &by_node, &mut refs.ai, &mut sequence, options)
    };
    let links = if has_urls {
        links(&Object::document(tab.session()).await?).await
    } else {
        Vec::new()
    };
    Ok(Captured {
        draft,
        placeholder: if options.is_interactive {
            "(no interactive elements)"
        } else if options == RoleOptions::default() {
            ""
        } else {
            "(empty)"
        },
        links,
        document,
    })
}

/// The documents of one process, and the accessibility tree of each.
async fn process_documents(session: &Session) -> Result<(Value, Vec<Option<AxTree>>), CdpError> {
    let snapshot = session.call("DOMSnapshot.captureSnapshot", capture_params());
    let (snapshot, first) = try_join(snapshot, full_tree(session, None)).await?;
    let frames: Vec<String> = documents(&snapshot)
        .iter()
        .skip(1)
        .map(|document| document.frame_id.to_owned())
        .collect();
    let more = frames.iter().map(|frame| async {
        // A frame that is gone by now has no tree, but keeps its place.
        full_tree(session, Some(frame)).await.ok()
    });
    let mut trees = vec![Some(first)];
    trees.extend(join_all(more).await);
    Ok((snapshot, trees))
}

/// Puts the document of a process of its own into the iframe that shows it.
async fn adopt(tab: &Tab, found: &mut [DomDocument<'_>], frame: &str, document: usize) {
    // The parent is in the page's process or in another frame's.
    let parents: HashSet<Option<String>> = found
        .iter()
        .map(|document| document.process_frame.clone())
        .filter(|process| process.as_deref() != Some(frame))
        .collect();
    for parent in parents {
        let session = parent
            .as_deref()
            .map_or_else(|| tab.session().clone(), |parent| tab.session_of(parent));
        let params = json!({"frameId": frame});
        let Ok(owner) = session.call("DOM.getFrameOwner", params).await else {
            continue;
        };
        let Some(owner) = owner.get("backendNodeId").and_then(Value::as_i64) else {
            continue;
        };
        let iframe = found
            .iter_mut()
            .filter(|candidate| candidate.process_frame == parent)
            .flat_map(|candidate| &mut candidate.nodes)
            .find(|node| node.backend_node_id == owner);
        if let Some(iframe) = iframe {
            iframe.content_document = Some(document);
            return;
        }
    }
}

/// What holds the nodes below a DOM node.
enum Subtree {
    /// All of them and no others.
    Exactly(AxTree),
    /// A root that assistive technology would not see, and the tree that it is in.
    Within { root: AxTree, whole: AxTree },
}

async fn subtree(
    session: &Session,
    root: i64,
    frame: Option<&str>,
) -> Result<Subtree, CaptureError> {
    session.call("Accessibility.enable", json!({})).await?;
    let params = json!({"backendNodeId": root});
    let queried = tree(session, "queryAXTree", params).await?;
    if find(&queried.nodes()?, root).is_some() {
        return Ok(Subtree::Exactly(queried));
    }
    // The query leaves out such a root.
    let params = json!({"backendNodeId": root, "fetchRelatives": true});
    Ok(Subtree::Within {
        root: tree(session, "getPartialAXTree", params).await?,
        whole: full_tree(session, frame).await?,
    })
}

impl Subtree {
    /// The nodes, the root's own among them.
    fn nodes(&self, root: i64) -> Result<Vec<AxNode<'_>>, CaptureError> {
        let (root_tree, whole) = match self {
            Self::Exactly(tree) => return Ok(tree.nodes()?),
            Self::Within { root, whole } => (root, whole),
        };
        let root_node = find(&root_tree.nodes()?, root).ok_or(RootIsGone)?;
        let mut by_id: HashMap<&str, AxNode<'_>> = whole
            .nodes()?
            .into_iter()
            .map(|node| (node.id, node))
            .collect();
        by_id.remove(root_node.id);
        let mut nodes = vec![root_node];
        let mut next = 0;
        while let Some(node) = nodes.get(next) {
            let children: Vec<AxNode<'_>> = node
                .children
                .iter()
                .filter_map(|child| by_id.remove(child))
                .collect();
            nodes.extend(children);
            next += 1;
        }
        Ok(nodes)
    }
}

fn find<'a>(nodes: &[AxNode<'a>], backend_node_id: i64) -> Option<AxNode<'a>> {
    nodes
        .iter()
        .find(|node| node.backend_node_id == Some(backend_node_id))
        .cloned()
}

/// The document that the iframe of a selector shows, and its frame.
pub(crate) async fn frame_document(
    tab: &Tab,
    selector: &str,
    deadline: Instant,
) -> Result<(Object, String), CaptureError> {
    let page = Object::document(tab.session()).await?;
    loop {
        if let Some(iframe) = page.find(selector).await?.0 {
            let described = iframe.describe().await?;
            let id = described
                .pointer("/contentDocument/frameId")
                .or_else(|| described.get("frameId"))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let content = described.get("contentDocument").and_then(backend_node_id);
            if let Some(content) = content {
                return Ok((Object::resolve(tab.session(), content).await?, id));
            }
            let session = tab.session_of(&id);
            if session.id() != tab.session().id() {
                return Ok((Object::document(&session).await?, id));
            }
        }
        if Instant::now() >= deadline {
            return Err(CaptureError::NoFrame(selector.to_owned()));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The frames that iframes show. An iframe that is gone by now has none.
async fn iframe_frames(
    session: &Session,
    iframes: impl Iterator<Item = i64>,
) -> HashMap<i64, String> {
    let described = iframes.map(|iframe| async move {
        let params = json!({"backendNodeId": iframe, "depth": 1});
        let answer = session.call("DOM.describeNode", params).await.ok()?;
        let frame = answer
            .pointer("/node/contentDocument/frameId")
            .or_else(|| answer.pointer("/node/frameId"))?;
        Some((iframe, frame.as_str()?.to_owned()))
    });
    join_all(described).await.into_iter().flatten().collect()
}

/// The elements that look or act clickable. Without them a snapshot is still one.
async fn cursor_elements(session: &Session) -> HashMap<i64, CursorElement> {
    find_cursor_elements(session).await.unwrap_or_default()
}

async fn find_cursor_elements(session: &Session) -> Option<HashMap<i64, CursorElement>> {
    let group = ObjectGroup::new(session);
    let params = json!({"expression": FIND, "objectGroup": group.name()});
    let found = session.call("Runtime.evaluate", params).await.ok()?;
    let id = found.pointer("/result/objectId")?;
    let params = json!({"objectId": id, "ownProperties": true});
    let entries = session.call("Runtime.getProperties", params).await.ok()?;
    let entries = entries.get("result")?.as_array()?;
    let known = entries
        .iter()
        .find_map(|entry| entry.pointer("/value/value")?.as_str())?;
    let known: Vec<CursorElement> = serde_json::from_str(known).ok()?;
    let described = entries.iter().filter_map(|entry| {
        let position: usize = text(entry, "name").parse().ok()?;
        let known = known.get(position)?.clone();
        let params = json!({"objectId": entry.pointer("/value/objectId")?});
        Some(async move {
            let answer = session.call("DOM.describeNode", params).await.ok()?;
            Some((answer.get("node").and_then(backend_node_id)?, known))
        })
    });
    Some(join_all(described).await.into_iter().flatten().collect())
}

/// At most 100 links of a document. Without them a snapshot is still one.
async fn links(document: &Object) -> Vec<PageLink> {
    let Ok(Value::Array(links)) = document.call(LINKS, &[]).await else {
        return Vec::new();
    };
    links
        .iter()
        .map(|link| PageLink {
            text: text(link, "text").to_owned(),
            url: text(link, "url").to_owned(),
        })
        .collect()
}

pub(crate) fn backend_node_id(node: &Value) -> Option<i64> {
    node.get("backendNodeId").and_then(Value::as_i64)
}
