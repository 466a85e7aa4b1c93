//! Why an act failed, in the words that agents know (browser proxy §6).

use std::time::Duration;

use crate::cdp::CdpError;
use crate::element::ScriptError;
use crate::request::{ActCode, RouteError};
use crate::snapshot::refs::UnknownRef;

/// UTF-16 units of a label that messages show.
const LONGEST_LABEL: usize = 200;

/// What keeps an element from being acted on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// There is no such element.
    Missing,
    /// It has no visible box.
    Invisible,
    /// It moves.
    Unstable,
    /// It is disabled.
    Disabled,
    /// It is read-only.
    ReadOnly,
    /// Something else would get the click.
    Covered,
    /// An option to choose is not there.
    NoOption,
    /// Several elements match the selector.
    Ambiguous(u64),
    /// It takes no text.
    NotEditable,
    /// It takes numbers only.
    NotNumeric,
    /// Its input type takes no text.
    WrongInputType,
    /// Its input type takes texts of one form only.
    Malformed,
}

impl Obstacle {
    /// Whether waiting can help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Missing
            | Self::Invisible
            | Self::Unstable
            | Self::Disabled
            | Self::ReadOnly
            | Self::Covered
            | Self::NoOption => true,
            Self::Ambiguous(_)
            | Self::NotEditable
            | Self::NotNumeric
            | Self::WrongInputType
            | Self::Malformed => false,
        }
    }

    fn message(&self, label: &str) -> String {
        let interact = |why: &str| {
            format!(
                "Element \"{label}\" is not interactable ({why}). Try scrolling it into view, closing overlays, or re-snapshotting."
            )
        };
        match self {
            Self::Missing => format!(
                "Element \"{label}\" not found or not visible. Run a new snapshot to see current page elements."
            ),
            Self::Invisible => interact("not visible"),
            Self::Covered => interact("covered; another element intercepts pointer events"),
            Self::Unstable => format!(
                "Element \"{label}\" is not stable. Wait for movement or animation to finish before interacting."
            ),
            Self::Disabled => format!(
                "Element \"{label}\" is not enabled. Complete any prerequisites that enable the control."
            ),
            Self::ReadOnly => format!(
                "Element \"{label}\" is not editable (for example, read-only). Use an editable control."
            ),
            Self::NoOption => format!("Element \"{label}\" does not have the options to choose."),
            Self::Ambiguous(count) => format!(
                "Selector \"{label}\" matched {count} elements. Run a new snapshot to get updated refs, or use a different ref."
            ),
            Self::NotEditable => format!(
                "Element \"{label}\" is not editable: this control does not support text input. Use an editable input, textarea, or contenteditable element."
            ),
            Self::NotNumeric => format!(
                "Element \"{label}\" requires a numeric value. Use a valid number instead of text."
            ),
            Self::WrongInputType => format!(
                "Element \"{label}\" has an input type that cannot be filled. Use the interaction appropriate for this control."
            ),
            Self::Malformed => format!(
                "Element \"{label}\" rejected the value format. Use a value supported by this input type."
            ),
        }
    }
}

/// A failed act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The element did not let it be done.
    Element {
        /// What messages call the element.
        label: String,
        /// What was in the way.
        obstacle: Obstacle,
        /// The engine's own words, which batches tell too.
        engine: Option<String>,
    },
    /// It took too long; the engine's own words.
    Timeout(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// An element that could not be acted on in time.
    pub(crate) fn element(label: &str, obstacle: Obstacle, engine: Option<String>) -> Self {
        let mut units = 0;
        let label = label
            .chars()
            .take_while(|next| {
                units += next.len_utf16();
                units <= LONGEST_LABEL
            })
            .collect();
        Self::Element {
            label,
            obstacle,
            engine,
        }
    }

    /// What a batch says of it.
    pub(crate) fn in_batch(&self) -> String {
        match self {
            Self::Element {
                label,
                obstacle,
                engine,
            } => {
                let message = obstacle.message(label);
                match engine {
                    Some(engine) => format!("{message} | {engine}"),
                    None => message,
                }
            }
            Self::Timeout(message) | Self::Other(message) => message.clone(),
        }
    }
}

/// The engine's words for something that was waited for in vain.
pub(crate) fn waited_in_vain(call: &str, timeout: Duration, what: &str) -> String {
    format!(
        "{call}: Timeout {}ms exceeded.\nCall log:\n\u{1b}[2m  - waiting for {what}\u{1b}[22m\n",
        timeout.as_millis()
    )
}

/// A text in single quotes, as the engine's words have it.
pub(crate) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

impl From<Failure> for RouteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Element {
                label, obstacle, ..
            } => Self::act(500, ActCode::OperationFailed, obstacle.message(&label)),
            Failure::Timeout(message) => Self::new(500, format!("TimeoutError: {message}")),
            Failure::Other(message) => Self::failed(message),
        }
    }
}

impl From<CdpError> for Failure {
    fn from(error: CdpError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<ScriptError> for Failure {
    fn from(error: ScriptError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<UnknownRef> for Failure {
    fn from(error: UnknownRef) -> Self {
        Self::Other(error.to_string())
    }
}
