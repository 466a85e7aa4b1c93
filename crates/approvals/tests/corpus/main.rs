//! What fuzzing came upon once holds for ever: every input of the committed corpora, against what
//! the fuzz target of that name asserts.

#![cfg(test)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a check that cannot go on fails"
)]

// The name that the rest of the workspace and the fuzz targets use.
extern crate openclaw_node_approvals as approvals;

mod argv_unwrap;
mod document;
mod patterns;
mod shell_lexer;

use std::fs;
use std::path::Path;

/// Checks every input of a corpus. A fuzz target sees the text up to the first byte that is none.
fn replay(corpus: &str, check: fn(&str)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for input in fs::read_dir(folder.join(corpus)).unwrap() {
        let bytes = fs::read(input.unwrap().path()).unwrap();
        let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        check(text);
        count += 1;
    }
    assert!(count > 10, "only {count} inputs");
}

#[test]
fn of_the_shell_lexer() {
    replay("shell_lexer", shell_lexer::check);
    // What one target came upon is worth a look to its neighbour.
    replay("shell_agreement", shell_lexer::check);
}

#[test]
fn of_argv_unwrapping() {
    replay("argv_unwrap", argv_unwrap::check);
}

#[test]
fn of_patterns() {
    replay("patterns", patterns::check);
}

#[test]
fn of_documents() {
    replay("document", document::check);
}
