//! `system.run.prepare`: a plan, remembered before anybody is told of it.

use std::sync::Arc;

use ::exec::host::Host;
use ::exec::prepare::prepare;
use ::exec::request::{PrepareRequest, RequestError};
use actix::prelude::*;
use protocol::invoke::{InvokeError, InvokeResult};

use super::plans::remember;
use super::{Approval, Asker, unanswered};
use crate::exec::to_json;

impl Approval {
    /// Prepares a command.
    pub(super) fn on_prepare(
        &mut self,
        asker: Asker,
        params: Option<&str>,
        ctx: &mut Context<Self>,
    ) {
        let request = match PrepareRequest::parse(params) {
            Ok(request) => request,
            Err(error) => return asker.invalid(error),
        };
        self.look();
        let host = Host::new(&self.environment, &self.node_cwd);
        let policy = self
            .circumstances(&host)
            .prepare_policy(request.agent_id.as_deref());
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
}
