//! A control group for each run, where the service manager has left the node's own to it
//! (`Delegate=yes`).
//!
//! ```text
//! openclaw-node.service/      delegated: controllers are passed on to what is below
//! ├── node/                   the node itself, because a group with members passes none on
//! ├── run-0/                  a run with everything it started
//! └── run-1/
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::census::mark_of;
use crate::mark::RunMark;
use crate::run::Limits;

/// Where the node itself goes.
const NODE_GROUP: &str = "node";

/// How the groups of runs begin.
const RUN_PREFIX: &str = "run-";

/// The period over which processor time is shared out, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// How often a new run is searched for what it started outside of its group: whatever is inside
/// stays inside, so one is enough unless the run starts processes faster than they are moved.
const SWEEPS: usize = 16;

/// Groups that still had members when their run ended, and are to be looked at again; more than
/// these stay until the next start.
const LEFTOVERS: usize = 1024;

/// A delegated group, prepared for runs.
#[derive(Debug)]
pub struct Delegated {
    folder: PathBuf,
    next: AtomicU32,
    leave: mpsc::Sender<PathBuf>,
    left: tokio::sync::Mutex<mpsc::Receiver<PathBuf>>,
}

impl Delegated {
    /// The group that the service manager left to this process; `None` where there is none.
    ///
    /// Moves this process into a group below it, passes on the controllers that `limits` need, and
    /// ends what an earlier process left in the groups of its runs.
    ///
    /// # Errors
    /// A group that is delegated but cannot be prepared.
    pub fn find(limits: &Limits) -> io::Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let Some(folder) = own_folder(&mounts, &own) else {
            return Ok(None);
        };
        if !is_delegated(&folder) {
            return Ok(None);
        }
        Self::prepare(&folder, limits).map(Some)
    }

    fn prepare(folder: &Path, limits: &Limits) -> io::Result<Self> {
        for entry in fs::read_dir(folder)?.flatten() {
            let is_run = entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(RUN_PREFIX));
            if is_run {
                end(&entry.path());
                remove(&entry.path());
            }
        }
        let node = folder.join(NODE_GROUP);
        make(&node)?;
        fs::write(node.join("cgroup.procs"), Pid::this().to_string())?;
        for controller in limits.controllers() {
            fs::write(
                folder.join("cgroup.subtree_control"),
                format!("+{controller}"),
            )?;
        }
        let (leave, left) = mpsc::channel(LEFTOVERS);
        Ok(Self {
            folder: folder.to_owned(),
            next: AtomicU32::new(0),
            leave,
            left: tokio::sync::Mutex::new(left),
        })
    }

    /// Makes a group with these limits and moves a process into it, with whatever it has started
    /// in the moment since its own start.
    ///
    /// # Errors
    /// The system's; nothing is left behind then.
    pub(crate) fn take_in(
        &self,
        leader: Pid,
        mark: Option<RunMark>,
        limits: &Limits,
    ) -> io::Result<RunGroup> {
        self.remove_left();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join(format!("{RUN_PREFIX}{number}"));
        make(&folder)?;
        let group = RunGroup {
            folder,
            leave: self.leave.clone(),
        };
        for (file, text) in limits.files() {
            fs::write(group.folder.join(file), text)?;
        }
        fs::write(group.folder.join("cgroup.procs"), leader.to_string())?;
        if let Some(mark) = mark {
            for _ in 0..SWEEPS {
                if self.move_stragglers(mark, &group)? == 0 {
                    break;
                }
            }
        }
        Ok(group)
    }

    /// Moves what a run has left in the node's own group, and says how many processes that were.
    fn move_stragglers(&self, mark: RunMark, group: &RunGroup) -> io::Result<usize> {
        let listed = fs::read_to_string(self.folder.join(NODE_GROUP).join("cgroup.procs"))?;
        let mut limits = Vec::new();
        let stragglers = listed
            .lines()
            .filter_map(|line| line.parse().ok().map(Pid::from_raw))
            .filter(|pid| *pid != Pid::this() && mark_of(*pid, &mut limits) == Some(mark));
        // One that has ended meanwhile cannot be moved.
        let procs = group.folder.join("cgroup.procs");
        let moved = stragglers.filter(|pid| fs::write(&procs, pid.to_string()).is_ok());
        Ok(moved.count())
    }

    /// Looks again at groups that were left with members, as many as there are now.
    fn remove_left(&self) {
        let Ok(mut left) = self.left.try_lock() else {
            return;
        };
        for _ in 0..left.len() {
            let Ok(folder) = left.try_recv() else { return };
            if !remove(&folder) {
                // The room that this one had is still there.
                self.leave.try_send(folder).ok();
            }
        }
    }
}

/// The group of one run. It goes when it is empty, at the latest with the next start.
#[derive(Debug)]
pub(crate) struct RunGroup {
    folder: PathBuf,
    leave: mpsc::Sender<PathBuf>,
}

impl RunGroup {
    /// Ends every member at once, also those that are just being started.
    pub(crate) fn kill(&self) {
        end(&self.folder);
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        if !remove(&self.folder) && self.leave.try_send(self.folder.clone()).is_err() {
            tracing::debug!(group = %self.folder.display(), "a control group stays until the next start");
        }
    }
}

impl Limits {
    /// The controllers that these limits need.
    fn controllers(&self) -> impl Iterator<Item = &'static str> {
        let needed = [
            (self.memory.is_some(), "memory"),
            (self.pids.is_some(), "pids"),
            (self.cpu_millis.is_some(), "cpu"),
        ];
        needed
            .into_iter()
            .filter_map(|(is_needed, controller)| is_needed.then_some(controller))
    }

    /// The files of a group that say these limits.
    fn files(&self) -> impl Iterator<Item = (&'static str, String)> {
        let memory = self.memory.map(|bytes| ("memory.max", bytes.to_string()));
        // A command that runs out of memory is ended as a whole, not by the loss of one process.
        let whole = self.memory.map(|_| ("memory.oom.group", "1".to_owned()));
        let pids = self.pids.map(|count| ("pids.max", count.to_string()));
        let cpu = self.cpu_millis.map(|millis| {
            let quota = millis.saturating_mul(CPU_PERIOD_US) / 1000;
            ("cpu.max", format!("{quota} {CPU_PERIOD_US}"))
        });
        [memory, whole, pids, cpu].into_iter().flatten()
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn end(folder: &Path) {
    if let Err(error) = fs::write(folder.join("cgroup.kill"), "1") {
        tracing::debug!(group = %folder.display(), %error, "a control group cannot be ended");
    }
}

/// Whether a group is gone. The kernel refuses while it has members.
fn remove(folder: &Path) -> bool {
    match fs::remove_dir(folder) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Where this process's group of the unified hierarchy is, if it has one below the root.
fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if path.is_empty() {
        return None;
    }
    // mountinfo: id, parent, device, root, mount point, options, optional fields, "-", type (proc(5)).
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_unified = after.split(' ').next()? == "cgroup2";
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        (is_unified && root == "/").then_some(mount)
    })?;
    Some(Path::new(mount).join(path))
}

#[cfg(target_os = "linux")]
fn is_delegated(folder: &Path) -> bool {
    /// Attributes by which systemd marks a delegated group (systemd.resource-control(5)).
    const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

    DELEGATED.into_iter().any(|attribute| {
        let mut value = [0_u8; 2];
        rustix::fs::getxattr(folder, attribute, &mut value)
            .is_ok_and(|length| value.get(..length) == Some(b"1"))
    })
}

#[cfg(not(target_os = "linux"))]
fn is_delegated(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory: Some(512 << 20),
        pids: Some(100),
        cpu_millis: Some(1500),
    };

    #[test]
    fn the_own_group_is_found_in_the_unified_hierarchy() {
        let mounts = "25 24 0:22 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      26 24 0:23 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        let own = "9:pids:/elsewhere\n0::/user.slice/node.service\n";
        assert_eq!(
            own_folder(mounts, own),
            Some("/sys/fs/cgroup/unified/user.slice/node.service".into())
        );
        let nowhere = [
            (mounts, "0::/\n"),
            (mounts, "9:pids:/a\n"),
            ("", own),
            ("broken", own),
        ];
        for (mounts, own) in nowhere {
            assert_eq!(own_folder(mounts, own), None, "{mounts} {own}");
        }
    }

    /// A folder that only looks like a control group: what is written stays in its files.
    #[test]
    fn a_run_gets_a_group_with_its_limits_and_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join("run-7");
        fs::create_dir(&stale).unwrap();
        let delegated = Delegated::prepare(dir.path(), &LIMITS).unwrap();
        let written = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(written("run-7/cgroup.kill"), "1");
        assert_eq!(written("node/cgroup.procs"), Pid::this().to_string());
        assert_eq!(written("cgroup.subtree_control"), "+cpu");

        let group = delegated
            .take_in(Pid::from_raw(4242), None, &LIMITS)
            .unwrap();
        let expected = [
            ("memory.max", "536870912"),
            ("memory.oom.group", "1"),
            ("pids.max", "100"),
            ("cpu.max", "150000 100000"),
            ("cgroup.procs", "4242"),
        ];
        for (file, text) in expected {
            assert_eq!(written(&format!("run-0/{file}")), text, "{file}");
        }
        group.kill();
        assert_eq!(written("run-0/cgroup.kill"), "1");
    }

    #[test]
    fn without_limits_no_controller_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let delegated = Delegated::prepare(dir.path(), &Limits::default()).unwrap();
        let _group = delegated
            .take_in(Pid::from_raw(1), None, &Limits::default())
            .unwrap();
        assert!(!dir.path().join("cgroup.subtree_control").exists());
        let written = fs::read_dir(dir.path().join("run-0")).unwrap().count();
        assert_eq!(written, 1, "only the process is moved");
    }

    #[test]
    fn a_group_that_is_left_with_members_goes_later() {
        let dir = tempfile::tempdir().unwrap();
        let delegated = Delegated::prepare(dir.path(), &Limits::default()).unwrap();
        // Files keep a plain folder as members keep a group.
        drop(
            delegated
                .take_in(Pid::from_raw(1), None, &Limits::default())
                .unwrap(),
        );
        let left = dir.path().join("run-0");
        assert!(left.exists());
        fs::remove_file(left.join("cgroup.procs")).unwrap();
        drop(
            delegated
                .take_in(Pid::from_raw(1), None, &Limits::default())
                .unwrap(),
        );
        assert!(!left.exists());
    }

    #[test]
    fn a_folder_is_only_ours_if_the_service_manager_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_delegated(dir.path()));
        assert!(!is_delegated(Path::new("/definitely/not/here")));
    }

    /// A group of the real unified hierarchy, marked as delegated; `None` where this user may not
    /// make one.
    #[cfg(target_os = "linux")]
    struct RealGroup(PathBuf);

    #[cfg(target_os = "linux")]
    impl RealGroup {
        fn make() -> Option<Self> {
            let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
            let root = own_folder(&mounts, "0::/.")?;
            let folder = root.join(format!("openclaw-node-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&group.0, "user.delegate", b"1", flags).ok()?;
            group.0.join("cgroup.kill").exists().then_some(group)
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for RealGroup {
        fn drop(&mut self) {
            for entry in fs::read_dir(&self.0).unwrap().flatten() {
                if entry.path().is_dir() {
                    remove(&entry.path());
                }
            }
            remove(&self.0);
        }
    }

    /// This test binary runs the ignored test below in a delegated group: whoever uses one leaves
    /// the group that it was started in.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_delegated_group_keeps_each_run_together() {
        let Some(group) = RealGroup::make() else {
            return;
        };
        let output = std::process::Command::new("/bin/sh")
            .args([
                "-c",
                "echo $$ > \"$1/cgroup.procs\" && exec \"$0\" --ignored --exact \"$2\"",
            ])
            .arg(std::env::current_exe().unwrap())
            .arg(&group.0)
            .arg("cgroup::tests::runs_in_a_delegated_group")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    #[ignore = "run by the test above in a process of its own"]
    async fn runs_in_a_delegated_group() {
        use std::sync::Arc;

        use tokio::sync::oneshot;
        use tokio::time::timeout;

        use crate::environment::{BaseEnvironment, Overrides};
        use crate::run::{Cancel, Containment, RunSpec, TIMEOUT_GRACE, spawn};

        /// Long enough that only a bug reaches it.
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

        let limits = Limits::default();
        let delegated = Arc::new(Delegated::find(&limits).unwrap().unwrap());
        let folder = delegated.folder.clone();
        let members = |group: &str| fs::read_to_string(folder.join(group).join("cgroup.procs"));
        assert_eq!(members("node").unwrap(), format!("{}\n", Pid::this()));

        let script = "trap '' TERM; setsid sleep 1000 & sleep 1000";
        let spec = RunSpec {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
            program: None,
            cwd: None,
            environment: BaseEnvironment::new(std::env::vars_os()).with(Overrides::default()),
            timeout: None,
            held: Vec::new(),
        };
        let containment = Containment {
            limits,
            delegated: Some(Arc::clone(&delegated)),
        };
        let running = spawn(&spec, &containment).unwrap();
        let complete = async {
            while members("run-0").unwrap().lines().count() < 3 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, complete).await.unwrap();
        let (cancel, cancelled) = oneshot::channel();
        let order = Cancel {
            grace: TIMEOUT_GRACE,
        };
        cancel.send(order).unwrap();
        timeout(PATIENCE, running.wait(cancelled)).await.unwrap();
        // A group without members can be removed; whether that was at once or is done later.
        let removed = async {
            while folder.join("run-0").exists() {
                delegated.remove_left();
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, removed).await.unwrap();
    }
}
