//! The result of a run as the gateway gets it (exec and approvals §11, divergence D3).

use serde::Serialize;

/// How much of the output the `exec.finished` event shows, in UTF-16 units
/// (exec and approvals §11).
const EVENT_OUTPUT: usize = 20_000;

/// The payload of a successful `system.run` answer, whether or not the command succeeded.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunPayload {
    /// The exit code; 124 for a timeout without one. Absent if a signal ended the command or it was
    /// never started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether the command was ended because its time was up.
    pub timed_out: bool,
    /// Whether the command ended by itself with exit code 0.
    pub success: bool,
    /// What is kept of the standard output; bytes that are not UTF-8 are shown as U+FFFD.
    pub stdout: String,
    /// What is kept of the standard error output.
    pub stderr: String,
    /// Why the command could not be started or read.
    pub error: Option<String>,
    /// Whether anything is missing from the middle of either stream (divergence D3).
    pub truncated: bool,
    /// Bytes written to the standard output (divergence D3).
    pub stdout_bytes: u64,
    /// Bytes written to the standard error output (divergence D3).
    pub stderr_bytes: u64,
    /// Whether reading ended before the output did, because a descendant kept it open. Sent only
    /// when true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drain_truncated: bool,
}

impl RunPayload {
    /// The `output` member of the `exec.finished` event: whatever there is of standard output,
    /// standard error and error text, trimmed, and only the end of it when it is long.
    pub fn event_output(&self) -> String {
        let parts = [
            self.stdout.as_str(),
            &self.stderr,
            self.error.as_deref().unwrap_or(""),
        ];
        let joined = parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("\n");
        let trimmed = approvals::command::trim(&joined);
        if trimmed.is_empty() {
            return joined;
        }
        match end_of(trimmed, EVENT_OUTPUT) {
            Some(end) => format!("... (truncated) {end}"),
            None => trimmed.to_owned(),
        }
    }
}

/// The last `units` UTF-16 units of `text` (one less rather than half a surrogate pair), or `None`
/// if it has no more than that.
fn end_of(text: &str, units: usize) -> Option<&str> {
    let mut left = units;
    for (start, character) in text.char_indices().rev() {
        match left.checked_sub(character.len_utf16()) {
            Some(rest) => left = rest,
            None => return text.get(start + character.len_utf8()..),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_output(stdout: &str, stderr: &str, error: Option<&str>) -> String {
        let payload = RunPayload {
            stdout: stdout.into(),
            stderr: stderr.into(),
            error: error.map(str::to_owned),
            ..RunPayload::default()
        };
        payload.event_output()
    }

    #[test]
    fn the_event_joins_and_trims_what_there_is() {
        let table = [
            (("", "", None), ""),
            (("out\n", "", None), "out"),
            (("", " err ", None), "err"),
            (("out\n", "err\n", Some("why")), "out\n\nerr\n\nwhy"),
            (("out", "", Some("why")), "out\nwhy"),
            ((" \n", "", None), " \n"),
            (("\n", "\t", None), "\n\n\t"),
        ];
        for ((stdout, stderr, error), expected) in table {
            assert_eq!(event_output(stdout, stderr, error), expected);
        }
    }

    #[test]
    fn the_event_shows_the_end_of_a_long_output() {
        let exact = "a".repeat(EVENT_OUTPUT);
        assert_eq!(event_output(&exact, "", None), exact);
        assert_eq!(event_output(&format!("\n{exact}\n"), "", None), exact);
        assert_eq!(
            event_output(&format!("b{exact}"), "", None),
            format!("... (truncated) {exact}")
        );
        let mixed = event_output(&"a".repeat(30_000), "END\n", None);
        assert_eq!(
            mixed,
            format!("... (truncated) {}\nEND", "a".repeat(EVENT_OUTPUT - 4))
        );
    }

    #[test]
    fn the_end_is_counted_in_utf16_units() {
        // A crab is two units: half of the text fits exactly.
        let crabs = "🦀".repeat(EVENT_OUTPUT / 2);
        assert_eq!(event_output(&crabs, "", None), crabs);
        assert_eq!(
            event_output(&format!("é{crabs}"), "", None),
            format!("... (truncated) {crabs}")
        );
        // The unit that is left over would be half a crab.
        let odd = event_output(&format!("{crabs}a"), "", None);
        let crabs = "🦀".repeat(EVENT_OUTPUT / 2 - 1);
        assert_eq!(odd, format!("... (truncated) {crabs}a"));
    }
}
