//! The approvals document under use: reported, replaced, and written back with what was used.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::exec::clearance::Clearance;
use ::exec::environment::BaseEnvironment;
use ::exec::request::{RequestError, RunRequest};
use actix::prelude::*;
use approvals::decision::Match;
use approvals::document::Document;
use approvals::policy::agent_key;
use approvals::snapshot::{SnapshotError, Stored, wants_resolved_defaults};
use approvals::usage::RecordedUse;
use protocol::invoke::{InvokeError, InvokeErrorCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use state::{Replacement, StateError};
use tracing::{debug, error, info, warn};

use super::current::Current;
use super::{Approval, Asker};
use crate::clock;
use crate::exec::to_json;
use crate::store::{ReplaceApprovals, StoreError};

/// How long uses of rules are gathered before they are written (D11).
const USAGE_BATCH: Duration = Duration::from_secs(2);

impl Approval {
    /// Sees what other processes did to the document, before anything is decided by it. Costs
    /// microseconds while nobody has written to the database.
    ///
    /// While the store cannot be read everything is denied, as for a document that cannot (exec
    /// and approvals §9).
    pub(super) fn look(&mut self) {
        match self.read_changed() {
            Ok(()) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.is_unreadable, true) {
                    error!(%error, "the approvals document cannot be read: nothing may run");
                }
                self.seen = None;
                self.usage_is_dirty = false;
                self.current = Arc::new(self.prepared(Document::locked_down().into()));
            }
        }
    }

    fn read_changed(&mut self) -> Result<(), StateError> {
        if self.seen.is_some() && Some(self.database.data_version()?) == self.seen {
            return Ok(());
        }
        let reading = self.database.approvals()?;
        self.seen = Some(reading.data_version);
        let text = reading.stored.map(|stored| stored.raw_json);
        let is = |known: &Option<SecretString>| {
            known.as_ref().map(|known| known.expose_secret()) == text.as_deref()
        };
        let is_own = is(&self.written) || (self.writing.is_some() && is(&self.writing));
        if !is_own || self.is_unreadable {
            self.adopt(text.map(SecretString::from));
        }
        Ok(())
    }

    /// Takes over a document that another process wrote. Uses that are not written yet are
    /// forgotten: they belong to entries that may be gone.
    fn adopt(&mut self, text: Option<SecretString>) {
        let stored = Stored::read(text.as_ref().map(|text| text.expose_secret()));
        match stored.error() {
            Some(error) => error!(%error, "the approvals document is unreadable: nothing may run"),
            None => info!("the approvals document was read"),
        }
        self.is_unreadable = false;
        self.usage_is_dirty = false;
        self.written = text;
        self.current = Arc::new(self.prepared(stored));
    }

    /// Reports the document.
    pub(super) fn on_get(&mut self, asker: &Asker, params: Option<&str>) {
        let wanted = decode(params)
            .map_err(|error| error.to_string())
            .and_then(|params| {
                wants_resolved_defaults(params.as_ref()).map_err(|error| error.to_string())
            });
        match wanted {
            Ok(wanted) => {
                self.look();
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

    /// Replaces the document, as an operator wants it.
    pub(super) fn on_set(&mut self, asker: Asker, params: Option<&str>, ctx: &mut Context<Self>) {
        match decode(params) {
            Ok(Some(params)) => self.replace(asker, params, ctx),
            Ok(None) => asker.invalid(RequestError::ParamsRequired),
            Err(error) => asker.invalid(error),
        }
    }

    fn replace(&mut self, asker: Asker, params: Value, ctx: &mut Context<Self>) {
        if self.writing.is_some() {
            // It must be compared with the document that the write leaves behind.
            self.deferred.push_back(Box::new(move |actor, ctx| {
                actor.replace(asker, params, ctx)
            }));
            return;
        }
        self.look();
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
    pub(super) fn write(
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

    pub(super) fn prepared(&self, stored: Stored) -> Current {
        Current::of(stored, home(&self.environment))
    }

    /// Writes the text of a document, does what `after` says, and then what waited for the write.
    fn store_text(
        &mut self,
        text: SecretString,
        ctx: &mut Context<Self>,
        after: impl FnOnce(&mut Self, Result<(), WriteError>, &mut Context<Self>) + 'static,
    ) {
        self.writing = Some(text.clone());
        let replace = ReplaceApprovals {
            text: text.clone(),
            expected: self.written.clone(),
        };
        let replaced = self.store.send(replace);
        ctx.spawn(replaced.into_actor(self).map(move |replaced, actor, ctx| {
            actor.writing = None;
            // What another process wrote meanwhile was compared with what counted then.
            actor.seen = None;
            let written = match replaced
                .map_err(StoreError::from)
                .and_then(|replaced| replaced)
            {
                Ok(Replacement::Done) => {
                    actor.written = Some(text);
                    Ok(())
                }
                Ok(Replacement::Conflict { current }) => {
                    actor.adopt(current.map(|current| SecretString::from(current.raw_json)));
                    Err(WriteError::Changed)
                }
                Err(error) => Err(WriteError::Store(error)),
            };
            after(actor, written, ctx);
            while actor.writing.is_none()
                && let Some(next) = actor.deferred.pop_front()
            {
                next(actor, ctx);
            }
        }));
    }

    /// Notes which rules a run used. It is written later, with others (D11).
    pub(super) fn note_use(
        &mut self,
        request: &RunRequest,
        clearance: &Clearance,
        ctx: &mut Context<Self>,
    ) {
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

    /// Writes which rules were used, if any were, and then does what `after` says.
    pub(super) fn write_usage(
        &mut self,
        ctx: &mut Context<Self>,
        after: impl FnOnce(&mut Self, &mut Context<Self>) + 'static,
    ) {
        if self.writing.is_some() {
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
pub(super) fn home(environment: &BaseEnvironment) -> Option<&str> {
    environment.home().and_then(Path::to_str)
}

/// Why the document was not replaced.
#[derive(Debug)]
pub(super) enum WriteError {
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

pub(super) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
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
