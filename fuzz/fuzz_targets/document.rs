//! Any text as an approvals document: no panic, and what is read is written and read again the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/approvals/tests/corpus/document.rs"]
mod document;

fuzz_target!(|text: &str| document::check(text));
