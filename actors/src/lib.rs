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
mod clock;
mod connection;
mod exec;
mod host_stats;
mod jitter;
mod pairing;
mod reload;
mod socket;
pub mod status;
mod store;
mod supervisor;
mod tls;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ::browser::control::ControlOptions;
use ::exec::environment::BaseEnvironment;
use actix::prelude::*;
use approvals::policy::ExecConfig;
use node_config::endpoint::PlannedEndpoint;
use node_config::{JournalSettings, Settings};
use protocol::connect::NodeDescription;
use protocol::credentials::Credentials;
use protocol::identity::DeviceIdentity;
use secrecy::SecretString;
use state::{Database, EarlierInstance, JournalBounds};

pub use crate::reload::{Reload, Reloaded};
pub use crate::supervisor::Exit;

use crate::approval::{Approval, ApprovalOptions};
use crate::browser::Browser;
use crate::exec::{Exec, ExecOptions};
use crate::store::Store;
use crate::supervisor::{Family, Supervisor, SupervisorOptions};

/// Everything that a node is made of, read and checked before the first actor starts.
pub struct NodeOptions {
    /// Where the state database is. The caller holds its lock for as long as the node runs.
    pub state_dir: PathBuf,
    /// Which gateway.
    pub endpoint: PlannedEndpoint,
    /// What to tell about this node.
    pub description: NodeDescription,
    /// Who this node is.
    pub identity: DeviceIdentity,
    /// The shared credentials.
    pub credentials: Credentials,
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
}

/// Runs a node until a signal or a terminal auth pause ends it.
///
/// # Errors
/// When the system gives no event loop.
pub fn run(options: NodeOptions) -> io::Result<Exit> {
    let NodeOptions {
        state_dir,
        endpoint,
        description,
        identity,
        mut credentials,
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
    } = options;
    let Settings {
        exec: exec_settings,
        journal,
    } = settings;
    credentials.set_device_token(device_token.clone());
    let exit = Rc::new(Cell::new(None));
    let system = System::new();
    let left = Rc::clone(&exit);
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
        let exec = Exec::start_in_arbiter(&commands.handle(), move |_| Exec::new(exec_options));
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
            node: description,
            identity,
            credentials,
            device_token,
            hold_back,
            reload,
        };
        Supervisor::launch(
            options,
            Family {
                store,
                approval,
                exec,
                browser,
            },
            left,
        );
    });
    system.run()?;
    exit.get()
        .ok_or_else(|| io::Error::other("the event loop ended before the node did"))
}

fn bounds(settings: JournalSettings) -> JournalBounds {
    JournalBounds {
        max_age: settings.max_age,
        max_size: settings.max_size,
    }
}
