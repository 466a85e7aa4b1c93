//! The demo's output: what happened, and when.

use std::fmt::Display;
use std::time::Instant;

use crate::cli::output;

/// Prints steps with the time since the start and since the step before.
pub(super) struct Timeline {
    start: Instant,
    last: Instant,
}

impl Timeline {
    /// Starts the clock.
    pub(super) fn start() -> Self {
        let now = Instant::now();
        output::line("  total    step");
        Self {
            start: now,
            last: now,
        }
    }

    /// A step that did what it should.
    pub(super) fn step(&mut self, text: impl Display) {
        let now = Instant::now();
        let total = now.duration_since(self.start).as_secs_f64();
        let step = now.duration_since(self.last).as_millis();
        self.last = now;
        output::line(format_args!("{total:6.3}s {step:5}ms  {text}"));
    }

    /// Words of the node, the gateway or the command, below the step that they belong to.
    pub(super) fn detail(&self, text: &str) {
        for line in text.lines() {
            output::line(format_args!("                 | {line}"));
        }
    }

    /// All steps are done.
    pub(super) fn end(&mut self, text: &str) {
        self.step(text);
    }

    /// A step did not do what it should.
    pub(super) fn failed(&mut self, text: &str) {
        self.step(format_args!("FAILED: {text}"));
    }
}
