//! What runs leave in the approvals document: grants that an allow-always decision adds, and when
//! an entry was last used (exec and approvals §11, allow-always).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::allowlist::{self, CWD_ARGV_PREFIX, Invocation, Target};
use crate::analysis::{Analysis, Simple};
use crate::command::trim;
use crate::decision::Match;
use crate::digest::sha256_hex16;
use crate::document::{Document, Entry, Usage};
use crate::inline_eval;
use crate::policy::WILDCARD_AGENT;
use crate::wrapper::is_multiplexer;

/// What the pattern of an entry starts with that only tells an operator which command was granted.
const MARKER_PREFIX: &str = "=node-command:";

/// What identifies a rule in a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleKey {
    /// The executable it names.
    pub pattern: String,
    /// What its arguments must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
}

impl RuleKey {
    /// The key of an entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            pattern: entry.pattern.clone(),
            arg_pattern: entry.arg_pattern.clone(),
        }
    }

    fn names(&self, entry: &Entry) -> bool {
        self.pattern == entry.pattern && self.arg_pattern == entry.arg_pattern
    }
}

/// What an allow-always decision about a command would grant: `allowAlwaysCoverage` of a prepare
/// answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Whether the patterns name everything that the command executes.
    pub complete: bool,
    /// The rules that would be added.
    pub patterns: Vec<RuleKey>,
}

/// How much of inline code is asked about, which decides whether interpreters may be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InlineCode {
    /// Nothing is done about it, so that an interpreter's arguments may be anything.
    Unchecked,
    /// It is always asked about, so that what is remembered is a script.
    Strict,
}

impl Coverage {
    /// The coverage of a command that runs in `cwd`: the request's directory, else that of this
    /// process. Empty where the approval can only hold once.
    pub fn of(analysis: &Analysis, cwd: &str, inline_code: InlineCode) -> Self {
        let remembered = |target: &Target| remembered(target, cwd, inline_code);
        match analysis {
            Analysis::Direct(target) => {
                let rule = remembered(target);
                Self {
                    complete: rule.is_some() && is_whole(target),
                    patterns: rule.into_iter().collect(),
                }
            }
            Analysis::Payload(payload) => {
                let commands = payload.simple_commands();
                let is_fixed = |command: &&Simple| {
                    !command.expands
                        && !command.is_moved
                        && !matches!(command.target, Target::Unanalysable(_))
                };
                if !commands.iter().all(is_fixed) {
                    return Self::default();
                }
                let mut patterns: Vec<RuleKey> = Vec::new();
                let mut complete = true;
                for command in commands {
                    let rule = remembered(&command.target);
                    complete &=
                        (rule.is_some() && is_whole(&command.target)) || command.is_safe_builtin;
                    patterns.extend(rule.filter(|rule| !patterns.contains(rule)));
                }
                Self {
                    complete: complete && !patterns.is_empty(),
                    patterns,
                }
            }
        }
    }
}

/// Whether a rule for the target names everything that the command executes.
fn is_whole(target: &Target) -> bool {
    matches!(target, Target::Program(_) | Target::Package(_))
}

/// The rule that would satisfy a command the next time: that of its program, of a shell that of the
/// script, never of the shell.
fn remembered(target: &Target, cwd: &str, inline_code: InlineCode) -> Option<RuleKey> {
    match target {
        Target::Program(program) | Target::Package(program) => {
            bound_rule(program, cwd, inline_code)
        }
        Target::Shell { shell, script } => {
            shell.resolution.trusted_path()?;
            bound_rule(script.as_ref()?, cwd, inline_code)
        }
        Target::Unanalysable(_) => None,
    }
}

/// The rule that names this executable with these arguments in this directory, and nothing else.
fn bound_rule(target: &Invocation, cwd: &str, inline_code: InlineCode) -> Option<RuleKey> {
    let pattern = target.resolution.trusted_path()?.to_str()?;
    let may_run_code = match inline_code {
        InlineCode::Unchecked => inline_eval::is_interpreter(pattern),
        InlineCode::Strict => is_multiplexer(pattern) || inline_eval::find(&target.argv).is_some(),
    };
    // A path that holds a wildcard, or ends in white space, would name other files.
    if may_run_code || pattern.contains(['*', '?']) || trim(pattern) != pattern {
        return None;
    }
    Some(RuleKey {
        pattern: pattern.to_owned(),
        arg_pattern: Some(allowlist::cwd_argv_binding(cwd, &target.argv)),
    })
}

/// One use of the rules that a run matched.
#[derive(Clone, Copy, Debug)]
pub struct RecordedUse<'a> {
    /// The rules, each with the executable that it named.
    pub matches: &'a [&'a Match],
    /// The text of the command.
    pub command_text: &'a str,
    /// When, in unix milliseconds.
    pub at_ms: u64,
}

impl Document {
    /// Adds what an allow-always decision grants to an agent, and returns whether that changed
    /// anything. Generated entries for the same executable that bind no directory, as older
    /// releases wrote them, make way.
    pub fn record_allow_always(
        &mut self,
        agent: &str,
        coverage: &Coverage,
        command_text: &str,
        at_ms: u64,
        new_id: &mut dyn FnMut() -> String,
    ) -> bool {
        let command_text = trim(command_text);
        let mut rules = coverage.patterns.clone();
        if coverage.complete && !rules.is_empty() && !command_text.is_empty() {
            rules.push(RuleKey {
                pattern: format!("{MARKER_PREFIX}{}", sha256_hex16(command_text)),
                arg_pattern: None,
            });
        }
        if rules.is_empty() {
            return false;
        }
        let agent = self.agents.entry(agent.to_owned()).or_default();
        let allowlist = agent.allowlist.get_or_insert_default();
        let is_superseded = |entry: &Entry| {
            entry.allow_always
                && !is_cwd_bound(entry.arg_pattern.as_deref())
                && rules.iter().any(|rule| {
                    rule.pattern == entry.pattern && is_cwd_bound(rule.arg_pattern.as_deref())
                })
        };
        let before = allowlist.len();
        allowlist.retain(|entry| !is_superseded(entry));
        let mut changed = allowlist.len() != before;
        for rule in rules {
            match allowlist.iter_mut().find(|entry| rule.names(entry)) {
                Some(entry) if entry.allow_always => continue,
                Some(entry) => {
                    entry.allow_always = true;
                    entry.usage.at = Some(at_ms.into());
                }
                None => allowlist.push(Entry {
                    id: Some(new_id()),
                    pattern: rule.pattern,
                    arg_pattern: rule.arg_pattern,
                    allow_always: true,
                    usage: Usage {
                        at: Some(at_ms.into()),
                        ..Usage::default()
                    },
                    ..Entry::default()
                }),
            }
            changed = true;
        }
        changed
    }

    /// Notes on every entry with one of these rules, of the wildcard agent and of `agent`, when
    /// it was used, and returns whether there was one. The revision stays what it was.
    pub fn record_use(&mut self, agent: &str, used: &RecordedUse<'_>) -> bool {
        let entries = self
            .agents
            .iter_mut()
            .filter(|(id, _)| *id == WILDCARD_AGENT || *id == agent)
            .flat_map(|(_, agent)| agent.allowlist.iter_mut().flatten());
        let mut changed = false;
        for entry in entries {
            let Some(matched) = used.matches.iter().find(|matched| matched.key.names(entry)) else {
                continue;
            };
            changed = true;
            let resolved_path = matched.resolved_path.as_deref().and_then(Path::to_str);
            // The arguments that a hash stands for are not to be readable beside it.
            let is_hashed = allowlist::is_hashed(entry.arg_pattern.as_deref());
            entry.usage = Usage {
                at: Some(used.at_ms.into()),
                command: (!is_hashed).then(|| used.command_text.to_owned()),
                resolved_path: resolved_path.map(str::to_owned),
            };
        }
        changed
    }
}

fn is_cwd_bound(arg_pattern: Option<&str>) -> bool {
    arg_pattern.is_some_and(|pattern| pattern.starts_with(CWD_ARGV_PREFIX))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::{Coverage, InlineCode, RecordedUse, RuleKey};
    use crate::allowlist::{Invocation, Resolution, Target, Unanalysable, cwd_argv_binding};
    use crate::analysis::Analysis;
    use crate::decision::Match;
    use crate::document::Document;

    fn program(argv: &[&str], real: Option<&str>) -> Invocation {
        Invocation {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            resolution: Resolution {
                raw_token: argv[0].to_owned(),
                resolved_path: real.map(PathBuf::from),
                real_path: real.map(PathBuf::from),
            },
        }
    }

    fn matched(key: RuleKey, path: Option<&str>) -> Match {
        Match {
            index: 0,
            key,
            resolved_path: path.map(PathBuf::from),
        }
    }

    fn document(file: &Value) -> Document {
        Document::from_value(file.as_object().unwrap(), &mut || "old".to_owned()).unwrap()
    }

    fn ids() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("id-{count}")
        }
    }

    fn coverage_of(target: Target, cwd: &str) -> Coverage {
        Coverage::of(&Analysis::Direct(target), cwd, InlineCode::Unchecked)
    }

    fn echo_coverage() -> Coverage {
        let echo = program(&["echo", "a"], Some("/usr/bin/echo"));
        coverage_of(Target::Program(echo), "/tmp/x")
    }

    fn binding() -> String {
        cwd_argv_binding("/tmp/x", &["echo".to_owned(), "a".to_owned()])
    }

    #[test]
    fn a_direct_command_is_covered_whole_and_a_script_in_part() {
        assert_eq!(
            json!(echo_coverage()),
            json!({"complete": true, "patterns": [{"pattern": "/usr/bin/echo", "argPattern": binding()}]})
        );
        let script = Target::Shell {
            shell: program(&["sh", "run.sh", "x"], Some("/usr/bin/dash")),
            script: Some(program(&["/tmp/x/run.sh", "x"], Some("/tmp/x/run.sh"))),
        };
        let coverage = coverage_of(script, "/tmp/x");
        assert!(!coverage.complete);
        assert_eq!(coverage.patterns[0].pattern, "/tmp/x/run.sh");
    }

    #[test]
    fn nothing_is_granted_that_would_reach_further_than_what_was_shown() {
        let of = |argv: &[&str], real| coverage_of(Target::Program(program(argv, real)), "/");
        for real in [
            "/usr/bin/python3.11",
            "/usr/bin/python",
            "/usr/bin/perl5.36.0",
            "/usr/bin/node-20",
            "/usr/bin/mawk",
            "/usr/bin/R",
            "/usr/bin/find",
            "/usr/bin/xargs",
            "/usr/bin/lua5.4",
            "/opt/scala-cli",
            "/tmp/a*b",
            "/tmp/a?b",
            "/tmp/a ",
        ] {
            assert_eq!(of(&["x"], Some(real)), Coverage::default(), "{real}");
        }
        for real in [
            "/usr/bin/r2",
            "/usr/bin/nodeps",
            "/usr/bin/mypython",
            "/usr/bin/x86_64",
        ] {
            assert_eq!(of(&["x"], Some(real)).patterns.len(), 1, "{real}");
        }
        assert_eq!(of(&["x"], None), Coverage::default());
        for target in [
            Target::Unanalysable(Unanalysable::ShellPayload),
            Target::Shell {
                shell: program(&["sh"], Some("/usr/bin/dash")),
                script: None,
            },
        ] {
            assert_eq!(coverage_of(target, "/"), Coverage::default());
        }
    }

    #[test]
    fn a_grant_adds_its_rule_and_a_marker_once() {
        let mut document = document(&json!({"agents": {"main": {"ask": "off", "allowlist": []}}}));
        let revision = document.revision();
        let mut record = |at| {
            document.record_allow_always(
                "main",
                &echo_coverage(),
                " /usr/bin/echo a ",
                at,
                &mut ids(),
            )
        };
        assert!(record(5));
        assert!(!record(6));
        assert_eq!(
            document.redacted()["agents"]["main"],
            json!({"ask": "off", "allowlist": [
                {"id": "id-1", "pattern": "/usr/bin/echo", "argPattern": binding(), "source": "allow-always", "lastUsedAt": 5},
                {"id": "id-2", "pattern": "=node-command:fa74956a31fe77b2", "source": "allow-always", "lastUsedAt": 5}]})
        );
        assert_ne!(document.revision(), revision);
    }

    #[test]
    fn a_grant_to_an_agent_without_a_section_makes_one() {
        let mut document = Document::default();
        let coverage = echo_coverage();
        assert!(document.record_allow_always("ops", &coverage, "", 5, &mut ids()));
        let allowlist = document.agents["ops"].allowlist.as_ref().unwrap();
        assert_eq!(allowlist.len(), 1, "without a text there is no marker");
        let mut untouched = Document::default();
        let empty = Coverage::default();
        assert!(!untouched.record_allow_always("ops", &empty, "echo", 5, &mut ids()));
        assert_eq!(untouched, Document::default());
    }

    #[test]
    fn a_partial_grant_leaves_no_marker() {
        let coverage = Coverage {
            complete: false,
            ..echo_coverage()
        };
        let mut document = Document::default();
        document.record_allow_always("main", &coverage, "sh run.sh", 5, &mut ids());
        assert_eq!(document.agents["main"].allowlist.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn older_generated_entries_make_way_and_an_operators_stay() {
        let mut document = document(&json!({"agents": {"main": {"allowlist": [
            {"id": "1", "pattern": "/usr/bin/echo", "source": "allow-always"},
            {"id": "2", "pattern": "/usr/bin/echo", "argPattern": "sha256:argv:00", "source": "allow-always"},
            {"id": "3", "pattern": "/usr/bin/echo"},
            {"id": "4", "pattern": "/usr/bin/cat", "source": "allow-always"},
            {"id": "5", "pattern": "/usr/bin/echo", "argPattern": "sha256:cwd-argv:v1:00", "source": "allow-always"},
            {"id": "6", "pattern": "/usr/bin/echo", "argPattern": binding()}]}}}));
        assert!(document.record_allow_always("main", &echo_coverage(), "", 7, &mut ids()));
        let entries = document.agents["main"].allowlist.as_ref().unwrap();
        let ids: Vec<_> = entries
            .iter()
            .map(|entry| entry.id.as_deref().unwrap())
            .collect();
        assert_eq!(ids, ["3", "4", "5", "6"]);
        assert!(entries[3].allow_always);
        assert!(!entries[0].allow_always);
    }

    #[test]
    fn use_is_noted_where_the_rule_stands_and_nowhere_else() {
        let rules = json!([{"id": "1", "pattern": "echo"}, {"id": "2", "pattern": "echo", "argPattern": "^x$"}]);
        let mut document = document(&json!({"agents": {
            "*": {"allowlist": rules}, "main": {"allowlist": rules}, "ops": {"allowlist": rules}}}));
        let revision = document.revision();
        let rule = RuleKey {
            pattern: "echo".to_owned(),
            arg_pattern: None,
        };
        let matched = matched(rule, Some("/usr/bin/echo"));
        let used = RecordedUse {
            matches: &[&matched],
            command_text: "echo m",
            at_ms: 9,
        };
        assert!(document.record_use("main", &used));
        let noted = json!([
            {"id": "1", "pattern": "echo", "lastUsedAt": 9, "lastUsedCommand": "echo m", "lastResolvedPath": "/usr/bin/echo"},
            {"id": "2", "pattern": "echo", "argPattern": "^x$"}]);
        assert_eq!(
            document.redacted()["agents"],
            json!({"*": {"allowlist": noted}, "main": {"allowlist": noted}, "ops": {"allowlist": rules}})
        );
        assert_eq!(document.revision(), revision);
        assert!(!document.record_use(
            "main",
            &RecordedUse {
                matches: &[],
                ..used
            }
        ));
    }

    #[test]
    fn the_command_is_not_written_beside_the_hash_that_hides_it() {
        let mut document = document(&json!({"agents": {"main": {"allowlist": [
            {"id": "1", "pattern": "/usr/bin/echo", "argPattern": binding(), "source": "allow-always", "lastUsedCommand": "old"}]}}}));
        let matched = matched(echo_coverage().patterns.remove(0), None);
        let used = RecordedUse {
            matches: &[&matched],
            command_text: "echo a",
            at_ms: 9,
        };
        assert!(document.record_use("main", &used));
        assert_eq!(
            document.redacted()["agents"]["main"]["allowlist"][0],
            json!({"id": "1", "pattern": "/usr/bin/echo", "argPattern": binding(), "source": "allow-always", "lastUsedAt": 9})
        );
    }
}
