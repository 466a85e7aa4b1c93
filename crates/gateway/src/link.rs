//! What a TCP connection, its session and the hub share: enough to end it from outside.
//!
//! A session runs only while its connection takes bytes, so a peer that stops reading freezes it.
//! Whatever must work against such a peer goes through here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Bytes that may wait for a peer that does not read (§1.2).
pub(crate) const MAX_BUFFERED_BYTES: usize = 52_428_800;

/// The shared end of one TCP connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    cut: Notify,
    awaiting_pong: AtomicBool,
    /// Bytes handed to the session and not yet taken by the connection.
    queued: AtomicUsize,
}

impl Link {
    /// Ends TCP at once.
    pub(crate) fn cut(&self) {
        self.cut.notify_one();
    }

    /// Ends TCP later, if it has not ended by then.
    pub(crate) fn cut_after(self: &Arc<Self>, delay: Duration) {
        let link = Arc::clone(self);
        actix_rt::spawn(async move {
            tokio::time::sleep(delay).await;
            link.cut();
        });
    }

    /// Resolves when TCP has to end.
    pub(crate) async fn until_cut(&self) {
        self.cut.notified().await;
    }

    /// Notes a ping; false when the one before was never answered.
    pub(crate) fn expect_pong(&self) -> bool {
        !self.awaiting_pong.swap(true, Ordering::Relaxed)
    }

    /// Notes the answer to a ping.
    pub(crate) fn pong(&self) {
        self.awaiting_pong.store(false, Ordering::Relaxed);
    }

    /// Notes bytes on their way; false when more wait than a peer may leave unread.
    pub(crate) fn enqueue(&self, bytes: usize) -> bool {
        let queued = self
            .queued
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        queued <= MAX_BUFFERED_BYTES
    }

    /// Notes that bytes left for the connection.
    pub(crate) fn dequeue(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}
