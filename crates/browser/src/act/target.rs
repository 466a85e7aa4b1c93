//! Finds the element that an act is for, and waits until it can be acted on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::failure::{Failure, Obstacle, single_quoted, waited_in_vain};
use super::request::Target;
use crate::element::{Object, ScriptError};
use crate::tab::Tab;

/// Says what is in an act's way.
const ACTIONABLE: &str = include_str!("actionable.js");

/// Where a covered element is scrolled to in turn: what covers it may stick to an edge.
const ALIGNMENTS: [&str; 3] = ["center", "end", "start"];

/// Pauses between attempts; the last one repeats.
const PAUSES_MS: [u64; 5] = [0, 20, 100, 100, 250];

/// What an act needs of its element besides being visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing but being there, visible or not.
    Attached,
    /// Not moving.
    Still,
    /// Not disabled.
    Enabled,
    /// Neither disabled nor read-only.
    Editable,
    /// Not covered.
    Pointer,
    /// A label stands for its control.
    Control,
}

impl Need {
    const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Still => "still",
            Self::Enabled => "enabled",
            Self::Editable => "editable",
            Self::Pointer => "pointer",
            Self::Control => "control",
        }
    }
}

/// What a pointer act needs.
pub(crate) const POINTER: &[Need] = &[Need::Still, Need::Enabled, Need::Pointer];

/// What pointing at something needs.
pub(crate) const HOVER: &[Need] = &[Need::Still, Need::Pointer];

/// What typing into something needs.
pub(crate) const EDIT: &[Need] = &[Need::Enabled, Need::Editable, Need::Control];

/// What choosing in something needs.
pub(crate) const CHOOSE: &[Need] = &[Need::Enabled, Need::Control];

/// A time by which something has to be done, and how long that was at first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) timeout: Duration,
    pub(crate) at: Instant,
}

impl Limit {
    /// From now on.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            at: Instant::now() + timeout,
        }
    }
}

/// The elements of a tab, for one act.
pub(crate) struct Elements<'a> {
    pub(crate) tab: &'a Tab,
    /// What the engine calls the act, such as `click`.
    pub(crate) call: &'static str,
}

impl Elements<'_> {
    /// Waits for the element to be ready and does something with it. What is done may find an
    /// obstacle itself; while that may pass, everything is tried again until the limit.
    pub(crate) async fn act<T>(
        &self,
        target: &Target,
        needs: &[Need],
        limit: Limit,
        act: impl AsyncFn(&Object) -> Result<Result<T, Obstacle>, Failure>,
    ) -> Result<T, Failure> {
        let known = match target {
            Target::Ref(reference) => Some(self.tab.refs.borrow().find(reference)?),
            Target::Selector(_) => None,
        };
        let mut attempt = 0;
        let mut align = None;
        loop {
            let found = match (target, &known) {
                (Target::Selector(selector), _) => self.by_selector(selector).await?,
                (Target::Ref(_), known) => {
                    match known.as_ref().and_then(|info| info.backend_node_id) {
                        None => Err(Obstacle::Missing),
                        Some(id) => {
                            let process = known
                                .as_ref()
                                .and_then(|info| info.process_frame.as_deref());
                            let session = process.map_or_else(
                                || self.tab.session().clone(),
                                |frame| self.tab.session_of(frame),
                            );
                            // A refusal means that the element is gone.
                            let resolved = Object::resolve(&session, id).await;
                            resolved.map_err(|_| Obstacle::Missing)
                        }
                    }
                }
            };
            let obstacle = match found {
                Err(obstacle) => obstacle,
                Ok(element) => match ready(&element, needs, align).await? {
                    Some(obstacle) => obstacle,
                    None => match act(&element).await? {
                        Ok(done) => return Ok(done),
                        Err(obstacle) => obstacle,
                    },
                },
            };
            let pause = PAUSES_MS.get(attempt).or(PAUSES_MS.last());
            let pause = Duration::from_millis(pause.copied().unwrap_or_default());
            align = ALIGNMENTS
                .get(attempt % ALIGNMENTS.len())
                .copied()
                .filter(|_| obstacle == Obstacle::Covered);
            attempt += 1;
            if !obstacle.may_pass() || Instant::now() + pause >= limit.at {
                return Err(self.failure(target, obstacle, limit));
            }
            sleep(pause).await;
        }
    }

    async fn by_selector(&self, selector: &str) -> Result<Result<Object, Obstacle>, Failure> {
        let document = Object::document(self.tab.session()).await?;
        Ok(match document.find(selector).await? {
            (Some(element), 1) => Ok(element),
            (_, 0) | (None, _) => Err(Obstacle::Missing),
            (Some(_), count) => Err(Obstacle::Ambiguous(count)),
        })
    }

    fn failure(&self, target: &Target, obstacle: Obstacle, limit: Limit) -> Failure {
        let engine = (obstacle == Obstacle::Missing).then(|| {
            let locator = match target {
                Target::Selector(selector) => selector.clone(),
                Target::Ref(reference) => {
                    format!(
                        "[data-openclaw-browser-ref=\"{}\"]",
                        reference.trim_start_matches('@')
                    )
                }
            };
            let call = format!("locator.{}", self.call);
            let what = format!("locator({})", single_quoted(&locator));
            waited_in_vain(&call, limit.timeout, &what)
        });
        Failure::element(target.label(), obstacle, engine)
    }
}

/// Scrolls to the element and says what is in the way.
async fn ready(
    element: &Object,
    needs: &[Need],
    align: Option<&str>,
) -> Result<Option<Obstacle>, Failure> {
    let params = json!({"objectId": element.id()});
    let scrolled = element.session().call("DOM.scrollIntoViewIfNeeded", params);
    let needs: Vec<&str> = needs.iter().map(|need| need.name()).collect();
    let arguments = [json!(needs), json!(align)];
    let answered = element.call(ACTIONABLE, &arguments);
    // What has no box cannot be scrolled to; the answer says so too.
    let (_, answered) = futures_util::future::join(scrolled, answered).await;
    let answered = match answered {
        Ok(answered) => answered,
        // The document is gone, and the element with it.
        Err(ScriptError::Cdp(_)) => return Ok(Some(Obstacle::Missing)),
        Err(error) => return Err(error.into()),
    };
    Ok(match answered.as_str() {
        Some("ready") => None,
        Some("invisible") => Some(Obstacle::Invisible),
        Some("unstable") => Some(Obstacle::Unstable),
        Some("disabled") => Some(Obstacle::Disabled),
        Some("read-only") => Some(Obstacle::ReadOnly),
        Some("covered") => Some(Obstacle::Covered),
        _ => Some(Obstacle::Missing),
    })
}

/// A point of the page's viewport, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// The middle of what is shown of an element.
pub(crate) async fn middle(element: &Object) -> Result<Result<Point, Obstacle>, Failure> {
    let session = element.session();
    let params = json!({"objectId": element.id()});
    let quads = session.call("DOM.getContentQuads", params);
    let metrics = session.call("Page.getLayoutMetrics", json!({}));
    let (quads, metrics) = futures_util::future::join(quads, metrics).await;
    let Ok(quads) = quads else {
        return Ok(Err(Obstacle::Invisible));
    };
    let side = |name: &str| {
        metrics
            .as_ref()
            .ok()
            .and_then(|metrics| {
                metrics
                    .pointer(&format!("/cssLayoutViewport/{name}"))?
                    .as_f64()
            })
            .unwrap_or(f64::MAX)
    };
    let (width, height) = (side("clientWidth"), side("clientHeight"));
    let shown = quads
        .get("quads")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|quad| {
            let sides: Vec<f64> = quad.as_array()?.iter().filter_map(Value::as_f64).collect();
            let along = |offset: usize, most: f64| {
                let of_side = sides
                    .iter()
                    .skip(offset)
                    .step_by(2)
                    .map(|side| side.clamp(0.0, most));
                let (least, greatest) = of_side
                    .fold((f64::MAX, f64::MIN), |(least, greatest), side| {
                        (least.min(side), greatest.max(side))
                    });
                (greatest > least).then_some((least + greatest) / 2.0)
            };
            Some(Point {
                x: along(0, width)?,
                y: along(1, height)?,
            })
        })
        .next();
    Ok(shown.ok_or(Obstacle::Invisible))
}
