//! Secrets that a program prints.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::timed_out;
use crate::Environment;
use crate::openclaw_json::{ExecProvider, SecretReference};

/// The only version of what is said between the node and the program (config §4.1).
const PROTOCOL_VERSION: u64 = 1;

/// Between two looks at whether a program that says nothing more has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What a program may call an error; its other words could contain anything.
const KNOWN_ERRORS: [&str; 2] = ["AMBIGUOUS_DUPLICATE_KEY", "NOT_FOUND"];

pub(super) fn secret(
    provider: &ExecProvider,
    reference: &SecretReference,
    environment: &Environment,
) -> Result<SecretString, String> {
    check(provider)?;
    let output = run(provider, reference, environment)?;
    answer(&output, provider, &reference.id)
}

/// Only a program that nobody else can exchange is run.
fn check(provider: &ExecProvider) -> Result<(), String> {
    let command = &provider.command;
    let shown = command.display();
    let found = command
        .symlink_metadata()
        .map_err(|error| format!("cannot find {shown}: {error}"))?;
    if found.is_symlink() {
        return Err(format!("{shown} must not be a symbolic link"));
    }
    if !found.is_file() {
        return Err(format!("{shown} must be a regular file"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!("others may change {shown}; run chmod go-w on it"));
    }
    if found.uid() != Uid::effective().as_raw() {
        return Err(format!(
            "{shown} must belong to the user that the node runs as"
        ));
    }
    let has_dots = command
        .components()
        .any(|component| component == std::path::Component::ParentDir);
    let is_trusted = provider.trusted_dirs.is_empty()
        || (!has_dots
            && provider
                .trusted_dirs
                .iter()
                .any(|folder| command.starts_with(folder)));
    match is_trusted {
        true => Ok(()),
        false => Err(format!("{shown} is in none of the trustedDirs")),
    }
}

/// Runs the program without a shell, in a process group of its own, with nothing of the node's
/// environment but what the provider passes on.
fn run(
    provider: &ExecProvider,
    reference: &SecretReference,
    environment: &Environment,
) -> Result<Vec<u8>, String> {
    let shown = provider.command.display();
    let passed = provider
        .pass_env
        .iter()
        .filter_map(|name| Some((name, environment.raw(name)?)));
    let own = provider
        .env
        .iter()
        .map(|(name, value)| (name, value.expose_secret()));
    let child = Command::new(&provider.command)
        .args(&provider.args)
        .env_clear()
        .envs(passed)
        .envs(own)
        .current_dir(provider.command.parent().unwrap_or(Path::new("/")))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot run {shown}: {error}"))?;
    let mut program = Program {
        child,
        ended: false,
    };
    let question = json!({
        "protocolVersion": PROTOCOL_VERSION,
        "provider": reference.provider,
        "ids": [reference.id],
    });
    if let Some(mut input) = program.child.stdin.take() {
        // It fits the pipe; a program that needs no question may be gone already.
        input.write_all(question.to_string().as_bytes()).ok();
    }
    let stdout = program.child.stdout.take().ok_or("its output is lost")?;
    let deadline = Instant::now() + provider.timeout;
    let output = collect(stdout, provider, deadline)?;
    let status = wait(&mut program.child, deadline)
        .map_err(|error| format!("cannot wait for {shown}: {error}"))?
        .ok_or_else(|| timed_out(provider.timeout))?;
    program.ended = true;
    match status.success() {
        true => Ok(output),
        false => Err(format!("{shown} ended with {status}")),
    }
}

/// A program whose process group does not outlive this value, unless it ended by itself: what it
/// left running then, such as an agent that keeps a vault open, it left on purpose.
struct Program {
    child: Child,
    ended: bool,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Not reaped yet, so the number still means this group.
        if !self.ended
            && let Ok(group) = i32::try_from(self.child.id())
        {
            killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
            self.child.wait().ok();
        }
    }
}

/// Reads until the program closes its output, prints too much, falls silent or runs out of time.
fn collect(
    mut stdout: ChildStdout,
    provider: &ExecProvider,
    deadline: Instant,
) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("cannot read the program's output: {error}");
    fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed(error.into()))?;
    let limit = usize::try_from(provider.max_output_bytes).unwrap_or(usize::MAX);
    let mut output = Vec::new();
    let mut chunk = [0; 8 * 1024];
    let mut silent_from = Instant::now();
    loop {
        let silence_ends = silent_from + provider.no_output_timeout;
        let left = deadline
            .min(silence_ends)
            .saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(match silence_ends < deadline {
                true => provider.no_output_timeout,
                false => provider.timeout,
            }));
        }
        let timeout = PollTimeout::try_from(left + POLL_INTERVAL).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        match stdout.read(&mut chunk) {
            Ok(0) => return Ok(output),
            Ok(count) => {
                output.extend_from_slice(chunk.get(..count).unwrap_or(&[]));
                silent_from = Instant::now();
                if output.len() > limit {
                    return Err(format!("the program printed more than {limit} bytes"));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Waits for the end of a program that has closed its output.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        let pause = PollTimeout::try_from(POLL_INTERVAL).unwrap_or(PollTimeout::ZERO);
        poll(&mut [], pause).ok();
    }
}

fn answer(output: &[u8], provider: &ExecProvider, id: &str) -> Result<SecretString, String> {
    let text = std::str::from_utf8(output).map_err(|_| "its output is not UTF-8".to_owned())?;
    let text = text.trim();
    if text.is_empty() {
        return Err("the program printed nothing".to_owned());
    }
    let parsed: Value = match serde_json::from_str(text) {
        Ok(parsed) => parsed,
        Err(_) if !provider.json_only => return Ok(SecretString::from(text)),
        // The parser's own words could quote the secret.
        Err(_) => return Err("its output is not JSON".to_owned()),
    };
    let object: &Map<String, Value> = match &parsed {
        Value::Object(object) => object,
        Value::String(secret) if !provider.json_only => {
            return Ok(SecretString::from(secret.as_str()));
        }
        _ => return Err("its answer is not a JSON object".to_owned()),
    };
    if object.get("protocolVersion").and_then(Value::as_u64) != Some(PROTOCOL_VERSION) {
        return Err("its answer must have protocolVersion 1".to_owned());
    }
    let Some(Value::Object(values)) = object.get("values") else {
        return Err("its answer has no values".to_owned());
    };
    if let Some(error) = object.get("errors").and_then(|errors| errors.get(id)) {
        let code = error.get("code").and_then(Value::as_str);
        let code = code.filter(|code| KNOWN_ERRORS.contains(code));
        return Err(match code {
            Some(code) => format!("the program has no secret {id} ({code})"),
            None => format!("the program has no secret {id}"),
        });
    }
    match values.get(id) {
        Some(Value::String(secret)) => Ok(SecretString::from(secret.as_str())),
        Some(_) => Err(format!("its answer for {id} is not a string")),
        None => Err(format!("its answer has nothing for {id}")),
    }
}
