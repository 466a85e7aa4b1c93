//! One page: its session, where it is, what it said since it was attached to, and its dialogs.

pub mod chooser;
pub mod dialogs;
pub mod interception;
pub mod journal;
pub mod network;

use std::cell::{Ref, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use self::chooser::Chooser;
use self::dialogs::Dialogs;
use self::interception::Interception;
use self::journal::PageJournal;
use self::network::Network;
use crate::cdp::{Cdp, CdpError, Event, Session};
use crate::navigation::Policy;
use crate::snapshot::refs::Refs;

/// How long the domains of a page may take to be enabled. A page that shows a dialog answers some of
/// these calls only when that is closed.
const ENABLE_DEADLINE: Duration = Duration::from_secs(5);

/// A page that this node is attached to.
pub struct Tab {
    target_id: String,
    session: Session,
    state: RefCell<TabState>,
    /// Told on every change of the state.
    changed: Notify,
    /// What the last snapshot named; belongs to the snapshot and act modules.
    pub refs: RefCell<Refs>,
}

impl fmt::Debug for Tab {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tab")
            .field("target_id", &self.target_id)
            .finish_non_exhaustive()
    }
}

/// What is known of a page.
#[derive(Debug, Default)]
pub struct TabState {
    /// Where its main frame is.
    pub url: String,
    /// Its main frame.
    pub main_frame: String,
    /// All frames that were told of, the main frame included.
    pub frames: HashSet<String>,
    /// Which load of the main frame this is.
    pub loader: String,
    /// How many documents the main frame has had; every navigation that is not within a document
    /// counts. Refs of an earlier document are dead.
    pub document: u64,
    /// What the current document has reached: `DOMContentLoaded`, `load`, `networkIdle`, …
    pub lifecycle: HashSet<String>,
    /// Sessions of frames that live in processes of their own, by frame id.
    pub frame_sessions: HashMap<String, Session>,
    /// Dialogs.
    pub dialogs: Dialogs,
    /// Files for the next file chooser.
    pub chooser: Chooser,
    /// Requests that are held.
    pub interception: Interception,
    /// Console messages and errors.
    pub journal: PageJournal,
    /// Requests.
    pub network: Network,
    /// Whether the page is gone.
    pub is_gone: bool,
}

impl Tab {
    /// Attaches to a page and begins to collect what it says. With a policy that guards, every
    /// document that it loads is looked at.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn attach(
        cdp: &Cdp,
        target_id: &str,
        policy: &Rc<Policy>,
    ) -> Result<Rc<Self>, CdpError> {
        let session = cdp.attach(target_id).await?;
        let tab = Rc::new(Self {
            target_id: target_id.to_owned(),
            session: session.clone(),
            state: RefCell::default(),
            changed: Notify::new(),
            refs: RefCell::default(),
        });
        tab.state.borrow_mut().main_frame = target_id.to_owned();
        let observed = Rc::downgrade(&tab);
        let own = session.clone();
        session.on_event(move |event| {
            if let Some(tab) = observed.upgrade() {
                tab.observe(event, &own);
            }
        });
        if policy.guards() {
            tab.change(|state| state.interception.guard(Rc::clone(policy)));
            Interception::apply(&tab, &session).await?;
        }
        tab.enable().await?;
        Ok(tab)
    }

    async fn enable(&self) -> Result<(), CdpError> {
        let enabled = futures_util::future::try_join_all([
            self.enable_one("Page.enable", json!({})),
            self.enable_one("Page.setLifecycleEventsEnabled", json!({"enabled": true})),
            self.enable_one("Runtime.enable", json!({})),
            self.enable_one("Network.enable", json!({})),
            // Pages that are not in front have the focus all the same, so that input reaches them.
            self.enable_one(
                "Emulation.setFocusEmulationEnabled",
                json!({"enabled": true}),
            ),
            self.enable_one(
                "Target.setAutoAttach",
                json!({"autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true}),
            ),
        ]);
        let tree = self.enable_one("Page.getFrameTree", json!({}));
        let (_, tree) = futures_util::future::try_join(enabled, tree).await?;
        if let Some(frame) = tree.pointer("/frameTree/frame") {
            let mut state = self.state.borrow_mut();
            // Events are seen at once, this answer only later: what they said is newer.
            if state.document > 0 {
                return Ok(());
            }
            state.url = frame_url(frame);
            state.main_frame = text(frame, "id").to_owned();
            state.loader = text(frame, "loaderId").to_owned();
        }
        Ok(())
    }

    async fn enable_one(&self, method: &str, params: Value) -> Result<Value, CdpError> {
        match self
            .session
            .call_within(method, params, ENABLE_DEADLINE)
            .await
        {
            // A dialog is in the way, and the browser says so by itself.
            Err(CdpError::Deadline { .. }) => Ok(Value::Null),
            answered => answered,
        }
    }

    /// The page's target.
    #[must_use]
    pub fn target_id(&self) -> &str {
        &self.target_id
    }

    /// The page's session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// What is known of the page. The borrow must not be held across an await.
    #[must_use]
    pub fn state(&self) -> Ref<'_, TabState> {
        self.state.borrow()
    }

    /// Changes what is known of the page, and tells who waits for a change.
    pub fn change<T>(&self, change: impl FnOnce(&mut TabState) -> T) -> T {
        let changed = change(&mut self.state.borrow_mut());
        self.changed.notify_waiters();
        changed
    }

    /// Where the page is.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.borrow().url.clone()
    }

    /// Whether a dialog keeps the page from answering.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state.borrow().dialogs.is_pending()
    }

    /// Waits until something about the page holds, at most until `deadline`; says whether it does.
    pub async fn until(&self, deadline: Instant, holds: impl Fn(&TabState) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            if holds(&self.state.borrow()) {
                return true;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return holds(&self.state.borrow());
            }
        }
    }

    /// Does something that a dialog may interrupt: whatever is done comes first, or else `None` as
    /// soon as a dialog waits for its answer. What was begun is dropped then.
    pub async fn unless_blocked<T>(&self, done: impl Future<Output = T>) -> Option<T> {
        let blocked = async {
            loop {
                let changed = self.changed.notified();
                if self.is_blocked() {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            biased;
            done = done => Some(done),
            () = blocked => None,
        }
    }

    /// The session that a frame answers on: its own process's, or the page's.
    #[must_use]
    pub fn session_of(&self, frame: &str) -> Session {
        let state = self.state.borrow();
        state
            .frame_sessions
            .get(frame)
            .cloned()
            .unwrap_or_else(|| self.session.clone())
    }

    /// Whether a frame is one of this page's.
    #[must_use]
    pub fn owns_frame(&self, frame: &str) -> bool {
        let state = self.state.borrow();
        frame == state.main_frame || state.frames.contains(frame)
    }

    /// The page is gone; whoever waits for it hears of it.
    pub fn gone(&self) {
        self.change(|state| state.is_gone = true);
    }

    /// The page is closed: it is gone, and nobody reads any more what it was given.
    pub fn closed(&self) {
        self.change(|state| {
            state.is_gone = true;
            state.chooser.release();
        });
    }

    fn observe(self: &Rc<Self>, event: &Event, session: &Session) {
        let params = &event.params;
        match event.method.as_str() {
            "Page.frameNavigated" => self.on_navigated(params),
            "Page.navigatedWithinDocument" => self.change(|state| {
                if text(params, "frameId") == state.main_frame {
                    state.url = text(params, "url").to_owned();
                }
            }),
            "Page.frameAttached" => {
                let frame = text(params, "frameId");
                self.refs.borrow_mut().frames.place(frame);
                self.change(|state| state.frames.insert(frame.to_owned()));
            }
            "Page.lifecycleEvent" => self.change(|state| state.on_lifecycle(params)),
            "Page.javascriptDialogOpening" => {
                let answer = self.change(|state| state.dialogs.open(params));
                if let Some(answer) = answer {
                    let session = self.session.clone();
                    actix_rt::spawn(async move {
                        let handled = session.call("Page.handleJavaScriptDialog", answer).await;
                        if let Err(error) = handled {
                            debug!(%error, "a dialog was gone before it was answered");
                        }
                    });
                }
            }
            "Page.fileChooserOpened" => chooser::on_opened(self, session.clone(), params),
            "Fetch.requestPaused" => interception::on_held(self, session.clone(), params),
            "Fetch.authRequired" => interception::on_auth_required(self, session.clone(), params),
            "Page.javascriptDialogClosed" => self.change(|state| state.dialogs.close()),
            "Runtime.consoleAPICalled" => self.change(|state| state.journal.on_console(params)),
            "Runtime.exceptionThrown" => self.change(|state| state.journal.on_exception(params)),
            "Target.attachedToTarget" => self.on_frame_attached(params),
            "Target.detachedFromTarget" => self.change(|state| {
                let session = text(params, "sessionId");
                state.frame_sessions.retain(|_, kept| kept.id() != session);
            }),
            "Inspector.targetCrashed" => self.gone(),
            method if method.starts_with("Network.") => {
                self.change(|state| state.network.observe(method, params));
            }
            _ => {}
        }
    }

    fn on_navigated(&self, params: &Value) {
        let Some(frame) = params.get("frame") else {
            return;
        };
        let id = text(frame, "id").to_owned();
        if frame.get("parentId").is_some() {
            return self.change(|state| {
                state.frames.insert(id);
            });
        }
        let left = self.url();
        self.refs.borrow_mut().frames.main_frame_left(&id, &left);
        self.change(|state| {
            state.url = frame_url(frame);
            state.main_frame = id;
            state.document += 1;
            state.frames.clear();
            let loader = text(frame, "loaderId");
            if state.loader != loader {
                state.loader = loader.to_owned();
                state.lifecycle.clear();
            }
        });
        self.refs.borrow_mut().forget();
    }

    /// A frame in a process of its own, or a worker.
    fn on_frame_attached(self: &Rc<Self>, params: &Value) {
        let session = self.session.cdp().session(text(params, "sessionId"));
        let target = params.get("targetInfo").cloned().unwrap_or_default();
        if text(&target, "type") != "iframe" {
            return;
        }
        let frame = text(&target, "targetId").to_owned();
        let observed = Rc::downgrade(self);
        let own = session.clone();
        session.on_event(move |event| {
            let Some(tab) = observed.upgrade() else {
                return;
            };
            // The page's own navigation, lifecycle and dialogs are told on the page's session.
            if event.method.starts_with("Network.")
                || event.method.starts_with("Runtime.")
                || event.method.starts_with("Target.")
                || event.method.starts_with("Fetch.")
                || event.method == "Page.fileChooserOpened"
            {
                tab.observe(event, &own);
            }
        });
        self.change(|state| state.frame_sessions.insert(frame, session.clone()));
        let tab = Rc::clone(self);
        actix_rt::spawn(async move {
            if let Err(error) = Interception::apply(&tab, &session).await {
                debug!(%error, "requests of a frame are not looked at");
            }
            drop(tab);
            let enabled = futures_util::future::try_join_all([
                session.call("Page.enable", json!({})),
                session.call("Runtime.enable", json!({})),
                session.call("Network.enable", json!({})),
                session.call(
                    "Target.setAutoAttach",
                    json!({"autoAttach": true, "waitForDebuggerOnStart": false, "flatten": true}),
                ),
            ]);
            if let Err(error) = enabled.await {
                debug!(%error, "a frame was gone before it was attached to");
            }
        });
    }
}

impl TabState {
    fn on_lifecycle(&mut self, params: &Value) {
        if text(params, "frameId") != self.main_frame {
            return;
        }
        let loader = text(params, "loaderId");
        if loader != self.loader {
            // The new document's first events can come before its frame is reported.
            self.loader = loader.to_owned();
            self.lifecycle.clear();
        }
        let name = text(params, "name");
        if name == "init" {
            self.lifecycle.clear();
        }
        self.lifecycle.insert(name.to_owned());
    }
}

/// A text member; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn frame_url(frame: &Value) -> String {
    format!("{}{}", text(frame, "url"), text(frame, "urlFragment"))
}
