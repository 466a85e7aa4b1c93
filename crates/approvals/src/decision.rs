//! Whether a run may go ahead, and the words for why not (exec and approvals §5).

use std::path::PathBuf;

use crate::allowlist::{self, Analysis, Candidate};
use crate::policy::{Approval, Ask, ResolvedPolicy, Security};
use crate::usage::RuleKey;

/// What the policy says about one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may run, unless a check behind the policy refuses it.
    Allow(Allowed),
    /// It may not.
    Deny(DenialReason),
}

/// Why a run is allowed, and what it used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What allows it.
    pub basis: Basis,
    /// The entry of the allowlist that names the command, whether or not it was needed. Its use is
    /// worth recording.
    pub matched: Option<Match>,
}

/// What allows a run. It decides which arguments are executed in the end (exec and approvals §8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// A human or a reviewer approved it.
    Approval,
    /// Everything may run.
    FullSecurity,
    /// An entry of the allowlist names it.
    Allowlist,
    /// An entry grants this exact command text.
    ExactCommand,
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
    let security = policy.security.value;
    let ask = policy.ask.value;
    if security == Security::Deny {
        return Decision::Deny(DenialReason::SecurityDeny);
    }
    let matched = find(policy, candidate);
    let exact =
        || allowlist::find_exact_command(&policy.allowlist, candidate.command_text).is_some();
    let approved = match policy.approval {
        Approval::Explicit(_) => true,
        // `always` is about a human seeing every run; a reviewer is none.
        Approval::AutoReview => ask != Ask::Always,
        Approval::None | Approval::AskFallback => false,
    };
    let basis = if approved {
        Basis::Approval
    } else if ask == Ask::Always {
        return Decision::Deny(DenialReason::ApprovalRequired);
    } else if security == Security::Full {
        Basis::FullSecurity
    } else if matched.is_some() {
        Basis::Allowlist
    } else if exact() {
        Basis::ExactCommand
    } else {
        return Decision::Deny(match ask {
            Ask::Off => DenialReason::AllowlistMiss,
            Ask::OnMiss | Ask::Always => DenialReason::ApprovalRequired,
        });
    };
    Decision::Allow(Allowed { basis, matched })
}

fn find(policy: &ResolvedPolicy<'_>, candidate: &Candidate<'_>) -> Option<Match> {
    let index = allowlist::find(&policy.allowlist, candidate)?;
    let entry = policy.allowlist.get(index)?;
    let resolution = match candidate.analysis {
        Analysis::Program(program) => &program.resolution,
        Analysis::Shell { shell, .. } => &shell.resolution,
        Analysis::Unanalysable(_) => return None,
    };
    Some(Match {
        index,
        key: RuleKey::of(entry),
        resolved_path: resolution.trusted_path().map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{Allowed, Basis, Decision, DenialReason, Match, decide};
    use crate::allowlist::{Analysis, Candidate, Invocation, Resolution, Unanalysable};
    use crate::digest::sha256_hex16;
    use crate::document::Document;
    use crate::policy::{Approval, Ask, ExecConfig, ExecLayer, Grant, Mode, Security, resolve};
    use crate::usage::RuleKey;

    const TEXT: &str = "/bin/echo p";

    fn echo() -> Analysis {
        Analysis::Program(Invocation {
            argv: vec!["/bin/echo".to_owned(), "p".to_owned()],
            resolution: Resolution {
                raw_token: "/bin/echo".to_owned(),
                resolved_path: Some(PathBuf::from("/bin/echo")),
                real_path: Some(PathBuf::from("/usr/bin/echo")),
            },
        })
    }

    fn decide_with(
        config: &ExecConfig,
        file: &Value,
        analysis: &Analysis,
        approval: Approval,
    ) -> Decision {
        let file = file.as_object().unwrap();
        let document = Document::from_value(file, &mut || "id".to_owned()).unwrap();
        let policy = resolve(config, &document, None, approval);
        let candidate = Candidate {
            command_text: TEXT,
            analysis,
            cwd: None,
            home: None,
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
        let unanalysable = Analysis::Unanalysable(Unanalysable::ShellPayload);
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
                                    assert_eq!(allowed.matched.is_some(), satisfied);
                                    Ok(allowed.basis)
                                }
                                Decision::Deny(reason) => Err(reason),
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
            Decision::Deny(DenialReason::ApprovalRequired)
        );
        assert_eq!(
            of(Approval::AskFallback),
            Decision::Deny(DenialReason::SecurityDeny)
        );
        assert_eq!(
            of(Approval::Explicit(Grant::Once)),
            Decision::Allow(Allowed {
                basis: Basis::Approval,
                matched: None
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
            Decision::Deny(DenialReason::AllowlistMiss)
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
                matched: Some(Match {
                    index: 1,
                    key: RuleKey {
                        pattern: "/usr/bin/echo".to_owned(),
                        arg_pattern: Some("^p$".to_owned()),
                    },
                    resolved_path: Some(PathBuf::from("/usr/bin/echo")),
                }),
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
            let config = full();
            let policy = resolve(&config, &document, Some("ops"), approval);
            let analysis = echo();
            let candidate = Candidate {
                command_text: TEXT,
                analysis: &analysis,
                cwd: None,
                home: None,
            };
            assert_eq!(
                decide(&policy, &candidate),
                Decision::Deny(DenialReason::SecurityDeny)
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
