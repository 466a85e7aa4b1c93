//! The gateway's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now in unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since_epoch.as_millis().try_into().unwrap_or(u64::MAX)
}
