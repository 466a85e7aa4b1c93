//! Does one act.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::batch::batch;
use super::edit::{click_on, fill, fill_field, press_in, select, type_into};
use super::evaluate::evaluate;
use super::failure::{Failure, Obstacle};
use super::keyboard::{insert, press};
use super::mouse::{click, drag, point};
use super::request::{Act, Kind, Target};
use super::target::{Elements, HOVER, Limit, Need, POINTER, Point, middle};
use super::wait::wait;
use crate::element::Object;
use crate::routes::Page;

/// How long an act waits for its element unless the caller says otherwise, and within what bounds
/// (browser proxy §6).
const INTERACTION_MS: (u64, u64, u64) = (8_000, 500, 60_000);

/// The same for waits, scripts and scrolling.
const WAIT_MS: (u64, u64, u64) = (20_000, 500, 120_000);

/// How long after an act the page may begin to go elsewhere or to download (browser proxy §6).
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// Does acts on a page.
pub(crate) struct Performer<'a> {
    pub(crate) page: &'a Page,
    pub(crate) evaluate_enabled: bool,
}

impl Kind {
    /// Whether the page may go elsewhere because of it, so that it is watched for a moment.
    pub(crate) fn is_watched(&self) -> bool {
        match self {
            Self::Close | Self::Resize { .. } => false,
            Self::Wait(wait) => wait.function.is_some(),
            Self::Batch { acts, .. } => acts.iter().any(|act| act.kind.is_watched()),
            _ => true,
        }
    }
}

impl Performer<'_> {
    /// Does an act and, in a batch, watches what comes of it. The value is a script's.
    pub(crate) async fn perform(&self, act: &Act, depth: usize) -> Result<Option<Value>, Failure> {
        let done = Box::pin(self.once(act, depth)).await;
        let is_leaf = !matches!(act.kind, Kind::Batch { .. });
        if done.is_ok() && is_leaf && act.kind.is_watched() {
            // However soon the page goes elsewhere: the rest of the moment is for downloads.
            sleep(GRACE).await;
        }
        done
    }

    async fn once(&self, act: &Act, depth: usize) -> Result<Option<Value>, Failure> {
        let tab = &*self.page.tab;
        let session = tab.session();
        let limit = Limit::new(bounded(act.timeout_ms, INTERACTION_MS));
        let wait_limit = Limit::new(bounded(act.timeout_ms, WAIT_MS));
        match &act.kind {
            Kind::Click { target, click } => {
                if !click.delay.is_zero() {
                    self.hover(target, limit).await?;
                    sleep(click.delay).await;
                }
                let again = Limit::new(limit.timeout);
                click_on(tab, target, click, again).await?;
            }
            Kind::ClickCoords { x, y, click: how } => {
                let at = Point { x: *x, y: *y };
                click(session, at, how, how.delay).await?;
            }
            Kind::Type {
                target,
                text,
                is_submitted,
                is_slow,
            } => {
                if *is_slow {
                    type_into(tab, target, text, limit).await?;
                } else {
                    fill(tab, target, text, limit).await?;
                }
                if *is_submitted {
                    press_in(tab, target, "Enter", Limit::new(limit.timeout)).await?;
                }
            }
            Kind::InsertText { text } => insert(session, text).await.map_err(|_| {
                Failure::Other(
                    "Unable to paste text into the browser. Focus an editable field and try again."
                        .to_owned(),
                )
            })?,
            Kind::Press { key, delay } => press(session, key, *delay).await?,
            Kind::Hover { target } => self.hover(target, limit).await?,
            Kind::ScrollIntoView { target } => {
                let elements = Elements {
                    tab,
                    call: "scrollIntoViewIfNeeded",
                };
                let needs = [Need::Still];
                elements
                    .act(target, &needs, wait_limit, async |_| Ok(Ok(())))
                    .await?;
            }
            Kind::Drag { start, end } => self.drag(start, end, limit).await?,
            Kind::Select { target, values } => select(tab, target, values, limit).await?,
            Kind::Fill { fields } => {
                for field in fields {
                    fill_field(tab, field, Limit::new(limit.timeout)).await?;
                }
            }
            Kind::Resize { width, height } => {
                let params = json!({
                    "width": width,
                    "height": height,
                    "deviceScaleFactor": 0,
                    "mobile": false,
                });
                session
                    .call("Emulation.setDeviceMetricsOverride", params)
                    .await?;
            }
            Kind::Wait(conditions) => {
                if conditions.function.is_some() {
                    self.allow_scripts(&act.kind)?;
                }
                wait(tab, conditions, wait_limit.timeout).await?;
            }
            Kind::Evaluate {
                function,
                reference,
            } => {
                self.allow_scripts(&act.kind)?;
                let reference = reference.as_deref();
                return evaluate(tab, function, reference, wait_limit.timeout).await;
            }
            Kind::Close => {
                let closed = self.page.live.close(tab.target_id()).await;
                closed.map_err(|error| Failure::Other(error.to_string()))?;
            }
            Kind::Batch {
                acts,
                stops_on_error,
            } => {
                let outcome = batch(self, acts, *stops_on_error, depth + 1).await;
                if let Some(failure) = outcome.failure {
                    return Err(Failure::Other(failure));
                }
            }
        }
        Ok(None)
    }

    fn allow_scripts(&self, kind: &Kind) -> Result<(), Failure> {
        match kind.script_refusal() {
            Some(refusal) if !self.evaluate_enabled => Err(Failure::Other(refusal.to_owned())),
            _ => Ok(()),
        }
    }

    async fn hover(&self, target: &Target, limit: Limit) -> Result<(), Failure> {
        let elements = Elements {
            tab: &self.page.tab,
            call: "hover",
        };
        let hover = async |element: &Object| -> Result<Result<(), Obstacle>, Failure> {
            let at = middle(element).await?;
            if let Ok(at) = at {
                point(element.session(), at).await?;
            }
            Ok(at.map(|_| ()))
        };
        elements.act(target, HOVER, limit, hover).await
    }

    async fn drag(&self, start: &Target, end: &Target, limit: Limit) -> Result<(), Failure> {
        let tab = &*self.page.tab;
        let elements = Elements {
            tab,
            call: "dragTo",
        };
        let pick_up = async |element: &Object| -> Result<Result<(Point, bool), Obstacle>, Failure> {
            let is_draggable =
                "function () { return !!this.closest('[draggable=true], a[href], img'); }";
            let is_draggable = element.call(is_draggable, &[]).await? == Value::Bool(true);
            Ok(middle(element).await?.map(|at| (at, is_draggable)))
        };
        let drop_on = async |element: &Object| middle(element).await;
        // What scrolls one into view may scroll the other out of it: where it is now is asked last.
        elements.act(start, POINTER, limit, pick_up).await?;
        let to = elements.act(end, HOVER, limit, drop_on).await?;
        let (from, is_draggable) = elements.act(start, POINTER, limit, pick_up).await?;
        drag(tab.session(), from, to, is_draggable).await
    }
}

fn bounded(asked: Option<u64>, (default, least, most): (u64, u64, u64)) -> Duration {
    Duration::from_millis(asked.unwrap_or(default).clamp(least, most))
}
