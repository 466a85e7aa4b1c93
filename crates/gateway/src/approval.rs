//! Approvals of single runs: a request, an operator's decision, and the run that it allows
//! (exec and approvals §12).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::hub::Caller;

/// An operator's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    AllowOnce,
    AllowAlways,
    Deny,
}

impl Decision {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "allow-once" => Some(Self::AllowOnce),
            "allow-always" => Some(Self::AllowAlways),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow-once",
            Self::AllowAlways => "allow-always",
            Self::Deny => "deny",
        }
    }
}

/// One request for approval.
#[derive(Debug)]
pub(crate) struct Approval {
    pub(crate) id: String,
    request: Map<String, Value>,
    created_at_ms: u64,
    pub(crate) expires_at_ms: u64,
    requested_by_device: Option<String>,
    decision: Option<Decision>,
    consumed: bool,
    /// Who waits for the decision, beside whoever lists and polls.
    pub(crate) waiting: Vec<Caller>,
}

/// How long a request without a limit of its own stays open; upstream's default.
const DEFAULT_LIFETIME_MS: u64 = 1_800_000;

/// Approvals beyond this make the expired ones be forgotten.
const MAX_APPROVALS: usize = 1024;

/// A refusal with a code in its details.
#[derive(Debug)]
pub(crate) struct ApprovalError {
    pub(crate) message: &'static str,
    pub(crate) details: Value,
}

impl ApprovalError {
    fn new(code: &'static str, message: &'static str, run_id: &str) -> Self {
        Self {
            message,
            details: json!({ "code": code, "runId": run_id }),
        }
    }

    fn required(run_id: &str) -> Self {
        Self::new("APPROVAL_REQUIRED", "approval required", run_id)
    }
}

/// Fields of `system.run` that a caller may set directly; everything about approval is rebuilt
/// from the stored approval instead (§12).
const FORWARDED: &[&str] = &[
    "command",
    "rawCommand",
    "systemRunPlan",
    "cwd",
    "env",
    "timeoutMs",
    "needsScreenRecording",
    "agentId",
    "sessionKey",
    "runId",
    "suppressNotifyOnExit",
];

impl Approval {
    pub(crate) fn describe(&self) -> Value {
        json!({
            "id": self.id,
            "request": self.request,
            "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires_at_ms,
            "approvalKind": "exec",
        })
    }

    pub(crate) fn accepted(&self) -> Value {
        json!({
            "status": "accepted",
            "id": self.id,
            "deliveryRoute": "none",
            "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires_at_ms,
        })
    }

    pub(crate) fn outcome(&self) -> Value {
        let mut outcome = json!({
            "id": self.id,
            "decision": self.decision.map(Decision::name),
            "createdAtMs": self.created_at_ms,
            "expiresAtMs": self.expires_at_ms,
        });
        if let (Some(_), Some(outcome)) = (self.decision, outcome.as_object_mut()) {
            outcome.insert("terminalReason".to_owned(), "user".into());
        }
        outcome
    }

    pub(crate) fn summary(&self) -> Value {
        let plan = self.request.get("systemRunPlan");
        let of_plan = |name: &str| plan.and_then(|plan| plan.get(name)).cloned();
        json!({
            "id": self.id,
            "commandText": of_plan("commandText").or_else(|| self.request.get("command").cloned()),
            "commandPreview": of_plan("commandPreview").unwrap_or(Value::Null),
            "allowedDecisions": self.request.get("allowedDecisions"),
            "host": self.request.get("host"),
            "nodeId": self.request.get("nodeId"),
            "agentId": self.request.get("agentId"),
            "expiresAtMs": self.expires_at_ms,
        })
    }

    pub(crate) fn resolved_event(&self, now_ms: u64) -> Value {
        json!({
            "id": self.id,
            "decision": self.decision.map(Decision::name),
            "resolvedBy": "gateway-client",
            "ts": now_ms,
            "request": self.request,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.decision.is_none()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.request.get(name)?.as_str()
    }
}

/// Why a decision was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResolveError {
    InvalidDecision,
    Unknown,
    AllowAlwaysUnavailable,
}

/// All approvals a gateway knows.
#[derive(Debug, Default)]
pub(crate) struct ApprovalTable {
    approvals: BTreeMap<String, Approval>,
}

fn env_hash(env: Option<&Value>) -> Option<String> {
    let env = env?.as_object()?;
    let mut pairs: Vec<(&String, &str)> = env
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_str()?)))
        .collect();
    if pairs.is_empty() {
        return None;
    }
    pairs.sort_unstable();
    // The gateway hashes the JSON of the sorted pairs (§12).
    let digest = Sha256::digest(serde_json::to_vec(&pairs).ok()?);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn blank_to_none(value: Option<&Value>) -> Option<&str> {
    value
        .and_then(Value::as_str)
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

impl ApprovalTable {
    /// Files a request. `device` is the device id of whoever asks, if it has one.
    pub(crate) fn request(
        &mut self,
        params: &Value,
        device: Option<String>,
        now_ms: u64,
    ) -> Result<&mut Approval, &'static str> {
        let id = blank_to_none(params.get("id"))
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        if self.approvals.get(&id).is_some_and(Approval::is_open) {
            return Err("approval id already pending");
        }
        // Expired approvals are kept a while, so that using one says so instead of "unknown".
        if self.approvals.len() >= MAX_APPROVALS {
            self.approvals
                .retain(|_, approval| approval.expires_at_ms > now_ms);
        }
        let plan = params.get("systemRunPlan").filter(|plan| plan.is_object());
        if params.get("host").and_then(Value::as_str) == Some("node") && plan.is_none() {
            return Err("systemRunPlan is required for host=node");
        }
        let member = |name: &str| params.get(name).cloned().unwrap_or(Value::Null);
        // With ask "always" a lasting grant would be meaningless, so it is not offered.
        let always = params.get("ask").and_then(Value::as_str) == Some("always");
        let decisions: &[&str] = if always {
            &["allow-once", "deny"]
        } else {
            &["allow-once", "allow-always", "deny"]
        };
        let of_plan = |name: &str| plan.and_then(|plan| plan.get(name)).cloned();
        let request = json!({
            "command": member("command"),
            "systemRunBinding": {
                "argv": of_plan("argv").unwrap_or_else(|| member("commandArgv")),
                "cwd": of_plan("cwd").unwrap_or_else(|| member("cwd")),
                "agentId": of_plan("agentId").unwrap_or_else(|| member("agentId")),
                "sessionKey": of_plan("sessionKey").unwrap_or_else(|| member("sessionKey")),
                "envHash": env_hash(params.get("env")),
            },
            "systemRunPlan": member("systemRunPlan"),
            "cwd": member("cwd"),
            "nodeId": member("nodeId"),
            "host": member("host"),
            "security": member("security"),
            "ask": member("ask"),
            "allowedDecisions": decisions,
            "agentId": member("agentId"),
            "sessionKey": member("sessionKey"),
        });
        let Value::Object(request) = request else {
            return Err("invalid request");
        };
        let lifetime = params
            .get("timeoutMs")
            .and_then(Value::as_u64)
            .unwrap_or(DEFAULT_LIFETIME_MS);
        let approval = Approval {
            id: id.clone(),
            request,
            created_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(lifetime),
            requested_by_device: device,
            decision: None,
            consumed: false,
            waiting: Vec::new(),
        };
        Ok(self.approvals.entry(id).insert_entry(approval).into_mut())
    }

    pub(crate) fn get_mut(&mut self, id: &str, now_ms: u64) -> Option<&mut Approval> {
        self.approvals
            .get_mut(id)
            .filter(|approval| approval.expires_at_ms > now_ms)
    }

    /// Ends the wait for a decision that did not come; whoever waits hears of none.
    pub(crate) fn expire(&mut self, id: &str) -> Option<(Vec<Caller>, Value)> {
        let approval = self
            .approvals
            .get_mut(id)
            .filter(|approval| approval.is_open())?;
        Some((std::mem::take(&mut approval.waiting), approval.outcome()))
    }

    pub(crate) fn open(&self, now_ms: u64) -> Vec<Value> {
        self.approvals
            .values()
            .filter(|approval| approval.is_open() && approval.expires_at_ms > now_ms)
            .map(Approval::describe)
            .collect()
    }

    /// Records a decision; repeating the same one is fine.
    pub(crate) fn resolve(
        &mut self,
        id: &str,
        decision: &str,
        now_ms: u64,
    ) -> Result<(&mut Approval, bool), ResolveError> {
        let decision = Decision::parse(decision).ok_or(ResolveError::InvalidDecision)?;
        let approval = self.get_mut(id, now_ms).ok_or(ResolveError::Unknown)?;
        match approval.decision {
            Some(known) if known == decision => Ok((approval, false)),
            Some(_) => Err(ResolveError::Unknown),
            None => {
                let offered = approval
                    .request
                    .get("allowedDecisions")
                    .and_then(Value::as_array);
                let name = decision.name();
                if !offered.is_some_and(|offered| offered.iter().any(|offer| offer == name)) {
                    return Err(ResolveError::AllowAlwaysUnavailable);
                }
                approval.decision = Some(decision);
                Ok((approval, true))
            }
        }
    }

    /// What of `system.run` params reaches the node. Claims of approval are dropped and, where
    /// an approval of that run exists, rebuilt from it together with its plan (§12).
    pub(crate) fn rebuild(
        &mut self,
        params: &Value,
        node_id: &str,
        device: Option<&str>,
        now_ms: u64,
    ) -> Result<Map<String, Value>, ApprovalError> {
        let Some(given) = params.as_object() else {
            return Ok(Map::new());
        };
        let mut forwarded: Map<String, Value> = FORWARDED
            .iter()
            .filter_map(|&name| Some((name.to_owned(), given.get(name)?.clone())))
            .collect();
        let source = given
            .get("approvalSource")
            .filter(|source| !source.is_null());
        if source.is_some_and(|source| source != "ask-fallback") {
            return Err(ApprovalError {
                message: "approval source invalid",
                details: json!({ "code": "INVALID_APPROVAL_SOURCE" }),
            });
        }
        let decided = given
            .get("approvalDecision")
            .and_then(Value::as_str)
            .and_then(Decision::parse)
            .is_some_and(|decision| decision != Decision::Deny);
        let wants_approval =
            given.get("approved") == Some(&Value::Bool(true)) || decided || source.is_some();
        if !wants_approval {
            return Ok(forwarded);
        }
        let Some(run_id) = blank_to_none(given.get("runId")) else {
            return Err(ApprovalError {
                message: "approval override requires params.runId",
                details: json!({ "code": "MISSING_RUN_ID" }),
            });
        };
        let refuse = |code, message| ApprovalError::new(code, message, run_id);
        let Some(approval) = self.approvals.get_mut(run_id) else {
            return Err(refuse(
                "UNKNOWN_APPROVAL_ID",
                "unknown or expired approval id",
            ));
        };
        if now_ms >= approval.expires_at_ms {
            return Err(refuse("APPROVAL_EXPIRED", "approval expired"));
        }
        match approval.text("nodeId") {
            None => {
                let message = "approval id missing node binding";
                return Err(refuse("APPROVAL_NODE_BINDING_MISSING", message));
            }
            Some(bound) if bound != node_id => {
                return Err(refuse(
                    "APPROVAL_NODE_MISMATCH",
                    "approval id not valid for this node",
                ));
            }
            Some(_) => {}
        }
        if approval.requested_by_device.is_some()
            && approval.requested_by_device.as_deref() != device
        {
            return Err(refuse(
                "APPROVAL_DEVICE_MISMATCH",
                "approval id not valid for this device",
            ));
        }
        check_env(approval, given.get("env"), run_id)?;
        let decision = match approval.decision {
            Some(Decision::AllowOnce) if !approval.consumed => Decision::AllowOnce,
            Some(Decision::AllowAlways) => Decision::AllowAlways,
            Some(Decision::AllowOnce | Decision::Deny) | None => {
                return Err(ApprovalError::required(run_id));
            }
        };
        approval.consumed = true;
        if let Some(Value::Object(plan)) = approval.request.get("systemRunPlan") {
            apply_plan(&mut forwarded, plan);
        }
        forwarded.insert("approved".to_owned(), true.into());
        forwarded.insert("approvalDecision".to_owned(), decision.name().into());
        Ok(forwarded)
    }
}

fn check_env(approval: &Approval, env: Option<&Value>, run_id: &str) -> Result<(), ApprovalError> {
    let bound = approval
        .request
        .get("systemRunBinding")
        .and_then(|binding| binding.get("envHash"))
        .and_then(Value::as_str);
    let given = env_hash(env);
    if bound == given.as_deref() {
        return Ok(());
    }
    let (code, message) = if bound.is_none() {
        (
            "APPROVAL_ENV_BINDING_MISSING",
            "approval id missing env binding for requested env overrides",
        )
    } else {
        ("APPROVAL_ENV_MISMATCH", "approval id env binding mismatch")
    };
    let mut keys: Vec<&String> = env
        .and_then(Value::as_object)
        .map(|env| env.keys().collect())
        .unwrap_or_default();
    keys.sort_unstable();
    Err(ApprovalError {
        message,
        details: json!({ "code": code, "runId": run_id, "envKeys": keys }),
    })
}

/// The approved plan replaces whatever the caller wrote beside it.
fn apply_plan(forwarded: &mut Map<String, Value>, plan: &Map<String, Value>) {
    let text = |name: &str| plan.get(name).filter(|value| value.is_string()).cloned();
    if let Some(argv) = plan.get("argv") {
        forwarded.insert("command".to_owned(), argv.clone());
    }
    forwarded.insert("systemRunPlan".to_owned(), Value::Object(plan.clone()));
    if let Some(raw) = text("commandPreview").or_else(|| text("commandText")) {
        forwarded.insert("rawCommand".to_owned(), raw);
    }
    for name in ["cwd", "agentId", "sessionKey"] {
        match text(name) {
            Some(value) => forwarded.insert(name.to_owned(), value),
            None => forwarded.remove(name),
        };
    }
}
