//! The pause in which an operator has to approve this device (§9.1, D12).

use std::fmt;
use std::time::Duration;

use crate::frame::GatewayError;
use crate::reconnect::Jitter;

/// Why the gateway wants an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PairingReason {
    /// A device that the gateway has never approved.
    NotPaired,
    /// A known device that asks for a role it does not have, or has no more.
    RoleUpgrade,
    /// A known device that asks for more scopes.
    ScopeUpgrade,
    /// A known device whose platform changed.
    MetadataUpgrade,
}

/// `details` of a PAIRING_REQUIRED refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairingRequired {
    /// What the operator has to approve. Repeated attempts keep it; after a rejection or a change
    /// of metadata there is a new one. Absent when the gateway sent none that is safe to print.
    pub request_id: Option<RequestId>,
    /// Why.
    pub reason: PairingReason,
}

/// A pairing request's id: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}` (§9.1), so that it can be printed
/// inside a command for an operator to paste.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Accepts an id of the documented pattern.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut characters = text.chars();
        let valid = text.len() <= 128
            && characters
                .next()
                .is_some_and(|first| first.is_ascii_alphanumeric())
            && characters.all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
        valid.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PairingRequired {
    /// Reads the details of a refusal with the code PAIRING_REQUIRED.
    #[must_use]
    pub fn of(error: &GatewayError) -> Self {
        let reason = match error.detail("reason") {
            Some("role-upgrade") => PairingReason::RoleUpgrade,
            Some("scope-upgrade") => PairingReason::ScopeUpgrade,
            Some("metadata-upgrade") => PairingReason::MetadataUpgrade,
            Some(_) | None => PairingReason::NotPaired,
        };
        Self {
            request_id: error.detail("requestId").and_then(RequestId::parse),
            reason,
        }
    }

    /// What an operator types on the gateway's machine.
    #[must_use]
    pub fn approval_command(&self) -> String {
        match &self.request_id {
            Some(id) => format!("openclaw devices approve {id}"),
            None => "openclaw devices list".to_owned(),
        }
    }
}

/// The text that upstream prints for it, such as `device pairing required (requestId: …)` (§9).
impl fmt::Display for PairingRequired {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.reason {
            PairingReason::NotPaired => "device pairing required",
            PairingReason::RoleUpgrade => "role upgrade pending approval",
            PairingReason::ScopeUpgrade => "scope upgrade pending approval",
            PairingReason::MetadataUpgrade => "device metadata change pending approval",
        })?;
        match &self.request_id {
            Some(id) => write!(formatter, " (requestId: {id})"),
            None => Ok(()),
        }
    }
}

/// How often a paused node looks again: after 1 s and 2 s, then every 5 s for two minutes, every
/// 15 s for ten minutes, then every 60 s (D12), each with jitter.
#[derive(Debug, Clone, Default)]
pub struct PollSchedule {
    polls: u32,
}

/// Number of polls, and the wait before each of them.
const POLL_PHASES: [(u32, Duration); 4] = [
    (1, Duration::from_secs(1)),
    (1, Duration::from_secs(2)),
    (2 * 60 / 5, Duration::from_secs(5)),
    (10 * 60 / 15, Duration::from_secs(15)),
];
const LAST_POLL_WAIT: Duration = Duration::from_secs(60);
/// The longest that a wait can be, jitter included.
pub const LONGEST_POLL_WAIT: Duration = Duration::from_secs(72);

impl PollSchedule {
    /// The wait before the next poll.
    pub fn next_wait(&mut self, jitter: Jitter) -> Duration {
        let mut phase_end = 0;
        let wait = POLL_PHASES
            .iter()
            .find(|(count, _)| {
                phase_end += count;
                self.polls < phase_end
            })
            .map_or(LAST_POLL_WAIT, |(_, wait)| *wait);
        self.polls = self.polls.saturating_add(1);
        jitter.spread(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(details: serde_json::Value) -> PairingRequired {
        PairingRequired::of(&GatewayError {
            details,
            ..GatewayError::default()
        })
    }

    #[test]
    fn the_operator_is_told_the_exact_command() {
        let pending =
            required(serde_json::json!({"reason": "not-paired", "requestId": "97f1-a.b:c"}));
        assert_eq!(
            pending.to_string(),
            "device pairing required (requestId: 97f1-a.b:c)"
        );
        assert_eq!(
            pending.approval_command(),
            "openclaw devices approve 97f1-a.b:c"
        );
    }

    #[test]
    fn an_id_that_could_carry_shell_text_is_not_printed() {
        for id in ["x; rm -rf ~", "$(id)", "-f", "", "a\nb", &"a".repeat(129)] {
            let pending = required(serde_json::json!({"requestId": id}));
            assert_eq!(pending.request_id, None, "{id}");
            assert_eq!(pending.approval_command(), "openclaw devices list");
        }
        assert!(RequestId::parse(&"a".repeat(128)).is_some());
    }

    #[test]
    fn each_reason_has_upstreams_words() {
        for (reason, words) in [
            ("role-upgrade", "role upgrade pending approval"),
            ("scope-upgrade", "scope upgrade pending approval"),
            (
                "metadata-upgrade",
                "device metadata change pending approval",
            ),
            ("something-new", "device pairing required"),
        ] {
            assert_eq!(
                required(serde_json::json!({"reason": reason})).to_string(),
                words
            );
        }
    }

    #[test]
    fn polling_slows_down_over_twelve_minutes() {
        let mut schedule = PollSchedule::default();
        let waits: Vec<u64> = (0..70)
            .map(|_| schedule.next_wait(Jitter::NONE).as_secs())
            .collect();
        assert_eq!(waits[..2], [1, 2]);
        assert!(waits[2..26].iter().all(|wait| *wait == 5));
        assert!(waits[26..66].iter().all(|wait| *wait == 15));
        assert!(waits[66..].iter().all(|wait| *wait == 60));
    }
}
