//! Words in unit files: how systemd splits, unescapes and expands what stands behind `ExecStart=`
//! and `Environment=`, and how to write a word so that it arrives as it was meant.
//!
//! `systemd.service(5)`, "Command lines", and `systemd.unit(5)`, "Specifiers".

/// Why a word cannot stand in a unit file at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A line ends where it must not.
    #[error("it holds a line break or a NUL, which no service file can carry")]
    LineBreak,
    /// systemd accepts no program by such a name, however it is written.
    #[error(
        "systemd runs no program whose path holds a quotation mark, a backslash or a control character"
    )]
    ProgramName,
    /// White space at an end would be stripped.
    #[error("it begins or ends with white space or a backslash, which systemd would not keep")]
    End,
}

/// A unit file line that systemd would not understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A quotation mark has no partner.
    #[error("a quotation mark is not closed")]
    OpenQuote,
    /// A backslash is followed by nothing that systemd knows.
    #[error("a backslash sequence is not understood")]
    Escape,
}

/// Writes the program of `ExecStart=`. Its path undergoes no expansion of variables, so `$` stays.
///
/// # Errors
/// [`Unwritable`].
pub fn program(path: &str) -> Result<String, Unwritable> {
    let is_unsafe =
        |character: char| matches!(character, '"' | '\'' | '\\') || character.is_ascii_control();
    if path.contains(is_unsafe) {
        return Err(Unwritable::ProgramName);
    }
    quoted(path, |_| None)
}

/// Writes an argument of `ExecStart=`: also `$` is doubled, because systemd expands variables.
///
/// # Errors
/// [`Unwritable`].
pub fn argument(text: &str) -> Result<String, Unwritable> {
    quoted(text, |character| (character == '$').then_some("$$"))
}

/// Writes a `NAME=value` of `Environment=`, in which `$` has no meaning.
///
/// # Errors
/// [`Unwritable`].
pub fn assignment(name: &str, value: &str) -> Result<String, Unwritable> {
    quoted(&format!("{name}={value}"), |_| None)
}

/// Writes a path of a directive that takes the rest of its line as it is, but for specifiers.
///
/// # Errors
/// [`Unwritable`]; also for white space at an end, which systemd would strip.
pub fn bare_path(path: &str) -> Result<String, Unwritable> {
    if path.contains(['\n', '\r', '\0']) {
        return Err(Unwritable::LineBreak);
    }
    if path.trim() != path || path.ends_with('\\') {
        return Err(Unwritable::End);
    }
    Ok(path.replace('%', "%%"))
}

/// What needs no quotation marks anywhere.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_-./:,=+@%$".contains(character)
}

fn quoted(
    text: &str,
    doubled: impl Fn(char) -> Option<&'static str>,
) -> Result<String, Unwritable> {
    let mut written = String::with_capacity(text.len() + 2);
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\0' => return Err(Unwritable::LineBreak),
            '%' => written.push_str("%%"),
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\t' => written.push_str("\\t"),
            control if control.is_ascii_control() => {
                written.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => match doubled(other) {
                Some(twice) => written.push_str(twice),
                None => written.push(other),
            },
        }
    }
    if !text.is_empty() && text.chars().all(is_plain) {
        Ok(written)
    } else {
        Ok(format!("\"{written}\""))
    }
}

/// Splits a value into its words, unquoted and unescaped, specifiers not yet expanded.
///
/// # Errors
/// [`Unreadable`].
pub fn split(value: &str) -> Result<Vec<String>, Unreadable> {
    let mut words = Vec::new();
    let mut characters = value.chars().peekable();
    loop {
        while characters.next_if(|next| next.is_whitespace()).is_some() {}
        if characters.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut characters)?);
    }
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn word(characters: &mut Characters<'_>) -> Result<String, Unreadable> {
    let mut word = Vec::new();
    let mut quote = None;
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, mark @ ('"' | '\'')) => quote = Some(mark),
            (None, space) if space.is_whitespace() => break,
            (_, '\\') => unescape(characters, &mut word)?,
            (_, other) => push(&mut word, other),
        }
    }
    if quote.is_some() {
        return Err(Unreadable::OpenQuote);
    }
    // A word made of byte escapes need not be UTF-8; it is shown as far as it is.
    Ok(String::from_utf8_lossy(&word).into_owned())
}

fn push(word: &mut Vec<u8>, character: char) {
    word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

fn unescape(characters: &mut Characters<'_>, word: &mut Vec<u8>) -> Result<(), Unreadable> {
    let simple = match characters.next().ok_or(Unreadable::Escape)? {
        'a' => 7,
        'b' => 8,
        't' => 9,
        'n' => 10,
        'v' => 11,
        'f' => 12,
        'r' => 13,
        's' => b' ',
        mark @ ('"' | '\'' | '\\' | ';') => {
            push(word, mark);
            return Ok(());
        }
        'x' => number(characters, 2, 16)?
            .try_into()
            .map_err(|_| Unreadable::Escape)?,
        'u' => return code_point(characters, 4, word),
        'U' => return code_point(characters, 8, word),
        digit @ '0'..='7' => {
            let high = digit.to_digit(8).unwrap_or_default();
            let low = number(characters, 2, 8)?;
            (high * 64 + low)
                .try_into()
                .map_err(|_| Unreadable::Escape)?
        }
        _ => return Err(Unreadable::Escape),
    };
    word.push(simple);
    Ok(())
}

fn code_point(
    characters: &mut Characters<'_>,
    digits: usize,
    word: &mut Vec<u8>,
) -> Result<(), Unreadable> {
    let code = number(characters, digits, 16)?;
    push(word, char::from_u32(code).ok_or(Unreadable::Escape)?);
    Ok(())
}

fn number(characters: &mut Characters<'_>, digits: usize, radix: u32) -> Result<u32, Unreadable> {
    let mut number: u32 = 0;
    for _ in 0..digits {
        let digit = characters
            .next()
            .and_then(|character| character.to_digit(radix))
            .ok_or(Unreadable::Escape)?;
        number = number
            .checked_mul(radix)
            .and_then(|number| number.checked_add(digit))
            .ok_or(Unreadable::Escape)?;
    }
    Ok(number)
}

/// Reads back what [`argument`] wrote: `%%` and `$$` are single again. Specifiers and variables,
/// which other writers use, stay as they are.
#[must_use]
pub fn undoubled(word: &str) -> String {
    word.replace("%%", "%").replace("$$", "$")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_written_as_systemd_reads_them() {
        for (text, written) in [
            ("plain-word_1.2/x:y,z=a+b@c", "plain-word_1.2/x:y,z=a+b@c"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("My \"node\" 50%", "\"My \\\"node\\\" 50%%\""),
            ("back\\slash", "\"back\\\\slash\""),
            ("$HOME", "$$HOME"),
            ("${X} and $Y", "\"$${X} and $$Y\""),
            ("100%", "100%%"),
            ("'quoted'", "\"'quoted'\""),
            (";", "\";\""),
            ("#no comment", "\"#no comment\""),
            ("tab\there", "\"tab\\there\""),
            ("bell\u{7}", "\"bell\\x07\""),
            ("émile 🦀", "\"émile 🦀\""),
        ] {
            assert_eq!(argument(text).as_deref(), Ok(written), "{text:?}");
        }
        assert_eq!(program("/opt/a$b/x").as_deref(), Ok("/opt/a$b/x"));
        assert_eq!(assignment("NAME", "a $b").as_deref(), Ok("\"NAME=a $b\""));
    }

    #[test]
    fn line_breaks_are_refused() {
        for text in ["a\nb", "a\rb", "\n", "a\0b"] {
            assert_eq!(argument(text), Err(Unwritable::LineBreak), "{text:?}");
            assert_eq!(program(text), Err(Unwritable::ProgramName), "{text:?}");
            assert_eq!(
                assignment("A", text),
                Err(Unwritable::LineBreak),
                "{text:?}"
            );
            assert_eq!(bare_path(text), Err(Unwritable::LineBreak), "{text:?}");
        }
        for text in ["/a\"b", "/a'b", "/a\\b", "/a\tb"] {
            assert_eq!(program(text), Err(Unwritable::ProgramName), "{text:?}");
        }
        assert_eq!(bare_path("/a b/50%").as_deref(), Ok("/a b/50%%"));
        assert_eq!(bare_path("/a "), Err(Unwritable::End));
        assert_eq!(bare_path("/a\\"), Err(Unwritable::End));
    }

    #[test]
    fn other_writers_forms_are_split_too() {
        for (value, words) in [
            ("  a   b\t", vec!["a", "b"]),
            ("'a b' \"c 'd'\" e\\x20f", vec!["a b", "c 'd'", "e f"]),
            ("a\"b c\"d", vec!["ab cd"]),
            ("\\u00e9\\U0001f980 \\101\\s\\\\", vec!["é🦀", "A \\"]),
            ("", vec![]),
        ] {
            assert_eq!(split(value).unwrap(), words, "{value:?}");
        }
        assert_eq!(split("\"open"), Err(Unreadable::OpenQuote));
        for wrong in ["a\\", "\\q", "\\xg0", "\\400", "\\ud800"] {
            assert_eq!(split(wrong), Err(Unreadable::Escape), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_written_argument_is_read_back(text in "[^\\n\\r\\x00]*") {
            let line = format!("{} {}", argument(&text).unwrap(), argument("next").unwrap());
            let words: Vec<String> = split(&line).unwrap().iter().map(|word| undoubled(word)).collect();
            prop_assert_eq!(words, [text.as_str(), "next"]);
        }

        #[test]
        fn nothing_makes_splitting_panic(text in any::<String>()) {
            split(&text).ok();
        }
    }
}
