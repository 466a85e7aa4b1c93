//! Exec: the table of running commands. It starts what was decided, ends what is no longer wanted,
//! and answers whoever asked.

mod answer;
mod journal;
mod queue;
mod repeat;
mod upkeep;

use std::collections::HashMap;
use std::time::Duration;

use actix::prelude::*;
use approvals::digest::sha256_hex16;
use exec::environment::BaseEnvironment;
use exec::mark::{Instance, RunMark};
use exec::request::WhichRequest;
use exec::run::{Cancel, Containment, Ending, RunOutcome, RunSpec, Running, TIMEOUT_GRACE};
use exec::verify::Verified;
use exec::{census, search};
use node_config::{ExecSettings, Limits, OnDisconnect};
use protocol::invoke::{InvokeError, InvokeId};
use serde::Serialize;
use state::journal::{Decided, Exited, Started};
use state::{EarlierInstance, JournalBounds, JournalEntry, RecordedProcess, RunResult};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{debug, info, warn};

pub(crate) use self::answer::{RunAsker, RunLabel, answer, to_json};
use self::answer::{answer_all, deny};
use self::journal::Journal;
use self::queue::FairQueue;
use self::repeat::KnownKeys;
pub(crate) use self::repeat::RepeatKey;
use crate::clock;
use crate::connection::InvokeAnswer;
use crate::reload::SettingsReloaded;
use crate::store::{FindResult, Store, StoreError};
use crate::watchdog::{Health, Probe};

/// How long commands may take to end after TERM when the node stops (interfaces: shutdown).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Messages that may wait for this actor.
const MAILBOX: usize = 4096;
/// What a repeated key with other params is told.
const OTHER_PARAMS: &str = "idempotencyKey was already used with other params";

/// Runs a command that was decided on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StartRun {
    /// Who asked.
    pub(crate) asker: RunAsker,
    /// What to run.
    pub(crate) spec: RunSpec,
    /// What it was decided on, to be looked at once more if it had to wait.
    pub(crate) verified: Verified,
    /// Which run this is.
    pub(crate) label: RunLabel,
    /// What the journal says about it.
    pub(crate) decided: Decided,
    /// What tells it from others, if it may be repeated.
    pub(crate) key: Option<RepeatKey>,
}

/// Notes a run that was denied.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NoteDenied(pub(crate) Decided);

/// Asks whether a run was requested before. If so, it is answered from here.
#[derive(Message)]
#[rtype(result = "Recalled")]
pub(crate) struct Recall {
    /// Who asks.
    pub(crate) asker: RunAsker,
    /// What tells the run from others.
    pub(crate) key: RepeatKey,
}

/// What is known of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub(crate) enum Recalled {
    /// Nothing: it has to be decided about.
    Fresh,
    /// It was requested before; it is answered already, or will be.
    Repeated,
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

/// A connection is gone: nobody waits for its runs any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelGeneration(pub(crate) u64);

/// A connection is in service.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionUp(pub(crate) u64);

/// Takes no new work and ends every run; the answer comes when all are gone and that is written.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopAll;

/// Asks how many commands there are.
#[derive(Message)]
#[rtype(result = "RunCounts")]
pub(crate) struct CountRuns;

/// How many commands there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub(crate) struct RunCounts {
    /// Commands that run.
    pub(crate) running: usize,
    /// Commands that wait for their turn.
    pub(crate) queued: usize,
}

/// A run that waits for its turn.
struct Waiting {
    askers: Vec<RunAsker>,
    spec: RunSpec,
    verified: Verified,
    label: RunLabel,
    key: Option<RepeatKey>,
    /// The invoke under which the journal knows it.
    invoke: InvokeId,
}

struct Run {
    /// Who waits for it; the first one gets its event. Empty once nobody does.
    askers: Vec<RunAsker>,
    key: Option<RepeatKey>,
    label: RunLabel,
    /// The invoke under which the journal knows it.
    invoke: InvokeId,
    /// Its first process, which this process waits for.
    leader: i32,
    started: Instant,
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

/// What the exec actor is made of.
pub(crate) struct ExecOptions {
    /// What commands start from.
    pub(crate) environment: BaseEnvironment,
    /// How they are run.
    pub(crate) settings: ExecSettings,
    /// How much is kept about them.
    pub(crate) bounds: JournalBounds,
    /// Keeps it.
    pub(crate) store: Addr<Store>,
    /// What earlier processes left running.
    pub(crate) earlier: Vec<EarlierInstance>,
    /// Digests of the keys whose results are kept, with the time of each in unix milliseconds.
    pub(crate) kept_results: Vec<([u8; 32], u64)>,
}

/// The exec actor.
pub(crate) struct Exec {
    environment: BaseEnvironment,
    settings: ExecSettings,
    containment: Containment,
    /// Names this boot in the journal; empty where the system does not tell.
    boot_id: String,
    store: Addr<Store>,
    journal: Journal,
    known_keys: KnownKeys,
    earlier: Vec<EarlierInstance>,
    /// Running commands by a number of their own, because an invoke can have several askers.
    runs: HashMap<u64, Run>,
    next_run: u64,
    queue: FairQueue<Waiting>,
    /// The latest connection that was in service.
    connected: u64,
    burial_is_due: bool,
    stopping: bool,
    /// Told when the last run is gone.
    all_stopped: Vec<oneshot::Sender<()>>,
}

fn limits(settings: &ExecSettings) -> exec::run::Limits {
    if cfg!(not(target_os = "linux")) && settings.limits != Limits::default() {
        warn!("exec.limits has no effect on this system: commands run without limits");
    }
    exec::run::Limits {
        memory: settings.limits.memory,
        pids: settings.limits.pids,
        cpu_millis: settings.limits.cpu_millis,
    }
}

impl Exec {
    /// An exec actor that has not started anything.
    pub(crate) fn new(options: ExecOptions) -> Self {
        let mut known_keys = KnownKeys::default();
        for (key, at_ms) in &options.kept_results {
            known_keys.insert(key, *at_ms);
        }
        Self {
            environment: options.environment,
            containment: Containment {
                limits: limits(&options.settings),
                delegated: None,
            },
            settings: options.settings,
            boot_id: census::boot_id().unwrap_or_default(),
            journal: Journal::new(options.store.clone(), options.bounds),
            store: options.store,
            known_keys,
            earlier: options.earlier,
            runs: HashMap::new(),
            next_run: 0,
            queue: FairQueue::new(),
            connected: 0,
            burial_is_due: false,
            stopping: false,
            all_stopped: Vec::new(),
        }
    }

    // --- starting -------------------------------------------------------------------------------

    fn admit(&mut self, start: StartRun, ctx: &mut Context<Self>) {
        let StartRun {
            asker,
            mut spec,
            verified,
            label,
            decided,
            key,
        } = start;
        spec.timeout = spec.timeout.or(self.settings.default_timeout);
        if self.stopping {
            return asker.answer(Err(InvokeError::unavailable("node is stopping")), None);
        }
        if self.joins_running(&asker, key.as_ref()) {
            return;
        }
        let agent = decided.agent.clone();
        log_decision(&decided);
        self.journal.note(JournalEntry::Decided(decided), ctx);
        let mut waiting = Waiting {
            invoke: asker.id.clone(),
            askers: vec![asker],
            spec,
            verified,
            label,
            key,
        };
        if self.runs.len() < self.settings.max_concurrent.get() {
            return self.launch(waiting, ctx);
        }
        let (running, queued) = (self.runs.len(), self.queue.len());
        if queued < self.settings.max_queued {
            debug!(invoke = %waiting.invoke, queued, "run waits for its turn");
            // It is looked at again when its turn comes; a queue of open files would be a long one.
            waiting.spec.held = Vec::new();
            return self.queue.push(&agent, waiting);
        }
        info!(invoke = %waiting.invoke, running, queued, "run refused: the node is busy");
        let busy =
            InvokeError::unavailable(format!("node busy: {running} running, {queued} queued"));
        self.note_end(&waiting.invoke, "refused", None, ctx);
        for asker in &waiting.askers {
            asker.answer(Err(busy.clone()), None);
        }
    }

    /// Starts a command whose turn it is. `verified` was looked at when it was decided; a command
    /// that had to wait is looked at again by [`Self::launch_next`].
    fn launch(&mut self, waiting: Waiting, ctx: &mut Context<Self>) {
        let Waiting {
            askers,
            spec,
            verified: _,
            label,
            key,
            invoke,
        } = waiting;
        debug!(%invoke, run_id = label.head.run_id, "run started");
        let started = Instant::now();
        let running = match exec::run::spawn(&spec, &self.containment) {
            Ok(running) => running,
            Err(failure) => {
                let outcome = RunOutcome::from(failure);
                self.note_end(
                    &invoke,
                    ending_name(outcome.ending),
                    Some((&outcome, None)),
                    ctx,
                );
                let payload = &outcome.payload;
                return answer_all(&askers, &label, payload, to_json(payload));
            }
        };
        self.journal
            .note(self.started_entry(&invoke, &running), ctx);
        let (cancel, cancelled) = oneshot::channel();
        let number = self.next_run;
        self.next_run += 1;
        self.runs.insert(
            number,
            Run {
                askers,
                key,
                label,
                invoke,
                leader: running.group().as_raw(),
                started,
                cancel: Some(cancel),
            },
        );
        self.bury_orphans(ctx);
        let wait = running.wait(cancelled).into_actor(self);
        ctx.spawn(wait.map(move |outcome, actor, ctx| actor.finish(number, &outcome, ctx)));
    }

    fn started_entry(&self, invoke: &InvokeId, running: &Running) -> JournalEntry {
        let mark = running.mark();
        let instance = Instance::current().as_raw();
        JournalEntry::Started(Started {
            invoke_id: invoke.as_str().to_owned(),
            at_ms: clock::unix_ms(),
            process: RecordedProcess {
                instance,
                number: mark.map(RunMark::number),
                pid: running.group().as_raw(),
                start_time: running.start_time().unwrap_or(0),
                boot_id: self.boot_id.clone(),
            },
        })
    }

    fn launch_next(&mut self, ctx: &mut Context<Self>) {
        while self.runs.len() < self.settings.max_concurrent.get() {
            let Some(mut waiting) = self.queue.pop() else {
                return;
            };
            match waiting.verified.start() {
                Ok(start) => {
                    waiting.spec.cwd = start.cwd;
                    waiting.spec.argv = start.argv;
                    waiting.spec.program = start.program;
                    waiting.spec.held = start.held;
                    self.launch(waiting, ctx);
                }
                Err(error) => {
                    self.note_end(&waiting.invoke, "refused", None, ctx);
                    let Waiting { askers, label, .. } = &waiting;
                    deny(askers, label, error.reason(), error.to_string());
                }
            }
        }
    }

    // --- ending ---------------------------------------------------------------------------------

    fn finish(&mut self, number: u64, outcome: &RunOutcome, ctx: &mut Context<Self>) {
        let Some(run) = self.runs.remove(&number) else {
            return;
        };
        let payload = &outcome.payload;
        info!(
            invoke = %run.invoke,
            run_id = run.label.head.run_id,
            command_hash = sha256_hex16(&run.label.head.command),
            ending = ?outcome.ending,
            exit_code = payload.exit_code,
            "run ended"
        );
        let ran_for = run.started.elapsed();
        let ending = ending_name(outcome.ending);
        self.note_end(&run.invoke, ending, Some((outcome, Some(ran_for))), ctx);
        let result = to_json(payload);
        if let Some(key) = &run.key
            && let Ok(payload) = &result
        {
            let at_ms = clock::unix_ms();
            self.known_keys.insert(&key.key, at_ms);
            let result = RunResult {
                key: key.key,
                params: key.params,
                payload: payload.clone(),
                at_ms,
            };
            self.journal.note(JournalEntry::Result(result), ctx);
        }
        match outcome.ending {
            // The gateway no longer waits; it would not even know the run (wire protocol §11.7).
            Ending::Cancelled => {}
            Ending::NotStarted | Ending::Exited | Ending::TimedOut => {
                answer_all(&run.askers, &run.label, payload, result);
            }
        }
        if self.stopping {
            if self.runs.is_empty() {
                for waiting in self.all_stopped.drain(..) {
                    waiting.send(()).ok();
                }
            }
            return;
        }
        self.launch_next(ctx);
    }

    fn note_end(
        &mut self,
        invoke: &InvokeId,
        ending: &str,
        outcome: Option<(&RunOutcome, Option<Duration>)>,
        ctx: &mut Context<Self>,
    ) {
        let (outcome, ran_for) = outcome.unzip();
        let payload = outcome.map(|outcome| &outcome.payload);
        let exited = Exited {
            invoke_id: invoke.as_str().to_owned(),
            at_ms: clock::unix_ms(),
            ending: ending.to_owned(),
            exit_code: payload.and_then(|payload| payload.exit_code),
            signal: outcome.and_then(|outcome| outcome.signal),
            duration_ms: ran_for
                .flatten()
                .and_then(|ran_for| u64::try_from(ran_for.as_millis()).ok()),
            output_bytes: payload.map_or(0, |payload| payload.stdout_bytes + payload.stderr_bytes),
        };
        self.journal.note(JournalEntry::Exited(exited), ctx);
    }

    /// Ends the runs that nobody waits for, unless their connection came back meanwhile.
    fn end_unattended(&mut self, lost: u64) {
        if self.connected > lost {
            return;
        }
        for run in self.runs.values_mut().filter(|run| run.askers.is_empty()) {
            info!(invoke = %run.invoke, "run ended: the connection that asked did not come back");
            run.cancel(TIMEOUT_GRACE);
        }
    }

    // --- repetitions ----------------------------------------------------------------------------

    /// Adds an asker to the run that it repeats, if that is running or waits; says whether it did
    /// or was refused.
    fn joins_running(&mut self, asker: &RunAsker, key: Option<&RepeatKey>) -> bool {
        let queued = self.queue.iter_mut();
        let candidates = self
            .runs
            .values_mut()
            .map(|run| (&run.invoke, run.key, &mut run.askers))
            .chain(queued.map(|waiting| (&waiting.invoke, waiting.key, &mut waiting.askers)));
        for (invoke, known, askers) in candidates {
            let is_same_invoke = *invoke == asker.id;
            let is_same_key =
                key.is_some_and(|key| known.is_some_and(|known| known.key == key.key));
            if !is_same_invoke && !is_same_key {
                continue;
            }
            if is_same_key && known != key.copied() {
                asker.answer(Err(InvokeError::invalid_request(OTHER_PARAMS)), None);
            } else if askers.len() > self.settings.max_queued {
                let crowd = InvokeError::unavailable("node busy: too many wait for this run");
                asker.answer(Err(crowd), None);
            } else {
                info!(invoke = %asker.id, running = %invoke, "run was requested before; not run again");
                askers.push(asker.clone());
            }
            return true;
        }
        false
    }

    /// Everybody that waits for a run that is running or waits for its turn.
    fn all_askers(&mut self) -> impl Iterator<Item = &mut Vec<RunAsker>> {
        let queued = self.queue.iter_mut().map(|waiting| &mut waiting.askers);
        let running = self.runs.values_mut().map(|run| &mut run.askers);
        running.chain(queued)
    }

    /// Takes commands that nobody waits for out of the queue.
    fn drop_unattended(&mut self, ctx: &mut Context<Self>) {
        for waiting in self.queue.extract(|waiting| !waiting.askers.is_empty()) {
            debug!(invoke = %waiting.invoke, "no longer wanted; not run");
            self.note_end(&waiting.invoke, "cancelled", None, ctx);
        }
    }
}

/// Tells what was decided. The command itself may hold secrets, so that logs only have what
/// recognises it; its text is in the node's own journal.
fn log_decision(decided: &Decided) {
    info!(
        invoke = decided.invoke_id,
        run_id = decided.run_id,
        agent = decided.agent,
        command_hash = sha256_hex16(&decided.command),
        decision = decided.decision,
        rule = decided.rule,
        "run decided"
    );
}

/// What the journal calls an end.
const fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::NotStarted => "not-started",
        Ending::Exited => "exited",
        Ending::TimedOut => "timed-out",
        Ending::Cancelled => "cancelled",
    }
}

impl Actor for Exec {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.prepare_containment();
        self.end_survivors(ctx);
    }
}

impl Handler<StartRun> for Exec {
    type Result = ();

    fn handle(&mut self, start: StartRun, ctx: &mut Context<Self>) {
        self.admit(start, ctx);
    }
}

impl Handler<NoteDenied> for Exec {
    type Result = ();

    fn handle(&mut self, denied: NoteDenied, ctx: &mut Context<Self>) {
        log_decision(&denied.0);
        self.journal.note(JournalEntry::Decided(denied.0), ctx);
    }
}

impl Handler<Recall> for Exec {
    type Result = ResponseActFuture<Self, Recalled>;

    fn handle(&mut self, recall: Recall, _: &mut Context<Self>) -> Self::Result {
        let Recall { asker, key } = recall;
        if self.joins_running(&asker, Some(&key)) {
            return Box::pin(fut::ready(Recalled::Repeated));
        }
        if !self.known_keys.may_hold(&key.key, clock::unix_ms()) {
            return Box::pin(fut::ready(Recalled::Fresh));
        }
        // The store does one thing after the other, so it knows by then what is still on its way.
        let written = self.journal.write();
        let found = self.store.send(FindResult(key.key));
        let found = async move {
            written.await;
            found
                .await
                .map_err(StoreError::from)
                .and_then(|found| found)
        };
        Box::pin(found.into_actor(self).map(move |found, _, _| {
            let result = match found {
                Ok(None) => return Recalled::Fresh,
                Ok(Some(result)) if result.params == key.params => {
                    info!(invoke = %asker.id, "run was requested before; its result is given again");
                    Ok(result.payload)
                }
                Ok(Some(_)) => Err(InvokeError::invalid_request(OTHER_PARAMS)),
                Err(error) => Err(InvokeError::from(error)),
            };
            asker.answer(result, None);
            Recalled::Repeated
        }))
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

    fn handle(&mut self, cancel: CancelRun, ctx: &mut Context<Self>) {
        for waiting in self.queue.iter_mut() {
            waiting.askers.retain(|asker| asker.id != cancel.0);
        }
        self.drop_unattended(ctx);
        for run in self.runs.values_mut() {
            let before = run.askers.len();
            run.askers.retain(|asker| asker.id != cancel.0);
            if run.askers.is_empty() && before > 0 {
                info!(invoke = %cancel.0, "run cancelled by the gateway");
                run.cancel(TIMEOUT_GRACE);
            }
        }
    }
}

impl Handler<CancelGeneration> for Exec {
    type Result = ();

    fn handle(&mut self, lost: CancelGeneration, ctx: &mut Context<Self>) {
        for askers in self.all_askers() {
            askers.retain(|asker| asker.generation != lost.0);
        }
        self.drop_unattended(ctx);
        match self.settings.on_disconnect {
            OnDisconnect::Finish => {}
            OnDisconnect::Kill => {
                ctx.run_later(self.settings.disconnect_grace, move |actor, _| {
                    actor.end_unattended(lost.0);
                });
            }
        }
    }
}

impl Handler<ConnectionUp> for Exec {
    type Result = ();

    fn handle(&mut self, up: ConnectionUp, _: &mut Context<Self>) {
        self.connected = self.connected.max(up.0);
    }
}

impl Handler<StopAll> for Exec {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: StopAll, ctx: &mut Context<Self>) -> Self::Result {
        self.stopping = true;
        for waiting in self.queue.extract(|_| false) {
            self.note_end(&waiting.invoke, "refused", None, ctx);
            for asker in &waiting.askers {
                asker.answer(Err(InvokeError::unavailable("node is stopping")), None);
            }
        }
        for run in self.runs.values_mut() {
            run.cancel(SHUTDOWN_GRACE);
        }
        let (stopped, all_stopped) = oneshot::channel();
        if self.runs.is_empty() {
            stopped.send(()).ok();
        } else {
            self.all_stopped.push(stopped);
        }
        let ended = async move {
            // The sender is only dropped unused if this actor dies, and its runs with it.
            all_stopped.await.ok();
        };
        Box::pin(ended.into_actor(self).then(|(), actor, _| {
            let written = actor.journal.write();
            written.into_actor(actor)
        }))
    }
}

impl Handler<SettingsReloaded> for Exec {
    type Result = ();

    fn handle(&mut self, reloaded: SettingsReloaded, ctx: &mut Context<Self>) {
        self.containment.limits = limits(&reloaded.settings);
        self.settings = reloaded.settings;
        self.journal.rebound(reloaded.bounds);
        self.environment = reloaded.environment;
        // More may run at a time now.
        self.launch_next(ctx);
    }
}

impl Handler<CountRuns> for Exec {
    type Result = RunCounts;

    fn handle(&mut self, _: CountRuns, _: &mut Context<Self>) -> RunCounts {
        RunCounts {
            running: self.runs.len(),
            queued: self.queue.len(),
        }
    }
}

impl Handler<Probe> for Exec {
    type Result = Health;

    fn handle(&mut self, _: Probe, _: &mut Context<Self>) -> Health {
        Health::Well
    }
}
