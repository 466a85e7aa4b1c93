use approvals::allowlist::{Target, Unanalysable};
use approvals::plan::FileOperand;
use std::fs;

use approvals::plan::{PlanRecord, PolicySnapshot};
use approvals::policy::{Ask, Grant};

use super::*;
use crate::host::scene::{Scene, command};
use crate::prepare::{PreparePolicy, Prepared, prepare};
use crate::request::PrepareRequest;
#[cfg(target_os = "linux")]
use crate::run::RunSpec;

const APPROVED: Approval = Approval::Explicit(Grant::Once);

fn allowed(basis: Basis) -> Allowed {
    Allowed {
        basis,
        satisfied: vec![None],
    }
}

fn direct() -> Analysis {
    Analysis::Direct(Target::Unanalysable(Unanalysable::ShellPayload))
}

fn prepared(scene: &Scene, argv: &[&str], cwd: &str) -> Prepared {
    let params = serde_json::json!({"command": argv, "cwd": scene.path(cwd)}).to_string();
    let request = PrepareRequest::parse(Some(&params)).unwrap();
    let (security, ask) = (Security::Allowlist, Ask::OnMiss);
    let snapshot = PolicySnapshot::new(security, ask, Security::Deny, false, Vec::new());
    let policy = PreparePolicy {
        security,
        ask,
        strict_inline_eval: false,
        snapshot,
    };
    prepare(&request, &policy, &scene.host()).unwrap()
}

/// What a gateway asks for when a human approved the plan.
fn approved(scene: &Scene, plan: &SystemRunPlan) -> Result<Verified, VerifyError> {
    let command = CommandLine::new(plan.argv.clone(), Some(&plan.command_text)).unwrap();
    let run = AllowedRun {
        command: &command,
        cwd: plan.cwd.as_deref(),
        plan: Some(plan),
        approval: APPROVED,
        security: Security::Allowlist,
        allowed: &allowed(Basis::Approval),
        analysis: &direct(),
    };
    verify(&run, &scene.host())
}

fn unapproved(scene: &Scene, line: &str, basis: Basis) -> Result<Verified, VerifyError> {
    let security = match basis {
        Basis::FullSecurity => Security::Full,
        Basis::Approval | Basis::Allowlist | Basis::ExactCommand => Security::Allowlist,
    };
    let command = command(line);
    let run = AllowedRun {
        command: &command,
        cwd: Some("d"),
        plan: None,
        approval: Approval::None,
        security,
        allowed: &allowed(basis),
        analysis: &direct(),
    };
    verify(&run, &scene.host())
}

#[test]
fn under_full_security_a_command_runs_as_it_is() {
    let scene = Scene::new();
    let verified = unapproved(&scene, "nice nosuchprogram a", Basis::FullSecurity).unwrap();
    assert_eq!(verified.argv.join(" "), "nice nosuchprogram a");
    assert_eq!(
        verified.cwd(),
        Some(Path::new("d")),
        "spawning will tell that it is missing"
    );
    assert_eq!(verified.cwd_identity(), None);
    assert_eq!(verified.start().map(|_| ()), Ok(()));
}

#[test]
fn an_allowed_executable_is_pinned_where_it_stands() {
    let scene = Scene::new();
    scene
        .folder("d")
        .program("bin/busybox")
        .link("bin/alias", "/bin/echo")
        .program("d/x.sh");
    let (echo, shell) = (scene.real("echo"), scene.real("sh"));
    for (line, executed) in [
        ("echo a", format!("{echo} a")),
        ("alias a", format!("{echo} a")),
        (
            "timeout 5 env nice -n5 alias a",
            format!("timeout 5 env nice -n5 {echo} a"),
        ),
        ("sh ./x.sh a", format!("{shell} ./x.sh a")),
        ("./x.sh a", format!("{} a", scene.path("d/x.sh"))),
        (
            "busybox sh ./x.sh",
            format!("{} sh ./x.sh", scene.path("bin/busybox")),
        ),
        ("nosuchprogram a", "nosuchprogram a".to_owned()),
    ] {
        let verified = unapproved(&scene, line, Basis::Allowlist).unwrap();
        assert_eq!(verified.argv.join(" "), executed, "{line}");
        assert_eq!(
            verified.cwd(),
            Some(scene.root().join("d").as_path()),
            "{line}"
        );
    }
    let exact = unapproved(&scene, "alias a", Basis::ExactCommand).unwrap();
    assert_eq!(exact.argv.join(" "), "alias a");
    let hidden = unapproved(&scene, "nice sudo echo", Basis::Allowlist).unwrap_err();
    assert_eq!(
        hidden.to_string(),
        "SYSTEM_RUN_DENIED: execution plan mismatch"
    );
    assert_eq!(hidden.reason(), DenialReason::ExecutionPlanMiss);
}

#[test]
fn an_allowed_command_needs_a_canonical_directory() {
    let scene = Scene::new();
    scene.folder("real").link("d", "real");
    let refusal = unapproved(&scene, "echo", Basis::Allowlist).unwrap_err();
    assert_eq!(refusal, BindingRefusal::CwdNotCanonical.into());
    assert_eq!(refusal.reason(), DenialReason::ApprovalRequired);
}

#[test]
fn an_approved_plan_runs_as_it_was_prepared() {
    let scene = Scene::new();
    scene.program("run.sh").folder("d");
    for argv in [
        &["echo", "a"][..],
        &["sh", "../run.sh"],
        &["env", "sh", "-c", "echo a"],
    ] {
        let prepared = prepared(&scene, argv, "d");
        let verified = approved(&scene, &prepared.plan).unwrap();
        assert_eq!(verified.argv, prepared.plan.argv);
        assert_eq!(verified.cwd(), Some(scene.root().join("d").as_path()));
        assert_eq!(verified.cwd_identity(), Some(prepared.cwd));
        assert_eq!(verified.start().map(|_| ()), Ok(()));
    }
    let gone = command("nosuchprogram");
    let run = AllowedRun {
        command: &gone,
        cwd: None,
        plan: None,
        approval: Approval::AskFallback,
        security: Security::Full,
        allowed: &allowed(Basis::FullSecurity),
        analysis: &direct(),
    };
    assert_eq!(
        verify(&run, &scene.host()),
        Err(BindingRefusal::NoExecutable.into())
    );
}

#[test]
fn a_script_that_changed_is_refused() {
    type Change = fn(&Scene);
    let changes: [(&str, Change); 4] = [
        ("removed", |scene| {
            fs::remove_file(scene.path("run.sh")).unwrap()
        }),
        ("rewritten", |scene| {
            scene.write("run.sh", "#!/bin/sh\necho EVIL\n");
        }),
        ("replaced by a link", |scene| {
            fs::rename(scene.path("run.sh"), scene.path("other.sh")).unwrap();
            scene.link("run.sh", "other.sh");
        }),
        ("replaced by a pipe", |scene| {
            fs::remove_file(scene.path("run.sh")).unwrap();
            nix::unistd::mkfifo(scene.path("run.sh").as_str(), nix::sys::stat::Mode::S_IRWXU)
                .unwrap();
        }),
    ];
    for (change, apply) in changes {
        let scene = Scene::new();
        scene.program("run.sh");
        let plan = prepared(&scene, &["/bin/sh", "./run.sh"], "").plan;
        let verified = approved(&scene, &plan).unwrap();
        apply(&scene);
        let refusal = Err(BindingRefusal::OperandChanged.into());
        assert_eq!(approved(&scene, &plan).map(|_| ()), refusal, "{change}");
        assert_eq!(
            verified.start().map(|_| ()),
            refusal,
            "{change} just before execution"
        );
    }
}

/// Runs what was started, after `change` had its chance in the last moment.
#[cfg(target_os = "linux")]
async fn output_after(scene: &Scene, argv: &[&str], change: impl FnOnce(&Scene)) -> String {
    let plan = prepared(scene, argv, "").plan;
    let Start {
        argv,
        program,
        cwd,
        held,
    } = approved(scene, &plan).unwrap().start().unwrap();
    change(scene);
    let spec = RunSpec {
        argv,
        program,
        cwd,
        held,
        environment: scene.command_environment(),
        timeout: None,
    };
    let (_sender, cancel) = tokio::sync::oneshot::channel();
    let payload = crate::run::run(spec, &crate::run::Containment::default(), cancel)
        .await
        .payload;
    assert_eq!(
        (payload.stderr.as_str(), &payload.error),
        ("", &None),
        "{argv:?}",
        argv = plan.argv
    );
    payload.stdout
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_script_that_was_hashed_runs_under_its_own_name() {
    let text = |first: &str| format!("{first}echo \"SAFE [$0] $# $1 $2\"\nexit 0\n");
    for (argv, first, name) in [
        (&["/bin/sh", "./run.sh", "a b", "c"][..], "", "./run.sh"),
        (&["/bin/sh", "-eu", "./run.sh", "a b", "c"], "", "./run.sh"),
        (&["/bin/bash", "./run.sh", "a b", "c"], "", "./run.sh"),
        (&["nice", "sh", "./run.sh", "a b", "c"], "", "./run.sh"),
        (&["./run.sh", "a b", "c"], "#!/bin/sh\n", "run.sh"),
        (&["./run.sh", "a b", "c"], "#!/bin/sh -e\n", "run.sh"),
        (&["./run.sh", "a b", "c"], "#!/usr/bin/env bash\n", "run.sh"),
        (&["./run.sh", "a b", "c"], "", "run.sh"),
    ] {
        for in_place in [false, true] {
            let scene = Scene::new();
            scene.program("run.sh").write("run.sh", &text(first));
            let output = output_after(&scene, argv, |scene| {
                let evil = if in_place { "run.sh" } else { "evil.sh" };
                scene.program(evil).write(evil, "#!/bin/sh\necho EVIL\n");
                fs::rename(scene.path(evil), scene.path("run.sh")).unwrap();
            });
            let name = if name.starts_with('.') {
                name.to_owned()
            } else {
                scene.path(name)
            };
            assert_eq!(
                output.await,
                format!("SAFE [{name}] 2 a b c\n"),
                "{argv:?} {first}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_binary_that_was_hashed_runs_whatever_its_name_means_by_then() {
    let scene = Scene::new();
    fs::copy("/usr/bin/echo", scene.path("tool")).unwrap();
    let output = output_after(&scene, &["./tool", "SAFE"], |scene| {
        fs::remove_file(scene.path("tool")).unwrap();
        scene
            .program("tool")
            .write("tool", "#!/bin/sh\necho EVIL\n");
    });
    assert_eq!(output.await, "SAFE\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_directory_that_was_checked_is_the_one_that_the_command_runs_in() {
    let scene = Scene::new();
    scene.folder("cw").write("cw/marker", "").folder("other");
    let plan = prepared(&scene, &["ls"], "cw").plan;
    let start = approved(&scene, &plan).unwrap().start().unwrap();
    fs::rename(scene.path("cw"), scene.path("moved")).unwrap();
    fs::rename(scene.path("other"), scene.path("cw")).unwrap();
    let spec = RunSpec {
        argv: start.argv,
        program: start.program,
        cwd: start.cwd,
        held: start.held,
        environment: scene.command_environment(),
        timeout: None,
    };
    let (_sender, cancel) = tokio::sync::oneshot::channel();
    assert_eq!(
        crate::run::run(spec, &crate::run::Containment::default(), cancel)
            .await
            .payload
            .stdout,
        "marker\n"
    );
}

#[test]
fn a_script_that_asks_where_it_was_read_from_is_not_moved() {
    let scene = Scene::new();
    scene
        .write("run.sh", "echo \"${BASH_SOURCE[0]}\"\n")
        .write("p.py", "1");
    for argv in [["/bin/bash", "./run.sh"], ["python3", "./p.py"]] {
        if scene.host().resolve(argv[0], None).resolved_path.is_none() {
            continue;
        }
        let plan = prepared(&scene, &argv, "").plan;
        let start = approved(&scene, &plan).unwrap().start().unwrap();
        assert_eq!(start.argv, plan.argv);
        assert_eq!(start.program, None);
    }
}

#[test]
fn a_plan_must_name_what_the_command_runs() {
    let scene = Scene::new();
    scene.program("run.sh");
    let plan = prepared(&scene, &["/bin/sh", "./run.sh"], "").plan;
    let operand = plan.mutable_file_operand.clone().unwrap();
    let wrong = FileOperand {
        sha256: "0".repeat(64),
        ..operand.clone()
    };
    let elsewhere = FileOperand {
        argv_index: 7,
        ..operand
    };
    for (operand, refusal) in [
        (None, BindingRefusal::OperandNotBound),
        (Some(wrong), BindingRefusal::OperandChanged),
        (Some(elsewhere), BindingRefusal::OperandChanged),
    ] {
        let plan = SystemRunPlan {
            mutable_file_operand: operand,
            ..plan.clone()
        };
        assert_eq!(approved(&scene, &plan), Err(refusal.into()));
    }
    let unapproved = AllowedRun {
        command: &command("/bin/sh ./run.sh"),
        cwd: None,
        plan: Some(&SystemRunPlan {
            mutable_file_operand: None,
            ..plan
        }),
        approval: Approval::None,
        security: Security::Allowlist,
        allowed: &allowed(Basis::Allowlist),
        analysis: &direct(),
    };
    let refusal = Err(BindingRefusal::OperandNotBound.into());
    assert_eq!(verify(&unapproved, &scene.host()), refusal);
    let full = AllowedRun {
        security: Security::Full,
        allowed: &allowed(Basis::FullSecurity),
        analysis: &direct(),
        ..unapproved
    };
    assert!(verify(&full, &scene.host()).is_ok());
}

#[test]
fn a_directory_that_changed_is_refused() {
    let scene = Scene::new();
    scene.folder("cw").folder("other");
    let prepared = prepared(&scene, &["pwd"], "cw");
    let record = PlanRecord::Prepared { cwd: prepared.cwd };
    let verified = approved(&scene, &prepared.plan).unwrap();
    assert_eq!(record.admit(verified.cwd_identity().unwrap()), Ok(()));

    // Out of the way, so that its inode number is not given to the next one.
    fs::rename(scene.path("cw"), scene.path("old")).unwrap();
    let missing = Err(BindingRefusal::CwdMissing.into());
    assert_eq!(approved(&scene, &prepared.plan), missing);
    assert_eq!(
        verified.start().map(|_| ()),
        Err(BindingRefusal::CwdChanged.into())
    );

    scene.link("cw", "other");
    let linked = Err(BindingRefusal::CwdNotCanonical.into());
    assert_eq!(approved(&scene, &prepared.plan), linked);

    fs::remove_file(scene.path("cw")).unwrap();
    scene.folder("cw");
    let recreated = approved(&scene, &prepared.plan).unwrap();
    let identity = recreated.cwd_identity().unwrap();
    assert_eq!(record.admit(identity), Err(PlanRefusal::AnotherDirectory));
    assert_eq!(
        verified.start().map(|_| ()),
        Err(BindingRefusal::CwdChanged.into())
    );
}
