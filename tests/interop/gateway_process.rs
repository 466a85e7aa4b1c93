//! Real gateways, each a process of its own with its own state on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use gateway::{OperatorAuth, OperatorError, Release};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::lab;
use crate::operator::Operator;
use crate::plain_side;
use crate::process::{Folder, Process};
use crate::scripted_model::ScriptedModel;
use crate::waiting::eventually;

/// The shared token of every gateway here.
pub(crate) const TOKEN: &str = "interop-shared-token-0123456789";

/// The password of those that ask for one.
pub(crate) const PASSWORD: &str = "interop-shared-password-0123456789";

/// A gateway loads hundreds of modules first.
const START: Duration = Duration::from_secs(180);
/// How often it may fail at that.
const STARTS: u32 = 3;
/// A gateway finishes what it does before it ends.
const STOP: Duration = Duration::from_secs(60);

/// A real gateway. It is killed when this is dropped.
pub(crate) struct GatewayProcess {
    /// Before the folder in which it writes.
    process: Process,
    folder: Folder,
    release: Release,
    address: SocketAddr,
    /// Where its operators connect to.
    operators: SocketAddr,
    launcher: Vec<String>,
    config: Value,
}

impl GatewayProcess {
    /// The gateway of a release that all tests share, as it comes out of the box but for the
    /// model, which is a [`ScriptedModel`].
    pub(crate) async fn shared(release: Release) -> &'static Self {
        static MAY: OnceCell<GatewayProcess> = OnceCell::const_new();
        static SEPTEMBER: OnceCell<GatewayProcess> = OnceCell::const_new();
        let shared = match release {
            Release::May => &MAY,
            Release::September => &SEPTEMBER,
        };
        let start =
            || async { Self::start(release, ScriptedModel::shared().config(release)).await };
        shared.get_or_init(start).await
    }

    /// Starts a gateway on loopback with `config` added to the smallest configuration that works,
    /// and waits until it serves.
    pub(crate) async fn start(release: Release, config: Value) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let gateway = Self::launch(release, config, free.port(), Vec::new());
        gateway.wait_until_ready().await
    }

    /// Starts a gateway without waiting for it. `launcher` is the command that starts it, such as
    /// `ip netns exec NAME`.
    pub(crate) fn launch(
        release: Release,
        config: Value,
        port: u16,
        launcher: Vec<String>,
    ) -> Self {
        let folder = Folder::new();
        let mut whole = json!({
            "gateway": {
                "mode": "local",
                "port": port,
                "bind": "loopback",
                "auth": { "mode": "token", "token": TOKEN },
            },
            "update": { "checkOnStart": false },
            // Beside what it prints; elsewhere it is not tidied up.
            "logging": { "file": folder.path().join("details.log") },
        });
        merge(&mut whole, config);
        let process = spawn(release, &folder, &whole, &launcher);
        Self {
            process,
            folder,
            release,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            operators: (Ipv4Addr::LOCALHOST, port).into(),
            launcher,
            config: whole,
        }
    }

    /// Waits until operators are served. A gateway that ends before that is started again, as by a
    /// service manager: on a busy machine 2026.9.6 loses patience with itself after 5 s.
    pub(crate) async fn wait_until_ready(mut self) -> Self {
        if self.config["gateway"]["tls"]["enabled"] == true {
            self.operators = plain_side::of(self.address).await;
        }
        let mut starts_left = STARTS;
        eventually("the gateway serves operators", START, async || {
            if self.process.ended().is_some() {
                starts_left -= 1;
                assert!(
                    starts_left > 0,
                    "the gateway ended {STARTS} times while it started"
                );
                self.process = spawn(self.release, &self.folder, &self.config, &self.launcher);
            }
            self.connect_operator().await
        })
        .await;
        self
    }

    /// Ends the gateway as a service manager does, and waits until it is gone.
    pub(crate) async fn stop(&mut self) {
        self.process.terminate(STOP).await;
    }

    /// Starts the gateway again with the state and the port that it had.
    pub(crate) async fn start_again(mut self) -> Self {
        self.process = spawn(self.release, &self.folder, &self.config, &self.launcher);
        self.wait_until_ready().await
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its operator.
    pub(crate) async fn operator(&self) -> Operator {
        self.connect_operator().await.unwrap()
    }

    async fn connect_operator(&self) -> Result<Operator, OperatorError> {
        let auth = if self.config["gateway"]["auth"]["mode"] == "password" {
            OperatorAuth::Password(SecretString::from(PASSWORD))
        } else {
            OperatorAuth::Token(SecretString::from(TOKEN))
        };
        Operator::connect_with(&format!("ws://{}", self.operators), auth).await
    }
}

fn spawn(release: Release, folder: &Folder, config: &Value, launcher: &[String]) -> Process {
    let state = folder.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("openclaw.json"), config.to_string()).unwrap();
    let mut command = lab::openclaw(release, folder.path(), launcher);
    command.args(["gateway", "run"]);
    Process::start(command, folder.path().join("gateway.log"))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}
