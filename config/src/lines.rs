//! Which line each value of a JSON5 text begins on: its parser keeps that for itself, and an
//! operator wants to know.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::CharIndices;

/// A value's line and those of everything in it.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: usize,
    members: BTreeMap<String, Lines>,
    items: Vec<Lines>,
}

impl Lines {
    /// Reads the lines of a text that is known to be JSON5 and not nested too deeply. Of text that
    /// is not, some lines may be missing.
    pub(crate) fn of(text: &str) -> Self {
        let mut scanner = Scanner {
            text,
            characters: text.char_indices().peekable(),
            line: 1,
        };
        scanner.value().unwrap_or_default()
    }

    /// The line that the value begins on, from 1; 0 when it is not known.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The lines of a member; of equal names those of the last one, which is the one that counts.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        self.members.get(name)
    }

    /// The lines of an item of an array.
    pub(crate) fn item(&self, index: usize) -> Option<&Self> {
        self.items.get(index)
    }
}

struct Scanner<'a> {
    text: &'a str,
    characters: Peekable<CharIndices<'a>>,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<(usize, char)> {
        let (at, character) = self.characters.next()?;
        let ends_line = match character {
            '\n' | '\u{2028}' | '\u{2029}' => true,
            '\r' => self.peek() != Some('\n'),
            _ => false,
        };
        if ends_line {
            self.line += 1;
        }
        Some((at, character))
    }

    fn peek(&mut self) -> Option<char> {
        self.characters.peek().map(|(_, character)| *character)
    }

    fn position(&mut self) -> usize {
        self.characters
            .peek()
            .map_or(self.text.len(), |(at, _)| *at)
    }

    /// Passes over white space and comments.
    fn skip(&mut self) {
        while let Some(character) = self.peek() {
            if character == '/' {
                self.next();
                match self.next() {
                    Some((_, '/')) => {
                        while self.peek().is_some_and(|next| {
                            !matches!(next, '\n' | '\r' | '\u{2028}' | '\u{2029}')
                        }) {
                            self.next();
                        }
                    }
                    _ => {
                        let mut before = ' ';
                        while let Some((_, inside)) = self.next() {
                            if before == '*' && inside == '/' {
                                break;
                            }
                            before = inside;
                        }
                    }
                }
            } else if character.is_whitespace() || character == '\u{feff}' {
                self.next();
            } else {
                return;
            }
        }
    }

    fn value(&mut self) -> Option<Lines> {
        self.skip();
        let mut lines = Lines {
            line: self.line,
            ..Lines::default()
        };
        match self.peek()? {
            '{' => {
                self.next();
                self.members(&mut lines)?;
            }
            '[' => {
                self.next();
                self.items(&mut lines)?;
            }
            '"' | '\'' => {
                self.string()?;
            }
            _ => {
                self.word();
            }
        }
        Some(lines)
    }

    fn members(&mut self, lines: &mut Lines) -> Option<()> {
        loop {
            self.skip();
            let name = match self.peek()? {
                '}' => {
                    self.next();
                    return Some(());
                }
                ',' => {
                    self.next();
                    continue;
                }
                '"' | '\'' => json5::from_str(self.string()?).ok()?,
                _ => self.word().to_owned(),
            };
            self.skip();
            (self.next()?.1 == ':').then_some(())?;
            let value = self.value()?;
            lines.members.insert(name, value);
        }
    }

    fn items(&mut self, lines: &mut Lines) -> Option<()> {
        loop {
            self.skip();
            match self.peek()? {
                ']' => {
                    self.next();
                    return Some(());
                }
                ',' => {
                    self.next();
                }
                _ => {
                    let value = self.value()?;
                    lines.items.push(value);
                }
            }
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let (start, quote) = self.next()?;
        loop {
            match self.next()?.1 {
                '\\' => {
                    self.next();
                }
                character if character == quote => break,
                _ => {}
            }
        }
        let end = self.position();
        self.text.get(start..end)
    }

    /// A number, a literal or a name without quotes.
    fn word(&mut self) -> &'a str {
        let start = self.position();
        // Whatever it is, at least one character goes, so that no text is looked at for ever.
        self.next();
        while self.peek().is_some_and(|next| {
            !next.is_whitespace()
                && !matches!(next, ',' | ':' | ']' | '}' | '[' | '{' | '/' | '"' | '\'')
        }) {
            self.next();
        }
        let end = self.position();
        self.text.get(start..end).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_line_that_it_begins_on() {
        let text = "// settings\n\
            {\n\
              exec: { maxConcurrent: 4, /* two\nlines */ 'maxQueued': 0x10 },\n\
              \"a\\u0062c\":\n\
                [1,\n\
                 { deep: '[{\\'' }, // }\n\
                 -Infinity,],\r\n\
              last: null,\n\
            }";
        let lines = Lines::of(text);
        let line = |path: &[&str]| {
            let mut found = &lines;
            for name in path {
                found = match name.parse() {
                    Ok(index) => found.item(index).unwrap(),
                    Err(_) => found.member(name).unwrap(),
                };
            }
            found.line()
        };
        for (path, expected) in [
            (&[][..], 2),
            (&["exec"], 3),
            (&["exec", "maxConcurrent"], 3),
            (&["exec", "maxQueued"], 4),
            (&["abc"], 6),
            (&["abc", "0"], 6),
            (&["abc", "1"], 7),
            (&["abc", "1", "deep"], 7),
            (&["abc", "2"], 8),
            (&["last"], 9),
        ] {
            assert_eq!(line(path), expected, "{path:?}");
        }
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        let lines = Lines::of("{a: 1,\na: 2}");
        assert_eq!(lines.member("a").map(Lines::line), Some(2));
    }

    #[test]
    fn text_that_is_not_json5_ends() {
        for text in [
            "", "{", "{a", "{a:", "[,", "'", "{'a", "/*", "/", "}", ":", "{a:}", "{:1}", "\\",
        ] {
            Lines::of(text);
        }
    }
}
