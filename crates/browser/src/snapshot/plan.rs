//! What a snapshot request asks for (browser proxy §5).

use serde_json::{Map, Value};

use super::role_form::RoleOptions;
use crate::coerce::{non_negative_integer, positive_integer, text, truth};

/// UTF-16 units of text unless the caller says otherwise.
const DEFAULT_BUDGET: usize = 40_000;

/// The same for `mode=efficient`.
const EFFICIENT_BUDGET: usize = 8_000;

/// Levels of `mode=efficient`.
const EFFICIENT_DEPTH: usize = 6;

/// What form the snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `format=aria`.
    Aria,
    /// The default form, also `refs=aria`.
    Default,
    /// The role form.
    Role,
}

/// A snapshot request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Which form.
    pub(crate) form: Form,
    /// What to leave out of a text.
    pub(crate) options: RoleOptions,
    /// UTF-16 units of text; none is unlimited.
    pub(crate) budget: Option<usize>,
    /// Nodes of the aria form, as asked.
    pub(crate) limit: Option<u64>,
    /// Whether a screenshot with the refs drawn in comes with it.
    pub(crate) has_labels: bool,
    /// Whether links show where they lead.
    pub(crate) has_urls: bool,
    /// The part to look at, as a CSS selector.
    pub(crate) selector: Option<String>,
    /// The frame to look at, as a CSS selector of its element.
    pub(crate) frame: Option<String>,
    /// How long it may take, in milliseconds.
    pub(crate) timeout_ms: Option<u64>,
}

/// Why a request cannot be answered; all are status 400 but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("labels/mode=efficient require format=ai")]
    NotForAria,
    #[error("refs=aria does not support selector/frame snapshots yet.")]
    NotForPart,
}

impl Plan {
    /// Reads the query of `GET /snapshot`.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn read(query: &Map<String, Value>) -> Result<Self, PlanError> {
        let member = |name: &str| query.get(name);
        let is_efficient = member("mode").and_then(Value::as_str) == Some("efficient");
        let format = member("format").and_then(Value::as_str);
        let is_aria = format == Some("aria") && !is_efficient;
        let has_labels = truth(member("labels")).unwrap_or(false);
        let has_urls = truth(member("urls")).unwrap_or(false);
        if format == Some("aria") && (has_labels || is_efficient) {
            return Err(PlanError::NotForAria);
        }
        let default_budget = if is_efficient {
            EFFICIENT_BUDGET
        } else {
            DEFAULT_BUDGET
        };
        let budget = match non_negative_integer(member("maxChars")) {
            None => Some(default_budget),
            Some(0) => None,
            Some(budget) => usize::try_from(budget).ok(),
        };
        let depth =
            non_negative_integer(member("depth")).and_then(|depth| usize::try_from(depth).ok());
        let options = RoleOptions {
            is_interactive: truth(member("interactive")).unwrap_or(is_efficient),
            is_compact: truth(member("compact")).unwrap_or(is_efficient),
            depth: depth.or(is_efficient.then_some(EFFICIENT_DEPTH)),
        };
        let selector = text(member("selector"));
        let frame = text(member("frame"));
        let wants_role_form = has_labels
            || has_urls
            || is_efficient
            || options.is_interactive
            || options.is_compact
            || options.depth.is_some()
            || selector.is_some()
            || frame.is_some();
        let wants_aria_refs = text(member("refs")).as_deref() == Some("aria");
        if !is_aria && wants_aria_refs && (selector.is_some() || frame.is_some()) {
            return Err(PlanError::NotForPart);
        }
        Ok(Self {
            form: if is_aria {
                Form::Aria
            } else if wants_role_form && !wants_aria_refs {
                Form::Role
            } else {
                Form::Default
            },
            options,
            budget,
            limit: positive_integer(member("limit")),
            has_labels,
            has_urls,
            selector,
            frame,
            timeout_ms: positive_integer(member("timeoutMs")),
        })
    }
}
