//! What an act asks for (browser proxy §6): loosely typed bodies become one type per kind here.

use std::time::Duration;

use serde_json::{Map, Value};

use super::read::{known_kind, read};
use super::wait::LoadState;
use crate::request::{ActCode, RouteError};

const SELECTOR_UNSUPPORTED: &str = "Error: 'selector' is not supported. Use 'ref' from snapshot instead.\n\nExample workflow:\n1. snapshot action to get page state with refs\n2. act with ref: \"e123\" to interact with element\n\nThis is more reliable for modern SPAs.";

/// Where the config says how scripts are switched on.
const DOCS: &str = "Docs: /tools/browser/configuration#configuration";

/// An element of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// By a ref of a snapshot, as written.
    Ref(String),
    /// By a selector.
    Selector(String),
}

impl Target {
    /// What messages call the element.
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Ref(label) | Self::Selector(label) => label,
        }
    }
}

/// A button of the mouse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Button {
    #[default]
    Left,
    Right,
    Middle,
}

/// A key that is held while something else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    Alt,
    Control,
    Meta,
    Shift,
}

/// How to click.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Click {
    pub(crate) is_double: bool,
    pub(crate) button: Button,
    pub(crate) modifiers: Vec<Modifier>,
    /// Between pointing at the element and pressing; for coordinates between pressing and releasing.
    pub(crate) delay: Duration,
}

/// What a form field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// Checked or not: `checkbox` and `radio`.
    Check(bool),
    /// Everything else.
    Text,
}

/// A field of a form to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) reference: String,
    pub(crate) kind: FieldKind,
    pub(crate) text: String,
}

/// What to wait for; everything that is given, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wait {
    pub(crate) time: Option<Duration>,
    pub(crate) text: Option<String>,
    pub(crate) text_gone: Option<String>,
    pub(crate) selector: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) load_state: Option<LoadState>,
    pub(crate) function: Option<String>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Click {
        target: Target,
        click: Click,
    },
    ClickCoords {
        x: f64,
        y: f64,
        click: Click,
    },
    Type {
        target: Target,
        text: String,
        is_submitted: bool,
        is_slow: bool,
    },
    InsertText {
        text: String,
    },
    Press {
        key: String,
        delay: Duration,
    },
    Hover {
        target: Target,
    },
    ScrollIntoView {
        target: Target,
    },
    Drag {
        start: Target,
        end: Target,
    },
    Select {
        target: Target,
        values: Vec<String>,
    },
    Fill {
        fields: Vec<Field>,
    },
    Resize {
        width: i64,
        height: i64,
    },
    Wait(Wait),
    Evaluate {
        function: String,
        reference: Option<String>,
    },
    Close,
    Batch {
        acts: Vec<Act>,
        stops_on_error: bool,
    },
}

/// One act.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Act {
    pub(crate) kind: Kind,
    /// The tab, as written.
    pub(crate) target_id: Option<String>,
    /// `timeoutMs`, as asked.
    pub(crate) timeout_ms: Option<u64>,
}

impl Act {
    /// Reads the body of `POST /act`.
    ///
    /// # Errors
    /// [`RouteError`] with a code.
    pub(crate) fn read(
        body: &Map<String, Value>,
        evaluate_enabled: bool,
    ) -> Result<Self, RouteError> {
        let refuse = |code, status, message: String| Err(RouteError::act(status, code, message));
        let Some(kind) = known_kind(body) else {
            let message = "kind is required".to_owned();
            return refuse(ActCode::KindRequired, 400, message);
        };
        let act = match read(body, &kind, 0) {
            Ok(act) => act,
            Err(message) => return refuse(ActCode::InvalidRequest, 400, message),
        };
        let takes_selector = matches!(
            act.kind,
            Kind::Batch { .. }
                | Kind::Click { .. }
                | Kind::Drag { .. }
                | Kind::Hover { .. }
                | Kind::ScrollIntoView { .. }
                | Kind::Select { .. }
                | Kind::Type { .. }
                | Kind::Wait(_)
        );
        if body.contains_key("selector") && !takes_selector {
            let message = SELECTOR_UNSUPPORTED.to_owned();
            return refuse(ActCode::SelectorUnsupported, 400, message);
        }
        if !evaluate_enabled && let Some(refusal) = act.kind.script_refusal() {
            let message = format!("{refusal}.\n{DOCS}");
            return refuse(ActCode::EvaluateDisabled, 403, message);
        }
        Ok(act)
    }

    /// Every tab that acts within this batch name.
    pub(crate) fn batched_target_ids(&self) -> Vec<&str> {
        let Kind::Batch { acts, .. } = &self.kind else {
            return Vec::new();
        };
        acts.iter()
            .flat_map(|act| {
                let mut ids = act.batched_target_ids();
                ids.extend(act.target_id.as_deref());
                ids
            })
            .collect()
    }
}

impl Kind {
    /// Why this kind is refused where scripts are switched off.
    pub(crate) fn script_refusal(&self) -> Option<&'static str> {
        match self {
            Self::Evaluate { .. } => {
                Some("act:evaluate is disabled by config (browser.evaluateEnabled=false)")
            }
            Self::Wait(Wait {
                function: Some(_), ..
            }) => Some("wait --fn is disabled by config (browser.evaluateEnabled=false)"),
            _ => None,
        }
    }
}
