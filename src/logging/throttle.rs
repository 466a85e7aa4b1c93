//! Keeps an event that repeats itself from filling a disk: after a burst, one an hour, with a count
//! of what was left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// How often one event may come within a short time.
const BURST: u32 = 20;
/// After this one more is written.
const REFILL: Duration = Duration::from_secs(60 * 60);
/// The field of events that somebody asked for: as many come as commands are run.
const RUN_FIELD: &str = "invoke";

#[derive(Debug)]
struct Occasions {
    left: u32,
    counted_from: Instant,
    left_out: u64,
}

impl Occasions {
    const fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            counted_from: now,
            left_out: 0,
        }
    }

    /// How many were left out before this one; `None` to leave this one out too.
    fn take(&mut self, now: Instant) -> Option<u64> {
        while self.left < BURST && now.duration_since(self.counted_from) >= REFILL {
            self.left += 1;
            self.counted_from += REFILL;
        }
        if self.left == BURST {
            self.counted_from = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.left_out))
            }
            None => {
                self.left_out += 1;
                None
            }
        }
    }
}

/// How often each event came so far; there are as many as places in the code.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    #[expect(
        clippy::disallowed_types,
        reason = "any thread may log, and nothing is awaited while it is held"
    )]
    events: std::sync::Mutex<HashMap<Identifier, Occasions>>,
}

impl Throttle {
    /// Whether to write an event, and how many like it were left out before.
    pub(super) fn admit(&self, metadata: &Metadata<'_>) -> Option<u64> {
        let is_detail = *metadata.level() > Level::INFO;
        let is_of_run = metadata.fields().field(RUN_FIELD).is_some();
        if is_detail || is_of_run || metadata.target() == actors::OPERATOR_LINES {
            return Some(0);
        }
        let now = Instant::now();
        // A thread that panicked while counting has spoilt nothing but a count.
        let mut events = self
            .events
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        events
            .entry(metadata.callsite())
            .or_insert_with(|| Occasions::new(now))
            .take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_of_the_same_event_is_a_few_hundred_lines_that_count_the_rest() {
        let start = Instant::now();
        let mut occasions = Occasions::new(start);
        let (mut written, mut left_out, mut rounds) = (0_u64, 0, 0_u64);
        let mut passed = Duration::ZERO;
        while passed < Duration::from_secs(30 * 24 * 60 * 60) {
            rounds += 1;
            if let Some(count) = occasions.take(start + passed) {
                written += 1;
                left_out += count;
            }
            passed += Duration::from_secs(30);
        }
        assert!((700..760).contains(&written), "{written}");
        assert_eq!(written + left_out + occasions.left_out, rounds);
    }

    #[test]
    fn after_a_rest_a_burst_is_written_again() {
        let start = Instant::now();
        let mut occasions = Occasions::new(start);
        let burst = |occasions: &mut Occasions, at: Instant| {
            (0..100).filter(|_| occasions.take(at).is_some()).count()
        };
        assert_eq!(burst(&mut occasions, start), 20);
        assert_eq!(burst(&mut occasions, start + REFILL), 1);
        assert_eq!(burst(&mut occasions, start + REFILL * 100), 20);
    }
}
