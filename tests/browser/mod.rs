//! Recorded calls of `browser.proxy`, replayed in order: what was asked, and what upstream's node
//! answered (browser proxy; recorded.jsonl).
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod comparison;
pub(crate) mod replay;
pub(crate) mod site;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The browser that tests drive.
pub(crate) const CHROMIUM: &str = "/usr/bin/chromium";
/// Set where tests must not be skipped, as in `.ci/run`.
const REQUIRED: &str = "OPENCLAW_NODE_REQUIRE_CHROMIUM";

/// From a gateway's port to the port of the browser (browser proxy §3.1).
const CDP_PORT_OFFSET: u16 = 11;

/// A `gateway.port` whose browser port is free.
pub(crate) fn free_gateway_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        if port > CDP_PORT_OFFSET + 1024 {
            return port - CDP_PORT_OFFSET;
        }
    }
}

/// The browser's port that goes with a `gateway.port`.
pub(crate) fn cdp_port(gateway_port: u16) -> u16 {
    gateway_port + CDP_PORT_OFFSET
}

/// The configuration that the calls were recorded with.
pub(crate) fn config(gateway_port: u16) -> Value {
    json!({
        "gateway": {"port": gateway_port},
        "browser": {
            "executablePath": CHROMIUM,
            "headless": true,
            // Tests may run as root, where Chromium has no sandbox.
            "noSandbox": true,
            // A busy machine is none of what is tested.
            "localLaunchTimeoutMs": 120_000,
            "localCdpReadyTimeoutMs": 120_000,
            "ssrfPolicy": {"dangerouslyAllowPrivateNetwork": true},
        },
    })
}

/// One browser at a time in a test binary: a start takes all that a small machine has, and two of
/// them each other's time.
static TURN: Semaphore = Semaphore::const_new(1);

/// A turn at the browser; none where [`has_chromium`] says that there is no browser.
pub(crate) async fn turn() -> Option<SemaphorePermit<'static>> {
    if !has_chromium() {
        return None;
    }
    Some(TURN.acquire().await.unwrap())
}

/// Whether there is a browser; a line says that a test is skipped where there is none.
pub(crate) fn has_chromium() -> bool {
    let is_there = Path::new(CHROMIUM).exists();
    if !is_there {
        let line = format!("skipped, there is no {CHROMIUM} (Debian's package chromium)\n");
        assert!(std::env::var_os(REQUIRED).is_none(), "{line}");
        // Past the harness, which shows only what failed.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    is_there
}
