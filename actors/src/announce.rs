//! What an operator reads on standard error: upstream's lines word for word where there are some,
//! so that what people grep for keeps working (wire protocol §9), and the remedy beside them.

mod repetition;

use std::borrow::Cow;

use protocol::close::Close;
use protocol::failure::FailureCode;
use protocol::pairing::PairingRequired;
use tracing::{error, info, warn};

use self::repetition::{Kind, Repetition};
use crate::clock;

/// The target of operator lines: whatever is logged beside them, these are always written, and on
/// standard error word for word.
pub const OPERATOR_LINES: &str = "openclaw_node::operator";

/// How a line is marked where lines have a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// All goes as it should.
    Notice,
    /// Somebody has to act, or something failed that is tried again.
    Warning,
    /// The node gives up.
    Error,
}

/// Writes lines for the operator, and those that repeat themselves ever less often.
#[derive(Debug)]
pub(crate) struct Announcer {
    repetition: Repetition,
}

impl Default for Announcer {
    fn default() -> Self {
        Self {
            repetition: Repetition::new(clock::since_boot()),
        }
    }
}

impl Announcer {
    /// Writes what happened.
    pub(crate) fn line(&mut self, severity: Severity, text: &str) {
        self.say(severity, Kind::Event, text);
    }

    /// Writes what is wrong, unless that was said already: a gateway that stays away is one cause,
    /// however often it is tried.
    pub(crate) fn complain(&mut self, text: &str) {
        self.say(Severity::Warning, Kind::Complaint, text);
    }

    /// All is well: the next complaint is news again.
    pub(crate) fn recovered(&mut self) {
        self.repetition.recovered();
    }

    fn say(&mut self, severity: Severity, kind: Kind, text: &str) {
        if severity == Severity::Error {
            // The node ends or an operator asked: neither repeats itself by itself.
            return write(severity, &printable(text));
        }
        if let Some(line) = self.repetition.admit(text, kind, clock::since_boot()) {
            write(severity, &printable(&line));
        }
    }
}

fn write(severity: Severity, line: &str) {
    match severity {
        Severity::Notice => info!(target: OPERATOR_LINES, "{line}"),
        Severity::Warning => warn!(target: OPERATOR_LINES, "{line}"),
        Severity::Error => error!(target: OPERATOR_LINES, "{line}"),
    }
}

/// A line of which a gateway may have written a part: one line, and nothing that a terminal obeys.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|character| match character {
        control if control.is_control() => control.escape_default().to_string(),
        other => other.to_string(),
    });
    Cow::Owned(escaped.collect())
}

/// The connection is in service.
pub(crate) fn connected(url: &str) -> String {
    format!("node host gateway connected: {url}")
}

/// An attempt failed.
pub(crate) fn connect_failed(message: &str) -> String {
    format!("node host gateway connect failed: {message}")
}

/// An operator has to let this device in.
pub(crate) fn approval_needed(pending: &PairingRequired) -> String {
    connect_failed(&format!(
        "{pending}; on the gateway run: {}",
        pending.approval_command()
    ))
}

/// A connection ended.
pub(crate) fn closed(close: &Close) -> String {
    format!("node host gateway closed {close}")
}

/// A terminal auth pause.
pub(crate) fn paused(close: &Close, code: &FailureCode) -> String {
    let reason = if close.reason.is_empty() {
        "no close reason"
    } else {
        close.reason.as_str()
    };
    format!(
        "node host gateway reconnect paused after close ({}): {reason} detail={code}; exiting for supervisor restart",
        u16::from(close.code),
    )
}

/// What an operator can do about a terminal refusal.
pub(crate) fn remedy(code: &FailureCode) -> Option<&'static str> {
    Some(match code {
        FailureCode::AuthTokenMissing | FailureCode::AuthTokenMismatch => {
            "set OPENCLAW_GATEWAY_TOKEN to the gateway's token (on the gateway: openclaw config get gateway.auth.token), then start the node again"
        }
        FailureCode::AuthPasswordMissing | FailureCode::AuthPasswordMismatch => {
            "set OPENCLAW_GATEWAY_PASSWORD to the gateway's password, then start the node again"
        }
        FailureCode::AuthDeviceTokenMismatch => {
            "this node's device token was revoked and is forgotten; set OPENCLAW_GATEWAY_TOKEN, start the node again and approve it on the gateway"
        }
        FailureCode::AuthBootstrapTokenInvalid => {
            "make a fresh setup code on the gateway and pair again"
        }
        FailureCode::ClientVersionMismatch => {
            "the gateway wants a newer node host than this one; upgrade it"
        }
        FailureCode::AuthIdentityHeaderRequired => {
            "the gateway trusts a proxy to name the user; connect through that proxy"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use protocol::close::CloseCode;

    use super::*;

    #[test]
    fn the_lines_are_upstreams_word_for_word() {
        let close = Close::new(CloseCode::PolicyViolation, "unauthorized: x");
        assert_eq!(
            paused(&close, &FailureCode::AuthTokenMissing),
            "node host gateway reconnect paused after close (1008): unauthorized: x detail=AUTH_TOKEN_MISSING; exiting for supervisor restart"
        );
        assert_eq!(
            closed(&Close::abnormal()),
            "node host gateway closed (1006): "
        );
        assert_eq!(connect_failed("m"), "node host gateway connect failed: m");
        assert_eq!(
            connected("ws://h:1"),
            "node host gateway connected: ws://h:1"
        );
        let silent = Close::new(CloseCode::PolicyViolation, "");
        assert!(
            paused(&silent, &FailureCode::AuthTokenMissing)
                .contains("(1008): no close reason detail=")
        );
    }

    #[test]
    fn what_a_gateway_says_cannot_forge_a_line_or_steer_a_terminal() {
        assert_eq!(printable("plain ü"), "plain ü");
        assert_eq!(printable("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
    }

    #[test]
    fn every_code_that_exits_has_a_remedy_or_is_a_bug() {
        use protocol::failure::FailureClass;
        for code in FailureCode::KNOWN {
            let exits = matches!(
                code.class(),
                FailureClass::Terminal
                    | FailureClass::TokenMismatch
                    | FailureClass::DeviceTokenMismatch
            );
            let ours_to_fix = matches!(
                code,
                FailureCode::DeviceIdentityRequired
                    | FailureCode::AuthVerifiedUserRequired
                    | FailureCode::ControlUiDeviceIdentityRequired
            );
            assert_eq!(remedy(code).is_some(), exits && !ours_to_fix, "{code}");
        }
    }
}
