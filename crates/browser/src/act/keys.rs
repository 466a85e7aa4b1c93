//! The keys of a US keyboard, by the names that `KeyboardEvent.key` and `.code` give them.

/// A key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// `KeyboardEvent.key`.
    pub(crate) key: &'static str,
    /// `KeyboardEvent.code`.
    pub(crate) code: &'static str,
    /// `KeyboardEvent.keyCode`.
    pub(crate) key_code: u32,
    /// `KeyboardEvent.location`: 1 left, 2 right, 3 keypad.
    pub(crate) location: u32,
    /// What it types, empty where nothing.
    pub(crate) text: &'static str,
}

/// A key that types a character, and another with Shift.
struct Typing {
    code: &'static str,
    key_code: u32,
    plain: &'static str,
    shifted: &'static str,
}

const fn typing(
    code: &'static str,
    key_code: u32,
    plain: &'static str,
    shifted: &'static str,
) -> Typing {
    Typing {
        code,
        key_code,
        plain,
        shifted,
    }
}

const fn named(key: &'static str, code: &'static str, key_code: u32, location: u32) -> Key {
    Key {
        key,
        code,
        key_code,
        location,
        text: "",
    }
}

const TYPING: [Typing; 47] = [
    typing("KeyA", 65, "a", "A"),
    typing("KeyB", 66, "b", "B"),
    typing("KeyC", 67, "c", "C"),
    typing("KeyD", 68, "d", "D"),
    typing("KeyE", 69, "e", "E"),
    typing("KeyF", 70, "f", "F"),
    typing("KeyG", 71, "g", "G"),
    typing("KeyH", 72, "h", "H"),
    typing("KeyI", 73, "i", "I"),
    typing("KeyJ", 74, "j", "J"),
    typing("KeyK", 75, "k", "K"),
    typing("KeyL", 76, "l", "L"),
    typing("KeyM", 77, "m", "M"),
    typing("KeyN", 78, "n", "N"),
    typing("KeyO", 79, "o", "O"),
    typing("KeyP", 80, "p", "P"),
    typing("KeyQ", 81, "q", "Q"),
    typing("KeyR", 82, "r", "R"),
    typing("KeyS", 83, "s", "S"),
    typing("KeyT", 84, "t", "T"),
    typing("KeyU", 85, "u", "U"),
    typing("KeyV", 86, "v", "V"),
    typing("KeyW", 87, "w", "W"),
    typing("KeyX", 88, "x", "X"),
    typing("KeyY", 89, "y", "Y"),
    typing("KeyZ", 90, "z", "Z"),
    typing("Digit0", 48, "0", ")"),
    typing("Digit1", 49, "1", "!"),
    typing("Digit2", 50, "2", "@"),
    typing("Digit3", 51, "3", "#"),
    typing("Digit4", 52, "4", "$"),
    typing("Digit5", 53, "5", "%"),
    typing("Digit6", 54, "6", "^"),
    typing("Digit7", 55, "7", "&"),
    typing("Digit8", 56, "8", "*"),
    typing("Digit9", 57, "9", "("),
    typing("Semicolon", 186, ";", ":"),
    typing("Equal", 187, "=", "+"),
    typing("Comma", 188, ",", "<"),
    typing("Minus", 189, "-", "_"),
    typing("Period", 190, ".", ">"),
    typing("Slash", 191, "/", "?"),
    typing("Backquote", 192, "`", "~"),
    typing("BracketLeft", 219, "[", "{"),
    typing("Backslash", 220, "\\", "|"),
    typing("BracketRight", 221, "]", "}"),
    typing("Quote", 222, "'", "\""),
];

const NAMED: [Key; 55] = [
    Key {
        text: "\r",
        ..named("Enter", "Enter", 13, 0)
    },
    Key {
        text: "\r",
        ..named("Enter", "NumpadEnter", 13, 3)
    },
    Key {
        text: " ",
        ..named(" ", "Space", 32, 0)
    },
    named("Escape", "Escape", 27, 0),
    named("Tab", "Tab", 9, 0),
    named("Backspace", "Backspace", 8, 0),
    named("Delete", "Delete", 46, 0),
    named("Insert", "Insert", 45, 0),
    named("ArrowLeft", "ArrowLeft", 37, 0),
    named("ArrowUp", "ArrowUp", 38, 0),
    named("ArrowRight", "ArrowRight", 39, 0),
    named("ArrowDown", "ArrowDown", 40, 0),
    named("Home", "Home", 36, 0),
    named("End", "End", 35, 0),
    named("PageUp", "PageUp", 33, 0),
    named("PageDown", "PageDown", 34, 0),
    named("Shift", "ShiftLeft", 16, 1),
    named("Shift", "ShiftRight", 16, 2),
    named("Control", "ControlLeft", 17, 1),
    named("Control", "ControlRight", 17, 2),
    named("Alt", "AltLeft", 18, 1),
    named("Alt", "AltRight", 18, 2),
    named("Meta", "MetaLeft", 91, 1),
    named("Meta", "MetaRight", 92, 2),
    named("ContextMenu", "ContextMenu", 93, 0),
    named("CapsLock", "CapsLock", 20, 0),
    named("NumLock", "NumLock", 144, 0),
    named("ScrollLock", "ScrollLock", 145, 0),
    named("Pause", "Pause", 19, 0),
    named("PrintScreen", "PrintScreen", 44, 0),
    named("F1", "F1", 112, 0),
    named("F2", "F2", 113, 0),
    named("F3", "F3", 114, 0),
    named("F4", "F4", 115, 0),
    named("F5", "F5", 116, 0),
    named("F6", "F6", 117, 0),
    named("F7", "F7", 118, 0),
    named("F8", "F8", 119, 0),
    named("F9", "F9", 120, 0),
    named("F10", "F10", 121, 0),
    named("F11", "F11", 122, 0),
    named("F12", "F12", 123, 0),
    named("AltGraph", "AltGraph", 225, 0),
    named("Help", "Help", 6, 0),
    named("Cancel", "Abort", 3, 0),
    named("Clear", "NumpadClear", 12, 3),
    named("Accept", "Accept", 30, 0),
    named("ModeChange", "ModeChange", 31, 0),
    named("Select", "Select", 41, 0),
    named("AudioVolumeMute", "AudioVolumeMute", 173, 0),
    named("AudioVolumeDown", "AudioVolumeDown", 174, 0),
    named("AudioVolumeUp", "AudioVolumeUp", 175, 0),
    named("MediaTrackNext", "MediaTrackNext", 176, 0),
    named("MediaTrackPrevious", "MediaTrackPrevious", 177, 0),
    named("MediaPlayPause", "MediaPlayPause", 179, 0),
];

/// The key of a name: a `key`, a `code`, or the character that it types. With Shift held, a key that
/// types types its other character.
pub(crate) fn key(name: &str, is_shifted: bool) -> Option<Key> {
    let typing = TYPING
        .iter()
        .find(|key| [key.code, key.plain, key.shifted].contains(&name));
    if let Some(key) = typing {
        let text = if name == key.shifted || is_shifted {
            key.shifted
        } else {
            key.plain
        };
        return Some(Key {
            key: text,
            code: key.code,
            key_code: key.key_code,
            location: 0,
            text,
        });
    }
    if matches!(name, "\n" | "\r") {
        return key("Enter", is_shifted);
    }
    let name = if name == "ControlOrMeta" {
        "Control"
    } else {
        name
    };
    let by_code = || NAMED.iter().find(|key| key.code == name);
    NAMED
        .iter()
        .find(|key| key.key == name)
        .or_else(by_code)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn finds_keys_by_every_name() {
        for name in ["a", "KeyA"] {
            assert_eq!(key(name, false).unwrap().text, "a");
            assert_eq!(key(name, true).unwrap().key, "A");
        }
        assert_eq!(key("?", false).unwrap().code, "Slash");
        assert_eq!(key("Space", false).unwrap().key, " ");
        assert_eq!(key("ShiftRight", false).unwrap().location, 2);
        assert_eq!(key("Foo", false), None);
    }
}
