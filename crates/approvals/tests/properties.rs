//! What holds for every argv, pattern and document.

#![cfg(test)]

#[path = "corpus/glob_model.rs"]
mod glob_model;

use std::path::PathBuf;

use openclaw_node_approvals::allowlist::{
    Allowlist, Arguments, Invocation, Resolution, Target, cwd_argv_binding,
};
use openclaw_node_approvals::command::{CommandLine, ShellUse};
use openclaw_node_approvals::document::{Document, Entry};
use openclaw_node_approvals::inline_eval;
use openclaw_node_approvals::wrapper::{InnerArgv, TrustPlan};
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};

/// Words that mean something to wrappers, shells and runners, and words that do not.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "env",
        "nice",
        "timeout",
        "flock",
        "sudo",
        "sh",
        "bash",
        "fish",
        "nu",
        "busybox",
        "npx",
        "pnpm",
        "exec",
        "command",
        "xargs",
        "python3",
        "-c",
        "-lc",
        "-S",
        "-n5",
        "-k1",
        "-k",
        "5",
        "--",
        "-",
        "-i",
        "-u",
        "-oL",
        "A=1",
        "LD_PRELOAD=x",
        "dlx",
        "-y",
        "/bin/sh",
        "./sh",
        "echo a",
        "A=1 sh -c 'echo b'",
        "$0 \"$@\"",
        "",
        " ",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn json() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "version",
        "socket",
        "path",
        "token",
        "defaults",
        "security",
        "ask",
        "askFallback",
        "autoAllowSkills",
        "agents",
        "main",
        "default",
        "*",
        "allowlist",
        "pattern",
        "argPattern",
        "source",
        "id",
        "lastUsedAt",
        "lastUsedCommand",
        "commandText",
        "mcpTools",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "deny",
            " full ",
            "off",
            "allow-always",
            "echo",
            "",
            " "
        ])
        .prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        let members = prop::collection::vec((key.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            members.prop_map(|members| {
                let members = members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value));
                Value::Object(members.collect())
            }),
        ]
    })
}

fn target(path: &str, arguments: &[String]) -> Target {
    let mut argv = vec![path.to_owned()];
    argv.extend_from_slice(arguments);
    Target::Program(Invocation {
        argv,
        resolution: Resolution {
            raw_token: path.to_owned(),
            resolved_path: Some(PathBuf::from(path)),
            real_path: Some(PathBuf::from(path)),
        },
    })
}

fn names(pattern: &str, arg_pattern: Option<&str>, target: &Target) -> bool {
    let entry = Entry {
        pattern: pattern.to_owned(),
        arg_pattern: arg_pattern.map(str::to_owned),
        ..Entry::default()
    };
    let arguments = Arguments {
        cwd: Some("/srv"),
        expand: false,
    };
    Allowlist::new(&[&entry], None)
        .find(target, arguments)
        .is_some()
}

proptest! {
    #[test]
    fn every_view_behind_wrappers_is_a_part_of_the_argv(argv in prop::collection::vec(word(), 1..10)) {
        let plan = TrustPlan::of(&argv);
        prop_assert!(plan.policy_index <= plan.execution_index);
        prop_assert!(plan.execution_index < argv.len());
        prop_assert!(argv.ends_with(plan.execution_argv(&argv)));
        let mut inner = InnerArgv::whole(&argv);
        for _ in 0..argv.len() {
            for position in 0..inner.words().len() {
                if let Some(index) = inner.index_of(position) {
                    prop_assert_eq!(&inner.words()[position], &argv[index]);
                }
            }
            let next = inner.behind_dispatch().or_else(|| inner.behind_multiplexer()).or_else(|| inner.behind_runner());
            let Some(next) = next else { break };
            inner = next;
        }
    }

    #[test]
    fn a_command_is_named_by_its_own_text_and_preview(argv in prop::collection::vec(word(), 1..10)) {
        let command = CommandLine::new(argv.clone(), None).unwrap();
        prop_assert!(CommandLine::new(argv.clone(), Some(command.text())).is_ok());
        if let Some(preview) = command.preview() {
            prop_assert!(CommandLine::new(argv.clone(), Some(preview)).is_ok());
        }
        if let ShellUse::Payload(payload) = command.shell() {
            let rewritten = command.with_payload(&payload.source);
            prop_assert!(payload.index.is_none() || rewritten.as_ref() == Some(&argv));
        }
    }

    #[test]
    fn inline_code_is_found_behind_any_transparent_wrapper(
        wrappers in prop::collection::vec(
            prop::sample::select(vec!["env", "nice", "nohup", "command", "sudo", "setsid", "npx"]), 0..6),
    ) {
        let code = ["python3", "-c", "1"];
        let argv: Vec<String> = wrappers.iter().chain(&code).map(|word| (*word).to_owned()).collect();
        prop_assert!(inline_eval::find(&argv).is_some());
    }

    #[test]
    fn a_glob_is_what_its_definition_says(glob in "[a/*?]{0,8}", text in "[ab/]{0,8}") {
        let (glob, text) = (format!("/{glob}"), format!("/{text}"));
        let expected = glob_model::matches(&glob.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(names(&glob, None, &target(&text, &[])), expected);
    }

    #[test]
    fn an_escaped_arg_pattern_matches_itself_and_nothing_longer(
        arguments in prop::collection::vec("[ -~]{1,6}", 1..4),
    ) {
        let target = target("/usr/bin/x", &arguments);
        let text = arguments.join(" ");
        let escaped: String = text
            .chars()
            .map(|char| if char.is_ascii_alphanumeric() || char == ' ' { char.to_string() } else { format!("\\{char}") })
            .collect();
        prop_assert!(names("/usr/bin/x", Some(&format!("^{escaped}$")), &target), "{}", escaped);
        let longer = format!("^{escaped}x$");
        prop_assert!(!names("/usr/bin/x", Some(&longer), &target));
    }

    #[test]
    fn any_arg_pattern_is_bounded_and_harmless(pattern in ".{0,40}", argument in ".{0,40}") {
        names("/usr/bin/x", Some(&pattern), &target("/usr/bin/x", &[argument]));
    }

    #[test]
    fn a_binding_names_one_list_of_arguments_only(
        one in prop::collection::vec("[ab ]{0,3}", 0..4),
        other in prop::collection::vec("[ab ]{0,3}", 0..4),
    ) {
        let with_name = |arguments: &[String]| {
            let mut argv = vec!["x".to_owned()];
            argv.extend_from_slice(arguments);
            argv
        };
        let binding = cwd_argv_binding("/srv", &with_name(&one));
        prop_assert_eq!(names("/x", Some(&binding), &target("/x", &other)), one == other);
    }

    #[test]
    fn a_document_that_was_read_is_written_and_read_again_the_same(value in json()) {
        let empty = Map::new();
        let file = value.as_object().unwrap_or(&empty);
        let mut count = 0;
        let mut ids = || { count += 1; format!("id-{count}") };
        let read = [Document::from_value(file, &mut ids).ok(), Document::parse(&value.to_string()).ok()];
        for document in read.into_iter().flatten() {
            let text = document.canonical_text();
            let again = Document::parse(text.expose_secret()).unwrap();
            prop_assert_eq!(&again, &document);
            prop_assert_eq!(again.revision(), document.revision());
            prop_assert!(again.redacted()["socket"].get("token").is_none());
        }
    }
}
