//! Frames as a gateway writes them.

use protocol::frame::GatewayError;
use serde::Serialize;
use serde_json::Value;

/// Numbers of a broadcast event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broadcast {
    /// Position among everything broadcast; gaps are normal (§2).
    pub(crate) sequence: u64,
}

fn encode<T: Serialize>(frame: &T) -> String {
    // Values of JSON types have no way to fail, and an empty frame is ignored by every peer.
    serde_json::to_string(frame).unwrap_or_default()
}

/// An event frame; only broadcasts carry a sequence number.
pub(crate) fn event(name: &str, payload: &Value, broadcast: Option<Broadcast>) -> String {
    #[derive(Serialize)]
    struct Event<'a> {
        r#type: &'static str,
        event: &'a str,
        payload: &'a Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    }
    encode(&Event {
        r#type: "event",
        event: name,
        payload,
        seq: broadcast.map(|broadcast| broadcast.sequence),
    })
}

/// A response frame.
pub(crate) fn response(id: &str, result: &Result<Value, GatewayError>) -> String {
    #[derive(Serialize)]
    struct Response<'a> {
        r#type: &'static str,
        id: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<&'a Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a GatewayError>,
    }
    encode(&Response {
        r#type: "res",
        id,
        ok: result.is_ok(),
        payload: result.as_ref().ok(),
        error: result.as_ref().err(),
    })
}
