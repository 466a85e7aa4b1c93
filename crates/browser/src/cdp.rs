//! The Chrome DevTools Protocol over one browser-level WebSocket.
//!
//! Every target is attached to with a flattened session, so one socket carries all of them. Params,
//! results and events stay untyped JSON: about fifty methods are needed, and a new value in an
//! enumeration of a later Chrome must not break anything.

mod socket;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use actix_rt::task::JoinHandle;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tracing::debug;

pub use self::socket::DialError;
use self::socket::{Incoming, Socket};

/// How long the browser may take to answer one call, unless the caller says otherwise.
pub const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// Calls that may wait to be written.
const OUTBOUND_CALLS: usize = 256;

/// Events of one session that a slow listener may lag behind before it misses some.
const EVENT_BACKLOG: usize = 256;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdpError {
    /// The browser refused the call; its own words.
    #[error("{message}")]
    Refused {
        /// The JSON-RPC code, such as -32000.
        code: i64,
        /// What the browser says.
        message: String,
    },
    /// No answer in time.
    #[error("the browser did not answer {method} within {} ms", .deadline.as_millis())]
    Deadline {
        /// The method.
        method: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// The socket or the target is gone.
    #[error("the browser connection is closed")]
    Closed,
    /// An answer that is not what it should be.
    #[error("an answer of the browser is not understood: {0}")]
    Malformed(String),
}

impl CdpError {
    /// An answer that cannot be read.
    pub(crate) fn malformed(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Something that happened in the browser.
#[derive(Debug)]
pub struct Event {
    /// Its name, such as `Page.loadEventFired`.
    pub method: String,
    /// What it says.
    pub params: Value,
}

/// What looks at every event of a session the moment it arrives; it must not block.
type Handler = Rc<dyn Fn(&Event)>;

struct Listeners {
    handler: Option<Handler>,
    feed: broadcast::Sender<Rc<Event>>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            handler: None,
            feed: broadcast::Sender::new(EVENT_BACKLOG),
        }
    }
}

struct PendingCall {
    session: Rc<str>,
    answer: oneshot::Sender<Result<Box<RawValue>, CdpError>>,
}

struct Shared {
    next_id: Cell<u64>,
    pending: RefCell<HashMap<u64, PendingCall>>,
    listeners: RefCell<HashMap<Rc<str>, Listeners>>,
    outbound: mpsc::Sender<String>,
    is_closed: Cell<bool>,
    closed: Notify,
    task: RefCell<Option<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// A connection to a browser. Cheap to clone; the socket closes with the last clone and session, which
/// handlers of events may hold for ever, or with [`Cdp::close`].
#[derive(Clone)]
pub struct Cdp(Rc<Shared>);

impl fmt::Debug for Cdp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cdp")
            .field("is_closed", &self.0.is_closed.get())
            .finish_non_exhaustive()
    }
}

/// A message from the browser: an answer has an id, an event a method.
#[derive(Deserialize)]
struct Message {
    id: Option<u64>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    result: Option<Box<RawValue>>,
    error: Option<Refusal>,
    #[serde(rename = "sessionId")]
    session: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    code: i64,
    message: String,
}

impl Cdp {
    /// Connects to a browser-level endpoint, as in `ws://127.0.0.1:18800/devtools/browser/<id>`.
    ///
    /// # Errors
    /// [`DialError`], within `deadline`.
    pub async fn connect(url: &str, deadline: Duration) -> Result<Self, DialError> {
        let socket = Socket::dial(url, deadline).await?;
        let (outbound, calls) = mpsc::channel(OUTBOUND_CALLS);
        let shared = Rc::new(Shared {
            next_id: Cell::new(1),
            pending: RefCell::default(),
            listeners: RefCell::default(),
            outbound,
            is_closed: Cell::new(false),
            closed: Notify::new(),
            task: RefCell::default(),
        });
        let task = actix_rt::spawn(serve(socket, calls, Rc::downgrade(&shared)));
        shared.task.replace(Some(task));
        Ok(Self(shared))
    }

    /// The session of the browser itself.
    #[must_use]
    pub fn browser(&self) -> Session {
        self.session("")
    }

    /// A session that the browser has attached already.
    #[must_use]
    pub fn session(&self, id: &str) -> Session {
        Session {
            cdp: self.clone(),
            id: id.into(),
        }
    }

    /// Attaches to a target.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn attach(&self, target_id: &str) -> Result<Session, CdpError> {
        let params = json!({"targetId": target_id, "flatten": true});
        let attached = self.browser().call("Target.attachToTarget", params).await?;
        let id = attached.get("sessionId").and_then(Value::as_str);
        Ok(self.session(id.unwrap_or_default()))
    }

    /// Whether the socket is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.get()
    }

    /// Hangs up, whoever still holds the connection or a session of it. The browser undoes what
    /// lasts only as long as somebody listens, such as holding requests.
    pub fn close(&self) {
        if let Some(task) = self.0.task.take() {
            task.abort();
        }
        self.0.close();
    }

    /// Waits until the socket is gone.
    pub async fn closed(&self) {
        while !self.is_closed() {
            let closed = self.0.closed.notified();
            if self.is_closed() {
                return;
            }
            closed.await;
        }
    }
}

impl Shared {
    fn dispatch(&self, text: &[u8]) {
        let message: Message = match serde_json::from_slice(text) {
            Ok(message) => message,
            Err(error) => return debug!(%error, "a message of the browser is not understood"),
        };
        if let Some(id) = message.id {
            let call = self.pending.borrow_mut().remove(&id);
            let Some(call) = call else { return };
            let result = match message.error {
                Some(Refusal { code, message }) => Err(CdpError::Refused { code, message }),
                None => Ok(message.result.unwrap_or_else(|| RawValue::NULL.to_owned())),
            };
            // Whoever called may have stopped waiting.
            call.answer.send(result).ok();
            return;
        }
        let Some(method) = message.method else { return };
        if method == "Target.detachedFromTarget" {
            self.forget(message.params.get("sessionId").and_then(Value::as_str));
        }
        let session = message.session.unwrap_or_default();
        let event = Rc::new(Event {
            method,
            params: message.params,
        });
        let (handler, feed) = match self.listeners.borrow().get(session.as_str()) {
            Some(listeners) => (listeners.handler.clone(), listeners.feed.clone()),
            None => return,
        };
        if let Some(handler) = handler {
            handler(&event);
        }
        // Without a listener there is nobody to be told.
        feed.send(event).ok();
    }

    /// Fails what waits for a session that is gone.
    fn forget(&self, session: Option<&str>) {
        let Some(session) = session else { return };
        self.listeners.borrow_mut().remove(session);
        self.pending
            .borrow_mut()
            .retain(|_, call| &*call.session != session);
    }

    fn close(&self) {
        self.is_closed.set(true);
        // Dropping the senders tells every caller and listener.
        self.pending.borrow_mut().clear();
        self.listeners.borrow_mut().clear();
        self.closed.notify_waiters();
    }
}

/// Carries calls out and messages in until the socket ends or nobody holds the connection.
async fn serve(mut socket: Socket, mut calls: mpsc::Receiver<String>, shared: Weak<Shared>) {
    loop {
        let written = tokio::select! {
            call = calls.recv() => match call {
                Some(call) => socket.send(call).await,
                None => return,
            },
            incoming = socket.next() => match incoming {
                Incoming::Message(text) => {
                    let Some(shared) = shared.upgrade() else { return };
                    shared.dispatch(&text);
                    Ok(())
                }
                Incoming::Ping(payload) => socket.pong(payload).await,
                Incoming::Closed(reason) => Err(reason),
            },
        };
        if let Err(reason) = written {
            debug!(reason, "browser connection ended");
            if let Some(shared) = shared.upgrade() {
                shared.close();
            }
            return;
        }
    }
}

/// A conversation with one target of the browser, or with the browser itself.
#[derive(Clone, Debug)]
pub struct Session {
    cdp: Cdp,
    /// Empty for the browser.
    id: Rc<str>,
}

impl Session {
    /// The connection that carries this session.
    #[must_use]
    pub fn cdp(&self) -> &Cdp {
        &self.cdp
    }

    /// The session's id; empty for the browser itself.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Calls a method and waits at most [`CALL_DEADLINE`].
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, CdpError> {
        self.call_within(method, params, CALL_DEADLINE).await
    }

    /// Calls a method and waits at most `deadline`.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn call_within(
        &self,
        method: &str,
        params: Value,
        deadline: Duration,
    ) -> Result<Value, CdpError> {
        let answer = self.call_raw(method, params, deadline).await?;
        serde_json::from_str(answer.get()).map_err(CdpError::malformed)
    }

    /// The same, with the answer as it came: a large one is read straight into what it is for.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn call_raw(
        &self,
        method: &str,
        params: Value,
        deadline: Duration,
    ) -> Result<Box<RawValue>, CdpError> {
        let shared = &self.cdp.0;
        if shared.is_closed.get() {
            return Err(CdpError::Closed);
        }
        let id = shared.next_id.get();
        shared.next_id.set(id + 1);
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.id.is_empty()
            && let Value::Object(members) = &mut message
        {
            members.insert("sessionId".to_owned(), Value::from(&*self.id));
        }
        let (answer, answered) = oneshot::channel();
        shared.pending.borrow_mut().insert(
            id,
            PendingCall {
                session: Rc::clone(&self.id),
                answer,
            },
        );
        // Whatever ends the wait, a caller that was dropped included, forgets the call.
        let _forget = Forget { shared, id };
        let outcome = tokio::time::timeout(deadline, async {
            if shared.outbound.send(message.to_string()).await.is_err() {
                return Err(CdpError::Closed);
            }
            answered.await.unwrap_or(Err(CdpError::Closed))
        });
        outcome.await.unwrap_or_else(|_| {
            Err(CdpError::Deadline {
                method: method.to_owned(),
                deadline,
            })
        })
    }

    /// Has every event of this session looked at the moment it arrives. There is one handler per
    /// session; a later one replaces it.
    pub fn on_event(&self, handler: impl Fn(&Event) + 'static) {
        let mut listeners = self.cdp.0.listeners.borrow_mut();
        listeners.entry(Rc::clone(&self.id)).or_default().handler = Some(Rc::new(handler));
    }

    /// A feed of this session's events from now on. A listener that falls 256 events behind misses
    /// the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Rc<Event>> {
        let mut listeners = self.cdp.0.listeners.borrow_mut();
        listeners
            .entry(Rc::clone(&self.id))
            .or_default()
            .feed
            .subscribe()
    }
}

struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.pending.borrow_mut().remove(&self.id);
    }
}
