//! Any text, in any dialect: no panic, spans in order, and a rewrite that reads back the same.

use approvals::shell::{Dialect, Kind, Script, analyse, rewrite};

const DIALECTS: [Dialect; 5] = [
    Dialect::Posix,
    Dialect::Bash,
    Dialect::Korn,
    Dialect::Zsh,
    Dialect::Fish,
];

/// What must hold for this input.
pub(crate) fn check(text: &str) {
    for dialect in DIALECTS {
        match analyse(text, dialect) {
            Ok(script) => consistent(&script, text, dialect),
            Err(refusal) => assert!(refusal.position <= text.len()),
        }
    }
}

fn consistent(script: &Script, source: &str, dialect: Dialect) {
    assert!(!script.segments.is_empty());
    let mut at = 0;
    let mut replacements = Vec::new();
    for segment in &script.segments {
        assert_eq!(segment.argv.len(), segment.words.len());
        let is_prompt_only = matches!(segment.kind, Kind::PromptOnly(_));
        let words = segment.words.iter().map(|word| &word.span);
        for span in segment.assignments.iter().chain(words) {
            assert!(span.start >= at && span.end > span.start);
            assert!(source.get(span.clone()).is_some());
            at = span.end;
        }
        for (word, value) in segment.words.iter().zip(&segment.argv) {
            assert!(is_prompt_only || !word.expansion);
            // The keyword and its option mean something else in quotes.
            if word.is_literal() && segment.argv.first().is_none_or(|name| name != "time") {
                replacements.push((word.span.clone(), rewrite::quote(value)));
            }
        }
        if let Kind::Nested(nested) = &segment.kind {
            let payload = &segment.argv[nested.payload_index];
            let inner = Dialect::of(&segment.argv[0]).expect("a shell");
            consistent(&nested.script, payload, inner);
        }
    }
    if dialect == Dialect::Fish {
        return;
    }
    let rewritten = rewrite::replace(source, &replacements).expect("spans are in order");
    let again = analyse(&rewritten, dialect).expect("a rewritten text stays analysable");
    assert_eq!(again.segments.len(), script.segments.len());
    for (before, after) in script.segments.iter().zip(&again.segments) {
        assert_eq!(before.argv, after.argv);
    }
}
