//! Invokes as they come in: decoded, handed on, cancelled.

use actix::prelude::*;
use protocol::hello::GatewayRelease;
use protocol::invoke::{Command, InvokeCancel, InvokeError, InvokeId, InvokeRequest};
use tracing::{debug, info};

use super::Connection;
use crate::approval::{CancelInvoke, Invoke};
use crate::browser::{BrowserCall, CancelBrowserCall};

impl Connection {
    pub(super) fn on_invoke(
        &mut self,
        payload: &str,
        release: GatewayRelease,
        ctx: &mut Context<Self>,
    ) {
        let request = match InvokeRequest::decode(payload) {
            Ok(request) => request,
            Err(error) => return debug!(%error, "invoke ignored"),
        };
        if self.invokes.contains_key(&request.id) {
            return info!(invoke = %request.id, "invoke is already under way; repetition ignored");
        }
        let id = request.id.clone();
        self.invokes.insert(request.id.clone(), request.node_id);
        // What was not declared is not there, whatever a gateway remembers of an earlier time.
        let command = request.command.and_then(|command| {
            let is_declared = self.options.node.declares(command);
            is_declared
                .then_some(command)
                .ok_or(command.name().to_owned())
        });
        let command = match command {
            Ok(command) => command,
            Err(name) => {
                debug!(invoke = %id, command = name, "command not supported");
                return self.refuse_invoke(
                    id,
                    InvokeError::unavailable("command not supported"),
                    ctx,
                );
            }
        };
        let command = match command {
            Command::System(command) => command,
            Command::Browser(command) => {
                let call = BrowserCall {
                    generation: self.options.generation,
                    id: request.id,
                    command,
                    params: request.params,
                    reply: ctx.address().recipient(),
                };
                let sent = self.options.browser.try_send(call).map_err(discard);
                return self.refuse_unless_sent(sent, id, ctx);
            }
        };
        let invoke = Invoke {
            generation: self.options.generation,
            id: request.id,
            command,
            params: request.params,
            idempotency_key: request.idempotency_key,
            release,
            reply: ctx.address().recipient(),
            gateway: ctx.address().recipient(),
        };
        let sent = self.options.approval.try_send(invoke).map_err(discard);
        self.refuse_unless_sent(sent, id, ctx);
    }

    fn refuse_unless_sent(
        &mut self,
        sent: Result<(), SendError<()>>,
        id: InvokeId,
        ctx: &mut Context<Self>,
    ) {
        let reason = match sent {
            Ok(()) => return,
            Err(SendError::Full(())) => "node busy: too many invokes wait for a decision",
            Err(SendError::Closed(())) => "node is stopping",
        };
        self.refuse_invoke(id, InvokeError::unavailable(reason), ctx);
    }

    pub(super) fn on_cancel(&mut self, payload: &str) {
        let cancel = match InvokeCancel::decode(payload) {
            Ok(cancel) => cancel,
            Err(error) => return debug!(%error, "cancel ignored"),
        };
        if self.invokes.remove(&cancel.invoke_id).is_none() {
            return debug!(invoke = %cancel.invoke_id, "cancel of an unknown invoke ignored");
        }
        let approval = self.options.approval.clone();
        let browser = self.options.browser.clone();
        let of_browser = CancelBrowserCall(cancel.invoke_id.clone());
        let message = CancelInvoke {
            id: cancel.invoke_id,
        };
        // A cancel must not be lost to a full mailbox: the command would run on unheard.
        actix::spawn(async move {
            if approval.send(message).await.is_err() {
                debug!("approval actor is gone; nothing left to cancel");
            }
            if browser.send(of_browser).await.is_err() {
                debug!("browser actor is gone; nothing left to cancel");
            }
        });
    }
}

/// What could not be sent is not needed any more.
fn discard<T>(error: SendError<T>) -> SendError<()> {
    match error {
        SendError::Full(_) => SendError::Full(()),
        SendError::Closed(_) => SendError::Closed(()),
    }
}
