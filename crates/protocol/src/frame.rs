//! Frames: one JSON object per WebSocket text message (§2).
//!
//! A frame is decoded only as deep as its kind needs; payloads stay raw until the code that owns
//! their meaning parses them, so a large event that nobody handles costs one scan.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Largest message a node accepts and a gateway sends, in bytes (§1.2, `policy.maxPayload`).
pub const MAX_FRAME_BYTES: usize = 25 * 1024 * 1024;

/// Largest message a gateway accepts before hello-ok, in bytes (§1.2).
pub const MAX_PREAUTH_FRAME_BYTES: usize = 64 * 1024;

/// A frame as a gateway sends it.
#[derive(Debug)]
pub enum ServerFrame<'a> {
    /// Something happened; nobody waits for an answer.
    Event(EventFrame<'a>),
    /// The answer to one of our requests.
    Response(ResponseFrame<'a>),
}

/// An event: a name and, mostly, a payload.
#[derive(Debug)]
pub struct EventFrame<'a> {
    /// The event's name, such as `tick` or `node.invoke.request`.
    pub name: Cow<'a, str>,
    /// The payload as it stood in the frame, absent for events without one.
    pub payload: Option<&'a RawValue>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct ResponseFrame<'a> {
    /// The id of the request that it answers.
    pub id: Cow<'a, str>,
    /// The payload of a success, or why the request was refused.
    pub result: Result<Option<&'a RawValue>, GatewayError>,
}

/// Why a text message is not a frame that a node understands. Such messages are logged and
/// ignored, never a reason to close (§2).
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not JSON, nested too deeply, or members of the wrong type.
    #[error("malformed frame: {0}")]
    Malformed(#[from] serde_json::Error),
    /// JSON, but of no kind that a gateway sends to a node.
    #[error("frame of unknown kind \"{0}\"")]
    UnknownKind(String),
    /// A known kind without the member that gives it its meaning.
    #[error("{kind} frame without \"{member}\"")]
    MissingMember {
        /// `event` or `res`.
        kind: &'static str,
        /// The absent member.
        member: &'static str,
    },
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    ok: Option<bool>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    error: Option<GatewayError>,
}

impl<'a> ServerFrame<'a> {
    /// Decodes one text message.
    ///
    /// # Errors
    /// [`FrameError`] for anything that is not an event or a response; the caller ignores it.
    pub fn decode(text: &'a str) -> Result<Self, FrameError> {
        let frame: RawFrame<'a> = serde_json::from_str(text)?;
        match frame.kind.as_ref() {
            "event" => Ok(Self::Event(EventFrame {
                name: frame.event.ok_or(FrameError::MissingMember {
                    kind: "event",
                    member: "event",
                })?,
                payload: frame.payload,
            })),
            "res" => {
                let id = frame.id.ok_or(FrameError::MissingMember {
                    kind: "res",
                    member: "id",
                })?;
                let result = match frame.ok {
                    Some(true) => Ok(frame.payload),
                    Some(false) => Err(frame.error.unwrap_or_default()),
                    None => {
                        return Err(FrameError::MissingMember {
                            kind: "res",
                            member: "ok",
                        });
                    }
                };
                Ok(Self::Response(ResponseFrame { id, result }))
            }
            other => Err(FrameError::UnknownKind(other.to_owned())),
        }
    }
}

/// The `error` member of a refused request (§2, §9).
///
/// A gateway may leave out any of it; what is absent reads as empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayError {
    /// Top-level class: `INVALID_REQUEST`, `NOT_PAIRED`, `UNAVAILABLE`, or something newer.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// Whether the gateway itself says that trying again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// The shortest useful wait before trying again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Structured detail; `details.code` is what failures are classified by.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

impl GatewayError {
    /// A text member of `details`, trimmed; `None` when absent, blank or not a string.
    #[must_use]
    pub fn detail(&self, member: &str) -> Option<&str> {
        self.details
            .get(member)
            .and_then(serde_json::Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }
}

impl fmt::Display for GatewayError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

/// What a node may ask of a gateway (§2, roles).
///
/// More than ten consecutive calls outside this list close the connection with 1008, so the list
/// is closed here too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `connect`: the handshake.
    Connect,
    /// `node.event`: something happened on the node.
    NodeEvent,
    /// `node.invoke.result`: the answer to an invoke.
    NodeInvokeResult,
    /// `skills.bins`: which executables belong to skills of the gateway (§11).
    SkillsBins,
    /// `node.runnerInventory.update`: only asked to learn which surface request waits for an
    /// operator, which its refusal names (§10).
    NodeRunnerInventoryUpdate,
}

impl Method {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::NodeEvent => "node.event",
            Self::NodeInvokeResult => "node.invoke.result",
            Self::SkillsBins => "skills.bins",
            Self::NodeRunnerInventoryUpdate => "node.runnerInventory.update",
        }
    }
}

/// Encodes a request frame. `id` must be unique within the connection.
///
/// # Errors
/// When `params` does not serialise, which for the types of this crate cannot happen.
pub fn encode_request<P: Serialize>(
    id: &str,
    method: Method,
    params: &P,
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Request<'a, P> {
        r#type: &'static str,
        id: &'a str,
        method: &'static str,
        params: &'a P,
    }
    serde_json::to_string(&Request {
        r#type: "req",
        id,
        method: method.name(),
        params,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        ServerFrame::decode(text).unwrap_err().to_string()
    }

    #[test]
    fn an_event_keeps_its_payload_as_it_stood() {
        let ServerFrame::Event(event) =
            ServerFrame::decode(r#"{"type":"event","event":"tick","payload":{"ts": 1 },"seq":4}"#)
                .unwrap()
        else {
            panic!("not an event");
        };
        assert_eq!(event.name, "tick");
        assert_eq!(event.payload.unwrap().get(), r#"{"ts": 1 }"#);
    }

    #[test]
    fn a_response_is_a_payload_or_an_error() {
        let ok = ServerFrame::decode(r#"{"type":"res","id":"7","ok":true,"payload":{}}"#).unwrap();
        let ServerFrame::Response(ok) = ok else {
            panic!("not a response")
        };
        assert_eq!(ok.id, "7");
        assert!(ok.result.unwrap().is_some());

        let refused = ServerFrame::decode(
            r#"{"type":"res","id":"7","ok":false,"error":{"code":"UNAVAILABLE","message":"m","retryAfterMs":500,"details":{"code":" X ","n":1}}}"#,
        )
        .unwrap();
        let ServerFrame::Response(refused) = refused else {
            panic!("not a response")
        };
        let error = refused.result.unwrap_err();
        assert_eq!(error.detail("code"), Some("X"));
        assert_eq!(error.detail("n"), None);
        assert_eq!(error.retry_after_ms, Some(500));
        assert_eq!(error.to_string(), "UNAVAILABLE: m");
    }

    #[test]
    fn an_error_without_members_reads_as_empty() {
        let frame = ServerFrame::decode(r#"{"type":"res","id":"7","ok":false}"#).unwrap();
        let ServerFrame::Response(frame) = frame else {
            panic!("not a response")
        };
        assert_eq!(frame.result.unwrap_err(), GatewayError::default());
    }

    #[test]
    fn what_is_not_a_frame_is_refused_with_a_reason() {
        assert!(error_of("hello").starts_with("malformed frame"));
        assert!(error_of("[]").starts_with("malformed frame"));
        assert!(error_of(r#"{"type":"event","event":5}"#).starts_with("malformed frame"));
        assert_eq!(
            error_of(r#"{"type":"req"}"#),
            "frame of unknown kind \"req\""
        );
        assert_eq!(
            error_of(r#"{"type":"event"}"#),
            "event frame without \"event\""
        );
        assert_eq!(
            error_of(r#"{"type":"res","ok":true}"#),
            "res frame without \"id\""
        );
        assert_eq!(
            error_of(r#"{"type":"res","id":"1"}"#),
            "res frame without \"ok\""
        );
    }

    #[test]
    fn nesting_ten_thousand_deep_is_scanned_but_never_followed() {
        let bomb = format!(
            r#"{{"type":"event","event":"x","payload":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let ServerFrame::Event(event) = ServerFrame::decode(&bomb).unwrap() else {
            panic!("not an event");
        };
        let payload = event.payload.unwrap().get();
        assert!(serde_json::from_str::<serde_json::Value>(payload).is_err());
    }

    #[test]
    fn a_request_carries_exactly_four_members() {
        let text =
            encode_request("3", Method::NodeEvent, &serde_json::json!({"event":"e"})).unwrap();
        assert_eq!(
            text,
            r#"{"type":"req","id":"3","method":"node.event","params":{"event":"e"}}"#
        );
    }
}
