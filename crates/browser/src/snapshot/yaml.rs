//! The scalars of the default form, which is read as YAML.

use super::role_form::quoted;

/// A mapping key, in single quotes where YAML would read it as something else.
pub(crate) fn yaml_key(key: &str) -> String {
    if needs_quotes(key) {
        format!("'{}'", key.replace('\'', "''"))
    } else {
        key.to_owned()
    }
}

/// A value, in double quotes where YAML would read it as something else.
pub(crate) fn yaml_value(value: &str) -> String {
    if needs_quotes(value) {
        quoted(value)
    } else {
        value.to_owned()
    }
}

fn needs_quotes(scalar: &str) -> bool {
    const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null"];
    let Some(first) = scalar.chars().next() else {
        return true;
    };
    let is_number = scalar
        .strip_prefix(['+', '-'])
        .unwrap_or(scalar)
        .starts_with(|next: char| next.is_ascii_digit() || next == '.')
        && (scalar.parse::<f64>().is_ok() || scalar.starts_with("0x"));
    scalar.trim() != scalar
        || scalar.chars().any(char::is_control)
        || "-&*],?!>|@\"'#%[".contains(first)
        || scalar.contains(['{', '}', '`'])
        || scalar.ends_with(':')
        || scalar.contains(": ")
        || scalar.contains(" #")
        || is_number
        || RESERVED.contains(&scalar.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::{yaml_key, yaml_value};

    #[test]
    fn quotes_what_yaml_would_read_as_something_else() {
        for value in [
            "", " a", "3", "-1.5", "yes", "a: b", "a #b", "- x", "{x", "ends:",
        ] {
            assert!(yaml_value(value).starts_with('"'), "{value:?}");
        }
        for value in ["plain", "a:b", "3 things", "it's", "say \"x\""] {
            assert_eq!(yaml_value(value), value);
        }
    }

    #[test]
    fn doubles_single_quotes_in_keys() {
        assert_eq!(yaml_key("link \"it's: x\""), "'link \"it''s: x\"'");
        assert_eq!(yaml_key("link \"x\" [ref=e1]"), "link \"x\" [ref=e1]");
    }
}
