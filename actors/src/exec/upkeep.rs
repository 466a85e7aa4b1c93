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
use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, error, info, warn};

use super::Exec;
use crate::store::CloseJournal;

/// How long dead orphans may lie about, so that many are waited for at once.
const BURY_AFTER: Duration = Duration::from_millis(100);

/// A child of this process ended: a command, or an orphan that it left.
#[derive(Message)]
#[rtype(result = "()")]
struct ChildEnded;

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

    pub(super) fn watch_children(&self, ctx: &mut Context<Self>) {
        match signal(SignalKind::child()) {
            Ok(mut ended) => {
                let exec = ctx.address();
                let watch = async move {
                    while ended.recv().await.is_some() {
                        if exec.send(ChildEnded).await.is_err() {
                            break;
                        }
                    }
                };
                ctx.spawn(watch.into_actor(self));
            }
            Err(error) => warn!(%error, "orphaned processes are not waited for"),
        }
    }

    fn bury(&mut self) {
        self.burial_is_due = false;
        let runs = &self.runs;
        let is_waited_for = |pid: Pid| runs.values().any(|run| run.leader == pid.as_raw());
        let buried = orphans::reap(is_waited_for);
        if buried > 0 {
            debug!(buried, "orphaned processes of commands ended");
        }
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

impl Handler<ChildEnded> for Exec {
    type Result = ();

    fn handle(&mut self, _: ChildEnded, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.burial_is_due, true) {
            ctx.run_later(BURY_AFTER, |actor, _| actor.bury());
        }
    }
}
