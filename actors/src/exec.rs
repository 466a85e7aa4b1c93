//! Exec: the table of running commands. It starts what was decided, ends what is no longer wanted,
//! and answers the connection that asked.

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use exec::environment::BaseEnvironment;
use exec::request::WhichRequest;
use exec::run::{Cancel, Ending, RunOutcome, RunSpec, TIMEOUT_GRACE};
use exec::search;
use protocol::event::{ExecEventHead, ExecFinished, NodeEvent};
use protocol::invoke::{InvokeError, InvokeId, InvokeResult};
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::connection::InvokeAnswer;

/// How long commands may take to end after TERM when the node stops (interfaces: shutdown).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Messages that may wait for this actor.
const MAILBOX: usize = 4096;

/// Which run this is, for logs and the event that follows it.
#[derive(Debug, Clone)]
pub(crate) struct RunLabel {
    /// What the event says about it.
    pub(crate) head: ExecEventHead,
    /// Echoed in the event.
    pub(crate) suppress_notify_on_exit: bool,
}

/// Runs a command that was decided on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StartRun {
    /// The connection that asked.
    pub(crate) generation: u64,
    /// Its invoke.
    pub(crate) id: InvokeId,
    /// What to run.
    pub(crate) spec: RunSpec,
    /// Which run this is.
    pub(crate) label: RunLabel,
    /// Who waits for the answer.
    pub(crate) reply: Recipient<InvokeAnswer>,
}

/// Finds executables.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Which {
    /// The invoke.
    pub(crate) id: InvokeId,
    /// Its params.
    pub(crate) params: Option<String>,
    /// Who waits for the answer.
    pub(crate) reply: Recipient<InvokeAnswer>,
}

/// Ends one run; nothing is answered to it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelRun(pub(crate) InvokeId);

/// Ends every run of a connection that is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelGeneration(pub(crate) u64);

/// Takes no new work and ends every run; the answer comes when all are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopAll;

struct Run {
    generation: u64,
    /// Taken by the first order to end.
    cancel: Option<oneshot::Sender<Cancel>>,
}

impl Run {
    fn cancel(&mut self, grace: Duration) {
        if let Some(cancel) = self.cancel.take() {
            // The run may have ended by itself in this very moment.
            cancel.send(Cancel { grace }).ok();
        }
    }
}

/// The exec actor.
pub(crate) struct Exec {
    environment: BaseEnvironment,
    runs: HashMap<InvokeId, Run>,
    stopping: bool,
    /// Told when the last run is gone.
    all_stopped: Vec<oneshot::Sender<()>>,
}

/// Answers whoever asked, waiting for room in its mailbox: a result is never dropped silently.
pub(crate) fn answer(reply: &Recipient<InvokeAnswer>, answer: InvokeAnswer) {
    let id = answer.id.clone();
    let delivery = reply.send(answer);
    actix::spawn(async move {
        if delivery.await.is_err() {
            info!(invoke = %id, "the connection that asked is gone; result dropped");
        }
    });
}

impl Exec {
    /// An exec actor whose commands start from `environment`.
    pub(crate) fn new(environment: BaseEnvironment) -> Self {
        Self {
            environment,
            runs: HashMap::new(),
            stopping: false,
            all_stopped: Vec::new(),
        }
    }

    fn finished(
        &mut self,
        id: InvokeId,
        label: RunLabel,
        outcome: &RunOutcome,
    ) -> Option<InvokeAnswer> {
        self.runs.remove(&id);
        if self.runs.is_empty() {
            for waiting in self.all_stopped.drain(..) {
                waiting.send(()).ok();
            }
        }
        let payload = &outcome.payload;
        debug!(
            invoke = %id,
            run_id = label.head.run_id,
            ending = ?outcome.ending,
            exit_code = payload.exit_code,
            "run ended"
        );
        match outcome.ending {
            // The gateway no longer waits; it would not even know the run (wire protocol §11.7).
            Ending::Cancelled => return None,
            Ending::NotStarted | Ending::Exited | Ending::TimedOut => {}
        }
        let event = NodeEvent::ExecFinished(ExecFinished {
            head: label.head,
            exit_code: payload.exit_code,
            timed_out: payload.timed_out,
            success: payload.success,
            output: payload.event_output(),
            suppress_notify_on_exit: label.suppress_notify_on_exit,
        });
        Some(InvokeAnswer {
            id,
            result: to_json(payload),
            event: Some(event),
        })
    }
}

/// Serialises a payload for the wire.
pub(crate) fn to_json(payload: &impl Serialize) -> InvokeResult {
    serde_json::to_string(payload).map_err(|error| {
        warn!(%error, "payload does not serialise");
        InvokeError::unavailable("node invocation failed")
    })
}

impl Actor for Exec {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<StartRun> for Exec {
    type Result = ();

    fn handle(&mut self, start: StartRun, ctx: &mut Context<Self>) {
        let StartRun {
            generation,
            id,
            spec,
            label,
            reply,
        } = start;
        if self.stopping {
            let result = Err(InvokeError::unavailable("node is stopping"));
            return answer(
                &reply,
                InvokeAnswer {
                    id,
                    result,
                    event: None,
                },
            );
        }
        info!(invoke = %id, run_id = label.head.run_id, command = label.head.command, "run");
        let (cancel, cancelled) = oneshot::channel();
        self.runs.insert(
            id.clone(),
            Run {
                generation,
                cancel: Some(cancel),
            },
        );
        let run = exec::run::run(spec, cancelled);
        ctx.spawn(run.into_actor(self).map(move |outcome, actor, _| {
            if let Some(result) = actor.finished(id, label, &outcome) {
                answer(&reply, result);
            }
        }));
    }
}

impl Handler<Which> for Exec {
    type Result = ();

    fn handle(&mut self, which: Which, _: &mut Context<Self>) {
        #[derive(Serialize)]
        struct Found {
            bins: std::collections::BTreeMap<String, String>,
        }
        let result = match WhichRequest::parse(which.params.as_deref()) {
            Ok(request) => to_json(&Found {
                bins: search::which(&request.bins, self.environment.search_path()),
            }),
            Err(error) => Err(InvokeError::invalid_request(error.to_string())),
        };
        answer(
            &which.reply,
            InvokeAnswer {
                id: which.id,
                result,
                event: None,
            },
        );
    }
}

impl Handler<CancelRun> for Exec {
    type Result = ();

    fn handle(&mut self, cancel: CancelRun, _: &mut Context<Self>) {
        if let Some(run) = self.runs.get_mut(&cancel.0) {
            info!(invoke = %cancel.0, "run cancelled by the gateway");
            run.cancel(TIMEOUT_GRACE);
        }
    }
}

impl Handler<CancelGeneration> for Exec {
    type Result = ();

    fn handle(&mut self, lost: CancelGeneration, _: &mut Context<Self>) {
        for (id, run) in self
            .runs
            .iter_mut()
            .filter(|(_, run)| run.generation == lost.0)
        {
            info!(invoke = %id, "run ended with the connection that asked for it");
            run.cancel(TIMEOUT_GRACE);
        }
    }
}

impl Handler<StopAll> for Exec {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopAll, _: &mut Context<Self>) -> Self::Result {
        self.stopping = true;
        for run in self.runs.values_mut() {
            run.cancel(SHUTDOWN_GRACE);
        }
        if self.runs.is_empty() {
            return Box::pin(async {});
        }
        let (stopped, all_stopped) = oneshot::channel();
        self.all_stopped.push(stopped);
        Box::pin(async move {
            // The sender is only dropped unused if this actor dies, and its runs with it.
            all_stopped.await.ok();
        })
    }
}
