//! The approvals document in the database, as operators read and change it.

use approvals::document::Document;
use approvals::policy::ExecConfig;
use approvals::snapshot::{Replacement, Snapshot, Stored, document_location};
use exec::environment::BaseEnvironment;
use node_config::{Configuration, Environment};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use state::{Database, StoredApprovals};

use super::super::clock::unix_ms;
use super::super::output;
use super::text::printable;
use crate::exit::{Exit, Failure};

/// How often an edit is tried again on what somebody else, such as a running node, has written in
/// the meantime.
const ATTEMPTS: u32 = 16;

/// Where the document is, and what it is read beside.
pub(super) struct Keeper {
    configuration: Configuration,
}

impl Keeper {
    /// Finds the state and reads openclaw.json.
    pub(super) fn new(environment: &Environment) -> Result<Self, Failure> {
        let configuration = Configuration::load(environment, None).map_err(Failure::new)?;
        Ok(Self { configuration })
    }

    /// The policy of openclaw.json.
    pub(super) fn config(&self) -> &ExecConfig {
        &self.configuration.openclaw_json.exec
    }

    /// What commands start from.
    pub(super) fn environment(&self) -> BaseEnvironment {
        BaseEnvironment::new(self.configuration.variables_for_commands())
    }

    /// The file that [`Keeper::config`] came from, for a human.
    pub(super) fn config_file(&self) -> String {
        self.configuration.paths.config_file.display().to_string()
    }

    /// What is stored. Nothing is made where there is nothing.
    pub(super) fn read(&self) -> Result<Stored, Failure> {
        let stored = match Database::open_read_only(&self.configuration.paths.state_dir)? {
            Some(database) => database.approvals()?.stored,
            None => None,
        };
        Ok(read(stored.as_ref()))
    }

    /// What operators are shown of it.
    pub(super) fn snapshot(&self, stored: &Stored) -> Snapshot {
        let location = document_location(&self.configuration.paths.state_dir);
        stored.snapshot(&location, self.config(), false)
    }

    /// Replaces what is stored by what `change` makes of it, if nobody changes it meanwhile, else
    /// by what `change` makes of the new one.
    pub(super) fn replace(
        &self,
        mut change: impl FnMut(&Stored) -> Result<Replacement, Failure>,
    ) -> Result<Stored, Failure> {
        let mut database = Database::open(&self.configuration.paths.state_dir)?;
        for _ in 0..ATTEMPTS {
            let current = database.approvals()?.stored;
            let replacement = change(&read(current.as_ref()))?;
            let expected = current.as_ref().map(|stored| stored.raw_json.as_str());
            let text = replacement.text.expose_secret();
            match database.replace_approvals(text, expected, unix_ms())? {
                state::Replacement::Done => return Ok(replacement.stored),
                state::Replacement::Conflict { .. } => {}
            }
        }
        Err(Failure::new(
            "the approvals document is changed by others all the time; try again",
        ))
    }

    /// Edits the document piece by piece. `edit` may find that there is nothing to do.
    pub(super) fn edit<T>(
        &self,
        mut edit: impl FnMut(&mut Document) -> Result<T, Failure>,
    ) -> Result<(Stored, T), Failure> {
        let mut outcome = None;
        let stored = self.replace(|stored| {
            if let Some(error) = stored.error() {
                return Err(Failure::new(error));
            }
            let mut document = stored.document().clone();
            outcome = Some(edit(&mut document)?);
            Ok(Replacement {
                text: document.canonical_text(),
                stored: document.into(),
            })
        })?;
        let outcome = outcome.ok_or_else(|| Failure::new("nothing was edited"))?;
        Ok((stored, outcome))
    }

    /// Says what is stored now.
    pub(super) fn report(&self, stored: &Stored, json: bool, what: &str) -> Result<Exit, Failure> {
        let snapshot = self.snapshot(stored);
        if json {
            output::json_line(&snapshot).map_err(Failure::new)?;
        } else {
            output::line(format_args!("{}; hash {}", printable(what), snapshot.hash));
        }
        Ok(Exit::Done)
    }
}

/// The parameters of a `set` that an operator of this machine makes.
pub(super) fn set_params(file: &Value, base_hash: &str) -> Value {
    json!({ "file": file, "baseHash": base_hash })
}

/// A fresh id for an entry.
pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn read(stored: Option<&StoredApprovals>) -> Stored {
    Stored::read(stored.map(|stored| stored.raw_json.as_str()))
}
