//! What happens after a connection ended: a pure state machine (§9, §13, §14, D12).
//!
//! It knows no clock and no randomness: how long a connection was healthy and how to spread a
//! wait come in as values, so that every path can be tested without waiting.

use std::time::Duration;

use crate::close::{Close, CloseCode};
use crate::connect::ProtocolVersion;
use crate::failure::{ConnectFailure, FailureClass};
use crate::pairing::PairingRequired;

/// First wait after a failure (§14).
pub const BACKOFF_INITIAL: Duration = Duration::from_secs(1);
/// Longest wait between attempts (§14).
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a connection must have lived before its end starts the backoff anew (§14, D12).
pub const HEALTHY_AFTER: Duration = Duration::from_secs(30);
/// Wait before the one retry with the stored device token, or with protocol 3 (§7.3, §14).
pub const ONE_SHOT_RETRY_WAIT: Duration = Duration::from_millis(250);
/// Wait while a gateway starts, when it names none, and the bounds for the one it names (§9).
const STARTING_WAIT: Duration = Duration::from_millis(500);
const STARTING_WAIT_BOUNDS: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(2));
/// Wait after a rate limit that names none: the gateways' lock-out (§9, D12).
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(300);
/// Longest wait that a gateway can impose, so that a wrong number cannot park a node.
const IMPOSED_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Wait before asking a gateway again that speaks no version of ours (§9).
const PROTOCOL_MISMATCH_WAIT: Duration = Duration::from_secs(300);
/// Share of a wait by which jitter moves it, either way (§14).
const JITTER_SHARE: f64 = 0.2;

/// Wait before presenting a credential again that was terminally refused, by how often in a row;
/// the last one holds from then on (D19).
const HOLD_BACK: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(60),
];

/// How long a fresh process holds back a credential that has failed terminally `failures` times in
/// a row, so that a service manager's restarts do not hammer the gateway (D19).
#[must_use]
pub fn hold_back(failures: u32) -> Duration {
    let [first, .., last] = HOLD_BACK;
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    if failures == 0 {
        first
    } else {
        HOLD_BACK.get(index).copied().unwrap_or(last)
    }
}

/// Where within ±20 % a wait falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No spread at all.
    pub const NONE: Self = Self(0.0);

    /// From a uniformly random byte pair.
    #[must_use]
    pub fn from_random(random: u16) -> Self {
        Self(f64::from(random) / f64::from(u16::MAX) * 2.0 - 1.0)
    }

    /// Moves a wait by its share.
    #[must_use]
    pub fn spread(self, wait: Duration) -> Duration {
        wait.mul_f64(1.0 + JITTER_SHARE * self.0)
    }

    /// Lengthens a wait by up to its share; for waits that a gateway asked for as a minimum.
    #[must_use]
    pub fn lengthen(self, wait: Duration) -> Duration {
        wait.mul_f64(1.0 + JITTER_SHARE * (self.0 + 1.0) / 2.0)
    }
}

/// How a connection, or the attempt to make one, ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// No WebSocket came to be: no address, refused, TLS, HTTP status, or a deadline before it.
    Unreachable,
    /// The gateway refused the connect request.
    Refused(ConnectFailure),
    /// The connection was closed or lost, before or after hello.
    Closed {
        /// How.
        close: Close,
        /// Time since hello-ok; `None` when there was none.
        connected_for: Option<Duration>,
    },
}

/// What the decision depends on besides how it ended.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// Whether the ended attempt carried the stored device token.
    pub device_token_sent: bool,
    /// Whether a device token is stored for this endpoint.
    pub device_token_stored: bool,
    /// Whether a shared token is configured.
    pub token_configured: bool,
    /// Whether anything but the device token is configured.
    pub other_credential_configured: bool,
    /// Whether the endpoint is loopback, or wss with a pinned fingerprint (§7.3).
    pub endpoint_trusted: bool,
}

/// How the next attempt differs from an ordinary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attempt {
    /// Send the stored device token beside the shared token (§7.3).
    pub add_device_token: bool,
    /// The protocol version to offer.
    pub protocol: ProtocolVersion,
}

/// What the supervisor does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Make a fresh connection after a wait.
    Reconnect {
        /// The wait, jitter included.
        after: Duration,
    },
    /// Stay up, tell the operator, and look again on the schedule of [`crate::pairing`].
    AwaitPairing(PairingRequired),
    /// As pairing, but the gateway named no request: an operator has to widen the scopes.
    AwaitScope,
    /// A terminal auth pause: exit non-zero.
    Exit,
}

/// The decision, with its side effect on the stored device token.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do next.
    pub next: Next,
    /// Whether to forget the device token that was sent, if it is still the stored one (§7.5).
    pub clear_device_token: bool,
}

impl From<Next> for Decision {
    fn from(next: Next) -> Self {
        Self {
            next,
            clear_device_token: false,
        }
    }
}

/// The reconnect policy. One per process; it survives the connections that it decides about.
#[derive(Debug, Default)]
pub struct Reconnect {
    /// Failures in a row since the backoff was last reset.
    failures: u32,
    /// Whether the one retry with the device token was used since the last hello (§7.3).
    device_token_retry_spent: bool,
    /// Whether protocol 3 was offered since the last hello.
    protocol_three_tried: bool,
    /// The attempt that is to be made next.
    attempt: Attempt,
}

impl Reconnect {
    /// How the next attempt differs from an ordinary one.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// A hello-ok arrived: the one-shot retries are available again.
    pub fn connected(&mut self) {
        self.device_token_retry_spent = false;
        self.protocol_three_tried = false;
    }

    /// Decides what follows the end of a connection.
    pub fn ended(&mut self, ended: &Ended, situation: Situation, jitter: Jitter) -> Decision {
        let ended_attempt = std::mem::take(&mut self.attempt);
        match ended {
            Ended::Unreachable => self.back_off(None, jitter).into(),
            Ended::Refused(failure) => self.refused(failure, ended_attempt, situation, jitter),
            Ended::Closed {
                close,
                connected_for,
            } => {
                if connected_for.is_some_and(|lived| lived >= HEALTHY_AFTER) {
                    self.failures = 0;
                }
                if connected_for.is_none() && is_dead_device_token(close, situation) {
                    return Self::device_token_dead(situation);
                }
                self.back_off(None, jitter).into()
            }
        }
    }

    fn refused(
        &mut self,
        failure: &ConnectFailure,
        ended_attempt: Attempt,
        situation: Situation,
        jitter: Jitter,
    ) -> Decision {
        let imposed = failure
            .error
            .retry_after_ms
            .filter(|millis| *millis > 0)
            .map(|millis| Duration::from_millis(millis).min(IMPOSED_WAIT_MAX));
        if failure.is_gateway_starting() {
            let (shortest, longest) = STARTING_WAIT_BOUNDS;
            let after = imposed.unwrap_or(STARTING_WAIT).clamp(shortest, longest);
            self.attempt = ended_attempt;
            return Next::Reconnect { after }.into();
        }
        match failure.class() {
            FailureClass::Pairing => Next::AwaitPairing(PairingRequired::of(&failure.error)).into(),
            FailureClass::Scope => Next::AwaitScope.into(),
            FailureClass::RateLimited => {
                let after = jitter.lengthen(imposed.unwrap_or(RATE_LIMIT_WAIT));
                Next::Reconnect { after }.into()
            }
            FailureClass::ProtocolMismatch => self.protocol_mismatch(failure, jitter),
            FailureClass::DeviceTokenMismatch if situation.device_token_sent => {
                Self::device_token_dead(situation)
            }
            FailureClass::DeviceTokenMismatch => Next::Exit.into(),
            FailureClass::Terminal | FailureClass::TokenMismatch | FailureClass::Retry
                if self.may_add_device_token(failure, situation) =>
            {
                self.device_token_retry_spent = true;
                self.attempt = Attempt {
                    add_device_token: true,
                    ..Attempt::default()
                };
                Next::Reconnect {
                    after: ONE_SHOT_RETRY_WAIT,
                }
                .into()
            }
            FailureClass::Terminal | FailureClass::TokenMismatch => Next::Exit.into(),
            FailureClass::Retry => {
                let minimum = imposed.filter(|_| failure.error.retryable == Some(true));
                self.back_off(minimum, jitter).into()
            }
        }
    }

    fn may_add_device_token(&self, failure: &ConnectFailure, situation: Situation) -> bool {
        !self.device_token_retry_spent
            && situation.token_configured
            && situation.device_token_stored
            && !situation.device_token_sent
            && situation.endpoint_trusted
            && failure.suggests_device_token()
    }

    fn device_token_dead(situation: Situation) -> Decision {
        let next = if situation.other_credential_configured {
            Next::Reconnect {
                after: Duration::ZERO,
            }
        } else {
            Next::Exit
        };
        Decision {
            next,
            clear_device_token: true,
        }
    }

    fn protocol_mismatch(&mut self, failure: &ConnectFailure, jitter: Jitter) -> Decision {
        let expects_three = failure
            .error
            .details
            .get("expectedProtocol")
            .and_then(serde_json::Value::as_u64)
            == Some(3);
        if expects_three && !self.protocol_three_tried {
            self.protocol_three_tried = true;
            self.attempt = Attempt {
                protocol: ProtocolVersion::Three,
                ..Attempt::default()
            };
            return Next::Reconnect {
                after: ONE_SHOT_RETRY_WAIT,
            }
            .into();
        }
        Next::Reconnect {
            after: jitter.spread(PROTOCOL_MISMATCH_WAIT),
        }
        .into()
    }

    fn back_off(&mut self, minimum: Option<Duration>, jitter: Jitter) -> Next {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let wait = BACKOFF_INITIAL.saturating_mul(factor).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        let wait = jitter.spread(wait);
        let after = minimum.map_or(wait, |minimum| wait.max(jitter.lengthen(minimum)));
        Next::Reconnect { after }
    }
}

/// A close that says by its reason alone that the stored device token is dead (§7.5).
fn is_dead_device_token(close: &Close, situation: Situation) -> bool {
    close.code == CloseCode::PolicyViolation
        && situation.device_token_sent
        && close
            .reason
            .to_ascii_lowercase()
            .contains("device token mismatch")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::GatewayError;

    const PLAIN: Situation = Situation {
        device_token_sent: false,
        device_token_stored: false,
        token_configured: true,
        other_credential_configured: true,
        endpoint_trusted: true,
    };

    fn refused(details: serde_json::Value) -> Ended {
        Ended::Refused(ConnectFailure::from(GatewayError {
            code: "INVALID_REQUEST".to_owned(),
            details,
            ..GatewayError::default()
        }))
    }

    fn code(code: &str) -> Ended {
        refused(serde_json::json!({ "code": code }))
    }

    fn closed(close_code: u16, connected_for: Option<u64>) -> Ended {
        Ended::Closed {
            close: Close::new(close_code, ""),
            connected_for: connected_for.map(Duration::from_secs),
        }
    }

    fn wait_of(decision: Decision) -> Duration {
        match decision.next {
            Next::Reconnect { after } => after,
            other => panic!("expected a reconnect, got {other:?}"),
        }
    }

    fn step(policy: &mut Reconnect, ended: &Ended) -> Decision {
        policy.ended(ended, PLAIN, Jitter::NONE)
    }

    #[test]
    fn backoff_doubles_from_one_second_to_thirty() {
        let mut policy = Reconnect::default();
        let waits: Vec<u64> = (0..40)
            .map(|_| wait_of(step(&mut policy, &Ended::Unreachable)).as_secs())
            .collect();
        assert_eq!(waits[..6], [1, 2, 4, 8, 16, 30]);
        assert!(waits[6..].iter().all(|wait| *wait == 30));
    }

    #[test]
    fn only_thirty_seconds_of_health_reset_the_backoff() {
        for (connected_for, expected) in [(None, 8), (Some(29), 8), (Some(30), 1)] {
            let mut policy = Reconnect::default();
            for _ in 0..3 {
                step(&mut policy, &Ended::Unreachable);
            }
            policy.connected();
            assert_eq!(
                wait_of(step(&mut policy, &closed(1012, connected_for))).as_secs(),
                expected
            );
        }
    }

    #[test]
    fn a_refused_credential_is_held_back_longer_each_time_up_to_a_minute() {
        let waits = [1, 2, 3, 4, 5, u32::MAX].map(|failures| hold_back(failures).as_secs());
        assert_eq!(waits, [10, 20, 40, 60, 60, 60]);
    }

    #[test]
    fn a_service_manager_that_restarts_at_once_tries_a_refused_credential_at_most_4_times_a_minute()
    {
        let attempts: Vec<u64> = (1..20)
            .scan(0, |at, failures| {
                let this = *at;
                *at += hold_back(failures).as_secs();
                Some(this)
            })
            .collect();
        for start in &attempts {
            let minute = *start..*start + 60;
            let within = attempts.iter().filter(|at| minute.contains(at));
            assert!(within.count() <= 4, "from second {start} on");
        }
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for random in [0, 1, 1000, u16::MAX / 2, u16::MAX] {
            let mut policy = Reconnect::default();
            let after =
                wait_of(policy.ended(&Ended::Unreachable, PLAIN, Jitter::from_random(random)));
            assert!(
                (800..=1200).contains(&after.as_millis()),
                "{random}: {after:?}"
            );
        }
        let spread = |random| Jitter::from_random(random).spread(Duration::from_secs(10));
        assert_eq!(spread(0).as_secs_f64(), 8.0);
        assert_eq!(spread(u16::MAX).as_secs_f64(), 12.0);
        let lengthen = |random| Jitter::from_random(random).lengthen(Duration::from_secs(10));
        assert_eq!(lengthen(0).as_secs_f64(), 10.0);
        assert_eq!(lengthen(u16::MAX).as_secs_f64(), 12.0);
    }

    #[test]
    fn every_way_to_lose_a_connection_makes_a_fresh_one() {
        for close_code in [
            1000, 1001, 1005, 1006, 1008, 1009, 1011, 1012, 1013, 4000, 4001,
        ] {
            for connected_for in [None, Some(0), Some(3600)] {
                let decision = step(
                    &mut Reconnect::default(),
                    &closed(close_code, connected_for),
                );
                assert_eq!(wait_of(decision), BACKOFF_INITIAL);
            }
        }
    }

    #[test]
    fn terminal_refusals_exit() {
        for name in [
            "AUTH_TOKEN_MISSING",
            "AUTH_PASSWORD_MISMATCH",
            "DEVICE_IDENTITY_REQUIRED",
        ] {
            let decision = step(&mut Reconnect::default(), &code(name));
            assert_eq!(decision, Decision::from(Next::Exit));
        }
    }

    #[test]
    fn a_wrong_token_gets_one_try_with_the_device_token() {
        let stored = Situation {
            device_token_stored: true,
            ..PLAIN
        };
        let mut policy = Reconnect::default();
        let mismatch = code("AUTH_TOKEN_MISMATCH");
        let decision = policy.ended(&mismatch, stored, Jitter::NONE);
        assert_eq!(wait_of(decision), ONE_SHOT_RETRY_WAIT);
        assert!(policy.attempt().add_device_token);

        let sent = Situation {
            device_token_sent: true,
            ..stored
        };
        assert_eq!(policy.ended(&mismatch, sent, Jitter::NONE).next, Next::Exit);
        assert!(!policy.attempt().add_device_token);

        policy.connected();
        let decision = policy.ended(&mismatch, stored, Jitter::NONE);
        assert_eq!(
            wait_of(decision),
            ONE_SHOT_RETRY_WAIT,
            "hello gives the retry back"
        );
    }

    #[test]
    fn the_device_token_is_not_added_where_it_could_leak_or_cannot_help() {
        for situation in [
            Situation {
                device_token_stored: false,
                ..PLAIN
            },
            Situation {
                device_token_stored: true,
                endpoint_trusted: false,
                ..PLAIN
            },
            Situation {
                device_token_stored: true,
                token_configured: false,
                ..PLAIN
            },
        ] {
            let mut policy = Reconnect::default();
            let decision = policy.ended(&code("AUTH_TOKEN_MISMATCH"), situation, Jitter::NONE);
            assert_eq!(decision.next, Next::Exit, "{situation:?}");
        }
    }

    #[test]
    fn a_hint_of_the_gateway_is_enough_for_the_device_token_retry() {
        let stored = Situation {
            device_token_stored: true,
            ..PLAIN
        };
        for details in [
            serde_json::json!({"code": "AUTH_PASSWORD_MISMATCH", "canRetryWithDeviceToken": true}),
            serde_json::json!({"code": "AUTH_REQUIRED", "recommendedNextStep": "retry_with_device_token"}),
        ] {
            let mut policy = Reconnect::default();
            assert_eq!(
                wait_of(policy.ended(&refused(details), stored, Jitter::NONE)),
                ONE_SHOT_RETRY_WAIT
            );
        }
    }

    #[test]
    fn a_dead_device_token_is_cleared_and_another_credential_used_at_once() {
        let sent = Situation {
            device_token_sent: true,
            device_token_stored: true,
            token_configured: false,
            ..PLAIN
        };
        let mismatch = code("AUTH_DEVICE_TOKEN_MISMATCH");
        let decision = Reconnect::default().ended(&mismatch, sent, Jitter::NONE);
        assert!(decision.clear_device_token);
        assert_eq!(wait_of(decision), Duration::ZERO);

        let alone = Situation {
            other_credential_configured: false,
            ..sent
        };
        let decision = Reconnect::default().ended(&mismatch, alone, Jitter::NONE);
        assert_eq!(
            decision,
            Decision {
                next: Next::Exit,
                clear_device_token: true
            }
        );

        let by_reason = Ended::Closed {
            close: Close::new(1008, "unauthorized: Device Token Mismatch (rotate)"),
            connected_for: None,
        };
        let decision = Reconnect::default().ended(&by_reason, alone, Jitter::NONE);
        assert_eq!(
            decision,
            Decision {
                next: Next::Exit,
                clear_device_token: true
            }
        );
    }

    #[test]
    fn pairing_waits_for_an_operator_and_scope_does_too() {
        let pairing = refused(serde_json::json!({"code": "PAIRING_REQUIRED", "requestId": "r1"}));
        let Next::AwaitPairing(pending) = step(&mut Reconnect::default(), &pairing).next else {
            panic!("not a pairing pause");
        };
        assert_eq!(pending.request_id.unwrap().as_str(), "r1");
        let scope = step(&mut Reconnect::default(), &code("AUTH_SCOPE_MISMATCH"));
        assert_eq!(scope.next, Next::AwaitScope);
    }

    #[test]
    fn a_rate_limit_waits_as_long_as_the_gateway_says() {
        let limited = |retry_after_ms| {
            Ended::Refused(ConnectFailure::from(GatewayError {
                retry_after_ms,
                details: serde_json::json!({"code": "AUTH_RATE_LIMITED"}),
                ..GatewayError::default()
            }))
        };
        let wait =
            |retry_after_ms| wait_of(step(&mut Reconnect::default(), &limited(retry_after_ms)));
        assert!(wait(Some(59_949)) >= Duration::from_millis(59_949));
        assert!(wait(None) >= Duration::from_secs(300));
        assert!(wait(Some(u64::MAX)) <= Duration::from_secs(4320));
    }

    #[test]
    fn a_starting_gateway_does_not_consume_backoff() {
        let starting = |retry_after_ms| {
            Ended::Refused(ConnectFailure::from(GatewayError {
                code: "UNAVAILABLE".to_owned(),
                retry_after_ms,
                details: serde_json::json!({"reason": "startup-sidecars"}),
                ..GatewayError::default()
            }))
        };
        let mut policy = Reconnect::default();
        for (retry_after_ms, expected) in [
            (None, 500),
            (Some(500), 500),
            (Some(1), 100),
            (Some(60_000), 2000),
        ] {
            let wait = wait_of(step(&mut policy, &starting(retry_after_ms)));
            assert_eq!(wait.as_millis(), expected);
        }
        assert_eq!(
            wait_of(step(&mut policy, &Ended::Unreachable)),
            BACKOFF_INITIAL
        );
    }

    #[test]
    fn retry_after_is_a_minimum_for_retryable_refusals() {
        let unavailable = Ended::Refused(ConnectFailure::from(GatewayError {
            code: "UNAVAILABLE".to_owned(),
            retryable: Some(true),
            retry_after_ms: Some(10_000),
            ..GatewayError::default()
        }));
        assert!(wait_of(step(&mut Reconnect::default(), &unavailable)) >= Duration::from_secs(10));
    }

    #[test]
    fn another_protocol_version_is_tried_once_then_slowly() {
        let expects = |version: u64| {
            refused(serde_json::json!({"code": "PROTOCOL_MISMATCH", "expectedProtocol": version}))
        };
        let mut policy = Reconnect::default();
        assert_eq!(wait_of(step(&mut policy, &expects(3))), ONE_SHOT_RETRY_WAIT);
        assert_eq!(policy.attempt().protocol, ProtocolVersion::Three);
        assert_eq!(
            wait_of(step(&mut policy, &expects(3))),
            PROTOCOL_MISMATCH_WAIT
        );
        assert_eq!(policy.attempt().protocol, ProtocolVersion::Four);
        assert_eq!(
            wait_of(step(&mut Reconnect::default(), &expects(5))),
            PROTOCOL_MISMATCH_WAIT
        );
    }
}
