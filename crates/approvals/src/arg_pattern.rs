//! The `argPattern` of an allowlist entry: a JavaScript regular expression, run by an engine
//! that is linear in the text (exec and approvals §8.1, weakness 11).
//!
//! The two languages spell some things alike and mean others (`\d` is ASCII in one and Unicode in
//! the other, `\z`, `[a&&b]`, `[]`). The pattern is therefore translated construct by construct;
//! what has no counterpart of the same meaning makes the pattern invalid, and an invalid pattern
//! matches nothing.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

use crate::command::trim;

/// The longest pattern that is compiled, in bytes. Everyday patterns have less than a hundred.
const MAX_PATTERN_BYTES: usize = 8 * 1024;

/// The memory that one compiled pattern may take, in bytes: what bounds `(a{999}){999}`.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

/// The longest text that is searched, in bytes, so that the worst pattern on the worst arguments
/// takes seconds, not minutes. Linux accepts no single argument above this.
const MAX_TEXT_BYTES: usize = 128 * 1024;

/// How deep groups may nest.
const MAX_DEPTH: u32 = 64;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Z_a-z";
const SPACE: &str =
    r"\t-\r \x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}\x{FEFF}";
const LINE_END: &str = r"\n\r\x{2028}\x{2029}";

/// A pattern that is compiled when it is first needed, and then kept: most are never needed,
/// because their entry names another executable.
#[derive(Debug)]
pub(crate) struct ArgPattern {
    source: String,
    compiled: OnceLock<Option<Regex>>,
}

impl ArgPattern {
    /// A pattern, valid or not.
    pub(crate) fn new(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            compiled: OnceLock::new(),
        }
    }

    /// Whether the pattern matches somewhere in the text. An invalid pattern never does.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let compiled = || self.compiled.get_or_init(|| compile(&self.source)).as_ref();
        text.len() <= MAX_TEXT_BYTES && compiled().is_some_and(|regex| regex.is_match(text))
    }

    /// Whether it says nothing at all.
    pub(crate) fn is_blank(&self) -> bool {
        trim(&self.source).is_empty()
    }

    /// Whether it is matched against arguments that each end in NUL, not against arguments that
    /// are joined by spaces.
    pub(crate) fn separates_by_nul(&self) -> bool {
        self.source.contains('\0')
    }
}

/// Whether a pattern uses what only an engine that backtracks can match: looking around, or the
/// text of an earlier group. Such a pattern is refused when an operator sets it, and never matches.
pub(crate) fn needs_backtracking(pattern: &str) -> bool {
    let mut source = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(char) = source.next() {
        match char {
            '\\' => match source.next() {
                Some('1'..='9' | 'k') if !in_class => return true,
                Some(_) | None => {}
            },
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && source.next_if_eq(&'?').is_some() => {
                // A `<` alone begins the name of a group.
                source.next_if_eq(&'<');
                if matches!(source.peek(), Some('=' | '!')) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return None;
    }
    RegexBuilder::new(&translate(pattern)?)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_DEPTH)
        .build()
        .ok()
}

fn translate(pattern: &str) -> Option<String> {
    let mut source = pattern.chars().peekable();
    let mut target = String::with_capacity(pattern.len() * 2);
    // JavaScript repeats neither an assertion nor a repetition; the other engine does both.
    let mut repeatable = false;
    while let Some(char) = source.next() {
        let repetition = match char {
            '*' | '+' | '?' => Some(char.to_string()),
            '{' => counted_repetition(&source),
            _ => None,
        };
        if let Some(repetition) = repetition {
            if !std::mem::replace(&mut repeatable, false) {
                return None;
            }
            for _ in 1..repetition.len() {
                source.next();
            }
            target.push_str(&repetition);
            if source.next_if_eq(&'?').is_some() {
                target.push('?');
            }
            continue;
        }
        repeatable = true;
        match char {
            '\\' => match escape(&mut source)? {
                Escape::Char(char) => push_literal(&mut target, char),
                Escape::Class { members, negated } => push_class(&mut target, members, negated),
                Escape::WordBoundary => {
                    target.push_str(r"(?-u:\b)");
                    repeatable = false;
                }
            },
            '[' => class(&mut source, &mut target)?,
            '(' => {
                target.push('(');
                if source.next_if_eq(&'?').is_some() {
                    group_kind(&mut source, &mut target)?;
                }
                repeatable = false;
            }
            '.' => push_class(&mut target, LINE_END, true),
            '|' | '^' | '$' => {
                target.push(char);
                repeatable = false;
            }
            ')' => target.push(char),
            literal => push_literal(&mut target, literal),
        }
    }
    Some(target)
}

/// What stands between `(?` and the contents: `:` or a name. Everything else either looks around
/// or sets flags.
fn group_kind(source: &mut Peekable<Chars<'_>>, target: &mut String) -> Option<()> {
    match source.next()? {
        ':' => target.push_str("?:"),
        '<' if source.peek().is_some_and(|char| char.is_ascii_alphabetic()) => {
            target.push_str("?<");
        }
        _ => return None,
    }
    Some(())
}

/// `{n}`, `{n,}` or `{n,m}`, with its braces, if that is what follows. Other braces are literal.
fn counted_repetition(source: &Peekable<Chars<'_>>) -> Option<String> {
    let mut repetition = String::from("{");
    let mut commas = 0;
    for char in source.clone() {
        repetition.push(char);
        match char {
            '0'..='9' => {}
            ',' if commas == 0 && repetition.len() > 2 => commas += 1,
            '}' if repetition.len() > 2 => return Some(repetition),
            _ => return None,
        }
    }
    None
}

enum Escape {
    Char(char),
    Class {
        members: &'static str,
        negated: bool,
    },
    WordBoundary,
}

/// The escape behind a backslash, outside a class.
fn escape(source: &mut Peekable<Chars<'_>>) -> Option<Escape> {
    if source.next_if_eq(&'b').is_some() {
        return Some(Escape::WordBoundary);
    }
    escape_in_class(source)
}

/// The escape behind a backslash where `\b` is a backspace.
fn escape_in_class(source: &mut Peekable<Chars<'_>>) -> Option<Escape> {
    let class = |members, negated| Some(Escape::Class { members, negated });
    Some(Escape::Char(match source.next()? {
        'd' => return class(DIGIT, false),
        'D' => return class(DIGIT, true),
        'w' => return class(WORD, false),
        'W' => return class(WORD, true),
        's' => return class(SPACE, false),
        'S' => return class(SPACE, true),
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        '0' if !source.peek().is_some_and(char::is_ascii_digit) => '\0',
        'x' => hexadecimal(source, 2)?,
        'u' => hexadecimal(source, 4)?,
        // Backreferences, octal, control characters, named groups and properties, `\B`.
        '0'..='9' | 'B' | 'c' | 'k' | 'p' | 'P' => return None,
        other => other,
    }))
}

fn hexadecimal(source: &mut Peekable<Chars<'_>>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code * 16 + source.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

/// A class, behind its opening bracket.
fn class(source: &mut Peekable<Chars<'_>>, target: &mut String) -> Option<()> {
    target.push('[');
    if source.next_if_eq(&'^').is_some() {
        target.push('^');
    }
    // An empty class matches nothing in JavaScript, its negation everything.
    if source.peek() == Some(&']') {
        return None;
    }
    loop {
        let low = match source.next()? {
            ']' => break,
            char => class_member(char, source)?,
        };
        let mut ahead = source.clone();
        let is_range = ahead.next() == Some('-') && ahead.next() != Some(']');
        match low {
            Escape::Char(low) if is_range => {
                source.next();
                let char = source.next()?;
                let Escape::Char(high) = class_member(char, source)? else {
                    return None;
                };
                push_code(target, low);
                target.push('-');
                push_code(target, high);
            }
            Escape::Char(char) => push_code(target, char),
            Escape::Class { .. } if is_range => return None,
            Escape::Class { members, negated } => push_class(target, members, negated),
            Escape::WordBoundary => return None,
        }
    }
    target.push(']');
    Some(())
}

fn class_member(char: char, source: &mut Peekable<Chars<'_>>) -> Option<Escape> {
    match char {
        '\\' => escape_in_class(source),
        literal => Some(Escape::Char(literal)),
    }
}

fn push_class(target: &mut String, members: &str, negated: bool) {
    target.push_str(if negated { "[^" } else { "[" });
    target.push_str(members);
    target.push(']');
}

fn push_literal(target: &mut String, char: char) {
    target.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
}

/// A character as its number, which means the same wherever it stands in a class.
fn push_code(target: &mut String, char: char) {
    target.push_str(&format!("\\x{{{:X}}}", u32::from(char)));
}

#[cfg(test)]
mod tests {
    use super::{ArgPattern, needs_backtracking};

    fn is_match(pattern: &str, text: &str) -> bool {
        ArgPattern::new(pattern).is_match(text)
    }

    #[test]
    fn what_needs_backtracking_is_told() {
        for pattern in [
            "(?=a)",
            "x(?!b)",
            "(?<=a)b",
            "(?<!b)",
            r"(a)\1",
            r"(?<x>a)\k<x>",
            r"[]](?=a)",
        ] {
            assert!(needs_backtracking(pattern), "{pattern}");
        }
        for pattern in [
            "^a$",
            "[",
            "(?:a)",
            "(?<name>a)",
            r"\\1",
            "[(?=]",
            r"[\1]",
            r"\(?=a",
            "(?i)a",
            "",
        ] {
            assert!(!needs_backtracking(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_means_what_it_means_in_javascript() {
        for (pattern, text, expected) in [
            ("^a$", "a", true),
            ("^a$", "a\n", false),
            ("b", "abc", true),
            ("^a b$", "a b", true),
            ("^a\0b\0$", "a\0b\0", true),
            (r"^\d+$", "123", true),
            (r"^\d+$", "٣", false),
            (r"^\w+$", "a_1", true),
            (r"^\w+$", "é", false),
            (r"\bfoo\b", "a foo b", true),
            (r"\bfoo\b", "éfoo", true),
            (r"^\s$", "\u{feff}", true),
            (r"^\s$", "\u{b}", true),
            (r"^\s$", "\u{85}", false),
            (r"^\S+$", "a b", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^[^\d]$", "1", false),
            (r"^[\D]$", "x", true),
            (r"^[a-c]$", "b", true),
            (r"^[a\-c]$", "b", false),
            (r"^[a-]$", "-", true),
            (r"^[-a]$", "-", true),
            ("^[a&&b]+$", "a&b", true),
            ("^[[:alpha:]]$", "a]", true),
            ("^[[:alpha:]]$", "z", false),
            (r"^[\b]$", "\u{8}", true),
            (r"^[\]]$", "]", true),
            (r"^\z$", "z", true),
            (r"^\A$", "A", true),
            (r"^\<a\>$", "<a>", true),
            (r"^\x41\u0042$", "AB", true),
            (r"^\/usr\/bin$", "/usr/bin", true),
            (r"^\-\-all$", "--all", true),
            ("^.$", "\n", false),
            ("^.$", "\u{2028}", false),
            ("^.$", "é", true),
            ("^a{2}$", "aa", true),
            ("^a{2,}$", "aaaa", true),
            ("^a{1,2}$", "aaa", false),
            ("^a{,2}$", "a{,2}", true),
            ("^a{,2}$", "aa", false),
            ("^{a}$", "{a}", true),
            ("^a{$", "a{", true),
            ("^a]$", "a]", true),
            ("^(?:a|b)+?$", "abab", true),
            ("^(?<name>a)$", "a", true),
            ("^# x$", "# x", true),
            ("^$", "", true),
        ] {
            assert_eq!(is_match(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    #[test]
    fn what_only_javascript_knows_matches_nothing() {
        for pattern in [
            "[", "(", ")", "*a", "a**", "a+*", "a???", "a{1}{1}", "^*a", r"\b+a", "a|*", "[z-a]",
            "[]", "[^]", "[]a]", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "(?i)a", "(?i:a)",
            "(?P<x>a)", r"(a)\1", r"\ca", r"\B", r"\p{L}", r"\k<x>", r"\x4", r"\u12", r"\ud800",
            r"\u{41}", r"[\d-z]", r"[a-\d]", "\\", "[\\",
        ] {
            for text in ["", "a", "aa", "b", "]", "a]", "x"] {
                assert!(!is_match(pattern, text), "{pattern:?} on {text:?}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_or_text_stays_linear_and_bounded() {
        // Each of these keeps a backtracking engine busy for longer than the universe is old.
        let text = "a".repeat(50_000) + "!";
        for pattern in [
            "^(a+)+$",
            "^(a|a)*$",
            "^(a|aa)+$",
            "(.*a){20}$",
            "^([a-z]+)*$",
        ] {
            assert!(!is_match(pattern, &text), "{pattern}");
        }
        assert!(!is_match("^(a{999}){999}$", &text));
        assert!(!is_match(&"(".repeat(8_000), &text));
        let nested = "(".repeat(4_000) + "a" + &")".repeat(4_000);
        assert!(!is_match(&nested, "a"));
        assert!(!is_match(&"a".repeat(9 * 1024), &"a".repeat(9 * 1024)));
    }
}
