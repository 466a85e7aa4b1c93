//! `${VAR}` in the strings of openclaw.json (config §4).

use crate::Environment;

/// A string with its variables put in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// The text; `${VAR}` of a variable that is unset or empty stays as it is.
    pub(crate) text: String,
    /// The variables that are unset or empty.
    pub(crate) missing: Vec<String>,
}

/// Puts variables in. `$${VAR}` stands for `${VAR}` itself; names in lower case are no variables.
pub(crate) fn expand(text: &str, environment: &Environment) -> Expanded {
    let mut expanded = Expanded {
        text: String::with_capacity(text.len()),
        missing: Vec::new(),
    };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, token) = rest.split_at(at);
        expanded.text.push_str(before);
        if let Some((name, after)) = token.strip_prefix('$').and_then(braced) {
            match value(environment, name) {
                Some(value) => expanded.text.push_str(value),
                None => {
                    expanded.missing.push(name.to_owned());
                    expanded.text.push_str(&format!("${{{name}}}"));
                }
            }
            rest = after;
        } else if let Some((name, after)) = token.strip_prefix("$$").and_then(braced) {
            expanded.text.push_str(&format!("${{{name}}}"));
            rest = after;
        } else {
            expanded.text.push('$');
            rest = token.get(1..).unwrap_or("");
        }
    }
    expanded.text.push_str(rest);
    expanded
}

/// The variables that a text names.
pub(crate) fn names(text: &str) -> Vec<String> {
    expand(text, &Environment::default()).missing
}

/// The value of a variable, if it is set to anything.
pub(crate) fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment
        .raw(name)?
        .to_str()
        .filter(|value| !value.is_empty())
}

/// The name between braces at the start of the text, and what follows them.
fn braced(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix('{')?.split_once('}')?;
    let mut bytes = name.bytes();
    let is_name = bytes
        .next()
        .is_some_and(|first| first.is_ascii_uppercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upper_case_names_in_braces_are_variables() {
        let environment = [
            ("A", "1"),
            ("_B2", "two"),
            ("EMPTY", ""),
            ("low", "x"),
            ("NEST", "${A}"),
        ]
        .into_iter()
        .collect();
        for (text, expected, missing) in [
            ("", "", &[][..]),
            ("plain", "plain", &[]),
            ("${A}", "1", &[]),
            ("a${A}b${_B2}c", "a1btwoc", &[]),
            ("${NONE}", "${NONE}", &["NONE"]),
            ("x${EMPTY}y${A}", "x${EMPTY}y1", &["EMPTY"]),
            ("$${A}", "${A}", &[]),
            ("$$${A}", "$${A}", &[]),
            ("${low}", "${low}", &[]),
            ("${2A}", "${2A}", &[]),
            ("$A ${A", "$A ${A", &[]),
            ("${}", "${}", &[]),
            ("$", "$", &[]),
            ("ü$${A}ü", "ü${A}ü", &[]),
            // What a variable holds is not looked at again.
            ("${NEST}", "${A}", &[]),
        ] {
            let expanded = expand(text, &environment);
            assert_eq!(expanded.text, expected, "{text}");
            assert_eq!(expanded.missing, missing, "{text}");
        }
    }
}
