//! References followed to real files and real programs, and every way in which they must not be.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::openclaw_json::{OpenclawJson, SecretInput};
use crate::paths::Paths;

/// Far beyond what any of these providers is given.
const LONG: Duration = Duration::from_secs(60);

/// A folder of secrets, and openclaw.json in it.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn program(&self, script: &str) -> PathBuf {
        self.file("helper.sh", format!("#!/bin/sh\n{script}\n"), 0o700)
    }

    /// Follows a reference through the providers.
    fn follow(&self, providers: &Value, reference: &Value) -> Result<String, String> {
        self.follow_in(providers, reference, &[])
    }

    fn follow_in(
        &self,
        providers: &Value,
        reference: &Value,
        variables: &[(&str, &str)],
    ) -> Result<String, String> {
        let config = json!({
            "secrets": { "providers": providers },
            "gateway": { "auth": { "token": reference } },
        });
        let paths = Paths {
            home: self.path(""),
            state_dir: self.path(""),
            config_file: self.path("openclaw.json"),
        };
        fs::write(&paths.config_file, config.to_string()).unwrap();
        let mut environment: Environment = variables.iter().copied().collect();
        let loaded = OpenclawJson::load(&paths, &mut environment).unwrap();
        let Some(SecretInput::Reference(reference)) = &loaded.gateway.token else {
            panic!("{reference} is no reference");
        };
        let sources = SecretSources {
            secrets: &loaded.secrets,
            environment: &environment,
            home: &paths.home,
        };
        let followed = sources.follow(reference);
        followed
            .map(|secret| secret.expose_secret().to_owned())
            .map_err(|error| error.to_string())
    }

    fn program_with(&self, script: &str, more: Value, id: &str) -> Result<String, String> {
        let mut provider = json!({ "source": "exec", "command": self.program(script) });
        for (name, value) in more.as_object().unwrap() {
            provider[name] = value.clone();
        }
        let reference = json!({ "source": "exec", "provider": "x", "id": id });
        self.follow(&json!({ "x": provider }), &reference)
    }
}

fn reference(source: &str, provider: &str, id: &str) -> Value {
    json!({ "source": source, "provider": provider, "id": id })
}

#[test]
fn variables_are_found_through_the_default_and_through_lists() {
    let scene = Scene::new();
    let variables = [("TOKEN", " secret \n"), ("EMPTY", ""), ("BLANK", "  ")];
    let follow =
        |providers: Value, reference: Value| scene.follow_in(&providers, &reference, &variables);
    let listed = json!({ "e": { "source": "env", "allowlist": ["TOKEN"] }, "none": { "source": "env", "allowlist": [] } });
    assert_eq!(
        follow(json!({}), reference("env", "default", "TOKEN")).as_deref(),
        Ok("secret")
    );
    assert_eq!(
        follow(listed.clone(), reference("env", "e", "TOKEN")).as_deref(),
        Ok("secret")
    );
    // A list for the default counts as well.
    let default = json!({ "default": { "source": "env", "allowlist": ["OTHER"] } });
    for (providers, wanted, expected) in [
        (
            json!({}),
            reference("env", "default", "EMPTY"),
            "environment variable EMPTY is missing or empty",
        ),
        (
            json!({}),
            reference("env", "default", "GONE"),
            "environment variable GONE is missing or empty",
        ),
        (
            json!({}),
            reference("env", "default", "BLANK"),
            "the secret BLANK is blank",
        ),
        (
            json!({}),
            reference("env", "other", "TOKEN"),
            "secrets.providers.other is not configured",
        ),
        (
            listed.clone(),
            reference("env", "e", "EMPTY"),
            "EMPTY is not on the list secrets.providers.e.allowlist",
        ),
        (
            listed.clone(),
            reference("env", "none", "TOKEN"),
            "TOKEN is not on the list",
        ),
        (
            default,
            reference("env", "default", "TOKEN"),
            "TOKEN is not on the list",
        ),
        (
            listed,
            reference("file", "e", "/a"),
            "has source \"env\", but the reference asks for \"file\"",
        ),
        (
            json!({}),
            reference("store", "default", "TOKEN"),
            "source \"store\" is not supported here",
        ),
        (
            json!({ "s": { "source": "store" } }),
            reference("store", "s", "TOKEN"),
            "source \"store\" is not supported here",
        ),
        (
            json!({ "p": { "source": "exec", "pluginIntegration": { "pluginId": "a", "integrationId": "b" } } }),
            reference("exec", "p", "a"),
            "a plugin's provider is not supported here",
        ),
    ] {
        let error = follow(providers, wanted.clone()).unwrap_err();
        assert!(error.contains(expected), "{wanted}: {error}");
    }
}

#[test]
fn a_private_file_holds_one_secret_or_many() {
    let scene = Scene::new();
    let single = |contents: &str| {
        let path = scene.file("one", contents, 0o600);
        let providers = json!({ "f": { "source": "file", "path": path, "mode": "singleValue" } });
        scene.follow(&providers, &reference("file", "f", "value"))
    };
    assert_eq!(single("secret\n").as_deref(), Ok("secret"));
    assert_eq!(single("\u{feff}secret\r\n").as_deref(), Ok("secret"));
    assert!(single("\n").unwrap_err().contains("is blank"));
    assert!(
        single("__OPENCLAW_REDACTED__")
            .unwrap_err()
            .contains("placeholder")
    );

    let path = scene.file("many", r#"{"a/b": {"~": ["x", "deep"]}, "n": 5}"#, 0o400);
    let many = |id: &str| {
        let providers = json!({ "f": { "source": "file", "path": path } });
        scene.follow(&providers, &reference("file", "f", id))
    };
    assert_eq!(many("/a~1b/~0/1").as_deref(), Ok("deep"));
    for (id, expected) in [
        ("/a~1b/~0/2", "there is no /a~1b/~0/2 in the file"),
        ("/gone", "there is no /gone in the file"),
        ("value", "there is no value in the file"),
        ("/n", "/n is not a string"),
    ] {
        let error = many(id).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // Home is where `~` leads.
    scene.file("home-secret", "secret", 0o600);
    let providers =
        json!({ "f": { "source": "file", "path": "~/home-secret", "mode": "singleValue" } });
    assert_eq!(
        scene
            .follow(&providers, &reference("file", "f", "value"))
            .as_deref(),
        Ok("secret")
    );
}

#[test]
fn a_file_that_others_could_have_touched_is_not_read() {
    let scene = Scene::new();
    let read = |path: PathBuf, more: Value| {
        let mut provider = json!({ "source": "file", "path": path, "mode": "singleValue" });
        for (name, value) in more.as_object().unwrap() {
            provider[name] = value.clone();
        }
        let id = if provider["mode"] == "json" {
            "/a"
        } else {
            "value"
        };
        scene.follow(&json!({ "f": provider }), &reference("file", "f", id))
    };
    let good = scene.file("good", "hunter2", 0o600);
    assert!(read(good.clone(), json!({})).is_ok());
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610] {
        let error = read(scene.file("open", "hunter2", mode), json!({})).unwrap_err();
        assert!(
            error.contains("others may read or change"),
            "{mode:o}: {error}"
        );
    }
    let link = scene.path("link");
    symlink(&good, &link).unwrap();
    assert!(
        read(link, json!({}))
            .unwrap_err()
            .contains("must not be a symbolic link")
    );
    let folder = scene.path("folder");
    fs::create_dir(&folder).unwrap();
    assert!(
        read(folder, json!({}))
            .unwrap_err()
            .contains("must be a regular file")
    );
    let pipe = scene.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(
        read(pipe, json!({}))
            .unwrap_err()
            .contains("must be a regular file")
    );
    assert!(
        read(scene.path("gone"), json!({}))
            .unwrap_err()
            .contains("cannot read")
    );
    assert!(
        read(PathBuf::from("relative"), json!({}))
            .unwrap_err()
            .contains("path must be absolute")
    );
    assert!(
        read(good.clone(), json!({ "maxBytes": 6 }))
            .unwrap_err()
            .contains("larger than 6 bytes")
    );
    let error = read(good.clone(), json!({ "mode": "json" })).unwrap_err();
    assert!(
        error.contains("is not JSON") && !error.contains("hunter2"),
        "{error}"
    );
    let list = scene.file("list", "[\"hunter2\"]", 0o600);
    assert!(
        read(list, json!({ "mode": "json" }))
            .unwrap_err()
            .contains("does not hold a JSON object")
    );
    assert!(
        read(scene.file("bytes", b"\xff", 0o600), json!({}))
            .unwrap_err()
            .contains("not UTF-8")
    );
    fs::hard_link(&good, scene.path("second-name")).unwrap();
    assert!(
        read(good, json!({}))
            .unwrap_err()
            .contains("must not have other hard links")
    );
}

#[test]
fn a_program_is_asked_and_answers() {
    let scene = Scene::new();
    // What it is asked, where and with which variables.
    let script = r#"
        question=$(cat)
        printf '{"protocolVersion":1,"values":{"gw/token":"%s|%s|%s|%s|%s"}}' \
            "$(printf %s "$question" | tr -d '{}"')" "$PWD" "$PASSED$HIDDEN$SET" "$1" "$(/usr/bin/env | /usr/bin/wc -l)""#;
    let mut provider = json!({
        "source": "exec", "command": scene.program(script), "args": ["an argument; $(not run)"],
        "passEnv": ["PASSED", "NOT_SET"], "env": { "SET": "own", "PATH": "/usr/bin:/bin" },
    });
    let wanted = reference("exec", "x", "gw/token");
    let follow = |provider: &Value| {
        let variables = [("PASSED", "passed"), ("HIDDEN", "hidden")];
        scene.follow_in(&json!({ "x": provider }), &wanted, &variables)
    };
    let answer = follow(&provider).unwrap();
    let parts: Vec<&str> = answer.split('|').collect();
    assert_eq!(parts[0], "protocolVersion:1,provider:x,ids:[gw/token]");
    assert_eq!(
        parts[1],
        scene.path("").to_str().unwrap().trim_end_matches('/')
    );
    assert_eq!(parts[2], "passedown");
    assert_eq!(parts[3], "an argument; $(not run)");
    // PASSED, SET and PATH, and what the shell adds: PWD, and SHLVL or _ in some shells.
    assert!(parts[4].parse::<u32>().unwrap() <= 6, "{answer}");

    provider["trustedDirs"] = json!([scene.path("elsewhere")]);
    assert!(
        follow(&provider)
            .unwrap_err()
            .contains("is in none of the trustedDirs")
    );
    provider["trustedDirs"] = json!([scene.path("elsewhere"), scene.path("")]);
    assert!(follow(&provider).is_ok());
}

#[test]
fn a_plain_answer_is_taken_only_where_it_may_be() {
    let scene = Scene::new();
    let loose = json!({ "jsonOnly": false });
    for (script, more, expected) in [
        ("echo ' secret '", loose.clone(), Ok("secret")),
        ("echo '\"secret\"'", loose.clone(), Ok("secret")),
        (
            "echo '{\"protocolVersion\":1,\"values\":{\"gw\":\"secret\"}}'",
            loose.clone(),
            Ok("secret"),
        ),
        ("echo hunter2", json!({}), Err("its output is not JSON")),
        ("echo '\"hunter2\"'", json!({}), Err("is not a JSON object")),
        ("echo '[1]'", loose.clone(), Err("is not a JSON object")),
        (
            "echo '{\"values\":{\"gw\":\"hunter2\"}}'",
            json!({}),
            Err("must have protocolVersion 1"),
        ),
        (
            "echo '{\"protocolVersion\":1}'",
            json!({}),
            Err("has no values"),
        ),
        (
            "echo '{\"protocolVersion\":1,\"values\":{}}'",
            json!({}),
            Err("has nothing for gw"),
        ),
        (
            "echo '{\"protocolVersion\":1,\"values\":{\"gw\":5}}'",
            json!({}),
            Err("is not a string"),
        ),
        (
            "echo '{\"protocolVersion\":1,\"values\":{},\"errors\":{\"gw\":{\"code\":\"NOT_FOUND\"}}}'",
            json!({}),
            Err("has no secret gw (NOT_FOUND)"),
        ),
        (
            "echo '{\"protocolVersion\":1,\"values\":{},\"errors\":{\"gw\":{\"code\":\"hunter2\"}}}'",
            json!({}),
            Err("has no secret gw"),
        ),
        ("true", loose.clone(), Err("printed nothing")),
        ("echo secret; exit 3", loose.clone(), Err("exit status: 3")),
        ("echo secret; kill -9 $$", loose.clone(), Err("signal: 9")),
        ("echo hunter2 >&2; exit 1", loose, Err("exit status: 1")),
    ] {
        let answer = scene.program_with(script, more, "gw");
        match expected {
            Ok(secret) => assert_eq!(answer.as_deref(), Ok(secret), "{script}"),
            Err(text) => {
                let error = answer.expect_err(script);
                assert!(
                    error.contains(text) && !error.contains("hunter2"),
                    "{script}: {error}"
                );
            }
        }
    }
}

#[test]
fn a_program_has_limits_and_leaves_nothing_when_it_breaks_them() {
    let scene = Scene::new();
    let started = Instant::now();
    let pids = scene.path("pids");
    let hang = format!(
        "echo $$ > {0}; sleep 300 & echo $! >> {0}; wait",
        pids.display()
    );
    for (script, more, expected) in [
        (
            hang.as_str(),
            json!({ "timeoutMs": 400 }),
            "no answer within 400ms",
        ),
        (
            "exec >&-; sleep 300",
            json!({ "timeoutMs": 400 }),
            "no answer within 400ms",
        ),
        (
            "printf x; sleep 300",
            json!({ "timeoutMs": 60000, "noOutputTimeoutMs": 300 }),
            "no answer within 300ms",
        ),
        (
            "head -c 200 /dev/zero | tr '\\0' x",
            json!({ "maxOutputBytes": 100 }),
            "more than 100 bytes",
        ),
        ("cat /dev/zero", json!({}), "more than 1048576 bytes"),
    ] {
        let error = scene.program_with(script, more, "gw").unwrap_err();
        assert!(error.contains(expected), "{script}: {error}");
    }
    assert!(started.elapsed() < LONG);
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        // Killed, so at most a zombie that its new parent has not looked at yet.
        let state = fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(state.is_err() || state.unwrap().contains(") Z "), "{pid}");
    }
}

#[test]
fn a_program_that_others_could_exchange_is_not_run() {
    let scene = Scene::new();
    let run = |command: &PathBuf| {
        let provider = json!({ "source": "exec", "command": command, "jsonOnly": false });
        scene.follow(&json!({ "x": provider }), &reference("exec", "x", "gw"))
    };
    let program = scene.program("echo secret");
    assert_eq!(run(&program).as_deref(), Ok("secret"));
    for mode in [0o720, 0o702, 0o777] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            run(&program).unwrap_err().contains("others may change"),
            "{mode:o}"
        );
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(run(&program).unwrap_err().contains("cannot run"));
    let link = scene.path("link");
    symlink(&program, &link).unwrap();
    assert!(
        run(&link)
            .unwrap_err()
            .contains("must not be a symbolic link")
    );
    assert!(
        run(&scene.path(""))
            .unwrap_err()
            .contains("must be a regular file")
    );
    assert!(
        run(&scene.path("gone"))
            .unwrap_err()
            .contains("cannot find")
    );
    // Another user's program, where the tests do not run as its owner.
    let foreign = fs::canonicalize("/bin/sh").unwrap();
    if foreign.metadata().unwrap().uid() != nix::unistd::Uid::effective().as_raw() {
        assert!(
            run(&foreign)
                .unwrap_err()
                .contains("must belong to the user")
        );
    }
}
