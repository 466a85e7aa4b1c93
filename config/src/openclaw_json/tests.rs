//! What openclaw.json may say, and how what it must not say is refused.

use std::fs;
use std::time::Duration;

use approvals::policy::{Ask, ExecLayer, Mode, Security};
use approvals::safe_bins::{ProfileSettings, SafeBinSettings};
use secrecy::ExposeSecret as _;

use super::*;

fn load(text: impl AsRef<[u8]>) -> Result<OpenclawJson, OpenclawJsonError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openclaw.json");
    fs::write(&file, text).unwrap();
    load_file(&file)
}

fn load_file(file: &Path) -> Result<OpenclawJson, OpenclawJsonError> {
    let paths = Paths {
        home: PathBuf::from("/home/a"),
        state_dir: file.parent().unwrap().to_owned(),
        config_file: file.to_owned(),
    };
    OpenclawJson::load(&paths, &mut Environment::default())
}

fn layer(security: Option<Security>, ask: Option<Ask>, mode: Option<Mode>) -> ExecLayer {
    ExecLayer {
        security,
        ask,
        mode,
        ..ExecLayer::default()
    }
}

#[test]
fn a_file_that_says_nothing_is_like_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let missing = load_file(&dir.path().join("openclaw.json")).unwrap();
    assert_eq!(missing.exec, ExecConfig::default());
    for text in [
        "{}",
        "// nothing\n{ /* at all */ }",
        "\u{feff}{}",
        "{tools: {}, agents: {}}",
        "{tools: {exec: {}}, agents: {list: [], entries: {}}}",
        // Upstream's business.
        "{gateway: {bind: 7, nodes: []}, tools: {web: 7, exec: {host: 'node', timeoutSec: []}}}",
        "{agents: {defaults: {workspace: '~'}, list: [{id: 'main'}, {name: 5}], entries: {x: {}}}}",
        // A dot in a key is no path.
        "{'tools.exec.security': 'full', 'tools.exec': {security: 'full'}}",
    ] {
        assert_eq!(load(text).expect(text).exec, missing.exec, "{text}");
    }
}

#[test]
fn a_browser_may_be_given_more_time_to_start() {
    let times = |text: &str| {
        let browser = load(text).expect(text).browser;
        (browser.launch_timeout, browser.cdp_ready_timeout)
    };
    let seconds = Duration::from_secs;
    assert_eq!(times("{browser: {}}"), (seconds(15), seconds(8)));
    let text = "{browser: {localLaunchTimeoutMs: 60000, localCdpReadyTimeoutMs: 20000}}";
    assert_eq!(times(text), (seconds(60), seconds(20)));
}

#[test]
fn every_word_of_the_policy_is_understood() {
    let cases = [
        ("security: 'deny'", layer(Some(Security::Deny), None, None)),
        (
            "security: 'allowlist'",
            layer(Some(Security::Allowlist), None, None),
        ),
        ("security: 'full'", layer(Some(Security::Full), None, None)),
        ("ask: 'off'", layer(None, Some(Ask::Off), None)),
        ("ask: 'on-miss'", layer(None, Some(Ask::OnMiss), None)),
        ("ask: 'always'", layer(None, Some(Ask::Always), None)),
        ("mode: 'deny'", layer(None, None, Some(Mode::Deny))),
        (
            "mode: 'allowlist'",
            layer(None, None, Some(Mode::Allowlist)),
        ),
        ("mode: 'ask'", layer(None, None, Some(Mode::Ask))),
        ("mode: 'auto'", layer(None, None, Some(Mode::Auto))),
        ("mode: 'full'", layer(None, None, Some(Mode::Full))),
        (
            "security: 'full', ask: 'always', mode: 'deny', security: 'deny',",
            layer(Some(Security::Deny), Some(Ask::Always), Some(Mode::Deny)),
        ),
    ];
    for (members, layer) in cases {
        let global = load(format!("{{tools: {{exec: {{{members}}}}}}}")).expect(members);
        assert_eq!(global.exec, ExecConfig::new(layer.clone()), "{members}");
        let of_one = ExecConfig::default().with_agent("ops", layer);
        for place in ["list: [{id: 'ops', #}]", "entries: {ops: {#}}"] {
            let own = format!("tools: {{exec: {{{members}}}}}");
            let text = format!("{{agents: {{{}}}}}", place.replace('#', &own));
            assert_eq!(load(&text).expect(&text).exec, of_one, "{text}");
        }
    }
}

#[test]
fn filters_and_inline_code_are_configured_for_all_and_for_one() {
    let read = load(
        "{
            tools: {exec: {
                safeBins: ['sort'],
                safeBinProfiles: {mytool: {
                    minPositional: 0, maxPositional: 1,
                    allowedValueFlags: ['--x'], deniedFlags: ['-z'],
                }},
                safeBinTrustedDirs: ['/opt/tools'],
            }},
            agents: {list: [{id: 'ops', tools: {exec: {strictInlineEval: true}}}]},
        }",
    );
    let profile = ProfileSettings {
        min_positional: Some(0),
        max_positional: Some(1),
        allowed_value_flags: vec!["--x".to_owned()],
        denied_flags: vec!["-z".to_owned()],
    };
    let global = ExecLayer {
        safe_bins: SafeBinSettings {
            bins: Some(vec!["sort".to_owned()]),
            profiles: [("mytool".to_owned(), profile)].into(),
            trusted_dirs: vec!["/opt/tools".to_owned()],
        },
        ..ExecLayer::default()
    };
    let own = ExecLayer {
        strict_inline_eval: true,
        ..ExecLayer::default()
    };
    let config = read.unwrap().exec;
    assert!(config.strict_inline_eval("ops"));
    assert!(!config.strict_inline_eval("main"));
    assert_eq!(config, ExecConfig::new(global).with_agent("ops", own));
}

#[test]
fn all_places_are_read_together() {
    let read = load(
        "{
            // JSON5, as operators write it.
            tools: {exec: {security: 'allowlist', ask: 'on-miss',},},
            agents: {
                list: [
                    {id: 'main', tools: {exec: {ask: 'always'}}},
                    {id: 'plain'},
                ],
                entries: {
                    'Ops.Team': {tools: {exec: {mode: 'full'}}},
                    quiet: {tools: {profile: 'minimal'}},
                },
            },
        }",
    );
    let expected = ExecConfig::new(layer(Some(Security::Allowlist), Some(Ask::OnMiss), None))
        .with_agent("main", layer(None, Some(Ask::Always), None))
        .with_agent("Ops.Team", layer(None, None, Some(Mode::Full)));
    assert_eq!(read.unwrap().exec, expected);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_its_key() {
    let cases = [
        ("[]", "the whole file must be an object"),
        (
            "{tools: {exec: {strictInlineEval: 'yes'}}}",
            "tools.exec.strictInlineEval must be true or false",
        ),
        (
            "{tools: {exec: {safeBins: 'sort'}}}",
            "tools.exec.safeBins must be an array",
        ),
        (
            "{tools: {exec: {safeBinTrustedDirs: [1]}}}",
            "tools.exec.safeBinTrustedDirs[0] must be a string",
        ),
        (
            "{tools: {exec: {safeBinProfiles: {x: {maxPositional: -1}}}}}",
            "tools.exec.safeBinProfiles.x.maxPositional must be a whole number, 0 or more",
        ),
        ("7", "the whole file must be an object"),
        ("null", "the whole file must be an object"),
        ("{tools: null}", "tools must be an object"),
        ("{tools: []}", "tools must be an object"),
        ("{tools: {exec: 'full'}}", "tools.exec must be an object"),
        (
            "{tools: {exec: {security: 1}}}",
            "tools.exec.security must be a string",
        ),
        (
            "{tools: {exec: {security: null}}}",
            "tools.exec.security must be a string",
        ),
        (
            "{tools: {exec: {security: ['full']}}}",
            "tools.exec.security must be a string",
        ),
        (
            "{tools: {exec: {ask: false}}}",
            "tools.exec.ask must be a string",
        ),
        (
            "{tools: {exec: {mode: {}}}}",
            "tools.exec.mode must be a string",
        ),
        (
            "{tools: {exec: {security: 'Full'}}}",
            "tools.exec.security has an unknown value; use one of deny, allowlist or full",
        ),
        (
            "{tools: {exec: {security: ' full'}}}",
            "tools.exec.security has an unknown value; use one of deny, allowlist or full",
        ),
        (
            "{tools: {exec: {ask: 'never'}}}",
            "tools.exec.ask has an unknown value; use one of off, on-miss or always",
        ),
        (
            "{tools: {exec: {mode: ''}}}",
            "tools.exec.mode has an unknown value; use one of deny, allowlist, ask, auto or full",
        ),
        ("{agents: []}", "agents must be an object"),
        ("{agents: {list: {}}}", "agents.list must be an array"),
        (
            "{agents: {list: ['main']}}",
            "agents.list[0] must be an object",
        ),
        (
            "{agents: {list: [{}, {tools: 1}]}}",
            "agents.list[1].tools must be an object",
        ),
        (
            "{agents: {list: [{tools: {exec: {}}}]}}",
            "agents.list[0] must be an object with an id",
        ),
        (
            "{agents: {list: [{id: 7, tools: {exec: {}}}]}}",
            "agents.list[0].id must be a string",
        ),
        (
            "{agents: {list: [{id: 'a', tools: {exec: {ask: 'x'}}}]}}",
            "agents.list[0].tools.exec.ask has an unknown value; use one of",
        ),
        (
            "{agents: {entries: []}}",
            "agents.entries must be an object",
        ),
        (
            "{agents: {entries: {a: 1}}}",
            "agents.entries.a must be an object",
        ),
        (
            "{agents: {entries: {a: {tools: {exec: {mode: 1}}}}}}",
            "agents.entries.a.tools.exec.mode must be a string",
        ),
        (
            "{agents: {list: [{id: 'A', tools: {exec: {}}}], entries: {a: {tools: {exec: {}}}}}}",
            "agents.entries.a.tools.exec repeats what agents.list[0].tools.exec says about the \
             same agent; keep one of them",
        ),
        (
            "{agents: {entries: {b: {tools: {exec: {}}}, B: {tools: {exec: {}}}}}}",
            "agents.entries.b.tools.exec repeats what agents.entries.B.tools.exec says",
        ),
    ];
    for (text, expected) in cases {
        let error = load(text).expect_err(text).to_string();
        let (file, complaint) = error.split_once(": ").unwrap();
        assert!(file.ends_with("openclaw.json:1"), "{error}");
        assert!(complaint.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn an_agent_that_is_named_twice_is_told_with_the_line_of_the_second() {
    let text = "{agents: {list: [\n{id: 'a', tools: {exec: {}}},\n{id: 'A', tools: {exec: {}}}]}}";
    let error = load(text).unwrap_err().to_string();
    assert!(
        error.contains("openclaw.json:3: agents.list[1].tools.exec repeats"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_json5_is_refused_with_its_place() {
    for text in [
        "",
        "{",
        "{tools: }",
        "{} {}",
        "tools: {}",
        "{tools: {exec: {ask: off}}}",
    ] {
        let error = load(text).expect_err(text).to_string();
        assert!(
            error.contains("openclaw.json is not valid JSON5: "),
            "{text:?}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    let error = load("{\n  tools: {exec: !},\n}").unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let error = load(b"{\xff: 1}").unwrap_err().to_string();
    assert!(error.ends_with("it is not UTF-8"), "{error}");
}

#[test]
fn a_wrong_value_is_never_shown() {
    for text in [
        "{tools: {exec: {security: 'hunter2'}}}",
        "{tools: 'hunter2'}",
        "{gateway: {auth: {token: 'hunter2'}}, tools: {exec: {ask: 'hunter2'}}}",
        "{gateway: {auth: {token: 'hunter2' 'hunter2'}}}",
    ] {
        let error = load(text).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[test]
fn only_a_regular_file_of_bearable_size_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openclaw.json");
    fs::create_dir(&file).unwrap();
    let error = load_file(&file).unwrap_err();
    assert!(
        matches!(error, OpenclawJsonError::NotAFile { .. }),
        "{error:?}"
    );

    // Nobody writes to this pipe, so reading it would wait for ever.
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let error = load_file(&pipe).unwrap_err();
    assert!(
        matches!(error, OpenclawJsonError::NotAFile { .. }),
        "{error:?}"
    );

    let below_a_file = dir.path().join("file").join("openclaw.json");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = load_file(&below_a_file).unwrap_err();
    assert!(
        matches!(error, OpenclawJsonError::Unreadable { .. }),
        "{error:?}"
    );

    let linked = dir.path().join("linked.json");
    fs::write(
        dir.path().join("real.json"),
        "{tools: {exec: {mode: 'deny'}}}",
    )
    .unwrap();
    std::os::unix::fs::symlink("real.json", &linked).unwrap();
    assert_ne!(load_file(&linked).unwrap().exec, ExecConfig::default());

    let limit = usize::try_from(FILE_LIMIT_BYTES).unwrap();
    let padded = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
    assert!(load(padded(limit)).is_ok());
    assert!(matches!(
        load(padded(limit + 1)),
        Err(OpenclawJsonError::TooLarge { .. })
    ));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    for text in ["[".repeat(1_000_000), "{a:".repeat(600_000)] {
        let error = load(text).unwrap_err().to_string();
        assert!(
            error.ends_with("it is nested deeper than 128 levels"),
            "{error}"
        );
    }
    let deepest = format!("{{a: {}{}}}", "[".repeat(127), "]".repeat(127));
    assert!(load(deepest).is_ok());
}

fn load_with(
    text: &str,
    variables: &[(&str, &str)],
) -> (Result<OpenclawJson, OpenclawJsonError>, Environment) {
    let dir = tempfile::tempdir().unwrap();
    let mut environment = variables.iter().copied().collect();
    let paths = Paths {
        home: PathBuf::from("/home/a"),
        state_dir: dir.path().to_owned(),
        config_file: dir.path().join("openclaw.json"),
    };
    fs::write(&paths.config_file, text).unwrap();
    let loaded = OpenclawJson::load(&paths, &mut environment);
    (loaded, environment)
}

/// Files by name.
type Files<'a> = &'a [(&'a str, &'a str)];

/// A folder with these files, of which `openclaw.json` is read.
fn load_files(files: Files<'_>) -> Result<OpenclawJson, OpenclawJsonError> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    load_file(&dir.path().join("openclaw.json"))
}

#[test]
fn the_environment_stands_above_the_file_and_the_file_above_what_holds_without_it() {
    let port = |text: &str, variables: &[(&str, &str)]| {
        let loaded = load_with(text, variables).0.unwrap();
        (loaded.gateway.port, loaded.warnings.len())
    };
    assert_eq!(port("{}", &[]), (18789, 0));
    assert_eq!(port("{gateway: {port: 1}}", &[]), (1, 0));
    let moved = [("OPENCLAW_GATEWAY_PORT", " 4000 ")];
    assert_eq!(port("{gateway: {port: 1}}", &moved), (4000, 0));
    let nonsense = [("OPENCLAW_GATEWAY_PORT", "4000x")];
    assert_eq!(port("{gateway: {port: 1}}", &nonsense), (1, 1));
    let gateway =
        load("{gateway: {mode: 'remote', tls: {enabled: true}, auth: {mode: 'trusted-proxy'}}}");
    let gateway = gateway.unwrap().gateway;
    assert_eq!(gateway.mode, GatewayMode::Remote);
    assert_eq!(gateway.auth_mode, Some(AuthMode::TrustedProxy));
    assert!(gateway.tls_enabled);
}

#[test]
fn a_credential_is_a_text_or_a_reference() {
    let set = [("SET", " value "), ("lower", "x")];
    let token = |text: &str| {
        let text = format!(
            "{{secrets: {{defaults: {{env: 'own'}}}}, gateway: {{auth: {{token: {text}}}}}}}"
        );
        let loaded = load_with(&text, &set).0.expect(&text);
        match loaded.gateway.token {
            None => "nothing".to_owned(),
            Some(SecretInput::Plain(value)) => format!("plain {}", value.expose_secret()),
            Some(SecretInput::Reference(SecretReference {
                source,
                provider,
                id,
            })) => format!("{} {provider} {id}", source.as_str()),
            Some(SecretInput::Incomplete { variables }) => {
                format!("without {}", variables.join(" "))
            }
        }
    };
    for (text, expected) in [
        ("' plain '", "plain plain"),
        ("'  '", "nothing"),
        ("'${SET}'", "plain value"),
        ("' ${SET} '", "plain value"),
        ("'a${SET}b'", "plain a value b"),
        ("'$SET'", "env own SET"),
        ("'${MISSING}'", "env own MISSING"),
        ("'$MISSING'", "env own MISSING"),
        ("'a${MISSING}b${OTHER}'", "without MISSING OTHER"),
        ("'${_MISSING}'", "without _MISSING"),
        ("'$${SET}'", "plain ${SET}"),
        ("'${lower}'", "plain ${lower}"),
        ("'secretref-env:SET'", "plain secretref-env:SET"),
        (
            "{source: 'env', provider: 'default', id: 'A_1'}",
            "env default A_1",
        ),
        (
            "{source: 'store', provider: 'team', id: 'A'}",
            "store team A",
        ),
        (
            "{source: 'file', provider: 'f', id: '/a~1b/~0'}",
            "file f /a~1b/~0",
        ),
        (
            "{source: 'file', provider: 'f', id: 'value'}",
            "file f value",
        ),
        (
            "{source: 'exec', provider: 'x', id: 'a/b#c'}",
            "exec x a/b#c",
        ),
        (
            "{source: 'env', provider: 'default', id: '${SET_ID}'}",
            "env default FROM_ENV",
        ),
    ] {
        if text.contains("SET_ID") {
            let text = format!("{{gateway: {{auth: {{token: {text}}}}}}}");
            let loaded = load_with(&text, &[("SET_ID", "FROM_ENV")]).0.unwrap();
            assert!(
                matches!(loaded.gateway.token, Some(SecretInput::Reference(reference)) if reference.id == "FROM_ENV")
            );
            continue;
        }
        assert_eq!(token(text), expected, "{text}");
    }
    for wrong in [
        "7",
        "null",
        "['a']",
        "{source: 'env', id: 'A'}",
        "{source: 'env', provider: 'default', id: 'A', more: 1}",
        "{source: 'vault', provider: 'default', id: 'A'}",
        "{source: 'env', provider: 'Default', id: 'A'}",
        "{source: 'env', provider: 'default', id: 'a'}",
        "{source: 'file', provider: 'default', id: 'token'}",
        "{source: 'file', provider: 'default', id: '/a~2'}",
        "{source: 'exec', provider: 'default', id: 'a/../b'}",
        "{source: 'exec', provider: 'default', id: '-a'}",
    ] {
        let error = load(format!("{{gateway: {{remote: {{password: {wrong}}}}}}}"));
        let error = error.expect_err(wrong).to_string();
        assert!(
            error.contains(": gateway.remote.password must be "),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn variables_are_filled_in_everywhere_else_too() {
    let (loaded, _) = load_with(
        "{tools: {exec: {security: '${LEVEL}', safeBinTrustedDirs: ['/opt/${MISSING}/bin']}}}",
        &[("LEVEL", "deny")],
    );
    let loaded = loaded.unwrap();
    let expected = ExecLayer {
        security: Some(Security::Deny),
        safe_bins: SafeBinSettings {
            trusted_dirs: vec!["/opt/${MISSING}/bin".to_owned()],
            ..SafeBinSettings::default()
        },
        ..ExecLayer::default()
    };
    assert_eq!(loaded.exec, ExecConfig::new(expected));
    assert_eq!(
        loaded.warnings,
        [
            "tools.exec.safeBinTrustedDirs[0] of openclaw.json names MISSING, which is not set; it stays as it is written"
        ]
    );
}

#[test]
fn its_own_variables_go_beneath_the_environment() {
    let (loaded, environment) = load_with(
        "{env: {vars: {A: 'one', SET: 'no', BLANK: ' ', '1X': 'x', REF: '${A}',
                       OPENCLAW_ALLOW_INSECURE_PRIVATE_WS: '1', openclaw_include_roots: '/'},
                B: 'two', shellEnv: {enabled: true}},
          gateway: {auth: {token: '${A}${B}'}}}",
        &[("SET", "yes")],
    );
    let texts = [
        "A",
        "B",
        "SET",
        "BLANK",
        "REF",
        "OPENCLAW_ALLOW_INSECURE_PRIVATE_WS",
        "openclaw_include_roots",
    ];
    let texts = texts.map(|name| environment.text(name));
    assert_eq!(
        texts,
        [
            Some("one"),
            Some("two"),
            Some("yes"),
            None,
            None,
            None,
            None
        ]
    );
    let token = loaded.unwrap().gateway.token;
    assert!(matches!(token, Some(SecretInput::Plain(value)) if value.expose_secret() == "onetwo"));
    let error = load("{env: {vars: {A: 1}}}").unwrap_err().to_string();
    assert!(
        error.ends_with("openclaw.json:1: env.vars.A must be a string"),
        "{error}"
    );
}

#[test]
fn an_included_file_stands_where_it_is_named() {
    let of = |files: Files<'_>| load_files(files).map(|loaded| loaded.exec);
    let expected = ExecConfig::new(ExecLayer {
        ask: Some(Ask::Always),
        safe_bins: SafeBinSettings {
            bins: Some(vec!["sort".to_owned(), "wc".to_owned()]),
            ..SafeBinSettings::default()
        },
        ..layer(Some(Security::Deny), None, None)
    });
    let root = "{$include: 'parts/all.json5'}";
    let all = "{$include: ['./a.json5', 'b.json5'], tools: {exec: {safeBins: ['wc']}}, web: {$include: '/etc/passwd'}}";
    let a = "{tools: {exec: {security: 'full', ask: 'off', safeBins: ['sort']}}}";
    let b = "{tools: {exec: {$include: '../exec.json'}}}";
    let exec = "{security: 'deny', ask: 'always'}";
    let files = [
        ("openclaw.json", root),
        ("parts/all.json5", all),
        ("parts/a.json5", a),
        ("parts/b.json5", b),
        ("exec.json", exec),
    ];
    assert_eq!(of(&files).unwrap(), expected);

    let wrong = [
        ("openclaw.json", "{\ntools: {$include: 'tools.json'}}"),
        ("tools.json", "{\n\nexec: {ask: 1}}"),
    ];
    let error = of(&wrong).unwrap_err().to_string();
    assert!(
        error.ends_with("tools.json:3: tools.exec.ask must be a string"),
        "{error}"
    );
}

#[test]
fn an_include_that_cannot_be_followed_is_refused_with_its_line() {
    let long = format!("{{\ntools: {{$include: '{}'}}}}", "a".repeat(5000));
    let cases: [(&str, Files<'_>, &str); 9] = [
        (
            "{\ntools: {$include: 7}}",
            &[],
            "it must be a path, or an array of paths",
        ),
        (
            "{\ntools: {$include: ['a.json', 7]}}",
            &[("a.json", "{}")],
            "it must be a path",
        ),
        (
            "{\ntools: {$include: '../a.json'}}",
            &[],
            "it leads out of the folder of openclaw.json",
        ),
        (
            "{\ntools: {$include: '/etc/passwd'}}",
            &[],
            "it leads out of the folder of openclaw.json",
        ),
        (
            "{\ntools: {$include: 'x\\0y'}}",
            &[],
            "the path must not contain a null byte",
        ),
        (&long, &[], "the path must be shorter"),
        (
            "{\n$include: 'openclaw.json'}",
            &[],
            "it leads back to itself",
        ),
        (
            "{\ntools: {$include: 'a.json', exec: {}}}",
            &[("a.json", "[]")],
            "other keys stand beside it",
        ),
        (
            "{\n$include: './x/../openclaw.json'}",
            &[],
            "it leads back to itself",
        ),
    ];
    for (root, files, expected) in cases {
        let mut all = vec![("openclaw.json", root)];
        all.extend(files);
        let error = load_files(&all).expect_err(root).to_string();
        let (place, reason) = error.split_once(": $include: ").expect(&error);
        assert!(place.ends_with("openclaw.json:2"), "{error}");
        assert!(reason.starts_with(expected), "{root}: {error}");
    }
    let missing = load_files(&[("openclaw.json", "{$include: 'gone.json'}")]);
    let missing = missing.unwrap_err().to_string();
    assert!(
        missing.starts_with("cannot read ") && missing.contains("gone.json"),
        "{missing}"
    );
    let broken = load_files(&[("openclaw.json", "{$include: 'a.json'}"), ("a.json", "{")]);
    let broken = broken.unwrap_err().to_string();
    assert!(broken.contains("a.json is not valid JSON5"), "{broken}");
}

#[test]
fn ten_files_may_take_each_other_in_and_no_more() {
    let chain = |length: usize| {
        let name = |index: usize| match index {
            0 => "openclaw.json".to_owned(),
            _ => format!("{index}.json"),
        };
        let files: Vec<(String, String)> = (0..=length)
            .map(|index| {
                let text = match index == length {
                    true => "{tools: {exec: {mode: 'deny'}}}".to_owned(),
                    false => format!("{{$include: '{}'}}", name(index + 1)),
                };
                (name(index), text)
            })
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        load_files(&files).map(|loaded| loaded.exec)
    };
    assert_ne!(chain(10).unwrap(), ExecConfig::default());
    let error = chain(11).unwrap_err().to_string();
    assert!(
        error.contains("10.json:1: $include: more than 10 files"),
        "{error}"
    );
    // Every level doubles what is read, were it not counted.
    let double = |index: usize| {
        format!(
            "{{$include: ['{0}.json', '{0}.json', '{0}.json']}}",
            index + 1
        )
    };
    let texts: Vec<String> = (0..10).map(double).collect();
    let names: Vec<String> = (0..10).map(|index| format!("{index}.json")).collect();
    let mut files: Vec<(&str, &str)> = names
        .iter()
        .zip(&texts)
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    files[0].0 = "openclaw.json";
    files.push(("10.json", "{}"));
    let error = load_files(&files).unwrap_err().to_string();
    assert!(error.contains("more than 1000 files"), "{error}");
}

#[test]
fn links_may_not_lead_an_include_astray() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state");
    fs::create_dir(&folder).unwrap();
    let outside = dir.path().join("outside.json");
    fs::write(&outside, "{exec: {mode: 'deny'}}").unwrap();
    let config = folder.join("openclaw.json");
    fs::write(&config, "{tools: {$include: 'link.json'}}").unwrap();
    let link = folder.join("link.json");

    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let error = load_file(&config).unwrap_err().to_string();
    assert!(error.contains("a link leads out of the folder"), "{error}");
    let paths = Paths {
        home: dir.path().to_owned(),
        state_dir: folder.clone(),
        config_file: config.clone(),
    };
    let mut environment = [("OPENCLAW_INCLUDE_ROOTS", "/nowhere: ~ ")]
        .into_iter()
        .collect();
    let allowed = OpenclawJson::load(&paths, &mut environment).unwrap();
    assert_ne!(allowed.exec, ExecConfig::default());

    fs::remove_file(&link).unwrap();
    fs::hard_link(&outside, &link).unwrap();
    let error = load_file(&config).unwrap_err();
    assert!(
        matches!(error, OpenclawJsonError::HardLinked { .. }),
        "{error}"
    );
}
