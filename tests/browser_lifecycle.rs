//! The browser's life: it starts with the first call that needs it, survives what it must, and
//! leaves nothing behind.

#![cfg(test)]

mod browser;
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use common::home::{Home, Launch};
use common::node::Node;
use common::{CONNECTED, DEADLINE, invoke, until};
use gateway::{GatewayHandle, NodeView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde_json::{Value, json};

/// A node with a browser, and the gateway that it is connected to.
struct Lab {
    gateway: GatewayHandle,
    home: Home,
    node: Node,
    view: NodeView,
    site: browser::site::Site,
}

impl Lab {
    async fn start(adjust: impl FnOnce(&mut Value)) -> Self {
        Self::start_as(adjust, |launch| launch).await
    }

    /// The same, with a say in how the node is launched.
    async fn start_as(
        adjust: impl FnOnce(&mut Value),
        launched: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let gateway = common::gateway().await;
        let home = Home::new();
        let mut config = browser::config(browser::free_gateway_port());
        adjust(&mut config);
        home.configure(&config);
        let node = launched(home.run(gateway.port())).start();
        let view = gateway.admit(DEADLINE).await.unwrap();
        node.line(CONNECTED).await;
        Self {
            gateway,
            home,
            node,
            view,
            site: browser::site::Site::start().await,
        }
    }

    /// The `result` of a route, or its `error`.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let params = json!({
            "method": method, "path": path, "body": body, "errorEnvelope": "browser-v1",
            // A busy machine is none of what is tested.
            "timeoutMs": 120_000,
        });
        let outcome = invoke::call(&self.gateway, &self.view, "browser.proxy", &params).await;
        let mut payload = outcome.payload();
        match payload.get_mut("result") {
            Some(result) => result.take(),
            None => payload,
        }
    }

    async fn open(&self, path: &str) -> Value {
        self.ask("POST", "/tabs/open", self.page(path)).await
    }

    /// What `/tabs/open` is asked for a page of the site.
    fn page(&self, path: &str) -> Value {
        json!({ "url": self.site.url(path) })
    }

    fn profile(&self) -> String {
        self.home
            .state_dir()
            .join("browser/openclaw/user-data")
            .display()
            .to_string()
    }
}

/// The processes whose command line names `what`.
fn processes(what: &str) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| String::from_utf8_lossy(&words).contains(what))
        })
        .collect()
}

async fn nobody_is_left(what: &str) {
    until("the browser is gone", || {
        processes(what).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_browser_starts_with_the_first_call_that_needs_it_and_ends_with_the_node() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|_| ()).await;
    let status = lab.ask("GET", "/", Value::Null).await;
    assert_eq!(status["running"], false, "{status}");
    assert_eq!(
        lab.ask("GET", "/tabs", Value::Null).await["tabs"],
        json!([])
    );
    assert_eq!(processes(&lab.profile()), [0; 0]);
    assert!(!lab.home.state_dir().join("browser").exists());

    let tab = lab.open("/index.html").await;
    assert_eq!(tab["url"], lab.site.url("/index.html"), "{tab}");
    assert_ne!(processes(&lab.profile()), [0; 0]);
    lab.node.line("browser.noSandbox is set").await;

    let profile = lab.profile();
    lab.node.stop().await;
    assert_eq!(processes(&profile), [0; 0], "the node waits for its end");
}

/// Where a file of an upload is, if it is anywhere; its name is its own.
fn staged(name: &str) -> Option<PathBuf> {
    [
        "/tmp/openclaw".to_owned(),
        format!("/tmp/openclaw-{}", Uid::current()),
    ]
    .into_iter()
    .filter_map(|folder| std::fs::read_dir(format!("{folder}/uploads/.proxy-uploads")).ok())
    .flatten()
    .map(|upload| upload.unwrap().path().join("0").join(name))
    .find(|file| file.exists())
}

#[tokio::test]
async fn uploads_go_with_the_node() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|_| ()).await;
    lab.open("/form.html").await;
    let names = [1, 2].map(|number| format!("{number}-{}.txt", std::process::id()));
    let upload = |name: &str, body: Value| {
        json!({
            "method": "POST",
            "path": "/hooks/file-chooser",
            "body": body,
            "upload": {
                "envelope": "browser-upload-v1",
                "files": [{"name": name, "contentBase64": "aGVsbG8="}],
            },
        })
    };
    let command = "browser.proxy.upload.v1";
    let next = upload(&names[0], json!({}));
    let outcome = invoke::call(&lab.gateway, &lab.view, command, &next).await;
    assert_eq!(outcome.payload()["result"]["ok"], true);
    let (first, second) = (&names[0], &names[1]);
    assert!(staged(first).is_some());
    // Its call is under way when the node ends: the element does not come.
    let never = upload(second, json!({"element": "#never"}));
    invoke::send(&lab.gateway, &lab.view, command, invoke::params(&never)).await;
    until("the second one is there", || staged(second)).await;
    lab.node.stop().await;
    assert_eq!(staged(first), None);
    assert_eq!(staged(second), None);
}

#[tokio::test]
async fn a_browser_that_died_is_started_again() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|_| ()).await;
    lab.open("/index.html").await;
    let pid = lab.ask("GET", "/", Value::Null).await["pid"]
        .as_i64()
        .unwrap();
    let socket = std::fs::read_link(format!("{}/SingletonSocket", lab.profile())).unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    nobody_is_left(&lab.profile()).await;
    let tab = lab.open("/form.html").await;
    assert!(!socket.parent().unwrap().exists(), "its socket is removed");
    assert_eq!(tab["url"], lab.site.url("/form.html"), "{tab}");
    let again = lab.ask("GET", "/", Value::Null).await;
    assert_ne!(again["pid"].as_i64().unwrap(), pid);
    lab.node.stop().await;
}

#[tokio::test]
async fn what_a_killed_node_left_running_is_ended_by_the_next_start() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|_| ()).await;
    lab.open("/index.html").await;
    let profile = lab.profile();
    let before = processes(&profile);
    assert_ne!(before, [0; 0]);
    let socket = std::fs::read_link(format!("{profile}/SingletonSocket")).unwrap();
    lab.node.kill().await;
    let node = lab.home.run(lab.gateway.port()).start();
    let view = common::back_after(&lab.gateway, lab.view.connection).await;
    node.line(CONNECTED).await;
    until("the old browser is gone", || {
        let left = processes(&profile);
        before.iter().all(|pid| !left.contains(pid)).then_some(())
    })
    .await;
    let start = json!({ "method": "POST", "path": "/start" });
    let started = invoke::call(&lab.gateway, &view, "browser.proxy", &start).await;
    assert_eq!(started.payload()["result"]["ok"], true);
    assert!(!socket.parent().unwrap().exists(), "its socket is removed");
    node.stop().await;
}

/// A browser that waits for a word before it starts, as on a slow machine.
struct Slow {
    folder: tempfile::TempDir,
}

impl Slow {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("chromium");
        let text = format!(
            "#!/bin/sh\necho >> {folder}/starts\nwhile ! [ -e {folder}/go ]; do sleep 0.02; done\n\
             exec {} \"$@\"\n",
            browser::CHROMIUM,
            folder = folder.path().display(),
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("chromium").display().to_string()
    }

    fn starts(&self) -> usize {
        let starts = std::fs::read(self.folder.path().join("starts"));
        starts.map_or(0, |starts| starts.len())
    }

    fn go(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }
}

#[tokio::test]
async fn a_start_outlives_a_call_that_runs_out_of_time() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let slow = Slow::new();
    let lab = Lab::start(|config| config["browser"]["executablePath"] = slow.path().into()).await;
    let call = json!({
        "method": "POST", "path": "/tabs/open", "body": lab.page("/index.html"), "timeoutMs": 300,
    });
    for _ in 0..2 {
        let late = invoke::call(&lab.gateway, &lab.view, "browser.proxy", &call).await;
        let (_, message) = late.error();
        assert!(
            message.contains("timed out for POST /tabs/open"),
            "{message}"
        );
        until("it is started", || (slow.starts() == 1).then_some(())).await;
    }
    slow.go();
    let tab = lab.open("/index.html").await;
    assert_eq!(tab["url"], lab.site.url("/index.html"), "{tab}");
    assert_eq!(slow.starts(), 1);
    lab.node.stop().await;
}

#[tokio::test]
async fn a_browser_that_is_starting_can_be_stopped_and_ends_with_the_node() {
    let slow = Slow::new();
    let lab = Lab::start(|config| config["browser"]["executablePath"] = slow.path().into()).await;
    let open = json!({ "method": "POST", "path": "/tabs/open", "body": lab.page("/index.html") });
    let send = async || {
        let params = invoke::params(&open);
        invoke::send(&lab.gateway, &lab.view, "browser.proxy", params).await
    };
    let begins = send().await;
    until("it is started", || (slow.starts() == 1).then_some(())).await;
    let waits = send().await;
    let stopped = lab.ask("POST", "/stop", Value::Null).await;
    assert_eq!(stopped["stopped"], true, "{stopped}");
    assert_eq!(processes(&slow.path()), [0; 0]);
    for id in [begins, waits] {
        let refused = invoke::outcome(&lab.gateway, &id).await;
        let (_, message) = refused.error();
        assert!(
            message.contains("was stopped while it started"),
            "{message}"
        );
    }
    assert_eq!(slow.starts(), 1);

    send().await;
    until("it is started again", || (slow.starts() == 2).then_some(())).await;
    lab.node.stop().await;
    assert_eq!(processes(&slow.path()), [0; 0]);
}

#[tokio::test]
async fn how_long_a_start_may_take_is_configured() {
    let slow = Slow::new();
    let lab = Lab::start(|config| {
        config["browser"]["executablePath"] = slow.path().into();
        config["browser"]["localLaunchTimeoutMs"] = 100.into();
    })
    .await;
    let refused = lab.open("/index.html").await;
    let message = refused["error"]["body"]["error"].as_str().unwrap();
    let remedy = "It did not listen within 100 ms. If this machine is slow, raise \
                  browser.localLaunchTimeoutMs.";
    assert!(message.contains(remedy), "{message}");
    nobody_is_left(&slow.path()).await;
    lab.node.stop().await;
}

#[tokio::test]
async fn at_most_eight_pages_stay_open() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|_| ()).await;
    for _ in 0..10 {
        lab.open("/index.html").await;
    }
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let tabs = lab.ask("GET", "/tabs", Value::Null).await;
        if tabs["tabs"].as_array().unwrap().len() == 8 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{tabs}");
    }
    lab.node.stop().await;
}

#[tokio::test]
async fn without_a_browser_a_call_names_the_remedy() {
    let lab = Lab::start(|config| {
        config["browser"]["executablePath"] = "/nonexistent/chromium".into();
    })
    .await;
    let refused = lab.open("/index.html").await;
    let message = refused["error"]["body"]["error"].as_str().unwrap();
    assert_eq!(
        message,
        "Error: browser.executablePath not found: /nonexistent/chromium"
    );
    let doctor = lab.ask("GET", "/doctor", Value::Null).await;
    assert_eq!(doctor["ok"], false);
    let hints: Vec<&Value> = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "fail")
        .map(|check| &check["fixHint"])
        .collect();
    assert_eq!(hints.len(), 1, "{doctor}");
    lab.node.stop().await;
}

#[tokio::test]
async fn a_redirect_into_a_private_network_is_refused() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start(|config| {
        // Only this name may be private, so that a server of this test can be asked at all.
        config["browser"]["ssrfPolicy"] = json!({ "allowedHostnames": ["localhost"] });
    })
    .await;
    let port = lab.site.authority.rsplit(':').next().unwrap().to_owned();
    let allowed = format!("http://localhost:{port}/index.html");
    let opened = lab
        .ask("POST", "/tabs/open", json!({ "url": allowed }))
        .await;
    assert_eq!(opened["url"], allowed, "{opened}");
    let redirected = format!("http://localhost:{port}/to/{}", lab.site.authority);
    for (path, what) in [("/tabs/open", "open"), ("/navigate", "navigate")] {
        let refused = lab.ask("POST", path, json!({ "url": redirected })).await;
        assert_eq!(refused["error"]["status"], 400, "{what}: {refused}");
        assert_eq!(
            refused["error"]["body"]["reason"], "navigation_blocked",
            "{what}: {refused}"
        );
    }
    // A page cannot go there by itself either: nobody so much as calls.
    let forbidden = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let go = format!(
        "location.href = 'http://{}/'",
        forbidden.local_addr().unwrap()
    );
    let body = json!({ "kind": "evaluate", "fn": format!("() => {{ {go} }}") });
    let asked = lab.ask("POST", "/act", body).await;
    assert_eq!(asked["ok"], true, "{asked}");
    let called = forbidden.accept().map_err(|error| error.kind());
    assert_eq!(called.err(), Some(std::io::ErrorKind::WouldBlock));
    lab.node.stop().await;
}

/// A browser that somebody else started.
struct Foreign {
    process: tokio::process::Child,
    _data: tempfile::TempDir,
    port: u16,
}

impl Foreign {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = browser::cdp_port(browser::free_gateway_port());
        let process = tokio::process::Command::new(browser::CHROMIUM)
            .args(["--headless=new", "--no-sandbox", "--no-first-run"])
            .arg(format!("--remote-debugging-port={port}"))
            .arg(format!("--user-data-dir={}", data.path().display()))
            .arg("about:blank")
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until("the browser listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .await;
        Self {
            process,
            _data: data,
            port,
        }
    }

    /// Ends it, so that its folder can be removed. After TERM it would leave another one.
    async fn end(mut self) {
        let pid = Pid::from_raw(self.process.id().unwrap().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.process.wait().await.unwrap();
    }
}

#[tokio::test]
async fn a_foreign_browser_is_let_go_of() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let foreign = Foreign::start().await;
    let lab = Lab::start(|config| {
        config["browser"]["attachOnly"] = true.into();
        config["browser"]["cdpUrl"] = format!("http://127.0.0.1:{}", foreign.port).into();
        // Documents are looked at, for which the browser holds them.
        config["browser"]["ssrfPolicy"] = json!({ "allowedHostnames": ["localhost"] });
    })
    .await;
    let port = lab.site.authority.rsplit(':').next().unwrap().to_owned();
    let url = format!("http://localhost:{port}/index.html");
    let opened = lab.ask("POST", "/tabs/open", json!({ "url": url })).await;
    assert_eq!(opened["url"], url, "{opened}");
    // Nobody answers there, so that the page stays and asks again.
    let visited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    visited.set_nonblocking(true).unwrap();
    let mut visits = Vec::new();
    let port = visited.local_addr().unwrap().port();
    let go = format!("location.href = 'http://localhost:{port}/'");
    let script = format!("() => {{ setInterval(() => {{ {go} }}, 100) }}");
    let body = json!({ "kind": "evaluate", "fn": script });
    let asked = lab.ask("POST", "/act", body).await;
    assert_eq!(asked["ok"], true, "{asked}");
    let stopped = lab.ask("POST", "/stop", Value::Null).await;
    assert_eq!(stopped["stopped"], true, "{stopped}");
    while let Ok(visit) = visited.accept() {
        visits.push(visit);
    }
    for _ in 0..3 {
        visits.push(until("the page goes on", || visited.accept().ok()).await);
    }
    lab.node.stop().await;
    foreign.end().await;
}

#[tokio::test]
async fn a_cancelled_call_ends_and_the_browser_answers_on() {
    let Some(_turn) = browser::turn().await else {
        return;
    };
    let lab = Lab::start_as(
        |_| (),
        |launch| launch.env("OPENCLAW_NODE_LOG", "info,openclaw_node_actors=debug"),
    )
    .await;
    lab.open("/index.html").await;
    let wait = json!({
        "method": "POST", "path": "/act", "timeoutMs": 60_000,
        "body": {"kind": "wait", "text": "never there", "timeoutMs": 60_000},
    });
    let id = invoke::send(
        &lab.gateway,
        &lab.view,
        "browser.proxy",
        invoke::params(&wait),
    )
    .await;
    let status = lab.ask("GET", "/", Value::Null).await;
    assert_eq!(status["running"], true);
    assert_eq!(lab.node.lines_with("browser call cancelled"), [""; 0]);
    invoke::cancel(&lab.gateway, &lab.view, &id).await;
    let cancelled = lab.node.line("browser call cancelled").await;
    assert!(cancelled.contains(&id), "{cancelled}");
    let text = lab.ask("GET", "/text", Value::Null).await;
    assert!(text["text"].as_str().unwrap().contains("Welcome"), "{text}");
    assert_eq!(invoke::answers_to(&lab.gateway, &id).await, 0);
    lab.node.stop().await;
}

#[tokio::test]
async fn a_node_without_the_proxy_does_not_declare_it() {
    for config in [
        json!({ "nodeHost": {"browserProxy": {"enabled": false}} }),
        json!({ "browser": {"enabled": false} }),
    ] {
        let gateway = common::gateway().await;
        let home = Home::new();
        home.configure(&config);
        let node = home.run(gateway.port()).start();
        let view = gateway.admit(DEADLINE).await.unwrap();
        assert!(
            !view
                .commands
                .iter()
                .any(|name| name.starts_with("browser.")),
            "{:?}",
            view.commands
        );
        node.stop().await;
    }
    let gateway = common::gateway().await;
    let (_home, node, view) = common::admitted(&gateway).await;
    for name in ["browser.proxy", "browser.proxy.upload.v1"] {
        assert!(view.commands.iter().any(|command| command == name));
    }
    node.stop().await;
}
