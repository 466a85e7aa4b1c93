//! Words for humans, on a terminal.

use approvals::command::command_text;
use approvals::policy::Source;

/// Text that cannot command a terminal: whatever is no printable character is escaped.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        let escaped = character.escape_debug();
        if escaped.len() == 1 || matches!(character, '"' | '\'' | '\\') {
            printable.push(character);
        } else {
            printable.extend(escaped);
        }
    }
    printable
}

/// A command as one line.
pub(super) fn command_line(argv: &[String]) -> String {
    printable(&command_text(argv))
}

/// Where a value of the policy came from.
pub(super) fn source(source: Source, agent: &str) -> String {
    match source {
        Source::DocumentAgent => format!("agents.{} of the document", printable(agent)),
        Source::DocumentWildcard => "agents.* of the document".to_owned(),
        Source::DocumentDefaults => "defaults of the document".to_owned(),
        Source::ConfigAgent => format!("tools.exec of agent {} in openclaw.json", printable(agent)),
        Source::Config => "tools.exec in openclaw.json".to_owned(),
        Source::AskFallback => "askFallback, as nobody can be asked".to_owned(),
        Source::BuiltIn => "default, as nothing gives a value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_that_is_shown_commands_a_terminal() {
        assert_eq!(
            printable("a\u{1b}[2Jb\n\"é\" \\"),
            "a\\u{1b}[2Jb\\n\"é\" \\"
        );
    }
}
