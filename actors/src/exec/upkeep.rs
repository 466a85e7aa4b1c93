//! What has to be done beside running commands: getting the system ready, ending what an earlier
//! process left, and waiting for the dead.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use exec::cgroup::Delegated;
use exec::orphans;
use exec::survivors::{self, Predecessor, Unfinished};
use nix::unistd::Pid;
use state::EarlierInstance;
use tracing::{debug, error, info, warn};

use super::Exec;
use crate::store::CloseJournal;

/// The first wait before this process looks for dead orphans, so that many are waited for at once.
const FIRST_BURIAL: Duration = Duration::from_millis(100);
/// The longest wait between two looks while this process has children.
const LAST_BURIAL: Duration = Duration::from_secs(1);

impl Exec {
    /// Prepares what the system offers to keep runs together and within their limits.
    pub(super) fn prepare_containment(&mut self) {
        if let Err(errno) = orphans::adopt() {
            warn!(%errno, "orphaned processes of commands are left to the system");
        }
        let limits = &self.containment.limits;
        match Delegated::find(limits) {
            Ok(Some(delegated)) => self.containment.delegated = Some(Arc::new(delegated)),
            Ok(None) if limits.cpu_millis.is_some() => warn!(
                "exec.limits.cpu has no effect: it needs a delegated control group (Delegate=yes)"
            ),
            Ok(None) => {}
            Err(error) => warn!(%error, "the delegated control group cannot be used"),
        }
    }

    /// Ends what earlier processes left running.
    pub(super) fn end_survivors(&mut self, ctx: &mut Context<Self>) {
        let earlier = std::mem::take(&mut self.earlier);
        if earlier.is_empty() {
            return;
        }
        let store = self.store.clone();
        let end = async move {
            let predecessors: Vec<Predecessor> = earlier.iter().map(predecessor).collect();
            let found = survivors::end(&predecessors).await;
            if found > 0 {
                info!(processes = found, "ended what the last start left running");
            }
            let instances = earlier.iter().map(|earlier| earlier.instance).collect();
            match store.send(CloseJournal(instances)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!(%error, "the journal of the last start stays open"),
                Err(error) => error!(%error, "the journal of the last start stays open"),
            }
        };
        ctx.spawn(end.into_actor(self));
    }

    /// Looks for dead orphans for as long as this process has children. A handler of `SIGCHLD`
    /// would be told of every command's end too, which costs each run two more changes of threads.
    pub(super) fn bury_orphans(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.burial_is_due, true) {
            self.bury_after(FIRST_BURIAL, ctx);
        }
    }

    fn bury_after(&self, wait: Duration, ctx: &mut Context<Self>) {
        ctx.run_later(wait, move |actor, ctx| {
            let runs = &actor.runs;
            let is_waited_for = |pid: Pid| runs.values().any(|run| run.leader == pid.as_raw());
            let burial = orphans::reap(is_waited_for);
            if burial.reaped > 0 {
                debug!(
                    buried = burial.reaped,
                    "orphaned processes of commands ended"
                );
            }
            if !burial.has_children {
                actor.burial_is_due = false;
            } else if burial.reaped > 0 {
                actor.bury_after(FIRST_BURIAL, ctx);
            } else {
                actor.bury_after(LAST_BURIAL.min(wait * 2), ctx);
            }
        });
    }
}

fn predecessor(earlier: &EarlierInstance) -> Predecessor {
    let unfinished = earlier.unfinished.iter().map(|process| Unfinished {
        pid: process.pid,
        start_time: process.start_time,
        boot_id: process.boot_id.clone(),
        number: process.number,
    });
    Predecessor {
        instance: earlier.instance,
        unfinished: unfinished.collect(),
        last_number: earlier.last_number,
    }
}
