//! The flags that say which commands a node offers, for `run` and `install`.

use std::collections::BTreeSet;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub(super) struct CommandArguments {
    /// Offer exactly these commands, separated by commas; saved, and may be given more than once
    #[arg(long, value_name = "IDS", allow_hyphen_values = true)]
    commands: Vec<String>,
    /// Offer every command again
    #[arg(long)]
    all_commands: bool,
}

/// Which commands are offered from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandChoice {
    /// As an earlier run saved it.
    Saved,
    /// All that there are.
    All,
    /// These.
    Only(BTreeSet<String>),
}

/// Wrong flags, in upstream's words (CLI §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("--commands requires comma-separated non-empty command ids")]
    Blank,
    #[error("--all-commands cannot be combined with --commands")]
    Both,
}

impl CommandArguments {
    /// What the flags say.
    pub(super) fn choose(&self) -> Result<CommandChoice, CommandError> {
        match (self.commands.as_slice(), self.all_commands) {
            ([], false) => Ok(CommandChoice::Saved),
            ([], true) => Ok(CommandChoice::All),
            (_, true) => Err(CommandError::Both),
            (lists, false) => lists
                .iter()
                .flat_map(|list| list.split(','))
                .map(|id| match id.trim() {
                    "" => Err(CommandError::Blank),
                    id => Ok(id.to_owned()),
                })
                .collect::<Result<_, _>>()
                .map(CommandChoice::Only),
        }
    }
}

impl CommandChoice {
    /// The list to save: this choice, over what was saved before.
    pub(super) fn over(self, saved: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
        match self {
            Self::Saved => saved,
            Self::All => None,
            Self::Only(ids) => Some(ids),
        }
    }

    /// The flags that say the same.
    pub(super) fn to_flags(&self) -> Vec<String> {
        match self {
            Self::Saved => Vec::new(),
            Self::All => vec!["--all-commands".to_owned()],
            Self::Only(ids) => {
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                vec!["--commands".to_owned(), ids.join(",")]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(lists: &[&str], all_commands: bool) -> Result<CommandChoice, CommandError> {
        let commands = lists.iter().map(|&list| list.to_owned()).collect();
        CommandArguments {
            commands,
            all_commands,
        }
        .choose()
    }

    #[test]
    fn lists_are_joined_sorted_and_free_of_repetitions() {
        let chosen = choose(&["system.which , system.run", "system.run"], false).unwrap();
        assert_eq!(chosen.to_flags(), ["--commands", "system.run,system.which"]);
        assert_eq!(choose(&[], false), Ok(CommandChoice::Saved));
        assert_eq!(choose(&[], true).unwrap().over(Some(BTreeSet::new())), None);
    }

    #[test]
    fn blank_and_contradicting_flags_are_refused() {
        for blank in ["", " ", "a,,b", ",a", "a,"] {
            assert_eq!(
                choose(&[blank], false),
                Err(CommandError::Blank),
                "{blank:?}"
            );
        }
        assert_eq!(choose(&["a"], true), Err(CommandError::Both));
    }
}
