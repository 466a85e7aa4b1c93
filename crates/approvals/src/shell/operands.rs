//! Operands that make a harmless-looking command run other commands.

use super::{Dialect, Word};

/// The actions of `find` that run a command (exec and approvals §8.3).
const FIND_ACTIONS: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];

/// The comparisons of `test` that some shells evaluate as arithmetic, variables and command
/// substitutions inside array subscripts included.
const NUMERIC_COMPARISONS: [&str; 6] = ["-eq", "-ge", "-gt", "-le", "-lt", "-ne"];

/// Whether one of the words of a `find` is, or could become, an action that runs a command.
pub(super) fn may_run_commands(argv: &[String], words: &[Word]) -> bool {
    argv.iter().zip(words).skip(1).any(|(value, word)| {
        FIND_ACTIONS
            .iter()
            .any(|action| may_become(value, word, action))
    })
}

/// Whether a word is `target`, or a shell may expand it to `target`.
fn may_become(value: &str, word: &Word, target: &str) -> bool {
    if word.brace || word.expansion {
        return true;
    }
    if !word.glob {
        return value.eq_ignore_ascii_case(target);
    }
    let special = ['*', '?', '['];
    let before = value.split(special).next().unwrap_or_default();
    let after = value.rsplit(['*', '?', ']']).next().unwrap_or_default();
    let target_length = before.len() + after.len();
    target.starts_with(before) && target.ends_with(after) && target_length <= target.len()
}

/// Whether a builtin with these words evaluates some of them in a way that can run a command,
/// as `test -v 'a[$(id)]'` does.
pub(super) fn may_be_evaluated(argv: &[String], words: &[Word], dialect: Dialect) -> bool {
    let operands = argv.get(1..).unwrap_or_default();
    let words = words.get(1..).unwrap_or_default();
    match argv.first().map(String::as_str) {
        Some("test" | "[") => test_evaluates(operands, words),
        Some("printf") => printf_evaluates(operands, words, dialect),
        _ => false,
    }
}

fn test_evaluates(operands: &[String], words: &[Word]) -> bool {
    // A glob could become an operator.
    if words.iter().any(|word| word.glob || word.brace) {
        return true;
    }
    let is_number = |position: Option<usize>| {
        let operand = position.and_then(|position| operands.get(position));
        operand.is_none_or(|operand| is_integer(operand))
    };
    operands.iter().enumerate().any(|(position, operand)| {
        let before = position.checked_sub(1);
        let after = Some(position + 1);
        match operand.as_str() {
            "-v" | "-R" => true,
            "-t" => !is_number(after),
            operator if NUMERIC_COMPARISONS.contains(&operator) => {
                !is_number(before) || !is_number(after)
            }
            _ => false,
        }
    })
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `printf -v` sets a variable, and some shells evaluate what a numeric conversion is given.
fn printf_evaluates(operands: &[String], words: &[Word], dialect: Dialect) -> bool {
    let options = usize::from(operands.first().is_some_and(|word| word == "--"));
    let (Some(format), Some(word)) = (operands.get(options), words.get(options)) else {
        return false;
    };
    if !word.is_literal() || (options == 0 && format.starts_with('-')) {
        return true;
    }
    if dialect == Dialect::Bash {
        return false;
    }
    let numeric = numeric_conversions(format);
    let is_safe = |position: usize| match numeric.get(position % numeric.len().max(1)) {
        Some(true) => {
            let value = operands.get(options + 1 + position);
            let word = words.get(options + 1 + position);
            value.is_some_and(|value| is_number(value)) && word.is_some_and(Word::is_literal)
        }
        Some(false) | None => true,
    };
    // A word that a shell makes several of shifts those behind it.
    let values = operands.len() - options - 1;
    let shifts = words
        .iter()
        .skip(options + 1)
        .any(|word| !word.is_literal());
    (shifts && numeric.contains(&true)) || !(0..values).all(is_safe)
}

/// For each value that the format takes in turn, whether it is read as a number.
fn numeric_conversions(format: &str) -> Vec<bool> {
    let mut conversions = Vec::new();
    // An escaped `%`, and a width that is a value too, are not told apart.
    let is_obscure = format.contains('*') || format.contains("\\x") || format.contains("\\0");
    let mut rest = format;
    while let Some((_, conversion)) = rest.split_once('%') {
        let letter =
            conversion.trim_start_matches(|letter: char| "#0- +.123456789".contains(letter));
        if !letter.starts_with('%') {
            conversions.push(is_obscure || !letter.starts_with(['s', 'b', 'c']));
        }
        let mut letters = letter.chars();
        letters.next();
        rest = letters.as_str();
    }
    if is_obscure && conversions.is_empty() {
        conversions.push(true);
    }
    conversions
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = digits.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b".xX-+".contains(&byte))
}
