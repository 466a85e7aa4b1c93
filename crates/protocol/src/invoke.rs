//! Invokes: a gateway asks a node to run a command, and the node answers (§11.3, §11.4, §11.7).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a gateway can ask of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Something that this machine's policy decides about.
    System(SystemCommand),
    /// Something for this machine's browser.
    Browser(BrowserCommand),
}

/// Commands about this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemCommand {
    /// `system.which`: find executables.
    Which,
    /// `system.run.prepare`: make a plan that can be approved.
    RunPrepare,
    /// `system.run`: run a command.
    Run,
    /// `system.execApprovals.get`: read the approvals document.
    ApprovalsGet,
    /// `system.execApprovals.set`: replace the approvals document.
    ApprovalsSet,
}

/// Commands about this machine's browser (browser proxy §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrowserCommand {
    /// `browser.proxy`: drive it.
    Proxy,
    /// `browser.proxy.upload.v1`: the same, with files for a page.
    UploadV1,
}

impl Command {
    /// What every node declares when it connects (§5.3).
    const SYSTEM: &[Self] = &[
        Self::System(SystemCommand::RunPrepare),
        Self::System(SystemCommand::Run),
        Self::System(SystemCommand::Which),
        Self::System(SystemCommand::ApprovalsGet),
        Self::System(SystemCommand::ApprovalsSet),
    ];

    /// What a node declares besides if it offers its browser.
    const BROWSER: &[Self] = &[
        Self::Browser(BrowserCommand::Proxy),
        Self::Browser(BrowserCommand::UploadV1),
    ];

    /// Everything that a node declares.
    pub fn declared(offers_browser: bool) -> impl Iterator<Item = Self> {
        let browser = if offers_browser { Self::BROWSER } else { &[] };
        Self::SYSTEM.iter().chain(browser).copied()
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System(SystemCommand::Which) => "system.which",
            Self::System(SystemCommand::RunPrepare) => "system.run.prepare",
            Self::System(SystemCommand::Run) => "system.run",
            Self::System(SystemCommand::ApprovalsGet) => "system.execApprovals.get",
            Self::System(SystemCommand::ApprovalsSet) => "system.execApprovals.set",
            Self::Browser(BrowserCommand::Proxy) => "browser.proxy",
            Self::Browser(BrowserCommand::UploadV1) => "browser.proxy.upload.v1",
        }
    }

    /// Parses the name on the wire.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::declared(true).find(|command| command.name() == name)
    }
}

/// The id of one invoke, unique per dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct InvokeId(String);

impl InvokeId {
    /// An id as a gateway sent it; `None` when blank.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InvokeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A `node.invoke.request` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeRequest {
    /// Which dispatch this is.
    pub id: InvokeId,
    /// The node's id as the gateway knows it; echoed verbatim in the result.
    pub node_id: String,
    /// What to do, or the name of something that this node does not do.
    pub command: Result<Command, String>,
    /// The command's params as JSON text, parsed by whoever carries the command out.
    pub params: Option<String>,
    /// What a repetition of the same request carries too; never blank.
    pub idempotency_key: Option<String>,
    /// How long the gateway waits. It is not the command's own time limit.
    pub gateway_timeout: Option<Duration>,
}

/// Why a `node.invoke.request` or `node.invoke.cancel` is ignored.
#[derive(Debug, thiserror::Error)]
pub enum InvokeDecodeError {
    /// Not the expected JSON.
    #[error("malformed invoke: {0}")]
    Malformed(#[from] serde_json::Error),
    /// An id, node id or command that is absent or blank: nobody could be answered.
    #[error("invoke without \"{0}\"")]
    MissingMember(&'static str),
}

fn required(
    value: Option<serde_json::Value>,
    member: &'static str,
) -> Result<String, InvokeDecodeError> {
    match value {
        Some(serde_json::Value::String(text)) if !text.trim().is_empty() => {
            Ok(text.trim().to_owned())
        }
        _ => Err(InvokeDecodeError::MissingMember(member)),
    }
}

impl InvokeRequest {
    /// Decodes the event's payload.
    ///
    /// # Errors
    /// [`InvokeDecodeError`]; the event is then logged and ignored.
    pub fn decode(payload: &str) -> Result<Self, InvokeDecodeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw<'a> {
            id: Option<serde_json::Value>,
            node_id: Option<serde_json::Value>,
            command: Option<serde_json::Value>,
            #[serde(rename = "paramsJSON", borrow)]
            params_json: Option<&'a RawValue>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            timeout_ms: Option<serde_json::Value>,
            idempotency_key: Option<serde_json::Value>,
        }
        let raw: Raw<'_> = serde_json::from_str(payload)?;
        let id = required(raw.id, "id")?;
        let command = required(raw.command, "command")?;
        let present = |value: &&RawValue| value.get() != "null";
        let params = match raw
            .params_json
            .map(|text| serde_json::from_str::<String>(text.get()))
        {
            Some(Ok(text)) => Some(text),
            Some(Err(_)) | None => raw
                .params
                .filter(present)
                .map(|value| value.get().to_owned()),
        };
        Ok(Self {
            id: InvokeId(id),
            node_id: required(raw.node_id, "nodeId")?,
            command: Command::parse(&command).ok_or(command),
            params,
            idempotency_key: required(raw.idempotency_key, "idempotencyKey").ok(),
            gateway_timeout: raw
                .timeout_ms
                .as_ref()
                .and_then(serde_json::Value::as_f64)
                .filter(|millis| *millis > 0.0)
                .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok()),
        })
    }
}

/// A `node.invoke.cancel` event: the gateway waits no longer (§11.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvokeCancel {
    /// The invoke to end. Nothing is answered to it any more.
    pub invoke_id: InvokeId,
}

impl InvokeCancel {
    /// Decodes the event's payload.
    ///
    /// # Errors
    /// [`InvokeDecodeError`]; the event is then logged and ignored.
    pub fn decode(payload: &str) -> Result<Self, InvokeDecodeError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw {
            invoke_id: Option<serde_json::Value>,
        }
        let raw: Raw = serde_json::from_str(payload)?;
        Ok(Self {
            invoke_id: InvokeId(required(raw.invoke_id, "invokeId")?),
        })
    }
}

/// Codes of a failed invoke (§11.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InvokeErrorCode {
    /// The params are wrong.
    InvalidRequest,
    /// The node cannot do it, or not now.
    Unavailable,
    /// This machine's policy says no.
    SystemRunDenied,
    /// The state database did not answer in time.
    Timeout,
}

/// A failed invoke's code and message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvokeError {
    /// The class.
    pub code: InvokeErrorCode,
    /// What the operator reads, after the gateway put the code before it.
    pub message: String,
}

impl InvokeError {
    /// The params are wrong.
    #[must_use]
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self {
            code: InvokeErrorCode::InvalidRequest,
            message: message.into(),
        }
    }

    /// The node cannot do it, or not now.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            code: InvokeErrorCode::Unavailable,
            message: message.into(),
        }
    }
}

/// The answer to an invoke: JSON text, or why there is none. It can be megabytes that several
/// askers, the journal and an unacknowledged request hold at a time, so it is shared as it is: an
/// `Arc<str>` would begin with a copy.
pub type InvokeResult = Result<Arc<String>, InvokeError>;

/// Params of a `node.invoke.result` request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InvokeResultParams<'a> {
    id: &'a InvokeId,
    node_id: &'a str,
    ok: bool,
    #[serde(rename = "payloadJSON", skip_serializing_if = "Option::is_none")]
    payload_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a InvokeError>,
}

impl<'a> InvokeResultParams<'a> {
    /// Answers the invoke `id` that was addressed to `node_id`.
    #[must_use]
    pub fn new(id: &'a InvokeId, node_id: &'a str, result: &'a InvokeResult) -> Self {
        Self {
            id,
            node_id,
            ok: result.is_ok(),
            payload_json: result.as_deref().ok().map(String::as_str),
            error: result.as_ref().err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(payload: serde_json::Value) -> Result<InvokeRequest, InvokeDecodeError> {
        InvokeRequest::decode(&payload.to_string())
    }

    #[test]
    fn an_invoke_is_taken_as_it_was_sent() {
        let invoke = decode(serde_json::json!({
            "id": " i1 ", "nodeId": "n", "command": "system.run", "paramsJSON": "{\"a\":1}",
            "timeoutMs": 1500, "idempotencyKey": "k", "sessionKey": "s"
        }))
        .unwrap();
        assert_eq!(invoke.id.as_str(), "i1");
        assert_eq!(invoke.command, Ok(Command::System(SystemCommand::Run)));
        assert_eq!(invoke.params.as_deref(), Some("{\"a\":1}"));
        assert_eq!(invoke.gateway_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(invoke.idempotency_key.as_deref(), Some("k"));
    }

    #[test]
    fn params_without_text_are_serialised_again() {
        let base = |extra: (&str, serde_json::Value)| {
            let mut payload =
                serde_json::json!({"id": "i", "nodeId": "n", "command": "system.which"});
            payload[extra.0] = extra.1;
            decode(payload).unwrap().params
        };
        assert_eq!(
            base(("params", serde_json::json!({"b":[1]}))).as_deref(),
            Some("{\"b\":[1]}")
        );
        assert_eq!(base(("params", serde_json::Value::Null)), None);
        assert_eq!(base(("paramsJSON", serde_json::Value::Null)), None);
        assert_eq!(base(("paramsJSON", "null".into())).as_deref(), Some("null"));
        assert_eq!(base(("timeoutMs", (-1).into())), None);
    }

    #[test]
    fn an_idempotency_key_is_text_or_absent() {
        for (key, expected) in [
            (serde_json::json!(" k "), Some("k")),
            (serde_json::json!(" "), None),
            (serde_json::json!(7), None),
            (serde_json::Value::Null, None),
        ] {
            let invoke = decode(serde_json::json!({
                "id": "i", "nodeId": "n", "command": "system.run", "idempotencyKey": key
            }));
            assert_eq!(
                invoke.unwrap().idempotency_key.as_deref(),
                expected,
                "{key}"
            );
        }
    }

    #[test]
    fn an_invoke_that_cannot_be_answered_is_refused() {
        for payload in [
            serde_json::json!({"nodeId": "n", "command": "c"}),
            serde_json::json!({"id": "  ", "nodeId": "n", "command": "c"}),
            serde_json::json!({"id": 5, "nodeId": "n", "command": "c"}),
            serde_json::json!({"id": "i", "command": "c"}),
            serde_json::json!({"id": "i", "nodeId": "n"}),
            serde_json::json!([]),
        ] {
            assert!(decode(payload.clone()).is_err(), "{payload}");
        }
    }

    #[test]
    fn an_unknown_command_is_kept_by_name() {
        let invoke =
            decode(serde_json::json!({"id": "i", "nodeId": "n", "command": "system.nope"}))
                .unwrap();
        assert_eq!(invoke.command, Err("system.nope".to_owned()));
    }

    #[test]
    fn every_declared_command_parses_back() {
        for command in Command::declared(true) {
            assert_eq!(Command::parse(command.name()), Some(command));
        }
        assert_eq!(
            Command::declared(false).count() + 2,
            Command::declared(true).count()
        );
    }

    #[test]
    fn a_result_carries_a_payload_or_an_error_never_both() {
        let id = InvokeId::new("i").unwrap();
        let ok = serde_json::to_string(&InvokeResultParams::new(
            &id,
            "n",
            &Ok(Arc::new("{}".to_owned())),
        ));
        assert_eq!(
            ok.unwrap(),
            r#"{"id":"i","nodeId":"n","ok":true,"payloadJSON":"{}"}"#
        );
        let failed = Err(InvokeError::unavailable("command not supported"));
        let failed = serde_json::to_string(&InvokeResultParams::new(&id, "n", &failed));
        assert_eq!(
            failed.unwrap(),
            r#"{"id":"i","nodeId":"n","ok":false,"error":{"code":"UNAVAILABLE","message":"command not supported"}}"#
        );
    }

    #[test]
    fn a_cancel_names_its_invoke() {
        let cancel = InvokeCancel::decode(r#"{"invokeId":"i","nodeId":"n"}"#).unwrap();
        assert_eq!(cancel.invoke_id.as_str(), "i");
        assert!(InvokeCancel::decode(r#"{"nodeId":"n"}"#).is_err());
    }
}
