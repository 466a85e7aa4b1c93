//! A node host of upstream's as it lies on disk, read without changing a byte of it (state §3).
//!
//! Releases keep the same four items in different places, and an update that was cut short leaves
//! a mixture. So each item is looked for by itself: the row of the 2026.9.6 database, else the
//! file of 2026.5.x, else the file that upstream's own migration had claimed and not finished.

mod chain;
mod database;
mod files;
mod identity;
mod profile;

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use self::chain::Chain;
use self::database::UpstreamDatabase;
use crate::StoredIdentity;

pub use self::profile::UpstreamProfile;

/// Where an item was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The table, if the file is a database.
    pub table: Option<&'static str>,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())?;
        match self.table {
            Some(table) => write!(formatter, "#{table}"),
            None => Ok(()),
        }
    }
}

/// An item, and where it was found.
#[derive(Debug)]
pub struct Found<T> {
    /// The item.
    pub value: T,
    /// Where it was.
    pub source: Source,
}

/// Why an item that is there cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}; let this user read and write it, then import again", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        reason: String,
    },
    /// The database was left in the middle of a write, and finishing that would change it.
    #[error(
        "{path} was left in the middle of a write; start and stop the old node host once so that it finishes it, then import again",
        path = .path.display()
    )]
    Unfinished {
        /// The database.
        path: PathBuf,
    },
    /// What was found makes no sense. Never shows a stored value.
    #[error("cannot take over the {what}: {}", .faults.join("; "))]
    Invalid {
        /// Which item.
        what: &'static str,
        /// Where it was found and what is wrong with it there.
        faults: Vec<String>,
    },
}

/// Upstream's node host of one state folder.
#[derive(Debug)]
pub struct UpstreamNode {
    /// Node id, name, gateway. It is what makes a state folder that of a node host.
    pub profile: Found<UpstreamProfile>,
    /// The device identity; key, public key and id belong together. `None` where the node host
    /// never connected.
    pub identity: Option<Found<StoredIdentity>>,
    /// The token that a gateway issued to this very identity.
    pub device_token: Option<Found<SecretString>>,
    /// The approvals document, as it is.
    pub approvals: Option<Found<SecretString>>,
    /// What was found and not taken, and why; for the operator.
    pub passed_over: Vec<String>,
}

impl UpstreamNode {
    /// Looks for a node host in a state folder; `None` where none was ever configured, as on a
    /// machine that only uses upstream's command line or runs a gateway.
    ///
    /// `home` is where 2026.5.x kept the approvals, whatever its state folder was.
    ///
    /// # Errors
    /// [`UpstreamError`], for what is there and can be neither taken nor safely left behind.
    pub fn survey(state_dir: &Path, home: &Path) -> Result<Option<Self>, UpstreamError> {
        let database = UpstreamDatabase::open(&state_dir.join("state").join("openclaw.sqlite"))?;
        let database = database.as_ref();
        let mut passed_over = Vec::new();
        let Some(profile) = profile::find(database, state_dir)?.settle(&mut passed_over)? else {
            return Ok(None);
        };
        let identity = identity::find(database, state_dir)?.settle(&mut passed_over)?;
        let device_token = match &identity {
            Some(found) => {
                let device_id = found.value.identity.device_id().as_str();
                identity::find_token(database, state_dir, device_id)?
                    .settle_for_less(&mut passed_over)
            }
            None => None,
        };
        let is_may = profile.source.table.is_none();
        let approvals =
            find_approvals(database, state_dir, home, is_may)?.settle(&mut passed_over)?;
        Ok(Some(Self {
            profile,
            identity,
            device_token,
            approvals,
            passed_over,
        }))
    }
}

/// 2026.5.x obeyed the document of the home folder and no other (state §3.2); later releases take
/// that of the state folder, until their database holds one.
fn find_approvals(
    database: Option<&UpstreamDatabase>,
    state_dir: &Path,
    home: &Path,
    is_may: bool,
) -> Result<Chain<SecretString>, UpstreamError> {
    let of_state = state_dir.join("exec-approvals.json");
    let of_home = home.join(".openclaw").join("exec-approvals.json");
    let files = match is_may {
        true if of_home != of_state => vec![of_home, of_state],
        true | false => vec![of_state],
    };
    let mut chain = Chain::new("approvals document");
    chain.row(
        database,
        "exec_approvals_config",
        UpstreamDatabase::approvals,
    )?;
    for file in files {
        chain.files(&file, files::APPROVALS_LIMIT_BYTES, |text| {
            Ok(Some(SecretString::from(text)))
        })?;
    }
    Ok(chain)
}
