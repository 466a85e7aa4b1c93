//! `approvals preset`: a policy with a name.

use approvals::edit::Preset;
use approvals::policy::{Approval, resolve};
use clap::{Args, ValueEnum};

use super::super::output;
use super::keeper::Keeper;
use super::text::{printable, source};
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The policy
    #[arg(value_enum)]
    name: Name,
    /// Print the stored document as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// Everything runs and nobody is asked (security full, ask off)
    Yolo,
    /// What is listed runs, a human is asked about the rest (security allowlist, ask on-miss)
    Strict,
    /// Nothing runs (security deny)
    Deny,
}

impl From<Name> for Preset {
    fn from(name: Name) -> Self {
        match name {
            Name::Yolo => Self::Yolo,
            Name::Strict => Self::Strict,
            Name::Deny => Self::Deny,
        }
    }
}

pub(super) fn run(arguments: &Arguments, keeper: &Keeper) -> Result<Exit, Failure> {
    let preset = Preset::from(arguments.name);
    let (stored, overruled) = keeper.edit(|document| Ok(document.apply(preset)))?;
    for agent in &overruled {
        output::complain(format_args!(
            "agent {} had a policy of its own, which is gone",
            printable(agent)
        ));
    }
    let policy = resolve(keeper.config(), stored.document(), None, Approval::None);
    let fields = preset.fields();
    let file = keeper.config_file();
    if Some(policy.security.value) != fields.security {
        output::complain(format_args!(
            "security stays {}, because of {} ({file})",
            policy.security.value,
            source(policy.security.source, "main"),
        ));
    }
    if Some(policy.ask.value) != fields.ask {
        output::complain(format_args!(
            "ask stays {}, because of {} ({file})",
            policy.ask.value,
            source(policy.ask.source, "main"),
        ));
    }
    keeper.report(&stored, arguments.json, "policy of all agents stored")
}
