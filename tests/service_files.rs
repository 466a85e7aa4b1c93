//! The service files that operators copy: systemd accepts the unit without a word, and both files
//! say what the node's life cycle needs.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use plist::Value;

const UNIT: &str = "systemd/openclaw-node.service";
const SYSTEM_UNIT: &str = "systemd/openclaw-node.system.service";
const AGENT: &str = "launchd/ai.openclaw.node.plist";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn unit() -> String {
    fs::read_to_string(path(UNIT)).unwrap()
}

/// `Section.Key` to its values, in the order of the file.
fn directives(unit: &str) -> BTreeMap<String, Vec<String>> {
    let mut section = "";
    let mut directives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in unit.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').unwrap();
        directives
            .entry(format!("{section}.{key}"))
            .or_default()
            .push(value.to_owned());
    }
    directives
}

/// What `systemd-analyze verify` prints about a unit: it exits 0 for unknown keys and bad values,
/// so what it prints is what counts. `None` where there is no systemd.
fn systemd_complaints(unit: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openclaw-node.service");
    fs::write(&file, unit).unwrap();
    let runtime_dir = folder.path().join("run");
    fs::create_dir(&runtime_dir).unwrap();
    fs::set_permissions(&runtime_dir, fs::Permissions::from_mode(0o700)).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--user"])
        .arg(&file)
        .env("XDG_RUNTIME_DIR", &runtime_dir)
        .env("HOME", folder.path())
        .output();
    match output {
        Ok(output) => {
            let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() || !complaints.is_empty(),
                "{}",
                output.status
            );
            Some(complaints)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

/// The unit with a program that exists, as `verify` demands one.
fn unit_of_this_build() -> String {
    let program = env!("CARGO_BIN_EXE_openclaw-node");
    let unit = unit();
    assert!(unit.contains("ExecStart=%h/.local/bin/openclaw-node "));
    unit.replace("%h/.local/bin/openclaw-node", &format!("\"{program}\""))
}

#[test]
fn systemd_accepts_the_unit_without_a_word() {
    match systemd_complaints(&unit_of_this_build()) {
        Some(complaints) => assert_eq!(complaints, ""),
        None => println!("not checked: there is no systemd-analyze here"),
    }
}

/// A server's unit has the same life; it differs in who it is, and where its things are.
#[test]
fn the_system_unit_differs_from_the_users_only_in_its_account() {
    let user = directives(&unit());
    let system = directives(&fs::read_to_string(path(SYSTEM_UNIT)).unwrap());
    let differing: Vec<&str> = user
        .keys()
        .chain(system.keys())
        .filter(|key| user.get(*key) != system.get(*key))
        .map(String::as_str)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(
        differing,
        [
            "Install.WantedBy",
            "Service.Environment",
            "Service.EnvironmentFile",
            "Service.ExecStart",
            "Service.Group",
            "Service.LoadCredential",
            "Service.StateDirectory",
            "Service.StateDirectoryMode",
            "Service.User",
            "Service.WorkingDirectory",
        ]
    );
}

#[test]
fn systemd_would_complain_about_a_wrong_unit() {
    for (right, wrong) in [
        ("WatchdogSec=60", "WatchdogSeconds=60"),
        ("KillMode=mixed", "KillMode=some"),
        ("ExecReload=", "ExecReload=not-a-path/"),
        ("ExecStart=", "ExecStart=/not/there "),
    ] {
        let unit = unit_of_this_build();
        let broken = unit.replace(right, wrong);
        assert_ne!(broken, unit, "{right}");
        match systemd_complaints(&broken) {
            Some(complaints) => assert_ne!(complaints, "", "{wrong}"),
            None => println!("not checked: there is no systemd-analyze here"),
        }
    }
}

#[test]
fn the_unit_says_what_the_life_cycle_needs() {
    let directives = directives(&unit());
    for (key, expected) in [
        ("Unit.After", "network-online.target"),
        ("Unit.Wants", "network-online.target"),
        // The node waits by itself after a refused credential; a start limit would park it.
        ("Unit.StartLimitIntervalSec", "0"),
        ("Service.Type", "notify"),
        ("Service.NotifyAccess", "main"),
        ("Service.WatchdogSec", "60"),
        ("Service.Restart", "always"),
        ("Service.RestartSec", "5"),
        ("Service.RestartPreventExitStatus", "78"),
        ("Service.SuccessExitStatus", "143"),
        ("Service.TimeoutStartSec", "90"),
        ("Service.TimeoutStopSec", "30"),
        ("Service.KillMode", "mixed"),
        ("Service.OOMPolicy", "continue"),
        ("Service.UMask", "0077"),
        ("Service.ExecStart", "%h/.local/bin/openclaw-node run"),
        ("Service.ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Install.WantedBy", "default.target"),
    ] {
        assert_eq!(
            directives.get(key),
            Some(&vec![expected.to_owned()]),
            "{key}"
        );
    }
    assert_eq!(directives.get("Unit.StartLimitBurst"), None);
}

#[test]
fn the_unit_is_marked_as_upstreams_tools_expect() {
    let directives = directives(&unit());
    let environment = directives.get("Service.Environment").unwrap();
    for marker in [
        "OPENCLAW_SERVICE_MARKER=openclaw",
        "OPENCLAW_SERVICE_KIND=node",
        "OPENCLAW_SYSTEMD_UNIT=openclaw-node",
    ] {
        assert!(
            environment.iter().any(|assignment| assignment == marker),
            "{marker}"
        );
    }
}

/// In a user manager each of these sets no_new_privs, which breaks sudo in commands.
#[test]
fn the_unit_has_no_hardening_that_breaks_sudo() {
    let directives = directives(&unit());
    for key in [
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "NoNewPrivileges",
        "PrivateDevices",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "SystemCallLog",
    ] {
        assert!(!directives.contains_key(&format!("Service.{key}")), "{key}");
    }
}

#[test]
fn the_agent_says_what_the_life_cycle_needs() {
    let agent = Value::from_file(path(AGENT)).unwrap();
    let agent = agent.as_dictionary().unwrap();
    let text = |value: &str| Value::String(value.to_owned());
    for (key, expected) in [
        ("Label", text("ai.openclaw.node")),
        ("RunAtLoad", Value::Boolean(true)),
        ("KeepAlive", Value::Boolean(true)),
        ("ThrottleInterval", Value::Integer(10.into())),
        ("ExitTimeOut", Value::Integer(20.into())),
        ("ProcessType", text("Interactive")),
        // 0077, which a plist can only say in decimal.
        ("Umask", Value::Integer(0o077.into())),
        ("StandardInPath", text("/dev/null")),
    ] {
        assert_eq!(agent.get(key), Some(&expected), "{key}");
    }
    assert_eq!(agent.get("StandardOutPath"), agent.get("StandardErrorPath"));
    let program = agent
        .get("ProgramArguments")
        .and_then(Value::as_array)
        .unwrap();
    let program: Vec<&str> = program.iter().filter_map(Value::as_string).collect();
    assert_eq!(
        program[..3],
        ["/usr/local/bin/openclaw-node", "run", "--env-file"]
    );
}

/// launchd ignores a key that it does not know, so a misspelt one would go unnoticed.
#[test]
fn the_agent_has_only_keys_that_launchd_knows() {
    const KNOWN: [&str; 12] = [
        "Comment",
        "EnvironmentVariables",
        "ExitTimeOut",
        "KeepAlive",
        "Label",
        "ProcessType",
        "ProgramArguments",
        "RunAtLoad",
        "StandardErrorPath",
        "StandardInPath",
        "StandardOutPath",
        "ThrottleInterval",
    ];
    let agent = Value::from_file(path(AGENT)).unwrap();
    let keys = agent.as_dictionary().unwrap().keys();
    let unknown: Vec<&String> = keys
        .filter(|key| *key != "Umask" && !KNOWN.contains(&key.as_str()))
        .collect();
    assert_eq!(unknown, Vec::<&String>::new());
}

#[test]
fn no_service_file_carries_a_secret() {
    for file in [UNIT, SYSTEM_UNIT, AGENT] {
        let text = fs::read_to_string(path(file)).unwrap();
        // Comments may name the variables, and a credential is named beside its file.
        let (before, rest) = text.split_once("<!--").unwrap_or((&text, ""));
        let after = rest.split_once("-->").map_or("", |(_, after)| after);
        let settings = before
            .lines()
            .chain(after.lines())
            .map(str::trim)
            .filter(|line| !line.starts_with(['#']) && !line.starts_with("LoadCredential="));
        for line in settings {
            assert!(
                !line.contains("TOKEN") && !line.contains("PASSWORD"),
                "{file}: {line}"
            );
        }
    }
}
