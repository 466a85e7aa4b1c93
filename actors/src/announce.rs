//! What an operator reads on standard error: upstream's lines word for word where there are some,
//! so that what people grep for keeps working (wire protocol §9), and the remedy beside them.

use protocol::close::Close;
use protocol::failure::FailureCode;
use protocol::pairing::PairingRequired;

/// Writes lines to standard error, and a repeated complaint only once.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    last_complaint: Option<String>,
}

impl Announcer {
    /// Writes a line.
    #[expect(
        clippy::print_stderr,
        reason = "the one place that writes operator lines"
    )]
    pub(crate) fn line(&self, text: &str) {
        eprintln!("{text}");
    }

    /// Writes a complaint unless it is the one that was written last: a gateway that stays away
    /// is one cause, however often it is tried.
    pub(crate) fn complain(&mut self, text: String) {
        if self.last_complaint.as_deref() != Some(&text) {
            self.line(&text);
            self.last_complaint = Some(text);
        }
    }

    /// All is well: the next complaint is news again.
    pub(crate) fn recovered(&mut self) {
        self.last_complaint = None;
    }
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
