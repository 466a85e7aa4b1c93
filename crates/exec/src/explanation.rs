//! What would become of a command and why, told without running anything.
//!
//! The answer comes from the code that decides about real requests: the command is read as an
//! invoke's parameters are, [`clear`] decides, and where a human would be asked, a plan is
//! prepared and its approval tried. Only what the gateway alone knows is missing: its skills.

use approvals::allowlist::{Arguments, Target};
use approvals::analysis::Analysis;
use approvals::decision::{Basis, DenialReason, Satisfier, satisfiers};
use approvals::policy::{
    Ask, ResolvedPolicy, Security, Source, WILDCARD_AGENT, agent_key, resolve,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clearance::{Circumstances, Denial, clear};
use crate::prepare::prepare;
use crate::request::{MissingSnapshot, PrepareRequest, RequestError, RunRequest};

/// What `reason` says of a command that is refused before any policy is asked.
const INVALID_REQUEST: &str = "invalid-request";

/// What is asked about: what a `system.run` without approval would say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The command.
    pub command: Vec<String>,
    /// The text that came with it.
    pub raw_command: Option<String>,
    /// Where it shall run.
    pub cwd: Option<String>,
    /// The agent that asks.
    pub agent_id: Option<String>,
}

/// The answer, serialised as `approvals explain --json` prints it (interfaces: approvals explain).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What would happen.
    pub decision: Outcome,
    /// The reason that an `exec.denied` event would give; `None` if the command would run.
    pub reason: Option<&'static str>,
    /// The message that the gateway would get; `None` if the command would run.
    pub message: Option<String>,
    /// What lets it run, if it would.
    pub basis: Option<BasisName>,
    /// The agent whose policy applies.
    pub agent: String,
    /// The policy that applies.
    pub policy: PolicyView,
    /// The commands that would be executed.
    pub segments: Vec<Segment>,
    /// What would be started, if it ran now.
    pub starts: Option<Vec<String>>,
}

/// What would happen to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It would run.
    Allow,
    /// It would be refused until a human approves it, and then run.
    Ask,
    /// It would be refused, and no approval could change that.
    Deny,
}

/// What lets a command run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BasisName {
    /// Everything may run.
    FullSecurity,
    /// Every segment has a rule.
    Allowlist,
    /// An entry grants this exact command text.
    ExactCommand,
}

/// The policy, and where each part of it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// How much may run.
    pub security: Security,
    /// When a human is asked.
    pub ask: Ask,
    /// What `security` falls to when nobody can be asked.
    pub ask_fallback: Security,
    /// Whether the gateway's skill executables count as listed.
    pub auto_allow_skills: bool,
    /// Whether inline code always needs a human.
    pub strict_inline_eval: bool,
    /// Where the values above came from.
    pub sources: Sources,
}

/// Where the parts of a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sources {
    /// Of `security`.
    pub security: Source,
    /// Of `ask`.
    pub ask: Source,
    /// Of `askFallback`.
    pub ask_fallback: Source,
    /// Of `autoAllowSkills`.
    pub auto_allow_skills: Source,
}

/// One command that would be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its words, wrappers included.
    pub argv: Vec<String>,
    /// The executable that is judged, symlinks resolved; `None` if it is not found or not told.
    pub resolved: Option<String>,
    /// The rule that lets it run without a human.
    pub rule: Option<RuleView>,
    /// Why there is none.
    pub why: Option<String>,
}

/// A rule that a segment matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum RuleView {
    /// An entry of an allowlist.
    Entry {
        /// Under which agent it stands.
        agent: String,
        /// Its pattern.
        pattern: String,
        /// Its `argPattern`.
        arg_pattern: Option<String>,
    },
    /// A filter that reads nothing but its standard input.
    SafeBin,
    /// A harmless builtin of the shell.
    Builtin,
    /// An executable of the gateway's skills.
    Skill,
}

/// Tells what would become of a command. Looks at the disk, and reads all of a file that an
/// approval would bind.
#[must_use]
pub fn explain(question: &Question, circumstances: Circumstances<'_>) -> Explanation {
    let params = question.params();
    let request = RunRequest::parse(Some(&params.to_string()), MissingSnapshot::Refused);
    let agent_id = match &request {
        Ok(request) => request.agent_id.clone(),
        Err(_) => question.agent_id.clone(),
    };
    let agent = agent_key(agent_id.as_deref());
    let policy = resolve(
        circumstances.config,
        circumstances.document,
        agent_id.as_deref(),
        approvals::policy::Approval::None,
    );
    let answer = |decision, reason, message| Explanation {
        decision,
        reason,
        message,
        basis: None,
        agent: agent.to_owned(),
        policy: PolicyView::of(&policy, circumstances.config.strict_inline_eval(agent)),
        segments: Vec::new(),
        starts: None,
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => {
            let message = Some(error.to_string());
            return answer(Outcome::Deny, Some(INVALID_REQUEST), message);
        }
    };
    let segments = segments(&request, &policy, circumstances);
    let explanation = match clear(&request, circumstances) {
        Ok(clearance) => Explanation {
            basis: BasisName::of(clearance.allowed.basis),
            starts: Some(clearance.verified.argv),
            ..answer(Outcome::Allow, None, None)
        },
        Err(denial) if denial.reason == DenialReason::ApprovalRequired => {
            match approved(&params, circumstances) {
                Ok(starts) => Explanation {
                    starts: Some(starts),
                    ..refused(answer, Outcome::Ask, denial)
                },
                Err(message) => refused(answer, Outcome::Deny, Denial { message, ..denial }),
            }
        }
        Err(denial) => refused(answer, Outcome::Deny, denial),
    };
    Explanation {
        segments,
        ..explanation
    }
}

fn refused(
    answer: impl Fn(Outcome, Option<&'static str>, Option<String>) -> Explanation,
    outcome: Outcome,
    denial: Denial,
) -> Explanation {
    answer(outcome, Some(denial.reason.as_str()), Some(denial.message))
}

impl Question {
    fn params(&self) -> Value {
        json!({
            "command": self.command,
            "rawCommand": self.raw_command,
            "cwd": self.cwd,
            "agentId": self.agent_id,
        })
    }
}

/// What would be started if a human approved the command, else why that would not help.
fn approved(params: &Value, circumstances: Circumstances<'_>) -> Result<Vec<String>, String> {
    let refusal = |error: RequestError| error.to_string();
    let request = PrepareRequest::parse(Some(&params.to_string())).map_err(refusal)?;
    let policy = circumstances.prepare_policy(request.agent_id.as_deref());
    let prepared = prepare(&request, &policy, circumstances.host).map_err(refusal)?;
    let plan = prepared.plan;
    let params = json!({
        "command": plan.argv,
        "rawCommand": plan.command_text,
        "cwd": plan.cwd,
        "agentId": plan.agent_id,
        "sessionKey": plan.session_key,
        "systemRunPlan": plan,
        "approvalDecision": "allow-once",
    });
    let request = RunRequest::parse(Some(&params.to_string()), MissingSnapshot::Refused);
    let clearance = clear(&request.map_err(refusal)?, circumstances);
    clearance
        .map(|clearance| clearance.verified.argv)
        .map_err(|denial| denial.message)
}

/// A command's words, what is judged of it, and what its arguments mean.
type Judged<'a> = (&'a [String], &'a Target, Arguments<'a>);

fn segments(
    request: &RunRequest,
    policy: &ResolvedPolicy<'_>,
    circumstances: Circumstances<'_>,
) -> Vec<Segment> {
    let cwd = request.cwd.as_deref();
    let analysis = circumstances.host.analyse(&request.command, cwd);
    let candidate = circumstances.candidate(request, &analysis);
    let judged: Vec<Judged<'_>> = match &analysis {
        Analysis::Direct(target) => {
            let arguments = Arguments { cwd, expand: false };
            vec![(request.command.argv(), target, arguments)]
        }
        Analysis::Payload(payload) => {
            let commands = payload.simple_commands().into_iter();
            let judged = commands.map(|command| {
                (
                    command.argv.as_slice(),
                    &command.target,
                    command.arguments(cwd),
                )
            });
            judged.collect()
        }
    };
    let satisfied = satisfiers(policy, &candidate);
    let segment = |((argv, target, arguments), satisfier): (Judged<'_>, Option<Satisfier>)| {
        let rule = satisfier.map(|satisfier| RuleView::of(satisfier, policy, circumstances));
        let why = match (&rule, policy.security.value) {
            (Some(_), _) => None,
            (None, Security::Full) => Some("security is full, so it needs none".to_owned()),
            (None, Security::Allowlist | Security::Deny) => {
                let list = candidate.allowlist;
                let miss = list.explain_miss(&policy.allowlist, target, arguments);
                Some(miss.to_string() + hint(target, policy, circumstances, agent_of(request)))
            }
        };
        Segment {
            argv: argv.to_vec(),
            resolved: Target::resolution(target)
                .and_then(|resolution| resolution.trusted_path())
                .map(|path| path.display().to_string()),
            rule,
            why,
        }
    };
    judged.into_iter().zip(satisfied).map(segment).collect()
}

fn agent_of(request: &RunRequest) -> &str {
    agent_key(request.agent_id.as_deref())
}

/// What else might have let a command run.
fn hint(
    target: &Target,
    policy: &ResolvedPolicy<'_>,
    circumstances: Circumstances<'_>,
    agent: &str,
) -> &'static str {
    let is_safe_bin = match target {
        Target::Program(program) => circumstances.config.safe_bins(agent).contain(program),
        Target::Package(_) | Target::Shell { .. } | Target::Unanalysable(_) => false,
    };
    let may_be_skill = policy.auto_allow_skills.value && matches!(target, Target::Program(_));
    if is_safe_bin {
        "; it is a safe bin, but not with these arguments"
    } else if may_be_skill {
        "; it runs all the same if it belongs to a skill, which only the gateway knows"
    } else {
        ""
    }
}

impl BasisName {
    fn of(basis: Basis) -> Option<Self> {
        match basis {
            Basis::FullSecurity => Some(Self::FullSecurity),
            Basis::Allowlist => Some(Self::Allowlist),
            Basis::ExactCommand => Some(Self::ExactCommand),
            // The question comes without one.
            Basis::Approval => None,
        }
    }
}

impl PolicyView {
    fn of(policy: &ResolvedPolicy<'_>, strict_inline_eval: bool) -> Self {
        Self {
            security: policy.security.value,
            ask: policy.ask.value,
            ask_fallback: policy.ask_fallback.value,
            auto_allow_skills: policy.auto_allow_skills.value,
            strict_inline_eval,
            sources: Sources {
                security: policy.security.source,
                ask: policy.ask.source,
                ask_fallback: policy.ask_fallback.source,
                auto_allow_skills: policy.auto_allow_skills.source,
            },
        }
    }
}

impl RuleView {
    fn of(
        satisfier: Satisfier,
        policy: &ResolvedPolicy<'_>,
        circumstances: Circumstances<'_>,
    ) -> Self {
        let matched = match satisfier {
            Satisfier::SafeBin => return Self::SafeBin,
            Satisfier::SafeBuiltin => return Self::Builtin,
            Satisfier::Skill => return Self::Skill,
            Satisfier::Entry(matched) => matched,
        };
        // Entries are told apart by where they are, because both lists may hold the same rule.
        let entry = policy.allowlist.get(matched.index);
        let holder = circumstances.document.agents.iter().find(|(_, agent)| {
            let mut entries = agent.allowlist.iter().flatten();
            entries.any(|candidate| entry.is_some_and(|entry| std::ptr::eq(*entry, candidate)))
        });
        Self::Entry {
            agent: holder.map_or(WILDCARD_AGENT, |(id, _)| id).to_owned(),
            pattern: matched.key.pattern,
            arg_pattern: matched.key.arg_pattern,
        }
    }
}
