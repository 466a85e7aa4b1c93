//! Any text, in any dialect: no panic, spans in order, and a rewrite that reads back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/approvals/tests/corpus/shell_lexer.rs"]
mod shell_lexer;

fuzz_target!(|text: &str| shell_lexer::check(text));
