//! Plans: what exactly an approval was given for, and what it was given under (exec and approvals
//! §10, §11; D13).
//!
//! `system.run.prepare` hands a plan out, a human approves it, `system.run` hands it back. The
//! gateway in between is believed in nothing: a plan counts only if this node prepared it.

mod policy_snapshot;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

pub use self::policy_snapshot::{PolicySnapshot, RuleSource, SnapshotRule};
use crate::command::{CommandLine, javascript_text, trim};

/// A command as it was pinned for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemRunPlan {
    /// The words of the command; never empty.
    pub argv: Vec<String>,
    /// The canonical working directory. Gateways of 2026.5 may send plans without one.
    pub cwd: Option<String>,
    /// The text that stands for `argv` (exec and approvals §3.1).
    pub command_text: String,
    /// What a human is shown instead, where that is shorter and says the same.
    pub command_preview: Option<String>,
    /// The agent that asked.
    pub agent_id: Option<String>,
    /// The session that asked.
    pub session_key: Option<String>,
    /// The script or executable that could change under the approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutable_file_operand: Option<FileOperand>,
    /// The policy that the approval was asked for under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_snapshot: Option<PolicySnapshot>,
}

/// A file that a command runs and that this user could change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileOperand {
    /// Which word of the plan's `argv` names it.
    pub argv_index: usize,
    /// Its real path.
    pub path: String,
    /// SHA-256 of its content, lower-case hex.
    pub sha256: String,
}

/// A value that should be a plan and is none. The text is what the gateway is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("systemRunPlan invalid")]
pub struct InvalidPlan;

/// What a request must repeat of the plan that it says was approved.
#[derive(Clone, Copy, Debug)]
pub struct PlanSubject<'a> {
    /// The command.
    pub command: &'a CommandLine,
    /// `cwd`, trimmed, blank as absent.
    pub cwd: Option<&'a str>,
    /// `agentId`, trimmed, blank as absent.
    pub agent_id: Option<&'a str>,
    /// `sessionKey`, trimmed, blank as absent.
    pub session_key: Option<&'a str>,
}

impl SystemRunPlan {
    /// Reads a plan as a gateway hands it back. Strings are trimmed and blank ones are absent;
    /// unknown members are passed over.
    ///
    /// # Errors
    /// Anything but an object with a non-empty `argv`, a `commandText` and, where they are given, a
    /// well-formed `mutableFileOperand` and `policySnapshot`.
    pub fn parse(value: &Value) -> Result<Self, InvalidPlan> {
        let members = value.as_object().ok_or(InvalidPlan)?;
        let argv: Vec<String> = members
            .get("argv")
            .and_then(Value::as_array)
            .filter(|words| !words.is_empty())
            .ok_or(InvalidPlan)?
            .iter()
            .map(javascript_text)
            .collect();
        // Gateways before 2026.5 knew the text under the name of the request's member.
        let command_text = text(members, "commandText")
            .or_else(|| text(members, "rawCommand"))
            .ok_or(InvalidPlan)?;
        Ok(Self {
            argv,
            cwd: text(members, "cwd"),
            command_text,
            command_preview: text(members, "commandPreview"),
            agent_id: text(members, "agentId"),
            session_key: text(members, "sessionKey"),
            mutable_file_operand: members
                .get("mutableFileOperand")
                .map(FileOperand::parse)
                .transpose()?,
            policy_snapshot: members
                .get("policySnapshot")
                .map(PolicySnapshot::parse)
                .transpose()?,
        })
    }

    /// Whether a request is for exactly this plan.
    #[must_use]
    pub fn is_for(&self, subject: &PlanSubject<'_>) -> bool {
        self.argv == subject.command.argv()
            && self.command_text == subject.command.text()
            && self.cwd.as_deref() == subject.cwd
            && self.agent_id.as_deref() == subject.agent_id
            && self.session_key.as_deref() == subject.session_key
    }

    /// SHA-256 over the members that every gateway hands back (D13): all but the policy snapshot.
    ///
    /// Every part is preceded by its length or its presence, so that no two plans are the same
    /// sequence of bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(DIGEST_CONTEXT);
        hash.update(as_u64(self.argv.len()));
        for word in &self.argv {
            update(&mut hash, word);
        }
        update_optional(&mut hash, self.cwd.as_deref());
        update(&mut hash, &self.command_text);
        update_optional(&mut hash, self.command_preview.as_deref());
        update_optional(&mut hash, self.agent_id.as_deref());
        update_optional(&mut hash, self.session_key.as_deref());
        match &self.mutable_file_operand {
            None => hash.update([0]),
            Some(operand) => {
                hash.update([1]);
                hash.update(as_u64(operand.argv_index));
                update(&mut hash, &operand.path);
                update(&mut hash, &operand.sha256);
            }
        }
        hash.finalize().into()
    }
}

/// Keeps plan digests apart from any other digest, and from those of another encoding.
const DIGEST_CONTEXT: &[u8] = b"openclaw-node plan v1\0";

fn as_u64(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

fn update(hash: &mut Sha256, text: &str) {
    hash.update(as_u64(text.len()));
    hash.update(text);
}

fn update_optional(hash: &mut Sha256, text: Option<&str>) {
    match text {
        None => hash.update([0]),
        Some(text) => {
            hash.update([1]);
            update(hash, text);
        }
    }
}

fn text(members: &Map<String, Value>, name: &str) -> Option<String> {
    let text = trim(members.get(name)?.as_str()?);
    (!text.is_empty()).then(|| text.to_owned())
}

impl FileOperand {
    fn parse(value: &Value) -> Result<Self, InvalidPlan> {
        let members = value.as_object().ok_or(InvalidPlan)?;
        Ok(Self {
            argv_index: members
                .get("argvIndex")
                .and_then(whole_number)
                .ok_or(InvalidPlan)?,
            path: text(members, "path").ok_or(InvalidPlan)?,
            sha256: text(members, "sha256").ok_or(InvalidPlan)?,
        })
    }
}

/// A number without a fraction, also when it is written as `1.0`.
fn whole_number(value: &Value) -> Option<usize> {
    /// Up to here a floating point number names one whole number only.
    const EXACT_LIMIT: f64 = 9_007_199_254_740_991.0;
    if let Some(number) = value.as_u64() {
        return usize::try_from(number).ok();
    }
    let number = value
        .as_f64()
        .filter(|number| (0.0..=EXACT_LIMIT).contains(number))?;
    (number.fract() == 0.0)
        .then(|| format!("{number:.0}"))
        .and_then(|digits| digits.parse().ok())
}

/// Which directory a path meant: a later namesake has another identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryIdentity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// When it was created, in nanoseconds of the unix clock, where the file system tells. ext4
    /// gives a removed directory's inode number to the very next one, and only this tells them
    /// apart.
    pub created_ns: Option<i64>,
}

/// What this node remembers of a plan's digest (D13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanRecord {
    /// It was never prepared here, or its uses are used up.
    Unknown,
    /// It was prepared here too long ago.
    Expired,
    /// It was prepared here and may still be used.
    Prepared {
        /// What the working directory was then.
        cwd: DirectoryIdentity,
    },
}

/// Why an approved run is refused because of its plan (D13). The text is what the gateway is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanRefusal {
    /// Nobody asked this node to prepare the plan, or it ran as often as it was prepared.
    #[error("SYSTEM_RUN_DENIED: approval plan was not prepared by this node")]
    NotPrepared,
    /// The approval took longer than a plan lives.
    #[error("SYSTEM_RUN_DENIED: approval plan expired")]
    Expired,
    /// The working directory is another one than the plan was prepared in.
    #[error("SYSTEM_RUN_DENIED: approval cwd identity mismatch")]
    AnotherDirectory,
}

impl PlanRecord {
    /// Whether an approved run may go ahead in the directory that it would start in.
    ///
    /// # Errors
    /// [`PlanRefusal`].
    pub fn admit(&self, cwd: DirectoryIdentity) -> Result<(), PlanRefusal> {
        match self {
            Self::Unknown => Err(PlanRefusal::NotPrepared),
            Self::Expired => Err(PlanRefusal::Expired),
            Self::Prepared { cwd: prepared } if *prepared != cwd => {
                Err(PlanRefusal::AnotherDirectory)
            }
            Self::Prepared { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan() -> Value {
        json!({
            "argv": ["/usr/bin/echo", "a"], "cwd": "/tmp", "commandText": "/usr/bin/echo a",
            "commandPreview": null, "agentId": "main", "sessionKey": "s",
            "mutableFileOperand": {"argvIndex": 0, "path": "/usr/bin/echo", "sha256": "ab"},
            "policySnapshot": {
                "security": "allowlist", "ask": "on-miss", "askFallback": "deny",
                "autoAllowSkills": false, "allowlistRules": [{"pattern": "zzz"}],
            },
        })
    }

    fn with(member: &str, value: Value) -> Value {
        let mut plan = plan();
        plan[member] = value;
        plan
    }

    fn without(member: &str) -> Value {
        let mut plan = plan();
        plan.as_object_mut().unwrap().remove(member);
        plan
    }

    #[test]
    fn a_plan_is_written_as_it_was_read() {
        assert_eq!(
            serde_json::to_value(SystemRunPlan::parse(&plan()).unwrap()).unwrap(),
            plan()
        );
        let bare = json!({"argv": [1, null], "commandText": " 1 null ", "cwd": " ", "x": 1});
        assert_eq!(
            serde_json::to_string(&SystemRunPlan::parse(&bare).unwrap()).unwrap(),
            r#"{"argv":["1","null"],"cwd":null,"commandText":"1 null","commandPreview":null,"agentId":null,"sessionKey":null}"#
        );
        assert!(SystemRunPlan::parse(&json!({"argv": ["a"], "rawCommand": "a"})).is_ok());
    }

    #[test]
    fn anything_else_is_no_plan() {
        let operand = |operand: Value| with("mutableFileOperand", operand);
        let snapshot = |member: &str, value: Value| {
            let mut plan = plan();
            plan["policySnapshot"][member] = value;
            plan
        };
        for value in [
            Value::Null,
            json!([]),
            json!("plan"),
            json!({}),
            without("argv"),
            with("argv", json!([])),
            with("argv", json!("echo")),
            without("commandText"),
            with("commandText", json!(" ")),
            with("commandText", json!(1)),
            operand(Value::Null),
            operand(json!([])),
            operand(json!({"argvIndex": -1, "path": "/a", "sha256": "ab"})),
            operand(json!({"argvIndex": 0.5, "path": "/a", "sha256": "ab"})),
            operand(json!({"argvIndex": "0", "path": "/a", "sha256": "ab"})),
            operand(json!({"argvIndex": 0, "path": " ", "sha256": "ab"})),
            operand(json!({"argvIndex": 0, "path": "/a"})),
            with("policySnapshot", Value::Null),
            snapshot("security", json!("FULL")),
            snapshot("ask", json!(null)),
            snapshot("askFallback", json!("off")),
            snapshot("autoAllowSkills", json!("false")),
            snapshot("allowlistRules", json!(null)),
            snapshot("allowlistRules", json!([{}])),
            snapshot(
                "allowlistRules",
                json!([{"pattern": "a", "argPattern": null}]),
            ),
            snapshot(
                "allowlistRules",
                json!([{"pattern": "a", "source": "manual"}]),
            ),
        ] {
            assert_eq!(SystemRunPlan::parse(&value), Err(InvalidPlan), "{value}");
        }
        let whole = operand(json!({"argvIndex": 2.0, "path": "/a", "sha256": "ab"}));
        let index = SystemRunPlan::parse(&whole)
            .unwrap()
            .mutable_file_operand
            .unwrap()
            .argv_index;
        assert_eq!(index, 2);
    }

    #[test]
    fn the_digest_changes_with_every_member_that_gateways_hand_back_and_no_other() {
        let digest = |plan: &Value| SystemRunPlan::parse(plan).unwrap().digest();
        let original = digest(&plan());
        assert_eq!(digest(&without("policySnapshot")), original);
        assert_eq!(digest(&with("extra", json!(1))), original);
        let operand = |member: &str, value: Value| {
            let mut plan = plan();
            plan["mutableFileOperand"][member] = value;
            plan
        };
        let mut seen = vec![original];
        for other in [
            with("argv", json!(["/usr/bin/echo"])),
            with("argv", json!(["/usr/bin/echo", "b"])),
            with("argv", json!(["/usr/bin/ech", "oa"])),
            with("cwd", json!("/")),
            with("cwd", json!(null)),
            with("commandText", json!("x")),
            with("commandPreview", json!("main")),
            with("agentId", json!(null)),
            with("sessionKey", json!(null)),
            without("mutableFileOperand"),
            operand("argvIndex", json!(1)),
            operand("path", json!("/usr/bin/ech")),
            operand("sha256", json!("cd")),
        ] {
            let digest = digest(&other);
            assert!(!seen.contains(&digest), "{other}");
            seen.push(digest);
        }
    }

    #[test]
    fn a_request_must_repeat_the_plan() {
        let plan = SystemRunPlan::parse(&plan()).unwrap();
        let command = |words: &[&str]| {
            CommandLine::new(words.iter().map(|word| (*word).to_owned()).collect(), None).unwrap()
        };
        let same = command(&["/usr/bin/echo", "a"]);
        let other = command(&["/usr/bin/echo", "b"]);
        let subject = PlanSubject {
            command: &same,
            cwd: Some("/tmp"),
            agent_id: Some("main"),
            session_key: Some("s"),
        };
        assert!(plan.is_for(&subject));
        for subject in [
            PlanSubject {
                command: &other,
                ..subject
            },
            PlanSubject {
                cwd: None,
                ..subject
            },
            PlanSubject {
                agent_id: Some("ops"),
                ..subject
            },
            PlanSubject {
                session_key: Some("other"),
                ..subject
            },
        ] {
            assert!(!plan.is_for(&subject), "{subject:?}");
        }
        let retold = SystemRunPlan {
            command_text: "echo b".to_owned(),
            ..plan
        };
        assert!(!retold.is_for(&subject));
    }

    #[test]
    fn a_plan_runs_only_where_this_node_prepared_it() {
        let here = DirectoryIdentity {
            device: 1,
            inode: 2,
            created_ns: Some(3),
        };
        let elsewhere = DirectoryIdentity { inode: 3, ..here };
        let recreated = DirectoryIdentity {
            created_ns: Some(4),
            ..here
        };
        let prepared = PlanRecord::Prepared { cwd: here };
        let mismatch = "SYSTEM_RUN_DENIED: approval cwd identity mismatch";
        for (record, cwd, answer) in [
            (prepared.clone(), here, None),
            (prepared.clone(), elsewhere, Some(mismatch)),
            (prepared, recreated, Some(mismatch)),
            (
                PlanRecord::Expired,
                here,
                Some("SYSTEM_RUN_DENIED: approval plan expired"),
            ),
            (
                PlanRecord::Unknown,
                here,
                Some("SYSTEM_RUN_DENIED: approval plan was not prepared by this node"),
            ),
        ] {
            let refusal = record.admit(cwd).err().map(|refusal| refusal.to_string());
            assert_eq!(refusal.as_deref(), answer, "{record:?}");
        }
    }
}
