//! What is said about a command text, against what real shells make of it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

// The name that the rest of the workspace and the fuzz targets use.
extern crate openclaw_node_approvals as approvals;

mod grammar;
mod laboratory;

use approvals::shell::{Dialect, Kind, Script, analyse, rewrite};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use laboratory::{Laboratory, Outcome, check};

/// How many texts are handed to real shells.
const TRIALS: usize = 1500;

const DIALECTS: [Dialect; 5] = [
    Dialect::Posix,
    Dialect::Bash,
    Dialect::Korn,
    Dialect::Zsh,
    Dialect::Fish,
];

#[test]
fn real_shells_start_what_an_analysable_text_is_said_to_start() {
    assert!(laboratory::is_available(), "sh and bash must be installed");
    let mut runner = TestRunner::deterministic();
    let strategy = grammar::payload();
    let payloads: Vec<String> = (0..TRIALS)
        .map(|_| strategy.new_tree(&mut runner).expect("a text").current())
        .collect();
    let laboratory = Laboratory::new().expect("a directory of programs");
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let outcomes: Vec<Result<Outcome, String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = payloads
            .chunks(payloads.len().div_ceil(threads))
            .map(|payloads| {
                let laboratory = &laboratory;
                scope.spawn(move || check_all(laboratory, payloads))
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker ends"))
            .collect()
    });
    let failures: Vec<&String> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {}: {failures:#?}",
        failures.len(),
        outcomes.len()
    );
    let run = outcomes
        .iter()
        .filter(|it| **it == Ok(Outcome::Run))
        .count();
    assert!(run > TRIALS / 2, "only {run} texts were run");
}

fn check_all(laboratory: &Laboratory, payloads: &[String]) -> Vec<Result<Outcome, String>> {
    let trial = |(number, payload): (usize, &String)| {
        let status = u8::from(number % 2 == 1);
        [Dialect::Posix, Dialect::Bash].map(|dialect| check(laboratory, dialect, payload, status))
    };
    payloads.iter().enumerate().flat_map(trial).collect()
}

fn assert_consistent(script: &Script, source: &str) {
    assert!(!script.segments.is_empty());
    let mut at = 0;
    for segment in &script.segments {
        assert_eq!(segment.argv.len(), segment.words.len());
        let words = segment.words.iter().map(|word| &word.span);
        for span in segment.assignments.iter().chain(words) {
            assert!(span.start >= at && span.end > span.start, "{span:?}");
            assert!(source.get(span.clone()).is_some(), "{span:?}");
            at = span.end;
        }
        if let Kind::Nested(nested) = &segment.kind {
            assert_consistent(&nested.script, &segment.argv[nested.payload_index]);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_harm(text in any::<String>(), ascii in "[ -~\n\t]{0,80}") {
        for dialect in DIALECTS {
            for text in [&text, &ascii] {
                if let Ok(script) = analyse(text, dialect) {
                    assert_consistent(&script, text);
                }
            }
        }
    }

    #[test]
    fn every_word_can_be_replaced_by_its_quoted_value(text in grammar::payload()) {
        for dialect in [Dialect::Posix, Dialect::Bash] {
            let Ok(script) = analyse(&text, dialect) else { continue };
            assert_consistent(&script, &text);
            // The keyword and its option mean something else in quotes.
            let segments = script.segments.iter().filter(|it| it.argv.first().is_none_or(|name| name != "time"));
            let words = segments.flat_map(|it| it.words.iter().zip(&it.argv));
            let replacements: Vec<_> = words
                .filter(|(word, _)| word.is_literal())
                .map(|(word, value)| (word.span.clone(), rewrite::quote(value)))
                .collect();
            let rewritten = rewrite::replace(&text, &replacements).expect("spans are in order");
            let again = analyse(&rewritten, dialect).expect("the rewritten text is analysable");
            for (before, after) in script.segments.iter().zip(&again.segments) {
                prop_assert_eq!(&before.argv, &after.argv);
            }
            prop_assert_eq!(script.segments.len(), again.segments.len());
        }
    }

    #[test]
    fn a_quoted_word_is_read_back(text in "[ -~é\n\t]{1,40}") {
        let script = analyse(&format!("echo {}", rewrite::quote(&text)), Dialect::Posix);
        prop_assert_eq!(&script.expect("analysable").segments[0].argv[1], &text);
    }
}
