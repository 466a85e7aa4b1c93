//! Randomness for waits, so that a fleet does not reconnect in step (wire protocol §14).

use protocol::reconnect::Jitter;

/// A random spread; none at all if the system has no randomness to give.
pub(crate) fn random() -> Jitter {
    let mut bytes = [0_u8; 2];
    match getrandom::fill(&mut bytes) {
        Ok(()) => Jitter::from_random(u16::from_ne_bytes(bytes)),
        Err(_) => Jitter::NONE,
    }
}
