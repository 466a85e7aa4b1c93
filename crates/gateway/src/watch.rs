//! Conditions that tests wait for, and the snapshot that they are asked about.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::hub::Hub;
use crate::record::{NodeView, Snapshot, WaitError};

/// Somebody who waits.
struct Waiter {
    check: Check,
    reply: oneshot::Sender<Result<(), WaitError>>,
    deadline: SpawnHandle,
}

/// A condition; true ends the wait.
pub(crate) type Check = Box<dyn FnMut(&Snapshot) -> bool + Send>;

/// Everybody who waits.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: HashMap<u64, Waiter>,
    next: u64,
}

impl Hub {
    /// Asks `check` at once and after everything that happens, until `after` has passed.
    pub(crate) fn watch(
        &mut self,
        check: Check,
        after: Duration,
        reply: oneshot::Sender<Result<(), WaitError>>,
        context: &mut Context<Self>,
    ) {
        let id = self.waiters.next;
        self.waiters.next += 1;
        let deadline = context.run_later(after, move |hub, _| {
            if let Some(waiter) = hub.waiters.waiting.remove(&id) {
                let summary = hub.snapshot.summary();
                if waiter
                    .reply
                    .send(Err(WaitError::Deadline { after, summary }))
                    .is_err()
                {
                    tracing::debug!("nobody waits for this condition any more");
                }
            }
        });
        self.waiters.waiting.insert(
            id,
            Waiter {
                check,
                reply,
                deadline,
            },
        );
        self.publish(context);
    }

    /// Brings the snapshot up to date and wakes whoever waited for what it shows now.
    pub(crate) fn publish(&mut self, context: &mut Context<Self>) {
        self.close_flooded();
        self.snapshot.invokes_in_flight = self.invokes.len();
        self.snapshot.open_connections = self.connections.len();
        if std::mem::take(&mut self.stale) {
            self.refresh();
        }
        let snapshot = &self.snapshot;
        for (_, waiter) in self
            .waiters
            .waiting
            .extract_if(|_, waiter| (waiter.check)(snapshot))
        {
            context.cancel_future(waiter.deadline);
            if waiter.reply.send(Ok(())).is_err() {
                tracing::debug!("nobody waits for this condition any more");
            }
        }
    }

    fn refresh(&mut self) {
        let mut nodes: Vec<NodeView> = self
            .online
            .keys()
            .filter_map(|node_id| {
                let (connection, node) = self.node(node_id)?;
                Some(NodeView {
                    node_id: node_id.clone(),
                    connection,
                    display_name: node.metadata.display_name.clone(),
                    commands: node.effective.commands.clone(),
                    declared_commands: node.declared.commands.clone(),
                })
            })
            .collect();
        nodes.sort_by_key(|node| node.connection);
        self.snapshot.nodes = nodes;
        self.snapshot.pending_devices = self
            .devices
            .pending()
            .map(|pending| pending.request_id.clone())
            .collect();
        self.snapshot.pending_surfaces = self
            .surfaces
            .pending()
            .map(|pending| pending.request_id.clone())
            .collect();
    }
}
