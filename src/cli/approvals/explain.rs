//! `approvals explain`: what would become of a command, and why.

use std::fmt::Write as _;

use approvals::decision::DenialReason;
use approvals::rules::Rules;
use approvals::skills::SkillBins;
use clap::Args;
use exec::clearance::Circumstances;
use exec::explanation::{BasisName, Explanation, Outcome, Question, RuleView, explain};
use exec::host::Host;
use nix::unistd::geteuid;

use super::super::output;
use super::keeper::Keeper;
use super::text::{command_line, printable, source};
use crate::exit::{Exit, Failure};

/// The shell that a gateway's exec tool runs command lines with (exec and approvals §12).
const GATEWAY_SHELL: [&str; 2] = [
    "/bin/sh",
    if cfg!(target_os = "macos") {
        "-c"
    } else {
        "-lc"
    },
];

/// The reason of what waits for a human.
const APPROVAL_REQUIRED: &str = DenialReason::ApprovalRequired.as_str();

/// Why approvals fail for root more often (exec and approvals §10, §14).
const ROOT_HINT: &str = "hint         for root every file is one that it may change, so a command line that names a program by \
    its path cannot be approved; name it without, or run the node as another user\n";

#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 it would run, 3 a human would be asked, 4 it would be denied.\n\n\
        Programs are searched with this shell's PATH, which may differ from that of the node's service.\n\
        With --raw and no command, the command is what a gateway's exec tool makes of TEXT: /bin/sh -lc TEXT."
)]
pub(super) struct Arguments {
    /// The agent that would ask [default: main]
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Where it would run
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// The command text that would come with it
    #[arg(long, value_name = "TEXT")]
    raw: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// The command with its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "raw")]
    command: Vec<String>,
}

impl Arguments {
    fn question(&self) -> Question {
        let command = match &self.raw {
            Some(raw) if self.command.is_empty() => {
                let shell = GATEWAY_SHELL.iter().copied();
                shell.chain([raw.as_str()]).map(str::to_owned).collect()
            }
            _ => self.command.clone(),
        };
        Question {
            command,
            raw_command: self.raw.clone(),
            cwd: self.cwd.clone(),
            agent_id: self.agent.clone(),
        }
    }
}

pub(super) fn run(arguments: &Arguments, keeper: &Keeper) -> Result<Exit, Failure> {
    let stored = keeper.read()?;
    let environment = keeper.environment();
    let home = environment.home().and_then(|home| home.to_str());
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::new(format_args!("the working directory is gone: {error}")))?;
    let rules = Rules::of(stored.document(), home);
    let circumstances = Circumstances {
        config: keeper.config(),
        document: stored.document(),
        rules: &rules,
        skills: &SkillBins::default(),
        host: &Host::new(&environment, &cwd),
    };
    let question = arguments.question();
    let explanation = explain(&question, circumstances);
    if let Some(error) = stored.error() {
        output::complain(error);
    }
    if arguments.json {
        output::json_line(&explanation).map_err(Failure::new)?;
    } else {
        output::print(&human(&question, &explanation));
    }
    Ok(match explanation.decision {
        Outcome::Allow => Exit::Done,
        Outcome::Ask => Exit::WouldAsk,
        Outcome::Deny => Exit::WouldDeny,
    })
}

fn human(question: &Question, explanation: &Explanation) -> String {
    let mut shown = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(shown, "command      {}", command_line(&question.command));
    if let Some(cwd) = &question.cwd {
        let _ = writeln!(shown, "cwd          {}", printable(cwd));
    }
    policy(&mut shown, explanation);
    for (index, segment) in explanation.segments.iter().enumerate() {
        let _ = writeln!(
            shown,
            "segment {:<4} {}",
            index + 1,
            command_line(&segment.argv)
        );
        let resolved = segment.resolved.as_deref().map(printable);
        let _ = writeln!(shown, "  executable {}", resolved.as_deref().unwrap_or("-"));
        let rule = match (&segment.rule, &segment.why) {
            (Some(rule), _) => self::rule(rule),
            (None, Some(why)) => format!("none: {}", printable(why)),
            (None, None) => "none".to_owned(),
        };
        let _ = writeln!(shown, "  rule       {rule}");
    }
    if let Some(argv) = &explanation.starts {
        let _ = writeln!(shown, "starts       {}", command_line(argv));
    }
    let _ = writeln!(shown, "outcome      {}", outcome(explanation));
    if cannot_be_approved(explanation) && geteuid().is_root() {
        shown.push_str(ROOT_HINT);
    }
    shown
}

fn policy(shown: &mut String, explanation: &Explanation) {
    let agent = &explanation.agent;
    let view = &explanation.policy;
    let sources = view.sources;
    let rows = [
        ("security", view.security.to_string(), sources.security),
        ("ask", view.ask.to_string(), sources.ask),
        (
            "askFallback",
            view.ask_fallback.to_string(),
            sources.ask_fallback,
        ),
        (
            "autoAllowSkills",
            view.auto_allow_skills.to_string(),
            sources.auto_allow_skills,
        ),
    ];
    let _ = writeln!(shown, "agent        {}", printable(agent));
    for (name, value, from) in rows {
        let _ = writeln!(shown, "  {name:<15} {value:<9} {}", source(from, agent));
    }
    if view.strict_inline_eval {
        let _ = writeln!(
            shown,
            "  strictInlineEval true      tools.exec in openclaw.json"
        );
    }
}

fn rule(rule: &RuleView) -> String {
    match rule {
        RuleView::Entry {
            agent,
            pattern,
            arg_pattern,
        } => {
            let arguments = match arg_pattern {
                Some(arguments) => format!(" with arguments {}", printable(arguments)),
                None => String::new(),
            };
            let (pattern, agent) = (printable(pattern), printable(agent));
            format!("entry {pattern}{arguments} of agent {agent}")
        }
        RuleView::SafeBin => "safe bin".to_owned(),
        RuleView::Builtin => "builtin of the shell".to_owned(),
        RuleView::Skill => "executable of a skill".to_owned(),
    }
}

/// Whether it waits for a human who could not help.
fn cannot_be_approved(explanation: &Explanation) -> bool {
    explanation.decision == Outcome::Deny && explanation.reason == Some(APPROVAL_REQUIRED)
}

fn outcome(explanation: &Explanation) -> String {
    let message = explanation.message.as_deref().unwrap_or_default();
    let reason = explanation.reason.unwrap_or_default();
    let because = format!("{reason}: {}", printable(&message.replace('\n', " ")));
    match (explanation.decision, explanation.basis) {
        (Outcome::Allow, Some(BasisName::FullSecurity)) => "allowed: security is full".to_owned(),
        (Outcome::Allow, Some(BasisName::Allowlist)) => {
            "allowed: every segment has a rule".to_owned()
        }
        (Outcome::Allow, Some(BasisName::ExactCommand)) => {
            "allowed: an entry grants this exact command".to_owned()
        }
        (Outcome::Allow, None) => "allowed".to_owned(),
        (Outcome::Ask, _) => {
            format!("a human would be asked, and it would run once approved: {because}")
        }
        (Outcome::Deny, _) if cannot_be_approved(explanation) => {
            format!("denied, and no approval would help: {because}")
        }
        (Outcome::Deny, _) => format!("denied: {because}"),
    }
}
