//! Draws refs into the page for a screenshot, and says where they are (browser proxy §5.2).

use futures_util::future::join_all;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::capture::part;
use super::named::{NamedRefs, RefInfo};
use super::role_form::RoleOptions;
use crate::cdp::{CALL_DEADLINE, CdpError};
use crate::element::{Object, ScriptError};
use crate::request::RouteError;
use crate::tab::Tab;

/// Boxes that are drawn at most; more would hide the page.
const MOST_LABELS: usize = 150;

/// Draws the boxes, or clears them away.
const DRAW: &str = include_str!("labels.js");

/// A rectangle in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Area {
    fn overlaps(self, other: Self) -> bool {
        self.x < other.x + other.width
            && self.x + self.width > other.x
            && self.y < other.y + other.height
            && self.y + self.height > other.y
    }

    fn moved(self, x: f64, y: f64) -> Self {
        Self {
            x: self.x + x,
            y: self.y + y,
            ..self
        }
    }
}

/// What the screenshot will show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shown {
    /// What is in sight.
    Viewport,
    /// The whole page.
    Page,
    /// A part of the page.
    Part(Area),
}

/// Labels that are drawn.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Labels {
    /// How many.
    count: usize,
    /// Refs that have none.
    skipped: usize,
    /// Where the elements are in the screenshot, also those that it does not show.
    annotations: Vec<Annotation>,
}

impl Labels {
    /// What a screenshot adds to its answer; `scale` is how many pixels of the picture a CSS pixel
    /// has become.
    pub(crate) fn members(&self, scale: f64) -> Map<String, Value> {
        let annotations: Vec<Value> = self
            .annotations
            .iter()
            .map(|annotation| annotation.to_json(scale))
            .collect();
        let mut members = Map::new();
        members.insert("labels".to_owned(), json!(true));
        members.insert("labelsCount".to_owned(), json!(self.count));
        members.insert("labelsSkipped".to_owned(), json!(self.skipped));
        if !annotations.is_empty() {
            members.insert("annotations".to_owned(), Value::Array(annotations));
        }
        members
    }
}

/// Where an element is in a screenshot.
#[derive(Debug, Clone, PartialEq)]
struct Annotation {
    reference: String,
    role: String,
    name: Option<String>,
    area: Area,
}

impl Annotation {
    fn to_json(&self, scale: f64) -> Value {
        let digits: String = self
            .reference
            .chars()
            .skip_while(|next| !next.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        let mut annotation = json!({
            "ref": self.reference,
            "number": digits.parse::<u32>().unwrap_or(0),
            "role": self.role,
        });
        // Only what is scaled is rounded to whole pixels.
        let is_scaled = (scale - 1.0).abs() > f64::EPSILON;
        let place = |side: f64| {
            if is_scaled {
                (side * scale).round()
            } else {
                side
            }
        };
        let size = |side: f64| {
            if is_scaled {
                (side * scale).round().max(1.0)
            } else {
                side
            }
        };
        if let Value::Object(members) = &mut annotation {
            if let Some(name) = &self.name {
                members.insert("name".to_owned(), json!(name));
            }
            let area = json!({
                "x": whole(place(self.area.x)),
                "y": whole(place(self.area.y)),
                "width": whole(size(self.area.width)),
                "height": whole(size(self.area.height)),
            });
            members.insert("box".to_owned(), area);
        }
        annotation
    }
}

/// A number as JavaScript prints it: without a fraction where it is whole.
fn whole(number: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and far below 2^53, so it is exact"
    )]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// The refs to draw into a screenshot that no snapshot comes with: those of the last one, or of a new
/// one, which acts know from then on.
///
/// # Errors
/// A page that cannot be looked at.
pub(crate) async fn refs_to_draw(tab: &Tab, of_last: bool) -> Result<NamedRefs, RouteError> {
    if of_last {
        return Ok(tab.refs.borrow().shown());
    }
    let deadline = Instant::now() + CALL_DEADLINE;
    let captured = part(tab, RoleOptions::default(), false, None, None, deadline)
        .await
        .map_err(RouteError::failed)?;
    let refs = captured.draft.refs;
    tab.refs.borrow_mut().replace(&refs, false);
    Ok(refs)
}

/// Draws the refs of a snapshot into the page.
///
/// # Errors
/// [`ScriptError`]; then nothing is drawn.
pub(crate) async fn draw(tab: &Tab, refs: &NamedRefs, shown: Shown) -> Result<Labels, ScriptError> {
    let metrics = tab
        .session()
        .call("Page.getLayoutMetrics", json!({}))
        .await?;
    let side = |name: &str| {
        metrics
            .pointer(&format!("/cssVisualViewport/{name}"))
            .and_then(Value::as_f64)
            .unwrap_or_default()
    };
    let (scroll_x, scroll_y) = (side("pageX"), side("pageY"));
    let viewport = Area {
        x: scroll_x,
        y: scroll_y,
        width: side("clientWidth"),
        height: side("clientHeight"),
    };
    // Everything from here on is relative to the page.
    let (sight, origin) = match shown {
        Shown::Viewport => (Some(viewport), viewport),
        Shown::Page => (None, Area::default()),
        Shown::Part(part) => (Some(part), part),
    };
    let areas = join_all(refs.iter().map(|(_, info)| area(tab, info))).await;
    let mut labels = Labels::default();
    let mut drawn = Vec::new();
    for ((reference, info), area) in refs.iter().zip(areas) {
        let Some(area) = area else {
            labels.skipped += 1;
            continue;
        };
        let area = area.moved(scroll_x, scroll_y);
        let is_in_sight = sight.is_none_or(|sight| sight.overlaps(area));
        if matches!(shown, Shown::Part(_)) && !is_in_sight {
            continue;
        }
        if is_in_sight && drawn.len() == MOST_LABELS {
            labels.skipped += 1;
            continue;
        }
        if is_in_sight {
            drawn.push(json!({
                "ref": reference,
                "x": area.x,
                "y": area.y,
                "width": area.width,
                "height": area.height,
            }));
        } else {
            labels.skipped += 1;
        }
        labels.annotations.push(Annotation {
            reference: reference.clone(),
            role: info.role.clone(),
            name: info.name.clone(),
            area: area.moved(-origin.x, -origin.y),
        });
    }
    labels.count = drawn.len();
    if !drawn.is_empty() {
        let document = Object::document(tab.session()).await?;
        document
            .call(DRAW, &[json!(drawn), json!(origin.y)])
            .await?;
    }
    Ok(labels)
}

/// Clears away what was drawn.
///
/// # Errors
/// [`ScriptError`].
pub(crate) async fn clear(tab: &Tab) -> Result<(), ScriptError> {
    let document = Object::document(tab.session()).await?;
    document.call(DRAW, &[json!([]), json!(0)]).await?;
    Ok(())
}

/// Where an element is, relative to what is in sight. One that is gone or has no box is nowhere.
async fn area(tab: &Tab, info: &RefInfo) -> Option<Area> {
    let session = info
        .process_frame
        .as_deref()
        .map_or_else(|| tab.session().clone(), |frame| tab.session_of(frame));
    let params = json!({"backendNodeId": info.backend_node_id?});
    let model: Result<Value, CdpError> = session.call("DOM.getBoxModel", params).await;
    let model = model.ok()?;
    let border: Vec<f64> = model
        .pointer("/model/border")?
        .as_array()?
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    let along = |offset: usize| {
        let sides = border.iter().skip(offset).step_by(2).copied();
        let least = sides.clone().fold(f64::MAX, f64::min);
        (least, sides.fold(f64::MIN, f64::max) - least)
    };
    let ((x, width), (y, height)) = (along(0), along(1));
    Some(Area {
        x,
        y,
        width,
        height,
    })
}
