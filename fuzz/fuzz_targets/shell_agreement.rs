//! Text that is called analysable, against what `sh` and `bash` make of it. The first byte chooses
//! whether the recording programs succeed.

#![no_main]

use std::sync::LazyLock;

use approvals::shell::Dialect;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/approvals/tests/shell_agreement/laboratory.rs"]
mod laboratory;

use laboratory::{Laboratory, check};

static LABORATORY: LazyLock<Laboratory> = LazyLock::new(|| {
    assert!(laboratory::is_available(), "sh and bash must be installed");
    Laboratory::new().expect("a directory of programs")
});

fuzz_target!(|text: &str| {
    let mut letters = text.chars();
    let status = u8::from(letters.next() == Some('1'));
    for dialect in [Dialect::Posix, Dialect::Bash] {
        if let Err(difference) = check(&LABORATORY, dialect, letters.as_str(), status) {
            panic!("{difference}");
        }
    }
});
