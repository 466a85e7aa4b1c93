//! Standard output and standard error of the commands.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

/// Writes text to standard output as it is.
pub(super) fn print(text: &str) {
    // A reader that went away (`| head`) is no failure of ours.
    print_to_reader(text);
}

/// Writes text to standard output as it is; says whether somebody still reads.
pub(super) fn print_to_reader(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).is_ok() && stdout.flush().is_ok()
}

/// Writes one line to standard output.
pub(super) fn line(text: impl Display) {
    print(&format!("{text}\n"));
}

/// Writes a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), serde_json::Error> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// Writes a value as JSON for people and scripts, indented by two spaces as upstream does.
pub(super) fn json_pretty(value: &impl Serialize) -> Result<(), serde_json::Error> {
    line(serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Writes one line to standard error.
pub(crate) fn complain(text: impl Display) {
    io::stderr()
        .lock()
        .write_all(format!("{text}\n").as_bytes())
        .ok();
}
