//! The second gate: an operator approves which commands this node may be asked for (§10).
//!
//! A node can be paired and connected, and still get no invoke, because its command surface waits
//! for approval. Newer gateways show this in the answer to any publication of the node; older
//! ones show nothing.

use crate::frame::GatewayError;
use crate::pairing::RequestId;

/// What a gateway's answer to a publication says about the surface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SurfaceAnswer {
    /// The gateway took it: the surface is approved, or the gateway has no such gate.
    Approved,
    /// The surface waits for an operator. It is also what an approved node may hear once, right
    /// after hello (§10), so it takes two in a row to mean it.
    Pending {
        /// The request to approve, where the refusal names it.
        request_id: Option<RequestId>,
    },
    /// The answer says nothing about the surface.
    Unrelated,
}

/// Words after which a refusal names the surface request (§10).
const APPROVE_COMMAND: &str = "openclaw nodes approve ";

impl SurfaceAnswer {
    /// Reads the answer to a publication.
    #[must_use]
    pub fn of<P>(result: &Result<P, GatewayError>) -> Self {
        let Err(error) = result else {
            return Self::Approved;
        };
        let request_id = error
            .message
            .split_once(APPROVE_COMMAND)
            .and_then(|(_, rest)| {
                rest.split(|c: char| c == '`' || c.is_whitespace())
                    .next()
                    .and_then(RequestId::parse)
            });
        if request_id.is_some() || error.detail("code") == Some("PAIRING_CHANGED") {
            Self::Pending { request_id }
        } else {
            Self::Unrelated
        }
    }
}

/// What an operator types on the gateway's machine to approve the surface.
#[must_use]
pub fn approval_command(request_id: Option<&RequestId>) -> String {
    match request_id {
        Some(id) => format!("{APPROVE_COMMAND}{id}"),
        None => "openclaw nodes pending".to_owned(),
    }
}

/// Params of `node.runnerInventory.update` for a node that runs no workers: exactly this one member,
/// or 2026.9.6 refuses it.
#[must_use]
pub fn empty_runner_inventory() -> serde_json::Value {
    serde_json::json!({ "protocolFeatures": [] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(message: &str, code: &str) -> SurfaceAnswer {
        SurfaceAnswer::of::<()>(&Err(GatewayError {
            code: "UNAVAILABLE".to_owned(),
            message: message.to_owned(),
            details: serde_json::json!({ "code": code }),
            ..GatewayError::default()
        }))
    }

    #[test]
    fn a_refusal_that_names_the_request_gives_the_command() {
        let refusal = answer(
            "node capability surface is awaiting operator approval; run `openclaw nodes approve 7fd3be4a` (see `openclaw nodes pending`), then this node retries automatically",
            "",
        );
        let SurfaceAnswer::Pending { request_id } = refusal else {
            panic!("not pending")
        };
        assert_eq!(
            approval_command(request_id.as_ref()),
            "openclaw nodes approve 7fd3be4a"
        );
    }

    #[test]
    fn other_refusals_are_told_apart() {
        assert_eq!(
            answer(
                "node pairing changed while invocation was active",
                "PAIRING_CHANGED"
            ),
            SurfaceAnswer::Pending { request_id: None }
        );
        assert_eq!(
            answer("unauthorized role: node", "X"),
            SurfaceAnswer::Unrelated
        );
        assert_eq!(SurfaceAnswer::of(&Ok(())), SurfaceAnswer::Approved);
        assert_eq!(
            answer("run `openclaw nodes approve $(id)`", ""),
            SurfaceAnswer::Unrelated,
            "text that is no id is neither printed nor believed"
        );
        assert_eq!(approval_command(None), "openclaw nodes pending");
    }
}
