//! What a glob is, by its definition: slow, and too plain to be wrong.

/// What a glob is: `**` any text, `*` any text without `/`, `?` one character that is no `/`.
pub(crate) fn matches(glob: &[char], text: &[char]) -> bool {
    match glob {
        [] => text.is_empty(),
        ['*', '*', rest @ ..] => (0..=text.len()).any(|taken| matches(rest, &text[taken..])),
        ['*', rest @ ..] => {
            let segment = text
                .iter()
                .position(|char| *char == '/')
                .unwrap_or(text.len());
            (0..=segment).any(|taken| matches(rest, &text[taken..]))
        }
        ['?', rest @ ..] => {
            text.first().is_some_and(|char| *char != '/') && matches(rest, &text[1..])
        }
        [literal, rest @ ..] => text.first() == Some(literal) && matches(rest, &text[1..]),
    }
}
