//! Remembers how a node ended, for whoever asks once it is down.

use std::path::Path;

use state::{Database, StateLock};
use tracing::debug;

use super::clock::unix_ms;
use crate::exit::Exit;

/// Writes down how the node ended, or why it could not start. Where there is no state yet none is
/// made, and where another node runs the state is that node's.
pub(super) fn remember(state_dir: &Path, exit: Exit, reason: &str) {
    if !Database::exists(state_dir) {
        return;
    }
    let write = || {
        let _lock = StateLock::acquire(state_dir)?;
        Database::open(state_dir)?.end_life(exit.code(), reason, unix_ms())
    };
    if let Err(error) = write() {
        debug!(%error, "how the node ended is not remembered");
    }
}
