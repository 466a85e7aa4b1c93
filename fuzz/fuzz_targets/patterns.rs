//! Any pattern and argument pattern against any program: no panic, and a glob says what the plain
//! definition of a glob says.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/approvals/tests/corpus/patterns.rs"]
mod patterns;

fuzz_target!(|text: &str| patterns::check(text));
