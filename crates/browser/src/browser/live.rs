//! A browser that runs: its connection, its process, and the pages that this node is attached to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use exec::run::service::ServiceProcess;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::downloads::Downloads;
use super::graphics;
use super::tabs::Listing;
use crate::cdp::{Cdp, CdpError, DialError};
use crate::control::Places;
use crate::endpoint::Endpoint;
use crate::executable::Executable;
use crate::launch::{Headless, STOP_GRACE, profile_folder};
use crate::navigation::Policy;
use crate::request::RouteError;
use crate::tab::{Tab, text};

/// How long the browser may take to list its pages.
const LIST_DEADLINE: Duration = Duration::from_secs(3);
/// How long a closed page may take to be gone.
const CLOSING: Duration = Duration::from_secs(1);
/// Between two looks at it.
const CLOSING_PROBE: Duration = Duration::from_millis(10);
/// How long a browser may take to close itself before it is told with a signal.
const CLOSE_DEADLINE: Duration = Duration::from_millis(1500);

/// What a running browser is known by.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its browser-level WebSocket; another one after each start.
    pub websocket: String,
    /// What was started.
    pub executable: Option<Executable>,
    /// Where it keeps its data.
    pub user_data_dir: Option<PathBuf>,
    /// Whether it has a window.
    pub headless: Headless,
}

/// Why a browser cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No WebSocket.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It does not do what is asked.
    #[error(transparent)]
    Cdp(#[from] CdpError),
}

/// A running browser.
#[derive(Debug)]
pub struct Live {
    identity: Identity,
    pid: Option<i32>,
    cdp: Cdp,
    /// `None` for a browser that somebody else started.
    process: RefCell<Option<ServiceProcess>>,
    tabs: RefCell<HashMap<String, Rc<Tab>>>,
    /// One attachment at a time, so that no page is attached to twice.
    attaching: tokio::sync::Mutex<()>,
    last_used: RefCell<Option<String>>,
    stopped: Cell<bool>,
    policy: Rc<Policy>,
    /// Whether a trace is being recorded.
    pub is_tracing: Cell<bool>,
    graphics: RefCell<Option<Value>>,
    /// What was downloaded.
    pub downloads: Downloads,
}

impl Live {
    /// Connects to a browser, and takes its process once that is done.
    pub(super) async fn connect(
        identity: Identity,
        process: &mut Option<ServiceProcess>,
        places: &Places,
        policy: Rc<Policy>,
        deadline: Duration,
    ) -> Result<Rc<Self>, ConnectError> {
        let cdp = Cdp::connect(&identity.websocket, deadline).await?;
        let live = Rc::new(Self {
            identity,
            pid: process.as_ref().map(ServiceProcess::pid),
            cdp: cdp.clone(),
            process: RefCell::default(),
            tabs: RefCell::default(),
            attaching: tokio::sync::Mutex::new(()),
            last_used: RefCell::default(),
            stopped: Cell::new(false),
            policy,
            is_tracing: Cell::new(false),
            graphics: RefCell::default(),
            downloads: Downloads::new(places.downloads_dir()),
        });
        let observed = Rc::downgrade(&live);
        cdp.browser().on_event(move |event| {
            let Some(live) = observed.upgrade() else {
                return;
            };
            match event.method.as_str() {
                "Target.detachedFromTarget" => live.forget(text(&event.params, "sessionId")),
                method if method.starts_with("Browser.download") => {
                    live.downloads.observe(method, &event.params);
                }
                _ => {}
            }
        });
        live.downloads.enable(&cdp.browser()).await?;
        live.process.replace(process.take());
        live.watch();
        Ok(live)
    }

    /// Ends what is left of a browser whose connection is gone, if this node started it.
    fn watch(self: &Rc<Self>) {
        let cdp = self.cdp.browser();
        let live = Rc::downgrade(self);
        actix_rt::spawn(async move {
            cdp.cdp().closed().await;
            let Some(live) = live.upgrade() else { return };
            if live.pid.is_none() {
                return live.leave_pages();
            }
            let process = live.process.take();
            if let Some(process) = process {
                process.stop(STOP_GRACE).await;
            }
            for (_, tab) in live.tabs.take() {
                tab.closed();
            }
        });
    }

    /// What the browser is known by.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its process, if this node started it.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// How the browser paints, asked for once.
    pub async fn graphics(&self) -> Value {
        if let Some(known) = &*self.graphics.borrow() {
            return known.clone();
        }
        let session = self.cdp.browser();
        let Ok(told) = session.call("SystemInfo.getInfo", json!({})).await else {
            return Value::Null;
        };
        let graphics = graphics::describe(&told);
        self.graphics.replace(Some(graphics.clone()));
        graphics
    }

    /// The connection.
    #[must_use]
    pub fn cdp(&self) -> &Cdp {
        &self.cdp
    }

    /// Whether it ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.get() || self.cdp.is_closed()
    }

    pub(super) async fn stop(&self) {
        self.stopped.set(true);
        if self.pid.is_none() {
            self.leave_pages();
            return self.cdp.close();
        }
        let process = self.process.take();
        let tabs = self.tabs.take();
        for tab in tabs.values() {
            tab.gone();
        }
        if let Some(mut process) = process {
            // It saves cookies when it closes by itself.
            let browser = self.cdp.browser();
            let close = browser.call_within("Browser.close", json!({}), CLOSE_DEADLINE);
            if close.await.is_ok() {
                tokio::time::timeout(CLOSE_DEADLINE, process.wait())
                    .await
                    .ok();
            }
            process.stop(STOP_GRACE).await;
        }
        if let Some(folder) = &self.identity.user_data_dir {
            profile_folder::remove_socket(folder);
        }
        // Not before: until then a page may read what it was given.
        for tab in tabs.values() {
            tab.closed();
        }
    }

    /// Lets go of the pages of a browser that goes on, with what they were given.
    fn leave_pages(&self) {
        for (_, tab) in self.tabs.take() {
            tab.gone();
            tab.change(|state| state.chooser.leave());
        }
    }

    /// The page, if this node is attached to it.
    #[must_use]
    pub fn attached(&self, target: &str) -> Option<Rc<Tab>> {
        self.tabs.borrow().get(target).cloned()
    }

    /// The page; it is attached to if it is not yet.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn tab(&self, target: &str) -> Result<Rc<Tab>, RouteError> {
        if let Some(tab) = self.attached(target) {
            return Ok(tab);
        }
        let _one = self.attaching.lock().await;
        if let Some(tab) = self.attached(target) {
            return Ok(tab);
        }
        let tab = Tab::attach(&self.cdp, target, &self.policy).await?;
        self.tabs
            .borrow_mut()
            .insert(target.to_owned(), Rc::clone(&tab));
        Ok(tab)
    }

    fn forget(&self, session: &str) {
        let gone: Option<Rc<Tab>> = {
            let mut tabs = self.tabs.borrow_mut();
            let target = tabs
                .iter()
                .find(|(_, tab)| tab.session().id() == session)
                .map(|(target, _)| target.clone());
            target.and_then(|target| tabs.remove(&target))
        };
        if let Some(tab) = gone {
            debug!(target = tab.target_id(), "a page is gone");
            tab.closed();
        }
    }

    /// The page used last.
    #[must_use]
    pub fn last_used(&self) -> Option<String> {
        self.last_used.borrow().clone()
    }

    /// Makes this the page that is meant where none is named.
    pub fn use_last(&self, target: &str) {
        let mut last = self.last_used.borrow_mut();
        if last.as_deref() != Some(target) {
            *last = Some(target.to_owned());
        }
    }

    /// The pages, as the browser orders them: the one used last first.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn list_targets(&self, endpoint: Option<&Endpoint>) -> Result<Listing, RouteError> {
        if let Some(endpoint) = endpoint {
            match endpoint.get("/json/list", LIST_DEADLINE).await {
                Ok(Value::Array(entries)) => return Ok(Listing::of(&entries)),
                Ok(_) => {}
                // Some remote browsers have no HTTP side.
                Err(error) => warn!(%error, "the browser does not list its pages over HTTP"),
            }
        }
        let listed = self
            .cdp
            .browser()
            .call("Target.getTargets", json!({}))
            .await?;
        let entries = listed.get("targetInfos").and_then(Value::as_array);
        Ok(entries.map_or_else(Listing::default, |entries| Listing::of(entries)))
    }

    /// Opens a page in the background; returns its target.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn create(&self, url: &str) -> Result<String, CdpError> {
        let params = json!({"url": url, "background": true});
        let created = self
            .cdp
            .browser()
            .call("Target.createTarget", params)
            .await?;
        Ok(text(&created, "targetId").to_owned())
    }

    /// Closes a page.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn close(&self, target: &str) -> Result<(), CdpError> {
        let params = json!({"targetId": target});
        let browser = self.cdp.browser();
        browser.call("Target.closeTarget", params).await?;
        // Until then it would still be listed.
        let until = Instant::now() + CLOSING;
        loop {
            let listed = browser.call("Target.getTargets", json!({})).await?;
            let listed = listed.get("targetInfos").and_then(Value::as_array);
            let is_there = |info: &Value| text(info, "targetId") == target;
            if !listed.into_iter().flatten().any(is_there) {
                break;
            }
            if Instant::now() >= until {
                // Its browser is slow, or asks its user first: it is a page for as long as it is there.
                return Ok(());
            }
            sleep(CLOSING_PROBE).await;
        }
        if let Some(tab) = self.tabs.borrow_mut().remove(target) {
            tab.closed();
        }
        let mut last = self.last_used.borrow_mut();
        if last.as_deref() == Some(target) {
            *last = None;
        }
        Ok(())
    }

    /// Brings a page to the front.
    ///
    /// # Errors
    /// [`CdpError`].
    pub async fn focus(&self, target: &str) -> Result<(), CdpError> {
        let params = json!({"targetId": target});
        self.cdp
            .browser()
            .call("Target.activateTarget", params)
            .await?;
        self.use_last(target);
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A call that finds the connection gone may drop this before it is noticed otherwise.
        if self.pid.is_none() {
            self.leave_pages();
        }
    }
}
