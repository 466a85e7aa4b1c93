//! How a WebSocket connection was closed (§13).

use std::fmt;

/// A close code, as far as a node tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: done; before hello also a gateway that gave up on the handshake.
    Normal,
    /// 1002: no common protocol version, or a broken frame.
    ProtocolError,
    /// 1005: a close frame without a code.
    NoStatus,
    /// 1006: the connection ended without a close frame.
    Abnormal,
    /// 1008: refused by policy: authentication, pairing, a slow consumer, unauthorised calls.
    PolicyViolation,
    /// 1009: a frame of ours was too large.
    TooBig,
    /// 1011: the gateway failed inside.
    InternalError,
    /// 1012: the gateway restarts, or its capabilities changed.
    ServiceRestart,
    /// 1013: the gateway is not ready yet.
    TryAgainLater,
    /// 4000: this node gave up on the gateway: no tick, or no answer to connect.
    ClientTimeout,
    /// 4001: the device was removed, its token rotated or revoked, or the gateway's auth changed.
    Invalidated,
    /// Any other.
    Other(u16),
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        match code {
            1000 => Self::Normal,
            1002 => Self::ProtocolError,
            1005 => Self::NoStatus,
            1006 => Self::Abnormal,
            1008 => Self::PolicyViolation,
            1009 => Self::TooBig,
            1011 => Self::InternalError,
            1012 => Self::ServiceRestart,
            1013 => Self::TryAgainLater,
            4000 => Self::ClientTimeout,
            4001 => Self::Invalidated,
            other => Self::Other(other),
        }
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::Normal => 1000,
            CloseCode::ProtocolError => 1002,
            CloseCode::NoStatus => 1005,
            CloseCode::Abnormal => 1006,
            CloseCode::PolicyViolation => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::InternalError => 1011,
            CloseCode::ServiceRestart => 1012,
            CloseCode::TryAgainLater => 1013,
            CloseCode::ClientTimeout => 4000,
            CloseCode::Invalidated => 4001,
            CloseCode::Other(code) => code,
        }
    }
}

/// A close code with the reason that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code; 1005 and 1006 stand for a close frame without one and for no close frame.
    pub code: CloseCode,
    /// The reason, possibly empty, with control characters removed so that it is one log line.
    pub reason: String,
}

impl Close {
    /// A close with a code and a reason as they came over the wire.
    #[must_use]
    pub fn new(code: impl Into<CloseCode>, reason: &str) -> Self {
        let reason = reason.chars().filter(|c| !c.is_control()).collect();
        Self {
            code: code.into(),
            reason,
        }
    }

    /// The connection ended without a close frame.
    #[must_use]
    pub fn abnormal() -> Self {
        Self {
            code: CloseCode::Abnormal,
            reason: String::new(),
        }
    }
}

/// `1012: service restart`, as upstream's log lines spell it after "closed".
impl fmt::Display for Close {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "({}): {}", u16::from(self.code), self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip() {
        for code in 0..=u16::MAX {
            assert_eq!(u16::from(CloseCode::from(code)), code);
        }
    }

    #[test]
    fn a_reason_cannot_forge_a_log_line() {
        let close = Close::new(1012, "service restart\nnode host gateway connected: x");
        assert_eq!(
            close.to_string(),
            "(1012): service restartnode host gateway connected: x"
        );
    }
}
