//! Browser: takes what is for this machine's browser, and knows every call that is under way.
//!
//! Calls are carried out on a thread of their own, because a page's tree or a screenshot takes
//! milliseconds to take apart. The thread is made by the first call, and nothing before that.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use browser::control::{Control, ControlOptions};
use browser::proxy::{self, CommandError, ProxyCommand};
use protocol::invoke::{BrowserCommand, InvokeError, InvokeId};
use tokio::sync::oneshot;
use tracing::{debug, error, info};

use crate::connection::InvokeAnswer;
use crate::exec::answer;

/// Messages that may wait for this actor.
const MAILBOX: usize = 1024;
/// Calls that may be under way; more than agents use at a time.
const MOST_CALLS: usize = 64;

/// An invoke for the browser.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BrowserCall {
    /// The connection that asks.
    pub(crate) generation: u64,
    /// Its invoke.
    pub(crate) id: InvokeId,
    /// Which of the two commands.
    pub(crate) command: BrowserCommand,
    /// With what, as JSON text.
    pub(crate) params: Option<String>,
    /// Who waits for the answer.
    pub(crate) reply: Recipient<InvokeAnswer>,
}

/// The gateway no longer waits for a call.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelBrowserCall(pub(crate) InvokeId);

/// A connection is gone, and with it everybody who waited for its calls. Browsers run on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelBrowserCalls(pub(crate) u64);

/// Ends all calls and every browser; the answer comes when they are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct StopBrowsers;

/// The browser actor.
pub(crate) struct Browser {
    /// `None` if this node does not offer its browser.
    options: Option<ControlOptions>,
    engine: Option<Addr<Engine>>,
    thread: Option<Arbiter>,
    stopping: bool,
}

impl Browser {
    /// A browser actor that has not started anything.
    pub(crate) fn new(options: Option<ControlOptions>) -> Self {
        Self {
            options,
            engine: None,
            thread: None,
            stopping: false,
        }
    }

    /// The engine, made by the first call.
    fn engine(&mut self) -> Result<Addr<Engine>, InvokeError> {
        if self.stopping {
            return Err(InvokeError::unavailable("node is stopping"));
        }
        if let Some(engine) = &self.engine {
            return Ok(engine.clone());
        }
        let Some(options) = &self.options else {
            return Err(InvokeError::unavailable("command not supported"));
        };
        let options = options.clone();
        let thread = Arbiter::new();
        let engine = Engine::start_in_arbiter(&thread.handle(), move |_| Engine::new(options));
        self.thread = Some(thread);
        self.engine = Some(engine.clone());
        Ok(engine)
    }
}

impl Actor for Browser {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<BrowserCall> for Browser {
    type Result = ();

    fn handle(&mut self, call: BrowserCall, _: &mut Context<Self>) {
        let (id, reply) = (call.id.clone(), call.reply.clone());
        let sent = self.engine().and_then(|engine| {
            engine
                .try_send(call)
                .map_err(|_| InvokeError::unavailable("node busy: too many browser calls wait"))
        });
        if let Err(refusal) = sent {
            answer(
                &reply,
                InvokeAnswer {
                    id,
                    result: Err(refusal),
                    event: None,
                },
            );
        }
    }
}

impl Handler<CancelBrowserCall> for Browser {
    type Result = ();

    fn handle(&mut self, cancel: CancelBrowserCall, ctx: &mut Context<Self>) {
        if let Some(engine) = &self.engine {
            let sent = engine.send(cancel);
            ctx.spawn(sent.into_actor(self).map(|_, _, _| ()));
        }
    }
}

impl Handler<CancelBrowserCalls> for Browser {
    type Result = ();

    fn handle(&mut self, cancel: CancelBrowserCalls, ctx: &mut Context<Self>) {
        if let Some(engine) = &self.engine {
            let sent = engine.send(cancel);
            ctx.spawn(sent.into_actor(self).map(|_, _, _| ()));
        }
    }
}

impl Handler<StopBrowsers> for Browser {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, stop: StopBrowsers, _: &mut Context<Self>) -> Self::Result {
        self.stopping = true;
        let engine = self.engine.take();
        let thread = self.thread.take();
        Box::pin(async move {
            let Some(engine) = engine else { return };
            if let Err(error) = engine.send(stop).await {
                error!(%error, "the browser engine is gone before its browsers were ended");
            }
            if let Some(thread) = thread {
                thread.stop();
            }
        })
    }
}

/// What carries the calls out.
struct Engine {
    options: ControlOptions,
    /// Made by the first call for which it can be: what stands in the way may be mended meanwhile.
    control: Option<Rc<Control>>,
    /// Calls that are under way, with their connections. Dropping the sender cancels the call.
    calls: HashMap<InvokeId, (u64, oneshot::Sender<()>)>,
}

impl Engine {
    fn new(options: ControlOptions) -> Self {
        Self {
            options,
            control: None,
            calls: HashMap::new(),
        }
    }

    fn control(&mut self) -> Result<Rc<Control>, CommandError> {
        if let Some(control) = &self.control {
            return Ok(Rc::clone(control));
        }
        let control = Control::new(self.options.clone())
            .map(Rc::new)
            .map_err(|error| CommandError(error.to_string()))?;
        self.control = Some(Rc::clone(&control));
        Ok(control)
    }
}

impl Actor for Engine {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<BrowserCall> for Engine {
    type Result = ();

    fn handle(&mut self, call: BrowserCall, ctx: &mut Context<Self>) {
        let BrowserCall {
            generation,
            id,
            command,
            params,
            reply,
        } = call;
        let refuse = |refusal: InvokeError| {
            let result = Err(refusal);
            let (id, event) = (id.clone(), None);
            answer(&reply, InvokeAnswer { id, result, event });
        };
        let control = match self.control() {
            Ok(control) => control,
            Err(error) => return refuse(thrown(&error)),
        };
        if self.calls.len() >= MOST_CALLS {
            let busy = format!("node busy: {MOST_CALLS} browser calls are under way");
            return refuse(InvokeError::unavailable(busy));
        }
        debug!(invoke = %id, ?command, "browser call");
        let (keep, mut cancelled) = oneshot::channel();
        self.calls.insert(id.clone(), (generation, keep));
        let command = match command {
            BrowserCommand::Proxy => ProxyCommand::Proxy,
            BrowserCommand::UploadV1 => ProxyCommand::UploadV1,
        };
        let carried_out = async move {
            tokio::select! {
                biased;
                _ = &mut cancelled => None,
                result = Box::pin(proxy::call(&control, command, params.as_deref())) => Some(result),
            }
        };
        let answered = carried_out.into_actor(self).map(move |result, actor, _| {
            actor.calls.remove(&id);
            let Some(result) = result else {
                return debug!(invoke = %id, "browser call cancelled");
            };
            let result = result.map(Arc::new).map_err(|error| thrown(&error));
            let event = None;
            answer(&reply, InvokeAnswer { id, result, event });
        });
        ctx.spawn(answered);
    }
}

/// How a command's own error reaches the gateway (browser proxy §1.4).
fn thrown(error: &CommandError) -> InvokeError {
    InvokeError::invalid_request(format!("Error: {error}"))
}

impl Handler<CancelBrowserCall> for Engine {
    type Result = ();

    fn handle(&mut self, cancel: CancelBrowserCall, _: &mut Context<Self>) {
        self.calls.remove(&cancel.0);
    }
}

impl Handler<CancelBrowserCalls> for Engine {
    type Result = ();

    fn handle(&mut self, cancel: CancelBrowserCalls, _: &mut Context<Self>) {
        self.calls
            .retain(|_, (generation, _)| *generation != cancel.0);
    }
}

impl Handler<StopBrowsers> for Engine {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopBrowsers, _: &mut Context<Self>) -> Self::Result {
        self.calls.clear();
        let control = self.control.clone();
        Box::pin(async move {
            if let Some(control) = control {
                control.shut_down().await;
                info!("browsers ended");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use browser::control::Places;
    use node_config::BrowserSettings;

    use super::*;

    #[test]
    fn a_temporary_folder_can_be_mended_while_the_node_runs() {
        let dir = tempfile::tempdir().unwrap();
        let temporary = dir.path().join("tmp");
        std::fs::write(&temporary, "no folder").unwrap();
        let mut engine = Engine::new(ControlOptions {
            settings: BrowserSettings::default(),
            places: Places {
                state_dir: dir.path().join("state"),
                temporary: temporary.clone(),
            },
            environment: Vec::new(),
            headless_override: None,
        });
        let refused = engine.control().unwrap_err().to_string();
        assert!(refused.contains("only this user can write to"), "{refused}");
        std::fs::remove_file(&temporary).unwrap();
        let made = engine.control().unwrap();
        let again = engine.control().unwrap();
        assert!(Rc::ptr_eq(&made, &again), "browsers are known to one");
    }
}
