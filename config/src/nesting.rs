//! How deep a JSON5 text is nested: its parser recurses, and a crash is no way to refuse a file.

/// The deepest nesting that is parsed; serde_json has the same limit.
pub(crate) const DEPTH_LIMIT: usize = 128;

/// What the text is in the middle of.
#[derive(Clone, Copy)]
enum Inside {
    Structure,
    String { quote: char },
    LineComment,
    BlockComment,
}

/// Whether objects and arrays stand in each other deeper than [`DEPTH_LIMIT`]. Brackets in strings
/// and comments do not count. Text that is not JSON5 may get either answer.
pub(crate) fn is_too_deep(text: &str) -> bool {
    let mut inside = Inside::Structure;
    let mut depth = 0_usize;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        inside = match (inside, character) {
            (Inside::Structure, '[' | '{') => {
                depth += 1;
                if depth > DEPTH_LIMIT {
                    return true;
                }
                inside
            }
            (Inside::Structure, ']' | '}') => {
                depth = depth.saturating_sub(1);
                inside
            }
            (Inside::Structure, '"' | '\'') => Inside::String { quote: character },
            (Inside::Structure, '/') if next == Some('/') => Inside::LineComment,
            (Inside::Structure, '/') if next == Some('*') => {
                // The star that opens a comment cannot also close it.
                characters.next();
                Inside::BlockComment
            }
            (Inside::String { .. }, '\\') => {
                characters.next();
                inside
            }
            (Inside::String { quote }, _) if character == quote => Inside::Structure,
            (Inside::LineComment, '\n' | '\r' | '\u{2028}' | '\u{2029}') => Inside::Structure,
            (Inside::BlockComment, '*') if next == Some('/') => {
                characters.next();
                Inside::Structure
            }
            _ => inside,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_that_nest_count() {
        let deep = "[".repeat(DEPTH_LIMIT + 1);
        let cases = [
            (String::new(), false),
            ("[".repeat(DEPTH_LIMIT), false),
            (deep.clone(), true),
            ("{a:[".repeat(DEPTH_LIMIT / 2) + "{", true),
            ("[]{}".repeat(1000), false),
            (format!("'{deep}'"), false),
            (format!("\"{deep}\""), false),
            (format!("'\"{deep}'"), false),
            (format!("'\\'{deep}'"), false),
            (format!("'\\\\'{deep}"), true),
            (format!("''{deep}"), true),
            (format!("// {deep}"), false),
            (format!("// '\n{deep}"), true),
            (format!("//\u{2028}{deep}"), true),
            (format!("/* {deep} */"), false),
            (format!("/* ' */{deep}"), true),
            (format!("/**/{deep}"), true),
            (format!("/*/{deep}*/"), false),
            (format!("/ {deep}"), true),
        ];
        for (text, expected) in cases {
            assert_eq!(
                is_too_deep(&text),
                expected,
                "{}",
                &text[..text.len().min(20)]
            );
        }
    }
}
