//! The two settings by which git decides whom it talks to: an inherited value is narrowed rather
//! than dropped, because without them git allows more, not less (exec and approvals §6).

use std::ffi::OsString;

/// The protocols that `GIT_ALLOW_PROTOCOL` may leave allowed: none of them runs a helper.
const PROTOCOLS: &[&str] = &["git", "http", "https", "ssh"];

/// `GIT_ALLOW_PROTOCOL` with only the members of [`PROTOCOLS`]; a blank value, which allows
/// nothing, stays.
pub(super) fn allowed_protocols(value: OsString) -> OsString {
    let text = value.to_string_lossy();
    if text.trim().is_empty() {
        return value;
    }
    let kept: Vec<&str> = text
        .split(':')
        .filter(|name| PROTOCOLS.contains(name))
        .collect();
    kept.join(":").into()
}

/// `GIT_PROTOCOL_FROM_USER`, with everything that git takes for true replaced by `0`.
pub(super) fn protocol_from_user(value: OsString) -> OsString {
    if is_true(&value.to_string_lossy()) {
        "0".into()
    } else {
        value
    }
}

/// git's reading of a boolean: a word, or an integer (also with a unit, hexadecimal or octal) that
/// is not zero.
fn is_true(text: &str) -> bool {
    let text = text.trim().to_ascii_lowercase();
    if matches!(text.as_str(), "true" | "yes" | "on") {
        return true;
    }
    let number = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let number = number.strip_suffix(['k', 'm', 'g']).unwrap_or(number);
    let (digits, radix) = match number.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    digits.chars().all(|digit| digit.is_digit(radix)) && digits.chars().any(|digit| digit != '0')
}
