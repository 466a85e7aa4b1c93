//! What upstream 2026.9.6 printed for the same commands, and what has to be alike.
//!
//! Alike is what scripts hold on to: exit code, members in their order, verbs and texts. Numbers
//! differ from run to run, and so do the places of the two programs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::sandbox::Ran;

/// What upstream printed for one command.
struct Capture {
    name: String,
    code: i32,
    stdout: String,
    stderr: String,
}

fn capture(name: &str) -> Capture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let read = |extension| fs::read_to_string(folder.join(format!("96-{name}.{extension}")));
    let code = read("rc").unwrap();
    Capture {
        name: name.to_owned(),
        code: code.trim().strip_prefix("rc=").unwrap().parse().unwrap(),
        stdout: read("out").unwrap_or_default(),
        stderr: read("err").unwrap_or_default(),
    }
}

/// Every run of digits as one `#`, so that process ids and signals' names stay comparable.
fn without_numbers(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        match character {
            digit if digit.is_ascii_digit() => {
                if !plain.ends_with('#') {
                    plain.push('#');
                }
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Requires the same lines and the same exit code.
pub(crate) fn assert_same_text(ran: &Ran, name: &str) {
    let capture = capture(name);
    let lines = |text: &str| -> Vec<String> {
        text.lines()
            // What upstream says about its runtime, which is none of ours.
            .filter(|line| !line.starts_with("Node 20."))
            .map(without_numbers)
            .collect()
    };
    assert_eq!(lines(&ran.stdout), lines(&capture.stdout), "{name}");
    assert_eq!(lines(&ran.stderr), lines(&capture.stderr), "{name}");
    assert_eq!(ran.code, capture.code, "{name}");
}

/// Requires the same members in the same order with the same values, and the same exit code.
/// Warnings about upstream's runtime do not count.
pub(crate) fn assert_same_answer(ran: &Ran, name: &str) {
    let capture = capture(name);
    let comparable = |mut value: Value| {
        value.as_object_mut().unwrap().shift_remove("warnings");
        without_numbers(&serde_json::to_string_pretty(&value).unwrap())
    };
    let expected = serde_json::from_str(&capture.stdout).unwrap();
    assert_eq!(comparable(ran.json()), comparable(expected), "{name}");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (capture.code, ""),
        "{name}"
    );
}

/// Requires upstream's members of `status --json` in their order; ours may follow at the top.
/// Which variables a service has is not compared, and neither is the text of a `detail`.
pub(crate) fn assert_same_status(ran: &Ran, name: &str) {
    let capture = capture(name);
    let expected: Value = serde_json::from_str(&capture.stdout).unwrap();
    let found = ran.json();
    let first = found.as_object().unwrap().keys().next();
    assert_eq!(first.map(String::as_str), Some("service"), "{name}");
    assert_eq!(
        skeleton(&found["service"], ""),
        skeleton(&expected["service"], ""),
        "{name}"
    );
    for fixed in ["label", "loaded", "loadedText", "notLoadedText"] {
        assert_eq!(
            found["service"][fixed], expected["service"][fixed],
            "{name}"
        );
    }
    for fixed in [
        "/service/runtime/status",
        "/service/runtime/state",
        "/service/runtime/subState",
        "/service/runtime/lastExitStatus",
        "/service/runtime/lastExitReason",
        "/service/runtime/inspectionReason",
        "/service/runtime/systemd/scope",
        "/service/runtime/systemd/unit",
        "/service/runtime/systemd/killMode",
        "/service/runtime/systemd/transport",
    ] {
        assert_eq!(found.pointer(fixed), expected.pointer(fixed), "{name}");
    }
    assert_eq!(ran.code, capture.code, "{name}");
}

/// Requires upstream's lines of `status` in their order, but for what they say of the command and
/// where the log is; lines of ours may stand between.
pub(crate) fn assert_same_status_text(ran: &Ran, name: &str) {
    let capture = capture(name);
    let mut found = ran.stdout.lines();
    for line in capture.stdout.lines() {
        // The gateway's log of restarts, which a node never writes.
        if line.starts_with("Restart attempts:") {
            continue;
        }
        let is_same = |found: &str| match line.split_once(": ") {
            Some(("Command", _)) => found.starts_with("Command: "),
            Some(("Runtime", text)) if text.starts_with("unknown") => {
                found.starts_with("Runtime: unknown (")
            }
            _ => without_numbers(found) == without_numbers(line),
        };
        assert!(
            found.any(is_same),
            "{}: {line:?} is not in {ran:?}",
            capture.name
        );
    }
    assert_eq!(
        (ran.code, &ran.stderr),
        (capture.code, &capture.stderr),
        "{name}"
    );
}

/// The paths of all members in order.
fn skeleton(value: &Value, path: &str) -> Vec<String> {
    let Value::Object(members) = value else {
        return Vec::new();
    };
    let mut paths = Vec::new();
    for (name, member) in members {
        let path = format!("{path}/{name}");
        paths.push(path.clone());
        if name != "environmentValueSources" {
            paths.extend(skeleton(member, &path));
        }
    }
    paths
}
