//! What an act asks for (browser proxy §6): loosely typed bodies become one type per kind here.

use std::time::Duration;

use serde_json::{Map, Value};

use super::wait::LoadState;
use crate::coerce::{integer, non_negative_integer, number, positive_integer, text, truth};
use crate::request::{ActCode, RouteError};

/// The longest delay of a click.
const LONGEST_CLICK_DELAY_MS: u64 = 5_000;

/// The longest wait for nothing but time.
const LONGEST_WAIT_MS: u64 = 30_000;

/// The longest side of a viewport.
const LONGEST_SIDE: i64 = 8_192;

/// How deep batches may be in batches.
const DEEPEST_BATCH: usize = 5;

/// How many acts a batch may hold, those of batches in it included.
const MOST_ACTS: usize = 100;

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

/// Kinds that there are.
const KINDS: [&str; 15] = [
    "batch",
    "click",
    "clickCoords",
    "close",
    "drag",
    "evaluate",
    "fill",
    "hover",
    "insertText",
    "press",
    "resize",
    "scrollIntoView",
    "select",
    "type",
    "wait",
];

fn known_kind(body: &Map<String, Value>) -> Option<String> {
    text(body.get("kind")).filter(|kind| KINDS.contains(&kind.as_str()))
}

fn read(body: &Map<String, Value>, kind: &str, depth: usize) -> Result<Act, String> {
    let member = |name: &str| body.get(name);
    let kind = match kind {
        "click" => {
            let target =
                read_target(body, "ref", "selector").ok_or("click requires ref or selector")?;
            let mut click = read_click(body, "click")?;
            click.modifiers = read_modifiers(body)?;
            click.delay = bounded_ms(body, "delayMs", "click delayMs", LONGEST_CLICK_DELAY_MS)?
                .unwrap_or_default();
            Kind::Click { target, click }
        }
        "clickCoords" => {
            let side = |name: &str| match number(member(name)) {
                None if !is_blank(member(name)) => Err(format!("{name} must be a finite number.")),
                side => Ok(side.filter(|side| *side >= 0.0)),
            };
            let (Some(x), Some(y)) = (side("x")?, side("y")?) else {
                return Err("clickCoords requires non-negative x and y".to_owned());
            };
            let mut click = read_click(body, "clickCoords")?;
            let delay = bounded_ms(
                body,
                "delayMs",
                "clickCoords delayMs",
                LONGEST_CLICK_DELAY_MS,
            )?;
            click.delay = delay.unwrap_or_default();
            Kind::ClickCoords { x, y, click }
        }
        "type" => Kind::Type {
            target: read_target(body, "ref", "selector").ok_or("type requires ref or selector")?,
            text: raw_text(body, "text").ok_or("type requires text")?,
            is_submitted: truth(member("submit")).unwrap_or(false),
            is_slow: truth(member("slowly")).unwrap_or(false),
        },
        "insertText" => Kind::InsertText {
            text: raw_text(body, "text").ok_or("insertText requires text")?,
        },
        "press" => Kind::Press {
            key: read_key(member("key")).ok_or("press requires key")?,
            delay: non_negative_ms(body, "delayMs")?.unwrap_or_default(),
        },
        "hover" | "scrollIntoView" => {
            let target = read_target(body, "ref", "selector")
                .ok_or_else(|| format!("{kind} requires ref or selector"))?;
            if kind == "hover" {
                Kind::Hover { target }
            } else {
                Kind::ScrollIntoView { target }
            }
        }
        "drag" => Kind::Drag {
            start: read_target(body, "startRef", "startSelector")
                .ok_or("drag requires startRef or startSelector")?,
            end: read_target(body, "endRef", "endSelector")
                .ok_or("drag requires endRef or endSelector")?,
        },
        "select" => {
            let values: Vec<String> = elements(member("values"))
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect();
            let target = read_target(body, "ref", "selector").filter(|_| !values.is_empty());
            Kind::Select {
                target: target.ok_or("select requires ref/selector and values")?,
                values,
            }
        }
        "fill" => {
            let fields = read_fields(member("fields"))?;
            if fields.is_empty() {
                return Err("fill requires fields".to_owned());
            }
            Kind::Fill { fields }
        }
        "resize" => read_resize(body)?,
        "wait" => Kind::Wait(read_wait(body)?),
        "evaluate" => Kind::Evaluate {
            function: text(member("fn")).ok_or("evaluate requires fn")?,
            reference: text(member("ref")),
        },
        "close" => Kind::Close,
        _ => read_batch(body, depth)?,
    };
    let takes_timeout = !matches!(
        kind,
        Kind::InsertText { .. }
            | Kind::Press { .. }
            | Kind::Resize { .. }
            | Kind::Close
            | Kind::Batch { .. }
    );
    let timeout_ms = if takes_timeout {
        let timeout = positive_integer(member("timeoutMs"));
        if timeout.is_none() && !is_blank(member("timeoutMs")) {
            return Err("timeoutMs must be a positive integer.".to_owned());
        }
        timeout
    } else {
        None
    };
    Ok(Act {
        kind,
        target_id: text(member("targetId")),
        timeout_ms,
    })
}

fn read_target(body: &Map<String, Value>, reference: &str, selector: &str) -> Option<Target> {
    text(body.get(reference))
        .map(Target::Ref)
        .or_else(|| text(body.get(selector)).map(Target::Selector))
}

fn read_click(body: &Map<String, Value>, kind: &str) -> Result<Click, String> {
    let button = match text(body.get("button")).as_deref() {
        None | Some("left") => Button::Left,
        Some("right") => Button::Right,
        Some("middle") => Button::Middle,
        Some(_) => return Err(format!("{kind} button must be left|right|middle")),
    };
    Ok(Click {
        is_double: truth(body.get("doubleClick")).unwrap_or(false),
        button,
        ..Click::default()
    })
}

fn read_modifiers(body: &Map<String, Value>) -> Result<Vec<Modifier>, String> {
    elements(body.get("modifiers"))
        .iter()
        .filter_map(|modifier| text(Some(modifier)))
        .map(|modifier| match modifier.as_str() {
            "Alt" => Ok(Modifier::Alt),
            // This node runs where the accelerator is Control.
            "Control" | "ControlOrMeta" => Ok(Modifier::Control),
            "Meta" => Ok(Modifier::Meta),
            "Shift" => Ok(Modifier::Shift),
            _ => Err("modifiers must be Alt|Control|ControlOrMeta|Meta|Shift".to_owned()),
        })
        .collect()
}

/// A key or chord with the usual nicknames replaced.
fn read_key(value: Option<&Value>) -> Option<String> {
    if value.and_then(Value::as_str) == Some(" ") {
        return Some("Space".to_owned());
    }
    let chord = text(value)?;
    let keys: Vec<&str> = chord
        .split('+')
        .map(|key| match key.to_lowercase().as_str() {
            "esc" => "Escape",
            "return" => "Enter",
            "del" => "Delete",
            "ctrl" => "Control",
            "cmd" => "Meta",
            "space" => "Space",
            _ => key,
        })
        .collect();
    Some(keys.join("+"))
}

fn read_fields(value: Option<&Value>) -> Result<Vec<Field>, String> {
    elements(value)
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let prefix = format!("fields[{index}]");
            let Value::Object(field) = field else {
                return Err(format!("{prefix} must be an object"));
            };
            let trimmed = |name: &str| {
                let text = field.get(name).and_then(Value::as_str)?.trim();
                (!text.is_empty()).then(|| text.to_owned())
            };
            let reference = trimmed("ref").ok_or_else(|| format!("{prefix} must include ref"))?;
            for key in field.keys() {
                if !["ref", "type", "value"].contains(&key.as_str()) {
                    return Err(format!(
                        "{prefix} unsupported field key \"{key}\"; supported keys are ref, type, value"
                    ));
                }
            }
            let value = field.get("value").unwrap_or(&Value::Null);
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(truth) => truth.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    return Err(format!(
                        "{prefix} value must be a string, number, boolean, or null"
                    ));
                }
            };
            let kind = match trimmed("type").as_deref() {
                Some("checkbox" | "radio") => {
                    FieldKind::Check(matches!(text.as_str(), "true" | "1"))
                }
                _ => FieldKind::Text,
            };
            Ok(Field {
                reference,
                kind,
                text,
            })
        })
        .collect()
}

fn read_resize(body: &Map<String, Value>) -> Result<Kind, String> {
    let side = |name: &str| integer(body.get(name)).filter(|side| *side > 0);
    let (Some(width), Some(height)) = (side("width"), side("height")) else {
        return Err("resize requires positive width and height".to_owned());
    };
    if width.max(height) > LONGEST_SIDE {
        return Err(format!(
            "resize width and height must not exceed {LONGEST_SIDE}"
        ));
    }
    Ok(Kind::Resize { width, height })
}

fn read_wait(body: &Map<String, Value>) -> Result<Wait, String> {
    let wait = Wait {
        time: bounded_ms(body, "timeMs", "wait timeMs", LONGEST_WAIT_MS)?,
        text: text(body.get("text")),
        text_gone: text(body.get("textGone")),
        selector: text(body.get("selector")),
        url: text(body.get("url")),
        load_state: text(body.get("loadState")).and_then(|state| LoadState::read(&state)),
        function: text(body.get("fn")),
    };
    if wait == Wait::default() {
        return Err(
            "wait requires at least one of: timeMs, text, textGone, selector, url, loadState, fn"
                .to_owned(),
        );
    }
    Ok(wait)
}

fn read_batch(body: &Map<String, Value>, depth: usize) -> Result<Kind, String> {
    if depth > DEEPEST_BATCH {
        return Err(format!(
            "batch nesting exceeds maximum depth of {DEEPEST_BATCH}"
        ));
    }
    let acts = elements(body.get("actions"))
        .iter()
        .map(|act| {
            let Value::Object(act) = act else {
                return Err("batch actions must be objects".to_owned());
            };
            let kind = known_kind(act).ok_or("kind is required")?;
            read(act, &kind, depth + 1)
        })
        .collect::<Result<Vec<Act>, String>>()?;
    if acts.is_empty() {
        let message = if depth == 0 {
            "actions are required"
        } else {
            "batch requires actions"
        };
        return Err(message.to_owned());
    }
    if count(&acts) > MOST_ACTS {
        return Err(format!("batch exceeds maximum of {MOST_ACTS} actions"));
    }
    Ok(Kind::Batch {
        acts,
        stops_on_error: truth(body.get("stopOnError")).unwrap_or(true),
    })
}

fn count(acts: &[Act]) -> usize {
    acts.iter()
        .map(|act| match &act.kind {
            Kind::Batch { acts, .. } => 1 + count(acts),
            _ => 1,
        })
        .sum()
}

fn non_negative_ms(body: &Map<String, Value>, name: &str) -> Result<Option<Duration>, String> {
    let millis = non_negative_integer(body.get(name));
    if millis.is_none() && !is_blank(body.get(name)) {
        return Err(format!("{name} must be a non-negative integer."));
    }
    Ok(millis.map(Duration::from_millis))
}

fn bounded_ms(
    body: &Map<String, Value>,
    name: &str,
    what: &str,
    most: u64,
) -> Result<Option<Duration>, String> {
    let duration = non_negative_ms(body, name)?;
    if duration.is_some_and(|duration| duration > Duration::from_millis(most)) {
        return Err(format!("{what} exceeds maximum of {most}ms"));
    }
    Ok(duration)
}

/// A text as it is: what is typed may be blank or empty.
fn raw_text(body: &Map<String, Value>, name: &str) -> Option<String> {
    body.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn elements(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn is_blank(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}
