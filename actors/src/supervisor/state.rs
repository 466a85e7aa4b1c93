//! What the node is doing, and how that is told: to the service manager in a line, to `status` in
//! full.

use std::time::Duration;

use protocol::close::Close;

use crate::clock;
use crate::pairing::OperatorTask;
use crate::status::{
    GatewayStatus, LastClose, LastExit, LastFailure, NodeState, NodeStatus, PendingApproval,
};

/// The longest text of a failure that is kept, in bytes.
const FAILURE_LIMIT_BYTES: usize = 512;

/// What the node is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Waiting before the very first attempt (D19).
    HeldBack { wait: Duration },
    /// An attempt is under way, or the wait before the next.
    Connecting,
    /// The gateway asked for a wait, because too many attempts failed.
    RateLimited { wait: Duration },
    /// In service.
    Connected {
        gateway_version: String,
        surface: SurfaceState,
    },
    /// The gateway waits for an operator to let this node in.
    AwaitingPairing { task: OperatorTask },
    /// On the way out.
    Stopping,
}

/// What is known of the command surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SurfaceState {
    /// The gateway has not shown it.
    Unknown,
    /// Invokes come through.
    Approved,
    /// An operator has to approve it.
    Pending(PendingApproval),
}

impl State {
    /// What a service manager shows.
    pub(crate) fn status_line(&self, url: &str) -> String {
        if let Some(reason) = self.pause_reason() {
            return format!("paused because {reason}");
        }
        match self {
            Self::HeldBack { .. } | Self::RateLimited { .. } | Self::Connecting => {
                format!("connecting to {url}")
            }
            Self::Connected {
                gateway_version,
                surface,
            } => match surface {
                SurfaceState::Pending(pending) => format!(
                    "connected to {url} ({gateway_version}), waiting for approval of {}",
                    request(pending)
                ),
                SurfaceState::Unknown | SurfaceState::Approved => {
                    format!("connected to {url} ({gateway_version})")
                }
            },
            Self::AwaitingPairing { task } => {
                format!(
                    "waiting for approval of {}",
                    request(&pending_approval(task))
                )
            }
            Self::Stopping => "stopping".to_owned(),
        }
    }

    /// The state as `status` names it.
    const fn name(&self) -> NodeState {
        match self {
            Self::Connecting => NodeState::Connecting,
            Self::Connected {
                surface: SurfaceState::Pending(_),
                ..
            } => NodeState::AwaitingSurface,
            Self::Connected { .. } => NodeState::Connected,
            Self::AwaitingPairing {
                task: OperatorTask::ApproveDevice(_),
            } => NodeState::AwaitingPairing,
            Self::AwaitingPairing {
                task: OperatorTask::WidenScopes,
            }
            | Self::HeldBack { .. }
            | Self::RateLimited { .. } => NodeState::Paused,
            Self::Stopping => NodeState::Stopped,
        }
    }

    fn pending(&self) -> Option<PendingApproval> {
        match self {
            Self::Connected {
                surface: SurfaceState::Pending(pending),
                ..
            } => Some(pending.clone()),
            Self::AwaitingPairing { task } => Some(pending_approval(task)),
            _ => None,
        }
    }

    fn pause_reason(&self) -> Option<String> {
        match self {
            Self::HeldBack { wait } => Some(format!(
                "the gateway refused this credential last time; waiting {} before connecting",
                humantime::format_duration(*wait)
            )),
            Self::RateLimited { wait } => Some(format!(
                "the gateway limits attempts; waiting {}",
                humantime::format_duration(Duration::from_secs(wait.as_secs()))
            )),
            Self::AwaitingPairing {
                task: OperatorTask::WidenScopes,
            } => Some(
                "the device token covers too few scopes; on the gateway run: openclaw devices list"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// What to type, and for which request.
fn pending_approval(task: &OperatorTask) -> PendingApproval {
    match task {
        OperatorTask::ApproveDevice(pending) => PendingApproval {
            request_id: pending.request_id.as_ref().map(|id| id.as_str().to_owned()),
            command: pending.approval_command(),
        },
        OperatorTask::WidenScopes => PendingApproval {
            request_id: None,
            command: "openclaw devices list".to_owned(),
        },
    }
}

fn request(pending: &PendingApproval) -> String {
    let PendingApproval {
        request_id,
        command,
    } = pending;
    match request_id {
        Some(id) => format!("{id}; on the gateway run: {command}"),
        None => format!("this node; on the gateway run: {command}"),
    }
}

/// The node's state over time: since when, what failed last, what comes next.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    state: State,
    since_ms: u64,
    last_close: Option<LastClose>,
    last_failure: Option<LastFailure>,
    /// When the next attempt starts by itself.
    next_retry_ms: Option<u64>,
    last_exit: Option<LastExit>,
}

impl Lifecycle {
    pub(crate) fn new(last_exit: Option<LastExit>) -> Self {
        Self {
            state: State::Connecting,
            since_ms: clock::unix_ms(),
            last_close: None,
            last_failure: None,
            next_retry_ms: None,
            last_exit,
        }
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state == State::Stopping
    }

    /// Enters a state; how long the node is in it counts from the change of its name.
    pub(crate) fn enter(&mut self, state: State) {
        if self.state.name() != state.name() {
            self.since_ms = clock::unix_ms();
        }
        self.next_retry_ms = None;
        self.state = state;
    }

    /// The next attempt starts after a wait.
    pub(crate) fn retry_after(&mut self, wait: Duration) {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        self.next_retry_ms = Some(clock::unix_ms().saturating_add(wait_ms));
    }

    /// The next attempt has started.
    pub(crate) const fn retrying(&mut self) {
        self.next_retry_ms = None;
    }

    /// Remembers how a connection, or the attempt to make one, ended.
    pub(crate) fn note_end(&mut self, close: Option<&Close>, message: &str) {
        let at = clock::unix_ms();
        if let Some(close) = close {
            self.last_close = Some(LastClose {
                code: close.code.into(),
                reason: close.reason.clone(),
                at,
            });
        }
        self.last_failure = Some(LastFailure {
            message: shortened(message).to_owned(),
            at,
        });
    }

    /// Everything that `status` shows, but what others know: running commands.
    pub(crate) fn status(
        &self,
        url: String,
        generation: u64,
        credential_source: Option<String>,
    ) -> NodeStatus {
        let version = match &self.state {
            State::Connected {
                gateway_version, ..
            } => Some(gateway_version.clone()),
            _ => None,
        };
        NodeStatus {
            state: Some(self.state.name()),
            gateway: GatewayStatus {
                url: Some(url),
                version,
            },
            since: Some(self.since_ms),
            generation: Some(generation),
            last_close: self.last_close.clone(),
            last_failure: self.last_failure.clone(),
            next_retry_at: self.next_retry_ms,
            pending: self.state.pending(),
            running: None,
            queued: None,
            credential_source,
            last_exit: self.last_exit.clone(),
            pid: Some(std::process::id()),
            reason: self.state.pause_reason(),
        }
    }
}

fn shortened(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(FAILURE_LIMIT_BYTES))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use protocol::close::CloseCode;
    use protocol::pairing::{PairingReason, PairingRequired, RequestId};

    use super::*;

    const URL: &str = "ws://gateway:18789";

    fn connected(surface: SurfaceState) -> State {
        State::Connected {
            gateway_version: "2026.9.6".to_owned(),
            surface,
        }
    }

    fn surface_pending() -> State {
        connected(SurfaceState::Pending(PendingApproval {
            request_id: Some("r-1".to_owned()),
            command: "openclaw nodes approve r-1".to_owned(),
        }))
    }

    fn pairing(id: Option<&str>) -> State {
        State::AwaitingPairing {
            task: OperatorTask::ApproveDevice(PairingRequired {
                request_id: id.and_then(RequestId::parse),
                reason: PairingReason::NotPaired,
            }),
        }
    }

    #[test]
    fn every_state_has_its_line_and_its_name() {
        let wait = Duration::from_secs(10);
        let table = [
            (
                State::Connecting,
                NodeState::Connecting,
                "connecting to ws://gateway:18789",
            ),
            (
                State::HeldBack { wait },
                NodeState::Paused,
                "paused because the gateway refused this credential last time; waiting 10s before connecting",
            ),
            (
                State::RateLimited { wait },
                NodeState::Paused,
                "paused because the gateway limits attempts; waiting 10s",
            ),
            (
                connected(SurfaceState::Unknown),
                NodeState::Connected,
                "connected to ws://gateway:18789 (2026.9.6)",
            ),
            (
                surface_pending(),
                NodeState::AwaitingSurface,
                "connected to ws://gateway:18789 (2026.9.6), waiting for approval of r-1; on the gateway run: openclaw nodes approve r-1",
            ),
            (
                pairing(Some("p-1")),
                NodeState::AwaitingPairing,
                "waiting for approval of p-1; on the gateway run: openclaw devices approve p-1",
            ),
            (
                pairing(None),
                NodeState::AwaitingPairing,
                "waiting for approval of this node; on the gateway run: openclaw devices list",
            ),
            (
                State::AwaitingPairing {
                    task: OperatorTask::WidenScopes,
                },
                NodeState::Paused,
                "paused because the device token covers too few scopes; on the gateway run: openclaw devices list",
            ),
            (State::Stopping, NodeState::Stopped, "stopping"),
        ];
        for (state, name, line) in table {
            assert_eq!(state.name(), name, "{state:?}");
            assert_eq!(state.status_line(URL), line, "{state:?}");
        }
    }

    #[test]
    fn the_status_has_the_members_that_scripts_hold_on_to() {
        let mut lifecycle = Lifecycle::new(None);
        lifecycle.note_end(
            Some(&Close::new(CloseCode::ServiceRestart, "bye")),
            "closed",
        );
        lifecycle.enter(surface_pending());
        let status = lifecycle.status(URL.to_owned(), 3, Some("env".to_owned()));
        let mut value = serde_json::to_value(&status).unwrap();
        let at = value.pointer("/lastClose/at").cloned().unwrap();
        assert_eq!(
            value["lastClose"],
            serde_json::json!({ "code": 1012, "reason": "bye", "at": at })
        );
        assert_eq!(value["state"], "awaiting-surface");
        assert_eq!(
            value["pending"],
            serde_json::json!({ "requestId": "r-1", "command": "openclaw nodes approve r-1" })
        );
        let members = value.as_object_mut().unwrap();
        for absent in ["nextRetryAt", "running", "queued", "lastExit", "reason"] {
            assert_eq!(
                members.get(absent),
                Some(&serde_json::Value::Null),
                "{absent}"
            );
        }
        assert_eq!(members["gateway"]["version"], "2026.9.6");
        assert_eq!(members["generation"], 3);
        assert_eq!(members["credentialSource"], "env");
    }

    #[test]
    fn a_state_counts_from_the_change_of_its_name() {
        let mut lifecycle = Lifecycle::new(None);
        lifecycle.since_ms = 5;
        lifecycle.retry_after(Duration::from_secs(1));
        assert!(lifecycle.next_retry_ms.is_some());
        lifecycle.enter(State::Connecting);
        assert_eq!((lifecycle.since_ms, lifecycle.next_retry_ms), (5, None));
        lifecycle.enter(connected(SurfaceState::Unknown));
        let since = std::mem::replace(&mut lifecycle.since_ms, 7);
        assert!(since > 5);
        lifecycle.enter(connected(SurfaceState::Approved));
        assert_eq!(lifecycle.since_ms, 7, "approval is no new connection");
    }
}
