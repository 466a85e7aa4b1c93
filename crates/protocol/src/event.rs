//! Events that a node sends to its gateway (§11.1, §11.6).

use serde::Serialize;

/// Something that happened on the node.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeEvent {
    /// A command ended, however it ended.
    ExecFinished(ExecFinished),
    /// A command was refused by this machine's policy.
    ExecDenied(ExecDenied),
    /// How the machine is doing.
    HostStats(HostStats),
}

/// Members that both exec events share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecEventHead {
    /// The session that asked; `node` when none was named.
    pub session_key: String,
    /// The run.
    pub run_id: String,
    /// Always `node`.
    pub host: &'static str,
    /// The command's text.
    pub command: String,
}

/// Payload of `exec.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecFinished {
    /// Which run.
    #[serde(flatten)]
    pub head: ExecEventHead,
    /// The exit code; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether the run was ended by its time limit.
    pub timed_out: bool,
    /// Exit code 0 within the time limit.
    pub success: bool,
    /// The end of what it printed.
    pub output: String,
    /// Echo of the request's wish not to be notified.
    pub suppress_notify_on_exit: bool,
}

/// Payload of `exec.denied`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecDenied {
    /// Which run.
    #[serde(flatten)]
    pub head: ExecEventHead,
    /// Why, in the words that gateways understand.
    pub reason: String,
    /// Echo of the request's wish not to be notified.
    pub suppress_notify_on_exit: bool,
}

/// Payload of `node.host.stats`, a closed schema (§11.1). Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStats {
    /// Processors, 1 to 4096.
    pub cpu_count: u32,
    /// One, five and fifteen minutes; left out when all are zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_average: Option<[f64; 3]>,
    /// Memory in all.
    pub memory_total_bytes: u64,
    /// Memory that is free; never more than the total.
    pub memory_free_bytes: u64,
}

/// Params of a `node.event` request.
#[derive(Debug, Serialize)]
pub struct NodeEventParams {
    event: &'static str,
    #[serde(rename = "payloadJSON")]
    payload_json: String,
}

impl NodeEvent {
    /// The event's name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ExecFinished(_) => "exec.finished",
            Self::ExecDenied(_) => "exec.denied",
            Self::HostStats(_) => "node.host.stats",
        }
    }

    /// The params that carry it.
    ///
    /// # Errors
    /// When the payload does not serialise, which for these types cannot happen.
    pub fn params(&self) -> Result<NodeEventParams, serde_json::Error> {
        let payload_json = match self {
            Self::ExecFinished(event) => serde_json::to_string(event)?,
            Self::ExecDenied(event) => serde_json::to_string(event)?,
            Self::HostStats(event) => serde_json::to_string(event)?,
        };
        Ok(NodeEventParams {
            event: self.name(),
            payload_json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> ExecEventHead {
        ExecEventHead {
            session_key: "node".to_owned(),
            run_id: "r".to_owned(),
            host: "node",
            command: "echo a".to_owned(),
        }
    }

    #[test]
    fn the_payload_travels_as_json_text() {
        let event = NodeEvent::ExecDenied(ExecDenied {
            head: head(),
            reason: "allowlist-miss".to_owned(),
            suppress_notify_on_exit: false,
        });
        let params = serde_json::to_value(event.params().unwrap()).unwrap();
        assert_eq!(params["event"], "exec.denied");
        assert_eq!(
            params["payloadJSON"],
            r#"{"sessionKey":"node","runId":"r","host":"node","command":"echo a","reason":"allowlist-miss","suppressNotifyOnExit":false}"#
        );
    }

    #[test]
    fn an_absent_exit_code_is_left_out() {
        let event = NodeEvent::ExecFinished(ExecFinished {
            head: head(),
            exit_code: None,
            timed_out: false,
            success: false,
            output: String::new(),
            suppress_notify_on_exit: true,
        });
        let params = serde_json::to_value(event.params().unwrap()).unwrap();
        assert!(!params["payloadJSON"].as_str().unwrap().contains("exitCode"));
    }
}
