//! The gateway's skill executables (wire protocol §11: `skills.bins`).

use serde::Deserialize;
use serde_json::Value;

/// How many executables are taken from one answer; gateways have dozens of skills.
const MAX_BINS: usize = 1024;

/// The names in the answer to `skills.bins`. What is no text, or blank, is left out.
///
/// # Errors
/// When the answer has no list of names.
pub fn decode_bins(payload: &str) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Raw {
        bins: Vec<Value>,
    }
    let raw: Raw = serde_json::from_str(payload)?;
    let names = raw.bins.iter().filter_map(Value::as_str).map(str::trim);
    Ok(names
        .filter(|name| !name.is_empty())
        .take(MAX_BINS)
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::decode_bins;

    #[test]
    fn names_are_taken_and_nothing_else() {
        let names = decode_bins(r#"{"bins": ["gh", " jq ", "", 7, null], "more": 1}"#).unwrap();
        assert_eq!(names, ["gh", "jq"]);
        for payload in ["null", "{}", r#"{"bins": "gh"}"#, "["] {
            assert!(decode_bins(payload).is_err(), "{payload}");
        }
        let many = serde_json::json!({ "bins": vec!["x"; 5000] }).to_string();
        assert_eq!(decode_bins(&many).unwrap().len(), 1024);
    }
}
