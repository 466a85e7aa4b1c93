//! Putting other text where words stood in a command text.

use std::ops::Range;

/// `text` as one word that every POSIX shell reads back as exactly `text`.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for part in text.split_inclusive('\'') {
        match part.strip_suffix('\'') {
            Some(part) => {
                quoted.push_str(part);
                quoted.push_str(r"'\''");
            }
            None => quoted.push_str(part),
        }
    }
    quoted.push('\'');
    quoted
}

/// `source` with each span replaced by its text. `None` if spans overlap, are out of order, or do
/// not lie on characters of `source`.
#[must_use]
pub fn replace(source: &str, replacements: &[(Range<usize>, String)]) -> Option<String> {
    let mut text = String::with_capacity(source.len());
    let mut at = 0;
    for (span, replacement) in replacements {
        source.get(span.clone())?;
        text.push_str(source.get(at..span.start)?);
        text.push_str(replacement);
        at = span.end;
    }
    text.push_str(source.get(at..)?);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{quote, replace};

    #[test]
    fn a_quoted_word_reads_back_as_itself() {
        for (text, quoted) in [
            ("", "''"),
            ("/usr/bin/head", "'/usr/bin/head'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("'", r"''\'''"),
            ("$x\\", "'$x\\'"),
        ] {
            assert_eq!(quote(text), quoted, "{text:?}");
        }
    }

    #[test]
    fn words_are_replaced_where_they_stand() {
        let replaced = |spans: &[(std::ops::Range<usize>, &str)]| {
            let spans: Vec<_> = spans
                .iter()
                .map(|(span, text)| (span.clone(), (*text).to_owned()))
                .collect();
            replace("é a | head", &spans)
        };
        assert_eq!(
            replaced(&[(3..4, "bb"), (7..11, "'/bin/head'")]).as_deref(),
            Some("é bb | '/bin/head'")
        );
        assert_eq!(replaced(&[]).as_deref(), Some("é a | head"));
        assert_eq!(replaced(&[(7..11, "x"), (3..4, "y")]), None);
        assert_eq!(replaced(&[(3..5, "x"), (4..6, "y")]), None);
        assert_eq!(replaced(&[(1..2, "x")]), None);
        assert_eq!(replaced(&[(7..12, "x")]), None);
    }
}
