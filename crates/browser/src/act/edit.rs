//! Filling in: texts, checks and choices.

use std::time::Duration;

use serde_json::json;

use super::failure::{Failure, Obstacle};
use super::keyboard::{insert, press, type_slowly};
use super::mouse::click;
use super::request::{Click, Field, FieldKind, Target};
use super::target::{CHOOSE, EDIT, Elements, Limit, POINTER, middle};
use crate::element::Object;
use crate::tab::Tab;

const PREPARE: &str = include_str!("edit.js");
const SELECT: &str = include_str!("select.js");

/// Between two characters that are typed slowly (browser proxy §6).
const SLOW_PAUSE: Duration = Duration::from_millis(75);

/// What is done with an element: done, or what was in the way.
type Done<T> = Result<Result<T, Obstacle>, Failure>;

/// Puts a text in the place of what a field holds.
pub(crate) async fn fill(
    tab: &Tab,
    target: &Target,
    text: &str,
    limit: Limit,
) -> Result<(), Failure> {
    let elements = Elements { tab, call: "fill" };
    let fill = async |element: &Object| -> Done<()> {
        let prepared = element.call(PREPARE, &[json!(text)]).await?;
        Ok(match prepared.as_str() {
            Some("insert") => {
                insert(element.session(), text).await?;
                Ok(())
            }
            Some("clear") => {
                press(element.session(), "Delete", Duration::ZERO).await?;
                Ok(())
            }
            Some("not-numeric") => Err(Obstacle::NotNumeric),
            Some("wrong-input-type") => Err(Obstacle::WrongInputType),
            Some("malformed") => Err(Obstacle::Malformed),
            Some("not-editable") => Err(Obstacle::NotEditable),
            _ => Ok(()),
        })
    };
    elements.act(target, EDIT, limit, fill).await
}

/// Clicks into a field and types.
pub(crate) async fn type_into(
    tab: &Tab,
    target: &Target,
    text: &str,
    limit: Limit,
) -> Result<(), Failure> {
    click_on(tab, target, &Click::default(), limit).await?;
    let elements = Elements { tab, call: "type" };
    let type_text = async |element: &Object| -> Done<()> {
        focus(element).await?;
        type_slowly(element.session(), text, SLOW_PAUSE).await?;
        Ok(Ok(()))
    };
    elements.act(target, &[], limit, type_text).await
}

/// Presses a key in an element.
pub(crate) async fn press_in(
    tab: &Tab,
    target: &Target,
    key: &str,
    limit: Limit,
) -> Result<(), Failure> {
    let elements = Elements { tab, call: "press" };
    let press_key = async |element: &Object| -> Done<()> {
        focus(element).await?;
        press(element.session(), key, Duration::ZERO).await?;
        Ok(Ok(()))
    };
    elements.act(target, &[], limit, press_key).await
}

async fn focus(element: &Object) -> Result<(), Failure> {
    let focus = "function () { (this.control ?? this).focus(); }";
    element.call(focus, &[]).await?;
    Ok(())
}

/// Clicks on an element.
pub(crate) async fn click_on(
    tab: &Tab,
    target: &Target,
    how: &Click,
    limit: Limit,
) -> Result<(), Failure> {
    let call = if how.is_double { "dblclick" } else { "click" };
    let elements = Elements { tab, call };
    let press = async |element: &Object| -> Done<()> {
        Ok(match middle(element).await? {
            Ok(at) => {
                click(element.session(), at, how, Duration::ZERO).await?;
                Ok(())
            }
            Err(obstacle) => Err(obstacle),
        })
    };
    elements.act(target, POINTER, limit, press).await
}

/// Fills in one field of a form.
pub(crate) async fn fill_field(tab: &Tab, field: &Field, limit: Limit) -> Result<(), Failure> {
    let target = Target::Ref(field.reference.clone());
    match field.kind {
        FieldKind::Text => fill(tab, &target, &field.text, limit).await,
        FieldKind::Check(is_checked) => check(tab, &target, is_checked, limit).await,
    }
}

async fn check(tab: &Tab, target: &Target, is_checked: bool, limit: Limit) -> Result<(), Failure> {
    let elements = Elements {
        tab,
        call: "setChecked",
    };
    let set = async |element: &Object| -> Done<()> {
        if is_checked_now(element).await? == is_checked {
            return Ok(Ok(()));
        }
        let at = match middle(element).await? {
            Ok(at) => at,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        click(element.session(), at, &Click::default(), Duration::ZERO).await?;
        if is_checked_now(element).await? == is_checked {
            return Ok(Ok(()));
        }
        let message = "locator.setChecked: Clicking the checkbox did not change its state";
        Err(Failure::Other(message.to_owned()))
    };
    elements.act(target, POINTER, limit, set).await
}

async fn is_checked_now(element: &Object) -> Result<bool, Failure> {
    let state = "function () {
      const control = this.control ?? this;
      return control.checked ?? control.getAttribute('aria-checked') === 'true';
    }";
    Ok(element.call(state, &[]).await?.as_bool() == Some(true))
}

/// Chooses options.
pub(crate) async fn select(
    tab: &Tab,
    target: &Target,
    values: &[String],
    limit: Limit,
) -> Result<(), Failure> {
    let elements = Elements {
        tab,
        call: "selectOption",
    };
    // An option may still come, but that is told in other words than a missing element.
    let choose = async |element: &Object| -> Done<()> {
        let chosen = element.call(SELECT, &[json!(values)]).await?;
        Ok(match chosen.as_str() {
            Some("missing") => Err(Obstacle::NoOption),
            Some("none") => {
                let message = "locator.selectOption: Error: Element is not a <select> element";
                return Err(Failure::Other(message.to_owned()));
            }
            _ => Ok(()),
        })
    };
    let chosen = elements.act(target, CHOOSE, limit, choose).await;
    match chosen {
        Err(Failure::Element {
            obstacle: Obstacle::NoOption,
            ..
        }) => Err(Failure::Timeout(format!(
            "locator.selectOption: Timeout {}ms exceeded.\nCall log:\n\u{1b}[2m  - did not find some options\u{1b}[22m\n",
            limit.timeout.as_millis()
        ))),
        chosen => chosen,
    }
}
