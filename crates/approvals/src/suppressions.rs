//! Commands that would change which findings of the gateway's security audit are suppressed: an
//! agent must not silence what watches over it without a human knowing (exec and approvals §5,
//! "extra gates").

use crate::analysis::{Analysis, Simple};
use crate::wrapper::{InnerArgv, TrustPlan, executable_name};

/// The configuration key.
const KEY: &str = "security.audit.suppressions";

/// The words of the key, which may also stand apart, as in JSON.
const WORDS: [&str; 3] = ["security", "audit", "suppressions"];

/// How far apart the words may stand, in characters.
const MAX_DISTANCE: usize = 200;

/// Options of openclaw before its command that take a value, and those that take none.
const VALUE_OPTIONS: [&str; 3] = ["--container", "--log-level", "--profile"];
const FLAG_OPTIONS: [&str; 2] = ["--dev", "--no-color"];

/// Commands below `openclaw config` that only look.
const READING: [&str; 3] = ["get", "schema", "validate"];

/// Whether a command names the suppressions, and does not merely read the configuration.
pub(crate) fn are_changed_by(argv: &[String], command_text: &str, analysis: &Analysis) -> bool {
    // The text has quotes escaped, the words have not.
    if !mentions(command_text) && !mentions(&argv.join(" ")) {
        return false;
    }
    match analysis {
        Analysis::Direct(_) => !is_reading(argv),
        Analysis::Payload(payload) => {
            let commands = payload.simple_commands();
            let (reading, others): (Vec<&Simple>, Vec<&Simple>) = commands
                .into_iter()
                .partition(|command| is_reading(&command.argv));
            let other_words: Vec<&str> = others
                .iter()
                .flat_map(|command| &command.argv)
                .map(String::as_str)
                .collect();
            // Words that no command has stand in a comment or an assignment.
            !reading
                .iter()
                .any(|command| mentions(&command.argv.join(" ")))
                || mentions(&other_words.join(" "))
        }
    }
}

fn mentions(text: &str) -> bool {
    let text = text.to_lowercase();
    if text.contains(KEY) {
        return true;
    }
    let [first, second, third] = WORDS;
    if !WORDS.iter().all(|word| text.contains(word)) {
        return false;
    }
    text.match_indices(second).any(|(start, _)| {
        let before = text.get(..start).unwrap_or_default();
        let behind = text.get(start + second.len()..).unwrap_or_default();
        let near_before = before
            .char_indices()
            .rev()
            .nth(MAX_DISTANCE + first.len() - 1)
            .map_or(before, |(position, _)| {
                before.get(position..).unwrap_or_default()
            });
        let near_behind = behind
            .char_indices()
            .nth(MAX_DISTANCE + third.len())
            .map_or(behind, |(position, _)| {
                behind.get(..position).unwrap_or_default()
            });
        near_before.contains(first) && near_behind.contains(third)
    })
}

/// Whether this is `openclaw config get`, or another that only looks.
fn is_reading(argv: &[String]) -> bool {
    let plan = TrustPlan::of(argv);
    if plan.blocked.is_some() {
        return false;
    }
    let whole = InnerArgv::whole(argv).suffix(plan.execution_index);
    let argv = whole.behind_runner().unwrap_or(whole);
    if executable_name(argv.executable()) != "openclaw" {
        return false;
    }
    let mut words = argv.words().iter().skip(1).map(String::as_str);
    let command = loop {
        match words.next() {
            Some(option) if VALUE_OPTIONS.contains(&option) => {
                words.next();
            }
            Some(option) if FLAG_OPTIONS.contains(&option) => {}
            Some(option) if VALUE_OPTIONS.iter().any(|known| has_value(option, known)) => {}
            other => break other,
        }
    };
    command == Some("config") && words.next().is_some_and(|action| READING.contains(&action))
}

fn has_value(word: &str, option: &str) -> bool {
    word.strip_prefix(option)
        .is_some_and(|rest| rest.starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::{are_changed_by, mentions};
    use crate::allowlist::{Target, Unanalysable};
    use crate::analysis::Analysis;
    use crate::command::command_text;

    #[test]
    fn the_key_is_found_whole_or_in_pieces() {
        let apart = |count: usize| format!("security{0}audit{0}suppressions", "x".repeat(count));
        for (text, expected) in [
            (
                "openclaw config set security.audit.suppressions []".to_owned(),
                true,
            ),
            ("SECURITY.Audit.Suppressions".to_owned(), true),
            (
                r#"{"security": {"audit": {"suppressions": []}}}"#.to_owned(),
                true,
            ),
            (apart(200), true),
            (apart(201), false),
            ("suppressions audit security".to_owned(), false),
            ("security audit".to_owned(), false),
            (
                format!("audit {} security é audit suppressions", "y".repeat(500)),
                true,
            ),
        ] {
            assert_eq!(mentions(&text), expected, "{text}");
        }
    }

    #[test]
    fn reading_the_configuration_changes_nothing() {
        let direct = Analysis::Direct(Target::Unanalysable(Unanalysable::ShellPayload));
        for (line, expected) in [
            ("openclaw config get security.audit.suppressions", false),
            (
                "npx openclaw config schema security.audit.suppressions",
                false,
            ),
            (
                "openclaw --profile x --dev config validate security.audit.suppressions",
                false,
            ),
            (
                "openclaw --log-level=debug config get security.audit.suppressions",
                false,
            ),
            ("openclaw config set security.audit.suppressions []", true),
            ("openclaw config unset security.audit.suppressions", true),
            ("sudo openclaw config get security.audit.suppressions", true),
            ("jq .security.audit.suppressions openclaw.json", true),
            ("openclaw config set gateway.port 1", false),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let changed = are_changed_by(&argv, &command_text(&argv), &direct);
            assert_eq!(changed, expected, "{line}");
        }
    }
}
