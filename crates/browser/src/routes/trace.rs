//! `/trace/start` and `/trace/stop`: the browser's own trace, as a zip file (browser proxy §7).

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::capture::write;
use crate::browser::Browser;
use crate::request::{Reply, Request, RouteError};
use crate::routes::Page;
use crate::tab::text;

/// How long the browser may take to hand a trace over.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a trace is read at once, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The largest trace, in bytes; a larger one could not be sent anyway.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What is traced always, and with screenshots.
const CATEGORIES: [&str; 5] = [
    "devtools.timeline",
    "blink.user_timing",
    "loading",
    "latencyInfo",
    "v8.execute",
];
const SCREENSHOTS: &str = "disabled-by-default-devtools.screenshot";

/// `POST /trace/start`.
///
/// # Errors
/// A trace that runs already.
pub async fn start(browser: &Rc<Browser>, request: &Request) -> Reply {
    let page = Page::of(browser, request).await?;
    if page.live.is_tracing.replace(true) {
        return Err(RouteError::failed(
            "Trace already running. Stop the current trace before starting a new one.",
        ));
    }
    let mut categories = CATEGORIES.to_vec();
    if request.flag("screenshots") == Some(true) {
        categories.push(SCREENSHOTS);
    }
    let params = json!({
        "transferMode": "ReturnAsStream",
        "traceConfig": {"includedCategories": categories},
    });
    let session = page.live.cdp().browser();
    if let Err(error) = session.call("Tracing.start", params).await {
        page.live.is_tracing.set(false);
        return Err(error.into());
    }
    Ok(page.answer(json!({})))
}

/// `POST /trace/stop`.
///
/// # Errors
/// No trace that runs.
pub async fn stop(browser: &Rc<Browser>, request: &Request) -> Reply {
    let page = Page::of(browser, request).await?;
    if !page.live.is_tracing.replace(false) {
        return Err(RouteError::failed(
            "No active trace. Start a trace before stopping it.",
        ));
    }
    let session = page.live.cdp().browser();
    let mut events = session.events();
    session.call("Tracing.end", json!({})).await?;
    let deadline = Instant::now() + STOP_DEADLINE;
    let stream = loop {
        let event = timeout_at(deadline, events.recv()).await;
        match event {
            Ok(Ok(event)) if event.method == "Tracing.tracingComplete" => {
                break text(&event.params, "stream").to_owned();
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => {
                return Err(RouteError::failed(
                    "the browser did not hand the trace over",
                ));
            }
        }
    };
    let mut trace = Vec::new();
    loop {
        let params = json!({"handle": stream, "size": CHUNK_BYTES});
        let chunk = session.call("IO.read", params).await?;
        trace.extend_from_slice(text(&chunk, "data").as_bytes());
        if chunk.get("eof").and_then(Value::as_bool) != Some(false) || trace.len() > MAX_BYTES {
            break;
        }
    }
    session.call("IO.close", json!({"handle": stream})).await?;
    let folder = &browser.options().places.temporary;
    let path = folder.join(format!("browser-trace-{}.zip", Uuid::new_v4()));
    write(folder, &path, &zipped("trace.json", &trace))
        .map_err(|error| RouteError::failed(format_args!("{}: {error}", path.display())))?;
    Ok(page.answer(json!({"path": path.to_string_lossy()})))
}

/// A zip file with one file in it, stored as it is (APPNOTE.TXT §4.3).
fn zipped(name: &str, content: &[u8]) -> Vec<u8> {
    let checksum = crc32(content).to_le_bytes();
    let size = u32::try_from(content.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes();
    let name_length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
    // Version 2.0, no flags, stored, 1980-01-01 00:00.
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    common.extend_from_slice(&checksum);
    common.extend_from_slice(&size);
    common.extend_from_slice(&size);
    common.extend_from_slice(&name_length);
    common.extend_from_slice(&[0, 0]);
    let mut file = b"PK\x03\x04".to_vec();
    file.extend_from_slice(&common);
    file.extend_from_slice(name.as_bytes());
    file.extend_from_slice(content);
    let directory = file.len();
    file.extend_from_slice(b"PK\x01\x02\x14\x00");
    file.extend_from_slice(&common);
    // No comment, disk 0, no attributes, the entry at 0.
    file.extend_from_slice(&[0; 14]);
    file.extend_from_slice(name.as_bytes());
    let directory_size = file.len() - directory;
    file.extend_from_slice(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    for number in [directory_size, directory] {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        file.extend_from_slice(&number.to_le_bytes());
    }
    file.extend_from_slice(&[0, 0]);
    file
}

/// The checksum of zip files: the reflected polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let mut checksum = u32::MAX;
    for byte in bytes {
        checksum ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = (checksum & 1).wrapping_neg();
            checksum = (checksum >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zip_files() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_zip_file_names_its_directory() {
        let file = zipped("a", b"hello");
        assert!(file.starts_with(b"PK\x03\x04"));
        let end = &file[file.len() - 22..];
        assert!(end.starts_with(b"PK\x05\x06"));
        let at = u32::from_le_bytes(end[16..20].try_into().unwrap()) as usize;
        assert!(file[at..].starts_with(b"PK\x01\x02"));
        assert_eq!(at, 30 + 1 + 5);
    }
}
