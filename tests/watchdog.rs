//! What the service manager hears of a node: that it is ready, what it does, that it stops; and that
//! it is alive only while every part of it is.

#![cfg(test)]
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::mpsc;
use std::thread::JoinHandle;

use common::home::Home;
use common::node::Node;
use common::service_manager::ServiceManager;
use common::{DEADLINE, answers, gateway, strict_gateway};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// One thread of a process, stopped where it stands for as long as this value lives.
struct StuckThread {
    thaw: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl StuckThread {
    /// Stops the thread of that name; `None` where the system does not let us.
    fn new(process: Pid, name: &str) -> Option<Self> {
        let thread = thread_of(process, name);
        let (stopped, is_stopped) = mpsc::channel();
        let (thaw, thawed) = mpsc::channel();
        // Only the thread that attached may let go.
        let tracer = std::thread::spawn(move || {
            let attached = ptrace::seize(thread, ptrace::Options::empty());
            if attached == Err(Errno::EPERM) {
                return stopped.send(false).unwrap();
            }
            attached.unwrap();
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
            stopped.send(true).unwrap();
            thawed.recv().ok();
            ptrace::detach(thread, None).unwrap();
        });
        is_stopped.recv().unwrap().then_some(Self {
            thaw: Some(thaw),
            tracer: Some(tracer),
        })
    }
}

impl Drop for StuckThread {
    fn drop(&mut self) {
        self.thaw.take();
        if let Some(tracer) = self.tracer.take() {
            tracer.join().ok();
        }
    }
}

fn thread_of(process: Pid, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = tasks.map(|task| task.unwrap().path()).find(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    });
    let task = named.unwrap_or_else(|| panic!("no thread is named {name}"));
    let id = task.file_name().unwrap().to_str().unwrap();
    Pid::from_raw(id.parse().unwrap())
}

/// A node whose service manager wants a ping every 1.5 s.
fn watched(home: &Home, port: u16, manager: &ServiceManager) -> Node {
    home.run(port)
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "1500000")
        .env("OPENCLAW_NODE_LOG", "info,openclaw_node_actors=debug")
        .start()
}

#[tokio::test]
async fn a_part_that_is_stuck_stops_the_pings_until_it_goes_on() {
    let gateway = gateway().await;
    for name in ["store", "commands"] {
        let home = Home::new();
        let manager = ServiceManager::listen(home.path());
        let node = watched(&home, gateway.port(), &manager);
        let view = gateway.admit(DEADLINE).await.unwrap();
        answers(&gateway, &view).await;
        manager.hears("WATCHDOG=1").await;
        manager.hears("WATCHDOG=1").await;

        let Some(stuck) = StuckThread::new(node.pid(), name) else {
            return println!("skipped: this system lets nobody trace its children");
        };
        node.line("the service manager is not told").await;
        manager.heard_so_far();
        node.lines_until("watchdog ping withheld", 4).await;
        let meanwhile = manager.heard_so_far();
        assert!(
            !meanwhile.iter().any(|heard| heard.contains("WATCHDOG")),
            "{name} is stuck, but {meanwhile:?}"
        );

        drop(stuck);
        node.line("every part of the node is well again").await;
        manager.hears("WATCHDOG=1").await;
        answers(&gateway, &view).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_gateway_that_says_nothing_is_no_reason_to_be_restarted() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = Home::new();
    let manager = ServiceManager::listen(home.path());
    let node = watched(&home, silent.local_addr().unwrap().port(), &manager);
    manager.hears("READY=1").await;
    for _ in 0..5 {
        manager.hears("WATCHDOG=1").await;
    }
    assert!(
        node.lines_with("watchdog ping withheld").is_empty(),
        "{node}"
    );
    node.stop().await;
}

#[tokio::test]
async fn the_service_manager_hears_what_the_node_is_doing() {
    let gateway = strict_gateway().await;
    let home = Home::new();
    let manager = ServiceManager::listen(home.path());
    let mut node = watched(&home, gateway.port(), &manager);
    manager.hears("STATUS=connecting to ws://127.0.0.1:").await;
    manager.hears("READY=1").await;
    let waiting = manager.hears("STATUS=waiting for approval of ").await;
    assert!(waiting.contains("openclaw devices approve "), "{waiting}");
    gateway.admit(DEADLINE).await.unwrap();
    manager.hears("STATUS=connected to ws://127.0.0.1:").await;
    node.signal(Signal::SIGTERM);
    manager.hears("STOPPING=1").await;
    assert_eq!(node.exit_code().await, 143, "{node}");
}
