//! Approval: decides what may run. It owns the approvals document, the plans that this node
//! prepared, and everything that "allow always" adds.
//!
//! Every invoke passes through here, so this is also where an invoke that is no longer wanted is
//! stopped: until it is handed to exec it can still be dropped.

mod current;
mod document;
mod plans;
mod prepare;
mod report;
mod run;
mod skills;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use ::exec::environment::BaseEnvironment;
use actix::prelude::*;
use approvals::policy::ExecConfig;
use approvals::snapshot::{Stored, document_location};
use protocol::hello::GatewayRelease;
use protocol::invoke::{InvokeError, InvokeId, InvokeResult, SystemCommand};
use secrecy::SecretString;
use state::{DataVersion, Database};
use tracing::{debug, error};

use self::current::Current;
use self::skills::Skills;
use crate::clock;
use crate::connection::{AskSkillBins, InvokeAnswer};
use crate::exec::{CancelGeneration, CancelRun, Exec, RepeatKey, RunAsker, StopAll, Which, answer};
use crate::reload::PolicyReloaded;
use crate::store::Store;
use crate::watchdog::{Health, Probe};

/// Invokes that may wait for this actor; beyond it the gateway is told that the node is busy.
const MAILBOX: usize = 4096;
/// An invoke, as the connection decoded it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Invoke {
    /// The connection that asks.
    pub(crate) generation: u64,
    /// Its invoke.
    pub(crate) id: InvokeId,
    /// What to do.
    pub(crate) command: SystemCommand,
    /// With what, as JSON text.
    pub(crate) params: Option<String>,
    /// What a repetition of the same request carries too.
    pub(crate) idempotency_key: Option<String>,
    /// What kind of gateway asks.
    pub(crate) release: GatewayRelease,
    /// Who waits for the answer.
    pub(crate) reply: Recipient<InvokeAnswer>,
    /// Who can ask the gateway.
    pub(crate) gateway: Recipient<AskSkillBins>,
}

/// The gateway no longer waits for an invoke.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelInvoke {
    /// Which.
    pub(crate) id: InvokeId,
}

/// A connection is gone, and with it everybody who waited for its invokes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConnectionLost {
    /// Which.
    pub(crate) generation: u64,
}

/// Ends all commands and writes what is not written yet; the answer comes when both are done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Shutdown;

/// What the approval actor is made of.
pub(crate) struct ApprovalOptions {
    /// Where the state is, for the location that operators are shown.
    pub(crate) state_dir: PathBuf,
    /// The policy of openclaw.json.
    pub(crate) config: ExecConfig,
    /// Where the document is read; never written through.
    pub(crate) database: Database,
    /// What commands inherit.
    pub(crate) environment: BaseEnvironment,
    /// Keeps the document and the plans.
    pub(crate) store: Addr<Store>,
    /// Carries out what is allowed.
    pub(crate) exec: Addr<Exec>,
}

/// The part of an invoke that its answer needs.
#[derive(Clone)]
struct Asker {
    generation: u64,
    id: InvokeId,
    reply: Recipient<InvokeAnswer>,
    /// When the invoke arrived, in unix milliseconds.
    accepted_at_ms: u64,
    /// What tells a run from others, if it may be repeated.
    key: Option<RepeatKey>,
    /// Keeps the journal.
    exec: Addr<Exec>,
}

impl Asker {
    fn answer(&self, result: InvokeResult) {
        answer(
            &self.reply,
            InvokeAnswer {
                id: self.id.clone(),
                result,
                event: None,
            },
        );
    }

    fn of_run(&self) -> RunAsker {
        RunAsker {
            generation: self.generation,
            id: self.id.clone(),
            reply: self.reply.clone(),
        }
    }

    fn invalid(&self, error: impl std::fmt::Display) {
        self.answer(Err(InvokeError::invalid_request(error.to_string())));
    }
}

type Deferred = Box<dyn FnOnce(&mut Approval, &mut Context<Approval>)>;

/// The approval actor.
pub(crate) struct Approval {
    location: String,
    config: Arc<ExecConfig>,
    environment: BaseEnvironment,
    /// The node's own working directory, in which relative paths of requests count.
    node_cwd: Arc<PathBuf>,
    store: Addr<Store>,
    exec: Addr<Exec>,
    /// The document that counts, uses included that are not written yet.
    current: Arc<Current>,
    /// What is known of the gateway's skills.
    skills: Skills,
    /// Runs that wait for the gateway to tell its skills, while it is asked.
    waiting_for_skills: Option<Vec<Deferred>>,
    /// Where edits of other processes are seen.
    database: Database,
    /// What the database held at the last look; `None` makes the next look read again.
    seen: Option<DataVersion>,
    /// The text that the database holds, as far as this actor knows.
    written: Option<SecretString>,
    /// The text that the store was asked to write last, while it has not answered.
    writing: Option<SecretString>,
    /// The store could not be read, so that `current` denies everything.
    is_unreadable: bool,
    /// Invokes that wait for the disk, with their connections; whatever is taken out of here is
    /// no longer wanted.
    deciding: HashMap<InvokeId, u64>,
    usage_is_dirty: bool,
    /// Changes of the document that wait for the write in flight.
    deferred: VecDeque<Deferred>,
}

impl Approval {
    /// An approval actor.
    pub(crate) fn new(options: ApprovalOptions) -> Self {
        let current = Current::of(Stored::default(), document::home(&options.environment));
        Self {
            location: document_location(&options.state_dir),
            config: Arc::new(options.config),
            environment: options.environment,
            // A process whose directory was removed can still run commands that name their own.
            node_cwd: Arc::new(std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))),
            store: options.store,
            exec: options.exec,
            current: Arc::new(current),
            skills: Skills::default(),
            waiting_for_skills: None,
            database: options.database,
            seen: None,
            written: None,
            writing: None,
            is_unreadable: false,
            deciding: HashMap::new(),
            usage_is_dirty: false,
            deferred: VecDeque::new(),
        }
    }
}

/// The answer when a thread that was to work on an invoke ended without a word.
fn unanswered() -> InvokeError {
    InvokeError::unavailable("node invocation failed")
}

impl Actor for Approval {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.look();
    }
}

impl Handler<Invoke> for Approval {
    type Result = ();

    fn handle(&mut self, invoke: Invoke, ctx: &mut Context<Self>) {
        let Invoke {
            generation,
            id,
            command,
            params,
            idempotency_key,
            release,
            reply,
            gateway,
        } = invoke;
        let asker = Asker {
            generation,
            id,
            reply,
            accepted_at_ms: clock::unix_ms(),
            key: None,
            exec: self.exec.clone(),
        };
        match command {
            SystemCommand::Run => {
                let key = idempotency_key.as_deref();
                self.on_run_or_repetition(asker, params, key, (release, gateway), ctx);
            }
            SystemCommand::RunPrepare => self.on_prepare(asker, params.as_deref(), ctx),
            SystemCommand::ApprovalsGet => self.on_get(&asker, params.as_deref()),
            SystemCommand::ApprovalsSet => self.on_set(asker, params.as_deref(), ctx),
            SystemCommand::Which => {
                let Asker { id, reply, .. } = asker.clone();
                if self.exec.try_send(Which { id, params, reply }).is_err() {
                    asker.answer(Err(InvokeError::unavailable("node busy")));
                }
            }
        }
    }
}

impl Handler<CancelInvoke> for Approval {
    type Result = ();

    fn handle(&mut self, cancel: CancelInvoke, ctx: &mut Context<Self>) {
        if self.deciding.remove(&cancel.id).is_some() {
            debug!(invoke = %cancel.id, "cancelled before it was started");
        }
        // A full mailbox only delays this: the command must not run on unheard.
        let sent = self.exec.send(CancelRun(cancel.id));
        ctx.spawn(sent.into_actor(self).map(|_, _, _| ()));
    }
}

impl Handler<ConnectionLost> for Approval {
    type Result = ();

    fn handle(&mut self, lost: ConnectionLost, ctx: &mut Context<Self>) {
        self.deciding
            .retain(|_, generation| *generation != lost.generation);
        let sent = self.exec.send(CancelGeneration(lost.generation));
        ctx.spawn(sent.into_actor(self).map(|_, _, _| ()));
    }
}

impl Handler<Shutdown> for Approval {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        self.deciding.clear();
        let (written, usage_written) = tokio::sync::oneshot::channel();
        self.write_usage(ctx, move |_, _| {
            written.send(()).ok();
        });
        let stopped = self.exec.send(StopAll);
        Box::pin(async move {
            if let Err(error) = stopped.await {
                error!(%error, "exec actor is gone before its commands were ended");
            }
            // Dropped unused only if this actor dies; then nothing is left to wait for.
            usage_written.await.ok();
        })
    }
}

impl Handler<PolicyReloaded> for Approval {
    type Result = ();

    fn handle(&mut self, reloaded: PolicyReloaded, _: &mut Context<Self>) {
        self.config = Arc::new(reloaded.config);
        self.environment = reloaded.environment;
        // The rules know what `~` stands for.
        self.current = Arc::new(self.prepared(self.current.stored().clone()));
    }
}

impl Handler<Probe> for Approval {
    type Result = Health;

    fn handle(&mut self, _: Probe, _: &mut Context<Self>) -> Health {
        Health::Well
    }
}
