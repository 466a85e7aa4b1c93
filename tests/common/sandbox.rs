//! A throw-away machine with a real systemd, and what its user and its root type there.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use gateway::{DEFAULT_TOKEN, GatewayHandle, NodeView};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::home::BINARY;

/// What the script exits with where a machine cannot do it.
const UNABLE: i32 = 77;
/// Longest wait for a boot, or for anything that is typed: far beyond what a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at something that cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Set where tests must not be skipped, as in `.ci/run`.
const REQUIRED: &str = "OPENCLAW_NODE_REQUIRE_SYSTEMD";

/// A machine. It ends with this value.
pub(crate) struct Sandbox {
    state: TempDir,
}

/// The node's user unit, from the test user's home.
pub(crate) const UNIT: &str = ".config/systemd/user/openclaw-node.service";

/// The variable that gives the gateway's shared token.
pub(crate) fn token() -> String {
    format!("OPENCLAW_GATEWAY_TOKEN={DEFAULT_TOKEN}")
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The JSON that it printed, members in their order.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The same, of a command that must not fail.
    pub(crate) fn expect_success(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/systemd-sandbox.sh")
}

impl Sandbox {
    /// Boots a machine; `None`, and a line that says why, where that cannot be.
    pub(crate) async fn boot() -> Option<Self> {
        let sandbox = Self {
            state: tempfile::Builder::new()
                .prefix("openclaw-sandbox-")
                .tempdir()
                .unwrap(),
        };
        let ran = sandbox.script("start", &[BINARY]).await;
        match ran.code {
            0 => Some(sandbox),
            UNABLE if std::env::var_os(REQUIRED).is_none() => {
                // Past the harness, which shows only what failed.
                let line = format!(
                    "skipped, this machine cannot boot one: {}\n",
                    ran.stderr.trim()
                );
                std::io::stderr().write_all(line.as_bytes()).unwrap();
                None
            }
            _ => panic!("no machine: {ran:?}"),
        }
    }

    async fn script(&self, command: &str, arguments: &[&str]) -> Ran {
        let output = Command::new(script())
            .arg(self.state.path())
            .arg(command)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output: Output = timeout(DEADLINE, output)
            .await
            .unwrap_or_else(|_| panic!("{command} {arguments:?} does not end"))
            .unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command as the test user.
    pub(crate) async fn user(&self, command: &[&str]) -> Ran {
        self.script("user", command).await
    }

    /// Runs a command as root.
    pub(crate) async fn root(&self, command: &[&str]) -> Ran {
        self.script("root", command).await
    }

    /// Runs a shell line as the test user, which must not fail, and gives what it printed.
    pub(crate) async fn shell(&self, line: &str) -> String {
        let ran = self.user(&["sh", "-ec", line]).await;
        ran.expect_success().stdout
    }

    /// Runs the node's program as the test user.
    pub(crate) async fn node(&self, arguments: &[&str]) -> Ran {
        self.node_with(&[], arguments).await
    }

    /// The same, with variables such as `NAME=value`.
    pub(crate) async fn node_with(&self, variables: &[&str], arguments: &[&str]) -> Ran {
        let program = ["/usr/local/bin/openclaw-node"];
        let command = [&["env"], variables, &program, arguments].concat();
        self.user(&command).await
    }

    /// Lets every command run.
    pub(crate) async fn allow_everything(&self) {
        let config = json!({ "tools": { "exec": { "security": "full", "ask": "off" } } });
        let line = "umask 077; mkdir -p .openclaw; cat > .openclaw/openclaw.json";
        self.shell(&format!("{line} <<'END'\n{config}\nEND\n"))
            .await;
    }

    /// Installs the node for this gateway, and waits until it is in service there.
    pub(crate) async fn install(&self, gateway: &GatewayHandle) -> NodeView {
        let port = gateway.port().to_string();
        self.node_with(&[&token()], &["install", "--port", &port])
            .await
            .expect_success();
        gateway.admit(super::DEADLINE).await.unwrap()
    }

    /// Everything in the test user's home that is no folder.
    pub(crate) async fn files(&self) -> BTreeSet<String> {
        let found = self.shell("find . ! -type d").await;
        found.lines().map(str::to_owned).collect()
    }

    /// A property of the node's user unit.
    pub(crate) async fn property(&self, name: &str) -> String {
        let shown = self
            .user(&[
                "systemctl",
                "--user",
                "show",
                "openclaw-node",
                "--property",
                name,
                "--value",
            ])
            .await;
        shown.stdout.trim().to_owned()
    }

    /// Looks at a property until it is as wanted.
    pub(crate) async fn until_property(
        &self,
        name: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let value = self.property(name).await;
            if is_wanted(&value) {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "{name} stays {value:?}\n{}",
                self.journal().await
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Runs a shell line until it exits with 0.
    pub(crate) async fn until_shell(&self, line: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let ran = self.user(&["sh", "-ec", line]).await;
            if ran.code == 0 {
                return ran.stdout;
            }
            assert!(
                Instant::now() < deadline,
                "{line}: {ran:?}\n{}",
                self.journal().await
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What the node wrote.
    pub(crate) async fn journal(&self) -> String {
        let line = "journalctl --user -u openclaw-node -o cat --no-pager -n 500";
        self.user(&["sh", "-c", line]).await.stdout
    }

    /// Restarts the machine; its files stay.
    pub(crate) async fn reboot(&self) {
        self.script("reboot", &[]).await.expect_success();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let stopped = std::process::Command::new(script())
            .arg(self.state.path())
            .arg("stop")
            .status();
        if !std::thread::panicking() {
            assert!(stopped.unwrap().success());
        }
    }
}
