//! When something happened, as routes tell it.

use std::time::SystemTime;

/// The time as ISO 8601 with milliseconds.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
