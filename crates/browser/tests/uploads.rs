//! How long files are kept that a gateway sent for a page.

#![cfg(test)]

mod common;

use std::time::Duration;

use common::{Harness, Relay, with_pages};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const INPUT: &str = r#"<!doctype html><title>Files</title><body>
<button id="other">Other</button><input id="pick" type="file" aria-label="Pick"></body>"#;

/// What the page reads in the file that it was given.
async fn read(page: &Harness, target: &str) -> Value {
    let script = "() => document.querySelector('#pick').files[0].text()";
    let body = json!({"kind": "evaluate", "fn": script, "targetId": target});
    page.post("/act", body).await.unwrap()["result"].clone()
}

#[test]
fn an_upload_is_there_as_long_as_the_page_that_has_it() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let pick = json!({"element": "#pick"});
            let (first, second) = (page.open("/").await, page.open("/").await);
            page.upload(&first, b"one", pick.clone()).await.unwrap();
            page.upload(&second, b"two", pick).await.unwrap();
            assert_eq!(page.staged(), 2);
            page.post("/act", json!({"kind": "close", "targetId": first}))
                .await
                .unwrap();
            page.until_staged(1).await;
            assert_eq!(read(page, &second).await, "two");
            // A page can close itself too.
            let close = json!({"kind": "evaluate", "fn": "() => close()", "targetId": second});
            page.post("/act", close).await.ok();
            page.until_staged(0).await;
        },
    );
}

#[test]
fn an_upload_for_a_chooser_waits_for_it_and_stays_with_the_page() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let target = page.open("/").await;
            let next = json!({});
            page.upload(&target, b"one", next.clone()).await.unwrap();
            page.upload(&target, b"two", next).await.unwrap();
            assert_eq!(page.staged(), 1, "only the second waits");
            let click = json!({"kind": "click", "selector": "#pick", "targetId": target});
            page.post("/act", click).await.unwrap();
            let chosen = "() => document.querySelector('#pick').files.length === 1";
            let wait = json!({"kind": "wait", "fn": chosen, "targetId": target});
            page.post("/act", wait).await.unwrap();
            assert_eq!(read(page, &target).await, "two");
            assert_eq!(page.staged(), 1);
            page.post("/act", json!({"kind": "close", "targetId": target}))
                .await
                .unwrap();
            page.until_staged(0).await;
        },
    );
}

#[test]
fn an_upload_for_a_chooser_that_does_not_open_goes_when_it_no_longer_waits() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let target = page.open("/").await;
            let next = json!({"timeoutMs": 2000});
            page.upload(&target, b"one", next).await.unwrap();
            assert_eq!(page.staged(), 1);
            page.until_staged(0).await;
        },
    );
}

#[test]
fn an_upload_that_no_page_took_is_removed_at_once() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let target = page.open("/").await;
            for body in [
                json!({"ref": "e999"}),
                json!({"ref": "e999", "inputRef": "e999"}),
                json!({"element": "#other"}),
            ] {
                page.upload(&target, b"one", body).await.unwrap_err();
                assert_eq!(page.staged(), 0);
            }
        },
    );
}

#[test]
fn uploads_go_with_the_browser() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let give = async || {
                let target = page.open("/").await;
                let pick = json!({"element": "#pick"});
                page.upload(&target, b"one", pick).await.unwrap();
                assert_eq!(page.staged(), 1);
            };
            give().await;
            page.post("/stop", json!({})).await.unwrap();
            assert_eq!(page.staged(), 0);

            give().await;
            let status = page.get("/", json!({})).await.unwrap();
            let pid = status["pid"].as_i64().unwrap().try_into().unwrap();
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            page.until_staged(0).await;

            give().await;
            page.shut_down().await;
            assert_eq!(page.staged(), 0);
        },
    );
}

#[test]
fn uploads_stay_for_a_browser_that_is_not_ended() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let target = page.open("/").await;
            let other = page.attached().await;
            let pick = json!({"element": "#pick"});
            other.upload(&target, b"one", pick).await.unwrap();
            other.shut_down().await;
            assert_eq!(page.staged(), 1);
            assert_eq!(read(page, &target).await, "one");
        },
    );
}

#[test]
fn uploads_stay_for_a_browser_that_only_the_connection_to_is_lost() {
    with_pages(
        &[("/", INPUT)],
        |_| (),
        async |page| {
            let target = page.open("/").await;
            let relay = Relay::start(page.port()).await;
            let other = page.attached_through(relay.port);
            let pick = json!({"element": "#pick"});
            other.upload(&target, b"one", pick).await.unwrap();
            relay.cut();
            let lost = async {
                while other.get("/", json!({})).await.unwrap()["running"] == true {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let deadline = Duration::from_secs(20);
            tokio::time::timeout(deadline, lost).await.unwrap();
            assert_eq!(page.staged(), 1);
            assert_eq!(read(page, &target).await, "one");
        },
    );
}
