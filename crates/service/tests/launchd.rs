//! The node as a launchd agent, against a `launchctl` that remembers what it was told. Answers and
//! calls are compared with what upstream 2026.9.6 printed and called on macOS.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use openclaw_node_service::action::{self, Action, Replace, Report};
use openclaw_node_service::definition::{Definition, Owner, Platform};
use openclaw_node_service::drift;
use openclaw_node_service::environment_file::EnvironmentFile;
use openclaw_node_service::launchd::Launchd;
use openclaw_node_service::manager::ServiceManager;
use openclaw_node_service::status::Inspection;
use openclaw_node_service::tools::Tools;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The account that upstream was captured with.
const UID: u32 = 1500;
const HOME: &str = "/home/tester";
/// A program that every machine has; services must not lie in temporary folders.
const PROGRAM: &str = "/bin/sh";

/// A home on a machine with launchd.
struct Mac {
    folder: TempDir,
    launchd: Launchd,
}

impl Mac {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (bin, home) = (folder.path().join("bin"), folder.path().join("home"));
        fs::create_dir_all(bin.join("state")).unwrap();
        fs::create_dir(&home).unwrap();
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-launchctl.sh");
        std::os::unix::fs::symlink(&fake, bin.join("launchctl")).unwrap();
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let tools = Tools::new([("PATH", path)]).unwrap();
        let launchd = Launchd::new(tools, UID, home.clone(), &home.join(".openclaw"));
        Self { folder, launchd }
    }

    fn home(&self, path: &str) -> PathBuf {
        self.folder.path().join("home").join(path)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("bin/state").join(name)
    }

    fn plist(&self) -> PathBuf {
        self.home("Library/LaunchAgents/ai.openclaw.node.plist")
    }

    fn environment_file(&self) -> PathBuf {
        self.home(".openclaw/service-env/ai.openclaw.node.env")
    }

    /// Takes the calls so far that change something.
    fn changes(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.state("calls")).unwrap_or_default();
        fs::remove_file(self.state("calls")).ok();
        changes(&self.at_home(&calls))
    }

    /// With the home that upstream was captured in.
    fn at_home(&self, text: &str) -> String {
        text.replace(self.home("").to_string_lossy().trim_end_matches('/'), HOME)
    }

    fn definition(&self) -> Definition {
        let chosen = |name: &str| {
            (name == "HOME").then(|| {
                self.home("")
                    .to_string_lossy()
                    .trim_end_matches('/')
                    .to_owned()
            })
        };
        Definition {
            program: PROGRAM.into(),
            run_arguments: [
                "--host",
                "127.0.0.1",
                "--port",
                "19998",
                "--no-tls",
                "--display-name",
                "My \"node\" 50% & <b>",
            ]
            .map(str::to_owned)
            .into(),
            environment: drift::environment(chosen, Platform::MacOs, &self.home("")),
        }
    }

    fn secrets(&self) -> EnvironmentFile {
        let mut secrets = EnvironmentFile::default();
        secrets
            .set("OPENCLAW_GATEWAY_TOKEN", "tok'en & <x>")
            .unwrap();
        secrets.set("OPENCLAW_GATEWAY_PASSWORD", "pw").unwrap();
        secrets
    }

    fn install(&self) -> Report {
        action::install(&self.launchd, &self.definition(), &self.secrets())
    }
}

fn changes(calls: &str) -> Vec<String> {
    calls
        .lines()
        .map(|line| line.trim_start_matches("launchctl ").to_owned())
        .filter(|line| !line.starts_with("print ") && line != "version")
        .collect()
}

fn capture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    fs::read_to_string(folder.join(name)).unwrap()
}

fn payload(report: &Report) -> Value {
    serde_json::to_value(report.to_payload()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn install_writes_what_launchd_needs_and_answers_as_upstream() {
    let mac = Mac::new();
    assert_eq!(action::check_installable(&mac.launchd, Replace::No), Ok(()));
    let report = mac.install();
    let mut expected: Value = serde_json::from_str(&capture("mac-96-install-json.out")).unwrap();
    expected.as_object_mut().unwrap().shift_remove("warnings");
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    assert_eq!(text(&payload(&report)), text(&expected));
    assert_eq!(mac.changes(), changes(&capture("mac-96-install-json.cmds")));

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ai.openclaw.node.plist");
    let plist = fs::read_to_string(mac.plist()).unwrap();
    assert_eq!(mac.at_home(&plist), fs::read_to_string(golden).unwrap());
    assert!(!plist.contains("tok'en") && !plist.contains("tok&apos;en"));
    assert_eq!(
        fs::read_to_string(mac.environment_file()).unwrap(),
        "# Generated by OpenClaw. Do not edit while the gateway service is installed.\n\
         export OPENCLAW_GATEWAY_PASSWORD='pw'\n\
         export OPENCLAW_GATEWAY_TOKEN='tok'\\''en & <x>'\n"
    );
    assert_eq!(
        (mode(&mac.plist()), mode(&mac.environment_file())),
        (0o644, 0o600)
    );
    assert!(mac.home("Library/Logs/openclaw").is_dir());

    let again = action::check_installable(&mac.launchd, Replace::No).unwrap_err();
    assert_eq!(payload(&again)["result"], "already-installed");
    assert_eq!(payload(&again)["message"], "Node service already loaded.");
}

/// launchd ignores what it does not know, so a misspelt key would go unnoticed.
#[test]
fn what_upstream_has_and_launchd_knows_is_all_there() {
    let mac = Mac::new();
    mac.install();
    let ours = plist::Value::from_file(mac.plist()).unwrap();
    let ours = ours.as_dictionary().unwrap();
    let upstream = plist::Value::from_reader_xml(capture("upstream.plist").as_bytes()).unwrap();
    for (key, value) in upstream.as_dictionary().unwrap() {
        match key.as_str() {
            "ProgramArguments" => {}
            "StandardOutPath" | "StandardErrorPath" => assert_eq!(
                ours.get(key)
                    .and_then(plist::Value::as_string)
                    .map(|path| mac.at_home(path)),
                value.as_string().map(str::to_owned)
            ),
            _ => assert_eq!(ours.get(key), Some(value), "{key}"),
        }
    }
    let own: Vec<&String> = ours
        .keys()
        .filter(|key| !upstream.as_dictionary().unwrap().contains_key(key))
        .collect();
    assert_eq!(own, ["EnvironmentVariables"]);
}

#[test]
fn every_verb_says_and_does_what_upstream_does() {
    let mac = Mac::new();
    let none = action::start(&mac.launchd);
    assert_eq!(none.stderr(), "Node service not loaded.\n");
    assert!(none.stdout().contains(
        "Tip: launchctl bootstrap gui/$UID ~/Library/LaunchAgents/ai.openclaw.node.plist"
    ));
    assert_eq!(payload(&action::stop(&mac.launchd))["result"], "not-loaded");
    mac.install();
    mac.changes();

    let inspection = Inspection::of(&mac.launchd, Path::new(PROGRAM));
    let lines: Vec<String> = inspection
        .service_lines()
        .iter()
        .map(|line| mac.at_home(line))
        .collect();
    for (line, upstream) in lines.iter().zip(capture("mac-96-status.out").lines()) {
        if upstream.starts_with("Command: ") {
            assert!(
                line.starts_with(&format!("Command: {PROGRAM} run --env-file ")),
                "{line}"
            );
        } else {
            assert_eq!(line, upstream);
        }
    }
    assert_eq!((lines.len(), inspection.drift.as_slice()), (4, &[] as &[_]));

    let running = action::start(&mac.launchd);
    assert_eq!(
        payload(&running)["message"],
        "Node service already running (pid 4242)."
    );
    // launchd waits between two starts of a program that ended.
    fs::write(mac.state("exited"), "1").unwrap();
    let started = action::start(&mac.launchd);
    assert_eq!(started.stdout(), capture("mac-96-start.out"));
    assert_eq!(mac.changes(), changes(&capture("mac-96-start.cmds")));
    let restarted = action::restart(&mac.launchd);
    assert_eq!(restarted.stdout(), capture("mac-96-restart.out"));
    assert_eq!(mac.changes(), changes(&capture("mac-96-restart.cmds")));
    let stopped = action::stop(&mac.launchd);
    assert_eq!(stopped.stdout(), capture("mac-96-stop.out"));
    assert_eq!(mac.changes(), changes(&capture("mac-96-stop.cmds")));
    // A stopped agent is not loaded, and starts again.
    assert!(!mac.launchd.is_loaded());
    assert_eq!(payload(&action::start(&mac.launchd))["result"], "started");

    let removed = action::uninstall(&mac.launchd);
    assert_eq!(
        mac.at_home(&removed.stdout()),
        capture("mac-96-uninstall.out")
    );
    assert!(mac.home(".Trash/ai.openclaw.node.plist").is_file());
    assert!(!mac.plist().exists());
    // Upstream leaves the token behind.
    assert!(!mac.environment_file().exists());
    assert!(!mac.launchd.is_loaded());
    let again = action::uninstall(&mac.launchd);
    assert!(
        again.stdout().starts_with("LaunchAgent not found at "),
        "{again:?}"
    );
}

#[test]
fn a_disabled_agent_is_gone_and_stays_so_until_it_is_installed() {
    let mac = Mac::new();
    mac.install();
    mac.launchd.disable().unwrap();
    assert!(!mac.launchd.is_loaded());
    assert!(mac.plist().exists());
    assert!(mac.state("disabled").exists());
    assert!(mac.install().is_success());
    assert!(mac.launchd.is_loaded());
}

#[test]
fn what_is_in_the_trash_stays_there() {
    let mac = Mac::new();
    for _ in 0..2 {
        mac.install();
        assert!(action::uninstall(&mac.launchd).is_success());
    }
    assert!(mac.home(".Trash/ai.openclaw.node.plist").is_file());
    assert!(mac.home(".Trash/ai.openclaw.node 2.plist").is_file());
}

#[test]
fn an_agent_that_takes_its_time_to_leave_is_waited_for() {
    let mac = Mac::new();
    mac.install();
    fs::write(mac.state("leaving"), "3").unwrap();
    let report = action::restart(&mac.launchd);
    assert!(report.is_success(), "{report:?}");
    assert!(mac.launchd.is_loaded());
}

#[test]
fn secrets_stay_and_upstreams_are_taken_over() {
    let mac = Mac::new();
    let folder = mac.environment_file();
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(&folder, capture("upstream.env")).unwrap();
    let stored = mac.launchd.stored_secrets().unwrap();
    assert_eq!(
        stored.names().collect::<Vec<_>>(),
        ["OPENCLAW_GATEWAY_PASSWORD", "OPENCLAW_GATEWAY_TOKEN"]
    );
    let token = stored.get("OPENCLAW_GATEWAY_TOKEN").unwrap();
    assert_eq!(token.expose_secret(), "tok'en & <x>");
}

#[test]
fn upstreams_agent_is_recognised_and_kept() {
    let mac = Mac::new();
    fs::create_dir_all(mac.plist().parent().unwrap()).unwrap();
    fs::write(mac.plist(), capture("upstream.plist")).unwrap();
    let found = mac.launchd.installed().unwrap().unwrap();
    assert_eq!(found.owner, Owner::Upstream);
    assert_eq!(found.command[2..4], ["node", "run"]);
    let refused = action::check_installable(&mac.launchd, Replace::No).unwrap_err();
    let hints = payload(&refused)["hints"].to_string();
    assert!(
        hints.contains("--force") && hints.contains("--takeover"),
        "{hints}"
    );
    assert!(!action::uninstall(&mac.launchd).is_success());
    assert!(mac.plist().exists());

    assert!(mac.install().is_success());
    let backup = mac.home("Library/LaunchAgents/ai.openclaw.node.plist.bak");
    assert_eq!(
        fs::read_to_string(&backup).unwrap(),
        capture("upstream.plist")
    );
    // Nor does replacing one's own agent cost the only copy of somebody else's.
    assert!(mac.install().is_success());
    assert_eq!(
        fs::read_to_string(&backup).unwrap(),
        capture("upstream.plist")
    );
    assert!(action::uninstall(&mac.launchd).is_success());
    assert!(backup.exists());
}

#[test]
fn what_stands_in_the_way_is_told_with_the_command() {
    let mac = Mac::new();
    fs::write(mac.state("daemon"), "").unwrap();
    let error = mac.install().stderr();
    assert!(
        error.contains("sudo launchctl bootout system/ai.openclaw.node"),
        "{error}"
    );
    assert!(!mac.plist().exists());
    fs::remove_file(mac.state("daemon")).unwrap();

    fs::write(mac.state("no-session"), "").unwrap();
    let report = mac.install();
    assert!(
        report.stderr().contains("log in on the desktop"),
        "{report:?}"
    );
    let hint = &payload(&report)["hints"][0];
    assert_eq!(
        hint,
        "launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/ai.openclaw.node.plist"
    );
}

#[test]
fn what_an_operator_changed_is_told() {
    let mac = Mac::new();
    mac.install();
    let plist = fs::read_to_string(mac.plist()).unwrap();
    let changed = plist
        .replace("<integer>10</integer>", "<integer>60</integer>")
        .replace(PROGRAM, "/opt/old/openclaw-node");
    assert_ne!(changed, plist);
    fs::write(mac.plist(), changed).unwrap();
    let inspection = Inspection::of(&mac.launchd, Path::new(PROGRAM));
    let keys: Vec<&str> = inspection
        .drift
        .iter()
        .map(|drift| drift.key.as_str())
        .collect();
    assert_eq!(keys, ["ProgramArguments", "ThrottleInterval"]);
    let remarks = inspection.remarks();
    assert!(
        remarks
            .last()
            .unwrap()
            .contains("openclaw node install --force"),
        "{remarks:?}"
    );
    let json = serde_json::to_value(&inspection.drift[1]).unwrap();
    assert_eq!(
        (&json["current"], &json["expected"]),
        (&json!("60"), &json!("10"))
    );
    let report = action::start(&mac.launchd);
    assert!(
        report
            .stdout()
            .contains("needs repair: service program is missing"),
        "{report:?}"
    );
    assert_eq!(Action::Start.verb(), "start");
}

#[test]
fn a_variable_that_may_be_a_secret_is_told_without_its_value() {
    let mac = Mac::new();
    mac.install();
    let plist = fs::read_to_string(mac.plist()).unwrap();
    let variables = "<key>EnvironmentVariables</key>\n\t<dict>\n";
    let planted = format!("{variables}<key>OPENCLAW_GATEWAY_TOKEN</key><string>hunter2</string>\n");
    let changed = plist.replace(variables, &planted);
    assert_ne!(changed, plist);
    fs::write(mac.plist(), changed).unwrap();
    let inspection = Inspection::of(&mac.launchd, Path::new(PROGRAM));
    let json = serde_json::to_value(&inspection.drift).unwrap();
    assert_eq!(
        json[0]["key"],
        "EnvironmentVariables.OPENCLAW_GATEWAY_TOKEN"
    );
    assert_eq!(json[0]["current"], "set (not shown)");
    let everything = format!(
        "{json} {} {:?} {:?}",
        serde_json::to_value(&inspection.service).unwrap(),
        inspection.service_lines(),
        inspection.remarks()
    );
    assert!(!everything.contains("hunter2"), "{everything}");
}
