//! A real Chromium, a site on loopback, and the routes that a gateway would call.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node_config::BrowserSettings;
use openclaw_node_browser::browser::Browser;
use openclaw_node_browser::control::{Control, ControlOptions, Places};
use openclaw_node_browser::executable;
use openclaw_node_browser::proxy::{CommandError, ProxyCommand, call};
use openclaw_node_browser::request::{Method, Reply, Request};
use openclaw_node_browser::routes::dispatch;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Set where tests must not be skipped, as in `.ci/run`.
const REQUIRED: &str = "OPENCLAW_NODE_REQUIRE_CHROMIUM";

/// One browser at a time in a test binary: a start takes all that a small machine has, and two of
/// them each other's time.
static TURN: Semaphore = Semaphore::const_new(1);

/// How long a browser may take to start: a busy machine is none of what is tested.
const START: Duration = Duration::from_secs(120);

/// Pages by path.
type Pages = HashMap<&'static str, &'static str>;

/// A browser with one page open.
pub(crate) struct Harness {
    control: Control,
    browser: Rc<Browser>,
    origin: String,
    target: String,
    _state: TempDir,
}

/// Runs a test with a browser that shows the first of the pages.
pub(crate) fn with_pages(
    pages: &[(&'static str, &'static str)],
    settings: impl FnOnce(&mut BrowserSettings),
    test: impl AsyncFnOnce(&Harness),
) {
    if !has_browser() {
        return;
    }
    let pages: Pages = pages.iter().copied().collect();
    let start = *pages.keys().find(|path| **path == "/").unwrap_or(&"/");
    let mut browser_settings = BrowserSettings {
        headless: Some(true),
        // Tests may run as root, where Chromium has no sandbox.
        no_sandbox: true,
        allow_private_network: Some(true),
        launch_timeout: START,
        cdp_ready_timeout: START,
        ..BrowserSettings::default()
    };
    settings(&mut browser_settings);
    actix_rt::System::new().block_on(async {
        let _turn = TURN.acquire().await.unwrap();
        let harness = Harness::start(pages, start, browser_settings).await;
        test(&harness).await;
        harness.control.shut_down().await;
    });
}

/// Whether there is a browser; a line says that a test is skipped where there is none.
fn has_browser() -> bool {
    let found = executable::find(None);
    if let Err(error) = &found {
        let line = format!("skipped: {error}\n");
        assert!(std::env::var_os(REQUIRED).is_none(), "{line}");
        // Past the harness, which shows only what failed.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    found.is_ok()
}

impl Harness {
    async fn start(pages: Pages, start: &str, mut settings: BrowserSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        actix_rt::spawn(serve(listener, Rc::new(pages)));
        let state = tempfile::tempdir().unwrap();
        // The browser's port is the gateway's plus 11.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        settings.gateway_port = free.local_addr().unwrap().port() - 11;
        drop(free);
        let control = Control::new(ControlOptions {
            settings,
            places: Places {
                state_dir: state.path().join("state"),
                temporary: state.path().join("tmp"),
            },
            environment: std::env::vars_os().collect(),
            headless_override: None,
        })
        .unwrap();
        let browser = control.browser("openclaw").unwrap();
        let mut harness = Self {
            control,
            browser,
            origin,
            target: String::new(),
            _state: state,
        };
        harness.target = harness.open(start).await;
        harness
    }

    /// Opens a page of the site in a new tab; returns the tab.
    pub(crate) async fn open(&self, path: &str) -> String {
        let body = json!({"url": self.url(path)});
        let opened = self.post("/tabs/open", body).await.unwrap();
        let target = opened["targetId"].as_str().unwrap().to_owned();
        let wait = json!({"kind": "wait", "loadState": "load", "targetId": target});
        self.post("/act", wait).await.unwrap();
        target
    }

    /// The address of a page of the site.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// A GET of any route.
    pub(crate) async fn get(&self, path: &str, query: Value) -> Reply {
        self.dispatch(Method::Get, path, query, json!({})).await
    }

    /// A POST to any route.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.dispatch(Method::Post, path, json!({}), body).await
    }

    async fn dispatch(&self, method: Method, path: &str, query: Value, body: Value) -> Reply {
        let request = Request {
            method,
            path: path.to_owned(),
            query: members(query),
            body: members(body),
            timeout: Duration::from_secs(60),
            upload: None,
        };
        dispatch(&self.control, &self.browser, &request).await
    }

    /// A command with an upload of one file; what it answers.
    pub(crate) async fn upload(
        &self,
        target: &str,
        content: &[u8],
        body: Value,
    ) -> Result<Value, CommandError> {
        let mut body = members(body);
        body.insert("targetId".to_owned(), json!(target));
        let content = STANDARD.encode(content);
        let params = json!({
            "method": "POST",
            "path": "/hooks/file-chooser",
            "body": body,
            "upload": {
                "envelope": "browser-upload-v1",
                "files": [{"name": "a.txt", "contentBase64": content}],
            },
        });
        let params = params.to_string();
        let answer = call(&self.control, ProxyCommand::UploadV1, Some(&params)).await?;
        Ok(serde_json::from_str(&answer).unwrap())
    }

    /// How many uploads are staged.
    pub(crate) fn staged(&self) -> usize {
        let folder = self.control.places().uploads_dir().join(".proxy-uploads");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    }

    /// The same, once it is what it should be.
    pub(crate) async fn until_staged(&self, count: usize) {
        let wait = async {
            while self.staged() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{} are staged, not {count}", self.staged());
    }

    /// The tab that shows the first page.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The port of the browser.
    pub(crate) fn port(&self) -> u16 {
        self.browser.profile().endpoint.as_ref().unwrap().port()
    }

    /// What else can drive the browser: without a browser of its own, in the same places.
    pub(crate) async fn attached(&self) -> Self {
        self.attached_through(self.port())
    }

    /// The same, through another port.
    pub(crate) fn attached_through(&self, port: u16) -> Self {
        let mut options = self.browser.options().clone();
        // Its last part is added again.
        options.places.temporary.pop();
        let control = Control::new(ControlOptions {
            settings: BrowserSettings {
                attach_only: true,
                cdp_url: Some(format!("http://127.0.0.1:{port}")),
                ..options.settings
            },
            ..options
        })
        .unwrap();
        Self {
            browser: control.browser("openclaw").unwrap(),
            control,
            origin: self.origin.clone(),
            target: self.target.clone(),
            _state: tempfile::tempdir().unwrap(),
        }
    }

    /// Ends what the node would end.
    pub(crate) async fn shut_down(&self) {
        self.control.shut_down().await;
    }

    /// A file that pages may be given.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        let folder = self.control.places().inbound_dir();
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, name).unwrap();
        file
    }

    /// A snapshot of the page.
    pub(crate) async fn snapshot(&self, query: Value) -> Value {
        let mut query = members(query);
        query.insert("targetId".to_owned(), json!(self.target));
        self.get("/snapshot", Value::Object(query)).await.unwrap()
    }

    /// The text of a snapshot of the page.
    pub(crate) async fn text(&self, query: Value) -> String {
        self.snapshot(query).await["snapshot"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// An act on the page.
    pub(crate) async fn act(&self, act: Value) -> Reply {
        let mut act = members(act);
        act.insert("targetId".to_owned(), json!(self.target));
        self.post("/act", Value::Object(act)).await
    }

    /// What a script of the page says.
    pub(crate) async fn eval(&self, script: &str) -> Value {
        let evaluated = self.act(json!({"kind": "evaluate", "fn": script})).await;
        evaluated.unwrap()["result"].clone()
    }

    /// The ref of the line of a snapshot that holds the words.
    pub(crate) async fn reference(&self, words: &str) -> String {
        let text = self.text(json!({"interactive": true})).await;
        let line = text.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("no {words} in:\n{text}"));
        let (_, rest) = line.split_once("[ref=").unwrap();
        rest.split_once(']').unwrap().0.to_owned()
    }
}

/// A port that leads to another until it is cut.
pub(crate) struct Relay {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = actix_rt::spawn(async move {
            let mut passed = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                passed.spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
                    copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
        Self { port, task }
    }

    /// Ends every connection.
    pub(crate) fn cut(self) {
        self.task.abort();
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} has no members"),
    }
}

async fn serve(listener: TcpListener, pages: Rc<Pages>) {
    while let Ok((connection, _)) = listener.accept().await {
        let pages = Rc::clone(&pages);
        actix_rt::spawn(async move {
            // A browser that hangs up needs no answer.
            answer(connection, &pages).await.ok();
        });
    }
}

async fn answer(mut connection: TcpStream, pages: &Pages) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or("/");
    let path = path.split('?').next().unwrap_or("/");
    let (status, body) = match pages.get(path) {
        Some(page) => ("200 OK", *page),
        None => ("404 Not Found", ""),
    };
    let attachment = if path.ends_with(".bin") {
        "content-disposition: attachment\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\n{attachment}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(body.as_bytes()).await?;
    connection.shutdown().await
}
