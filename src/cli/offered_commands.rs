//! `--commands` and `--all-commands`: which commands this node offers (CLI §1.1).

use std::collections::BTreeSet;

use clap::Args;

use super::output;

#[derive(Debug, Args)]
pub(super) struct OfferedCommands {
    /// Offer these commands and no others, now and in later runs; comma separated, repeatable
    #[arg(long, value_name = "IDS")]
    commands: Vec<String>,
    /// Offer every command again
    #[arg(long)]
    all_commands: bool,
}

impl OfferedCommands {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// Upstream's words for it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.all_commands && !self.commands.is_empty() {
            return Err("--all-commands cannot be combined with --commands");
        }
        let ids = self.commands.iter().flat_map(|list| list.split(','));
        match ids.map(str::trim).any(str::is_empty) {
            true => Err("--commands requires comma-separated non-empty command ids"),
            false => Ok(()),
        }
    }

    /// What holds from now on; `None` is every command.
    pub(super) fn over(&self, saved: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
        if self.all_commands {
            if saved.is_some() {
                output::complain(
                    "node-host: cleared saved command allowlist; advertising the full default command surface",
                );
            }
            return None;
        }
        if self.commands.is_empty() {
            return saved;
        }
        let ids = self.commands.iter().flat_map(|list| list.split(','));
        Some(ids.map(|id| id.trim().to_owned()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(commands: &[&str], all_commands: bool) -> OfferedCommands {
        OfferedCommands {
            commands: commands.iter().map(|list| (*list).to_owned()).collect(),
            all_commands,
        }
    }

    #[test]
    fn lists_are_joined_sorted_and_kept_until_all_are_offered_again() {
        let set = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
        let saved: Option<BTreeSet<String>> = set(&["system.run"]);
        assert_eq!(given(&[], false).over(saved.clone()), saved);
        assert_eq!(given(&[], false).over(None), None);
        assert_eq!(given(&[], true).over(saved.clone()), None);
        let lists = given(&["system.which, system.run", "system.run"], false);
        assert_eq!(lists.over(saved), set(&["system.run", "system.which"]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(given(&["a,b", "c"], false).check().is_ok());
        assert!(given(&[], true).check().is_ok());
        for lists in [&[""][..], &["a,"], &["a", ",b"], &[" "]] {
            assert!(
                given(lists, false)
                    .check()
                    .unwrap_err()
                    .contains("non-empty")
            );
        }
        assert!(given(&["a"], true).check().unwrap_err().contains("cannot"));
    }
}
