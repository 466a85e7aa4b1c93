//! One profile and its browser: starting it, noticing its end, and its tabs.

pub mod downloads;
mod graphics;
pub mod live;
pub mod tabs;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use exec::run::service::ServiceProcess;
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::{debug, info, warn};

use self::live::{ConnectError, Identity, Live};
use self::tabs::{Aliases, ListedTab, Resolution};
use crate::control::ControlOptions;
use crate::endpoint::Endpoint;
use crate::executable::{self, Executable, NoBrowser};
use crate::launch::{self, Headless, LaunchError, LaunchPlan};
use crate::navigation::Policy;
use crate::profile::{Driver, Profile};
use crate::request::{Reason, RouteError};
use crate::tab::Tab;

/// How long a browser at a given endpoint on this machine may take to answer before it counts as not
/// running (browser proxy §3.3).
const PROBE_HTTP: Duration = Duration::from_millis(300);
/// The same for one on another machine, and for any that a call cannot do without.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// How long the WebSocket of a browser that this node did not start may take.
const ATTACH_DEADLINE: Duration = Duration::from_secs(8);
/// Pages that are kept in a managed browser (browser proxy §4).
const MOST_TABS: usize = 8;

/// A profile's browser.
#[derive(Debug)]
pub struct Browser {
    profile: Profile,
    options: Rc<ControlOptions>,
    /// One start, stop or attachment at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Whether a start is under way, which goes on without the call that began it.
    is_starting: Cell<bool>,
    /// Tells that start, and who waits for it, of a stop.
    stops: watch::Sender<()>,
    live: RefCell<Option<Rc<Live>>>,
    aliases: RefCell<Aliases>,
    /// What the last `POST /start` asked for; counts until the next stop.
    headless_request: Cell<Option<bool>>,
    policy: Rc<Policy>,
}

impl Browser {
    pub(crate) fn new(profile: Profile, options: Rc<ControlOptions>) -> Self {
        Self {
            policy: Rc::new(Policy::of(&options.settings)),
            profile,
            options,
            turn: Arc::default(),
            is_starting: Cell::new(false),
            stops: watch::Sender::new(()),
            live: RefCell::default(),
            aliases: RefCell::default(),
            headless_request: Cell::new(None),
        }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the node's browser proxy is made of.
    #[must_use]
    pub fn options(&self) -> &ControlOptions {
        &self.options
    }

    /// Where its pages may go.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The browser that would be started.
    ///
    /// # Errors
    /// [`NoBrowser`].
    pub fn executable(&self) -> Result<Executable, NoBrowser> {
        executable::find(self.profile.executable_path.as_deref())
    }

    /// Whether the browser has a window, and what decides it: the request, the environment, the
    /// profile, the configuration, a machine without a display (browser proxy §3.1).
    #[must_use]
    pub fn headless(&self) -> Headless {
        let decided = [
            ("request", self.headless_request.get()),
            ("env", self.options.headless_override),
            ("profile", self.profile.headless),
            ("config", self.options.settings.headless),
        ];
        for (source, choice) in decided {
            if let Some(is_headless) = choice {
                return Headless {
                    is_headless,
                    source,
                };
            }
        }
        if cfg!(target_os = "linux") && !self.has_display() {
            return Headless {
                is_headless: true,
                source: "linux-display-fallback",
            };
        }
        Headless {
            is_headless: false,
            source: "default",
        }
    }

    fn has_display(&self) -> bool {
        self.options.environment.iter().any(|(name, value)| {
            (name == "DISPLAY" || name == "WAYLAND_DISPLAY") && !value.is_empty()
        })
    }

    /// The browser, if it runs. An attach-only profile is looked for at its endpoint.
    pub async fn running(&self) -> Option<Rc<Live>> {
        if let Some(live) = self.current() {
            return Some(live);
        }
        if self.profile.is_managed() {
            return None;
        }
        let _turn = self.turn.lock().await;
        match self.current() {
            Some(live) => Some(live),
            None if self.profile.is_remote() => self.attach(ANSWER_DEADLINE).await.ok(),
            None => self.attach(PROBE_HTTP).await.ok(),
        }
    }

    /// The browser as far as it is known without asking anybody.
    #[must_use]
    pub fn current(&self) -> Option<Rc<Live>> {
        let mut live = self.live.borrow_mut();
        if live.as_ref().is_some_and(|live| live.is_over()) {
            info!(profile = self.profile.name, "the browser is gone");
            *live = None;
        }
        live.clone()
    }

    /// The running browser; it is started if it does not run. Dropping the future leaves a start
    /// that is under way alone: on a slow machine it may take longer than any one call.
    ///
    /// # Errors
    /// Why it cannot be started or reached.
    pub async fn ensure(self: &Rc<Self>) -> Result<Rc<Live>, RouteError> {
        self.obtain(None).await
    }

    /// The same for a call that asks for a start, with or without a window, which counts until the
    /// next stop.
    ///
    /// # Errors
    /// Those of [`Self::ensure`].
    pub async fn start(self: &Rc<Self>, headless: Option<bool>) -> Result<Rc<Live>, RouteError> {
        self.obtain(Some(headless)).await
    }

    async fn obtain(
        self: &Rc<Self>,
        headless: Option<Option<bool>>,
    ) -> Result<Rc<Live>, RouteError> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let mut stops = self.stops.subscribe();
        let turn = tokio::select! {
            biased;
            () = next_stop(&mut stops) => return Err(self.stopped()),
            turn = Arc::clone(&self.turn).lock_owned() => turn,
        };
        if let Some(live) = self.current() {
            return Ok(live);
        }
        if let Some(headless) = headless {
            self.headless_request.set(headless);
        }
        match self.profile.driver {
            Driver::Openclaw if self.profile.is_managed() => self.begin(turn, stops).await,
            Driver::Openclaw => self.attach(ANSWER_DEADLINE).await,
            Driver::ExistingSession | Driver::Extension => Err(self.unsupported()),
        }
    }

    /// Refuses a profile whose driver this node does not have.
    ///
    /// # Errors
    /// 501.
    pub fn check_driver(&self) -> Result<(), RouteError> {
        match self.profile.driver {
            Driver::Openclaw => Ok(()),
            Driver::ExistingSession | Driver::Extension => Err(self.unsupported()),
        }
    }

    /// A profile whose driver this node does not have.
    fn unsupported(&self) -> RouteError {
        RouteError::new(
            501,
            format!(
                "Browser profile \"{}\" uses driver \"{}\", which this node does not offer. Use a \
                 profile with driver \"openclaw\".",
                self.profile.name,
                self.profile.driver.name()
            ),
        )
    }

    fn stopped(&self) -> RouteError {
        refused(LaunchError::Stopped {
            profile: self.profile.name.clone(),
        })
    }

    /// Starts the browser in a task that nobody can drop.
    async fn begin(
        self: &Rc<Self>,
        turn: OwnedMutexGuard<()>,
        stops: watch::Receiver<()>,
    ) -> Result<Rc<Live>, RouteError> {
        let browser = Rc::clone(self);
        self.is_starting.set(true);
        let start = actix_rt::spawn(async move {
            let _turn = turn;
            let started = browser.launch(stops).await;
            browser.is_starting.set(false);
            if let Err(error) = &started {
                // The call that began it may have run out of time.
                warn!(profile = browser.profile.name, %error, "the browser did not start");
            }
            started
        });
        start
            .await
            .unwrap_or_else(|error| Err(RouteError::failed(error)))
    }

    async fn launch(&self, mut stops: watch::Receiver<()>) -> Result<Rc<Live>, RouteError> {
        let plan = self.plan()?;
        let launched = launch::launch(&plan, next_stop(&mut stops)).await;
        let launched = launched.map_err(refused)?;
        let identity = Identity {
            websocket: launched.websocket,
            executable: Some(plan.executable.clone()),
            user_data_dir: Some(plan.user_data_dir.clone()),
            headless: plan.headless,
        };
        let mut process = Some(launched.process);
        let ready = self.options.settings.cdp_ready_timeout;
        let connected = tokio::select! {
            biased;
            () = next_stop(&mut stops) => Err(self.stopped()),
            connected = self.connect(identity, &mut process, ready) => {
                connected.map_err(|error| RouteError::failed(format_args!(
                    "Chrome CDP websocket for profile \"{}\" is not reachable after start. {error}. \
                     If this machine is slow, raise browser.localCdpReadyTimeoutMs.",
                    self.profile.name
                )))
            }
        };
        if let Some(process) = process {
            plan.end(process).await;
        }
        connected
    }

    fn plan(&self) -> Result<LaunchPlan, RouteError> {
        let headless = self.headless();
        if !headless.is_headless && cfg!(target_os = "linux") && !self.has_display() {
            return Err(RouteError {
                reason: Some(Reason::NoDisplay {
                    profile: self.profile.name.clone(),
                    headless_source: headless.source,
                }),
                ..RouteError::conflict(format!(
                    "Cannot start headed browser profile \"{}\" without a display. Set \
                     browser.headless: true, or give the node DISPLAY or WAYLAND_DISPLAY.",
                    self.profile.name
                ))
            });
        }
        let places = &self.options.places;
        Ok(LaunchPlan {
            executable: self.executable().map_err(|error| refused(error.into()))?,
            profile: self.profile.name.clone(),
            port: self.endpoint()?.port(),
            user_data_dir: self
                .profile
                .user_data_dir
                .clone()
                .unwrap_or_else(|| places.user_data_dir(&self.profile.name)),
            downloads_dir: places.downloads_dir(),
            headless,
            no_sandbox: self.options.settings.no_sandbox,
            extra_args: self.options.settings.extra_args.clone(),
            environment: self.options.environment.clone(),
            xdg_fallback: places.temporary.join(".chromium"),
            timeout: self.options.settings.launch_timeout,
        })
    }

    fn endpoint(&self) -> Result<&Endpoint, RouteError> {
        self.profile
            .endpoint
            .as_ref()
            .ok_or_else(|| self.unsupported())
    }

    async fn attach(&self, probe: Duration) -> Result<Rc<Live>, RouteError> {
        if self.profile.driver != Driver::Openclaw {
            return Err(self.unsupported());
        }
        let endpoint = self.endpoint()?;
        let websocket = endpoint.browser_websocket(probe).await.map_err(|error| {
            RouteError::failed(format_args!(
                "Browser profile \"{}\" is not reachable at {endpoint}: {error}. Start that browser \
                 with remote debugging, or correct the profile's cdpUrl.",
                self.profile.name
            ))
        })?;
        let identity = Identity {
            websocket,
            executable: None,
            user_data_dir: None,
            headless: self.headless(),
        };
        let connected = self.connect(identity, &mut None, ATTACH_DEADLINE).await;
        connected.map_err(|error| {
            RouteError::failed(format_args!(
                "Chrome CDP websocket for profile \"{}\" is not reachable. {error}",
                self.profile.name
            ))
        })
    }

    async fn connect(
        &self,
        identity: Identity,
        process: &mut Option<ServiceProcess>,
        deadline: Duration,
    ) -> Result<Rc<Live>, ConnectError> {
        let places = &self.options.places;
        let policy = Rc::clone(&self.policy);
        let live = Live::connect(identity, process, places, policy, deadline).await?;
        self.live.replace(Some(Rc::clone(&live)));
        Ok(live)
    }

    /// Ends the browser if this node started it, be the start still under way, and lets go of it
    /// otherwise; says whether there was one. Who waits for a start until then waits in vain.
    pub async fn stop(&self) -> bool {
        let was_starting = self.is_starting.get();
        self.stops.send_replace(());
        let _turn = self.turn.lock().await;
        let live = self.live.borrow_mut().take();
        self.headless_request.set(None);
        if let Some(live) = &live {
            live.stop().await;
        }
        live.is_some() || was_starting
    }

    // --- tabs -----------------------------------------------------------------------------------

    /// The browser's pages, the one used last first.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn list_tabs(&self, live: &Live) -> Result<Vec<ListedTab>, RouteError> {
        let named_before = self.aliases.borrow().count();
        let listing = live.list_targets(self.profile.endpoint.as_ref()).await?;
        let mut aliases = self.aliases.borrow_mut();
        aliases.forget_gone(named_before, &listing.pages);
        // In the order in which they were opened, oldest first, so that names follow it.
        for target in listing.targets.iter().rev() {
            aliases.name(&target.id);
        }
        Ok(listing
            .targets
            .into_iter()
            .map(|target| aliases.describe(target))
            .collect())
    }

    /// The page that is meant; without a name the one used last, or the first, or a new one.
    ///
    /// # Errors
    /// 404 or 409 with upstream's texts.
    pub async fn resolve(&self, live: &Live, named: Option<&str>) -> Result<String, RouteError> {
        if let Some(named) = named {
            // A page that is attached to needs no list.
            if live.attached(named).is_some() {
                return Ok(named.to_owned());
            }
            let listed = self.list_tabs(live).await?;
            return match self.aliases.borrow().resolve(named, &listed) {
                Resolution::One(id) => Ok(id),
                Resolution::Ambiguous => {
                    Err(RouteError::conflict("ambiguous browser tab reference"))
                }
                Resolution::None => Err(tabs::not_found(named)),
            };
        }
        if let Some(last) = live.last_used()
            && live.attached(&last).is_some()
        {
            return Ok(last);
        }
        let listed = self.list_tabs(live).await?;
        let last = live.last_used();
        let sticky = listed.iter().find(|tab| Some(&tab.id) == last.as_ref());
        match sticky.or(listed.first()) {
            Some(tab) => Ok(tab.id.clone()),
            None => live.create("about:blank").await.map_err(RouteError::from),
        }
    }

    /// The page that is meant, attached to. The browser is started if it does not run.
    ///
    /// # Errors
    /// Those of [`Self::ensure`] and [`Self::resolve`].
    pub async fn page(
        self: &Rc<Self>,
        named: Option<&str>,
    ) -> Result<(Rc<Live>, Rc<Tab>), RouteError> {
        let live = self.ensure().await?;
        let target = self.resolve(&live, named).await?;
        let tab = live.tab(&target).await?;
        live.use_last(&target);
        Ok((live, tab))
    }

    /// Closes what is more than this node keeps open in a browser of its own, but not `kept`.
    pub async fn close_excess(&self, live: &Rc<Live>, kept: &str) {
        if !self.profile.is_managed() {
            return;
        }
        let Ok(listed) = self.list_tabs(live).await else {
            return;
        };
        let excess = listed.len().saturating_sub(MOST_TABS);
        let others = listed.iter().filter(|tab| tab.id != kept);
        let closing: Vec<String> = others.take(excess).map(|tab| tab.id.clone()).collect();
        if closing.is_empty() {
            return;
        }
        let live = Rc::clone(live);
        actix_rt::spawn(async move {
            for target in closing {
                if let Err(error) = live.close(&target).await {
                    debug!(%error, "a page was gone before it was closed");
                }
            }
        });
    }

    /// Names a page.
    ///
    /// # Errors
    /// 400 for a label that is none.
    pub fn label(&self, target: &str, label: &str) -> Result<(), RouteError> {
        tabs::check_label(label)?;
        let mut aliases = self.aliases.borrow_mut();
        aliases.name(target);
        aliases.label(target, label);
        Ok(())
    }
}

/// Comes with the next stop; the browser that a sender belongs to outlives its receivers.
async fn next_stop(stops: &mut watch::Receiver<()>) {
    if stops.changed().await.is_err() {
        std::future::pending().await
    }
}

fn refused(error: LaunchError) -> RouteError {
    match &error {
        LaunchError::NoBrowser(_) => RouteError::failed(error),
        LaunchError::PortInUse { .. }
        | LaunchError::FolderInUse { .. }
        | LaunchError::Stopped { .. } => RouteError::conflict(error.to_string()),
        LaunchError::NotReady { .. } => RouteError::failed(error),
    }
}
