//! Reads the loosely typed body of an act, with upstream's words for what is wrong with it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::request::{Act, Button, Click, Field, FieldKind, Kind, Modifier, Target, Wait};
use super::wait::LoadState;
use crate::coerce::{integer, non_negative_integer, number, positive_integer, text, truth};

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

/// The kind of a body, if there is such a kind.
pub(super) fn known_kind(body: &Map<String, Value>) -> Option<String> {
    text(body.get("kind")).filter(|kind| KINDS.contains(&kind.as_str()))
}

/// Reads a body of a kind that there is. `depth` is how many batches it is in.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(body: &Map<String, Value>, kind: &str, depth: usize) -> Result<Act, String> {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::request::{Act, Kind};

    fn read(body: Value) -> Result<Act, (u16, &'static str, String)> {
        let Value::Object(body) = body else {
            panic!("no body");
        };
        Act::read(&body, true)
            .map_err(|error| (error.status, error.code.unwrap().name(), error.message))
    }

    #[test]
    fn says_what_is_wrong() {
        let acts = |count: usize| vec![json!({"kind": "wait", "timeMs": 1}); count];
        let mut deep = json!({"kind": "batch", "actions": acts(1)});
        for _ in 0..6 {
            deep = json!({"kind": "batch", "actions": [deep]});
        }
        for (body, message) in [
            (
                json!({"kind": "click", "ref": "e1", "delayMs": 5001}),
                "click delayMs exceeds maximum of 5000ms",
            ),
            (
                json!({"kind": "click", "ref": "e1", "delayMs": -1}),
                "delayMs must be a non-negative integer.",
            ),
            (
                json!({"kind": "click", "ref": "e1", "timeoutMs": "soon"}),
                "timeoutMs must be a positive integer.",
            ),
            (
                json!({"kind": "clickCoords", "x": "a", "y": 1}),
                "x must be a finite number.",
            ),
            (
                json!({"kind": "clickCoords", "x": -1, "y": 1}),
                "clickCoords requires non-negative x and y",
            ),
            (
                json!({"kind": "clickCoords", "x": 1, "y": 1, "button": "b"}),
                "clickCoords button must be left|right|middle",
            ),
            (
                json!({"kind": "type", "text": "a"}),
                "type requires ref or selector",
            ),
            (
                json!({"kind": "type", "ref": "e1", "text": 1}),
                "type requires text",
            ),
            (json!({"kind": "insertText"}), "insertText requires text"),
            (json!({"kind": "press", "key": " "}), ""),
            (json!({"kind": "press"}), "press requires key"),
            (json!({"kind": "hover"}), "hover requires ref or selector"),
            (
                json!({"kind": "scrollIntoView"}),
                "scrollIntoView requires ref or selector",
            ),
            (
                json!({"kind": "drag", "endRef": "e1"}),
                "drag requires startRef or startSelector",
            ),
            (
                json!({"kind": "drag", "startRef": "e1"}),
                "drag requires endRef or endSelector",
            ),
            (
                json!({"kind": "select", "ref": "e1", "values": [1]}),
                "select requires ref/selector and values",
            ),
            (
                json!({"kind": "fill", "fields": ["a"]}),
                "fields[0] must be an object",
            ),
            (
                json!({"kind": "fill", "fields": [{"value": 1}]}),
                "fields[0] must include ref",
            ),
            (
                json!({"kind": "fill", "fields": [{"ref": "e1", "x": 1}]}),
                "fields[0] unsupported field key \"x\"; supported keys are ref, type, value",
            ),
            (
                json!({"kind": "fill", "fields": [{"ref": "e1", "value": []}]}),
                "fields[0] value must be a string, number, boolean, or null",
            ),
            (
                json!({"kind": "resize", "width": 8193, "height": 1}),
                "resize width and height must not exceed 8192",
            ),
            (
                json!({"kind": "resize", "width": 1.5, "height": 1}),
                "resize requires positive width and height",
            ),
            (
                json!({"kind": "wait", "timeMs": 30001}),
                "wait timeMs exceeds maximum of 30000ms",
            ),
            (
                json!({"kind": "wait", "loadState": "done"}),
                "wait requires at least one of: timeMs, text, textGone, selector, url, loadState, fn",
            ),
            (
                json!({"kind": "evaluate", "fn": " "}),
                "evaluate requires fn",
            ),
            (json!({"kind": "batch"}), "actions are required"),
            (
                json!({"kind": "batch", "actions": [{"kind": "batch"}]}),
                "batch requires actions",
            ),
            (
                json!({"kind": "batch", "actions": [1]}),
                "batch actions must be objects",
            ),
            (
                json!({"kind": "batch", "actions": [{"kind": "zap"}]}),
                "kind is required",
            ),
            (
                json!({"kind": "batch", "actions": acts(101)}),
                "batch exceeds maximum of 100 actions",
            ),
            (deep, "batch nesting exceeds maximum depth of 5"),
        ] {
            match read(body.clone()) {
                Ok(_) => assert_eq!(message, "", "{body}"),
                Err(error) => assert_eq!(error, (400, "ACT_INVALID_REQUEST", message.to_owned())),
            }
        }
    }

    #[test]
    fn takes_selectors_only_where_they_are_offered() {
        for kind in [
            "press",
            "fill",
            "evaluate",
            "insertText",
            "clickCoords",
            "resize",
            "close",
        ] {
            let body = json!({
                "kind": kind, "selector": "x", "key": "a", "fields": [{"ref": "e1"}], "fn": "1",
                "text": "", "x": 1, "y": 1, "width": 1, "height": 1,
            });
            let (status, code, message) = read(body).unwrap_err();
            assert_eq!((status, code), (400, "ACT_SELECTOR_UNSUPPORTED"), "{kind}");
            assert!(message.starts_with("Error: 'selector' is not supported."));
        }
    }

    #[test]
    fn replaces_the_nicknames_of_keys() {
        for (written, read_as) in [
            ("ctrl+Del", "Control+Delete"),
            ("esc", "Escape"),
            (" ", "Space"),
            ("cmd+space", "Meta+Space"),
            ("Return", "Enter"),
        ] {
            let act = read(json!({"kind": "press", "key": written})).unwrap();
            let Kind::Press { key, .. } = act.kind else {
                panic!("{act:?}");
            };
            assert_eq!(key, read_as);
        }
    }
}
