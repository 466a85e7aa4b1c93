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
    let evaluates = dialect != Dialect::Bash && has_numeric_conversion(format);
    let values = operands.iter().zip(words).skip(options + 1);
    evaluates
        && values
            .into_iter()
            .any(|(value, word)| !word.is_literal() || !is_number(value))
}

fn has_numeric_conversion(format: &str) -> bool {
    let mut rest = format;
    while let Some((_, conversion)) = rest.split_once('%') {
        let letter =
            conversion.trim_start_matches(|letter: char| "#0- +.123456789".contains(letter));
        if !letter.starts_with(['s', 'b', 'c', '%']) {
            return true;
        }
        rest = letter.get(1..).unwrap_or_default();
    }
    false
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let first = digits.bytes().next();
    first.is_some_and(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b".xX-+".contains(&byte))
}
