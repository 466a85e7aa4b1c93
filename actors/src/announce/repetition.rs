//! How often the same line is worth writing: a gateway that stays away for a month is one cause,
//! and costs kilobytes.
//!
//! Time comes in as a value, so that a month is tested in an instant.

use std::time::Duration;

/// Waits between reminders of a cause that lasts; the last one holds from then on.
const REMINDERS: [Duration; 4] = [
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// How often the same line may be news within a short time, as with a gateway that comes and goes.
const BURST_OF_ONE: u32 = 10;
/// How many lines that were never written before may come within a short time.
const BURST_OF_OTHERS: u32 = 64;
/// After this one more is allowed.
const REFILL: Duration = Duration::from_secs(60 * 60);
/// How many different lines are remembered; the one that was not seen for longest is forgotten.
const REMEMBERED: usize = 16;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something happened; each time is news.
    Event,
    /// Something is wrong; it is news once, until all was well in between.
    Complaint,
}

/// Occasions that run out and come back with time.
#[derive(Debug)]
struct Allowance {
    most: u32,
    left: u32,
    counted_from: Duration,
}

impl Allowance {
    const fn new(most: u32, now: Duration) -> Self {
        Self {
            most,
            left: most,
            counted_from: now,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.counted_from);
        let refills = u32::try_from(passed.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        self.counted_from += REFILL * refills;
        self.left = self.left.saturating_add(refills).min(self.most);
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[derive(Debug)]
struct Line {
    text: String,
    allowance: Allowance,
    last_seen: Duration,
    /// When it was last written.
    written: Duration,
    /// How often it was left out since.
    left_out: u64,
    /// How often it was written since all was well; 0 makes it news.
    reminders: usize,
}

/// What is remembered of the lines so far.
#[derive(Debug)]
pub(crate) struct Repetition {
    lines: Vec<Line>,
    others: Allowance,
}

impl Repetition {
    pub(crate) const fn new(now: Duration) -> Self {
        Self {
            lines: Vec::new(),
            others: Allowance::new(BURST_OF_OTHERS, now),
        }
    }

    /// The line as it is to be written, with a count of what was left out before it; `None` when
    /// it is left out itself.
    pub(crate) fn admit(&mut self, text: &str, kind: Kind, now: Duration) -> Option<String> {
        let Some(line) = self.lines.iter_mut().find(|line| line.text == text) else {
            return self.admit_first(text, now);
        };
        line.last_seen = now;
        let waited = now.saturating_sub(line.written);
        let is_news = match kind {
            Kind::Event => true,
            Kind::Complaint => line.reminders == 0,
        };
        let is_written = if is_news {
            line.allowance.take(now)
        } else {
            waited >= reminder(line.reminders)
        };
        if !is_written {
            line.left_out += 1;
            return None;
        }
        line.reminders += 1;
        line.written = now;
        Some(match std::mem::take(&mut line.left_out) {
            0 => text.to_owned(),
            left_out => format!(
                "{text} (repeated {} times in {})",
                left_out + 1,
                humantime::format_duration(Duration::from_secs(waited.as_secs()))
            ),
        })
    }

    fn admit_first(&mut self, text: &str, now: Duration) -> Option<String> {
        if !self.others.take(now) {
            return None;
        }
        if self.lines.len() >= REMEMBERED
            && let Some((oldest, _)) = self
                .lines
                .iter()
                .enumerate()
                .min_by_key(|(_, line)| line.last_seen)
        {
            self.lines.swap_remove(oldest);
        }
        let mut allowance = Allowance::new(BURST_OF_ONE, now);
        allowance.take(now);
        self.lines.push(Line {
            text: text.to_owned(),
            allowance,
            last_seen: now,
            written: now,
            left_out: 0,
            reminders: 1,
        });
        Some(text.to_owned())
    }

    /// All is well: what is wrong next is news.
    pub(crate) fn recovered(&mut self) {
        for line in &mut self.lines {
            line.reminders = 0;
        }
    }
}

/// How long to wait with the next line after `reminders` of them.
fn reminder(reminders: usize) -> Duration {
    let [.., last] = REMINDERS;
    let index = reminders.saturating_sub(1);
    REMINDERS.get(index).copied().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    const DEAD: &str = "node host gateway connect failed: cannot connect to 192.0.2.1:18789: Connection refused (os error 111)";

    /// Bytes written in a month in which `each` says something every `every`.
    fn bytes_of_a_month(
        every: Duration,
        mut each: impl FnMut(&mut Repetition, u32, Duration) -> Vec<Option<String>>,
    ) -> usize {
        let mut repetition = Repetition::new(Duration::ZERO);
        let (mut now, mut round, mut bytes) = (Duration::ZERO, 0, 0);
        while now < MONTH {
            let said = each(&mut repetition, round, now);
            bytes += said
                .iter()
                .flatten()
                .map(|line| line.len() + 1)
                .sum::<usize>();
            now += every;
            round += 1;
        }
        bytes
    }

    #[test]
    fn a_month_of_a_dead_gateway_costs_kilobytes() {
        let bytes = bytes_of_a_month(Duration::from_secs(30), |repetition, _, now| {
            vec![repetition.admit(DEAD, Kind::Complaint, now)]
        });
        assert!((1_000..8_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_month_of_changing_causes_costs_kilobytes() {
        let bytes = bytes_of_a_month(Duration::from_secs(10), |repetition, round, now| {
            let text = format!("{DEAD} {}", round % 3);
            vec![repetition.admit(&text, Kind::Complaint, now)]
        });
        assert!((3_000..24_000).contains(&bytes), "{bytes}");
        let ever_new = bytes_of_a_month(Duration::from_secs(10), |repetition, round, now| {
            vec![repetition.admit(&format!("{DEAD} {round}"), Kind::Complaint, now)]
        });
        assert!(ever_new < 128 * 1024, "{ever_new}");
    }

    #[test]
    fn a_month_of_a_gateway_that_comes_and_goes_costs_kilobytes() {
        let bytes = bytes_of_a_month(Duration::from_secs(5), |repetition, _, now| {
            repetition.recovered();
            vec![
                repetition.admit("node host gateway connected: ws://h:1", Kind::Event, now),
                repetition.admit(
                    "node host gateway closed (1012): restart",
                    Kind::Complaint,
                    now,
                ),
            ]
        });
        assert!(bytes < 256 * 1024, "{bytes}");
    }

    #[test]
    fn what_was_left_out_is_counted() {
        let mut repetition = Repetition::new(Duration::ZERO);
        let mut said = Vec::new();
        for second in 0..=600 {
            let now = Duration::from_secs(second);
            said.extend(repetition.admit("x", Kind::Complaint, now));
        }
        assert_eq!(said, ["x", "x (repeated 600 times in 10m)"]);
    }

    #[test]
    fn a_complaint_is_news_again_once_all_was_well() {
        let mut repetition = Repetition::new(Duration::ZERO);
        let complain = |repetition: &mut Repetition| {
            repetition
                .admit("x", Kind::Complaint, Duration::from_secs(1))
                .is_some()
        };
        assert!(complain(&mut repetition));
        assert!(!complain(&mut repetition));
        repetition.recovered();
        assert!(complain(&mut repetition));
        assert!(!complain(&mut repetition));
    }

    #[test]
    fn an_event_is_written_each_time_unless_it_comes_too_often() {
        let mut repetition = Repetition::new(Duration::ZERO);
        let written = (0..100)
            .filter_map(|second| {
                repetition.admit("connected", Kind::Event, Duration::from_secs(second))
            })
            .count();
        assert_eq!(written, usize::try_from(BURST_OF_ONE).unwrap());
        let later = repetition.admit("connected", Kind::Event, DAY);
        assert!(
            later
                .unwrap()
                .starts_with("connected (repeated 91 times in ")
        );
        let rested = (0..100)
            .filter_map(|second| {
                repetition.admit(
                    "connected",
                    Kind::Event,
                    DAY * 2 + Duration::from_secs(second),
                )
            })
            .count();
        assert_eq!(rested, usize::try_from(BURST_OF_ONE).unwrap());
    }
}
