//! Whether an answer holds what a case expects of it. Members that are not named may be there.

use serde_json::Value;

/// Longest text of a value in a message, in characters.
const SHOWN: usize = 300;

/// How `actual` differs from `expected`; empty when it does not.
pub(crate) fn differences(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", expected, actual, &mut found);
    found
}

fn compare(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, expected) in expected {
                let path = format!("{path}.{name}");
                match actual.get(name) {
                    Some(actual) => compare(&path, expected, actual, found),
                    None => found.push(format!("{path}: {} is missing", shown(expected))),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{path}[{index}]"), expected, actual, found);
            }
        }
        (Value::String(pattern), Value::String(text)) if matches(pattern, text) => {}
        (Value::String(pattern), Value::Number(number))
            if pattern == "<ms>" && number.as_u64().is_some() => {}
        _ if expected == actual => {}
        _ => found.push(format!(
            "{path}: expected {}, got {}",
            shown(expected),
            shown(actual)
        )),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

/// Whether `text` is `pattern`, in which `<uuid>`, `<hex64>` and `<ms>` stand for any such value.
fn matches(pattern: &str, text: &str) -> bool {
    let wildcard = |name: &str, width: usize, fits: fn(char) -> bool| {
        let rest = pattern.strip_prefix(name)?;
        let width = if width == 0 {
            text.chars().take_while(|c| fits(*c)).count()
        } else {
            width
        };
        let value = text.get(..width).filter(|value| !value.is_empty())?;
        Some(value.chars().all(fits) && matches(rest, &text[width..]))
    };
    let next = wildcard("<uuid>", 36, |c| c.is_ascii_hexdigit() || c == '-')
        .or_else(|| wildcard("<hex64>", 64, |c| matches!(c, '0'..='9' | 'a'..='f')))
        .or_else(|| wildcard("<ms>", 0, |c| c.is_ascii_digit()));
    if let Some(matched) = next {
        return matched;
    }
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some(expected), Some(actual)) if expected == actual => {
            // Up to the next wildcard the two are simply equal.
            let width = pattern[1..]
                .find('<')
                .map_or(pattern.len(), |next| next + 1);
            pattern.get(..width) == text.get(..width) && matches(&pattern[width..], &text[width..])
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_value_and_nothing_else() {
        let uuid = "551abe99-c026-4d01-a3b6-fb31f621ed14";
        let hex = "a".repeat(64);
        assert!(matches("<uuid>", uuid));
        assert!(matches("sha256:<hex64>", &format!("sha256:{hex}")));
        assert!(matches("a<b", "a<b"));
        assert!(matches("", ""));
        assert!(!matches("<uuid>", "none"));
        assert!(!matches("<uuid>", &format!("{uuid}x")));
        assert!(!matches("<hex64>", &hex.to_uppercase()));
        assert!(!matches("abc", "ab"));
        assert!(!matches("ab", "abc"));
        assert!(!matches("é<uuid>", "e"));
        assert!(differences(&json!("<ms>"), &json!(12)).is_empty());
        assert!(!differences(&json!("<ms>"), &json!("x")).is_empty());
    }

    #[test]
    fn members_may_be_added_and_nothing_else() {
        let expected = json!({ "a": [1, { "b": null }] });
        assert!(
            differences(
                &expected,
                &json!({ "a": [1, { "b": null, "c": 2 }], "d": 3 })
            )
            .is_empty()
        );
        for other in [
            json!({ "a": [1] }),
            json!({ "a": [1, {}] }),
            json!({ "a": [2, { "b": null }] }),
            json!({ "a": [1, { "b": null }, 3] }),
            json!([]),
        ] {
            assert!(!differences(&expected, &other).is_empty(), "{other}");
        }
    }
}
