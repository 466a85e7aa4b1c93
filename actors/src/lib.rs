//! The supervision tree.
//!
//! ```text
//!                      Supervisor ── owns the process
//!      ┌───────────┬──────┴─────┬──────────┬──────────┐
//!  Connection    Pairing     Approval    Exec      Browser       Store (a thread of its own)
//! ```
//!
//! An invoke walks one way: the connection decodes it, approval decides, exec carries it out, and
//! the answer goes to the connection that asked, or nowhere. What is for the browser goes there
//! straight; whether there is a browser proxy at all is this machine's configuration. Approval and exec live on a thread of
//! their own, so that nothing that they do on the disk delays the socket.

mod announce;
mod approval;
mod browser;
mod candidates;
mod clock;
mod connection;
pub mod control;
mod credential_files;
mod credential_source;
mod exec;
mod host_stats;
mod jitter;
mod pairing;
pub mod reach;
mod reload;
mod socket;
pub mod status;
mod store;
mod supervisor;
mod threads;
mod tls;
mod watchdog;

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ::browser::control::ControlOptions;
use ::exec::environment::BaseEnvironment;
use actix::prelude::*;
use approvals::policy::ExecConfig;
use node_config::Reach;
use node_config::endpoint::PlannedEndpoint;
use node_config::{JournalSettings, Settings};
use protocol::connect::NodeDescription;
use protocol::credentials::Credentials;
use protocol::identity::DeviceIdentity;
use sd_notify::NotifyState;
use secrecy::SecretString;
use state::{Database, EarlierInstance, JournalBounds};
use tracing::{debug, warn};

pub use crate::announce::OPERATOR_LINES;
pub use crate::credential_files::CredentialFiles;
pub use crate::credential_source::CredentialSources;
pub use crate::reload::{ReadAgain, Reload, Reloaded};
pub use crate::store::endpoint_to_save;
pub use crate::supervisor::{Ending, Exit};

use crate::approval::{Approval, ApprovalOptions};
use crate::browser::Browser;
use crate::control::ControlSocket;
use crate::exec::{Exec, ExecOptions};
use crate::store::Store;
use crate::supervisor::{Family, Supervisor, SupervisorOptions};

/// Everything that a node is made of, read and checked before the first actor starts.
pub struct NodeOptions {
    /// Where the state database is. The caller holds its lock for as long as the node runs.
    pub state_dir: PathBuf,
    /// Which gateway.
    pub endpoint: PlannedEndpoint,
    /// By which way.
    pub reach: Reach,
    /// Where the same gateway may be as well, as its setup code says; the first that answers stays.
    pub alternatives: Vec<(PlannedEndpoint, Reach)>,
    /// What to tell about this node.
    pub description: NodeDescription,
    /// Who this node is.
    pub identity: DeviceIdentity,
    /// The shared credentials.
    pub credentials: Credentials,
    /// Where they came from.
    pub credential_sources: CredentialSources,
    /// The device token that this endpoint issued, if one is stored.
    pub device_token: Option<SecretString>,
    /// How long to hold back the first attempt, after a terminal auth failure (D19).
    pub hold_back: Option<Duration>,
    /// The policy of openclaw.json.
    pub exec_config: ExecConfig,
    /// Where the approvals document is read, so that edits of other processes are seen.
    pub database: Database,
    /// What commands inherit.
    pub environment: BaseEnvironment,
    /// What browsers are driven with, if this node offers its browser.
    pub browser: Option<ControlOptions>,
    /// The node's own settings.
    pub settings: Settings,
    /// What earlier processes of this node left running.
    pub earlier: Vec<EarlierInstance>,
    /// Digests of the idempotency keys whose results are kept, with the time of each in unix
    /// milliseconds.
    pub kept_results: Vec<([u8; 32], u64)>,
    /// Reads everything again on SIGHUP.
    pub reload: Reload,
    /// How the node last ended.
    pub last_exit: Option<state::LastExit>,
    /// Where to answer questions about the node; `None` where there is no place for it.
    pub control_socket: Option<PathBuf>,
}

/// Runs a node until a signal or a terminal auth pause ends it.
///
/// # Errors
/// When the system gives no event loop.
pub fn run(options: NodeOptions) -> io::Result<Ending> {
    let NodeOptions {
        state_dir,
        endpoint,
        reach,
        alternatives,
        description,
        identity,
        mut credentials,
        credential_sources,
        device_token,
        hold_back,
        exec_config,
        database,
        environment,
        browser,
        settings,
        earlier,
        kept_results,
        reload,
        last_exit,
        control_socket,
    } = options;
    let Settings {
        exec: exec_settings,
        journal,
        tls: _,
    } = settings;
    credentials.set_device_token(device_token.clone());
    // It goes away when this function returns, with the event loop that serves it.
    let (_control_socket, control_listener) = control_socket.and_then(open_control_socket).unzip();
    let ended = Rc::new(Cell::new(None));
    let system = System::new();
    let left = Rc::clone(&ended);
    system.block_on(async move {
        let store = Store::launch(state_dir.clone());
        let commands = Arbiter::new();
        let exec_options = ExecOptions {
            environment: environment.clone(),
            settings: exec_settings,
            bounds: bounds(journal),
            store: store.clone(),
            earlier,
            kept_results,
        };
        let exec = Exec::start_in_arbiter(&commands.handle(), move |_| {
            threads::name_current(c"commands");
            Exec::new(exec_options)
        });
        let approval_options = ApprovalOptions {
            state_dir,
            config: exec_config,
            database,
            environment,
            store: store.clone(),
            exec: exec.clone(),
        };
        let approval = Approval::start_in_arbiter(&commands.handle(), move |_| {
            Approval::new(approval_options)
        });
        let browser = Browser::start_in_arbiter(&commands.handle(), move |_| Browser::new(browser));
        let options = SupervisorOptions {
            endpoint,
            reach,
            alternatives,
            node: description,
            identity,
            credentials,
            device_token,
            hold_back,
            reload,
            credential_sources,
            last_exit: last_exit.map(status::LastExit::from),
        };
        let family = Family {
            store,
            approval,
            exec: exec.clone(),
            browser,
        };
        let supervisor = Supervisor::launch(options, family, left);
        if let Some(listener) = control_listener {
            actix::spawn(control::serve(listener, supervisor, exec));
        }
    });
    system.run()?;
    ended
        .take()
        .ok_or_else(|| io::Error::other("the event loop ended before the node did"))
}

fn bounds(settings: JournalSettings) -> JournalBounds {
    JournalBounds {
        max_age: settings.max_age,
        max_size: settings.max_size,
    }
}

/// A node goes on without its control socket; only `status` tells less then.
fn open_control_socket(path: PathBuf) -> Option<(ControlSocket, UnixListener)> {
    match ControlSocket::bind(path.clone()) {
        Ok(bound) => Some(bound),
        Err(error) => {
            warn!(%error, path = %path.display(), "no control socket; status cannot show this node");
            None
        }
    }
}

/// Tells the service manager, if there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager was not told");
    }
}
