//! `system.run` (exec and approvals §11).

use std::time::Duration;

use approvals::command::{CommandError, CommandLine};
use approvals::plan::{PlanSubject, SystemRunPlan};
use approvals::policy::{Approval, Grant};
use serde_json::Value;
use uuid::Uuid;

use super::{Params, RequestError};
use crate::environment::{Overrides, blocked_assignment_keys};

/// The longest time limit that is kept; a longer one becomes this. It is as long as upstream's
/// timers can be (2³¹ − 1 ms, almost 25 days).
pub const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// What the events of a run call its session if the request names none (exec and approvals §11).
const DEFAULT_SESSION_KEY: &str = "node";

/// What happens to an approved plan without its policy snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MissingSnapshot {
    /// The request is refused: this gateway hands snapshots back.
    Refused,
    /// It will be restored from what this node remembers (D13): this gateway, like 2026.5.20, drops
    /// members it does not know.
    Restored,
}

/// `system.run`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// The command to run.
    pub command: CommandLine,
    /// Where it shall run; the node's own working directory if absent.
    pub cwd: Option<String>,
    /// What it gets besides the node's environment, already reduced if it reaches a shell.
    pub overrides: Overrides,
    /// How long it may run; whole milliseconds, at most [`MAX_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// Whether it needs to record the screen.
    pub needs_screen_recording: bool,
    /// The agent that asks.
    pub agent_id: Option<String>,
    /// The session that asks.
    pub session_key: Option<String>,
    /// What the run is called in events; made up if the gateway gives it no name.
    pub run_id: String,
    /// Whether the gateway shall not tell the agent about the end of the run.
    pub suppress_notify_on_exit: bool,
    /// What approval it comes with.
    pub approval: RunApproval,
}

/// What approval a run comes with, and the plan that was approved. The plan is for this request.
#[derive(Clone, Debug, PartialEq)]
pub enum RunApproval {
    /// None: the policy alone decides.
    None {
        /// A plan that came along. It may be for another request; only its file binding counts.
        plan: Option<SystemRunPlan>,
    },
    /// A human approved it.
    Explicit {
        /// How far that reaches.
        grant: Grant,
        /// What was approved.
        plan: SystemRunPlan,
    },
    /// Nobody could be asked.
    AskFallback {
        /// What would have been approved.
        plan: SystemRunPlan,
    },
    /// A model approved it.
    AutoReview {
        /// What was approved.
        plan: SystemRunPlan,
    },
}

impl RunApproval {
    /// The approval, as the policy sees it.
    #[must_use]
    pub fn kind(&self) -> Approval {
        match self {
            Self::None { .. } => Approval::None,
            Self::Explicit { grant, .. } => Approval::Explicit(*grant),
            Self::AskFallback { .. } => Approval::AskFallback,
            Self::AutoReview { .. } => Approval::AutoReview,
        }
    }

    /// The plan, if one came along.
    #[must_use]
    pub fn plan(&self) -> Option<&SystemRunPlan> {
        match self {
            Self::None { plan } => plan.as_ref(),
            Self::Explicit { plan, .. }
            | Self::AskFallback { plan }
            | Self::AutoReview { plan } => Some(plan),
        }
    }

    /// Whether somebody approved the plan at an earlier time, so that the policy must not have
    /// become stricter since.
    #[must_use]
    pub fn is_delayed(&self) -> bool {
        matches!(self, Self::Explicit { .. } | Self::AutoReview { .. })
    }
}

impl RunRequest {
    /// Reads the parameters of an invoke.
    ///
    /// # Errors
    /// Whatever upstream refuses before it asks its policy, in upstream's order.
    pub fn parse(
        params_json: Option<&str>,
        missing_snapshot: MissingSnapshot,
    ) -> Result<Self, RequestError> {
        let mut params = Params::decode(params_json)?;
        let argv = params.command();
        if argv.is_empty() {
            return Err(CommandError::Required.into());
        }
        let command = CommandLine::new(argv, params.text("rawCommand").as_deref())?;
        let plan = params
            .get("systemRunPlan")
            .map(SystemRunPlan::parse)
            .transpose()?;
        let [cwd, agent_id, session_key] =
            ["cwd", "agentId", "sessionKey"].map(|name| params.text(name));
        let subject = PlanSubject {
            command: &command,
            cwd: cwd.as_deref(),
            agent_id: agent_id.as_deref(),
            session_key: session_key.as_deref(),
        };
        let approval = approval(&params, plan, &subject)?;
        let has_snapshot = approval
            .plan()
            .is_some_and(|plan| plan.policy_snapshot.is_some());
        if approval.is_delayed() && !has_snapshot && missing_snapshot == MissingSnapshot::Refused {
            return Err(RequestError::NoPolicySnapshot);
        }
        if let Some(rejection) = blocked_assignment_keys(command.assigned_names()) {
            return Err(rejection.into());
        }
        let mut overrides = Overrides::parse(&params.environment())?;
        if command.is_shell_wrapper() {
            overrides = overrides.for_shell_wrapper();
        }
        Ok(Self {
            command,
            cwd,
            overrides,
            timeout: params.get("timeoutMs").and_then(timeout),
            needs_screen_recording: params.is_true("needsScreenRecording"),
            agent_id,
            session_key,
            run_id: params
                .text("runId")
                .unwrap_or_else(|| Uuid::new_v4().to_string()),
            suppress_notify_on_exit: params.is_true("suppressNotifyOnExit"),
            approval,
        })
    }

    /// What the events of this run call its session.
    #[must_use]
    pub fn event_session_key(&self) -> &str {
        self.session_key.as_deref().unwrap_or(DEFAULT_SESSION_KEY)
    }
}

fn approval(
    params: &Params,
    plan: Option<SystemRunPlan>,
    subject: &PlanSubject<'_>,
) -> Result<RunApproval, RequestError> {
    let matching = |refusal: RequestError| {
        move |plan: Option<SystemRunPlan>| plan.filter(|plan| plan.is_for(subject)).ok_or(refusal)
    };
    let from_source = matching(RequestError::SourceWithoutPlan);
    let source = params
        .get("approvalSource")
        .filter(|source| !source.is_null());
    let is_known = source.is_none_or(|source| source == "ask-fallback" || source == "auto-review");
    if !is_known {
        return Err(RequestError::UnknownApprovalSource);
    }
    if let Some(source) = source {
        if params.get("approved").is_some() || params.get("approvalDecision").is_some() {
            return Err(RequestError::TwoApprovals);
        }
        let plan = from_source(plan)?;
        return Ok(if source == "ask-fallback" {
            RunApproval::AskFallback { plan }
        } else {
            RunApproval::AutoReview { plan }
        });
    }
    let grant = match params.get("approvalDecision").and_then(Value::as_str) {
        Some("allow-always") => Grant::Always,
        Some("allow-once") => Grant::Once,
        _ if params.is_true("approved") => Grant::Once,
        _ => return Ok(RunApproval::None { plan }),
    };
    let plan = matching(RequestError::ExplicitWithoutPlan)(plan)?;
    Ok(RunApproval::Explicit { grant, plan })
}

/// A time limit in milliseconds; what is no positive number is none.
fn timeout(value: &Value) -> Option<Duration> {
    let millis = value.as_f64().filter(|millis| *millis > 0.0)?.ceil();
    let limit = Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(MAX_TIMEOUT);
    Some(limit.min(MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(params: &Value) -> Result<RunRequest, RequestError> {
        RunRequest::parse(Some(&params.to_string()), MissingSnapshot::Refused)
    }

    fn refusal(params: &Value) -> String {
        run(params).expect_err("the request is refused").to_string()
    }

    fn plan() -> Value {
        json!({
            "argv": ["/bin/echo", "a"], "cwd": "/tmp", "commandText": "/bin/echo a",
            "commandPreview": null, "agentId": "main", "sessionKey": "s",
            "policySnapshot": {
                "security": "full", "ask": "off", "askFallback": "deny", "autoAllowSkills": false,
                "allowlistRules": [],
            },
        })
    }

    /// A request for [`plan`], with other members instead or besides; a `null` removes one.
    fn request(changes: Value) -> Value {
        let mut params = json!({
            "command": ["/bin/echo", "a"], "rawCommand": "/bin/echo a", "cwd": " /tmp ",
            "agentId": "main", "sessionKey": "s", "runId": "r", "systemRunPlan": plan(),
        });
        let Value::Object(changes) = changes else {
            panic!("not an object")
        };
        for (name, value) in changes {
            match value {
                Value::String(text) if text == "absent" => {
                    params.as_object_mut().unwrap().remove(&name);
                }
                value => params[name] = value,
            }
        }
        params
    }

    #[test]
    fn what_is_wrong_first_is_what_is_told() {
        let wrong = request(json!({
            "rawCommand": "other", "systemRunPlan": null, "approvalSource": "x", "approved": true,
            "env": {"LD_PRELOAD": "x"},
        }));
        let fixes = [
            ("command", json!([]), "command required"),
            (
                "command",
                json!(["env", "PATH=/x", "echo"]),
                "INVALID_REQUEST: rawCommand does not match command",
            ),
            ("rawCommand", json!(null), "systemRunPlan invalid"),
            ("systemRunPlan", plan(), "approvalSource invalid"),
            (
                "approvalSource",
                json!("auto-review"),
                "approvalSource cannot be combined with explicit approval",
            ),
            (
                "approvalSource",
                json!(null),
                "explicit approval requires matching systemRunPlan",
            ),
            (
                "systemRunPlan",
                json!({
                    "argv": ["env", "PATH=/x", "echo"], "commandText": "env PATH=/x echo",
                    "cwd": "/tmp", "agentId": "main", "sessionKey": "s",
                }),
                "delayed approval requires a prepared policy snapshot",
            ),
            (
                "approved",
                json!(false),
                "SYSTEM_RUN_DENIED: command env assignment rejected \
                 (blocked env assignment keys: PATH)",
            ),
            (
                "command",
                json!(["echo"]),
                "SYSTEM_RUN_DENIED: environment override rejected \
                 (blocked override keys: LD_PRELOAD)",
            ),
        ];
        let mut params = wrong;
        for (name, value, message) in fixes {
            params[name] = value;
            assert_eq!(refusal(&params), message, "{params}");
        }
        params["env"] = json!({});
        assert!(run(&params).is_ok());
    }

    #[test]
    fn an_approval_is_for_its_plan() {
        let explicit = "explicit approval requires matching systemRunPlan";
        let source = "approvalSource requires matching systemRunPlan";
        for (changes, message) in [
            (
                json!({"approved": true, "systemRunPlan": "absent"}),
                explicit,
            ),
            (
                json!({"approved": true, "command": ["/bin/echo", "b"], "rawCommand": null}),
                explicit,
            ),
            (json!({"approved": true, "cwd": "/"}), explicit),
            (json!({"approved": true, "agentId": "ops"}), explicit),
            (json!({"approved": true, "sessionKey": null}), explicit),
            (
                json!({"approvalDecision": "allow-once", "agentId": null}),
                explicit,
            ),
            (
                json!({"approvalSource": "ask-fallback", "systemRunPlan": "absent"}),
                source,
            ),
            (
                json!({"approvalSource": "auto-review", "cwd": null}),
                source,
            ),
            (
                json!({"approvalSource": "ask-fallback", "approved": null}),
                "approvalSource cannot be combined with explicit approval",
            ),
            (
                json!({"approvalSource": "auto-review", "approvalDecision": "deny"}),
                "approvalSource cannot be combined with explicit approval",
            ),
            (
                json!({"approvalSource": "ASK-FALLBACK"}),
                "approvalSource invalid",
            ),
            (json!({"approvalSource": false}), "approvalSource invalid"),
        ] {
            let params = request(changes);
            assert_eq!(refusal(&params), message, "{params}");
        }
    }

    #[test]
    fn an_approval_says_how_far_it_reaches() {
        for (changes, kind) in [
            (json!({}), Approval::None),
            (json!({"approved": "true"}), Approval::None),
            (
                json!({"approved": false, "approvalDecision": "deny"}),
                Approval::None,
            ),
            (json!({"approved": true}), Approval::Explicit(Grant::Once)),
            (
                json!({"approvalDecision": "allow-once"}),
                Approval::Explicit(Grant::Once),
            ),
            (
                json!({"approved": true, "approvalDecision": "allow-always"}),
                Approval::Explicit(Grant::Always),
            ),
            (
                json!({"approved": true, "approvalDecision": "other"}),
                Approval::Explicit(Grant::Once),
            ),
            (
                json!({"approvalSource": "ask-fallback"}),
                Approval::AskFallback,
            ),
            (
                json!({"approvalSource": "auto-review"}),
                Approval::AutoReview,
            ),
        ] {
            let request = run(&request(changes.clone())).unwrap();
            assert_eq!(request.approval.kind(), kind, "{changes}");
            assert!(request.approval.plan().is_some(), "{changes}");
        }
    }

    #[test]
    fn a_gateway_that_drops_snapshots_may_send_plans_without_one() {
        let mut bare = plan();
        bare.as_object_mut().unwrap().remove("policySnapshot");
        let params = request(json!({"approved": true, "systemRunPlan": bare}));
        assert_eq!(
            refusal(&params),
            "delayed approval requires a prepared policy snapshot"
        );
        let restored =
            RunRequest::parse(Some(&params.to_string()), MissingSnapshot::Restored).unwrap();
        assert!(restored.approval.is_delayed());
        let fallback = request(json!({"approvalSource": "ask-fallback", "systemRunPlan": bare}));
        assert!(run(&fallback).is_ok(), "nobody approved anything earlier");
    }

    #[test]
    fn assignments_hidden_in_a_split_string_are_refused() {
        let params = json!({"command": ["env", "-S", "LD_PRELOAD=z echo hi"]});
        let message = "SYSTEM_RUN_DENIED: command env assignment rejected \
                       (blocked env assignment keys: LD_PRELOAD)";
        assert_eq!(refusal(&params), message);
    }

    #[test]
    fn overrides_are_reduced_for_every_shell() {
        let with = |command: Value| {
            run(&json!({"command": command, "env": {"FOO": "1", "LANG": "C"}}))
                .unwrap()
                .overrides
        };
        let only_language = Overrides::parse(json!({"LANG": "C"}).as_object().unwrap()).unwrap();
        assert_eq!(with(json!(["sh", "-c", "ls"])), only_language);
        assert_eq!(with(json!(["nice", "bash", "-lc", "ls"])), only_language);
        assert_eq!(with(json!(["csh", "x"])), only_language);
        assert_ne!(with(json!(["printenv"])), only_language);
    }

    #[test]
    fn names_flags_and_defaults_are_read() {
        let bare = run(&json!({"command": ["a"], "runId": " ", "sessionKey": " "})).unwrap();
        assert_eq!(bare.event_session_key(), "node");
        assert_eq!(bare.run_id.len(), 36);
        assert_eq!(bare.approval, RunApproval::None { plan: None });
        assert!(!bare.needs_screen_recording && !bare.suppress_notify_on_exit);
        let full = run(&json!({
            "command": ["a"], "runId": " r ", "sessionKey": " s ", "needsScreenRecording": true,
            "suppressNotifyOnExit": true, "env": "none", "approved": false,
        }))
        .unwrap();
        assert_eq!((full.event_session_key(), full.run_id.as_str()), ("s", "r"));
        assert!(full.needs_screen_recording && full.suppress_notify_on_exit);
        assert!(full.overrides.is_empty());
    }

    #[test]
    fn a_time_limit_is_a_positive_number_of_whole_milliseconds() {
        for (value, millis) in [
            (json!(null), None),
            (json!("5"), None),
            (json!(0), None),
            (json!(-5), None),
            (json!(400), Some(400)),
            (json!(0.2), Some(1)),
            (json!(1500.5), Some(1501)),
            (json!(2_147_483_647_u64), Some(2_147_483_647)),
            (json!(1e300), Some(2_147_483_647)),
        ] {
            let request = run(&json!({"command": ["a"], "timeoutMs": value})).unwrap();
            assert_eq!(
                request.timeout,
                millis.map(Duration::from_millis),
                "{value}"
            );
        }
    }
}
