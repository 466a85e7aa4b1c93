//! `import`: takes over a node host of upstream's, so that the gateway sees the same device.
//!
//! `run` does the same by itself at its first start, where the state folder shows a node host.

mod old_node;
mod report;

use std::path::{Path, PathBuf};

use clap::Args;
use node_config::{
    EndpointFlags, Environment, Fingerprint, Paths, PlannedEndpoint, SavedEndpoint,
    allows_insecure_private_ws, check_plaintext, display_name,
};
use state::{Database, Import, NodeProfile, StateLock, UpstreamNode, UpstreamProfile};
use tracing::info;

use self::old_node::{OldNode, OldNodes};
use self::report::{Outcome, Report};
use super::clock::unix_ms;
use super::service_manager;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// State folder of the old node host [default: this node's own]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Show what would be taken over, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop and disable the old node host's service first
    #[arg(long)]
    takeover: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// A node host of upstream's that this node can become.
#[derive(Debug)]
pub(super) struct OldNodeHost {
    node: UpstreamNode,
    state_dir: PathBuf,
    profile: NodeProfile,
    endpoint: PlannedEndpoint,
}

pub(super) fn run(arguments: &Arguments, environment: &Environment) -> Result<Exit, Failure> {
    let paths = Paths::from_environment(environment).map_err(Failure::new)?;
    let from = match &arguments.from {
        Some(folder) => std::path::absolute(folder).map_err(Failure::new)?,
        None => paths.state_dir.clone(),
    };
    let report = if arguments.dry_run {
        look(&from, &paths, environment)?
    } else {
        take_over(&from, &paths, environment, arguments.takeover)?
    };
    report.print(arguments.json).map_err(Failure::new)?;
    Ok(Exit::Done)
}

/// Imports the node host of the state folder `from`; with `stop_service` its service is stopped and
/// disabled first, and otherwise it must not run.
///
/// # Errors
/// What the operator has to do; nothing was written then, and nothing was stopped for a gateway
/// that this node would refuse to connect to (D16).
fn take_over(
    from: &Path,
    paths: &Paths,
    environment: &Environment,
    stop_service: bool,
) -> Result<Report, Failure> {
    let old = OldNodeHost::at(from, paths)?;
    let _lock = StateLock::acquire(&paths.state_dir)?;
    let mut database = Database::open(&paths.state_dir)?;
    if old.is_taken_over(&database)? {
        return Ok(Report::of(&old, Outcome::AlreadyImported));
    }
    check_plaintext(&old.endpoint, allows_insecure_private_ws(environment))
        .map_err(Failure::new)?;
    let manager = service_manager::find(false, environment)?;
    let nodes = OldNodes {
        manager: manager.as_ref(),
        environment,
        state_dir: from,
    };
    match nodes.find().map_err(Failure::new)? {
        Some(running) if stop_service => nodes.stop(&running).map_err(Failure::new)?,
        Some(running) => return Err(still_runs(&running, from)),
        None => {}
    }
    // It wrote for the last time while it stopped.
    let old = OldNodeHost::at(from, paths)?;
    old.import_into(&mut database)?;
    Ok(Report::of(&old, Outcome::Imported))
}

/// Stops the old node host's service, and becomes what it was; for `install --takeover`. Tells
/// what it took.
///
/// # Errors
/// As for `import --takeover`.
pub(super) fn take_over_service(
    paths: &Paths,
    environment: &Environment,
) -> Result<Vec<String>, Failure> {
    let report = take_over(&paths.state_dir, paths, environment, true)?;
    Ok(report.lines())
}

/// The old node host of a state folder, if it runs.
fn running(state_dir: &Path, environment: &Environment) -> Result<Option<OldNode>, Failure> {
    let manager = service_manager::find(false, environment)?;
    let nodes = OldNodes {
        manager: manager.as_ref(),
        environment,
        state_dir,
    };
    nodes.find().map_err(Failure::new)
}

fn look(from: &Path, paths: &Paths, environment: &Environment) -> Result<Report, Failure> {
    let old = OldNodeHost::at(from, paths)?;
    if let Some(database) = Database::open_read_only(&paths.state_dir)?
        && old.is_taken_over(&database)?
    {
        return Ok(Report::of(&old, Outcome::AlreadyImported));
    }
    let running = running(from, environment)?;
    Ok(Report::of(&old, Outcome::WouldImport { running }))
}

fn still_runs(running: &OldNode, state_dir: &Path) -> Failure {
    let way_out = match running {
        OldNode::Service => "`openclaw-node import --takeover` stops and disables it first",
        OldNode::Process { .. } => "stop it first",
    };
    Failure::new(format_args!(
        "the old node host of {} still runs ({running}), and two nodes with one identity would disturb each other; {way_out}",
        state_dir.display()
    ))
}

impl OldNodeHost {
    /// The node host to become at the first start, of this node's own state folder; `None` where
    /// there is none.
    ///
    /// # Errors
    /// When it still runs, or cannot be read.
    pub(super) fn at_first_start(
        paths: &Paths,
        environment: &Environment,
    ) -> Result<Option<Self>, Failure> {
        let Some(old) = Self::find(&paths.state_dir, paths)? else {
            return Ok(None);
        };
        match running(&paths.state_dir, environment)? {
            Some(running) => Err(still_runs(&running, &paths.state_dir)),
            None => Ok(Some(old)),
        }
    }

    fn at(state_dir: &Path, paths: &Paths) -> Result<Self, Failure> {
        Self::find(state_dir, paths)?.ok_or_else(|| {
            Failure::new(format_args!(
                "no node host was ever configured in {}; name its state folder with --from",
                state_dir.display()
            ))
        })
    }

    fn find(state_dir: &Path, paths: &Paths) -> Result<Option<Self>, Failure> {
        // Its home is where its state folder says, which need not be this user's.
        let home = match (state_dir.file_name(), state_dir.parent()) {
            (Some(name), Some(home)) if name == ".openclaw" => home,
            _ => &paths.home,
        };
        let Some(node) = UpstreamNode::survey(state_dir, home).map_err(Failure::new)? else {
            return Ok(None);
        };
        let saved = saved_endpoint(&node.profile.value).map_err(|reason| {
            Failure::new(format_args!(
                "cannot take over the gateway of {}: {reason}",
                node.profile.source
            ))
        })?;
        let endpoint =
            PlannedEndpoint::plan(&EndpointFlags::default(), Some(&saved)).map_err(|error| {
                Failure::new(format_args!(
                    "cannot take over the gateway of {}: {error}",
                    node.profile.source
                ))
            })?;
        let profile = NodeProfile {
            node_id: node.profile.value.node_id.clone(),
            display_name: display_name(None, node.profile.value.display_name.as_deref()),
            endpoint: Some(actors::endpoint_to_save(&endpoint)),
            commands: node.profile.value.commands.clone(),
        };
        Ok(Some(Self {
            node,
            state_dir: state_dir.to_owned(),
            profile,
            endpoint,
        }))
    }

    /// The profile that this node goes on with.
    pub(super) const fn profile(&self) -> &NodeProfile {
        &self.profile
    }

    /// Becomes it, and tells so.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn become_it(&self, database: &mut Database) -> Result<(), Failure> {
        self.import_into(database)?;
        for line in Report::of(self, Outcome::Imported).lines() {
            info!(target: actors::OPERATOR_LINES, "{line}");
        }
        Ok(())
    }

    /// Whether this node is that device already.
    fn is_taken_over(&self, database: &Database) -> Result<bool, Failure> {
        let Some(own) = database.identity()? else {
            return Ok(false);
        };
        let own = own.identity.device_id().as_str();
        if self.device_id() == Some(own) {
            return Ok(true);
        }
        Err(Failure::new(format_args!(
            "this node is device {own} already; to become the one of {}, move {} away first",
            self.state_dir.display(),
            database.path().display()
        )))
    }

    fn import_into(&self, database: &mut Database) -> Result<(), Failure> {
        let scope = self.endpoint.scope();
        let import = Import {
            node: &self.node,
            profile: &self.profile,
            gateway_scope: scope.as_str(),
        };
        if database.import(&import, unix_ms())? {
            Ok(())
        } else {
            Err(Failure::new(
                "this node got an identity of its own meanwhile",
            ))
        }
    }

    fn device_id(&self) -> Option<&str> {
        let found = self.node.identity.as_ref()?;
        Some(found.value.identity.device_id().as_str())
    }
}

fn saved_endpoint(profile: &UpstreamProfile) -> Result<SavedEndpoint, String> {
    let saved = &profile.endpoint;
    let fingerprint = saved.tls_fingerprint.as_deref().map(pin).transpose()?;
    Ok(SavedEndpoint {
        host: saved.host.clone(),
        port: saved.port,
        tls: saved.tls,
        fingerprint,
        context_path: saved.context_path.clone(),
    })
}

/// 2026.5.x took any text with 64 hex digits in it for a pin (wire protocol §1.5).
fn pin(text: &str) -> Result<Fingerprint, String> {
    let digits: String = text
        .strip_prefix("sha256:")
        .unwrap_or(text)
        .chars()
        .filter(char::is_ascii_hexdigit)
        .collect();
    text.parse()
        .or_else(|_| digits.parse())
        .map_err(|error| format!("{error}"))
}
