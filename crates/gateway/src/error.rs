//! Refusals as a gateway words them.

use protocol::frame::GatewayError;
use serde_json::{Value, json};

/// The request is at fault.
pub(crate) fn invalid_request(message: impl Into<String>) -> GatewayError {
    GatewayError {
        code: "INVALID_REQUEST".to_owned(),
        message: message.into(),
        ..GatewayError::default()
    }
}

/// The gateway or the node cannot do it now.
pub(crate) fn unavailable(message: impl Into<String>, details: Value) -> GatewayError {
    GatewayError {
        code: "UNAVAILABLE".to_owned(),
        message: message.into(),
        details,
        ..GatewayError::default()
    }
}

/// The September release's word for a node whose pairing does not (or no longer) carry a request.
pub(crate) fn pairing_changed(when: &str) -> GatewayError {
    GatewayError {
        retryable: Some(true),
        ..unavailable(
            format!("node pairing changed {when}"),
            json!({ "code": "PAIRING_CHANGED" }),
        )
    }
}
