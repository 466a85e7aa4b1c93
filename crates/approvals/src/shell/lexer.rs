//! Command text to words, operators and harmless redirections.

use std::ops::Range;

use super::{Dialect, Reason, Refusal};

/// The next thing in a command text.
#[derive(Debug)]
pub(super) enum Token {
    Word(RawWord),
    /// A redirection of D6.
    Redirection(Redirection),
    And,
    Or,
    Pipe,
    PipeBoth,
    Semicolon,
    Newline,
    End,
}

/// A harmless redirection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Redirection {
    /// Of one descriptor.
    One,
    /// `&>/dev/null`, which shells without it read as a background job and a further redirection.
    Both,
}

/// A word before it is known what place it has in a command.
#[derive(Debug)]
pub(super) struct RawWord {
    pub(super) span: Range<usize>,
    /// Its text after quote removal.
    pub(super) value: String,
    pub(super) glob: bool,
    pub(super) tilde: bool,
    pub(super) brace: bool,
    /// Where the first expansion in it stands.
    pub(super) expansion: Option<usize>,
}

/// Reads tokens off a command text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
}

const NULL_DEVICE: &[u8] = b"/dev/null";

impl<'a> Lexer<'a> {
    /// A lexer at the start of `source`.
    ///
    /// # Errors
    /// The first control character, wherever it stands.
    pub(super) fn new(source: &'a str, dialect: Dialect) -> Result<Self, Refusal> {
        let bytes = source.as_bytes();
        // C1 control characters are the two bytes C2 80 to C2 9F.
        let mut follows_c2 = false;
        for (position, &byte) in bytes.iter().enumerate() {
            let is_c0 = (byte < b' ' && byte != b'\t' && byte != b'\n') || byte == 0x7f;
            if is_c0 || (follows_c2 && byte < 0xa0) {
                return Err(refusal(Reason::ControlCharacter, position));
            }
            follows_c2 = byte == 0xc2;
        }
        Ok(Self {
            source,
            bytes,
            at: 0,
            dialect,
        })
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    fn peek_at(&self, offset: usize) -> Option<u8> {
        self.bytes.get(self.at + offset).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn text(&self, range: Range<usize>) -> &'a str {
        self.source.get(range).unwrap_or_default()
    }

    fn refuse<T>(&self, reason: Reason) -> Result<T, Refusal> {
        Err(refusal(reason, self.at))
    }

    fn take(&mut self, length: usize, token: Token) -> Result<Token, Refusal> {
        self.at += length;
        Ok(token)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes the next token.
    ///
    /// # Errors
    /// What is not understood.
    pub(super) fn next(&mut self) -> Result<Token, Refusal> {
        self.skip_blanks();
        if self.peek() == Some(b'#') {
            self.skip_comment()?;
        }
        match (self.peek(), self.peek_at(1)) {
            (None, _) => Ok(Token::End),
            (Some(b'\n'), _) => self.take(1, Token::Newline),
            (Some(b';'), Some(b';' | b'&' | b'|')) => self.refuse(Reason::CaseOperator),
            (Some(b';'), _) => self.take(1, Token::Semicolon),
            (Some(b'&'), Some(b'&')) => self.take(2, Token::And),
            (Some(b'&'), Some(b'>')) => {
                let start = self.at;
                self.at += 2;
                self.null_device(start)?;
                Ok(Token::Redirection(Redirection::Both))
            }
            (Some(b'&'), _) => self.refuse(Reason::Background),
            (Some(b'|'), Some(b'|')) => self.take(2, Token::Or),
            (Some(b'|'), Some(b'&')) if matches!(self.dialect, Dialect::Bash | Dialect::Zsh) => {
                self.take(2, Token::PipeBoth)
            }
            (Some(b'|'), Some(b'&')) => self.refuse(Reason::Unportable),
            (Some(b'|'), _) => self.take(1, Token::Pipe),
            (Some(b'(' | b')'), _) => self.refuse(Reason::Parenthesis),
            (Some(b'<' | b'>'), _) => self.redirection(""),
            (Some(_), _) => self.word(),
        }
    }

    /// A comment ends before the newline. What stands in it means nothing to any shell, but a
    /// backslash before that newline is not left to their agreement.
    fn skip_comment(&mut self) -> Result<(), Refusal> {
        let length = self.rest().iter().position(|&byte| byte == b'\n');
        self.at += length.unwrap_or(self.rest().len());
        if length.is_some()
            && self
                .bytes
                .get(..self.at)
                .is_some_and(|it| it.ends_with(b"\\"))
        {
            self.at -= 1;
            return self.refuse(Reason::LineContinuation);
        }
        Ok(())
    }

    /// A redirection whose operator is next, behind the descriptor number `descriptor`.
    fn redirection(&mut self, descriptor: &str) -> Result<Token, Refusal> {
        let start = self.at - descriptor.len();
        let operator = (self.peek(), self.peek_at(1));
        match operator {
            (Some(b'<'), Some(b'<')) => return self.refuse(Reason::HereDocument),
            (_, Some(b'(')) => return self.refuse(Reason::ProcessSubstitution),
            _ => {}
        }
        self.at += 1;
        match (descriptor, operator) {
            ("" | "2", (Some(b'>'), next)) if next != Some(b'&') => self.null_device(start)?,
            ("", (Some(b'<'), _)) => self.null_device(start)?,
            ("2", (Some(b'>'), _)) => self.other_descriptor(b"1", start)?,
            ("1", (Some(b'>'), Some(b'&'))) => self.other_descriptor(b"2", start)?,
            _ => return Err(refusal(Reason::Redirection, start)),
        }
        Ok(Token::Redirection(Redirection::One))
    }

    fn other_descriptor(&mut self, target: &[u8], start: usize) -> Result<(), Refusal> {
        self.at += 1;
        self.target(target, start)
    }

    fn null_device(&mut self, start: usize) -> Result<(), Refusal> {
        self.target(NULL_DEVICE, start)
    }

    /// The only accepted target of a redirection, written plainly, and nothing attached to it.
    fn target(&mut self, target: &[u8], start: usize) -> Result<(), Refusal> {
        self.skip_blanks();
        if !self.rest().starts_with(target) {
            return Err(refusal(Reason::Redirection, start));
        }
        self.at += target.len();
        match self.peek() {
            None | Some(b' ' | b'\t' | b'\n' | b';' | b'&' | b'|') => Ok(()),
            Some(_) => Err(refusal(Reason::Redirection, start)),
        }
    }

    /// A word, or the redirection that begins with it.
    fn word(&mut self) -> Result<Token, Refusal> {
        let start = self.at;
        let mut word = RawWord {
            span: start..start,
            value: String::new(),
            glob: false,
            tilde: false,
            brace: false,
            expansion: None,
        };
        // The part of the text that stands for itself and is not yet in the value.
        let mut plain = start;
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'(' | b')' | b'<' | b'>' => break,
                b'|' => {
                    self.require_clear_character()?;
                    break;
                }
                b'\\' => {
                    word.value.push_str(self.text(plain..self.at));
                    plain = self.escape()?;
                }
                b'\'' => {
                    word.value.push_str(self.text(plain..self.at));
                    let quoted = self.single_quoted()?;
                    word.value.push_str(quoted);
                    plain = self.at;
                }
                b'"' => {
                    word.value.push_str(self.text(plain..self.at));
                    self.double_quoted(&mut word)?;
                    plain = self.at;
                }
                b'`' => return self.refuse(Reason::CommandSubstitution),
                b'$' => self.dollar(false, &mut word)?,
                b'#' => {
                    self.require_clear_character()?;
                    self.at += 1;
                }
                b'*' | b'?' | b'[' => {
                    word.glob = true;
                    self.at += 1;
                }
                b'{' | b'}' => {
                    if self.dialect == Dialect::Zsh {
                        return self.refuse(Reason::Unportable);
                    }
                    word.brace = true;
                    self.at += 1;
                }
                b'~' => {
                    word.tilde = true;
                    self.at += 1;
                }
                b'=' if self.dialect == Dialect::Zsh && self.at == start => {
                    return self.refuse(Reason::Unportable);
                }
                b'^' | b'%' if self.dialect == Dialect::Fish => {
                    return self.refuse(Reason::Unportable);
                }
                _ => self.at += 1,
            }
        }
        let written = self.text(start..self.at);
        if matches!(self.peek(), Some(b'<' | b'>')) {
            if written.bytes().all(|byte| byte.is_ascii_digit()) {
                return self.redirection(written);
            }
            // `{name}` before a redirection names a descriptor to some shells.
            if word.brace {
                return self.refuse(Reason::Redirection);
            }
        }
        // Alone it is the name of a command, and a pattern to none.
        word.glob &= written != "[";
        if word.value.is_empty() && plain == start {
            word.value = written.to_owned();
        } else {
            word.value.push_str(self.text(plain..self.at));
        }
        word.span = start..self.at;
        Ok(Token::Word(word))
    }

    /// Some character sets read a byte above 127 together with the `\` or `|` that follows, or take
    /// it for a blank, after which `#` begins a comment. A shell that was given such a set, which
    /// an environment override can do, would see other words.
    fn require_clear_character(&self) -> Result<(), Refusal> {
        let before = self.at.checked_sub(1).and_then(|at| self.bytes.get(at));
        if before.is_some_and(|byte| !byte.is_ascii()) {
            return self.refuse(Reason::AmbiguousEncoding);
        }
        Ok(())
    }

    /// Skips a backslash, and tells where the character after it stands, which is skipped too.
    fn escape(&mut self) -> Result<usize, Refusal> {
        self.require_clear_character()?;
        if self.dialect == Dialect::Fish {
            return self.refuse(Reason::Unportable);
        }
        let escaped = self.text(self.at + 1..self.source.len()).chars().next();
        match escaped {
            None | Some('\n') => self.refuse(Reason::LineContinuation),
            Some(letter) => {
                let start = self.at + 1;
                self.at = start + letter.len_utf8();
                Ok(start)
            }
        }
    }

    fn single_quoted(&mut self) -> Result<&'a str, Refusal> {
        let start = self.at + 1;
        let inside = self.bytes.get(start..).unwrap_or_default();
        let Some(length) = inside.iter().position(|&byte| byte == b'\'') else {
            return self.refuse(Reason::UnbalancedQuote);
        };
        let quoted = self.text(start..start + length);
        // In fish a backslash may keep the quote open.
        if self.dialect == Dialect::Fish && quoted.contains('\\') {
            return self.refuse(Reason::Unportable);
        }
        self.at = start + length + 1;
        Ok(quoted)
    }

    fn double_quoted(&mut self, word: &mut RawWord) -> Result<(), Refusal> {
        let opening = self.at;
        self.at += 1;
        let mut plain = self.at;
        loop {
            match self.peek() {
                None => return Err(refusal(Reason::UnbalancedQuote, opening)),
                Some(b'"') => {
                    word.value.push_str(self.text(plain..self.at));
                    self.at += 1;
                    return Ok(());
                }
                Some(b'`') => return self.refuse(Reason::CommandSubstitution),
                Some(b'$') => self.dollar(true, word)?,
                Some(b'\\') => {
                    self.require_clear_character()?;
                    if self.dialect == Dialect::Fish {
                        return self.refuse(Reason::Unportable);
                    }
                    match self.peek_at(1) {
                        Some(b'\n') => return self.refuse(Reason::LineContinuation),
                        Some(b'$' | b'`' | b'"' | b'\\') => {
                            word.value.push_str(self.text(plain..self.at));
                            plain = self.at + 1;
                            self.at += 2;
                        }
                        // The backslash stands for itself; what follows is read as usual.
                        _ => self.at += 1,
                    }
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// Skips a `$` and what belongs to it, which stays in the word's value as it is written.
    fn dollar(&mut self, in_quotes: bool, word: &mut RawWord) -> Result<(), Refusal> {
        let start = self.at;
        let stands_for_itself = match self.peek_at(1) {
            None | Some(b' ' | b'\t' | b'\n' | b'|' | b';') => true,
            Some(b'&') => !in_quotes,
            Some(b'"' | b')' | b'/' | b',' | b'.') => in_quotes,
            Some(_) => false,
        };
        if stands_for_itself && self.dialect != Dialect::Fish {
            self.at += 1;
            return Ok(());
        }
        let length = match self.peek_at(1) {
            Some(b'\'' | b'"') => return self.refuse(Reason::DollarQuote),
            Some(b'(') if self.peek_at(2) == Some(b'(') => self.arithmetic_length(),
            Some(b'(') => return self.refuse(Reason::CommandSubstitution),
            Some(b'{') => self.braced_length(),
            Some(b'@' | b'*' | b'#' | b'?' | b'$' | b'!' | b'-' | b'0'..=b'9') => Some(2),
            Some(byte) if is_name_start(byte) => Some(1 + self.name_length(1)),
            _ => return self.refuse(Reason::Unportable),
        };
        let Some(length) = length else {
            return self.refuse(Reason::Expansion);
        };
        word.expansion = word.expansion.or(Some(start));
        self.at += length;
        Ok(())
    }

    /// How long the name is that starts so many bytes from here.
    fn name_length(&self, offset: usize) -> usize {
        let rest = self.rest().get(offset..).unwrap_or_default();
        let end = rest.iter().position(|&byte| !is_name(byte));
        end.unwrap_or(rest.len())
    }

    /// How long the `${…}` is that stands here, if it holds nothing that could be or contain a
    /// command, a quote or a further expansion.
    fn braced_length(&self) -> Option<usize> {
        let inside = self.rest().get(2..)?;
        let name = match inside.first()? {
            first if is_name_start(*first) => self.name_length(2),
            b'0'..=b'9' | b'@' | b'*' => 1,
            _ => return None,
        };
        let rest = inside.get(name..)?;
        let operator = [
            ":-", ":=", ":+", ":?", "##", "%%", "-", "=", "+", "?", "#", "%", "",
        ]
        .iter()
        .find(|operator| rest.starts_with(operator.as_bytes()))?
        .len();
        let operand = rest.get(operator..)?;
        let length = operand.iter().position(|&byte| !is_plain(byte))?;
        let is_closed = operand.get(length) == Some(&b'}');
        let is_meant = operator > 0 || length == 0;
        (is_closed && is_meant).then_some(2 + name + operator + length + 1)
    }

    /// How long the `$((…))` is that stands here, if it holds names, numbers and simple operators.
    fn arithmetic_length(&self) -> Option<usize> {
        let inside = self.rest().get(3..)?;
        let length = inside
            .iter()
            .position(|&byte| !(is_name(byte) || b" +-*/%".contains(&byte)))?;
        let is_blank = inside.iter().take(length).all(|byte| *byte == b' ');
        let is_closed = inside.get(length..)?.starts_with(b"))");
        (is_closed && !is_blank).then_some(3 + length + 2)
    }
}

pub(super) fn refusal(reason: Reason, position: usize) -> Refusal {
    Refusal { reason, position }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Whether a byte may stand in a variable's name.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:,".contains(&byte)
}

/// How long the name of the variable is that `written` assigns, if it is an assignment.
pub(super) fn assigned_name_length(written: &str) -> Option<usize> {
    let (name, _) = written.split_once('=')?;
    let first = name.bytes().next()?;
    (is_name_start(first) && name.bytes().all(is_name)).then_some(name.len())
}
