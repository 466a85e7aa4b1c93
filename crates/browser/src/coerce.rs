//! How the routes read loosely typed members of a query or body, as upstream's do.

use serde_json::Value;

/// A text: trimmed; numbers and booleans count as their text; empty is none.
pub(crate) fn text(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A boolean, or a word or number for one.
pub(crate) fn truth(value: Option<&Value>) -> Option<bool> {
    if let Some(Value::Bool(truth)) = value {
        return Some(*truth);
    }
    match text(value)?.to_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// A finite number, or its decimal text.
pub(crate) fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    // Rust also reads `inf` and `nan`.
    .filter(|number: &f64| number.is_finite())
}

/// An integer that JavaScript holds exactly, or its decimal text.
pub(crate) fn integer(value: Option<&Value>) -> Option<i64> {
    /// `Number.MAX_SAFE_INTEGER`.
    const MOST: f64 = 9_007_199_254_740_991.0;
    if let Some(Value::String(text)) = value
        && text.contains(['.', 'e', 'E'])
    {
        return None;
    }
    let number = number(value)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole and within 2^53, so it is exact"
    )]
    (number.fract() == 0.0 && number.abs() <= MOST).then_some(number as i64)
}

/// An integer of 0 or more.
pub(crate) fn non_negative_integer(value: Option<&Value>) -> Option<u64> {
    integer(value).and_then(|integer| u64::try_from(integer).ok())
}

/// An integer of 1 or more.
pub(crate) fn positive_integer(value: Option<&Value>) -> Option<u64> {
    non_negative_integer(value).filter(|integer| *integer > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{integer, number, text, truth};

    #[test]
    fn reads_numbers_only_where_they_are_whole_tokens() {
        assert_eq!(integer(Some(&json!("12"))), Some(12));
        assert_eq!(integer(Some(&json!(3.0))), Some(3));
        assert_eq!(integer(Some(&json!("1.0"))), None);
        assert_eq!(integer(Some(&json!("12px"))), None);
        assert_eq!(integer(Some(&json!(true))), None);
        assert_eq!(number(Some(&json!("1.5e1"))), Some(15.0));
        assert_eq!(number(Some(&json!("inf"))), None);
    }

    #[test]
    fn reads_words_for_booleans() {
        assert_eq!(truth(Some(&json!(" Yes "))), Some(true));
        assert_eq!(truth(Some(&json!(0))), Some(false));
        assert_eq!(truth(Some(&json!("maybe"))), None);
    }

    #[test]
    fn reads_scalars_as_texts() {
        assert_eq!(text(Some(&json!(" a "))).as_deref(), Some("a"));
        assert_eq!(text(Some(&json!(4))).as_deref(), Some("4"));
        assert_eq!(text(Some(&json!(["a"]))), None);
        assert_eq!(text(Some(&json!("  "))), None);
    }
}
