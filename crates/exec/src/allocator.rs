//! How the C library's allocator, which is this program's, treats what one run needs for a moment.

/// From which size on a block is memory of its own, in bytes, which goes back to the system as soon
/// as it is free. What an ordinary result takes stays below it and can be used again.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 512 * 1024;

/// Gives large blocks back to the system when they are freed.
///
/// The output of one run can become megabytes of JSON that exist several times for a moment. By
/// default the first such block that is freed raises the size from which glibc asks the system for
/// memory of its own, and from then on every thread keeps what its largest result took. It belongs
/// at the start of `main`. Elsewhere than with glibc it does nothing.
pub fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        use nix::libc::{M_MMAP_THRESHOLD, mallopt};
        // The results say whether the names are known, which these are since glibc 2.
        // SAFETY: `mallopt` takes two numbers and only changes the allocator's own parameters, under
        // its lock; no memory that is in use changes its place or meaning.
        #[allow(unsafe_code)]
        unsafe {
            mallopt(M_MMAP_THRESHOLD, LARGE);
        }
    }
}
