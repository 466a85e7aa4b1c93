use std::os::unix::ffi::OsStringExt;

use serde_json::json;

use super::*;

fn base(process: &[(&str, &str)]) -> BaseEnvironment {
    BaseEnvironment::new(
        process
            .iter()
            .map(|(key, value)| (key.into(), value.into())),
    )
}

/// What a command sees of `key` if the node was started with this environment.
fn inherited(process: &[(&str, &str)], key: &str) -> Option<String> {
    seen(&base(process).with(Overrides::default()), key)
}

fn seen(environment: &CommandEnvironment, key: &str) -> Option<String> {
    let last = environment.iter().filter(|(name, _)| *name == key).last();
    last.map(|(_, value)| value.to_str().unwrap().to_owned())
}

fn parse(env: Value) -> Result<Overrides, String> {
    Overrides::parse(env.as_object().unwrap()).map_err(|rejection| rejection.to_string())
}

fn accepted(env: Value) -> Vec<(String, String)> {
    parse(env).unwrap().accepted.into_iter().collect()
}

const BLOCKED: &str = "SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: ";

#[test]
fn every_name_is_inherited_and_overridden_as_its_lists_say() {
    for key in keys::tests::every_name() {
        let lower = key.to_ascii_lowercase();
        let process = [(key.as_str(), "value"), (lower.as_str(), "value")];
        let is_kept = keys::tests::is_kept(&key);
        // The two that are narrowed rather than dropped have a test of their own.
        if !key.starts_with("GIT_ALLOW") && !key.starts_with("GIT_PROTOCOL") {
            let expected = is_kept.then(|| "value".to_owned());
            assert_eq!(inherited(&process, &key), expected, "{key}");
            assert_eq!(inherited(&process, &lower), expected, "{lower}");
        }

        let expected = format!("{BLOCKED}{key})");
        let is_refused = keys::tests::is_refused(&key);
        for key in [&key, &lower] {
            let refusal = parse(json!({ key.as_str(): "value" })).err();
            assert_eq!(refusal, is_refused.then(|| expected.clone()), "{key}");
            assert_eq!(
                blocked_assignment_keys([key]).is_some(),
                is_refused,
                "{key}"
            );
        }
    }
}

#[test]
fn names_are_recognised_by_how_they_begin() {
    let withheld = [
        "LD_AUDIT",
        "LD_",
        "ld_preload",
        "DYLD_X",
        "BASH_FUNC_x%%",
        "LISTEN_FDS",
    ];
    let withheld = withheld
        .into_iter()
        .chain(["WATCHDOG_USEC", "WATCHDOG_PID"]);
    for key in withheld {
        assert_eq!(inherited(&[(key, "value")], key), None, "{key}");
    }
    let kept = [
        "LDFLAG",
        "XLD_PRELOAD",
        "TF_VAR_x",
        "GIT_CONFIG_COUNT",
        "NPM_CONFIG_REGISTRY",
    ];
    let kept = kept
        .into_iter()
        .chain(["CARGO_REGISTRIES_A", "CARGO_TARGET_X_RUNNER", "LISTEN"]);
    for key in kept {
        assert_eq!(
            inherited(&[(key, "value")], key).as_deref(),
            Some("value"),
            "{key}"
        );
    }

    let refused = [
        "LD_AUDIT",
        "DYLD_X",
        "BASH_FUNC_x",
        "TF_VAR_x",
        "git_config_count",
        "NPM_CONFIG_REGISTRY",
        "CARGO_REGISTRIES_A",
        "CARGO_TARGET_X_RUNNER",
        "CARGO_TARGET_x86_64_UNKNOWN_LINUX_GNU_LINKER",
        "CARGO_TARGET___LINKER",
        "path",
        "PATH",
    ];
    for key in refused {
        let expected = format!("{BLOCKED}{})", key.to_ascii_uppercase());
        assert_eq!(parse(json!({ key: "value" })), Err(expected));
    }
    let free = [
        "CARGO_TARGET_LINKER",
        "CARGO_TARGET__LINKER",
        "CARGO_TARGET_X_LINKERS",
        "PATHS",
    ];
    let free = free
        .into_iter()
        .chain(["CARGO_TARGET_DIR", "CARGO_TARGET_X(_LINKER"]);
    for key in free {
        assert_eq!(
            accepted(json!({ key: "value" })),
            [(key.to_owned(), "value".to_owned())]
        );
    }
}

#[test]
fn ordinary_variables_and_values_of_any_bytes_are_inherited() {
    let raw = OsString::from_vec(b"\xff\xfe".to_vec());
    let process = [
        ("CI".into(), raw.clone()),
        (raw.clone(), "value".into()),
        ("EMPTY".into(), OsString::new()),
    ];
    let environment = BaseEnvironment::new(process).with(Overrides::default());
    let found: Vec<(&OsStr, &OsStr)> = environment.iter().collect();
    assert!(found.contains(&(OsStr::new("CI"), &raw)));
    assert!(found.contains(&(&raw, OsStr::new("value"))));
    assert!(found.contains(&(OsStr::new("EMPTY"), OsStr::new(""))));
}

#[test]
fn values_cannot_be_printed() {
    let base = base(&[("API_KEY", "secret")]);
    let overrides = parse(json!({"OTHER_KEY": "secret"})).unwrap();
    let shown = format!("{base:?} {overrides:?} {:?}", base.with(overrides.clone()));
    assert!(shown.contains("API_KEY") && shown.contains("OTHER_KEY"));
    assert!(!shown.contains("secret"));
}

#[test]
fn a_command_is_marked_whatever_is_inherited_or_asked_for() {
    let process = base(&[("OPENCLAW_CLI", "0")]);
    let overrides = parse(json!({"OPENCLAW_CLI": "0"})).unwrap();
    assert_eq!(
        seen(&process.with(overrides), "OPENCLAW_CLI").as_deref(),
        Some("1")
    );
}

#[test]
fn an_inherited_git_protocol_list_is_narrowed() {
    let table = [
        ("http:https", "http:https"),
        ("file:ssh:ext:git", "ssh:git"),
        ("ext", ""),
        ("", ""),
        ("  ", "  "),
        ("HTTP", ""),
    ];
    for (value, expected) in table {
        let process = [("GIT_ALLOW_PROTOCOL", value)];
        let found = inherited(&process, "GIT_ALLOW_PROTOCOL");
        assert_eq!(found.as_deref(), Some(expected), "{value}");
    }
}

#[test]
fn git_is_never_told_that_a_user_typed_the_address() {
    for value in [
        "1", "true", "YES", "on", "-1", "+2", "42", " 1 ", "1k", "0x10", "007",
    ] {
        let process = [("GIT_PROTOCOL_FROM_USER", value)];
        let found = inherited(&process, "GIT_PROTOCOL_FROM_USER");
        assert_eq!(found.as_deref(), Some("0"), "{value}");
    }
    for value in ["0", "00", "false", "no", "off", "", "maybe"] {
        let process = [("GIT_PROTOCOL_FROM_USER", value)];
        let found = inherited(&process, "GIT_PROTOCOL_FROM_USER");
        assert_eq!(found.as_deref(), Some(value));
    }
}

#[test]
fn overrides_are_trimmed_and_only_strings_count() {
    let env =
        json!({" TRIMK ": "v", "NUMV": 5, "NULLV": null, "LISTV": ["x"], "_1": "", "a(x86)": "y"});
    let expected = [("TRIMK", "v"), ("_1", ""), ("a(x86)", "y")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(accepted(env), expected);
    assert_eq!(accepted(json!({})), []);
    // A value that does not count cannot be refused either.
    assert_eq!(accepted(json!({"PATH": 1, "BAD-KEY": null})), []);
}

#[test]
fn a_rejection_names_every_key_once_and_in_order() {
    let env = json!({
        "PYTHONPATH": "x", "bash_env": "x", "BASH_ENV": "x", "OK": "x",
        "BAD-KEY": "x", "1ST": "x", "(X": "x", "": "x", "é": "x",
    });
    let expected = "SYSTEM_RUN_DENIED: environment override rejected (blocked override keys: \
                    BASH_ENV, PYTHONPATH; invalid non-portable override keys: , (X, 1ST, BAD-KEY, é)";
    assert_eq!(parse(env).err().as_deref(), Some(expected));
    let expected = "SYSTEM_RUN_DENIED: environment override rejected (invalid non-portable \
                    override keys: BAD-KEY)";
    assert_eq!(
        parse(json!({"BAD-KEY": "1"})).err().as_deref(),
        Some(expected)
    );
}

#[test]
fn a_pager_may_only_be_switched_off() {
    for (key, value) in [("PAGER", "cat"), ("GIT_PAGER", ""), ("pager", "cat")] {
        assert_eq!(
            accepted(json!({ key: value })),
            [(key.to_owned(), String::new())]
        );
    }
    for value in ["less", " cat", "cat ", "CAT"] {
        assert_eq!(
            parse(json!({"PAGER": value})),
            Err(format!("{BLOCKED}PAGER)"))
        );
    }
    assert_eq!(
        parse(json!({"MANPAGER": "cat"})),
        Err(format!("{BLOCKED}MANPAGER)"))
    );
}

#[test]
fn in_front_of_a_shell_only_terminal_and_locale_settings_survive() {
    let env = json!({
        "TERM": "1", "LANG": "1", "LC_ALL": "1", "LC_CTYPE": "1", "LC_MESSAGES": "1", "lc_foo": "1",
        "COLORTERM": "1", "NO_COLOR": "1", "FORCE_COLOR": "1", "OPENCLAW_SUBAGENT_EXEC": "1",
        "PAGER": "cat", "git_pager": "", "CI": "1", "DEBUG": "1", "LC_(X": "1", "TERMINAL": "1",
    });
    let overrides = parse(env.clone()).unwrap();
    assert_eq!(overrides.accepted.len(), 16);
    let left: Vec<String> = overrides.for_shell_wrapper().accepted.into_keys().collect();
    let expected = [
        "COLORTERM",
        "FORCE_COLOR",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LC_MESSAGES",
        "NO_COLOR",
        "OPENCLAW_SUBAGENT_EXEC",
        "PAGER",
        "TERM",
        "git_pager",
        "lc_foo",
    ];
    assert_eq!(left, expected);
    assert!(
        parse(json!({"CI": "1"}))
            .unwrap()
            .for_shell_wrapper()
            .is_empty()
    );
}

#[test]
fn assignments_in_a_command_are_checked_like_overrides() {
    let text = |keys: &[&str]| blocked_assignment_keys(keys).map(|rejection| rejection.to_string());
    let denied = |keys: &str| {
        let before =
            "SYSTEM_RUN_DENIED: command env assignment rejected (blocked env assignment keys: ";
        Some(format!("{before}{keys})"))
    };
    assert_eq!(
        text(&["PYTHONPATH", "bash_env", "FOO", "BASH_ENV"]),
        denied("BASH_ENV, PYTHONPATH")
    );
    assert_eq!(text(&["PATH"]), denied("PATH"));
    assert_eq!(text(&["PAGER"]), denied("PAGER"));
    assert_eq!(text(&["LD_PRELOAD"]), denied("LD_PRELOAD"));
    assert_eq!(text(&["FOO", "not-portable", ""]), None);
    assert_eq!(text(&[]), None);
}

#[test]
fn a_file_that_shells_source_is_noticed_and_withheld() {
    assert!(!base(&[("HOME", "/h"), ("BASH_ENV", "")]).has_shell_startup());
    for key in ["BASH_ENV", "ENV", "env"] {
        let process = [(key, "/etc/startup")];
        assert!(base(&process).has_shell_startup() && is_shell_startup_key(key));
        assert_eq!(inherited(&process, key), None);
    }
    assert!(!is_shell_startup_key("ENVIRONMENT"));
}

#[test]
fn home_is_where_the_environment_says() {
    let home = |process: &[(&str, &str)]| base(process).home().map(Path::to_owned);
    assert_eq!(home(&[("HOME", "/h")]), Some("/h".into()));
    assert_eq!(
        home(&[("HOME", "/h"), ("OPENCLAW_HOME", "/o")]),
        Some("/o".into())
    );
    assert_eq!(
        home(&[("HOME", "/h"), ("OPENCLAW_HOME", "~/o")]),
        Some("/h/o".into())
    );
    assert_eq!(
        home(&[("HOME", "/h"), ("OPENCLAW_HOME", "")]),
        Some("/h".into())
    );
    assert!(home(&[]).is_some(), "the user database knows");
}

#[test]
fn the_search_path_cannot_be_overridden() {
    let base = base(&[("PATH", "/opt/tools"), ("HOME", "/nowhere")]);
    let command = base.with(Overrides::default());
    assert_eq!(command.search_path(), base.search_path());
    assert_eq!(
        seen(&command, "PATH").as_deref(),
        base.search_path().to_str()
    );
    assert!(
        base.search_path()
            .to_str()
            .unwrap()
            .ends_with(":/opt/tools")
    );
}
