//! What a running node takes over from files that were changed: credentials, policy, settings and
//! the environment of commands. Which gateway it is connected to is none of that.

use std::sync::Arc;

use ::exec::environment::BaseEnvironment;
use actix::Message;
use approvals::policy::ExecConfig;
use node_config::ExecSettings;
use secrecy::SecretString;
use state::JournalBounds;

use crate::credential_files::CredentialFiles;
use crate::credential_source::CredentialSources;

/// What was read again.
pub struct Reloaded {
    /// The gateway's shared token.
    pub token: Option<SecretString>,
    /// The gateway's password.
    pub password: Option<SecretString>,
    /// Where these two came from.
    pub credential_sources: CredentialSources,
    /// The policy of openclaw.json.
    pub exec_config: ExecConfig,
    /// The node's own settings.
    pub settings: node_config::Settings,
    /// What commands inherit.
    pub environment: BaseEnvironment,
}

/// Reads everything again, as at start; told whether a device token is there, which can make
/// other credentials unnecessary. It may wait for a program or a disk, so it gets a thread of its
/// own. An error says, ready for the operator, why everything stays as it was.
pub type ReadAgain = Arc<dyn Fn(bool) -> Result<Reloaded, String> + Send + Sync>;

/// How to read everything again.
pub struct Reload {
    /// Does it.
    pub read: ReadAgain,
    /// Where shared credentials come from: while a refused one is held back, a change is a reason to
    /// read again.
    pub credential_files: CredentialFiles,
}

/// The policy and the environment of commands were read again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PolicyReloaded {
    pub(crate) config: ExecConfig,
    pub(crate) environment: BaseEnvironment,
}

/// The settings and the environment of commands were read again.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SettingsReloaded {
    pub(crate) settings: ExecSettings,
    pub(crate) bounds: JournalBounds,
    pub(crate) environment: BaseEnvironment,
}
