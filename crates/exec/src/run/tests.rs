use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::environment::{BaseEnvironment, Overrides};

/// Long enough that only a bug reaches it.
const PATIENCE: Duration = Duration::from_secs(30);

fn environment() -> CommandEnvironment {
    let process = [
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/"),
        ("LANG", "C.UTF-8"),
    ];
    let process = process.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    BaseEnvironment::new(process).with(Overrides::default())
}

fn command(argv: &[&str]) -> RunSpec {
    RunSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        program: None,
        cwd: None,
        environment: environment(),
        timeout: None,
        held: Vec::new(),
    }
}

fn shell(script: &str) -> RunSpec {
    command(&["sh", "-c", script])
}

fn started(spec: &RunSpec) -> Running {
    spawn(spec, &Containment::default()).unwrap()
}

fn never() -> oneshot::Receiver<Cancel> {
    oneshot::channel().1
}

async fn outcome(spec: RunSpec) -> RunOutcome {
    timeout(PATIENCE, run(spec, &Containment::default(), never()))
        .await
        .expect("the run ends")
}

async fn payload_of(spec: RunSpec) -> RunPayload {
    outcome(spec).await.payload
}

/// Writes an executable from another process: a descriptor of ours that is open for writing could
/// be inherited by a command that another test starts at this moment, and then nothing may execute
/// the file (`ETXTBSY`).
async fn script(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    let mut spec = shell("printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"");
    spec.argv
        .extend(["sh".to_owned(), path.display().to_string(), text.to_owned()]);
    assert!(payload_of(spec).await.success);
    path
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let look = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, look).await.expect(what);
}

/// Whether a process is there and more than a zombie that nobody has waited for yet.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn group_is_alive(group: Pid) -> bool {
    let members = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().into_string().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<String> = stat
            .rsplit(") ")
            .next()?
            .split(' ')
            .map(str::to_owned)
            .collect();
        (fields.get(2)? == &group.to_string() && fields.first()? != "Z").then_some(pid)
    });
    members.count() > 0
}

#[tokio::test]
async fn a_command_reports_its_output_and_exit_code() {
    let done = outcome(shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(done.ending, Ending::Exited);
    let expected = RunPayload {
        exit_code: Some(3),
        stdout: "out\n".into(),
        stderr: "err\n".into(),
        stdout_bytes: 4,
        stderr_bytes: 4,
        ..RunPayload::default()
    };
    assert_eq!(done.payload, expected);

    let done = payload_of(command(&["/bin/echo", "héllo ✓"])).await;
    assert!(
        done.success && done.exit_code == Some(0) && done.stdout == "héllo ✓\n",
        "{done:?}"
    );
}

#[tokio::test]
async fn the_payload_has_exactly_the_members_of_the_wire() {
    let payload = serde_json::to_value(payload_of(shell("echo out")).await).unwrap();
    let expected = json!({
        "exitCode": 0, "timedOut": false, "success": true, "stdout": "out\n", "stderr": "",
        "error": null, "truncated": false, "stdoutBytes": 4, "stderrBytes": 0,
    });
    assert_eq!(payload, expected);
}

#[tokio::test]
async fn a_command_ended_by_a_signal_has_no_exit_code() {
    for signal in ["KILL", "TERM", "SEGV"] {
        let done = payload_of(shell(&format!("kill -{signal} $$"))).await;
        assert_eq!(
            (done.exit_code, done.success, done.timed_out),
            (None, false, false),
            "{signal}"
        );
        let wire = serde_json::to_value(&done).unwrap();
        assert!(
            wire.get("exitCode").is_none() && wire["error"].is_null(),
            "{wire}"
        );
    }
}

#[tokio::test]
async fn arguments_arrive_unchanged() {
    let done = payload_of(command(&[
        "/usr/bin/printf",
        "[%s]",
        "",
        "a b",
        "$HOME",
        "*",
        "\n",
    ]))
    .await;
    assert_eq!(done.stdout, "[][a b][$HOME][*][\n]");
}

#[tokio::test]
async fn a_program_sees_the_name_it_was_called_by() {
    let mut spec = command(&["some-name", "-c", "echo \"$0\""]);
    spec.program = Some("/bin/sh".into());
    assert_eq!(payload_of(spec).await.stdout, "some-name\n");
    assert_eq!(payload_of(shell("echo \"$0\"")).await.stdout, "sh\n");
}

#[tokio::test]
async fn standard_input_is_an_empty_pipe() {
    let done = payload_of(command(&["/bin/cat"])).await;
    assert!(done.success && done.stdout.is_empty(), "{done:?}");
    let done = payload_of(shell("readlink /proc/self/fd/0")).await;
    assert!(done.stdout.starts_with("pipe:"), "{done:?}");
}

#[tokio::test]
async fn a_command_leads_its_own_group() {
    let running = started(&shell("cut -d' ' -f1,5 /proc/$$/stat"));
    let group = running.group();
    let done = running.wait(never()).await.payload;
    assert_eq!(done.stdout, format!("{group} {group}\n"));
}

#[tokio::test]
async fn a_command_sees_its_environment_and_nothing_else() {
    let env = json!({"TERM": "dumb", "OPENCLAW_CLI": "no", "LANG": "C"});
    let overrides = Overrides::parse(env.as_object().unwrap()).unwrap();
    let process = [
        ("PATH", "/usr/bin"),
        ("LANG", "C.UTF-8"),
        ("NOTIFY_SOCKET", "/run/x"),
    ];
    let process = process.map(|(key, value)| (OsString::from(key), OsString::from(value)));
    let mut spec = command(&["/usr/bin/env"]);
    spec.environment = BaseEnvironment::new(process).with(overrides);

    let done = payload_of(spec).await;
    let mut seen: Vec<&str> = done
        .stdout
        .lines()
        .filter(|line| !line.starts_with("PATH="))
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "LANG=C",
            "OPENCLAW_CLI=1",
            "OPENCLAW_PATH_BOOTSTRAPPED=1",
            "TERM=dumb"
        ]
    );
}

#[tokio::test]
async fn a_command_runs_in_its_folder() {
    let folder = TempDir::new().unwrap();
    let real = folder.path().canonicalize().unwrap();
    let mut spec = command(&["/bin/pwd"]);
    spec.cwd = Some(real.clone());
    assert_eq!(
        payload_of(spec).await.stdout,
        format!("{}\n", real.display())
    );

    script(&folder, "tool", "#!/bin/sh\necho \"$0\"\n").await;
    let mut spec = command(&["./tool"]);
    spec.cwd = Some(real);
    assert_eq!(payload_of(spec).await.stdout, "./tool\n");

    let mut spec = command(&["./lib.rs"]);
    spec.cwd = Some("src".into());
    let error = payload_of(spec).await.error.unwrap();
    assert!(
        error.ends_with("(EACCES)"),
        "a relative folder counts from the node's own: {error}"
    );
}

#[tokio::test]
async fn what_cannot_be_started_is_an_ordinary_result() {
    let folder = TempDir::new().unwrap();
    let plain = folder.path().join("plain.txt");
    std::fs::write(&plain, "x").unwrap();
    let (plain, inside) = (
        plain.display().to_string(),
        plain.join("x").display().to_string(),
    );
    let folder = folder.path().display().to_string();
    let long = "x".repeat(300_000);

    let launch = |errno: &str| format!("Command failed during launch or output capture ({errno})");
    let table: &[(&[&str], &str)] = &[
        (&["definitely-not-here-xyz"], "ENOENT"),
        (&["/definitely/not/here"], "ENOENT"),
        (&[], "ENOENT"),
        (&[""], "ENOENT"),
        (&[&plain], "EACCES"),
        (&[&folder], "EACCES"),
        (&[&inside], "ENOTDIR"),
        (&["/bin/echo", &long], "E2BIG"),
        (&["/bin/echo", "nul\0inside"], "EINVAL"),
    ];
    for (argv, errno) in table {
        let done = outcome(command(argv)).await;
        assert_eq!(done.ending, Ending::NotStarted, "{errno}");
        assert_eq!(done.payload.error.as_deref(), Some(launch(errno).as_str()));
        let wire = serde_json::to_value(&done.payload).unwrap();
        let expected = json!({
            "timedOut": false, "success": false, "stdout": "", "stderr": "", "error": launch(errno),
            "truncated": false, "stdoutBytes": 0, "stderrBytes": 0,
        });
        assert_eq!(wire, expected);
    }

    let missing = format!("{folder}/missing");
    let table = [
        (
            &missing,
            format!(
                "node exec working directory does not exist on the node host: {missing} \
                 (os reported: {})",
                launch("ENOENT")
            ),
        ),
        (
            &plain,
            format!(
                "node exec working directory is not a directory on the node host: {plain} \
                 (os reported: {})",
                launch("ENOTDIR")
            ),
        ),
    ];
    for (cwd, text) in table {
        for program in ["/bin/pwd", "pwd", "definitely-not-here-xyz"] {
            let mut spec = command(&[program]);
            spec.cwd = Some(cwd.into());
            assert_eq!(
                payload_of(spec).await.error.as_ref(),
                Some(&text),
                "{program}"
            );
        }
    }
    let mut spec = command(&["definitely-not-here-xyz"]);
    spec.cwd = Some(folder.into());
    assert_eq!(payload_of(spec).await.error, Some(launch("ENOENT")));
}

#[tokio::test]
async fn an_executable_without_an_interpreter_line_is_a_shell_script() {
    let folder = TempDir::new().unwrap();
    let path = script(&folder, "bare", "echo \"$0 $1\"\n")
        .await
        .display()
        .to_string();
    let done = payload_of(command(&[&path, "argument"])).await;
    assert_eq!(done.stdout, format!("{path} argument\n"));
}

/// A command whose time is up by the moment it says that it is ready, by creating the file `$1`.
async fn overdue(script: &str) -> Running {
    let folder = TempDir::new().unwrap();
    let ready = folder.path().join("ready");
    let mut spec = shell(script);
    spec.argv
        .extend(["sh".to_owned(), ready.display().to_string()]);
    spec.timeout = Some(Duration::from_millis(1));
    let running = started(&spec);
    eventually("the command is ready", || ready.exists()).await;
    running
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group_and_keeps_the_output() {
    let running = overdue("echo early; sleep 1000 & : > $1; sleep 1000").await;
    let group = running.group();
    let done = timeout(PATIENCE, running.wait(never())).await.unwrap();

    assert_eq!(done.ending, Ending::TimedOut);
    assert!(done.payload.timed_out && !done.payload.success);
    assert_eq!(
        (done.payload.exit_code, done.payload.stdout.as_str()),
        (Some(124), "early\n")
    );
    assert_eq!(done.payload.error, None);
    eventually("the group is gone", || !group_is_alive(group)).await;
}

#[tokio::test]
async fn a_timed_out_command_may_choose_its_own_failure() {
    for (code, expected) in [(7, 7), (0, 124)] {
        let script = format!("trap 'echo got-term; exit {code}' TERM; sleep 1000 & : > $1; wait");
        let running = overdue(&script).await;
        let done = timeout(PATIENCE, running.wait(never()))
            .await
            .unwrap()
            .payload;
        assert_eq!(
            (done.exit_code, done.timed_out, done.success),
            (Some(expected), true, false)
        );
        assert_eq!(done.stdout, "got-term\n");
    }
}

#[tokio::test]
async fn a_group_that_ignores_term_is_killed() {
    // Whatever the shell waits for is started again, so only KILL ends it.
    let scripts = [
        "trap '' TERM; : > $1; while :; do sleep 1000; done",
        // The leader goes at once; a member that it leaves behind does not.
        "(trap '' TERM; : > $1; while :; do sleep 1000; done) & sleep 1000",
    ];
    for script in scripts {
        let running = overdue(script).await;
        let group = running.group();
        let done = timeout(PATIENCE, running.wait(never()))
            .await
            .unwrap()
            .payload;
        assert_eq!(
            (done.exit_code, done.timed_out),
            (Some(124), true),
            "{script}"
        );
        eventually("the group is gone", || !group_is_alive(group)).await;
    }
}

#[tokio::test]
async fn a_timeout_stops_a_command_that_writes_without_end() {
    let mut spec = command(&["/usr/bin/yes"]);
    spec.timeout = Some(Duration::from_millis(300));
    let done = payload_of(spec).await;
    assert!(
        done.timed_out && done.stdout.starts_with("y\ny\n"),
        "{}",
        done.stdout_bytes
    );
}

#[tokio::test]
async fn a_cancelled_command_is_gone_with_everything_it_started() {
    let running = started(&shell("sleep 1000 & sleep 1000"));
    let group = running.group();
    eventually("the command runs", || group_is_alive(group)).await;

    let (cancel, cancelled) = oneshot::channel();
    cancel
        .send(Cancel {
            grace: TIMEOUT_GRACE,
        })
        .unwrap();
    let done = timeout(PATIENCE, running.wait(cancelled)).await.unwrap();
    assert_eq!(done.ending, Ending::Cancelled);
    assert!(!done.payload.success && !done.payload.timed_out);
    eventually("the group is gone", || !group_is_alive(group)).await;
}

#[tokio::test]
async fn a_cancel_also_ends_what_an_ended_command_left_behind() {
    let running = started(&shell("sleep 1000 & echo $!"));
    let group = running.group();
    // The leader is a zombie from here on, and its child holds the output open.
    eventually("the leader has ended", || {
        let stat = std::fs::read_to_string(format!("/proc/{group}/stat")).unwrap();
        stat.contains(") Z ")
    })
    .await;

    let (cancel, cancelled) = oneshot::channel();
    cancel
        .send(Cancel {
            grace: TIMEOUT_GRACE,
        })
        .unwrap();
    let done = timeout(PATIENCE, running.wait(cancelled)).await.unwrap();
    assert_eq!(done.ending, Ending::Cancelled);
    eventually("the descendant is gone", || {
        !is_alive(done.payload.stdout.trim())
    })
    .await;
}

#[tokio::test]
async fn an_abandoned_run_is_killed() {
    let before_waiting = started(&shell("sleep 1000 & sleep 1000"));
    let group = before_waiting.group();
    drop(before_waiting);
    eventually("the group is gone", || !group_is_alive(group)).await;

    let while_waiting = started(&shell("sleep 1000 & sleep 1000"));
    let group = while_waiting.group();
    let wait = timeout(Duration::from_millis(50), while_waiting.wait(never())).await;
    assert!(wait.is_err());
    eventually("the group is gone", || !group_is_alive(group)).await;
}

#[tokio::test]
async fn a_descendant_that_holds_the_output_open_does_not_hold_the_result() {
    let done = payload_of(shell("sleep 1000 & echo $!")).await;
    let pid = done.stdout.trim().to_owned();
    assert!(done.success && done.drain_truncated, "{done:?}");
    assert!(
        is_alive(&pid),
        "a command that succeeds may leave something running"
    );
    assert_eq!(
        serde_json::to_value(&done).unwrap()["drainTruncated"],
        json!(true)
    );

    nix::sys::signal::kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_failed_command_takes_what_it_started_with_it() {
    let done = payload_of(shell("sleep 1000 & echo $!; exit 3")).await;
    let pid = done.stdout.trim().to_owned();
    assert_eq!((done.exit_code, done.drain_truncated), (Some(3), false));
    eventually("the descendant is gone", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn output_of_any_size_is_read_to_its_end_and_bounded() {
    let done = payload_of(shell("head -c 20000000 /dev/zero | tr '\\0' a; echo END")).await;
    assert!(done.success && done.truncated);
    assert_eq!((done.stdout_bytes, done.stderr_bytes), (20_000_004, 0));
    let marker = "\n... (truncated 19800004 bytes) ...\n";
    assert_eq!(done.stdout.len(), 200_000 + marker.len());
    assert!(done.stdout.contains(marker) && done.stdout.ends_with("aEND\n"));
}

#[tokio::test]
async fn both_outputs_are_read_at_the_same_time() {
    let flood = "head -c 3000000 /dev/zero | tr '\\0' ";
    let done = payload_of(shell(&format!("{flood} e >&2 & {flood} o; wait"))).await;
    assert_eq!(
        (done.stdout_bytes, done.stderr_bytes),
        (3_000_000, 3_000_000)
    );
    let marker = "\n... (truncated 2900000 bytes) ...\n".len();
    assert_eq!(
        (done.stdout.len(), done.stderr.len()),
        (100_000 + marker, 100_000 + marker)
    );
}

#[tokio::test]
async fn output_up_to_the_bound_is_complete() {
    let done = payload_of(shell("head -c 200000 /dev/zero | tr '\\0' a")).await;
    assert!(done.success && !done.truncated);
    assert_eq!(done.stdout, "a".repeat(200_000));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_replaced() {
    let done = payload_of(command(&["/usr/bin/printf", "a\\377b"])).await;
    assert_eq!((done.stdout.as_str(), done.stdout_bytes), ("a\u{fffd}b", 3));
}

/// A shell that leaves a daemon behind: another session, no parent, no descriptor of ours. The
/// daemon writes its process id to the file `$1`.
const DAEMON: &str = "(setsid sh -c 'echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000' \"$1\" \
     </dev/null >/dev/null 2>&1 &)";

/// The process id that a daemon wrote.
async fn daemon_in(file: &Path) -> String {
    eventually("the daemon runs", || file.exists()).await;
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

#[tokio::test]
async fn nothing_escapes_a_cancel() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("daemon");
    let mut spec = shell(&format!("{DAEMON}; sleep 1000"));
    spec.argv
        .extend(["sh".to_owned(), file.display().to_string()]);
    let running = started(&spec);
    let daemon = daemon_in(&file).await;
    assert!(is_alive(&daemon));

    let (cancel, cancelled) = oneshot::channel();
    cancel
        .send(Cancel {
            grace: TIMEOUT_GRACE,
        })
        .unwrap();
    let done = timeout(PATIENCE, running.wait(cancelled)).await.unwrap();
    assert_eq!(done.ending, Ending::Cancelled);
    assert!(!is_alive(&daemon), "it is gone before the run is over");
}

#[tokio::test]
async fn a_daemon_that_ignores_term_is_killed_with_its_run() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("daemon");
    let mut spec = shell(&format!("trap '' TERM; {DAEMON}; sleep 1000"));
    spec.argv
        .extend(["sh".to_owned(), file.display().to_string()]);
    spec.timeout = Some(Duration::from_millis(500));
    let running = started(&spec);
    let daemon = daemon_in(&file).await;
    let done = timeout(PATIENCE, running.wait(never())).await.unwrap();
    assert_eq!(done.ending, Ending::TimedOut);
    assert!(!is_alive(&daemon), "it is gone before the run is over");
}

#[tokio::test]
async fn a_dropped_run_takes_its_daemons_along() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("daemon");
    let mut spec = shell(&format!("{DAEMON}; sleep 1000"));
    spec.argv
        .extend(["sh".to_owned(), file.display().to_string()]);
    let running = started(&spec);
    let daemon = daemon_in(&file).await;
    drop(running);
    eventually("the daemon is gone", || !is_alive(&daemon)).await;
}

#[tokio::test]
async fn a_command_that_succeeds_may_leave_a_daemon() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("daemon");
    let mut spec = shell(DAEMON);
    spec.argv
        .extend(["sh".to_owned(), file.display().to_string()]);
    let done = payload_of(spec).await;
    assert!(done.success, "{done:?}");
    let daemon = daemon_in(&file).await;
    assert!(is_alive(&daemon));
    nix::sys::signal::kill(Pid::from_raw(daemon.parse().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn the_signal_that_ended_a_command_is_told() {
    let done = outcome(shell("kill -9 $$")).await;
    assert_eq!((done.signal, done.payload.exit_code), (Some(9), None));
    assert_eq!(outcome(shell("exit 9")).await.signal, None);
}

#[tokio::test]
async fn a_command_is_kept_within_its_limits() {
    let containment = Containment {
        limits: Limits {
            memory: Some(64 << 20),
            pids: Some(77),
            cpu_millis: None,
        },
        delegated: None,
    };
    // The limits are there a moment after the start.
    let script = "until grep -qE 'Max processes +77 ' /proc/self/limits; do :; done; \
                  grep -E 'Max (data size|processes)' /proc/self/limits";
    let done = run(shell(script), &containment, never()).await.payload;
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let expected = "Max data size 67108864 67108864 bytes Max processes 77 77 processes";
    assert_eq!(words.join(" "), expected);
    let own = std::fs::read_to_string("/proc/self/limits").unwrap();
    assert!(!own.contains("67108864"), "the node itself is not limited");
}

#[tokio::test]
async fn what_a_killed_node_left_running_is_ended() {
    use crate::mark::Instance;
    use crate::survivors::{Predecessor, Unfinished, end};

    let folder = TempDir::new().unwrap();
    // What an earlier process started carries that one's instance.
    let earlier = Instance::from_raw(Instance::current().as_raw() ^ 1);
    let start = |number: u32, file: &str| {
        let file = folder.path().join(file);
        let script = format!("{DAEMON}; exec sleep 1000");
        let mark = RunMark::new(earlier, number);
        let (child, is_marked) = while_marked(mark, || {
            Command::new("/bin/sh")
                .args(["-c", &script, "sh"])
                .arg(&file)
                .process_group(0)
                .spawn()
                .unwrap()
        });
        assert!(is_marked);
        (child, file)
    };
    let (mut unfinished, unfinished_file) = start(3, "unfinished");
    let (mut finished, finished_file) = start(4, "finished");
    let (mut unrecorded, unrecorded_file) = start(6, "unrecorded");
    let daemons = [
        daemon_in(&unfinished_file).await,
        daemon_in(&finished_file).await,
        daemon_in(&unrecorded_file).await,
    ];

    let predecessor = Predecessor {
        instance: earlier.as_raw(),
        unfinished: vec![Unfinished {
            pid: 1,
            start_time: 0,
            boot_id: String::new(),
            number: Some(3),
        }],
        last_number: Some(5),
    };
    let others = Predecessor {
        instance: earlier.as_raw() ^ 2,
        unfinished: Vec::new(),
        last_number: None,
    };
    let ended = timeout(PATIENCE, end(&[predecessor, others])).await;
    assert_eq!(ended.unwrap(), 4);
    assert!(!unfinished.wait().await.unwrap().success());
    assert!(!unrecorded.wait().await.unwrap().success());
    let alive = daemons.each_ref().map(|daemon| is_alive(daemon));
    assert_eq!(alive, [false, true, false]);

    let last = Predecessor {
        instance: earlier.as_raw(),
        unfinished: Vec::new(),
        last_number: Some(3),
    };
    assert_eq!(timeout(PATIENCE, end(&[last])).await.unwrap(), 2);
    assert!(!finished.wait().await.unwrap().success());
}

#[tokio::test]
async fn an_unmarked_survivor_is_known_by_its_start() {
    use crate::census::boot_id;
    use crate::survivors::{Predecessor, Unfinished, end};

    let mut child = Command::new("/bin/sleep")
        .arg("1000")
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap().cast_signed();
    let start_time = Stat::of(Pid::from_raw(pid)).unwrap().start_time;
    let recorded = |start_time, boot_id: &str| Predecessor {
        instance: 7,
        unfinished: vec![Unfinished {
            pid,
            start_time,
            boot_id: boot_id.to_owned(),
            number: None,
        }],
        last_number: Some(u32::MAX),
    };
    let boot_id = boot_id().unwrap();
    assert_eq!(end(&[recorded(start_time + 1, &boot_id)]).await, 0);
    assert_eq!(end(&[recorded(start_time, "another boot")]).await, 0);
    assert!(child.try_wait().unwrap().is_none());
    let recorded = [recorded(start_time, &boot_id)];
    let (ended, _) = tokio::join!(end(&recorded), child.wait());
    assert_eq!(ended, 1);
}
