//! JSON5 that an operator hands in.

use serde_json::Value;

use crate::nesting::{DEPTH_LIMIT, is_too_deep};

/// Why a text is not JSON5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Json5Error {
    /// It would take too much stack to read.
    #[error("it is nested deeper than {DEPTH_LIMIT} levels")]
    TooDeep,
    /// It is not well formed.
    #[error("not valid JSON5: {0}")]
    Syntax(String),
}

/// Reads a JSON5 text, of which JSON is a part.
///
/// # Errors
/// [`Json5Error`], which says where the text is wrong.
pub fn parse_json5(text: &str) -> Result<Value, Json5Error> {
    if is_too_deep(text) {
        return Err(Json5Error::TooDeep);
    }
    json5::from_str(text).map_err(|error| Json5Error::Syntax(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_json5_are_read_and_what_would_overflow_is_not() {
        let text = "{ /* all */ version: 1, agents: { '*': { allowlist: ['rg',], }, }, }";
        let read = json!({ "version": 1, "agents": { "*": { "allowlist": ["rg"] } } });
        assert_eq!(parse_json5(text), Ok(read.clone()));
        assert_eq!(parse_json5(&read.to_string()), Ok(read));
        assert!(matches!(parse_json5("{"), Err(Json5Error::Syntax(_))));
        assert_eq!(parse_json5(&"[".repeat(100_000)), Err(Json5Error::TooDeep));
    }
}
