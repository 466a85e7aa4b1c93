//! Remembers how a node ended, for whoever asks once it is down.

use node_config::{Environment, Paths};
use state::{Database, StateLock};
use tracing::debug;

use super::run::unix_ms;
use crate::exit::Exit;

/// Writes down how the node ended, or why it could not start. Where there is no state yet none is
/// made, and where another node runs the state is that node's.
pub(super) fn remember(environment: &Environment, exit: Exit, reason: &str) {
    let Ok(paths) = Paths::from_environment(environment) else {
        return;
    };
    if !Database::exists(&paths.state_dir) {
        return;
    }
    let write = || {
        let _lock = StateLock::acquire(&paths.state_dir)?;
        Database::open(&paths.state_dir)?.end_life(exit.code(), reason, unix_ms())
    };
    if let Err(error) = write() {
        debug!(%error, "how the node ended is not remembered");
    }
}
