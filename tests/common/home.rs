//! A home directory with a state folder of its own, and the binary started in it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use gateway::DEFAULT_TOKEN;
use nix::unistd::{Gid, Uid, User};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::DEADLINE;
use super::node::Node;

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_openclaw-node");

/// Who a node runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl Account {
    /// Whoever runs the tests.
    pub(crate) fn current() -> Self {
        Self {
            uid: Uid::effective(),
            gid: Gid::effective(),
        }
    }

    /// An ordinary user, if the tests may act for one.
    pub(crate) fn ordinary() -> Option<Self> {
        let nobody = User::from_name("nobody").unwrap()?;
        Uid::effective().is_root().then_some(Self {
            uid: nobody.uid,
            gid: nobody.gid,
        })
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }
}

/// A home directory. Its path has no symlinks; it goes away with this value.
pub(crate) struct Home {
    _dir: TempDir,
    path: PathBuf,
    account: Account,
    program: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::of(Account::current())
    }

    /// A home that belongs to `account`, in which the program runs as `account`.
    pub(crate) fn of(account: Account) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("openclaw-node-test-")
            .tempdir()
            .unwrap();
        let path = dir.path().canonicalize().unwrap();
        let mut home = Self {
            _dir: dir,
            path,
            account,
            program: PathBuf::from(BINARY),
        };
        home.give_away(&home.path);
        if !account.is_current() {
            // The target directory need not be open to everybody.
            home.program = home.path.join("openclaw-node");
            fs::copy(BINARY, &home.program).unwrap();
            fs::set_permissions(&home.program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        home
    }

    /// Makes `path` the account's own.
    pub(crate) fn give_away(&self, path: &Path) {
        if !self.account.is_current() {
            let (uid, gid) = (
                Some(self.account.uid.as_raw()),
                Some(self.account.gid.as_raw()),
            );
            std::os::unix::fs::lchown(path, uid, gid).unwrap();
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn account(&self) -> Account {
        self.account
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path.join(".openclaw")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.state_dir().join("state/openclaw-node.sqlite")
    }

    /// A folder in this home that belongs to its account.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path.join(name);
        fs::create_dir_all(&folder).unwrap();
        self.give_away(&folder);
        folder
    }

    /// Writes openclaw.json.
    pub(crate) fn configure(&self, config: &Value) {
        let folder = self.folder(".openclaw");
        let file = folder.join("openclaw.json");
        fs::write(&file, serde_json::to_vec_pretty(config).unwrap()).unwrap();
        self.give_away(&file);
    }

    /// Lets every command run, as operators that trust their gateway configure it.
    pub(crate) fn allow_everything(&self) {
        self.configure(&json!({ "tools": { "exec": { "security": "full", "ask": "off" } } }));
    }

    /// The program with these arguments, in an environment that holds nothing else.
    pub(crate) fn program<I>(&self, arguments: I) -> Launch
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.path)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .current_dir(&self.path)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if !self.account.is_current() {
            command
                .uid(self.account.uid.as_raw())
                .gid(self.account.gid.as_raw());
        }
        Launch { command }
    }

    /// `run` against a gateway on this port, with the shared token that gateways have here.
    pub(crate) fn run(&self, port: u16) -> Launch {
        self.run_without_token(port)
            .env("OPENCLAW_GATEWAY_TOKEN", DEFAULT_TOKEN)
    }

    /// `run` against a gateway on this port, with nothing to present but what is stored.
    pub(crate) fn run_without_token(&self, port: u16) -> Launch {
        self.program(["run", "--host", "127.0.0.1", "--port", &port.to_string()])
    }
}

/// The program before it starts.
pub(crate) struct Launch {
    command: Command,
}

impl Launch {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Node {
        Node::spawn(self.command)
    }

    /// Runs it to its end with this on its standard input.
    pub(crate) async fn output_given(mut self, input: &str) -> Output {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        file.rewind().unwrap();
        self.command.stdin(Stdio::from(file));
        self.output().await
    }

    /// Starts it with its standard output piped.
    pub(crate) fn spawn_with_output(mut self) -> Child {
        self.command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it to its end.
    pub(crate) async fn output(mut self) -> Output {
        let output = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output();
        tokio::time::timeout(DEADLINE, output)
            .await
            .expect("the command ends")
            .unwrap()
    }
}
