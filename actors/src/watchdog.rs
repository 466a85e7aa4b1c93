//! The watchdog: the service manager hears that this process is alive only while every part of it
//! answers in time and keeps its own deadlines.
//!
//! At a third of the manager's interval each part is asked; the ping is sent when all have answered
//! the question before. So a part that is stuck for less than an interval costs at most a ping,
//! and one that is stuck for longer gets the process restarted.

use std::time::Duration;

use actix::prelude::*;
use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::{debug, error, info};

use crate::notify;

/// How late a part may be with what it announced; its own timers come first.
const SLACK: Duration = Duration::from_secs(10);

/// Asks a part of the node whether it keeps its deadlines. That it answers at all shows that it
/// is not stuck.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Health")]
pub(crate) struct Probe;

/// What a part says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub(crate) enum Health {
    /// All is well.
    Well,
    /// Something that should have happened has not.
    Overdue(&'static str),
}

/// By when something has to happen. The clock stands still while the machine sleeps, as the
/// manager's and the timers' clocks do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    what: &'static str,
    by: Option<Instant>,
}

impl Due {
    /// Nothing has to happen.
    pub(crate) const NOTHING: Self = Self {
        what: "nothing",
        by: None,
    };

    /// `what` has to happen within `time`, or a little later.
    pub(crate) fn within(time: Duration, what: &'static str) -> Self {
        Self {
            what,
            by: Instant::now().checked_add(time + SLACK),
        }
    }

    /// Whether it should have happened by now.
    pub(crate) fn health(self) -> Health {
        match self.by {
            Some(by) if Instant::now() > by => Health::Overdue(self.what),
            _ => Health::Well,
        }
    }
}

/// A part of the node, as the watchdog sees it.
struct Part {
    name: &'static str,
    recipient: Recipient<Probe>,
    answered: bool,
    health: Health,
}

/// The watchdog actor.
pub(crate) struct Watchdog {
    /// Within which the manager wants a ping.
    interval: Duration,
    parts: Vec<Part>,
    /// Whether the last look found all well; a change is logged, not its continuance.
    was_well: bool,
}

impl Watchdog {
    /// A watchdog over these parts, named for the log.
    pub(crate) fn new(
        interval: Duration,
        parts: impl IntoIterator<Item = (&'static str, Recipient<Probe>)>,
    ) -> Self {
        let parts = parts.into_iter().map(|(name, recipient)| Part {
            name,
            recipient,
            answered: true,
            health: Health::Well,
        });
        Self {
            interval,
            parts: parts.collect(),
            was_well: true,
        }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        let trouble = self.parts.iter().find_map(|part| match part.health {
            _ if !part.answered => Some((part.name, "does not answer")),
            Health::Overdue(what) => Some((part.name, what)),
            Health::Well => None,
        });
        match trouble {
            None => {
                notify(&[NotifyState::Watchdog]);
                if !std::mem::replace(&mut self.was_well, true) {
                    info!("every part of the node is well again");
                }
            }
            Some((part, trouble)) => {
                debug!(part, trouble, "watchdog ping withheld");
                if std::mem::replace(&mut self.was_well, false) {
                    error!(
                        part,
                        trouble, "the service manager is not told that the node is well"
                    );
                }
            }
        }
        self.ask(ctx);
    }

    /// Asks every part that has answered so far.
    fn ask(&mut self, ctx: &mut Context<Self>) {
        let due = self
            .parts
            .iter_mut()
            .enumerate()
            .filter_map(|(index, part)| {
                std::mem::replace(&mut part.answered, false)
                    .then(|| (index, part.recipient.send(Probe)))
            });
        let requests: Vec<_> = due.collect();
        for (index, request) in requests {
            ctx.spawn(request.into_actor(self).map(move |answer, actor, _| {
                if let (Some(part), Ok(health)) = (actor.parts.get_mut(index), answer) {
                    part.answered = true;
                    part.health = health;
                }
            }));
        }
    }
}

impl Actor for Watchdog {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.ask(ctx);
        ctx.run_interval(self.interval / 3, Self::look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_happened_in_time_is_overdue() {
        assert_eq!(Due::NOTHING.health(), Health::Well);
        assert_eq!(
            Due::within(Duration::ZERO, "the attempt").health(),
            Health::Well,
            "a timer may be late"
        );
        let past = Due {
            what: "the attempt",
            by: Instant::now().checked_sub(Duration::from_millis(1)),
        };
        assert_eq!(past.health(), Health::Overdue("the attempt"));
    }
}
