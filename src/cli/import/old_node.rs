//! Whether upstream's node host still runs on a state folder: two nodes with one identity would
//! take each other's tokens and connections (state §3.4).

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node_config::{Environment, Paths};
use service::definition::{LABEL, Owner, UNIT, is_upstreams_node_run};
use service::manager::{Installed, Runtime, RuntimeStatus, ServiceManager};

/// The title that upstream's node host gives its process.
const TITLE: &str = "openclaw-node";
/// How long the process of a service that was stopped may still be seen.
const LEAVE: Duration = Duration::from_secs(10);
/// How often is looked whether it is gone.
const LOOK: Duration = Duration::from_millis(20);

/// What still holds the old node's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OldNode {
    /// A service manager keeps it running, or is about to start it again.
    Service,
    /// It runs by itself.
    Process {
        /// Its process id.
        pid: u32,
    },
}

impl fmt::Display for OldNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => write!(formatter, "its service {} is active", service_name()),
            Self::Process { pid } => write!(formatter, "pid {pid}"),
        }
    }
}

const fn service_name() -> &'static str {
    if cfg!(target_os = "macos") {
        LABEL
    } else {
        UNIT
    }
}

/// Where an old node host is looked for.
pub(super) struct OldNodes<'a> {
    /// The manager of this user's services.
    pub(super) manager: &'a dyn ServiceManager,
    /// What a service has that says nothing else.
    pub(super) environment: &'a Environment,
    /// The state folder that it would run on.
    pub(super) state_dir: &'a Path,
}

impl OldNodes<'_> {
    /// Looks for it: the service first, because that is what can be asked to stop.
    ///
    /// # Errors
    /// When there is an active service that cannot be read.
    pub(super) fn find(&self) -> Result<Option<OldNode>, service::manager::ServiceError> {
        if is_active(&self.manager.runtime())
            && let Some(installed) = self.manager.installed()?
            && self.is_of(&installed)
        {
            return Ok(Some(OldNode::Service));
        }
        Ok(node_process(self.state_dir).map(|pid| OldNode::Process { pid }))
    }

    /// Stops and disables the service, so that it does not come back at the next login, and waits
    /// until its process is gone.
    ///
    /// # Errors
    /// What the operator has to do by hand.
    pub(super) fn stop(&self, found: &OldNode) -> Result<(), String> {
        if let OldNode::Process { pid } = found {
            return Err(format!(
                "the old node host runs without a service (pid {pid}); stop it, then try again"
            ));
        }
        let by_hand = "stop and disable it by hand, then try again";
        let failed = |error: &dyn fmt::Display| {
            format!("{} does not stop: {error}; {by_hand}", service_name())
        };
        self.manager.disable().map_err(|error| failed(&error))?;
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| failed(&error))?;
        let deadline = Instant::now() + LEAVE;
        while let Some(left) = self.find().map_err(|error| failed(&error))? {
            if Instant::now() > deadline {
                return Err(format!("the old node host still runs ({left}); {by_hand}"));
            }
            clock.block_on(async { tokio::time::sleep(LOOK).await });
        }
        Ok(())
    }

    /// Whether a service is the old node host of this state folder.
    fn is_of(&self, installed: &Installed) -> bool {
        let inherited = ["HOME", "OPENCLAW_HOME"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.environment.text(name)?.to_owned())));
        // As systemd puts it in; everything else is as the files of the service have it.
        let home = self.environment.text("HOME").unwrap_or("%h");
        let own = installed
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.replace("%h", home)));
        // Upstream's agent has its variables in a file of their own, and there is one per account.
        let is_on_folder = cfg!(target_os = "macos")
            || uses(
                &inherited.chain(own).collect::<Environment>(),
                self.state_dir,
            );
        installed.owner == Owner::Upstream && is_on_folder
    }
}

/// Whether a service has a process, or gets one again, or still ends.
fn is_active(runtime: &Runtime) -> bool {
    runtime.status == RuntimeStatus::Running
        || matches!(
            runtime.state.as_deref(),
            Some("active" | "activating" | "reloading" | "deactivating")
        )
}

/// Finds a process that is upstream's node host with this state folder.
fn node_process(state_dir: &Path) -> Option<u32> {
    let own = fs::metadata("/proc/self/exe").ok()?;
    let processes = fs::read_dir("/proc").ok()?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let is_this_program = fs::metadata(folder.join("exe"))
            .is_ok_and(|exe| (exe.dev(), exe.ino()) == (own.dev(), own.ino()));
        !is_this_program && is_node_host(&folder) && holds(&folder, state_dir)
    })
}

fn is_node_host(process: &Path) -> bool {
    let Ok(bytes) = fs::read(process.join("cmdline")) else {
        return false;
    };
    let text = String::from_utf8_lossy(&bytes);
    // A title leaves the rest of the old command line blank.
    let words: Vec<&str> = text.split('\0').filter(|word| !word.is_empty()).collect();
    words == [TITLE] || is_upstreams_node_run(&words)
}

/// Whether a process uses this state folder. One whose environment may not be read is another
/// user's, and counts if the folder is that user's.
fn holds(process: &Path, state_dir: &Path) -> bool {
    match fs::read(process.join("environ")) {
        Ok(bytes) => {
            let variables = bytes.split(|byte| *byte == 0).filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                let (name, value) = pair.split_at_checked(at)?;
                Some((
                    OsString::from_vec(name.to_vec()),
                    OsString::from_vec(value.get(1..)?.to_vec()),
                ))
            });
            uses(&variables.collect(), state_dir)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let owner = |path: &Path| fs::metadata(path).map(|metadata| metadata.uid()).ok();
            owner(process).is_some_and(|uid| Some(uid) == owner(state_dir))
        }
        Err(_) => false,
    }
}

fn uses(environment: &Environment, state_dir: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    Paths::from_environment(environment)
        .is_ok_and(|paths| canonical(&paths.state_dir) == canonical(state_dir))
}

#[cfg(test)]
mod tests {
    use service::systemd::{Account, Systemd};

    use super::*;

    #[test]
    fn a_service_counts_while_it_has_or_gets_a_process() {
        for (status, state, expected) in [
            (RuntimeStatus::Running, Some("active"), true),
            (RuntimeStatus::Running, None, true),
            // Between two starts.
            (RuntimeStatus::Stopped, Some("activating"), true),
            (RuntimeStatus::Stopped, Some("deactivating"), true),
            (RuntimeStatus::Stopped, Some("failed"), false),
            (RuntimeStatus::Stopped, Some("inactive"), false),
            (RuntimeStatus::Stopped, Some("not running"), false),
            (RuntimeStatus::Unknown, None, false),
        ] {
            let runtime = Runtime {
                state: state.map(str::to_owned),
                ..Runtime::of(status)
            };
            assert_eq!(is_active(&runtime), expected, "{runtime:?}");
        }
    }

    #[test]
    fn a_service_is_the_old_node_for_its_own_folder_and_not_ours() {
        let environment: Environment = [("HOME", "/home/u")].into_iter().collect();
        let account = Account {
            uid: 1500,
            name: "u".to_owned(),
            home: "/home/u".into(),
        };
        let manager = Systemd::user(account, Path::new("/state"), |_| None).unwrap();
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let upstream: Vec<String> = owned(&[
            "/usr/bin/node",
            "/opt/openclaw/dist/index.js",
            "node",
            "run",
        ]);
        let ours: Vec<String> = owned(&["/usr/bin/openclaw-node", "run"]);
        let moved = vec![("OPENCLAW_STATE_DIR".to_owned(), "/state".to_owned())];
        let below_home = vec![("OPENCLAW_STATE_DIR".to_owned(), "%h/state".to_owned())];
        for (command, variables, folder, expected) in [
            (&upstream, &moved, "/state", true),
            // Where there is one agent per account, it is on any folder.
            (&upstream, &moved, "/other", cfg!(target_os = "macos")),
            (&upstream, &below_home, "/home/u/state", true),
            (&upstream, &Vec::new(), "/home/u/.openclaw", true),
            (&ours, &moved, "/state", false),
        ] {
            let installed = Installed {
                command: command.clone(),
                working_directory: None,
                environment: variables.clone(),
                file_variables: Vec::new(),
                source: PathBuf::new(),
                sources: Vec::new(),
                owner: Owner::of(command, variables),
            };
            let nodes = OldNodes {
                manager: &manager,
                environment: &environment,
                state_dir: Path::new(folder),
            };
            assert_eq!(nodes.is_of(&installed), expected, "{command:?} {folder}");
        }
    }
}
