//! What a decision costs: reading the command, analysing its payload and going through the policy,
//! with the allowlist prepared and the executables already resolved.
//!
//! The promise is 50 µs for 20 segments against 200 entries, and no worse than linear in both.
//! `cargo bench -p openclaw-node-approvals --bench decision`

use std::collections::HashMap;
use std::path::PathBuf;

use divan::{Bencher, black_box};
use openclaw_node_approvals::allowlist::Resolution;
use openclaw_node_approvals::analysis::{Analysis, Directory, Programs};
use openclaw_node_approvals::command::CommandLine;
use openclaw_node_approvals::decision::{Candidate, Decision, decide};
use openclaw_node_approvals::document::Document;
use openclaw_node_approvals::policy::{Approval, ExecConfig, resolve};
use openclaw_node_approvals::rules::Rules;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Executables that were looked up before.
struct Resolved(HashMap<String, Resolution>);

impl Resolved {
    fn new() -> Self {
        let names = (0..100).map(|number| format!("tool{number}"));
        let names = names.chain(["sh", "head"].map(str::to_owned));
        let resolve = |name: String| {
            let path = PathBuf::from(format!("/usr/bin/{name}"));
            let resolution = Resolution {
                raw_token: name.clone(),
                resolved_path: Some(path.clone()),
                real_path: Some(path),
            };
            (name, resolution)
        };
        Self(names.map(resolve).collect())
    }
}

impl Programs for Resolved {
    fn resolve(&self, token: &str, _: Directory) -> Resolution {
        let name = token.rsplit('/').next().unwrap_or(token);
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn resolve_script(&self, token: &str, directory: Directory) -> Resolution {
        self.resolve(token, directory)
    }
}

/// Entries of every kind, of which those that name the tools come last.
fn document(entries: usize) -> Document {
    let mut allowlist: Vec<Value> = (0..entries.saturating_sub(20))
        .map(|number| match number % 5 {
            0 => json!({"pattern": format!("/opt/other/bin/program{number}")}),
            1 => json!({"pattern": format!("/opt/other{number}/**")}),
            2 => json!({"pattern": format!("program{number}")}),
            3 => json!({"pattern": format!("/usr/*/bin/program{number}"), "argPattern": "^--version$"}),
            _ => json!({"pattern": format!("tool{number}x"), "argPattern": "^(status|log)( |$)"}),
        })
        .collect();
    for number in 0..20 {
        allowlist.push(match number % 4 {
            0 => json!({"pattern": format!("/usr/bin/tool{number}")}),
            1 => json!({"pattern": format!("tool{number}")}),
            2 => json!({"pattern": format!("tool{number}"), "argPattern": r"^-v \w+ it's$"}),
            _ => json!({"pattern": format!("/usr/**/tool{number}")}),
        });
    }
    let file = json!({
        "defaults": {"security": "allowlist", "ask": "off"},
        "agents": {"main": {"allowlist": allowlist}},
    });
    let no_members = serde_json::Map::new();
    let file = file.as_object().unwrap_or(&no_members);
    Document::from_value(file, &mut || "id".to_owned()).unwrap_or_default()
}

fn payload(segments: usize) -> String {
    let joints = [" && ", " || ", "; ", " | "].into_iter().cycle();
    let mut text = String::new();
    for (number, joint) in (0..segments).zip(joints) {
        if number > 0 {
            text.push_str(joint);
        }
        text.push_str(&format!(
            "tool{} -v \"argument{number}\" it\\'s",
            number % 20
        ));
    }
    text
}

fn measure(bencher: Bencher<'_, '_>, segments: usize, entries: usize) {
    let document = document(entries);
    let rules = Rules::of(&document, Some("/home/op"));
    let config = ExecConfig::default();
    let programs = Resolved::new();
    let argv = ["/bin/sh", "-c", &payload(segments)]
        .map(str::to_owned)
        .to_vec();
    let decision = || {
        let command = CommandLine::new(black_box(&argv).clone(), None).ok()?;
        let analysis = Analysis::of(&command, &programs);
        let policy = resolve(&config, &document, Some("main"), Approval::None);
        let candidate = Candidate {
            command: &command,
            analysis: &analysis,
            cwd: Some("/srv"),
            allowlist: rules.for_agent("main"),
            safe_bins: config.safe_bins("main"),
            skills: None,
            strict_inline_eval: false,
            has_unresolved_wrapper: false,
        };
        Some(decide(&policy, &candidate))
    };
    let decided = decision();
    assert!(matches!(decided, Some(Decision::Allow(_))), "{decided:?}");
    bencher.bench_local(decision);
}

/// What is promised.
#[divan::bench]
fn twenty_segments_and_two_hundred_entries(bencher: Bencher<'_, '_>) {
    measure(bencher, 20, 200);
}

/// Twice the entries, at most twice the time.
#[divan::bench(args = [50, 100, 200, 400, 800, 1600])]
fn by_entries(bencher: Bencher<'_, '_>, entries: usize) {
    measure(bencher, 20, entries);
}

/// Twice the segments, at most twice the time.
#[divan::bench(args = [5, 10, 20, 40, 80, 160])]
fn by_segments(bencher: Bencher<'_, '_>, segments: usize) {
    measure(bencher, segments, 200);
}
