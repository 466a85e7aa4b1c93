//! Names for the node's threads, so that `top -H` and a debugger tell them apart.

use std::ffi::CStr;

/// Names the calling thread, where the system can.
pub(crate) fn name_current(name: &CStr) {
    #[cfg(target_os = "linux")]
    if let Err(errno) = nix::sys::prctl::set_name(name) {
        tracing::debug!(%errno, "thread not named");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}
