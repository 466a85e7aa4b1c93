//! What snapshots of a page show, in a real Chromium.

#![cfg(test)]

mod common;

use serde_json::{Value, json};

use self::common::with_pages;

const SHOP: &str = r#"<!doctype html><title>Shop</title>
<header><nav aria-label="Main"><a href="/cart">Cart</a> <a href="/cart">Cart</a></nav></header>
<main><h1>Lamps</h1>
<p>One <b>bold</b> lamp.</p>
<label>Amount <input name="n" value="2" placeholder="How many"></label>
<label><input type="checkbox" checked> Gift</label>
<input type="password" aria-label="Code" value="secret">
<select aria-label="Colour"><option>Red<option selected>Green</select>
<button disabled>Buy</button>
<button aria-label="a: b">x</button>
<div id="go" style="cursor:pointer" onclick="this.textContent='gone'">Go on</div>
<div style="display:none"><button>Hidden</button></div>
</main>"#;

#[test]
fn a_role_snapshot_says_what_chrome_says() {
    with_pages(
        &[("/", SHOP)],
        |_| (),
        async |page| {
            let shown = page.snapshot(json!({"interactive": true})).await;
            let text = shown["snapshot"].as_str().unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            assert_eq!(
                lines
                    .iter()
                    .filter(|line| line.contains("link \"Cart\""))
                    .count(),
                2,
                "{text}"
            );
            assert!(lines.iter().any(|line| line.ends_with("[nth=1]")), "{text}");
            let find = |words: &str| {
                let line = lines.iter().find(|line| line.contains(words));
                *line.unwrap_or_else(|| panic!("no {words} in:\n{text}"))
            };
            assert!(find("textbox \"Amount\"").ends_with("value=\"2\""));
            assert!(find("checkbox \"Gift\"").ends_with("[checked]"));
            assert!(find("button \"Buy\"").ends_with("[disabled]"));
            assert!(find("generic \"Go on\"").ends_with("[cursor:pointer, onclick]"));
            assert!(find("option \"Green\"").ends_with("[selected]"));
            assert!(!text.contains("Hidden"), "{text}");
            assert!(!text.contains("secret"), "{text}");
            let refs = shown["refs"].as_object().unwrap();
            assert_eq!(shown["stats"]["refs"], json!(refs.len()));
            assert_eq!(shown["stats"]["lines"], json!(lines.len()));
            assert!(refs.values().all(|info| info["backendDOMNodeId"].is_u64()));
        },
    );
}

#[test]
fn the_default_form_has_texts_properties_and_stable_refs() {
    with_pages(
        &[("/", SHOP)],
        |_| (),
        async |page| {
            let text = page.text(json!({})).await;
            for line in [
                "- generic [active] [ref=e1]:",
                "    - heading \"Lamps\" [level=1]",
                "]: One bold lamp.\n",
                "      - text: Amount",
                "/placeholder: How many",
                "- text: \"2\"",
                "- checkbox \"Gift\" [checked]",
                "- option \"Green\" [selected]",
                "- 'button \"a: b\" [ref=",
                "[cursor=pointer]: Go on",
            ] {
                assert!(text.contains(line), "no {line} in:\n{text}");
            }
            assert!(!text.contains("secret"), "{text}");
            let before = page.snapshot(json!({})).await;
            assert_eq!(before["newElements"], json!(0));
            page.eval("document.querySelector('h1').insertAdjacentHTML('afterend', '<button>New one</button>')").await;
            let after = page.snapshot(json!({})).await;
            assert_eq!(after["newElements"], json!(1));
            let new = after["snapshot"].as_str().unwrap();
            assert!(new.contains("button \"New one\""), "{new}");
            assert_eq!(new.matches(" [new]").count(), 1, "{new}");
            assert!(
                new.ends_with("1 new element(s) since last snapshot"),
                "{new}"
            );
            for (reference, info) in before["refs"].as_object().unwrap() {
                assert_eq!(&after["refs"][reference], info, "{reference}");
            }
        },
    );
}

#[test]
fn a_snapshot_can_be_cut_thinned_and_narrowed() {
    with_pages(
        &[("/", SHOP)],
        |_| (),
        async |page| {
            let cut = page.snapshot(json!({"maxChars": 200})).await;
            let text = cut["snapshot"].as_str().unwrap();
            assert!(text.encode_utf16().count() <= 200, "{text}");
            assert!(
                text.ends_with("\n\n[...TRUNCATED - page too large]"),
                "{text}"
            );
            assert_eq!(cut["truncated"], json!(true));
            for reference in cut["refs"].as_object().unwrap().keys() {
                assert!(text.contains(&format!("[ref={reference}]")));
            }

            let compact = page.text(json!({"compact": true})).await;
            assert!(!compact.contains("- none"), "{compact}");
            assert_eq!(
                page.text(json!({"depth": 0})).await,
                "- RootWebArea \"Shop\""
            );
            let urls = page.text(json!({"urls": true})).await;
            assert!(
                urls.contains(&format!("[url={}]", page.url("/cart"))),
                "{urls}"
            );

            let part = page
                .snapshot(json!({"selector": "nav", "interactive": true}))
                .await;
            assert_eq!(
                part["snapshot"],
                json!("- link \"Cart\" [ref=e2]\n- link \"Cart\" [ref=e3] [nth=1]")
            );
            assert_eq!(part["refs"]["e2"]["domMarker"], json!(true));
            assert_eq!(page.text(json!({"selector": "#nothing"})).await, "(empty)");
            let hidden = page
                .text(json!({"selector": "div[style*=none]", "interactive": true}))
                .await;
            assert_eq!(hidden, "(no interactive elements)");

            let thin = page
                .text(json!({"refs": "aria", "interactive": true}))
                .await;
            assert!(thin.starts_with("- link \"Cart\" [ref=e"), "{thin}");
            let unsupported = page
                .get("/snapshot", json!({"refs": "aria", "selector": "nav"}))
                .await;
            assert!(
                unsupported
                    .unwrap_err()
                    .message
                    .contains("refs=aria does not support")
            );
        },
    );
}

#[test]
fn the_aria_form_lists_nodes_that_acts_can_name() {
    with_pages(
        &[("/", SHOP)],
        |_| (),
        async |page| {
            let listed = page.snapshot(json!({"format": "aria"})).await;
            let nodes = listed["nodes"].as_array().unwrap();
            assert_eq!(nodes[0]["role"], json!("RootWebArea"));
            assert_eq!(nodes[0]["depth"], json!(0));
            let heading = nodes
                .iter()
                .find(|node| node["role"] == json!("heading"))
                .unwrap();
            let script =
                json!({"kind": "evaluate", "fn": "(e) => e.tagName", "ref": heading["ref"]});
            assert_eq!(page.act(script).await.unwrap()["result"], json!("H1"));
            let few = page.snapshot(json!({"format": "aria", "limit": 3})).await;
            assert_eq!(few["nodes"].as_array().unwrap().len(), 3);
            let refused = page
                .get("/snapshot", json!({"format": "aria", "labels": true}))
                .await;
            let refused = refused.unwrap_err();
            assert_eq!(refused.status, 400);
            assert_eq!(refused.message, "labels/mode=efficient require format=ai");
        },
    );
}

const OUTER: &str = r#"<!doctype html><title>Outer</title><h1>Outer</h1>
<iframe id="fr" title="Inner" src="/inner" width="300" height="200"></iframe>"#;
const INNER: &str = r#"<!doctype html><title>Inner</title>
<button onclick="this.textContent='pressed'">Press</button>"#;

#[test]
fn frames_are_shown_and_acted_on() {
    with_pages(
        &[("/", OUTER), ("/inner", INNER)],
        |_| (),
        async |page| {
            let text = page.text(json!({})).await;
            assert!(
                text.contains("  - iframe [ref=e3]:\n    - button \"Press\" [ref=f1e2]"),
                "{text}"
            );
            page.act(json!({"kind": "click", "ref": "f1e2"}))
                .await
                .unwrap();
            let text = page.text(json!({})).await;
            assert!(text.contains("iframe [active]"), "{text}");
            assert!(text.contains("button \"pressed\" [active]"), "{text}");

            let whole = page.snapshot(json!({"interactive": true})).await;
            assert_eq!(whole["snapshot"], json!("- Iframe \"Inner\" [ref=e2]"));
            assert!(whole["refs"]["e2"]["frameId"].is_string());
            let frame = json!({"frame": "#fr", "interactive": true});
            assert_eq!(page.text(frame).await, "- button \"pressed\" [ref=e1]");
            let script = json!({"kind": "evaluate", "fn": "(e) => e.textContent", "ref": "e1"});
            assert_eq!(page.act(script).await.unwrap()["result"], json!("pressed"));
        },
    );
}

#[test]
fn a_frame_of_another_site_is_shown_and_acted_on() {
    // Another name for loopback is another site, which Chromium may give a process of its own.
    const FOREIGN: &str = r#"<!doctype html><title>Outer</title><h1>Outer</h1><script>
        const frame = document.createElement("iframe");
        frame.src = location.href.replace("127.0.0.1", "localhost") + "inner";
        document.body.append(frame);
    </script>"#;
    with_pages(
        &[("/", FOREIGN), ("/inner", INNER)],
        |_| (),
        async |page| {
            let text = page.text(json!({})).await;
            let line = text.lines().find(|line| line.contains("button \"Press\""));
            let line = line.unwrap_or_else(|| panic!("{text}"));
            let reference = line.split_once("[ref=").unwrap().1.trim_end_matches(']');
            page.act(json!({"kind": "click", "ref": reference}))
                .await
                .unwrap();
            let text = page.text(json!({})).await;
            assert!(text.contains("button \"pressed\""), "{text}");
        },
    );
}

const SHADOW: &str = r#"<!doctype html><title>Shadow</title><my-el><i>Slotted</i></my-el><script>
customElements.define("my-el", class extends HTMLElement { constructor() {
    super();
    this.attachShadow({mode: "open"}).innerHTML = "<button onclick='this.textContent=1'>Within</button><slot></slot>";
} })</script>"#;

#[test]
fn shadow_roots_are_shown() {
    with_pages(
        &[("/", SHADOW)],
        |_| (),
        async |page| {
            let text = page.text(json!({})).await;
            assert!(text.contains("button \"Within\""), "{text}");
            assert!(text.contains("Slotted"), "{text}");
            page.act(json!({"kind": "click", "selector": "button"}))
                .await
                .unwrap();
            let text = page.text(json!({"interactive": true})).await;
            assert_eq!(text, "- button \"1\" [ref=e1]");
        },
    );
}

#[test]
fn an_empty_page_has_an_empty_snapshot() {
    with_pages(
        &[("/", "")],
        |_| (),
        async |page| {
            let shown = page.snapshot(json!({})).await;
            assert_eq!(shown["snapshot"], json!(""));
            assert_eq!(shown["refs"], json!({}));
            let none = json!({"lines": 0, "chars": 0, "refs": 0, "interactive": 0});
            assert_eq!(shown["stats"], none);
            let interactive = page.snapshot(json!({"interactive": true})).await;
            assert_eq!(interactive["snapshot"], json!("(no interactive elements)"));
            assert_eq!(interactive.get("truncated"), None::<&Value>);
        },
    );
}

#[test]
fn labels_are_drawn_for_the_picture_only() {
    with_pages(
        &[("/", SHOP)],
        |_| (),
        async |page| {
            let shown = page.snapshot(json!({"labels": true})).await;
            let refs = shown["refs"].as_object().unwrap();
            assert_eq!(shown["labels"], json!(true));
            let annotations = shown["annotations"].as_array().unwrap();
            let drawn = shown["labelsCount"].as_u64().unwrap();
            let skipped = shown["labelsSkipped"].as_u64().unwrap();
            assert_eq!(drawn + skipped, refs.len() as u64);
            let heading = annotations
                .iter()
                .find(|annotation| annotation["role"] == json!("heading"))
                .unwrap();
            let area = "(() => { const { x, y, width, height } = document.querySelector('h1').getBoundingClientRect(); return { x, y, width, height }; })()";
            let area = page.eval(area).await;
            for side in ["x", "y", "width", "height"] {
                assert_eq!(heading["box"][side].as_f64(), area[side].as_f64(), "{side}");
            }
            let image = std::fs::read(shown["imagePath"].as_str().unwrap()).unwrap();
            assert!(image.starts_with(b"\x89PNG"));
            let left = page.eval("document.getElementById('openclaw-node-labels') === null");
            assert_eq!(left.await, json!(true));
        },
    );
}
