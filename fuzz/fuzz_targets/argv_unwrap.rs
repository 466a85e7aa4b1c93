//! Any argv: every view of what stands behind its wrappers is a part of it, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/approvals/tests/corpus/argv_unwrap.rs"]
mod argv_unwrap;

fuzz_target!(|text: &str| argv_unwrap::check(text));
