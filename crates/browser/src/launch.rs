//! Starting a managed browser: its folder, its arguments, and waiting until it listens
//! (browser proxy §3.2).

pub(crate) mod profile_folder;

use std::cell::RefCell;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use exec::run::service::{ServiceProcess, ServiceSpec};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::ChildStderr;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::executable::{Executable, NoBrowser};

/// How long a port may take to become free, after a browser that used it was ended.
const PORT_DEADLINE: Duration = Duration::from_secs(4);
/// Between two looks at the port.
const PORT_PROBE: Duration = Duration::from_millis(50);
/// How long a connection to the port may take; it is on this machine.
const PORT_CONNECT: Duration = Duration::from_millis(300);
/// How long a browser may take to end after TERM.
pub const STOP_GRACE: Duration = Duration::from_millis(2500);
/// How much of what the browser wrote last explains a failed start, in bytes.
const TAIL_BYTES: usize = 2048;
/// What a browser writes when its debugging port listens.
const LISTENING: &str = "DevTools listening on ";

/// Variables that would send the browser's own traffic elsewhere.
const PROXY_VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

/// Why the browser has no window, or has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headless {
    /// Whether it has none.
    pub is_headless: bool,
    /// What decided it, as status tells it.
    pub source: &'static str,
}

/// What a managed browser is started with.
#[derive(Debug, Clone)]
pub struct LaunchPlan {
    /// The browser.
    pub executable: Executable,
    /// Its profile's name.
    pub profile: String,
    /// Its debugging port.
    pub port: u16,
    /// Where it keeps its data.
    pub user_data_dir: PathBuf,
    /// Where it saves downloads, should it ever do so by itself.
    pub downloads_dir: PathBuf,
    /// Whether it has a window.
    pub headless: Headless,
    /// Without its sandbox, as the configuration says.
    pub no_sandbox: bool,
    /// What the configuration adds.
    pub extra_args: Vec<String>,
    /// What it inherits.
    pub environment: Vec<(OsString, OsString)>,
    /// A folder for what would otherwise end up in the user's own configuration.
    pub xdg_fallback: PathBuf,
    /// How long it may take until its debugging port listens.
    pub timeout: Duration,
}

/// Why a browser did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is none.
    #[error(transparent)]
    NoBrowser(#[from] NoBrowser),
    /// Something else listens on its port.
    #[error(
        "Failed to start Chrome CDP on port {port} for profile \"{profile}\": the port is used by \
         something that this node did not start. Free it, or set browser.profiles.{profile}.cdpPort."
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// The profile.
        profile: String,
    },
    /// Another process uses its folder.
    #[error(
        "Cannot start browser profile \"{profile}\": its user data folder is in use by process {pid}. \
         Close that browser first."
    )]
    FolderInUse {
        /// The profile.
        profile: String,
        /// The process.
        pid: i32,
    },
    /// It was told to stop before it could be used.
    #[error(
        "Browser profile \"{profile}\" was stopped while it started. The next call that needs it \
         starts it again."
    )]
    Stopped {
        /// The profile.
        profile: String,
    },
    /// It ended or did not listen in time.
    #[error("Failed to start Chrome CDP on port {port} for profile \"{profile}\". {detail}")]
    NotReady {
        /// The port.
        port: u16,
        /// The profile.
        profile: String,
        /// Why, with the last of what it wrote.
        detail: String,
    },
}

/// A browser that listens.
#[derive(Debug)]
pub struct Launched {
    /// The process.
    pub process: ServiceProcess,
    /// Its browser-level WebSocket.
    pub websocket: String,
}

/// Starts a browser and waits until its debugging port listens, unless `stop` comes first. Dropping
/// this kills it.
///
/// # Errors
/// [`LaunchError`]; whatever was started is gone by then.
pub async fn launch(
    plan: &LaunchPlan,
    stop: impl Future<Output = ()>,
) -> Result<Launched, LaunchError> {
    let not_ready = |detail: String| LaunchError::NotReady {
        port: plan.port,
        profile: plan.profile.clone(),
        detail,
    };
    if !port_is_free(plan.port).await {
        return Err(LaunchError::PortInUse {
            port: plan.port,
            profile: plan.profile.clone(),
        });
    }
    if let Err(pid) = profile_folder::unlock(&plan.user_data_dir) {
        return Err(LaunchError::FolderInUse {
            profile: plan.profile.clone(),
            pid,
        });
    }
    profile_folder::prepare(&plan.user_data_dir, &plan.profile, &plan.downloads_dir).map_err(
        |error| {
            not_ready(format!(
                "cannot prepare {}: {error}",
                plan.user_data_dir.display()
            ))
        },
    )?;
    if plan.no_sandbox {
        warn!(
            profile = plan.profile,
            "browser.noSandbox is set: pages are not kept apart from this user's files"
        );
    }
    let spec = ServiceSpec {
        program: plan.executable.path.clone(),
        arguments: plan.arguments(),
        environment: plan.environment(),
    };
    let mut process = ServiceProcess::spawn(&spec).map_err(|error| not_ready(error.to_string()))?;
    let output = Rc::new(Output::default());
    if let Some(stderr) = process.take_stderr() {
        actix_rt::spawn(read(stderr, Rc::clone(&output)));
    }
    let began = Instant::now();
    let listening = tokio::select! {
        biased;
        () = stop => {
            plan.end(process).await;
            return Err(LaunchError::Stopped {
                profile: plan.profile.clone(),
            });
        }
        websocket = timeout(plan.timeout, output.websocket()) => websocket.ok(),
        ended = process.wait() => {
            let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
            // What it wrote last may still be on its way.
            timeout(PORT_CONNECT, output.ended()).await.ok();
            return Err(not_ready(format!("It ended with {how}. {}", output.tail())));
        }
    };
    let Some(websocket) = listening else {
        plan.end(process).await;
        return Err(not_ready(format!(
            "It did not listen within {} ms. If this machine is slow, raise \
             browser.localLaunchTimeoutMs. {}",
            plan.timeout.as_millis(),
            output.tail()
        )));
    };
    info!(
        profile = plan.profile,
        pid = process.pid(),
        port = plan.port,
        waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "browser started"
    );
    Ok(Launched { process, websocket })
}

impl LaunchPlan {
    /// Ends a browser that was started by this plan and was never in use.
    pub(crate) async fn end(&self, process: ServiceProcess) {
        process.stop(STOP_GRACE).await;
        profile_folder::remove_socket(&self.user_data_dir);
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut user_data_dir = OsString::from("--user-data-dir=");
        user_data_dir.push(&self.user_data_dir);
        let mut arguments = vec![
            OsString::from(format!("--remote-debugging-port={}", self.port)),
            user_data_dir,
        ];
        let mut add = |argument: &str| arguments.push(OsString::from(argument));
        for argument in [
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-features=Translate,MediaRouter",
            "--disable-session-crashed-bubble",
            "--hide-crash-restore-bubble",
            "--password-store=basic",
        ] {
            add(argument);
        }
        if self.headless.is_headless {
            add("--headless=new");
            add("--disable-gpu");
        }
        if self.no_sandbox {
            add("--no-sandbox");
        }
        if cfg!(target_os = "linux") {
            add("--disable-dev-shm-usage");
        }
        let names_proxy = |argument: &String| {
            argument.starts_with("--proxy-server") || argument.starts_with("--no-proxy-server")
        };
        if !self.extra_args.iter().any(names_proxy) {
            add("--no-proxy-server");
        }
        for argument in &self.extra_args {
            add(argument);
        }
        arguments
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = self
            .environment
            .iter()
            .filter(|(name, _)| !PROXY_VARIABLES.iter().any(|proxy| name == proxy))
            .cloned()
            .collect();
        if cfg!(target_os = "linux") {
            for name in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
                if !environment.iter().any(|(given, _)| given == name) {
                    environment.push((OsString::from(name), self.xdg_fallback.clone().into()));
                }
            }
        }
        environment
    }
}

/// Waits a little for the port to become free; a browser that was just killed holds it for a moment.
async fn port_is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + PORT_DEADLINE;
    loop {
        match timeout(PORT_CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return true,
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(PORT_PROBE).await;
    }
}

/// What a browser writes.
#[derive(Debug, Default)]
struct Output {
    tail: RefCell<Vec<u8>>,
    websocket: RefCell<Option<String>>,
    is_over: std::cell::Cell<bool>,
    changed: Notify,
}

impl Output {
    fn take_in(&self, bytes: &[u8]) {
        let mut tail = self.tail.borrow_mut();
        tail.extend_from_slice(bytes);
        if self.websocket.borrow().is_none() {
            let text = String::from_utf8_lossy(&tail);
            let url = text
                .split_inclusive('\n')
                // The rest of the last line may still be on its way.
                .filter(|line| line.ends_with('\n'))
                .find_map(|line| line.trim().strip_prefix(LISTENING));
            if let Some(url) = url {
                self.websocket.replace(Some(url.trim().to_owned()));
            }
        }
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
        self.changed.notify_waiters();
    }

    async fn websocket(&self) -> String {
        loop {
            let changed = self.changed.notified();
            if let Some(url) = self.websocket.borrow().clone() {
                return url;
            }
            changed.await;
        }
    }

    async fn ended(&self) {
        while !self.is_over.get() {
            self.changed.notified().await;
        }
    }

    fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail.borrow())
            .trim()
            .to_owned()
    }
}

/// Reads until the browser ends, so that it never blocks on what it writes.
async fn read(mut stderr: ChildStderr, output: Rc<Output>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        output.take_in(buffer.get(..count).unwrap_or_default());
    }
    output.is_over.set(true);
    output.changed.notify_waiters();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_once_its_line_is_whole() {
        let output = Output::default();
        output.take_in(b"warning\nDevTools listening on ws://127.0.0.1:1");
        assert_eq!(*output.websocket.borrow(), None);
        output.take_in(b"8800/devtools/browser/x\nanother wa");
        let told = output.websocket.borrow().clone();
        assert_eq!(
            told.as_deref(),
            Some("ws://127.0.0.1:18800/devtools/browser/x")
        );
    }
}
