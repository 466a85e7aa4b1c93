//! Ways around the policy that other hosts have or had (exec and approvals §14, landscape A3), each
//! tried against a real machine's files.

#![cfg(test)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use approvals::command::CommandLine;
use approvals::decision::{Basis, Candidate, Decision, decide};
use approvals::document::Document;
use approvals::policy::{Approval, ExecConfig, ExecLayer, resolve};
use approvals::rules::Rules;
use approvals::usage::{Coverage, InlineCode};
use openclaw_node_exec::environment::BaseEnvironment;
use openclaw_node_exec::host::Host;
use openclaw_node_exec::request::{MissingSnapshot, RunRequest};
use openclaw_node_exec::verify::{AllowedRun, verify};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with files of its own, in which commands run.
struct Machine {
    _folder: TempDir,
    root: PathBuf,
    environment: BaseEnvironment,
    config: ExecConfig,
}

impl Machine {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let search_path = format!("{}/bin:/usr/bin:/bin", root.display());
        let variables = [("PATH", search_path), ("HOME", root.display().to_string())];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        Self {
            _folder: folder,
            root,
            environment: BaseEnvironment::new(variables),
            config: ExecConfig::default(),
        }
    }

    fn strict() -> Self {
        let strict = ExecLayer { strict_inline_eval: true, ..ExecLayer::default() };
        Self { config: ExecConfig::new(strict), ..Self::new() }
    }

    fn program(&self, name: &str) -> &Self {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\necho EVIL\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// What would be executed, or why nothing is.
    fn run(&self, policy: &Value, argv: &[&str]) -> Result<Vec<String>, String> {
        let document = policy.as_object().unwrap();
        let document = Document::from_value(document, &mut || "id".to_owned()).unwrap();
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let command = CommandLine::new(argv, None).unwrap();
        let host = Host::new(&self.environment, &self.root);
        let cwd = self.root.to_str();
        let analysis = host.analyse(&command, cwd);
        let policy = resolve(&self.config, &document, None, Approval::None);
        let rules = Rules::of(&document, cwd);
        let candidate = Candidate {
            command: &command,
            analysis: &analysis,
            cwd,
            allowlist: rules.for_agent("main"),
            safe_bins: self.config.safe_bins("main"),
            skills: None,
            strict_inline_eval: self.config.strict_inline_eval("main"),
            has_unresolved_wrapper: host.has_unresolved_wrapper(&command, cwd),
        };
        let allowed = match decide(&policy, &candidate) {
            Decision::Allow(allowed) => allowed,
            Decision::Deny(refusal) => return Err(refusal.to_string()),
        };
        let run = AllowedRun {
            command: &command,
            cwd,
            plan: None,
            approval: Approval::None,
            security: policy.security.value,
            allowed: &allowed,
            analysis: &analysis,
        };
        let argv = verify(&run, &host).map_err(|error| error.to_string())?.argv;
        assert_ne!(allowed.basis, Basis::Approval);
        Ok(argv)
    }

    fn remembered(&self, argv: &[&str]) -> Coverage {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let command = CommandLine::new(argv, None).unwrap();
        let cwd = self.root.to_str().unwrap();
        let analysis = Host::new(&self.environment, &self.root).analyse(&command, Some(cwd));
        Coverage::of(&analysis, cwd, InlineCode::Unchecked)
    }
}

fn allowing(patterns: &[&str]) -> Value {
    json!({
        "defaults": {"security": "allowlist", "ask": "off"},
        "agents": {"main": {"allowlist": patterns}},
    })
}

fn full() -> Value {
    json!({"defaults": {"security": "full", "ask": "off"}})
}

const MISS: &str = "SYSTEM_RUN_DENIED: allowlist miss";

#[test]
fn an_allowed_name_does_not_let_another_command_along() {
    let machine = Machine::new();
    machine.program("bin/evil");
    for payload in [
        "echo a; evil",
        "echo a & evil",
        "echo a\nevil",
        "echo a | evil",
        "echo a || evil",
        "echo $(evil)",
        "echo \"$(evil)\"",
        "echo \"`evil`\"",
        "echo <(evil)",
        "echo a > out",
        "echo a >> .bashrc",
        "(evil)",
        "{ evil; }",
        "echo() { evil; }; echo a",
        "alias echo=evil; echo a",
        "PATH=.:$PATH echo a",
        "PATH=/tmp echo a",
        "LD_PRELOAD=./x.so echo a",
        "export PATH=/tmp; echo a",
        "eval echo a",
        ". ./x",
        "source ./x",
        "command eval evil",
        "$0",
        "\"$@\"",
        "${x:-evil}",
        "e$x a",
        "ech? a",
        "{echo,a}",
        "~/bin/evil",
        "echo a \\\nevil",
        "if true; then evil; fi",
        "while evil; do echo; done",
        "case a in a) evil;; esac",
        "! evil",
        "exec evil",
        "trap evil EXIT; echo",
        "cat <<E\n$(evil)\nE",
        "echo a |& evil",
        "find . -exec evil {} +",
        "echo evil | xargs sh -c",
        "env evil",
        "env -S evil",
        "nice evil",
        "timeout 5 evil",
        "sudo echo a",
        "busybox echo a",
        "sh -c evil",
        "sh -c 'echo a; evil'",
        "sh -c 'sh -c \"sh -c evil\"'",
        "bash -lc 'echo a'",
        "bash -ic 'echo a'",
        "bash -kc 'echo LD_PRELOAD=./x.so'",
    ] {
        let policy = allowing(&["echo", "cat", "find", "true", "exit"]);
        for shell in ["/bin/sh", "/bin/bash"] {
            let outcome = machine.run(&policy, &[shell, "-c", payload]);
            assert_eq!(outcome, Err(MISS.to_owned()), "{shell} {payload}");
        }
    }
    let keyword = ["/bin/bash", "-kc", "echo LD_PRELOAD=./x.so"];
    assert_eq!(machine.run(&allowing(&["echo"]), &keyword), Err(MISS.to_owned()));
}

#[test]
fn not_even_a_star_lets_hidden_commands_run() {
    let machine = Machine::new();
    for argv in [
        &["sudo", "echo"][..],
        &["env", "A=1", "echo"],
        &["env", "-i", "echo"],
        &["env", "-S", "echo a"],
        &["time", "-o", "f", "echo"],
        &["chroot", "/", "echo"],
        &["sh", "-c", "eval echo"],
        &["sh", "-c", "A=1 echo"],
        &["sh", "-c", "echo $HOME"],
        &["sh", "-c", "sudo echo"],
        &["env", "A=1", "sh", "-c", "echo"],
    ] {
        assert_eq!(machine.run(&allowing(&["*"]), argv), Err(MISS.to_owned()), "{argv:?}");
    }
}

#[test]
fn a_file_with_a_trusted_name_is_not_trusted() {
    let machine = Machine::new();
    for name in ["nice", "sh", "env", "echo", "head", "npx"] {
        machine.program(name);
    }
    symlink("/usr/bin/env", machine.root.join("timeout")).unwrap();
    for argv in [
        // The wrapper stays where it is, so it must be the one that the name says (D7).
        &["./nice", "echo", "a"][..],
        &["./env", "echo", "a"],
        &["./timeout", "5", "echo", "a"],
        &["./npx", "echo", "a"],
        &["./sh", "-c", "echo a"],
        &["nice", "./sh", "-c", "echo a"],
        &["/bin/sh", "-c", "./nice echo a"],
        // A bare name in an entry is one that PATH leads to.
        &["./echo", "a"],
        &["/bin/sh", "-c", "./echo a"],
        &["./head", "-n", "1"],
        &["/bin/sh", "-c", "./head -n 1"],
        &["/bin/sh", "-c", "cd / && ./echo a"],
    ] {
        let outcome = machine.run(&allowing(&["echo"]), argv);
        assert_eq!(outcome, Err(MISS.to_owned()), "{argv:?}");
    }
}

#[test]
fn wrappers_keep_doing_what_they_do() {
    let machine = Machine::new();
    let echo = fs::canonicalize("/usr/bin/echo").unwrap().display().to_string();
    for (argv, expected) in [
        (&["timeout", "5", "echo", "a"][..], format!("timeout 5 {echo} a")),
        (&["nice", "-n5", "nohup", "echo", "a"], format!("nice -n5 nohup {echo} a")),
        (&["flock", "-w1", "/tmp/l", "echo"], format!("flock -w1 /tmp/l {echo}")),
    ] {
        let outcome = machine.run(&allowing(&["echo"]), argv).unwrap();
        assert_eq!(outcome.join(" "), expected);
    }
}

#[test]
fn safe_bins_run_as_the_files_that_were_checked() {
    let machine = Machine::new();
    let head = fs::canonicalize("/usr/bin/head").unwrap().display().to_string();
    let nothing = allowing(&[]);
    for (payload, expected) in [
        ("head -n 1", format!("'{head}' -n 1")),
        ("head -n 1 | head -5", format!("'{head}' -n 1 | '{head}' -5")),
        ("true && nice head -q", format!("true && nice '{head}' -q")),
        ("sh -c 'head -n 1'", format!(r"sh -c ''\''{head}'\'' -n 1'")),
    ] {
        let argv = machine.run(&nothing, &["/bin/sh", "-c", payload]).unwrap();
        assert_eq!(argv, ["/bin/sh", "-c", &expected], "{payload}");
    }
    for (payload, refusal) in [
        ("head -n {1,2}", "SYSTEM_RUN_DENIED: execution plan mismatch"),
        ("head -n *", MISS),
        ("head -n \"$N\"", MISS),
        ("head secret", MISS),
        ("head ~", MISS),
        ("npx head -n 1", MISS),
        ("uniq --group secret", MISS),
    ] {
        let outcome = machine.run(&nothing, &["/bin/sh", "-c", payload]);
        assert_eq!(outcome, Err(refusal.to_owned()), "{payload}");
    }
    for argv in [&["head", "/etc/passwd"][..], &["npx", "head", "-n", "1"], &["tail", "-F"]] {
        assert_eq!(machine.run(&nothing, argv), Err(MISS.to_owned()), "{argv:?}");
    }
}

#[test]
fn inline_code_is_found_wherever_it_hides() {
    let machine = Machine::strict();
    for argv in [
        &["python3", "-c", "1"][..],
        &["sh", "-c", "$0 \"$@\"", "python3", "-c", "1"],
        &["sh", "-c", "(python3 -c 1)"],
        &["bash", "-lc", "python3 -c 1"],
        &["sudo", "-n", "python3", "-c", "1"],
        &["env", "-S", "python3 -c 1"],
    ] {
        let message = machine.run(&full(), argv).unwrap_err();
        assert!(message.contains("python3 -c requires explicit approval"), "{argv:?} {message}");
    }
    assert!(machine.run(&full(), &["sh", "-c", "echo 'python3 -c 1'"]).is_ok());
}

#[test]
fn the_audits_suppressions_are_not_changed_without_a_human() {
    let machine = Machine::new();
    let asking = json!({"defaults": {"security": "full", "ask": "on-miss"}});
    let set = "openclaw config set security.audit.suppressions '[]'";
    let json = r#"echo '{"security":{"audit":{"suppressions":[]}}}'"#;
    let both = format!("openclaw config get security.audit.suppressions; {set}");
    for payload in [set, json, &both] {
        let outcome = machine.run(&asking, &["/bin/sh", "-c", payload]);
        let refusal = Err("SYSTEM_RUN_DENIED: approval required".to_owned());
        assert_eq!(outcome, refusal, "{payload}");
        assert!(machine.run(&full(), &["/bin/sh", "-c", payload]).is_ok(), "{payload}");
    }
    let read = "openclaw config get security.audit.suppressions";
    assert!(machine.run(&asking, &["/bin/sh", "-c", read]).is_ok());
    assert!(machine.run(&asking, &read.split(' ').collect::<Vec<_>>()).is_ok());
}

#[test]
fn an_arg_pattern_costs_no_more_than_its_text_and_binds_what_really_runs() {
    let machine = Machine::new();
    let with = |pattern: &str| {
        json!({
            "defaults": {"security": "allowlist", "ask": "off"},
            "agents": {"main": {"allowlist": [{"pattern": "echo", "argPattern": pattern}]}},
        })
    };
    let long = "a".repeat(20_000) + "!";
    for pattern in ["^(a+)+$", "^(a|a)*$", "(?=a)", r"(a)\1"] {
        assert_eq!(machine.run(&with(pattern), &["echo", &long]), Err(MISS.to_owned()), "{pattern}");
    }
    let star = machine.run(&with(r"^\*$"), &["/bin/sh", "-c", "echo *"]);
    assert_eq!(star, Err(MISS.to_owned()), "the shell makes other arguments of it");
    assert!(machine.run(&with(r"^\*$"), &["/bin/sh", "-c", "echo '*'"]).is_ok());
}

#[test]
fn an_allow_always_never_trusts_a_shell_or_an_interpreter() {
    let machine = Machine::new();
    fs::write(machine.root.join("p.py"), "1").unwrap();
    for argv in [
        &["/bin/sh", "-c", "python3 ./p.py"][..],
        &["/bin/sh", "-c", "eval echo"],
        &["/bin/sh", "-c", "echo *"],
        &["/bin/zsh", "-lc", "echo a"],
        &["python3", "./p.py"],
        &["bash", "-lc", "echo a"],
        &["env", "A=1", "echo"],
        &["sudo", "echo"],
        &["xargs", "echo"],
    ] {
        let coverage = machine.remembered(argv);
        assert_eq!(coverage, Coverage::default(), "{argv:?}");
    }
    let coverage = machine.remembered(&["/bin/sh", "-c", "nice echo a"]);
    let echo = fs::canonicalize("/usr/bin/echo").unwrap();
    assert_eq!(Path::new(&coverage.patterns[0].pattern), echo);
    assert!(coverage.complete);
}

#[test]
fn nothing_slips_a_variable_into_a_command() {
    for (params, name) in [
        (json!({"command": ["env", "-S", "LD_PRELOAD=./x.so echo a"]}), "LD_PRELOAD"),
        (json!({"command": ["nice", "env", "-S", "env -S 'LD_AUDIT=x echo'"]}), "LD_AUDIT"),
        (json!({"command": ["env", "GIT_SSH_COMMAND=x", "git"]}), "GIT_SSH_COMMAND"),
        (json!({"command": ["git"], "env": {"GIT_SSH_COMMAND": "x"}}), "GIT_SSH_COMMAND"),
        (json!({"command": ["node"], "env": {"node_options": "x"}}), "NODE_OPTIONS"),
        (json!({"command": ["x"], "env": {"GLIBC_TUNABLES": "x"}}), "GLIBC_TUNABLES"),
        (json!({"command": ["sh", "-c", "x"], "env": {" BASH_ENV ": "x"}}), "BASH_ENV"),
    ] {
        let refusal = RunRequest::parse(Some(&params.to_string()), MissingSnapshot::Refused);
        let message = refusal.unwrap_err().to_string();
        assert!(message.contains(name), "{params} {message}");
    }
}

#[test]
fn a_socket_token_says_nothing_about_the_policy() {
    let machine = Machine::new();
    let mut policy = full();
    policy["socket"] = json!({"path": "/x.sock", "token": "secret"});
    assert!(machine.run(&policy, &["echo", "a"]).is_ok());
}
