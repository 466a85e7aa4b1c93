//! Whether a run may go ahead, and the words for why not (exec and approvals §5).
//!
//! [`decide`] goes through upstream's order: the table of security, ask and allowlist is looked up
//! first; before its denial counts come the gates that have words of their own: changes to the
//! audit's suppressions, inline code, and wrappers that are not there.

use std::path::PathBuf;

use crate::allowlist::{Allowlist, Arguments, Target};
use crate::analysis::{Analysis, Simple};
use crate::command::CommandLine;
use crate::inline_eval::{self, InlineEval};
use crate::policy::{Approval, Ask, ResolvedPolicy, Security};
use crate::safe_bins::SafeBins;
use crate::skills::SkillBins;
use crate::suppressions;
use crate::usage::RuleKey;

/// A command before the policy, with everything that it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The command.
    pub command: &'a CommandLine,
    /// What it would execute.
    pub analysis: &'a Analysis,
    /// The working directory that the request names, if it names one.
    pub cwd: Option<&'a str>,
    /// The entries that apply to the agent: those of [`ResolvedPolicy::allowlist`].
    pub allowlist: &'a Allowlist,
    /// The filters that may run without an entry.
    pub safe_bins: &'a SafeBins,
    /// The executables of the gateway's skills, if the policy lets them run.
    pub skills: Option<&'a SkillBins>,
    /// Whether inline code always needs a human.
    pub strict_inline_eval: bool,
    /// Whether a wrapper around the command is not to be found on this machine.
    pub has_unresolved_wrapper: bool,
}

/// What the policy says about one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may run, unless a check behind the policy refuses it.
    Allow(Allowed),
    /// It may not.
    Deny(Refusal),
}

/// Why a run is allowed, and what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What allows it.
    pub basis: Basis,
    /// What lets each command run without a human, whether or not that was needed: one for a
    /// direct command, for a shell's command line one for each of its
    /// [simple commands](crate::analysis::Payload::simple_commands).
    pub satisfied: Vec<Option<Satisfier>>,
}

impl Allowed {
    /// The entries that name commands of the run. Their use is worth recording.
    pub fn matches(&self) -> impl Iterator<Item = &Match> {
        self.satisfied
            .iter()
            .filter_map(|satisfier| match satisfier {
                Some(Satisfier::Entry(matched)) => Some(matched),
                Some(Satisfier::SafeBin | Satisfier::SafeBuiltin | Satisfier::Skill) | None => None,
            })
    }
}

/// What allows a run. It decides which arguments are executed in the end (exec and approvals §8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// A human or a reviewer approved it.
    Approval,
    /// Everything may run.
    FullSecurity,
    /// Every command of it may run without a human.
    Allowlist,
    /// An entry grants this exact command text.
    ExactCommand,
}

/// What lets one command run without a human (exec and approvals §8.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Satisfier {
    /// An entry of the allowlist.
    Entry(Match),
    /// It is a filter that reads nothing but its standard input.
    SafeBin,
    /// It is a harmless builtin of the shell.
    SafeBuiltin,
    /// It belongs to a skill of the gateway.
    Skill,
}

/// The entry of an allowlist that names a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its position in [`ResolvedPolicy::allowlist`].
    pub index: usize,
    /// What identifies it in the document, under whichever agents it stands.
    pub key: RuleKey,
    /// The executable that was matched, its symlinks resolved; none where `*` matched a name that
    /// is not found.
    pub resolved_path: Option<PathBuf>,
}

/// Why a run is refused. The text is the message of the invoke result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy says so.
    #[error("{}", .0.message())]
    Policy(DenialReason),
    /// No reviewer but a human may let it run.
    #[error("SYSTEM_RUN_DENIED: explicit approval required")]
    ExplicitApproval,
    /// It is given code as an argument.
    #[error(
        "SYSTEM_RUN_DENIED: approval required ({0} requires explicit approval in strictInlineEval mode)"
    )]
    InlineEval(InlineEval),
    /// A wrapper around the command is not found.
    #[error("SYSTEM_RUN_DENIED: approval requires a resolved executable")]
    UnresolvedWrapper,
}

impl Refusal {
    /// The reason that the event of the refusal gives.
    #[must_use]
    pub const fn reason(&self) -> DenialReason {
        match self {
            Self::Policy(reason) => *reason,
            Self::ExplicitApproval | Self::InlineEval(_) | Self::UnresolvedWrapper => {
                DenialReason::ApprovalRequired
            }
        }
    }
}

/// Why a run is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// Nothing may run.
    SecurityDeny,
    /// A human must approve it first.
    ApprovalRequired,
    /// No entry names it and nobody is to be asked.
    AllowlistMiss,
    /// What would be executed cannot be pinned to what was allowed.
    ExecutionPlanMiss,
    /// It asks for a permission that this host cannot have.
    ScreenRecording,
    /// What the approval grants could not be stored.
    ApprovalStateWriteFailed,
}

impl DenialReason {
    /// The `reason` of an `exec.denied` event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecurityDeny => "security=deny",
            Self::ApprovalRequired => "approval-required",
            Self::AllowlistMiss => "allowlist-miss",
            Self::ExecutionPlanMiss => "execution-plan-miss",
            Self::ScreenRecording => "permission:screenRecording",
            Self::ApprovalStateWriteFailed => "approval-state-write-failed",
        }
    }

    /// The message of the invoke result where nothing more particular is known.
    pub const fn message(self) -> &'static str {
        match self {
            Self::SecurityDeny => "SYSTEM_RUN_DISABLED: security=deny",
            Self::ApprovalRequired => "SYSTEM_RUN_DENIED: approval required",
            Self::AllowlistMiss => "SYSTEM_RUN_DENIED: allowlist miss",
            Self::ExecutionPlanMiss => "SYSTEM_RUN_DENIED: execution plan mismatch",
            Self::ScreenRecording => "PERMISSION_MISSING: screenRecording",
            Self::ApprovalStateWriteFailed => {
                "SYSTEM_RUN_DENIED: approval state could not be persisted"
            }
        }
    }
}

/// Decides about one run. The plan behind an approval must have been checked before.
pub fn decide(policy: &ResolvedPolicy<'_>, candidate: &Candidate<'_>) -> Decision {
    let table = by_the_table(policy, candidate);
    match gate(policy, candidate, &table) {
        Some(refusal) => Decision::Deny(refusal),
        None => match table {
            Ok(allowed) => Decision::Allow(allowed),
            Err(reason) => Decision::Deny(Refusal::Policy(reason)),
        },
    }
}

/// What lets each command of a candidate run without a human, in the order of
/// [`Allowed::satisfied`].
#[must_use]
pub fn satisfiers(
    policy: &ResolvedPolicy<'_>,
    candidate: &Candidate<'_>,
) -> Vec<Option<Satisfier>> {
    match candidate.analysis {
        Analysis::Direct(target) => {
            let arguments = Arguments {
                cwd: candidate.cwd,
                expand: false,
            };
            vec![satisfier(policy, candidate, target, arguments, false)]
        }
        Analysis::Payload(payload) => payload
            .simple_commands()
            .into_iter()
            .map(|command| {
                let arguments = command.arguments(candidate.cwd);
                let Simple {
                    target,
                    is_safe_builtin,
                    ..
                } = command;
                satisfier(policy, candidate, target, arguments, *is_safe_builtin)
            })
            .collect(),
    }
}

fn satisfier(
    policy: &ResolvedPolicy<'_>,
    candidate: &Candidate<'_>,
    target: &Target,
    arguments: Arguments<'_>,
    is_safe_builtin: bool,
) -> Option<Satisfier> {
    if let Some(index) = candidate.allowlist.find(target, arguments)
        && let Some(entry) = policy.allowlist.get(index)
    {
        let path = target
            .resolution()
            .and_then(|resolution| resolution.trusted_path());
        return Some(Satisfier::Entry(Match {
            index,
            key: RuleKey::of(entry),
            resolved_path: path.map(PathBuf::from),
        }));
    }
    let Target::Program(program) = target else {
        return None;
    };
    if candidate.safe_bins.accept(program) {
        return Some(Satisfier::SafeBin);
    }
    if is_safe_builtin {
        return Some(Satisfier::SafeBuiltin);
    }
    let is_skill = policy.auto_allow_skills.value
        && candidate
            .skills
            .is_some_and(|skills| skills.contain(&program.resolution));
    is_skill.then_some(Satisfier::Skill)
}

fn is_approved(policy: &ResolvedPolicy<'_>) -> bool {
    match policy.approval {
        Approval::Explicit(_) => true,
        // `always` is about a human seeing every run; a reviewer is none.
        Approval::AutoReview => policy.ask.value != Ask::Always,
        Approval::None | Approval::AskFallback => false,
    }
}

fn by_the_table(
    policy: &ResolvedPolicy<'_>,
    candidate: &Candidate<'_>,
) -> Result<Allowed, DenialReason> {
    let security = policy.security.value;
    let ask = policy.ask.value;
    if security == Security::Deny {
        return Err(DenialReason::SecurityDeny);
    }
    let satisfied = satisfiers(policy, candidate);
    let exact = || {
        candidate
            .allowlist
            .find_exact_command(candidate.command.text())
            .is_some()
    };
    let basis = if is_approved(policy) {
        Basis::Approval
    } else if ask == Ask::Always {
        return Err(DenialReason::ApprovalRequired);
    } else if security == Security::Full {
        Basis::FullSecurity
    } else if !satisfied.is_empty() && satisfied.iter().all(Option::is_some) {
        Basis::Allowlist
    } else if exact() {
        Basis::ExactCommand
    } else {
        return Err(match ask {
            Ask::Off => DenialReason::AllowlistMiss,
            Ask::OnMiss | Ask::Always => DenialReason::ApprovalRequired,
        });
    };
    Ok(Allowed { basis, satisfied })
}

/// What refuses a run in words of its own, whatever the table would say.
fn gate(
    policy: &ResolvedPolicy<'_>,
    candidate: &Candidate<'_>,
    table: &Result<Allowed, DenialReason>,
) -> Option<Refusal> {
    let Candidate {
        command, analysis, ..
    } = candidate;
    let is_approved = is_approved(policy);
    let security = policy.security.value;
    let is_unlimited = security == Security::Full
        && policy.ask.value == Ask::Off
        && policy.approval != Approval::AskFallback;
    let changes_suppressions =
        !is_unlimited && suppressions::are_changed_by(command.argv(), command.text(), analysis);
    if changes_suppressions && policy.approval == Approval::AutoReview {
        return Some(Refusal::ExplicitApproval);
    }
    let needs_human = changes_suppressions && !is_approved;
    if candidate.strict_inline_eval
        && !is_approved
        && (needs_human || *table != Err(DenialReason::SecurityDeny))
        && let Some(found) = inline_eval::find(command.argv())
    {
        return Some(Refusal::InlineEval(found));
    }
    let is_bound = policy.approval != Approval::None || security == Security::Allowlist;
    if is_bound && security != Security::Deny && candidate.has_unresolved_wrapper {
        return Some(Refusal::UnresolvedWrapper);
    }
    needs_human.then_some(Refusal::Policy(DenialReason::ApprovalRequired))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{
        Allowed, Basis, Candidate, Decision, DenialReason, Match, Refusal, Satisfier, decide,
    };
    use crate::allowlist::{Invocation, Resolution, Target, Unanalysable};
    use crate::analysis::Analysis;
    use crate::command::CommandLine;
    use crate::digest::sha256_hex16;
    use crate::document::Document;
    use crate::policy::{Approval, Ask, ExecConfig, ExecLayer, Grant, Mode, Security, resolve};
    use crate::rules::Rules;
    use crate::safe_bins::SafeBins;
    use crate::usage::RuleKey;

    const TEXT: &str = "/bin/echo p";

    fn echo() -> Analysis {
        Analysis::Direct(Target::Program(Invocation {
            argv: vec!["/bin/echo".to_owned(), "p".to_owned()],
            resolution: Resolution {
                raw_token: "/bin/echo".to_owned(),
                resolved_path: Some(PathBuf::from("/bin/echo")),
                real_path: Some(PathBuf::from("/usr/bin/echo")),
            },
        }))
    }

    fn decide_with(
        config: &ExecConfig,
        file: &Value,
        analysis: &Analysis,
        approval: Approval,
    ) -> Decision {
        let file = file.as_object().unwrap();
        let document = Document::from_value(file, &mut || "id".to_owned()).unwrap();
        decide_in(config, &document, analysis, approval)
    }

    fn decide_in(
        config: &ExecConfig,
        document: &Document,
        analysis: &Analysis,
        approval: Approval,
    ) -> Decision {
        let policy = resolve(config, document, None, approval);
        let words = TEXT.split(' ').map(str::to_owned).collect();
        let rules = Rules::of(document, None);
        let candidate = Candidate {
            command: &CommandLine::new(words, None).unwrap(),
            analysis,
            cwd: None,
            allowlist: rules.for_agent("main"),
            safe_bins: &SafeBins::default(),
            skills: None,
            strict_inline_eval: false,
            has_unresolved_wrapper: false,
        };
        decide(&policy, &candidate)
    }

    fn full() -> ExecConfig {
        ExecConfig::new(ExecLayer {
            mode: Some(Mode::Full),
            ..ExecLayer::default()
        })
    }

    /// What the table of the specification says, row by row.
    fn by_the_table(
        security: Security,
        ask: Ask,
        satisfied: bool,
        exact: bool,
        approved: bool,
    ) -> Result<Basis, DenialReason> {
        let asks = ask == Ask::Always
            || (!exact && ask == Ask::OnMiss && security == Security::Allowlist && !satisfied);
        if security == Security::Deny {
            Err(DenialReason::SecurityDeny)
        } else if asks && !approved {
            Err(DenialReason::ApprovalRequired)
        } else if security == Security::Allowlist && !satisfied && !approved && !exact {
            Err(DenialReason::AllowlistMiss)
        } else if approved {
            Ok(Basis::Approval)
        } else if security == Security::Full {
            Ok(Basis::FullSecurity)
        } else if satisfied {
            Ok(Basis::Allowlist)
        } else {
            Ok(Basis::ExactCommand)
        }
    }

    #[test]
    fn the_table_decides() {
        let exact_pattern = format!("=command:{}", sha256_hex16(TEXT));
        let unanalysable = Analysis::Direct(Target::Unanalysable(Unanalysable::ShellPayload));
        for security in [Security::Deny, Security::Allowlist, Security::Full] {
            for ask in [Ask::Off, Ask::OnMiss, Ask::Always] {
                for (analysis, listed, satisfied) in [
                    (echo(), "/usr/bin/echo", true),
                    (echo(), "/usr/bin/cat", false),
                    (unanalysable.clone(), "*", false),
                ] {
                    for exact in [false, true] {
                        let mut allowlist = vec![json!({"pattern": listed})];
                        if exact {
                            allowlist
                                .push(json!({"pattern": exact_pattern, "source": "allow-always"}));
                        }
                        let file = json!({"agents": {"main": {
                            "security": security, "ask": ask, "allowlist": allowlist}}});
                        for (approval, approved) in [
                            (Approval::None, false),
                            (Approval::Explicit(Grant::Once), true),
                            (Approval::Explicit(Grant::Always), true),
                            (Approval::AutoReview, ask != Ask::Always),
                        ] {
                            let decision = decide_with(&full(), &file, &analysis, approval);
                            let outcome = match decision {
                                Decision::Allow(allowed) => {
                                    assert_eq!(allowed.matches().count() == 1, satisfied);
                                    Ok(allowed.basis)
                                }
                                Decision::Deny(refusal) => Err(refusal.reason()),
                            };
                            assert_eq!(
                                outcome,
                                by_the_table(security, ask, satisfied, exact, approved),
                                "{file} {analysis:?} {approval:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_gets_in_by_default() {
        let config = ExecConfig::default();
        let of = |approval| decide_with(&config, &json!({}), &echo(), approval);
        assert_eq!(
            of(Approval::None),
            Decision::Deny(Refusal::Policy(DenialReason::ApprovalRequired))
        );
        assert_eq!(
            of(Approval::AskFallback),
            Decision::Deny(Refusal::Policy(DenialReason::SecurityDeny))
        );
        assert_eq!(
            of(Approval::Explicit(Grant::Once)),
            Decision::Allow(Allowed {
                basis: Basis::Approval,
                satisfied: vec![None]
            })
        );
    }

    #[test]
    fn a_fallback_to_the_allowlist_asks_no_more() {
        let file = |pattern: &str| {
            json!({"defaults": {"security": "full", "ask": "always", "askFallback": "allowlist"},
                "agents": {"main": {"allowlist": [pattern]}}})
        };
        let of = |pattern| decide_with(&full(), &file(pattern), &echo(), Approval::AskFallback);
        assert_eq!(
            of("/usr/bin/cat"),
            Decision::Deny(Refusal::Policy(DenialReason::AllowlistMiss))
        );
        let Decision::Allow(allowed) = of("/usr/bin/echo") else {
            panic!("the entry names it");
        };
        assert_eq!(allowed.basis, Basis::Allowlist);
    }

    #[test]
    fn the_match_names_the_rule_and_the_file() {
        let file = json!({"agents": {
            "*": {"allowlist": ["/usr/bin/cat"]},
            "main": {"security": "allowlist", "ask": "off", "allowlist": [{"pattern": "/usr/bin/echo", "argPattern": "^p$"}]}}});
        assert_eq!(
            decide_with(&full(), &file, &echo(), Approval::None),
            Decision::Allow(Allowed {
                basis: Basis::Allowlist,
                satisfied: vec![Some(Satisfier::Entry(Match {
                    index: 1,
                    key: RuleKey {
                        pattern: "/usr/bin/echo".to_owned(),
                        arg_pattern: Some("^p$".to_owned()),
                    },
                    resolved_path: Some(PathBuf::from("/usr/bin/echo")),
                }))],
            })
        );
    }

    #[test]
    fn a_document_that_cannot_be_read_denies_everything() {
        let document = Document::locked_down();
        for approval in [
            Approval::None,
            Approval::Explicit(Grant::Always),
            Approval::AskFallback,
            Approval::AutoReview,
        ] {
            assert_eq!(
                decide_in(&full(), &document, &echo(), approval),
                Decision::Deny(Refusal::Policy(DenialReason::SecurityDeny))
            );
        }
    }

    #[test]
    fn reasons_and_messages_are_those_of_the_wire() {
        for (reason, name, message) in [
            (
                DenialReason::SecurityDeny,
                "security=deny",
                "SYSTEM_RUN_DISABLED: security=deny",
            ),
            (
                DenialReason::ApprovalRequired,
                "approval-required",
                "SYSTEM_RUN_DENIED: approval required",
            ),
            (
                DenialReason::AllowlistMiss,
                "allowlist-miss",
                "SYSTEM_RUN_DENIED: allowlist miss",
            ),
            (
                DenialReason::ExecutionPlanMiss,
                "execution-plan-miss",
                "SYSTEM_RUN_DENIED: execution plan mismatch",
            ),
            (
                DenialReason::ScreenRecording,
                "permission:screenRecording",
                "PERMISSION_MISSING: screenRecording",
            ),
            (
                DenialReason::ApprovalStateWriteFailed,
                "approval-state-write-failed",
                "SYSTEM_RUN_DENIED: approval state could not be persisted",
            ),
        ] {
            assert_eq!((reason.as_str(), reason.message()), (name, message));
        }
    }
}
