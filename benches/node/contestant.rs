//! A node that takes part: its process, its state and a loopback gateway of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use gateway::{Gateway, GatewayHandle, GatewayOptions, Snapshot};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Result;
use crate::process_tree::ProcessTree;

/// Longest wait for a node to connect; OpenClaw's own needs several seconds.
const CONNECT_DEADLINE: Duration = Duration::from_secs(60);
/// Longest wait for a node to end by itself.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for one invoke.
const INVOKE_DEADLINE: Duration = Duration::from_secs(60);
/// Frames that the gateway remembers; only the connects matter here.
const JOURNAL_LIMIT: usize = 64;
/// A node that is told to run everything, so that no approval is measured.
const OPEN_POLICY: &str = r#"{"tools":{"exec":{"security":"full","ask":"off"}}}"#;

/// An installed OpenClaw release with the Node.js that runs it.
pub(crate) struct Upstream {
    release: String,
    node: PathBuf,
    modules: PathBuf,
}

impl Upstream {
    /// Looks where `tests/interop/install-openclaw.sh` puts things.
    pub(crate) fn find(lab: &Path, release: &str) -> Result<Self> {
        let upstream = Self {
            release: release.to_owned(),
            node: lab.join("n26/node_modules/node/bin/node"),
            modules: lab.join(format!("v{release}/node_modules")),
        };
        for needed in [upstream.node.clone(), upstream.entry()] {
            if !needed.is_file() {
                return Err(format!("there is no {}", needed.display()).into());
            }
        }
        Ok(upstream)
    }

    fn entry(&self) -> PathBuf {
        self.modules.join("openclaw/openclaw.mjs")
    }
}

/// How a node is started.
pub(crate) enum Launcher {
    /// The binary of this build.
    ThisNode(PathBuf),
    /// OpenClaw's own node host.
    Upstream(Upstream),
}

impl Launcher {
    /// The head of the contestant's column.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::ThisNode(_) => format!("openclaw-node {}", env!("CARGO_PKG_VERSION")),
            Self::Upstream(upstream) => format!("OpenClaw {} node host", upstream.release),
        }
    }

    /// What has to be on disk for it to run, in bytes: the binary, or the modules.
    fn installed_bytes(&self) -> Result<u64> {
        match self {
            Self::ThisNode(binary) => Ok(std::fs::metadata(binary)?.len()),
            Self::Upstream(upstream) => folder_bytes(&upstream.modules),
        }
    }

    fn command(&self) -> Command {
        match self {
            Self::ThisNode(binary) => Command::new(binary),
            Self::Upstream(upstream) => {
                let mut command = Command::new(&upstream.node);
                command.arg(upstream.entry()).arg("node");
                command
            }
        }
    }
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            folder_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

/// A process in a process group of its own, which ends with this value.
struct Process {
    child: Child,
    id: u32,
}

impl Process {
    fn signal(&self, signal: Signal) -> nix::Result<()> {
        killpg(Pid::from_raw(self.id.cast_signed()), signal)
    }

    /// Asks it to end. One that takes too long is killed, and what was measured of it still counts.
    async fn stop(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        match timeout(STOP_DEADLINE, self.child.wait()).await {
            Ok(ended) => drop(ended?),
            Err(_) => writeln!(
                std::io::stderr().lock(),
                "process {} did not end within {STOP_DEADLINE:?} after SIGTERM, and is killed",
                self.id
            )?,
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Reaches what the main process left behind; fails when there is nothing, which is best.
        self.signal(Signal::SIGKILL).ok();
    }
}

/// A node that is connected to its gateway and may be invoked.
pub(crate) struct Contestant {
    launcher: Launcher,
    name: String,
    folder: TempDir,
    gateway: GatewayHandle,
    process: Option<Process>,
    node_id: String,
    invokes: std::cell::Cell<u64>,
}

impl Contestant {
    /// Starts a gateway and a node for the first time, and approves all that it asks for.
    pub(crate) async fn admit(launcher: Launcher) -> Result<Self> {
        Self::admit_with(launcher, OPEN_POLICY).await
    }

    /// The same with another openclaw.json.
    pub(crate) async fn admit_with(launcher: Launcher, config: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("state");
        std::fs::create_dir(&state)?;
        std::fs::write(state.join("openclaw.json"), config)?;
        let options = GatewayOptions {
            journal_limit: JOURNAL_LIMIT,
            ..GatewayOptions::default()
        };
        let mut contestant = Self {
            name: launcher.name(),
            launcher,
            folder,
            gateway: Gateway::start(options).await?,
            process: None,
            node_id: String::new(),
            invokes: std::cell::Cell::new(0),
        };
        contestant.process = Some(contestant.spawn()?);
        contestant.node_id = contestant.gateway.admit(CONNECT_DEADLINE).await?.node_id;
        Ok(contestant)
    }

    /// The head of its column.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What has to be on disk for it to run, in bytes.
    pub(crate) fn installed_bytes(&self) -> Result<u64> {
        self.launcher.installed_bytes()
    }

    fn spawn(&self) -> Result<Process> {
        let state = self.folder.path().join("state");
        let log = std::fs::File::create(self.folder.path().join("node.log"))?;
        let child = self
            .launcher
            .command()
            .args([
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &self.gateway.port().to_string(),
            ])
            .args(["--display-name", "benchmark"])
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("OPENCLAW_STATE_DIR", &state)
            .env("OPENCLAW_CONFIG_PATH", state.join("openclaw.json"))
            .env("OPENCLAW_GATEWAY_TOKEN", gateway::DEFAULT_TOKEN)
            .env("OPENCLAW_NO_AUTO_UPDATE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        let id = child.id().ok_or("the node has ended already")?;
        Ok(Process { child, id })
    }

    /// Stops the node and starts it again: the time from just before the spawn to the connect
    /// frame in the gateway's hands. Returns once it is in service again.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        if let Some(process) = self.process.take() {
            process.stop().await?;
        }
        let nobody = |snapshot: &Snapshot| snapshot.nodes().is_empty().then_some(());
        self.gateway.wait_for(CONNECT_DEADLINE, nobody).await?;
        let last_connect = |snapshot: &Snapshot| {
            snapshot
                .requests("connect")
                .next_back()
                .map(|(connection, _)| connection)
        };
        let before = self.gateway.inspect(last_connect).await?;
        let started = Instant::now();
        self.process = Some(self.spawn()?);
        let presented = self
            .gateway
            .wait_for(CONNECT_DEADLINE, move |snapshot| {
                (last_connect(snapshot) != before).then(Instant::now)
            })
            .await?;
        self.gateway.admit(CONNECT_DEADLINE).await?;
        Ok(presented.saturating_duration_since(started))
    }

    /// The processes of the node as they are now.
    pub(crate) fn process_tree(&self) -> Result<ProcessTree> {
        ProcessTree::of(self.process.as_ref().ok_or("the node is not running")?.id)
    }

    /// Asks the node for something and returns the payload of its answer.
    pub(crate) async fn invoke(&self, command: &str, params: Value) -> Result<Value> {
        self.invokes.set(self.invokes.get() + 1);
        let mut answer = self
            .gateway
            .call(
                "node.invoke",
                json!({
                    "nodeId": self.node_id,
                    "command": command,
                    "params": params,
                    "timeoutMs": u64::try_from(INVOKE_DEADLINE.as_millis())?,
                    "idempotencyKey": format!("benchmark-{}", self.invokes.get()),
                }),
            )
            .await?;
        Ok(answer
            .get_mut("payload")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// Runs a command to its successful end and returns its standard output.
    pub(crate) async fn run(&self, argv: &[&str]) -> Result<String> {
        let mut payload = self
            .invoke("system.run", json!({ "command": argv }))
            .await?;
        if payload.get("success") != Some(&Value::Bool(true)) {
            return Err(format!("{}: {argv:?} failed: {payload}", self.name).into());
        }
        match payload.get_mut("stdout").map(Value::take) {
            Some(Value::String(stdout)) => Ok(stdout),
            _ => Ok(String::new()),
        }
    }

    /// Ends the node and its gateway.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.stop().await?;
        }
        self.gateway.stop();
        Ok(())
    }
}
