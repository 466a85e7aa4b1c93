//! Snapshots of a page (browser proxy §5).
//!
//! ```text
//! plan       what is asked for
//! capture    asks the browser: accessibility trees, DOM, what looks clickable
//! role_form  Chrome's accessibility tree, one line per node
//! ai_tree    the default form's tree, ai_form its text
//! aria_form  the accessibility tree as a flat list
//! finish     what is new, the budget, the figures
//! refs       what a tab remembers
//! ```

mod ai_form;
mod ai_tree;
mod aria_form;
mod ax;
mod capture;
mod cursor;
mod dom;
mod finish;
pub(crate) mod labels;
pub(crate) mod named;
mod plan;
pub mod refs;
mod role_form;
mod roles;
mod yaml;

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::aria_form::{DEFAULT_LIMIT, HIGHEST_LIMIT, aria_nodes};
use self::capture::{CaptureError, Captured, default_form, full_tree, part, whole_page};
use self::finish::{KeyKind, finish};
use self::plan::{Form, Plan, PlanError};
use self::refs::Family;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::routes::capture::labelled;
use crate::tab::Tab;

/// How long a snapshot may take unless the caller says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// `GET /snapshot`.
///
/// # Errors
/// [`RouteError`].
pub async fn snapshot(page: &Page, request: &Request) -> Reply {
    let tab = &*page.tab;
    let plan = Plan::read(&request.query).map_err(|error| match error {
        PlanError::NotForAria => RouteError::bad_request(error.to_string()),
        PlanError::NotForPart => RouteError::failed(error),
    })?;
    let timeout = plan
        .timeout_ms
        .map_or(DEFAULT_TIMEOUT, Duration::from_millis);
    let taken = tokio::time::timeout(timeout, tab.unless_blocked(answer(page, &plan, timeout)));
    let taken = taken
        .await
        .map_err(|_| RouteError::failed("Browser snapshot capture timed out."))?;
    match taken {
        Some(answered) => answered.map(Value::Object),
        None => {
            let mut members = head(tab, &plan);
            members.insert("blockedByDialog".to_owned(), json!(true));
            members.insert("browserState".to_owned(), tab.state().dialogs.to_state());
            if plan.form == Form::Aria {
                members.insert("nodes".to_owned(), json!([]));
            } else {
                members.insert("snapshot".to_owned(), json!(""));
                members.insert("refs".to_owned(), json!({}));
            }
            Ok(Value::Object(members))
        }
    }
}

fn head(tab: &Tab, plan: &Plan) -> Map<String, Value> {
    let format = if plan.form == Form::Aria {
        "aria"
    } else {
        "ai"
    };
    let mut members = Map::new();
    members.insert("ok".to_owned(), json!(true));
    members.insert("format".to_owned(), json!(format));
    members.insert("targetId".to_owned(), json!(tab.target_id()));
    members.insert("url".to_owned(), json!(tab.url()));
    members
}

async fn answer(
    page: &Page,
    plan: &Plan,
    timeout: Duration,
) -> Result<Map<String, Value>, RouteError> {
    let tab = &*page.tab;
    let before = tab.state().document;
    let mut members = head(tab, plan);
    if !tab.state().dialogs.is_empty() {
        members.insert("browserState".to_owned(), tab.state().dialogs.to_state());
    }
    if plan.form == Form::Aria {
        let tree = full_tree(tab.session(), None).await?;
        let limit = plan
            .limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(DEFAULT_LIMIT)
            .min(HIGHEST_LIMIT);
        let (nodes, refs) = aria_nodes(&tree.nodes()?, limit);
        unchanged(tab, before)?;
        tab.refs.borrow_mut().replace(&refs, false);
        members.insert("nodes".to_owned(), Value::Array(nodes));
        return Ok(members);
    }
    let captured = capture(tab, plan, Instant::now() + timeout)
        .await
        .map_err(RouteError::failed)?;
    unchanged(tab, before)?;
    let family = Family {
        key_kind: if plan.form == Form::Default {
            KeyKind::Ref
        } else {
            KeyKind::Role
        },
        options: plan.options,
        has_urls: plan.has_urls,
        budget: plan.budget,
        selector: plan.selector.clone(),
        frame: plan.frame.clone(),
    };
    let key_kind = family.key_kind;
    let finished = {
        let mut refs = tab.refs.borrow_mut();
        let previous = refs.shown_before(&family, captured.document);
        let finished = finish(
            captured.draft,
            captured.placeholder,
            &captured.links,
            plan.budget,
            key_kind,
            previous,
        );
        refs.replace(&finished.refs, plan.form == Form::Default);
        refs.remember_shown(family, captured.document, key_kind.keys(&finished.refs));
        finished
    };
    if plan.has_labels {
        members.extend(labelled(page, &finished.refs).await?);
    }
    members.extend(finished.members());
    Ok(members)
}

async fn capture(tab: &Tab, plan: &Plan, deadline: Instant) -> Result<Captured, CaptureError> {
    match (plan.form, &plan.selector, &plan.frame) {
        (Form::Role, None, None) => whole_page(tab, plan.options, plan.has_urls).await,
        (Form::Role, selector, frame) => {
            let (selector, frame) = (selector.as_deref(), frame.as_deref());
            part(tab, plan.options, plan.has_urls, selector, frame, deadline).await
        }
        (Form::Default | Form::Aria, _, _) => default_form(tab, plan.options, plan.has_urls).await,
    }
}

/// A snapshot of two documents is none of either.
fn unchanged(tab: &Tab, document: u64) -> Result<(), RouteError> {
    if tab.state().document == document {
        return Ok(());
    }
    Err(RouteError::failed(
        "Frame changed while its browser snapshot was being captured; retry.",
    ))
}
