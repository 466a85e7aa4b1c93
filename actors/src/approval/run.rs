//! `system.run`: decided, tied to this machine, granted and handed to exec.

use std::sync::Arc;

use ::exec::clearance::{Circumstances, Clearance, Denial, clear};
use ::exec::host::Host;
use ::exec::request::{MissingSnapshot, RunRequest};
use ::exec::run::RunSpec;
use actix::prelude::*;
use approvals::decision::DenialReason;
use approvals::policy::{Approval as PlanApproval, ExecConfig, Grant, agent_key};
use approvals::snapshot::Stored;
use approvals::usage::{Coverage, InlineCode};
use protocol::hello::GatewayRelease;
use protocol::invoke::InvokeError;
use tracing::{debug, error};

use super::current::Current;
use super::document::{WriteError, new_id};
use super::plans::{use_plan, with_snapshot};
use super::report::{deny, event_head, journal_entry, rule};
use super::{Approval, Asker, Deferred, unanswered};
use crate::clock;
use crate::connection::AskSkillBins;
use crate::exec::{Recall, Recalled, RepeatKey, RunLabel, StartRun};

/// The policy or the document changed while a run was on its way (exec and approvals §11).
const CHANGED_BEFORE_EXECUTION: &str = "SYSTEM_RUN_DENIED: exec approval changed before execution";

/// What a decision is made under.
#[derive(Clone)]
struct Basis {
    config: Arc<ExecConfig>,
    current: Arc<Current>,
}

/// A decision about a run, with what it was made under.
struct Decided {
    request: RunRequest,
    clearance: Result<Clearance, Denial>,
    under: Basis,
}

impl Approval {
    /// Decides about a run, unless it is one that was requested before.
    pub(super) fn on_run_or_repetition(
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
        self.look();
        if !self.needs_skills(&request) || !self.skills.are_stale(clock::since_boot()) {
            return self.decide_run(asker, request, ctx);
        }
        self.deciding.insert(asker.id.clone(), asker.generation);
        let decide: Deferred = Box::new(move |actor, ctx| {
            if actor.deciding.remove(&asker.id).is_none() {
                return debug!(invoke = %asker.id, "no longer wanted; not run");
            }
            actor.look();
            actor.decide_run(asker, request, ctx);
        });
        self.after_skills(decide, gateway, ctx);
    }

    fn decide_run(&mut self, asker: Asker, request: RunRequest, ctx: &mut Context<Self>) {
        if request.approval.plan().is_none() {
            // Nothing here waits for a disk write, and nothing large is read.
            let host = Host::new(&self.environment, &self.node_cwd);
            let clearance = clear(&request, self.circumstances(&host));
            let decided = Decided {
                request,
                clearance,
                under: self.basis(),
            };
            return self.finish_run(asker, decided, ctx);
        }
        self.deciding.insert(asker.id.clone(), asker.generation);
        let store = self.store.clone();
        let under = self.basis();
        let skills = self.skills.bins().clone();
        let environment = self.environment.clone();
        let node_cwd = Arc::clone(&self.node_cwd);
        let decide = async move {
            let request = with_snapshot(request, &store).await?;
            let decided = actix_rt::task::spawn_blocking(move || {
                let circumstances = Circumstances {
                    config: &under.config,
                    document: under.current.document(),
                    rules: under.current.rules(),
                    skills: &skills,
                    host: &Host::new(&environment, &node_cwd),
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
                actor.look();
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
        if grants && decided.clearance.is_ok() && self.writing.is_some() {
            // What it grants must be added to the document that the write leaves behind.
            self.deciding.insert(asker.id.clone(), asker.generation);
            self.deferred.push_back(Box::new(move |actor, ctx| {
                if actor.deciding.remove(&asker.id).is_none() {
                    return debug!(invoke = %asker.id, "no longer wanted; not run");
                }
                actor.look();
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
        let config = Arc::clone(&self.config);
        let text = document.canonical_text();
        self.write(
            text,
            Stored::from(document),
            ctx,
            move |actor, written, ctx| {
                if actor.deciding.remove(&asker.id).is_none() {
                    return debug!(invoke = %asker.id, "no longer wanted; not run");
                }
                let granted = Basis {
                    config,
                    current: Arc::clone(&actor.current),
                };
                actor.look();
                match written {
                    Ok(()) if !actor.has_changed_since(&granted) => {
                        actor.start_run(&asker, request, clearance, ctx);
                    }
                    Ok(()) | Err(WriteError::Changed) => {
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

    /// What a decision is made from now.
    pub(super) fn circumstances<'a>(&'a self, host: &'a Host<'a>) -> Circumstances<'a> {
        Circumstances {
            config: &self.config,
            document: self.current.document(),
            rules: self.current.rules(),
            skills: self.skills.bins(),
            host,
        }
    }

    fn basis(&self) -> Basis {
        Basis {
            config: Arc::clone(&self.config),
            current: Arc::clone(&self.current),
        }
    }

    /// Whether the policy, not merely its use, is another one by now.
    fn has_changed_since(&self, under: &Basis) -> bool {
        let revision = |current: &Current| current.stored().revision(&self.config);
        if !Arc::ptr_eq(&self.config, &under.config) && self.config != under.config {
            return true;
        }
        !Arc::ptr_eq(&self.current, &under.current)
            && revision(&self.current) != revision(&under.current)
    }
}
