//! What acts do to a page, in a real Chromium.

#![cfg(test)]

mod common;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::common::{Harness, with_pages};

const CLICKS: &str = r#"<!doctype html><title>Clicks</title><body><script>
window.seen = [];
const names = (event) => ["alt", "ctrl", "meta", "shift"].filter((key) => event[key + "Key"]).join("+");
for (const type of ["mousemove", "click", "dblclick", "auxclick", "contextmenu"]) {
  addEventListener(type, (event) => {
    if (type === "contextmenu") event.preventDefault();
    if (event.target.id) seen.push([type, event.target.id, event.button, names(event), event.isTrusted].join(" "));
  });
}
</script><button id="a">One</button><button id="b" style="display: block; margin-top: 3000px">Far</button></body>"#;

async fn seen(page: &Harness) -> Vec<String> {
    let seen = page.eval("window.seen.splice(0)").await;
    serde_json::from_value(seen).unwrap()
}

#[test]
fn clicks_are_trusted_and_take_every_option() {
    with_pages(
        &[("/", CLICKS)],
        |_| (),
        async |page| {
            let one = page.reference("\"One\"").await;
            page.act(json!({"kind": "click", "ref": format!("@{one}")}))
                .await
                .unwrap();
            assert!(seen(page).await.contains(&"click a 0  true".to_owned()));
            page.act(json!({"kind": "click", "ref": one, "doubleClick": true}))
                .await
                .unwrap();
            assert!(seen(page).await.contains(&"dblclick a 0  true".to_owned()));
            page.act(json!({"kind": "click", "selector": "#a", "button": "right"}))
                .await
                .unwrap();
            assert!(
                seen(page)
                    .await
                    .contains(&"contextmenu a 2  true".to_owned())
            );
            page.act(json!({"kind": "click", "selector": "#a", "button": "middle"}))
                .await
                .unwrap();
            assert!(seen(page).await.contains(&"auxclick a 1  true".to_owned()));
            let held = json!({"kind": "click", "selector": "#a", "modifiers": ["Shift", "Alt"]});
            page.act(held).await.unwrap();
            assert!(
                seen(page)
                    .await
                    .contains(&"click a 0 alt+shift true".to_owned())
            );
            page.act(json!({"kind": "hover", "selector": "#a"}))
                .await
                .unwrap();
            assert!(seen(page).await.contains(&"mousemove a 0  true".to_owned()));

            // What is out of sight is scrolled to.
            page.act(json!({"kind": "click", "selector": "text=Far", "delayMs": 20}))
                .await
                .unwrap();
            assert!(seen(page).await.contains(&"click b 0  true".to_owned()));
            page.act(json!({"kind": "scrollIntoView", "selector": "#a"}))
                .await
                .unwrap();
            assert_eq!(page.eval("scrollY < 100").await, json!(true));
            let at = page
            .eval("(() => { const { x, y } = document.querySelector('#a').getBoundingClientRect(); return [x + 3, y + 3]; })()")
            .await;
            let act = json!({"kind": "clickCoords", "x": at[0], "y": at[1], "delayMs": 5});
            page.act(act).await.unwrap();
            assert!(seen(page).await.contains(&"click a 0  true".to_owned()));
        },
    );
}

const OBSTACLES: &str = r#"<!doctype html><title>Obstacles</title>
<button id="off" disabled>Off</button>
<button id="unseen" style="visibility: hidden">Unseen</button>
<div style="position: relative"><button id="under">Under</button>
<div id="cover" style="position: absolute; inset: 0; background: red"></div></div>
<input id="fixed" readonly value="x"><input id="number" type="number"><input id="date" type="date">
<input id="check" type="checkbox"><p id="text">text</p>
<button class="twin">1</button><button class="twin">2</button>
<style>@keyframes run { from { margin-left: 0 } to { margin-left: 400px } }
#moving { animation: run 0.2s infinite alternate linear }</style><button id="moving">Moving</button>"#;

#[test]
fn an_element_that_cannot_be_acted_on_is_said_to_be_so() {
    with_pages(
        &[("/", OBSTACLES)],
        |_| (),
        async |page| {
            let click =
                |selector: &str| json!({"kind": "click", "selector": selector, "timeoutMs": 500});
            let typed = |selector: &str, text: &str| json!({"kind": "type", "selector": selector, "text": text, "timeoutMs": 500});
            for (act, message) in [
                (
                    click("#none"),
                    "Element \"#none\" not found or not visible. Run a new snapshot to see current page elements.",
                ),
                (
                    click("#off"),
                    "Element \"#off\" is not enabled. Complete any prerequisites that enable the control.",
                ),
                (
                    click("#unseen"),
                    "Element \"#unseen\" is not interactable (not visible). Try scrolling it into view, closing overlays, or re-snapshotting.",
                ),
                (
                    click("#under"),
                    "Element \"#under\" is not interactable (covered; another element intercepts pointer events). Try scrolling it into view, closing overlays, or re-snapshotting.",
                ),
                (
                    click("#moving"),
                    "Element \"#moving\" is not stable. Wait for movement or animation to finish before interacting.",
                ),
                (
                    click(".twin"),
                    "Selector \".twin\" matched 2 elements. Run a new snapshot to get updated refs, or use a different ref.",
                ),
                (
                    typed("#fixed", "a"),
                    "Element \"#fixed\" is not editable (for example, read-only). Use an editable control.",
                ),
                (
                    typed("#number", "a"),
                    "Element \"#number\" requires a numeric value. Use a valid number instead of text.",
                ),
                (
                    typed("#date", "a"),
                    "Element \"#date\" rejected the value format. Use a value supported by this input type.",
                ),
                (
                    typed("#check", "a"),
                    "Element \"#check\" has an input type that cannot be filled. Use the interaction appropriate for this control.",
                ),
                (
                    typed("#text", "a"),
                    "Element \"#text\" is not editable: this control does not support text input. Use an editable input, textarea, or contenteditable element.",
                ),
            ] {
                let failed = page.act(act).await.unwrap_err();
                assert_eq!(failed.message, message);
                assert_eq!(
                    (failed.status, failed.code.unwrap().name()),
                    (500, "ACT_OPERATION_FAILED")
                );
            }
        },
    );
}

#[test]
fn an_act_waits_until_its_element_is_ready() {
    const LATE: &str = r#"<!doctype html><title>Late</title><button id="b" disabled onclick="this.textContent='done'">Wait</button>
    <script>setTimeout(() => { document.querySelector('#b').disabled = false; }, 400);</script>"#;
    with_pages(
        &[("/", LATE)],
        |_| (),
        async |page| {
            page.act(json!({"kind": "click", "selector": "#b", "timeoutMs": 20000}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("document.querySelector('#b').textContent").await,
                json!("done")
            );
        },
    );
}

#[test]
fn a_ref_dies_with_its_page() {
    with_pages(
        &[("/", CLICKS), ("/form", FORM)],
        |_| (),
        async |page| {
            let one = page.reference("\"One\"").await;
            page.eval("document.querySelector('#a').remove()").await;
            let gone = json!({"kind": "click", "ref": one, "timeoutMs": 500});
            let failed = page.act(gone.clone()).await.unwrap_err();
            assert_eq!(
                failed.message,
                format!(
                    "Element \"{one}\" not found or not visible. Run a new snapshot to see current page elements."
                )
            );
            page.eval("{ location.href = '/form' }").await;
            page.act(json!({"kind": "wait", "url": "**/form"}))
                .await
                .unwrap();
            let failed = page.act(gone).await.unwrap_err();
            assert_eq!(
                failed.message,
                format!(
                    "Error: Unknown ref \"{one}\". Run a new snapshot and use a ref from that snapshot."
                )
            );
            assert_eq!(failed.code, None);
        },
    );
}

const FORM: &str = r#"<!doctype html><title>Form</title><form onsubmit="event.preventDefault(); window.sent = Object.fromEntries(new FormData(this))">
<label>Name <input name="name" value="old"></label>
<textarea name="bio" aria-label="Bio"></textarea>
<label><input type="checkbox" name="agree" value="y"> Agree</label>
<label><input type="radio" name="size" value="s"> Small</label>
<label><input type="radio" name="size" value="l" checked> Large</label>
<select name="colour" aria-label="Colour"><option value="r">Red<option value="g">Green</select>
<select name="tags" aria-label="Tags" multiple><option>a<option>b<option>c</select>
<input type="date" name="day" aria-label="Day"><div contenteditable aria-label="Note" role="textbox">rich</div>
</form><script>
window.keys = [];
addEventListener("keydown", (event) => keys.push([event.key, event.code, event.ctrlKey, event.isTrusted].join(" ")));
window.changes = [];
addEventListener("change", (event) => changes.push(event.target.name));
</script>"#;

#[test]
fn forms_are_filled_in_and_sent() {
    with_pages(
        &[("/", FORM)],
        |_| (),
        async |page| {
            let name = page.reference("\"Name\"").await;
            let bio = page.reference("\"Bio\"").await;
            let agree = page.reference("\"Agree\"").await;
            let small = page.reference("\"Small\"").await;
            let note = page.reference("\"Note\"").await;
            let fields = json!([
                {"ref": bio, "value": "first line"},
                {"ref": agree, "type": "checkbox", "value": true},
                {"ref": small, "type": "radio", "value": "true"},
                    {"ref": note, "value": "plain"},
            ]);
            page.act(json!({"kind": "fill", "fields": fields}))
                .await
                .unwrap();
            let day = json!({"kind": "type", "selector": "[name=day]", "text": "2026-05-04"});
            page.act(day).await.unwrap();
            let colour =
                json!({"kind": "select", "selector": "select[name=colour]", "values": ["Green"]});
            page.act(colour).await.unwrap();
            let tags =
                json!({"kind": "select", "selector": "select[name=tags]", "values": ["a", "c"]});
            page.act(tags).await.unwrap();
            assert_eq!(
                page.eval(
                    "[...document.querySelector('[name=tags]').selectedOptions].map((o) => o.value)"
                )
                .await,
                json!(["a", "c"])
            );
            let missing = json!({"kind": "select", "selector": "select[name=colour]", "values": ["Blue"], "timeoutMs": 500});
            let missing = page.act(missing).await.unwrap_err();
            assert!(
                missing
                    .message
                    .starts_with("TimeoutError: locator.selectOption: Timeout 500ms exceeded."),
                "{}",
                missing.message
            );
            page.act(json!({"kind": "type", "ref": name, "text": "Ann", "submit": true}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("window.sent").await,
                json!({"name": "Ann", "bio": "first line", "agree": "y", "size": "s", "colour": "g", "tags": "c", "day": "2026-05-04"})
            );
            assert_eq!(
                page.eval("document.querySelector('[contenteditable]').textContent")
                    .await,
                json!("plain")
            );
            page.act(json!({"kind": "type", "ref": name, "text": ""}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("document.querySelector('[name=name]').value")
                    .await,
                json!("")
            );
            page.act(json!({"kind": "type", "ref": name, "text": "Zoë!", "slowly": true}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("document.querySelector('[name=name]').value")
                    .await,
                json!("Zoë!")
            );
            page.act(json!({"kind": "insertText", "text": " 你好"}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("document.querySelector('[name=name]').value")
                    .await,
                json!("Zoë! 你好")
            );
            // A label stands for its control.
            page.act(json!({"kind": "type", "selector": "label:has([name=name])", "text": "Bob"}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("document.querySelector('[name=name]').value")
                    .await,
                json!("Bob")
            );
        },
    );
}

#[test]
fn keys_and_chords_are_pressed() {
    with_pages(
        &[("/", FORM)],
        |_| (),
        async |page| {
            page.act(json!({"kind": "type", "selector": "[name=name]", "text": "abc"}))
                .await
                .unwrap();
            page.eval("window.keys.length = 0").await;
            for key in ["ctrl+a", "x", "Enter", "Shift+KeyB", "space", "esc"] {
                page.act(json!({"kind": "press", "key": key}))
                    .await
                    .unwrap();
            }
            assert_eq!(
                page.eval("window.keys").await,
                json!([
                    "Control ControlLeft true true",
                    "a KeyA true true",
                    "x KeyX false true",
                    "Enter Enter false true",
                    "Shift ShiftLeft false true",
                    "B KeyB false true",
                    "  Space false true",
                    "Escape Escape false true",
                ])
            );
            assert_eq!(
                page.eval("document.querySelector('[name=name]').value")
                    .await,
                json!("xB ")
            );
            let unknown = page
                .act(json!({"kind": "press", "key": "Foo"}))
                .await
                .unwrap_err();
            assert_eq!(
                unknown.message,
                "Error: keyboard.press: Unknown key: \"Foo\""
            );
        },
    );
}

#[test]
fn things_are_dragged() {
    const DRAG: &str = r#"<!doctype html><title>Drag</title>
    <div id="from" draggable="true" ondragstart="event.dataTransfer.setData('text/plain', 'cargo')" style="width: 80px">Drag me</div>
    <div id="to" style="width: 200px; height: 80px" ondragover="event.preventDefault()"
      ondrop="event.preventDefault(); this.textContent = event.dataTransfer.getData('text/plain')">Here</div>
    <div id="handle" style="width: 50px; height: 20px; background: blue" onpointerdown="this.setPointerCapture(event.pointerId)"
      onpointerup="window.released = Math.round(event.clientY - document.querySelector('#end').getBoundingClientRect().y)">Slide</div>
    <div id="end" style="width: 50px; height: 20px">End</div>"#;
    with_pages(
        &[("/", DRAG)],
        |_| (),
        async |page| {
            let drag = json!({"kind": "drag", "startSelector": "#from", "endSelector": "#to"});
            page.act(drag).await.unwrap();
            let dropped = page.eval("document.querySelector('#to').textContent").await;
            assert_eq!(dropped, json!("cargo"));
            let slide = json!({"kind": "drag", "startSelector": "#handle", "endSelector": "#end"});
            page.act(slide).await.unwrap();
            assert_eq!(page.eval("window.released").await, json!(10));
        },
    );
}

#[test]
fn waits_end_when_they_should() {
    const LATER: &str = r#"<!doctype html><title>Later</title><p id="p">Loading   now</p><script>
    setTimeout(() => { document.querySelector('#p').innerHTML = "<b id=b>Ready</b>"; window.ready = true; }, 300);
    </script>"#;
    with_pages(
        &[("/", LATER)],
        |_| (),
        async |page| {
            let all = json!({
                "kind": "wait", "timeMs": 10, "text": "ready", "textGone": "Loading now", "selector": "#b",
                "url": "127.0.0.1", "loadState": "networkidle", "fn": "async () => window.ready",
            });
            page.act(all).await.unwrap();
            for (wait, message) in [
                (
                    json!({"text": "never"}),
                    "TimeoutError: locator.waitFor: Timeout 500ms exceeded.\nCall log:\n\u{1b}[2m  - waiting for getByText('never').first() to be visible\u{1b}[22m\n",
                ),
                (
                    json!({"textGone": "Ready"}),
                    "TimeoutError: locator.waitFor: Timeout 500ms exceeded.\nCall log:\n\u{1b}[2m  - waiting for getByText('Ready').first() to be hidden\u{1b}[22m\n",
                ),
                (
                    json!({"selector": "#q"}),
                    "TimeoutError: locator.waitFor: Timeout 500ms exceeded.\nCall log:\n\u{1b}[2m  - waiting for locator('#q').first() to be visible\u{1b}[22m\n",
                ),
                (
                    json!({"url": "https://**"}),
                    "TimeoutError: page.waitForURL: Timeout 500ms exceeded.",
                ),
                (
                    json!({"fn": "false"}),
                    "TimeoutError: page.waitForFunction: Timeout 500ms exceeded.",
                ),
                (
                    json!({"fn": "() => new Promise(() => {})"}),
                    "TimeoutError: page.waitForFunction: Timeout 500ms exceeded.",
                ),
                (
                    json!({"fn": "() => { throw new Error('no') }"}),
                    "Error: page.waitForFunction: Error: no",
                ),
            ] {
                let mut wait = wait;
                wait["kind"] = json!("wait");
                wait["timeoutMs"] = json!(500);
                let failed = page.act(wait).await.unwrap_err();
                assert_eq!((failed.status, failed.message.as_str()), (500, message));
            }
        },
    );
}

#[test]
fn scripts_run_in_the_page() {
    with_pages(
        &[("/", FORM)],
        |_| (),
        async |page| {
            for (script, result) in [
                ("1 + 1 // two", json!(2)),
                ("() => document.title", json!("Form")),
                (
                    "async () => { await null; return [1, { a: null }]; }",
                    json!([1, { "a": null }]),
                ),
                ("const a = 2; return a * 2", json!(4)),
                ("function () { return this === undefined; }", json!(true)),
                ("NaN", Value::Null),
            ] {
                let answer = page
                    .act(json!({"kind": "evaluate", "fn": script}))
                    .await
                    .unwrap();
                assert_eq!(answer["result"], result, "{script}");
            }
            let nothing = page
                .act(json!({"kind": "evaluate", "fn": "undefined"}))
                .await
                .unwrap();
            assert_eq!(nothing.get("result"), None);
            for (script, message) in [
                (
                    "() => { throw new Error('bad') }",
                    "Error: page.evaluate: Error: Invalid evaluate function: bad",
                ),
                (
                    "() => { ((",
                    "Error: page.evaluate: Error: Invalid evaluate function: Unexpected token '}'",
                ),
                (
                    "() => new Promise(() => {})",
                    "Error: page.evaluate: Error: evaluate timed out after 1000ms",
                ),
                (
                    "for (;;) {}",
                    "Error: page.evaluate: Error: evaluate timed out after 1000ms",
                ),
            ] {
                let act = json!({"kind": "evaluate", "fn": script, "timeoutMs": 1000});
                assert_eq!(page.act(act).await.unwrap_err().message, message);
            }
            assert_eq!(page.eval("1").await, json!(1));
        },
    );
}

#[test]
fn scripts_can_be_switched_off() {
    let off = |settings: &mut node_config::BrowserSettings| settings.evaluate_enabled = false;
    with_pages(&[("/", FORM)], off, async |page| {
        let refused = page
            .act(json!({"kind": "evaluate", "fn": "1"}))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status, refused.code.unwrap().name()),
            (403, "ACT_EVALUATE_DISABLED")
        );
        let refused = page
            .act(json!({"kind": "wait", "fn": "1"}))
            .await
            .unwrap_err();
        assert!(
            refused
                .message
                .starts_with("wait --fn is disabled by config")
        );
        let batch = json!({"kind": "batch", "actions": [{"kind": "evaluate", "fn": "1"}]});
        assert_eq!(
            page.act(batch).await.unwrap()["results"],
            json!([{"ok": false, "error": "act:evaluate is disabled by config (browser.evaluateEnabled=false)"}])
        );
    });
}

#[test]
fn a_batch_stops_at_errors_and_at_another_page() {
    with_pages(
        &[("/", CLICKS), ("/form", FORM)],
        |_| (),
        async |page| {
            let missing = json!({"kind": "click", "selector": "#zz", "timeoutMs": 500});
            let wait = json!({"kind": "wait", "timeMs": 1});
            let error = "Element \"#zz\" not found or not visible. Run a new snapshot to see current page elements. | locator.click: Timeout 500ms exceeded.\nCall log:\n\u{1b}[2m  - waiting for locator('#zz')\u{1b}[22m\n";
            let stopped = json!({"kind": "batch", "actions": [wait, missing, wait]});
            assert_eq!(
                page.act(stopped).await.unwrap()["results"],
                json!([{"ok": true}, {"ok": false, "error": error}])
            );
            let nested = json!({"kind": "batch", "actions": [missing]});
            let on = json!({"kind": "batch", "stopOnError": false, "actions": [nested, wait]});
            assert_eq!(
                page.act(on).await.unwrap()["results"],
                json!([{"ok": false, "error": error}, {"ok": true}])
            );
            let go = json!({"kind": "evaluate", "fn": "{ location.href = '/form' }"});
            let left = json!({"kind": "batch", "actions": [go, wait, wait]});
            let answer = page.act(left).await.unwrap();
            let url = page.url("/form");
            assert_eq!(
                answer["results"],
                json!([{"ok": true, "navigated": true, "url": url}])
            );
            assert_eq!(
                answer["aborted"],
                json!({"reason": "navigation", "afterAction": 1, "url": url, "skipped": 2})
            );
            assert_eq!(answer["url"], json!(url));
            let other = json!({"kind": "batch", "actions": [{"kind": "press", "key": "a", "targetId": "t99"}]});
            let refused = page.act(other).await.unwrap_err();
            assert_eq!(
                (refused.status, refused.code.unwrap().name()),
                (403, "ACT_TARGET_ID_MISMATCH")
            );
        },
    );
}

#[test]
fn an_act_does_not_hang_on_a_dialog() {
    const DIALOG: &str =
        r#"<!doctype html><title>Dialog</title><button onclick="confirm('sure?')">Ask</button>"#;
    with_pages(
        &[("/", DIALOG)],
        |_| (),
        async |page| {
            let begin = Instant::now();
            let asked = page
                .act(json!({"kind": "click", "selector": "button"}))
                .await
                .unwrap();
            assert_eq!(asked["blockedByDialog"], json!(true));
            let pending = &asked["browserState"]["dialogs"]["pending"];
            assert_eq!(pending[0]["message"], json!("sure?"));
            let shown = page.snapshot(json!({})).await;
            assert_eq!(
                (&shown["blockedByDialog"], &shown["snapshot"]),
                (&json!(true), &json!(""))
            );
            let again = page
                .act(json!({"kind": "press", "key": "a"}))
                .await
                .unwrap();
            assert_eq!(again["blockedByDialog"], json!(true));
            assert!(begin.elapsed() < Duration::from_secs(15));
            // A page can be closed all the same.
            page.act(json!({"kind": "close"})).await.unwrap();
        },
    );
}

#[test]
fn an_act_answers_what_it_downloaded() {
    const DOWNLOAD: &str = r#"<!doctype html><title>Download</title><a href="/file.bin">Get</a>"#;
    with_pages(
        &[("/", DOWNLOAD), ("/file.bin", "bytes")],
        |_| (),
        async |page| {
            let answer = page
                .act(json!({"kind": "click", "selector": "a"}))
                .await
                .unwrap();
            let download = &answer["downloads"][0];
            assert_eq!(download["url"], json!(page.url("/file.bin")));
            assert_eq!(download["suggestedFilename"], json!("file.bin"));
            let saved = std::fs::read(download["path"].as_str().unwrap()).unwrap();
            assert_eq!(saved, b"bytes");
        },
    );
}

#[test]
fn the_viewport_is_resized() {
    with_pages(
        &[("/", FORM)],
        |_| (),
        async |page| {
            page.act(json!({"kind": "resize", "width": 640, "height": 480}))
                .await
                .unwrap();
            assert_eq!(
                page.eval("[innerWidth, innerHeight]").await,
                json!([640, 480])
            );
        },
    );
}

#[test]
fn what_a_bar_covers_is_scrolled_from_under_it() {
    const BAR: &str = r#"<!doctype html><title>Bar</title><style>* { margin: 0 }</style>
    <div style="position: fixed; top: 0; width: 100%; height: 100px; background: red">Bar</div>
    <div style="height: 1500px"></div><button onclick="this.textContent='done'">Go</button><div style="height: 3000px"></div>"#;
    with_pages(
        &[("/", BAR)],
        |_| (),
        async |page| {
            // Right below the bar.
            page.eval("scrollTo(0, 1490)").await;
            page.act(json!({"kind": "click", "selector": "button"}))
                .await
                .unwrap();
            let text = page.eval("document.querySelector('button').textContent");
            assert_eq!(text.await, json!("done"));
        },
    );
}

#[test]
fn a_click_that_leads_elsewhere_answers_where_it_led() {
    const LINK: &str = r#"<!doctype html><title>Link</title><a href="/form">Form</a>"#;
    with_pages(
        &[("/", LINK), ("/form", FORM)],
        |_| (),
        async |page| {
            let link = page.reference("\"Form\"").await;
            let answer = page
                .act(json!({"kind": "click", "ref": link}))
                .await
                .unwrap();
            page.act(json!({"kind": "wait", "loadState": "load"}))
                .await
                .unwrap();
            assert_eq!(answer["ok"], json!(true));
            let at = page
                .act(json!({"kind": "wait", "url": "**/form"}))
                .await
                .unwrap();
            assert_eq!(at["url"], json!(page.url("/form")));
        },
    );
}

const CHOOSER: &str = r#"<!doctype html><title>Files</title><body>
<button id="other">Other</button><input id="pick" type="file" aria-label="Pick"
  oncancel="seen = 'cancelled'" onchange="seen = this.files[0].name">
<script>var seen = "";</script></body>"#;

#[test]
fn a_file_chooser_is_the_users_again_once_files_no_longer_wait_for_it() {
    with_pages(
        &[("/", CHOOSER)],
        |_| (),
        async |page| {
            let file = page.file("a.txt");
            let give = async |reference: &str| {
                let body = json!({"paths": [file], "timeoutMs": 500, "ref": reference});
                page.post("/hooks/file-chooser", body).await
            };
            // A browser without a window cancels a chooser that it would have to show.
            let is_the_users = async || {
                page.act(json!({"kind": "click", "selector": "#pick"}))
                    .await
                    .unwrap();
                let wait = json!({"kind": "wait", "fn": "() => seen !== ''", "timeoutMs": 5000});
                page.act(wait).await.unwrap();
                assert_eq!(page.eval("() => [seen, seen = ''][0]").await, "cancelled");
            };
            is_the_users().await;

            let pick = page.reference("\"Pick\"").await;
            give(&pick).await.unwrap();
            assert_eq!(page.eval("() => [seen, seen = ''][0]").await, "a.txt");
            is_the_users().await;

            let other = page.reference("\"Other\"").await;
            let refused = give(&other).await.unwrap_err();
            assert_eq!(refused.message, "Error: Timeout waiting for file chooser");
            is_the_users().await;

            give("e999").await.unwrap_err();
            is_the_users().await;

            // Files that wait for the next chooser count for no longer than they are said to.
            let next = json!({"timeoutMs": 500});
            page.upload(page.target(), b"b", next).await.unwrap();
            page.until_staged(0).await;
            is_the_users().await;
        },
    );
}
