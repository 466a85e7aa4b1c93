//! Tokens to segments.

use super::lexer::{Lexer, RawWord, Redirection, Token, assigned_name_length, refusal};
use super::segment::{self, SimpleCommand};
use super::{Dialect, Joint, MAX_PAYLOAD_CHARS, MAX_PAYLOAD_DEPTH, Reason, Refusal, Script, Word};

/// Where a command text stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// How many command texts stand around it, itself included.
    depth: usize,
    /// Whether the working directory may have changed before it.
    directory_changed: bool,
}

impl Context {
    /// The text that a request hands to a shell.
    pub(super) const OUTERMOST: Self = Self {
        depth: 1,
        directory_changed: false,
    };

    /// Whether an earlier command may have changed the working directory.
    pub(super) fn directory_changed(self) -> bool {
        self.directory_changed
    }

    /// Whether standard input may be what another command writes, even at the start of the text.
    pub(super) fn may_be_fed(self) -> bool {
        self.depth > 1
    }

    /// A text inside this one, if it may be looked at.
    pub(super) fn nested(self) -> Option<Self> {
        let depth = self.depth + 1;
        (depth <= MAX_PAYLOAD_DEPTH).then_some(Self { depth, ..self })
    }
}

/// Reads a whole command text.
///
/// # Errors
/// What was not understood, and where.
pub(super) fn parse(
    source: &str,
    dialect: Dialect,
    mut context: Context,
) -> Result<Script, Refusal> {
    if source.len() > MAX_PAYLOAD_CHARS
        && let Some((position, _)) = source.char_indices().nth(MAX_PAYLOAD_CHARS)
    {
        return Err(refusal(Reason::TooLong, position));
    }
    // A shell takes a text that begins like this for an option.
    if source.trim_start().starts_with(['-', '+']) {
        return Err(refusal(Reason::UnusualExecutable, 0));
    }
    let mut lexer = Lexer::new(source, dialect)?;
    let mut segments = Vec::new();
    let mut joint = Joint::First;
    loop {
        let (command, end) = read_command(&mut lexer, source, dialect)?;
        let is_empty = command.is_empty();
        if !is_empty {
            let segment = segment::classify(command, joint, source, dialect, context)?;
            context.directory_changed |= segment::changes_directory(&segment);
            segments.push(segment);
        }
        let next = match end {
            Token::And => Some(Joint::And),
            Token::Or => Some(Joint::Or),
            Token::Pipe => Some(Joint::Pipe),
            Token::PipeBoth => Some(Joint::PipeBoth),
            _ => None,
        };
        let (needed, separator) = match joint {
            Joint::First | Joint::Then => (next.is_some(), matches!(end, Token::Semicolon)),
            Joint::And | Joint::Or | Joint::Pipe | Joint::PipeBoth => {
                // A line may end behind these operators.
                (!matches!(end, Token::Newline), false)
            }
        };
        if is_empty && (needed || separator) {
            return Err(refusal(Reason::MissingCommand, lexer.position()));
        }
        match (next, end) {
            (Some(next), _) => joint = next,
            (None, Token::End) => break,
            (None, _) if is_empty => {}
            (None, _) => joint = Joint::Then,
        }
    }
    if segments.is_empty() {
        return Err(refusal(Reason::MissingCommand, lexer.position()));
    }
    Ok(Script { segments })
}

/// Reads one simple command and the operator, or the end, behind it.
fn read_command(
    lexer: &mut Lexer<'_>,
    source: &str,
    dialect: Dialect,
) -> Result<(SimpleCommand, Token), Refusal> {
    let mut command = SimpleCommand::default();
    let mut redirected = false;
    let mut redirected_both = false;
    loop {
        match lexer.next()? {
            Token::Word(word) => {
                if redirected_both {
                    return Err(refusal(Reason::Unportable, word.span.start));
                }
                let written = source.get(word.span.clone()).unwrap_or_default();
                if command.words.is_empty() && assigned_name_length(written).is_some() {
                    command.expansion = command.expansion.or(word.expansion);
                    command.assignments.push(word.span);
                } else {
                    command.push(word, dialect)?;
                }
            }
            Token::Redirection(Redirection::One) => redirected = true,
            Token::Redirection(Redirection::Both) => {
                // Shells without it see a background job here, and then a further command.
                if command.words.is_empty() {
                    return Err(refusal(Reason::Unportable, lexer.position()));
                }
                redirected_both = true;
            }
            end => {
                if command.is_empty() && redirected {
                    return Err(refusal(Reason::MissingCommand, lexer.position()));
                }
                return Ok((command, end));
            }
        }
    }
}

impl SimpleCommand {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.assignments.is_empty()
    }

    fn push(&mut self, word: RawWord, dialect: Dialect) -> Result<(), Refusal> {
        self.expansion = self.expansion.or(word.expansion);
        let value = word.value;
        let word = Word {
            span: word.span,
            glob: word.glob,
            tilde: word.tilde,
            brace: word.brace,
            expansion: word.expansion.is_some(),
        };
        if self.words.is_empty() {
            segment::require_plain_executable(&value, &word, dialect)?;
        }
        self.argv.push(value);
        self.words.push(word);
        Ok(())
    }
}
