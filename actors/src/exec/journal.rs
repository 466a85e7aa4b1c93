//! What is written about runs, gathered so that no command waits for it.

use std::time::Duration;

use actix::prelude::*;
use state::{JournalBounds, JournalEntry};
use tracing::{error, warn};

use super::Exec;
use crate::store::{Store, WriteJournal};

/// How long entries are gathered before they are written. A crash loses no more than this, and
/// finds what was started meanwhile by its mark.
const GATHER: Duration = Duration::from_millis(25);

/// What may wait for the database, in bytes; a disk that hangs must not fill the memory.
const WAITING_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// What an entry takes beside its texts, in bytes, roughly.
const ENTRY_BYTES: usize = 300;

/// The entries that are not written yet.
pub(super) struct Journal {
    store: Addr<Store>,
    bounds: JournalBounds,
    waiting: Vec<JournalEntry>,
    waiting_bytes: usize,
    is_scheduled: bool,
    dropped: u64,
}

impl Journal {
    pub(super) fn new(store: Addr<Store>, bounds: JournalBounds) -> Self {
        Self {
            store,
            bounds,
            waiting: Vec::new(),
            waiting_bytes: 0,
            is_scheduled: false,
            dropped: 0,
        }
    }

    /// Keeps as much as `bounds` say from the next write on.
    pub(super) fn rebound(&mut self, bounds: JournalBounds) {
        self.bounds = bounds;
    }

    /// Notes what happened; it is written soon, with what else happens until then.
    pub(super) fn note(&mut self, entry: JournalEntry, ctx: &mut Context<Exec>) {
        let bytes = ENTRY_BYTES + text_bytes(&entry);
        if self.waiting_bytes + bytes > WAITING_LIMIT_BYTES {
            self.dropped += 1;
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push(entry);
        self.schedule(ctx);
    }

    /// At most one write is under way or waited for at a time.
    fn schedule(&mut self, ctx: &mut Context<Exec>) {
        if self.waiting.is_empty() || std::mem::replace(&mut self.is_scheduled, true) {
            return;
        }
        ctx.run_later(GATHER, |actor, ctx| {
            let written = actor.journal.write();
            ctx.spawn(written.into_actor(actor).map(|(), actor, ctx| {
                actor.journal.is_scheduled = false;
                actor.journal.schedule(ctx);
            }));
        });
    }

    /// Writes everything that was noted; whatever is asked of the store after this comes after it.
    pub(super) fn write(&mut self) -> impl Future<Output = ()> + use<> {
        let entries = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            warn!(
                dropped,
                "the disk is too slow; part of the run journal is lost"
            );
        }
        let bounds = self.bounds;
        let written =
            (!entries.is_empty()).then(|| self.store.send(WriteJournal { entries, bounds }));
        async move {
            match written {
                None => {}
                Some(written) => match written.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => error!(%error, "the run journal is not written"),
                    Err(error) => error!(%error, "the run journal is not written"),
                },
            }
        }
    }
}

fn text_bytes(entry: &JournalEntry) -> usize {
    match entry {
        JournalEntry::Decided(decided) => decided.command.len() + decided.session.len(),
        JournalEntry::Result(result) => result.payload.len(),
        JournalEntry::Started(_) | JournalEntry::Exited(_) => 0,
    }
}
