//! The mouse: pointing, clicking and dragging with trusted events.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::failure::Failure;
use super::keyboard::{mask, press_modifiers, release_modifiers};
use super::request::{Button, Click};
use super::target::Point;
use crate::cdp::{CdpError, Session};

/// How long a drag may take to be noticed by the browser where the page says that it begins.
const DRAG_BEGINS_WITHIN: Duration = Duration::from_secs(1);

impl Button {
    const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Middle => "middle",
        }
    }

    /// `MouseEvent.buttons` while it is held.
    const fn mask(self) -> u32 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
            Self::Middle => 4,
        }
    }
}

/// Moves the pointer.
pub(crate) async fn point(session: &Session, at: Point) -> Result<(), CdpError> {
    mouse(session, "mouseMoved", at, None, 0, 0).await
}

/// Clicks at a point. `hold` is how long the button is held.
pub(crate) async fn click(
    session: &Session,
    at: Point,
    click: &Click,
    hold: Duration,
) -> Result<(), CdpError> {
    let modifiers = mask(&click.modifiers);
    press_modifiers(session, &click.modifiers).await?;
    let times = if click.is_double { 2 } else { 1 };
    let clicked = async {
        if hold.is_zero() {
            // One after the other without waiting in between: the browser keeps their order.
            let mut events = vec![mouse(session, "mouseMoved", at, None, 0, modifiers)];
            for count in 1..=times {
                let button = Some(click.button);
                events.push(mouse(session, "mousePressed", at, button, count, modifiers));
                events.push(mouse(
                    session,
                    "mouseReleased",
                    at,
                    button,
                    count,
                    modifiers,
                ));
            }
            try_join_all(events).await?;
            return Ok(());
        }
        mouse(session, "mouseMoved", at, None, 0, modifiers).await?;
        for count in 1..=times {
            let button = Some(click.button);
            mouse(session, "mousePressed", at, button, count, modifiers).await?;
            sleep(hold).await;
            mouse(session, "mouseReleased", at, button, count, modifiers).await?;
            if count < times {
                sleep(hold).await;
            }
        }
        Ok(())
    };
    let clicked = clicked.await;
    release_modifiers(session, &click.modifiers).await?;
    clicked
}

async fn mouse(
    session: &Session,
    kind: &str,
    at: Point,
    button: Option<Button>,
    count: u32,
    modifiers: u32,
) -> Result<(), CdpError> {
    let held = if kind == "mousePressed" {
        button.map_or(0, Button::mask)
    } else {
        0
    };
    let params = json!({
        "type": kind,
        "x": at.x,
        "y": at.y,
        "button": button.map_or("none", Button::name),
        "buttons": held,
        "clickCount": count,
        "modifiers": modifiers,
    });
    session.call("Input.dispatchMouseEvent", params).await?;
    Ok(())
}

/// Drags from one point to another. Where the page starts a drag of its own, the browser hands it
/// over and the drop is dispatched; otherwise only the mouse moves.
pub(crate) async fn drag(
    session: &Session,
    from: Point,
    to: Point,
    is_draggable: bool,
) -> Result<(), Failure> {
    let mut events = session.events();
    let intercept =
        |enabled: bool| session.call("Input.setInterceptDrags", json!({"enabled": enabled}));
    intercept(true).await?;
    let dragged = async {
        point(session, from).await?;
        mouse(session, "mousePressed", from, Some(Button::Left), 1, 0).await?;
        let between = Point {
            x: f64::midpoint(from.x, to.x),
            y: f64::midpoint(from.y, to.y),
        };
        held_move(session, between).await?;
        held_move(session, to).await?;
        let begins = async {
            loop {
                match events.recv().await {
                    Ok(event) if event.method == "Input.dragIntercepted" => {
                        return event.params.get("data").cloned();
                    }
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        let patience = if is_draggable {
            DRAG_BEGINS_WITHIN
        } else {
            Duration::ZERO
        };
        if let Some(data) = timeout(patience, begins).await.ok().flatten() {
            for kind in ["dragEnter", "dragOver", "drop"] {
                drag_event(session, kind, to, &data).await?;
            }
        }
        mouse(session, "mouseReleased", to, Some(Button::Left), 1, 0).await
    };
    let dragged = dragged.await;
    intercept(false).await?;
    Ok(dragged?)
}

async fn held_move(session: &Session, at: Point) -> Result<(), CdpError> {
    let params = json!({
        "type": "mouseMoved",
        "x": at.x,
        "y": at.y,
        "button": "left",
        "buttons": 1,
    });
    session.call("Input.dispatchMouseEvent", params).await?;
    Ok(())
}

async fn drag_event(
    session: &Session,
    kind: &str,
    at: Point,
    data: &Value,
) -> Result<(), CdpError> {
    let params = json!({"type": kind, "x": at.x, "y": at.y, "data": data});
    session.call("Input.dispatchDragEvent", params).await?;
    Ok(())
}
