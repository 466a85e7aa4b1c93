//! The keyboard: keys, chords and text with trusted events.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::failure::Failure;
use super::keys::{Key, key};
use super::request::Modifier;
use crate::cdp::{CdpError, Session};

impl Modifier {
    /// The bit of `modifiers` in input events.
    const fn mask(self) -> u32 {
        match self {
            Self::Alt => 1,
            Self::Control => 2,
            Self::Meta => 4,
            Self::Shift => 8,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Alt => "Alt",
            Self::Control => "Control",
            Self::Meta => "Meta",
            Self::Shift => "Shift",
        }
    }

    fn of(key: Key) -> Option<Self> {
        [Self::Alt, Self::Control, Self::Meta, Self::Shift]
            .into_iter()
            .find(|modifier| modifier.name() == key.key)
    }
}

/// The `modifiers` of an input event.
pub(crate) fn mask(modifiers: &[Modifier]) -> u32 {
    modifiers
        .iter()
        .fold(0, |mask, modifier| mask | modifier.mask())
}

/// Holds modifiers down.
pub(crate) async fn press_modifiers(
    session: &Session,
    modifiers: &[Modifier],
) -> Result<(), CdpError> {
    let mut held = 0;
    for modifier in modifiers {
        held |= modifier.mask();
        if let Some(key) = key(modifier.name(), false) {
            down(session, key, held).await?;
        }
    }
    Ok(())
}

/// Lets modifiers go.
pub(crate) async fn release_modifiers(
    session: &Session,
    modifiers: &[Modifier],
) -> Result<(), CdpError> {
    let mut held = mask(modifiers);
    for modifier in modifiers.iter().rev() {
        held &= !modifier.mask();
        if let Some(key) = key(modifier.name(), false) {
            up(session, key, held).await?;
        }
    }
    Ok(())
}

/// Presses a key or a chord such as `Control+Shift+A`.
pub(crate) async fn press(session: &Session, chord: &str, hold: Duration) -> Result<(), Failure> {
    let mut held = 0;
    let mut pressed = Vec::new();
    for name in split(chord) {
        let found = key(&name, held & Modifier::Shift.mask() != 0);
        let Some(found) = found else {
            for key in pressed.into_iter().rev() {
                up(session, key, 0).await?;
            }
            let message = format!("keyboard.press: Unknown key: \"{name}\"");
            return Err(Failure::Other(message));
        };
        if let Some(modifier) = Modifier::of(found) {
            held |= modifier.mask();
        }
        down(session, found, held).await?;
        pressed.push(found);
    }
    if !hold.is_zero() {
        sleep(hold).await;
    }
    for key in pressed.into_iter().rev() {
        if let Some(modifier) = Modifier::of(key) {
            held &= !modifier.mask();
        }
        up(session, key, held).await?;
    }
    Ok(())
}

/// The keys of a chord; a plus after a plus, or alone, is the key itself.
fn split(chord: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut name = String::new();
    for next in chord.chars() {
        if next == '+' && !name.is_empty() {
            keys.push(std::mem::take(&mut name));
        } else {
            name.push(next);
        }
    }
    keys.push(name);
    keys
}

/// Types a text as a user does, with a pause after each character.
pub(crate) async fn type_slowly(
    session: &Session,
    text: &str,
    pause: Duration,
) -> Result<(), CdpError> {
    for character in text.chars() {
        match key(&character.to_string(), false) {
            Some(key) => {
                down(session, key, 0).await?;
                sleep(pause).await;
                up(session, key, 0).await?;
            }
            None => {
                insert(session, &character.to_string()).await?;
                sleep(pause).await;
            }
        }
    }
    Ok(())
}

/// Inserts a text into what has the focus, as pasting does.
pub(crate) async fn insert(session: &Session, text: &str) -> Result<(), CdpError> {
    session
        .call("Input.insertText", json!({"text": text}))
        .await?;
    Ok(())
}

async fn down(session: &Session, key: Key, held: u32) -> Result<(), CdpError> {
    let types = held & !Modifier::Shift.mask() == 0 && !key.text.is_empty();
    let params = json!({
        "type": if types { "keyDown" } else { "rawKeyDown" },
        "key": key.key,
        "code": key.code,
        "windowsVirtualKeyCode": key.key_code,
        "location": key.location,
        "modifiers": held,
        "text": if types { key.text } else { "" },
        "unmodifiedText": if types { key.text } else { "" },
        "isKeypad": key.location == 3,
    });
    session.call("Input.dispatchKeyEvent", params).await?;
    Ok(())
}

async fn up(session: &Session, key: Key, held: u32) -> Result<(), CdpError> {
    let params = json!({
        "type": "keyUp",
        "key": key.key,
        "code": key.code,
        "windowsVirtualKeyCode": key.key_code,
        "location": key.location,
        "modifiers": held,
    });
    session.call("Input.dispatchKeyEvent", params).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_plus_is_a_key_where_it_separates_nothing() {
        assert_eq!(split("Control+Shift+A"), ["Control", "Shift", "A"]);
        assert_eq!(split("+"), ["+"]);
        assert_eq!(split("Control++"), ["Control", "+"]);
        assert_eq!(split("a"), ["a"]);
    }
}
