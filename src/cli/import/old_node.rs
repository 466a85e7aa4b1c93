//! Whether upstream's node host still runs on a state folder: two nodes with one identity would
//! take each other's tokens and connections (state §3.4).

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use node_config::{Environment, Paths};

/// Upstream's unit (service files §2.1).
const UNIT: &str = "openclaw-node.service";
/// Upstream's launch agent (service files §2.3).
const AGENT: &str = "ai.openclaw.node";
/// The title that upstream's node host gives its process.
const TITLE: &str = "openclaw-node";
/// How long a service manager may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it may take to stop the old node host; upstream's unit grants 330 s.
const STOP: Duration = Duration::from_secs(360);
/// How often is looked whether something is done.
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

fn service_name() -> &'static str {
    if cfg!(target_os = "macos") {
        AGENT
    } else {
        UNIT
    }
}

impl OldNode {
    /// Looks for it: the service first, because that is what can be asked to stop.
    ///
    /// # Errors
    /// When the system gives no event loop.
    pub(super) fn find(state_dir: &Path) -> io::Result<Option<Self>> {
        wait_for(Self::look(state_dir))
    }

    /// Stops and disables the service, so that it does not come back at the next login, and waits
    /// until its process is gone.
    ///
    /// # Errors
    /// What the operator has to do by hand.
    pub(super) fn stop(&self, state_dir: &Path) -> Result<(), String> {
        match self {
            Self::Service => {
                wait_for(stop_service(state_dir)).map_err(|error| error.to_string())?
            }
            Self::Process { pid } => Err(format!(
                "the old node host runs without a service (pid {pid}); stop it, then try again"
            )),
        }
    }

    async fn look(state_dir: &Path) -> Option<Self> {
        if is_service_active(state_dir).await {
            return Some(Self::Service);
        }
        node_process(state_dir).map(|pid| Self::Process { pid })
    }
}

async fn stop_service(state_dir: &Path) -> Result<(), String> {
    let stopped = if cfg!(target_os = "macos") {
        run("launchctl", &["bootout", &agent()], STOP).await
    } else {
        run("systemctl", &["--user", "disable", "--now", UNIT], STOP).await
    };
    let by_hand = "stop and disable it by hand, then try again";
    stopped.map_err(|error| format!("{} does not stop: {error}; {by_hand}", service_name()))?;
    let deadline = Instant::now() + ANSWER;
    while let Some(left) = OldNode::look(state_dir).await {
        if Instant::now() > deadline {
            return Err(format!("the old node host still runs ({left}); {by_hand}"));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

fn agent() -> String {
    format!("gui/{}/{AGENT}", nix::unistd::Uid::current())
}

async fn is_service_active(state_dir: &Path) -> bool {
    if cfg!(target_os = "macos") {
        let shown = run("launchctl", &["print", &agent()], ANSWER).await;
        shown.is_ok_and(|shown| is_active_agent(&shown))
    } else {
        let properties = "--property=ActiveState,ExecStart,Environment";
        let shown = run("systemctl", &["--user", "show", UNIT, properties], ANSWER).await;
        shown.is_ok_and(|shown| is_active_unit(&shown, state_dir))
    }
}

/// Reads what `systemctl show` printed. A unit that runs this program is not the old node, however
/// often it restarts.
fn is_active_unit(shown: &str, state_dir: &Path) -> bool {
    let property = |name: &str| {
        shown
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_default()
    };
    if !matches!(
        property("ActiveState"),
        "active" | "activating" | "reloading" | "deactivating"
    ) {
        return false;
    }
    let start = property("ExecStart");
    let words: Vec<&str> = start
        .split_once("argv[]=")
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .take_while(|word| *word != ";")
        .collect();
    let variables = assignments(property("Environment"));
    let inherited = ["HOME", "OPENCLAW_HOME"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let environment: Environment = inherited.chain(variables).collect();
    runs_node_host(&words) && uses(&environment, state_dir)
}

/// The assignments of a unit as systemd prints them: separated by blanks, in double quotes where
/// they contain any.
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        if let Some((name, value)) = word.split_once('=') {
            found.push((name.to_owned(), value.to_owned()));
        }
        rest = tail.trim_start();
    }
    found
}

/// Reads what `launchctl print` printed: whether the agent has a process other than this one.
fn is_active_agent(shown: &str) -> bool {
    let own = std::process::id().to_string();
    shown
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pid = "))
        .any(|pid| pid != own)
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
    words == [TITLE] || runs_node_host(&words)
}

/// Whether a command line is `openclaw node run`, by whichever of its entries.
fn runs_node_host(words: &[&str]) -> bool {
    let Some(at) = words
        .windows(2)
        .position(|pair| matches!(pair, ["node", "run"]))
    else {
        return false;
    };
    words.iter().take(at).any(|word| {
        let path = Path::new(word);
        let is_in_package = path.components().any(|part| part.as_os_str() == "openclaw");
        is_in_package || path.file_stem().is_some_and(|stem| stem == "openclaw")
    })
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

/// Runs a service manager's tool and returns what it printed.
async fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(limit, child)
        .await
        .map_err(|_| format!("{program} does not answer"))?
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program}: {}", complaint.trim()))
    }
}

/// Waits for a service manager before there is any actor.
fn wait_for<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_the_old_node_host_by_its_words() {
        let cases: [(&[&str], bool); 8] = [
            (
                &[
                    "/usr/bin/node",
                    "/opt/openclaw/dist/index.js",
                    "node",
                    "run",
                ],
                true,
            ),
            (
                &["node", "/x/openclaw.mjs", "--profile", "a", "node", "run"],
                true,
            ),
            (&["openclaw", "node", "run", "--host", "h"], true),
            (&["openclaw", "gateway", "run"], false),
            (&["openclaw", "node", "status"], false),
            (&["/usr/local/bin/openclaw-node", "run"], false),
            (&["node", "run", "openclaw"], false),
            (&["grep", "node", "run"], false),
        ];
        for (words, expected) in cases {
            assert_eq!(runs_node_host(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_unit_counts_while_it_is_active_for_this_folder_and_not_ours() {
        let shown = |state: &str, start: &str, environment: &str| {
            format!(
                "ExecStart={{ path=/usr/bin/node ; argv[]={start} ; ignore_errors=no ; pid=0 }}\nEnvironment={environment}\nActiveState={state}\n"
            )
        };
        let upstream = "/usr/bin/node /opt/openclaw/dist/index.js node run --host h";
        let environment =
            r#"HOME=/home/u "OPENCLAW_WINDOWS_TASK_NAME=OpenClaw Node" OPENCLAW_STATE_DIR=/state"#;
        let cases = [
            ("active", upstream, environment, "/state", true),
            ("activating", upstream, environment, "/state", true),
            ("failed", upstream, environment, "/state", false),
            ("inactive", upstream, environment, "/state", false),
            ("active", upstream, environment, "/other", false),
            (
                "active",
                upstream,
                "HOME=/home/u",
                "/home/u/.openclaw",
                true,
            ),
            (
                "active",
                "/usr/bin/openclaw-node run",
                environment,
                "/state",
                false,
            ),
        ];
        for (state, start, environment, folder, expected) in cases {
            assert_eq!(
                is_active_unit(&shown(state, start, environment), Path::new(folder)),
                expected,
                "{state} {start} {environment} {folder}"
            );
        }
    }

    #[test]
    fn an_agent_counts_while_it_has_a_process_that_is_not_this_one() {
        assert!(is_active_agent("\tstate = running\n\tpid = 1\n"));
        assert!(!is_active_agent("\tstate = not running\n"));
        assert!(!is_active_agent(&format!(
            "\tpid = {}\n",
            std::process::id()
        )));
    }
}
