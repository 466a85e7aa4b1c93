//! What a running node tells about itself: the `node` member of `status --json` (interfaces).

use serde::{Deserialize, Serialize};

/// A node as it is at this moment. Times are unix milliseconds; what does not apply is `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// What it is doing; `null` when it does not answer.
    pub state: Option<NodeState>,
    /// Whom it talks to.
    pub gateway: GatewayStatus,
    /// When it began to do that.
    pub since: Option<u64>,
    /// Which attempt to connect this is, counted from 1 for each start of the node.
    pub generation: Option<u64>,
    /// How the last WebSocket was closed.
    pub last_close: Option<LastClose>,
    /// Why the last attempt or connection failed, in words.
    pub last_failure: Option<LastFailure>,
    /// When it will try again.
    pub next_retry_at: Option<u64>,
    /// What an operator has to approve on the gateway.
    pub pending: Option<PendingApproval>,
    /// Commands that run; `null` when that cannot be told in time.
    pub running: Option<usize>,
    /// Commands that wait for their turn.
    pub queued: Option<usize>,
    /// Where the credential came from that the latest attempt presented.
    pub credential_source: Option<String>,
    /// How the node last ended.
    pub last_exit: Option<LastExit>,
    /// The process.
    pub pid: Option<u32>,
    /// Why the state is what it is, where that needs words: why it is paused or does not answer.
    pub reason: Option<String>,
}

impl NodeStatus {
    /// A node that does not run, and of which nothing is known.
    #[must_use]
    pub fn stopped() -> Self {
        Self {
            state: Some(NodeState::Stopped),
            gateway: GatewayStatus::default(),
            since: None,
            generation: None,
            last_close: None,
            last_failure: None,
            next_retry_at: None,
            pending: None,
            running: None,
            queued: None,
            credential_source: None,
            last_exit: None,
            pid: None,
            reason: None,
        }
    }
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// An attempt is under way, or the wait before the next.
    Connecting,
    /// In service.
    Connected,
    /// The gateway lets it in only once an operator has approved the device.
    AwaitingPairing,
    /// Connected, but an operator has to approve its commands first.
    AwaitingSurface,
    /// Not trying, for the reason given.
    Paused,
    /// On the way out, or not running.
    Stopped,
}

/// The gateway of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Its URL.
    pub url: Option<String>,
    /// Its release, while connected.
    pub version: Option<String>,
}

/// A close frame, or the loss of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastClose {
    /// The close code; 1006 where there was no frame.
    pub code: u16,
    /// The reason that the gateway gave.
    pub reason: String,
    /// When.
    pub at: u64,
}

/// What went wrong last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// In words.
    pub message: String,
    /// When.
    pub at: u64,
}

/// What an operator has to do on the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingApproval {
    /// The gateway's id of the request, where it told one.
    pub request_id: Option<String>,
    /// The command to type.
    pub command: String,
}

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastExit {
    /// The exit code; `null` when it ended without a word.
    pub code: Option<u8>,
    /// Why.
    pub reason: String,
    /// When; the last sign of life when it ended without a word.
    pub at: u64,
}

impl From<state::LastExit> for LastExit {
    fn from(exit: state::LastExit) -> Self {
        Self {
            code: exit.code,
            reason: exit.reason,
            at: exit.at_ms,
        }
    }
}
