//! One command from start to result: spawning, waiting, stopping (exec and approvals §11,
//! divergence D3).
//!
//! A command is the leader of its own process group and carries a [mark](crate::mark), and whatever
//! ends the run ends the group and everything that carries the mark: a timeout, a cancellation, and
//! also dropping [`Running`] or the future of [`Running::wait`].

mod capture;
mod failure;
mod held;
mod limits;
mod output;
mod payload;
mod process_tree;
pub mod service;

use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

pub use self::failure::SpawnFailure;
pub use self::held::HeldDescriptor;
pub use self::limits::Limits;
pub use self::payload::RunPayload;

use self::output::Output;
use self::process_tree::ProcessTree;
use crate::census::Stat;
use crate::cgroup::Delegated;
use crate::environment::CommandEnvironment;
use crate::mark::{RunMark, while_marked};
use crate::search;

/// How long a command that ran into its timeout may take to end after TERM, before KILL
/// (exec and approvals §11).
pub const TIMEOUT_GRACE: Duration = Duration::from_millis(300);

/// How long a descendant that outlives the command may keep the result waiting by holding its
/// output open.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How long the kernel gets to end a killed command. Only a process stuck in a system call (a dead
/// network disk) takes longer, and nothing can be done about that.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// The exit code of a command that was stopped by its timeout and has none of its own
/// (exec and approvals §11).
const TIMED_OUT: i32 = 124;

/// What runs an executable file that is neither a binary nor begins with `#!`, as in `execvp`.
const SHELL: &str = "/bin/sh";

/// A command that was decided on.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The words of the command; the first is also what the program sees as its own name.
    pub argv: Vec<String>,
    /// The file to execute, where the policy has pinned it. Otherwise the first word is searched
    /// for at the moment of spawning.
    pub program: Option<PathBuf>,
    /// Where the command runs; the node's own folder if `None`.
    pub cwd: Option<PathBuf>,
    /// Everything that the command sees of the environment.
    pub environment: CommandEnvironment,
    /// How long the command may run, counted from its start.
    pub timeout: Option<Duration>,
    /// What the words or the folder refer to by descriptor.
    pub held: Vec<HeldDescriptor>,
}

/// What every run of this node is kept within.
#[derive(Clone, Debug, Default)]
pub struct Containment {
    /// What one run may use.
    pub limits: Limits,
    /// Where the control groups of runs are made; without it the limits are those that a process
    /// can be given.
    pub delegated: Option<Arc<Delegated>>,
}

/// The order to end a run before it ends by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cancel {
    /// How long the command may take to end after TERM, before KILL.
    pub grace: Duration,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The command was never started.
    NotStarted,
    /// The command ended by itself, whatever its exit code.
    Exited,
    /// The command was ended because its time was up.
    TimedOut,
    /// The command was ended by a [`Cancel`]; nobody waits for the payload.
    Cancelled,
}

/// What is left of a run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunOutcome {
    /// The result for the gateway.
    pub payload: RunPayload,
    /// Why the run is over.
    pub ending: Ending,
    /// The signal that ended the command's first process.
    pub signal: Option<i32>,
}

/// Runs a command to its end. See [`spawn`] and [`Running::wait`], which this joins.
pub async fn run(
    spec: RunSpec,
    containment: &Containment,
    cancel: oneshot::Receiver<Cancel>,
) -> RunOutcome {
    match spawn(&spec, containment) {
        Ok(running) => running.wait(cancel).await,
        Err(failure) => failure.into(),
    }
}

/// Starts a command as the leader of a new process group, with an empty standard input, no
/// descriptors but the three standard ones, and the limits of `containment`.
///
/// Must be called within a tokio runtime that has its I/O and time drivers. Returns once the new
/// program is in place, which takes around a millisecond.
///
/// # Errors
/// [`SpawnFailure`], which is a regular result of a run and becomes its [`RunOutcome`].
pub fn spawn(spec: &RunSpec, containment: &Containment) -> Result<Running, SpawnFailure> {
    let cwd = spec.cwd.as_deref();
    let name = spec.argv.first().map_or("", String::as_str);
    let program = match &spec.program {
        Some(program) => Ok(program.clone()),
        None => search::program(name, cwd, spec.environment.search_path()),
    };
    let mark = RunMark::next();
    let (child, is_marked) =
        while_marked(mark, || program.and_then(|program| start(spec, &program)));
    let mut child = child.map_err(|errno| SpawnFailure::new(errno, cwd))?;

    let mut tree = ProcessTree::led_by(&child, is_marked.then_some(mark))
        .ok_or(SpawnFailure::new(Errno::ESRCH, None))?;
    limits::impose(&mut tree, containment);
    let start_time = Stat::of(tree.group()).map(|stat| stat.start_time);
    let output = Output::new(child.stdout.take(), child.stderr.take());
    let deadline = spec
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    Ok(Running {
        child,
        tree,
        start_time,
        output,
        deadline,
        held: spec.held.clone(),
    })
}

/// Executes the file, through a shell if it is a script that does not say for which interpreter.
fn start(spec: &RunSpec, program: &Path) -> Result<Child, Errno> {
    let (name, arguments) = match spec.argv.split_first() {
        Some((name, arguments)) => (name.as_str(), arguments),
        None => ("", [].as_slice()),
    };
    let mut command = Command::new(program);
    command.arg0(name).args(arguments);
    match start_prepared(command, spec) {
        Err(Errno::ENOEXEC) => {
            let mut command = Command::new(SHELL);
            command.arg(program).args(arguments);
            start_prepared(command, spec)
        }
        started => started,
    }
}

/// Neither a hook before `exec` nor another user is asked for here: either would make the standard
/// library copy the whole process instead of using `posix_spawn`.
fn start_prepared(mut command: Command, spec: &RunSpec) -> Result<Child, Errno> {
    // An empty pipe whose other end is closed, because some programs treat /dev/null specially.
    let (stdin, _) = io::pipe().map_err(errno)?;
    command
        .env_clear()
        .envs(spec.environment.iter())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    command.spawn().map_err(errno)
}

/// An error without a number is an argument or variable that holds a NUL.
fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

/// A command that was started and is not over. Dropping it kills it with everything it started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    tree: ProcessTree,
    start_time: Option<u64>,
    output: Output,
    deadline: Option<Instant>,
    held: Vec<HeldDescriptor>,
}

/// What happens first to a running command.
enum First {
    Exit(io::Result<ExitStatus>),
    Stop { ending: Ending, grace: Duration },
}

impl Running {
    /// The process group of the command, which is also the process id of its leader.
    pub fn group(&self) -> Pid {
        self.tree.group()
    }

    /// When the leader was started, in clock ticks since boot, where the system tells.
    pub fn start_time(&self) -> Option<u64> {
        self.start_time
    }

    /// What every process of the command carries, where the system lets it be marked.
    pub fn mark(&self) -> Option<RunMark> {
        self.tree.mark()
    }

    /// Waits until the command is over, reading what it writes as fast as it comes.
    ///
    /// A timeout or a message on `cancel` ends the whole tree: TERM, the grace, KILL. A `cancel` whose
    /// sender is gone never fires. After the command's own end its output is read for at most
    /// [`DRAIN_LIMIT`]. Members that a failed command leaves behind get TERM.
    pub async fn wait(self, cancel: oneshot::Receiver<Cancel>) -> RunOutcome {
        let Self {
            mut child,
            mut tree,
            start_time: _,
            mut output,
            deadline,
            held: _held,
        } = self;
        let mut cancel = pin!(requested(cancel));

        let first = output
            .alongside(async {
                tokio::select! {
                    biased;
                    exit = child.wait() => First::Exit(exit),
                    cancel = &mut cancel => {
                        First::Stop { ending: Ending::Cancelled, grace: cancel.grace }
                    }
                    () = reached(deadline) => {
                        First::Stop { ending: Ending::TimedOut, grace: TIMEOUT_GRACE }
                    }
                }
            })
            .await;

        let (exit, mut ending) = match first {
            First::Exit(exit) => {
                if !exit.as_ref().is_ok_and(ExitStatus::success) {
                    tree.signal_group(Signal::SIGTERM);
                }
                (Some(exit), Ending::Exited)
            }
            First::Stop { ending, grace } => {
                (stop(&mut child, &tree, &mut output, grace).await, ending)
            }
        };

        let is_drained = tokio::select! {
            biased;
            () = output.read_to_end() => true,
            cancel = &mut cancel, if ending == Ending::Exited => {
                ending = Ending::Cancelled;
                stop_members(&tree, &mut output, cancel.grace).await;
                false
            }
            () = sleep(DRAIN_LIMIT) => false,
        };
        tree.release();

        let signal = match &exit {
            Some(Ok(status)) => status.signal(),
            Some(Err(_)) | None => None,
        };
        RunOutcome {
            payload: payload(exit, ending, output, is_drained),
            ending,
            signal,
        }
    }
}

/// Ends the leader and everything it started; `None` if not even KILL ended the leader.
async fn stop(
    child: &mut Child,
    tree: &ProcessTree,
    output: &mut Output,
    grace: Duration,
) -> Option<io::Result<ExitStatus>> {
    let kill_at = Instant::now() + grace;
    let ended = async {
        tree.signal(Signal::SIGTERM).await;
        timeout_at(kill_at, child.wait()).await
    };
    let exit = output.alongside(ended).await;
    if exit.is_err() || !output.alongside(tree.is_gone_by(kill_at)).await {
        output.alongside(tree.kill()).await;
    }
    match exit {
        Ok(exit) => Some(exit),
        Err(_) => output
            .alongside(timeout(REAP_LIMIT, child.wait()))
            .await
            .ok(),
    }
}

/// Ends what the leader left behind.
async fn stop_members(tree: &ProcessTree, output: &mut Output, grace: Duration) {
    let kill_at = Instant::now() + grace;
    output.alongside(tree.signal(Signal::SIGTERM)).await;
    if !output.alongside(tree.is_gone_by(kill_at)).await {
        output.alongside(tree.kill()).await;
    }
}

/// The next cancellation, or never once nobody is left to send one.
async fn requested(cancel: oneshot::Receiver<Cancel>) -> Cancel {
    match cancel.await {
        Ok(cancel) => cancel,
        Err(_) => pending().await,
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// The wire shape of a run that was started (exec and approvals §11).
fn payload(
    exit: Option<io::Result<ExitStatus>>,
    ending: Ending,
    output: Output,
    is_drained: bool,
) -> RunPayload {
    let captured = output.finish();
    let (own, failure) = match exit {
        Some(Ok(status)) => (status.code(), captured.failure),
        Some(Err(error)) => (None, Some(errno(error))),
        None => (None, captured.failure),
    };
    let timed_out = ending == Ending::TimedOut;
    let exit_code = if timed_out {
        Some(own.filter(|code| *code != 0).unwrap_or(TIMED_OUT))
    } else {
        own
    };
    RunPayload {
        exit_code,
        timed_out,
        success: ending == Ending::Exited && own == Some(0) && failure.is_none(),
        stdout: captured.stdout.text,
        stderr: captured.stderr.text,
        error: failure.map(failure::text),
        truncated: captured.stdout.is_cut || captured.stderr.is_cut,
        stdout_bytes: captured.stdout.total,
        stderr_bytes: captured.stderr.total,
        drain_truncated: !is_drained,
    }
}

#[cfg(test)]
mod tests;
