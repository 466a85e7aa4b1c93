//! A rough reading of a shell's command line, for looking for inline code in what the analysis
//! does not understand: quotes and escapes are honoured, everything else only separates commands.

/// How much of a command line is read, in bytes. Longer ones are never analysable either
/// (exec and approvals §8.3).
const MAX_BYTES: usize = 131_072;

/// How many substitutions inside double quotes are read.
const MAX_SUBSTITUTIONS: usize = 64;

/// The words that may start a command line of their own, in order; no more than one over `limit`. A
/// word that stands for `positional` arguments (`$0`, `"$@"`, …) is replaced by them.
pub(super) fn commands(text: &str, positional: &[String], limit: usize) -> Vec<Vec<String>> {
    let mut reader = Reader {
        positional,
        commands: Vec::new(),
        command: Vec::new(),
        word: None,
        substitutions: Vec::new(),
        words_left: limit.saturating_add(1),
    };
    if text.len() <= MAX_BYTES {
        reader.read(text);
    }
    for _ in 0..MAX_SUBSTITUTIONS {
        let Some(text) = reader.substitutions.pop() else {
            break;
        };
        reader.read(&text);
    }
    reader.commands
}

/// Words of the grammar behind which a command starts.
const BEFORE_COMMANDS: [&str; 11] = [
    "!", "{", "if", "then", "elif", "else", "while", "until", "do", "eval", "time",
];

struct Reader<'a> {
    positional: &'a [String],
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    word: Option<Word>,
    /// Texts of substitutions inside double quotes that are still to be read.
    substitutions: Vec<String>,
    words_left: usize,
}

#[derive(Default)]
struct Word {
    text: String,
    /// Whether every `$` in it is one that the shell expands.
    expands: bool,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) {
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            match letter {
                '\'' => {
                    let word = self.word.get_or_insert_default();
                    word.text
                        .extend(rest.by_ref().take_while(|quoted| *quoted != '\''));
                }
                '"' => {
                    self.word.get_or_insert_default();
                    while let Some(quoted) = rest.next() {
                        match quoted {
                            '"' => break,
                            '`' => {
                                let inner = rest.by_ref().take_while(|inner| *inner != '`');
                                self.substitutions.push(inner.collect());
                            }
                            '$' if rest.next_if_eq(&'(').is_some() => {
                                self.substitutions.push(until_closed(&mut rest));
                            }
                            '\\' => {
                                if let Some(escaped) = rest.next() {
                                    self.word.get_or_insert_default().text.push(escaped);
                                }
                            }
                            quoted => {
                                let word = self.word.get_or_insert_default();
                                word.expands |= quoted == '$';
                                word.text.push(quoted);
                            }
                        }
                    }
                }
                '\\' => match rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.word.get_or_insert_default().text.push(escaped),
                },
                ';' | '&' | '|' | '(' | ')' | '`' | '\n' => self.end_command(),
                '<' | '>' => self.end_word(),
                _ if letter.is_whitespace() => self.end_word(),
                '#' if self.word.is_none() => {
                    while rest.next_if(|comment| *comment != '\n').is_some() {}
                }
                _ => {
                    let word = self.word.get_or_insert_default();
                    word.expands |= letter == '$';
                    word.text.push(letter);
                }
            }
        }
        self.end_command();
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        let replaced = word.expands.then(|| self.arguments(&word.text)).flatten();
        let words = replaced.unwrap_or_else(|| vec![word.text]);
        for word in words {
            let starts_command = self.command.is_empty();
            if starts_command && (BEFORE_COMMANDS.contains(&word.as_str()) || assigns(&word)) {
                continue;
            }
            if self.words_left > 0 {
                self.words_left -= 1;
                self.command.push(word);
            }
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }

    /// What a word that is nothing but a positional parameter stands for.
    fn arguments(&self, word: &str) -> Option<Vec<String>> {
        let name = word.strip_prefix('$')?;
        let name = name
            .strip_prefix('{')
            .and_then(|name| name.strip_suffix('}'))
            .unwrap_or(name);
        if matches!(name, "@" | "*") {
            return Some(self.positional.get(1..).unwrap_or_default().to_vec());
        }
        let index: usize = name.parse().ok()?;
        Some(self.positional.get(index).cloned().into_iter().collect())
    }
}

/// The text up to the parenthesis that closes one.
fn until_closed(rest: &mut impl Iterator<Item = char>) -> String {
    let mut open = 1_usize;
    rest.take_while(|letter| {
        match letter {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        open > 0
    })
    .collect()
}

/// `NAME=value` before a command.
fn assigns(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}
