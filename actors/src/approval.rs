//! Approval: decides what may run. It owns the approvals document, the plans that this node
//! prepared, and everything that "allow always" adds.
//!
//! Every invoke passes through here, so this is also where an invoke that is no longer wanted is
//! stopped: until it is handed to exec it can still be dropped.

mod clearance;
mod current;
mod plans;
mod skills;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::exec::environment::BaseEnvironment;
use ::exec::host::Host;
use ::exec::prepare::{PreparePolicy, prepare};
use ::exec::request::{MissingSnapshot, PrepareRequest, RequestError, RunRequest};
use ::exec::run::RunSpec;
use actix::prelude::*;
use approvals::decision::{Basis, DenialReason, Match, Satisfier};
use approvals::plan::PolicySnapshot;
use approvals::policy::{
    Approval as PlanApproval, ExecConfig, Grant, Security, agent_key, document_policy, resolve,
};
use approvals::snapshot::{SnapshotError, Stored, wants_resolved_defaults};
use approvals::usage::{Coverage, InlineCode, RecordedUse, RuleKey};
use protocol::event::{ExecDenied, ExecEventHead, NodeEvent};
use protocol::hello::GatewayRelease;
use protocol::invoke::{Command, InvokeError, InvokeErrorCode, InvokeId, InvokeResult};
use secrecy::SecretString;
use serde_json::Value;
use state::journal::Decided as JournalDecided;
use state::{Replacement, StoredApprovals};
use tracing::{debug, error, info, warn};

use self::clearance::{Circumstances, Clearance, Denial, clear};
use self::current::Current;
use self::plans::{remember, use_plan, with_snapshot};
use self::skills::Skills;
use crate::clock;
use crate::connection::{AskSkillBins, InvokeAnswer};
use crate::exec::{
    CancelGeneration, CancelRun, Exec, NoteDenied, Recall, Recalled, RepeatKey, RunAsker, RunLabel,
    StartRun, StopAll, Which, answer, to_json,
};
use crate::store::{ReplaceApprovals, Store, StoreError};
use crate::watchdog::{Health, Probe};

/// How long uses of rules are gathered before they are written (D11).
const USAGE_BATCH: Duration = Duration::from_secs(2);
/// Longest wait for the gateway to tell its skills; without an answer the last one counts.
const SKILLS_DEADLINE: Duration = Duration::from_secs(3);
/// Invokes that may wait for this actor; beyond it the gateway is told that the node is busy.
const MAILBOX: usize = 4096;
/// What events call the host (wire protocol §11.6).
const EVENT_HOST: &str = "node";
/// The policy or the document changed while a run was on its way (exec and approvals §11).
const CHANGED_BEFORE_EXECUTION: &str = "SYSTEM_RUN_DENIED: exec approval changed before execution";
/// Where operators are told the document is (interfaces: approvals get).
const DOCUMENT_LOCATION: &str = "state/openclaw-node.sqlite#exec_approvals_config";

/// An invoke, as the connection decoded it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Invoke {
    /// The connection that asks.
    pub(crate) generation: u64,
    /// Its invoke.
    pub(crate) id: InvokeId,
    /// What to do.
    pub(crate) command: Command,
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
    /// The stored document.
    pub(crate) stored: Option<StoredApprovals>,
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

/// A decision about a run, with the document that it was made under.
struct Decided {
    request: RunRequest,
    clearance: Result<Clearance, Denial>,
    under: Arc<Current>,
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
    /// The text that the database holds.
    written: Option<SecretString>,
    /// Invokes that wait for the disk, with their connections; whatever is taken out of here is
    /// no longer wanted.
    deciding: HashMap<InvokeId, u64>,
    usage_is_dirty: bool,
    write_in_flight: bool,
    /// Changes of the document that wait for the write in flight.
    deferred: VecDeque<Deferred>,
}

impl Approval {
    /// An approval actor.
    pub(crate) fn new(options: ApprovalOptions) -> Self {
        let written = options
            .stored
            .map(|stored| SecretString::from(stored.raw_json));
        let stored = read(written.as_ref());
        if let Some(error) = stored.error() {
            error!(%error, "the approvals document is unreadable: nothing may run");
        }
        let current = Current::of(stored, home(&options.environment));
        Self {
            location: format!("{}/{DOCUMENT_LOCATION}", options.state_dir.display()),
            config: Arc::new(options.config),
            environment: options.environment,
            // A process whose directory was removed can still run commands that name their own.
            node_cwd: Arc::new(std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))),
            store: options.store,
            exec: options.exec,
            current: Arc::new(current),
            skills: Skills::default(),
            waiting_for_skills: None,
            written,
            deciding: HashMap::new(),
            usage_is_dirty: false,
            write_in_flight: false,
            deferred: VecDeque::new(),
        }
    }

    // --- system.run -----------------------------------------------------------------------------

    /// Decides about a run, unless it is one that was requested before.
    fn on_run_or_repetition(
        &mut self,
        mut asker: Asker,
        params: Option<String>,
        idempotency_key: Option<&str>,
        (release, gateway): (GatewayRelease, Recipient<AskSkillBins>),
        ctx: &mut Context<Self>,
    ) {
        let Some(idempotency_key) = idempotency_key else {
            return self.on_run(asker, params.as_deref(), release, &gateway, ctx);
        };
        let key = RepeatKey::new(idempotency_key, params.as_deref());
        asker.key = Some(key);
        self.deciding.insert(asker.id.clone(), asker.generation);
        let recalled = self.exec.send(Recall {
            asker: asker.of_run(),
            key,
        });
        ctx.spawn(recalled.into_actor(self).map(move |recalled, actor, ctx| {
            if actor.deciding.remove(&asker.id).is_none() {
                return debug!(invoke = %asker.id, "no longer wanted; not run");
            }
            match recalled {
                Ok(Recalled::Fresh) => {
                    actor.on_run(asker, params.as_deref(), release, &gateway, ctx);
                }
                Ok(Recalled::Repeated) => {}
                Err(_) => asker.answer(Err(InvokeError::unavailable("node is stopping"))),
            }
        }));
    }

    fn on_run(
        &mut self,
        asker: Asker,
        params: Option<&str>,
        release: GatewayRelease,
        gateway: &Recipient<AskSkillBins>,
        ctx: &mut Context<Self>,
    ) {
        let missing_snapshot = match release {
            GatewayRelease::Early => MissingSnapshot::Restored,
            GatewayRelease::Current => MissingSnapshot::Refused,
        };
        let request = match RunRequest::parse(params, missing_snapshot) {
            Ok(request) => request,
            Err(error) => return asker.invalid(error),
        };
        if !self.needs_skills(&request) || !self.skills.are_stale(clock::since_boot()) {
            return self.decide_run(asker, request, ctx);
        }
        self.deciding.insert(asker.id.clone(), asker.generation);
        let decide: Deferred = Box::new(move |actor, ctx| {
            if actor.deciding.remove(&asker.id).is_none() {
                return debug!(invoke = %asker.id, "no longer wanted; not run");
            }
            actor.decide_run(asker, request, ctx);
        });
        self.after_skills(decide, gateway, ctx);
    }

    /// Whether the outcome may depend on the gateway's skills.
    fn needs_skills(&self, request: &RunRequest) -> bool {
        let agent = request.agent_id.as_deref();
        let approval = request.approval.kind();
        let policy = resolve(&self.config, self.current.document(), agent, approval);
        let is_decided_by_policy = match approval {
            PlanApproval::None | PlanApproval::AskFallback => true,
            PlanApproval::Explicit(_) | PlanApproval::AutoReview => false,
        };
        is_decided_by_policy
            && policy.auto_allow_skills.value
            && policy.security.value == Security::Allowlist
    }

    /// Does something once the gateway told its skills, or did not in time.
    fn after_skills(
        &mut self,
        decide: Deferred,
        gateway: &Recipient<AskSkillBins>,
        ctx: &mut Context<Self>,
    ) {
        if let Some(waiting) = &mut self.waiting_for_skills {
            if waiting.len() < MAILBOX {
                return waiting.push(decide);
            }
            return decide(self, ctx);
        }
        self.waiting_for_skills = Some(vec![decide]);
        let asked = tokio::time::timeout(SKILLS_DEADLINE, gateway.send(AskSkillBins));
        ctx.spawn(asked.into_actor(self).map(|answer, actor, ctx| {
            let names = match answer {
                Ok(Ok(names)) => names,
                Ok(Err(_)) | Err(_) => None,
            };
            if names.is_none() {
                debug!("the gateway did not tell its skills; the last answer counts");
            }
            let host = Host::new(&actor.environment, &actor.node_cwd);
            let bins = names.map(|names| host.resolve_skills(&names));
            actor.skills.learn(bins, clock::since_boot());
            for decide in actor.waiting_for_skills.take().unwrap_or_default() {
                decide(actor, ctx);
            }
        }));
    }

    fn decide_run(&mut self, asker: Asker, request: RunRequest, ctx: &mut Context<Self>) {
        if request.approval.plan().is_none() {
            // Nothing here waits for a disk write, and nothing large is read.
            let clearance = clear(&request, self.circumstances());
            let decided = Decided {
                request,
                clearance,
                under: Arc::clone(&self.current),
            };
            return self.finish_run(asker, decided, ctx);
        }
        self.deciding.insert(asker.id.clone(), asker.generation);
        let store = self.store.clone();
        let config = Arc::clone(&self.config);
        let under = Arc::clone(&self.current);
        let skills = self.skills.bins().clone();
        let environment = self.environment.clone();
        let node_cwd = Arc::clone(&self.node_cwd);
        let decide = async move {
            let request = with_snapshot(request, &store).await?;
            let decided = actix_rt::task::spawn_blocking(move || {
                let circumstances = Circumstances {
                    config: &config,
                    current: &under,
                    skills: &skills,
                    environment: &environment,
                    node_cwd: &node_cwd,
                };
                let clearance = clear(&request, circumstances);
                Decided {
                    request,
                    clearance,
                    under,
                }
            });
            let mut decided = decided.await.map_err(|_| unanswered())?;
            if let Ok(clearance) = &decided.clearance
                && let Err(denial) = use_plan(&decided.request, clearance, &store).await?
            {
                decided.clearance = Err(denial);
            }
            Ok(decided)
        };
        ctx.spawn(decide.into_actor(self).map(
            move |decided: Result<Decided, InvokeError>, actor, ctx| {
                if actor.deciding.remove(&asker.id).is_none() {
                    return debug!(invoke = %asker.id, "no longer wanted; not run");
                }
                match decided {
                    Ok(decided) => actor.finish_run(asker, decided, ctx),
                    Err(error) => asker.answer(Err(error)),
                }
            },
        ));
    }

    /// Carries a decision out: denies, or commits what the approval grants and starts the run.
    fn finish_run(&mut self, asker: Asker, decided: Decided, ctx: &mut Context<Self>) {
        let grants = decided.request.approval.kind() == PlanApproval::Explicit(Grant::Always);
        if grants && decided.clearance.is_ok() && self.write_in_flight {
            // What it grants must be added to the document that the write leaves behind.
            self.deciding.insert(asker.id.clone(), asker.generation);
            self.deferred.push_back(Box::new(move |actor, ctx| {
                if actor.deciding.remove(&asker.id).is_none() {
                    return debug!(invoke = %asker.id, "no longer wanted; not run");
                }
                actor.finish_run(asker, decided, ctx);
            }));
            return;
        }
        let Decided {
            request,
            clearance,
            under,
        } = decided;
        let clearance = match clearance {
            Ok(clearance) => clearance,
            Err(denial) => return deny(&asker, &request, denial),
        };
        if self.has_changed_since(&under) {
            let denial = Denial::approval_required(CHANGED_BEFORE_EXECUTION);
            return deny(&asker, &request, denial);
        }
        if grants {
            return self.grant_always(asker, request, clearance, ctx);
        }
        self.start_run(&asker, request, clearance, ctx);
    }

    fn start_run(
        &mut self,
        asker: &Asker,
        request: RunRequest,
        clearance: Clearance,
        ctx: &mut Context<Self>,
    ) {
        // The last thing before the process is started: the machine is still what was decided on.
        let prepared = match clearance.verified.start() {
            Ok(prepared) => prepared,
            Err(error) => return deny(asker, &request, error.into()),
        };
        self.note_use(&request, &clearance, ctx);
        let label = RunLabel {
            head: event_head(&request),
            suppress_notify_on_exit: request.suppress_notify_on_exit,
        };
        let start = StartRun {
            asker: asker.of_run(),
            decided: journal_entry(asker, &request, "allow", Some(rule(&clearance))),
            spec: RunSpec {
                cwd: prepared.cwd,
                argv: prepared.argv,
                program: prepared.program,
                held: prepared.held,
                environment: self.environment.with(request.overrides),
                timeout: request.timeout,
            },
            verified: clearance.verified,
            label,
            key: asker.key,
        };
        if let Err(error) = self.exec.try_send(start) {
            let reason = match error {
                SendError::Full(_) => "node busy: too many commands wait to be started",
                SendError::Closed(_) => "node is stopping",
            };
            asker.answer(Err(InvokeError::unavailable(reason)));
        }
    }

    /// Adds the rules of an "allow always" to the document, and starts the run once they are on
    /// disk.
    fn grant_always(
        &mut self,
        asker: Asker,
        request: RunRequest,
        clearance: Clearance,
        ctx: &mut Context<Self>,
    ) {
        let cwd = clearance.verified.cwd().map_or_else(
            || self.node_cwd.to_string_lossy().into_owned(),
            |cwd| cwd.to_string_lossy().into_owned(),
        );
        let agent = agent_key(request.agent_id.as_deref());
        let inline_code = if self.config.strict_inline_eval(agent) {
            InlineCode::Strict
        } else {
            InlineCode::Unchecked
        };
        let coverage = Coverage::of(&clearance.analysis, &cwd, inline_code);
        let mut document = self.current.document().clone();
        let changed = document.record_allow_always(
            agent,
            &coverage,
            request.command.text(),
            clock::unix_ms(),
            &mut new_id,
        );
        if !changed {
            return self.start_run(&asker, request, clearance, ctx);
        }
        self.deciding.insert(asker.id.clone(), asker.generation);
        let text = document.canonical_text();
        self.write(
            text,
            Stored::from(document),
            ctx,
            move |actor, written, ctx| {
                if actor.deciding.remove(&asker.id).is_none() {
                    return debug!(invoke = %asker.id, "no longer wanted; not run");
                }
                match written {
                    Ok(()) => actor.start_run(&asker, request, clearance, ctx),
                    Err(WriteError::Changed) => {
                        let denial = Denial::approval_required(CHANGED_BEFORE_EXECUTION);
                        deny(&asker, &request, denial);
                    }
                    Err(WriteError::Store(error)) => {
                        error!(%error, "allow always cannot be stored");
                        deny(
                            &asker,
                            &request,
                            DenialReason::ApprovalStateWriteFailed.into(),
                        );
                    }
                }
            },
        );
    }

    fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            config: &self.config,
            current: &self.current,
            skills: self.skills.bins(),
            environment: &self.environment,
            node_cwd: &self.node_cwd,
        }
    }

    /// Whether the policy, not merely its use, is another one by now.
    fn has_changed_since(&self, under: &Arc<Current>) -> bool {
        let revision = |current: &Current| current.stored().revision(&self.config);
        !Arc::ptr_eq(&self.current, under) && revision(&self.current) != revision(under)
    }

    // --- system.run.prepare ---------------------------------------------------------------------

    fn on_prepare(&mut self, asker: Asker, params: Option<&str>, ctx: &mut Context<Self>) {
        let request = match PrepareRequest::parse(params) {
            Ok(request) => request,
            Err(error) => return asker.invalid(error),
        };
        let agent = request.agent_id.as_deref();
        let document = self.current.document();
        let effective = resolve(&self.config, document, agent, PlanApproval::None);
        let policy = PreparePolicy {
            security: effective.security.value,
            ask: effective.ask.value,
            strict_inline_eval: self.config.strict_inline_eval(agent_key(agent)),
            snapshot: PolicySnapshot::of(&document_policy(&self.config, document, agent)),
        };
        self.deciding.insert(asker.id.clone(), asker.generation);
        let store = self.store.clone();
        let environment = self.environment.clone();
        let node_cwd = Arc::clone(&self.node_cwd);
        let prepare = async move {
            let prepared = actix_rt::task::spawn_blocking(move || {
                prepare(&request, &policy, &Host::new(&environment, &node_cwd))
            });
            let prepared = prepared
                .await
                .map_err(|_| unanswered())?
                .map_err(|error: RequestError| InvokeError::invalid_request(error.to_string()))?;
            remember(&prepared, &store).await?;
            to_json(&prepared)
        };
        ctx.spawn(
            prepare
                .into_actor(self)
                .map(move |result: InvokeResult, actor, _| {
                    if actor.deciding.remove(&asker.id).is_some() {
                        asker.answer(result);
                    }
                }),
        );
    }

    // --- the document ---------------------------------------------------------------------------

    fn on_get(&self, asker: &Asker, params: Option<&str>) {
        let wanted = decode(params)
            .map_err(|error| error.to_string())
            .and_then(|params| {
                wants_resolved_defaults(params.as_ref()).map_err(|error| error.to_string())
            });
        match wanted {
            Ok(wanted) => {
                let stored = self.current.stored();
                asker.answer(to_json(&stored.snapshot(
                    &self.location,
                    &self.config,
                    wanted,
                )));
            }
            Err(message) => asker.invalid(message),
        }
    }

    fn on_set(&mut self, asker: Asker, params: Option<&str>, ctx: &mut Context<Self>) {
        match decode(params) {
            Ok(Some(params)) => self.replace(asker, params, ctx),
            Ok(None) => asker.invalid(RequestError::ParamsRequired),
            Err(error) => asker.invalid(error),
        }
    }

    fn replace(&mut self, asker: Asker, params: Value, ctx: &mut Context<Self>) {
        if self.write_in_flight {
            // It must be compared with the document that the write leaves behind.
            self.deferred.push_back(Box::new(move |actor, ctx| {
                actor.replace(asker, params, ctx)
            }));
            return;
        }
        let replacement = match self
            .current
            .stored()
            .replace(&params, &self.config, &mut new_id)
        {
            Ok(replacement) => replacement,
            Err(error) => return asker.invalid(error),
        };
        self.write(
            replacement.text,
            replacement.stored,
            ctx,
            move |actor, written, _| match written {
                Ok(()) => {
                    info!("approvals document replaced by an operator");
                    let stored = actor.current.stored();
                    let snapshot = stored.snapshot(&actor.location, &actor.config, false);
                    asker.answer(to_json(&snapshot));
                }
                Err(WriteError::Changed) => asker.invalid(SnapshotError::ChangedMeanwhile),
                Err(WriteError::Store(error)) => asker.answer(Err(error.into())),
            },
        );
    }

    /// Replaces the document, on disk first, and then does what `after` says. Must not be called
    /// while a write is in flight.
    fn write(
        &mut self,
        text: SecretString,
        stored: Stored,
        ctx: &mut Context<Self>,
        after: impl FnOnce(&mut Self, Result<(), WriteError>, &mut Context<Self>) + 'static,
    ) {
        self.store_text(text, ctx, move |actor, written, ctx| {
            if written.is_ok() {
                actor.current = Arc::new(actor.prepared(stored));
            }
            after(actor, written, ctx);
        });
    }

    fn prepared(&self, stored: Stored) -> Current {
        Current::of(stored, home(&self.environment))
    }

    /// Writes the text of a document, does what `after` says, and then what waited for the write.
    fn store_text(
        &mut self,
        text: SecretString,
        ctx: &mut Context<Self>,
        after: impl FnOnce(&mut Self, Result<(), WriteError>, &mut Context<Self>) + 'static,
    ) {
        self.write_in_flight = true;
        let replace = ReplaceApprovals {
            text: text.clone(),
            expected: self.written.clone(),
        };
        let replaced = self.store.send(replace);
        ctx.spawn(replaced.into_actor(self).map(move |replaced, actor, ctx| {
            actor.write_in_flight = false;
            let written = match replaced
                .map_err(StoreError::from)
                .and_then(|replaced| replaced)
            {
                Ok(Replacement::Done) => {
                    actor.written = Some(text);
                    Ok(())
                }
                Ok(Replacement::Conflict { current }) => {
                    warn!("the approvals document was changed by another process; read again");
                    actor.written = current.map(|current| SecretString::from(current.raw_json));
                    let stored = read(actor.written.as_ref());
                    actor.current = Arc::new(actor.prepared(stored));
                    Err(WriteError::Changed)
                }
                Err(error) => Err(WriteError::Store(error)),
            };
            after(actor, written, ctx);
            while !actor.write_in_flight
                && let Some(next) = actor.deferred.pop_front()
            {
                next(actor, ctx);
            }
        }));
    }

    /// Notes which rules a run used. It is written later, with others (D11).
    fn note_use(&mut self, request: &RunRequest, clearance: &Clearance, ctx: &mut Context<Self>) {
        let matches: Vec<&Match> = clearance.allowed.matches().collect();
        if matches.is_empty() {
            return;
        }
        let used = RecordedUse {
            matches: &matches,
            command_text: request.command.text(),
            at_ms: clock::unix_ms(),
        };
        let agent = agent_key(request.agent_id.as_deref());
        let Some(current) = self.current.used(agent, &used) else {
            return;
        };
        self.current = Arc::new(current);
        if !std::mem::replace(&mut self.usage_is_dirty, true) {
            ctx.run_later(USAGE_BATCH, |actor, ctx| actor.write_usage(ctx, |_, _| {}));
        }
    }

    fn write_usage(
        &mut self,
        ctx: &mut Context<Self>,
        after: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        if self.write_in_flight {
            self.deferred
                .push_back(Box::new(move |actor, ctx| actor.write_usage(ctx, after)));
            return;
        }
        if !std::mem::take(&mut self.usage_is_dirty) {
            return after(self, ctx);
        }
        let text = self.current.document().canonical_text();
        self.store_text(text, ctx, move |actor, written, ctx| {
            if let Err(error) = written {
                debug!(?error, "when rules were last used is not written");
            }
            after(actor, ctx);
        });
    }
}

/// What a leading `~` in a pattern stands for.
fn home(environment: &BaseEnvironment) -> Option<&str> {
    environment.home().and_then(Path::to_str)
}

/// Why the document was not replaced.
#[derive(Debug)]
enum WriteError {
    /// Another process changed it.
    Changed,
    /// The disk refused.
    Store(StoreError),
}

impl From<StoreError> for InvokeError {
    fn from(error: StoreError) -> Self {
        warn!(%error, "state database failed");
        Self {
            code: InvokeErrorCode::Unavailable,
            message: error.to_string(),
        }
    }
}

fn read(text: Option<&SecretString>) -> Stored {
    use secrecy::ExposeSecret as _;
    Stored::read(text.map(|text| text.expose_secret()))
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The answer when a thread that was to work on an invoke ended without a word.
fn unanswered() -> InvokeError {
    InvokeError::unavailable("node invocation failed")
}

/// Reads params that may be absent.
fn decode(params: Option<&str>) -> Result<Option<Value>, RequestError> {
    match params.filter(|params| !params.is_empty()) {
        None => Ok(None),
        Some(params) => serde_json::from_str(params)
            .map(Some)
            .map_err(|_| RequestError::ParamsMalformed),
    }
}

fn event_head(request: &RunRequest) -> ExecEventHead {
    ExecEventHead {
        session_key: request.event_session_key().to_owned(),
        run_id: request.run_id.clone(),
        host: EVENT_HOST,
        command: request.command.text().to_owned(),
    }
}

/// What the journal says about a decision.
fn journal_entry(
    asker: &Asker,
    request: &RunRequest,
    decision: &str,
    rule: Option<String>,
) -> JournalDecided {
    JournalDecided {
        invoke_id: asker.id.as_str().to_owned(),
        run_id: request.run_id.clone(),
        agent: agent_key(request.agent_id.as_deref()).to_owned(),
        session: request.event_session_key().to_owned(),
        command: request.command.text().to_owned(),
        accepted_at_ms: asker.accepted_at_ms,
        decided_at_ms: clock::unix_ms(),
        decision: decision.to_owned(),
        rule,
    }
}

/// What allowed a run, in the journal's words.
fn rule(clearance: &Clearance) -> String {
    let allowed = &clearance.allowed;
    match allowed.basis {
        Basis::Approval => "approval".to_owned(),
        Basis::FullSecurity => "security=full".to_owned(),
        Basis::ExactCommand => "exact command".to_owned(),
        Basis::Allowlist => {
            let rules = allowed.satisfied.iter().flatten();
            let rules = rules.map(|satisfier| match satisfier {
                Satisfier::Entry(matched) => entry(&matched.key),
                Satisfier::SafeBin => "safe bin".to_owned(),
                Satisfier::SafeBuiltin => "builtin".to_owned(),
                Satisfier::Skill => "skill".to_owned(),
            });
            rules.collect::<Vec<_>>().join("; ")
        }
    }
}

fn entry(key: &RuleKey) -> String {
    match &key.arg_pattern {
        Some(arguments) => format!("{} {arguments}", key.pattern),
        None => key.pattern.clone(),
    }
}

fn deny(asker: &Asker, request: &RunRequest, denial: Denial) {
    info!(
        invoke = %asker.id,
        run_id = request.run_id,
        command = request.command.text(),
        agent = agent_key(request.agent_id.as_deref()),
        reason = denial.reason.as_str(),
        "run denied"
    );
    let decided = journal_entry(asker, request, denial.reason.as_str(), None);
    if asker.exec.try_send(NoteDenied(decided)).is_err() {
        warn!(invoke = %asker.id, "the denial is not in the run journal");
    }
    let event = NodeEvent::ExecDenied(ExecDenied {
        head: event_head(request),
        reason: denial.reason.as_str().to_owned(),
        suppress_notify_on_exit: request.suppress_notify_on_exit,
    });
    let error = InvokeError {
        code: InvokeErrorCode::SystemRunDenied,
        message: denial.message,
    };
    answer(
        &asker.reply,
        InvokeAnswer {
            id: asker.id.clone(),
            result: Err(error),
            event: Some(event),
        },
    );
}

impl Actor for Approval {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
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
            Command::Run => {
                let key = idempotency_key.as_deref();
                self.on_run_or_repetition(asker, params, key, (release, gateway), ctx);
            }
            Command::RunPrepare => self.on_prepare(asker, params.as_deref(), ctx),
            Command::ApprovalsGet => self.on_get(&asker, params.as_deref()),
            Command::ApprovalsSet => self.on_set(asker, params.as_deref(), ctx),
            Command::Which => {
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

impl Handler<Probe> for Approval {
    type Result = Health;

    fn handle(&mut self, _: Probe, _: &mut Context<Self>) -> Health {
        Health::Well
    }
}
