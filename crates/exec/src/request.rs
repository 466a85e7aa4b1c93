//! What a gateway asks for: `system.which`, `system.run.prepare` and `system.run`, read from their
//! parameters once and checked in upstream's order (exec and approvals §1, §2, §10, §11).
//!
//! A request that is refused here was never looked at by any policy, and sends no event.

mod run;

use approvals::command::{CommandError, CommandLine, javascript_text, trim};
use approvals::plan::InvalidPlan;
use approvals::policy::{Ask, Security};
use serde_json::{Map, Value};

pub use self::run::{MAX_TIMEOUT, MissingSnapshot, RunApproval, RunRequest};
use crate::binding::BindingRefusal;
use crate::environment::{AssignmentRejection, OverrideRejection};

/// Why a request is refused before any policy is asked. The text is what the gateway is told, under
/// [`RequestError::CODE`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// There are no parameters.
    #[error("Error: INVALID_REQUEST: paramsJSON required")]
    ParamsRequired,
    /// The parameters are not JSON.
    #[error("Error: INVALID_REQUEST: paramsJSON malformed JSON")]
    ParamsMalformed,
    /// `system.which` names no list.
    #[error("Error: INVALID_REQUEST: bins required")]
    BinsRequired,
    /// The command and the text that came with it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The plan is none.
    #[error(transparent)]
    Plan(#[from] InvalidPlan),
    /// `approvalSource` is none of those there are.
    #[error("approvalSource invalid")]
    UnknownApprovalSource,
    /// The approval comes from two sides.
    #[error("approvalSource cannot be combined with explicit approval")]
    TwoApprovals,
    /// The plan that was approved is missing, or is for another request.
    #[error("explicit approval requires matching systemRunPlan")]
    ExplicitWithoutPlan,
    /// The plan that the approval source stands for is missing, or is for another request.
    #[error("approvalSource requires matching systemRunPlan")]
    SourceWithoutPlan,
    /// The plan does not say which policy it was approved under.
    #[error("delayed approval requires a prepared policy snapshot")]
    NoPolicySnapshot,
    /// The command line assigns a variable that requests may not set.
    #[error(transparent)]
    Assignment(#[from] AssignmentRejection),
    /// The request sets a variable that requests may not set.
    #[error(transparent)]
    Override(#[from] OverrideRejection),
    /// No approval could be bound to the command.
    #[error(transparent)]
    Binding(#[from] BindingRefusal),
    /// The command has a shape that no approval can be bound to, with what to do about it.
    #[error(
        "{}\nNo approval request was created for this attempt; this is not a user denial. \
         Retry a supported single executable with an absolute path through the normal approval \
         flow. This node approval path cannot bind script/interpreter payloads nested in its \
         shell wrapper.",
        BindingRefusal::Unbindable
    )]
    UnsupportedShape,
}

impl RequestError {
    /// The code of every such refusal.
    pub const CODE: &'static str = "INVALID_REQUEST";
}

/// The members of a request's parameters. Anything but an object has none.
struct Params(Map<String, Value>);

impl Params {
    fn decode(params_json: Option<&str>) -> Result<Self, RequestError> {
        let text = params_json
            .filter(|text| !text.is_empty())
            .ok_or(RequestError::ParamsRequired)?;
        match serde_json::from_str(text).map_err(|_| RequestError::ParamsMalformed)? {
            Value::Object(members) => Ok(Self(members)),
            _ => Ok(Self(Map::new())),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A text, trimmed; a blank one is absent.
    fn text(&self, name: &str) -> Option<String> {
        let text = trim(self.get(name)?.as_str()?);
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Bool(true))
    }

    fn command(&self) -> Vec<String> {
        let words = self.get("command").and_then(Value::as_array);
        words
            .map(|words| words.iter().map(javascript_text).collect())
            .unwrap_or_default()
    }

    fn environment(&mut self) -> Map<String, Value> {
        match self.0.get_mut("env") {
            Some(Value::Object(members)) => std::mem::take(members),
            _ => Map::new(),
        }
    }
}

/// `system.which`.
#[derive(Clone, Debug, PartialEq)]
pub struct WhichRequest {
    /// The names to look for; anything may stand among them.
    pub bins: Vec<Value>,
}

impl WhichRequest {
    /// Reads the parameters of an invoke.
    ///
    /// # Errors
    /// No parameters, no JSON, or no list of names.
    pub fn parse(params_json: Option<&str>) -> Result<Self, RequestError> {
        match Params::decode(params_json)?.0.remove("bins") {
            Some(Value::Array(bins)) => Ok(Self { bins }),
            _ => Err(RequestError::BinsRequired),
        }
    }
}

/// `system.run.prepare`.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareRequest {
    /// The command to prepare.
    pub command: CommandLine,
    /// Where it shall run; the node's own working directory if absent.
    pub cwd: Option<String>,
    /// The environment it shall get, not yet checked.
    pub environment: Map<String, Value>,
    /// The agent that asks.
    pub agent_id: Option<String>,
    /// The session that asks.
    pub session_key: Option<String>,
    /// What the gateway's own policy says, if it says both.
    pub gateway_policy: Option<(Security, Ask)>,
    /// Whether the gateway wants inline code to be approved.
    pub strict_inline_eval: bool,
}

impl PrepareRequest {
    /// Reads the parameters of an invoke.
    ///
    /// # Errors
    /// No parameters, no JSON, no command, or a text that stands for another command.
    pub fn parse(params_json: Option<&str>) -> Result<Self, RequestError> {
        let mut params = Params::decode(params_json)?;
        let raw = params.text("rawCommand");
        let command = CommandLine::new(params.command(), raw.as_deref())?;
        let word = |name: &str| params.get(name).and_then(Value::as_str);
        let security = word("security").and_then(|word| word.parse().ok());
        let ask = word("ask").and_then(|word| word.parse().ok());
        Ok(Self {
            command,
            cwd: params.text("cwd"),
            agent_id: params.text("agentId"),
            session_key: params.text("sessionKey"),
            gateway_policy: security.zip(ask),
            strict_inline_eval: params.is_true("strictInlineEval"),
            environment: params.environment(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_must_be_there_and_be_json() {
        for (params, message) in [
            (None, "Error: INVALID_REQUEST: paramsJSON required"),
            (Some(""), "Error: INVALID_REQUEST: paramsJSON required"),
            (
                Some("{"),
                "Error: INVALID_REQUEST: paramsJSON malformed JSON",
            ),
            (
                Some("{} x"),
                "Error: INVALID_REQUEST: paramsJSON malformed JSON",
            ),
        ] {
            let refusals = [
                RunRequest::parse(params, MissingSnapshot::Refused).unwrap_err(),
                PrepareRequest::parse(params).unwrap_err(),
                WhichRequest::parse(params).unwrap_err(),
            ];
            for refusal in refusals {
                assert_eq!(refusal.to_string(), message, "{params:?}");
            }
        }
        for params in ["null", "1", "[]", "{}"] {
            let refusal = RunRequest::parse(Some(params), MissingSnapshot::Refused).unwrap_err();
            assert_eq!(refusal.to_string(), "command required", "{params}");
        }
    }

    #[test]
    fn a_which_request_names_a_list() {
        let bins = vec![json!("sh"), json!(1), json!(null)];
        let params = json!({"bins": bins}).to_string();
        assert_eq!(
            WhichRequest::parse(Some(&params)),
            Ok(WhichRequest { bins })
        );
        for params in [r#"{"bins": "sh"}"#, r#"{"bins": null}"#, "{}", "null"] {
            let refusal = WhichRequest::parse(Some(params)).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "Error: INVALID_REQUEST: bins required",
                "{params}"
            );
        }
    }

    #[test]
    fn a_prepare_request_is_read() {
        let params = json!({
            "command": ["echo", 1, null, true], "rawCommand": " echo 1 null true ", "cwd": " . ",
            "agentId": " main ", "sessionKey": 5, "security": "full", "ask": "off",
            "strictInlineEval": "true", "env": {"A": "1"},
        });
        let request = PrepareRequest::parse(Some(&params.to_string())).unwrap();
        assert_eq!(request.command.argv(), ["echo", "1", "null", "true"]);
        assert_eq!(request.cwd.as_deref(), Some("."));
        assert_eq!(request.agent_id.as_deref(), Some("main"));
        assert_eq!(request.session_key, None);
        assert_eq!(request.gateway_policy, Some((Security::Full, Ask::Off)));
        assert!(!request.strict_inline_eval);
        assert_eq!(Value::Object(request.environment), json!({"A": "1"}));
        for (params, message) in [
            (json!({}), "command required"),
            (json!({"command": []}), "command required"),
            (
                json!({"rawCommand": "echo"}),
                "rawCommand requires params.command",
            ),
            (
                json!({"command": ["echo"], "rawCommand": "ls"}),
                "INVALID_REQUEST: rawCommand does not match command",
            ),
        ] {
            let refusal = PrepareRequest::parse(Some(&params.to_string())).unwrap_err();
            assert_eq!(refusal.to_string(), message, "{params}");
        }
        let half = json!({"command": ["echo"], "security": "full"}).to_string();
        assert_eq!(
            PrepareRequest::parse(Some(&half)).unwrap().gateway_policy,
            None
        );
    }
}
