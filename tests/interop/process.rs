//! Processes that this suite starts, and the promise that none of them outlives it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::waiting::eventually;

/// Tidies up once this process is gone, whether it ended well, panicked or was killed: its
/// standard input ends then.
///
/// Static values are never dropped, so the shared gateways rely on it even in a good run.
const CARETAKER: &str = r#"
groups= folders= namespaces=
while read -r what which; do
    case $what in
        group) groups="$groups $which" ;;
        ended) groups=$(printf ' %s' $groups | sed "s/\b$which\b//") ;;
        folder) folders="$folders $which" ;;
        namespace) namespaces="$namespaces $which" ;;
    esac
done
left() { for group in $groups; do kill -s 0 -- "-$group" && return; done; return 1; }
for group in $groups; do kill -s TERM -- "-$group"; done
tries=0
while left && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
for group in $groups; do kill -s KILL -- "-$group"; done
for namespace in $namespaces; do ip netns delete "$namespace"; done
for folder in $folders; do rm -rf "$folder"; done
"#;

static CARETAKER_INPUT: LazyLock<ChildStdin> = LazyLock::new(|| {
    let mut caretaker = Command::new("/bin/sh");
    caretaker.args(["-c", CARETAKER]).stdin(Stdio::piped());
    // Nothing of it may keep a reader of this process's output waiting, nor may Ctrl-C reach it.
    caretaker.stdout(Stdio::null()).stderr(Stdio::null());
    in_own_group(&mut caretaker).spawn().unwrap().stdin.unwrap()
});

/// A short line is written to a pipe in one piece, so that threads need no lock.
fn tell_caretaker(line: &str) {
    (&*CARETAKER_INPUT)
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

/// A network namespace that has to be gone in the end.
pub(crate) fn remember_namespace(name: &str) {
    tell_caretaker(&format!("namespace {name}"));
}

fn in_own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0)
}

/// A folder for one process's state, gone when it is dropped or this process ends.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("openclaw-interop-")
            .tempdir()
            .unwrap();
        tell_caretaker(&format!("folder {}", folder.path().display()));
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A process and everything that it starts.
pub(crate) struct Process {
    child: Child,
    /// What it writes, both streams.
    transcript: PathBuf,
    running: bool,
}

impl Process {
    /// Starts a process that writes to the file `transcript`.
    pub(crate) fn start(mut command: Command, transcript: PathBuf) -> Self {
        let output = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&transcript)
            .unwrap();
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let child = in_own_group(&mut command).spawn().unwrap_or_else(|error| {
            panic!(
                "{} does not start: {error}",
                command.get_program().display()
            )
        });
        tell_caretaker(&format!("group {}", child.id()));
        Self {
            child,
            transcript,
            running: true,
        }
    }

    /// Everything that it has written so far.
    pub(crate) fn transcript(&self) -> String {
        // Its folder may be gone while a failed test is taken down.
        let written = std::fs::read(&self.transcript).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().unwrap()?;
        if std::mem::replace(&mut self.running, false) {
            // What it left behind in its group goes with it.
            let _ = self.signal(Signal::SIGKILL);
            tell_caretaker(&format!("ended {}", self.child.id()));
        }
        Some(status)
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self, deadline: Duration) -> ExitStatus {
        eventually("the process ends", deadline, async || {
            self.ended().ok_or("it still runs")
        })
        .await
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM).unwrap();
        self.end(deadline).await
    }

    fn signal(&self, signal: Signal) -> nix::Result<()> {
        killpg(Pid::from_raw(self.child.id().try_into().unwrap()), signal)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {} ---\n{}",
                self.transcript.display(),
                self.transcript()
            );
        }
        if self.running {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
            tell_caretaker(&format!("ended {}", self.child.id()));
        }
    }
}
