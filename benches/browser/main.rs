//! Measures what an agent waits for when it drives the browser: this node and, where it is
//! installed, OpenClaw's own node host, each through a loopback gateway of its own, in turns.
//!
//! `cargo bench --bench browser` prints a Markdown table of medians. Beside each wait stands what the
//! node itself computed for it: the rest is the browser, the page, and waits that belong to the act.
//! It needs Chromium. `OPENCLAW_LAB` is as in the `node` benchmark.

#[allow(dead_code, reason = "the node benchmark uses all of it")]
#[path = "../node/contestant.rs"]
mod contestant;
#[allow(dead_code, reason = "the node benchmark uses all of it")]
#[path = "../node/process_tree.rs"]
mod process_tree;
#[allow(dead_code, reason = "the node benchmark uses all of it")]
#[path = "../node/samples.rs"]
mod samples;
mod site;

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::contestant::{Contestant, Launcher, Upstream};
use crate::samples::Samples;
use crate::site::Site;

/// Whatever went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The OpenClaw release to compare with.
const UPSTREAM_RELEASE: &str = "2026.9.6";
/// How often everybody gets a turn.
const ROUNDS: usize = 15;
/// How often a browser is started anew; OpenClaw's own takes seconds.
const STARTS: usize = 5;
/// From the gateway's port to the browser's (browser proxy §3.1).
const CDP_PORT_OFFSET: u16 = 11;

/// What is asked for, in this order; a page is open.
const CALLS: [(&str, &str, &str); 6] = [
    ("snapshot", "GET", "/snapshot"),
    ("snapshot, interactive", "GET", "/snapshot?interactive"),
    ("screenshot", "POST", "/screenshot"),
    ("click", "POST", "/act"),
    ("text", "GET", "/text"),
    ("tabs", "GET", "/tabs"),
];

/// One row of a column.
#[derive(Default)]
struct Figure {
    waited: Samples,
    computed: Duration,
}

/// A contestant and what was measured of it.
struct Column {
    contestant: Contestant,
    start: Figure,
    calls: [Figure; CALLS.len()],
    pss_bytes: u64,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let measured = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure()));
    match measured {
        Ok(report) => {
            std::io::stdout().lock().write_all(report.as_bytes()).ok();
            ExitCode::SUCCESS
        }
        Err(error) => {
            note(&format!("benchmark failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn note(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

fn config() -> Result<Value> {
    let port = loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        if port > CDP_PORT_OFFSET + 1024 {
            break port - CDP_PORT_OFFSET;
        }
    };
    Ok(json!({
        "gateway": {"port": port},
        "browser": {
            "headless": true,
            "noSandbox": true,
            "ssrfPolicy": {"dangerouslyAllowPrivateNetwork": true},
        },
    }))
}

async fn measure() -> Result<String> {
    let site = Site::start().await?;
    let mut columns = Vec::new();
    for launcher in launchers() {
        note(&format!("starting {}", launcher.name()));
        let contestant = Contestant::admit_with(launcher, &config()?.to_string()).await?;
        let column = Column {
            contestant,
            start: Figure::default(),
            calls: Default::default(),
            pss_bytes: 0,
        };
        // The first start of a profile is not what an agent waits for every day.
        column.open(&site).await?;
        columns.push(column);
    }
    for round in 1..=STARTS {
        note(&format!("start {round} of {STARTS}"));
        for column in &mut columns {
            column.measure_start(&site).await?;
        }
    }
    for round in 1..=ROUNDS {
        note(&format!("round {round} of {ROUNDS}"));
        for column in &mut columns {
            column.measure_calls().await?;
        }
    }
    for column in &mut columns {
        column.pss_bytes = column
            .contestant
            .process_tree()?
            .own()
            .footprint()?
            .pss_bytes;
    }
    let text = report(&columns)?;
    for column in columns {
        column.contestant.stop().await?;
    }
    Ok(text)
}

fn launchers() -> Vec<Launcher> {
    let mut launchers = vec![Launcher::ThisNode(PathBuf::from(env!(
        "CARGO_BIN_EXE_openclaw-node"
    )))];
    let lab = std::env::var_os("OPENCLAW_LAB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openclaw-lab"),
        PathBuf::from,
    );
    match Upstream::find(&lab, UPSTREAM_RELEASE) {
        Ok(upstream) => launchers.push(Launcher::Upstream(upstream)),
        Err(error) => note(&format!("without OpenClaw's own node host: {error}")),
    }
    launchers
}

impl Column {
    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        let (path, query) = match path.split_once('?') {
            Some((path, name)) => (path, json!({ name: true })),
            None => (path, json!({})),
        };
        let params = json!({
            "method": method, "path": path, "query": query, "body": body, "timeoutMs": 55_000,
        });
        let payload = self.contestant.invoke("browser.proxy", params).await?;
        Ok(payload.get("result").cloned().unwrap_or_default())
    }

    async fn open(&self, site: &Site) -> Result<()> {
        let url = site.url();
        self.ask("POST", "/tabs/open", json!({ "url": url }))
            .await?;
        self.ask("GET", "/snapshot", Value::Null).await?;
        Ok(())
    }

    /// What the node itself has computed so far, its browser not counted.
    fn computed(&self) -> Result<Duration> {
        self.contestant.process_tree()?.own().cpu_time()
    }

    async fn measure_start(&mut self, site: &Site) -> Result<()> {
        self.ask("POST", "/stop", json!({})).await?;
        let computed = self.computed()?;
        let began = Instant::now();
        let url = site.url();
        self.ask("POST", "/tabs/open", json!({ "url": url }))
            .await?;
        self.start.waited.push(began.elapsed());
        self.start.computed += self.computed()?.saturating_sub(computed);
        self.ask("GET", "/snapshot", Value::Null).await?;
        Ok(())
    }

    async fn measure_calls(&mut self) -> Result<()> {
        for (index, (_, method, path)) in CALLS.into_iter().enumerate() {
            let body = match path {
                "/act" => json!({ "kind": "click", "selector": "#b1" }),
                _ => json!({}),
            };
            let computed = self.computed()?;
            let began = Instant::now();
            self.ask(method, path, body).await?;
            let waited = began.elapsed();
            let computed = self.computed()?.saturating_sub(computed);
            if let Some(figure) = self.calls.get_mut(index) {
                figure.waited.push(waited);
                figure.computed += computed;
            }
        }
        Ok(())
    }
}

fn report(columns: &[Column]) -> Result<String> {
    let mut text = String::from("| figure |");
    for column in columns {
        write!(text, " {} |", column.contestant.name())?;
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    let figures = |column: &Column, row: usize| -> String {
        let figure = match row {
            0 => &column.start,
            row => match column.calls.get(row - 1) {
                Some(figure) => figure,
                None => return String::new(),
            },
        };
        let count = u32::try_from(figure.waited.len()).unwrap_or(1).max(1);
        format!(
            "{:.1} ms, {:.1} ms of it in the node",
            figure.waited.p50().as_secs_f64() * 1000.0,
            (figure.computed / count).as_secs_f64() * 1000.0
        )
    };
    let names = std::iter::once("cold start to an open page").chain(CALLS.map(|call| call.0));
    for (row, name) in names.enumerate() {
        write!(text, "\n| {name} |")?;
        for column in columns {
            write!(text, " {} |", figures(column, row))?;
        }
    }
    text.push_str("\n| memory with a browser in use (PSS), browser excluded |");
    for column in columns {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mebibytes = column.pss_bytes as f64 / 1024.0 / 1024.0;
        write!(text, " {mebibytes:.1} MiB |")?;
    }
    text.push_str("\n\nWaits are medians, what the node computed is a mean with a resolution of 10 ms / rounds.\n");
    Ok(text)
}
