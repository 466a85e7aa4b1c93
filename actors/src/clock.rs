//! Time that goes on while the machine sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// The clock that counts a suspended machine's sleep, so that a connection that slept through its
/// deadline is known to be dead at the first look after waking up.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

/// Time since some fixed moment; never goes back.
pub(crate) fn since_boot() -> Duration {
    // The clocks named above exist on every kernel that runs this binary; should one be refused,
    // a constant only switches the watchdog off, it does not break the node.
    clock_gettime(CLOCK).map_or(Duration::ZERO, Duration::from)
}

/// Wall-clock time in unix milliseconds.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
