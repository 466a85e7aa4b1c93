//! A directory of recording programs, and real shells that can find nothing else.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use approvals::shell::{Dialect, Joint, Kind, Script, Segment};
use tempfile::TempDir;

/// Programs that record how they were started, and end with the status they are told.
pub(crate) const STUBS: [&str; 6] = ["alpha", "beta", "gamma", "x.y-z", "a_b", "find"];

/// Real programs that start the command in their arguments and pass its status on.
pub(crate) const CARRIERS: [&str; 5] = ["env", "nice", "nohup", "time", "timeout"];

/// How carriers are called so that they do.
const CARRIERS_WITH_OPTIONS: [&str; 11] = [
    "command",
    "command --",
    "env",
    "env --",
    "nice",
    "nice -n 5",
    "nohup",
    "time",
    "time -p",
    "timeout -k1 5",
    "timeout 5",
];

/// Shells inside shells.
pub(crate) const SHELLS: [&str; 2] = ["sh", "bash"];

const STUB: &str = "#!/bin/sh
printf '%s\\0' \"$#\" \"${0##*/}\" \"$@\" >>\"$RECORD\"
exit \"$STATUS\"
";

/// A program that was started: its name and its arguments.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Record {
    /// Its name, without the directory.
    pub(crate) name: String,
    /// Its arguments; where an expected record does not know them, `None`.
    pub(crate) arguments: Option<Vec<String>>,
}

/// What a script should start.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Expectation {
    /// Exactly these, in any order.
    Exactly(Vec<Record>),
    /// None but these.
    AtMost(Vec<Record>),
}

/// Where scripts are tried out.
#[derive(Debug)]
pub(crate) struct Laboratory {
    directory: TempDir,
    runs: AtomicU32,
}

impl Laboratory {
    /// Sets up the recording programs.
    pub(crate) fn new() -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let programs = directory.path().join("bin");
        fs::create_dir(&programs)?;
        fs::create_dir(directory.path().join("empty"))?;
        for name in STUBS {
            let path = programs.join(name);
            fs::write(&path, STUB)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        for name in CARRIERS.iter().chain(&SHELLS) {
            if let Some(real) = installed(name) {
                symlink(real, programs.join(name))?;
            }
        }
        Ok(Self {
            directory,
            runs: AtomicU32::new(0),
        })
    }

    fn shell(&self, dialect: Dialect) -> Command {
        let mut command = Command::new(match dialect {
            Dialect::Bash => "bash",
            _ => "sh",
        });
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/nowhere")
            .current_dir(self.directory.path().join("empty"))
            .stdin(Stdio::null());
        command
    }

    /// What the shell says against the text without running it.
    pub(crate) fn objection(&self, dialect: Dialect, payload: &str) -> io::Result<Option<String>> {
        let output = self.shell(dialect).args(["-n", "-c", payload]).output()?;
        Ok((!output.status.success()).then(|| complaint(&output)))
    }

    /// What a shell starts when it is given the text and every recording program ends with `status`.
    pub(crate) fn run(
        &self,
        dialect: Dialect,
        payload: &str,
        status: u8,
    ) -> io::Result<Vec<Record>> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let record = self.directory.path().join(format!("record-{run}"));
        let programs = self.directory.path().join("bin");
        self.shell(dialect)
            .env("PATH", programs)
            .env("RECORD", &record)
            .env("STATUS", status.to_string())
            .args(["-c", payload])
            .output()?;
        let text = match fs::read(&record) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        fs::remove_file(&record)?;
        Ok(records(&text))
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn records(text: &[u8]) -> Vec<Record> {
    let mut fields = text
        .split(|&byte| byte == 0)
        .map(|field| String::from_utf8_lossy(field).into_owned());
    let mut records = Vec::new();
    while let Some(count) = fields.next().filter(|count| !count.is_empty()) {
        let count: usize = count.parse().expect("a record begins with a number");
        let name = fields.next().expect("a record holds a name");
        let arguments = fields.by_ref().take(count).collect();
        records.push(Record {
            name,
            arguments: Some(arguments),
        });
    }
    records.sort();
    records
}

/// What a script should start if every recording program ends with `status`, or `None` if it must
/// not be tried out: it holds something that needs a human, or a program that is not known here.
pub(crate) fn expectation(script: &Script, dialect: Dialect, status: u8) -> Option<Expectation> {
    let mut simulation = Simulation {
        dialect,
        stubs_succeed: status == 0,
        is_exact: true,
        started: Vec::new(),
    };
    simulation.script(script)?;
    let started = simulation.started;
    Some(if simulation.is_exact {
        Expectation::Exactly(started)
    } else {
        Expectation::AtMost(every_start(script))
    })
}

struct Simulation {
    dialect: Dialect,
    stubs_succeed: bool,
    is_exact: bool,
    started: Vec<Record>,
}

impl Simulation {
    /// Runs the script in thought, and tells whether it succeeds.
    fn script(&mut self, script: &Script) -> Option<bool> {
        let mut succeeded = true;
        let mut runs = true;
        for segment in &script.segments {
            runs = match segment.joint {
                Joint::First | Joint::Then => true,
                Joint::And => succeeded,
                Joint::Or => !succeeded,
                Joint::Pipe | Joint::PipeBoth => runs,
            };
            let before = self.started.len();
            let outcome = self.segment(segment)?;
            if runs {
                succeeded = outcome;
            } else {
                self.started.truncate(before);
            }
        }
        Some(succeeded)
    }

    fn segment(&mut self, segment: &Segment) -> Option<bool> {
        if let Kind::Nested(nested) = &segment.kind {
            return self.script(&nested.script);
        }
        if matches!(segment.kind, Kind::PromptOnly(_) | Kind::Shell) {
            return None;
        }
        let mut carriers = segment.plan.wrappers.iter().map(|it| it.name.as_str());
        if !carriers.all(|name| name == "command" || name == "exec" || CARRIERS.contains(&name)) {
            return None;
        }
        self.is_exact &= carriers_pass_on(segment);
        let words = segment.execution_argv();
        let (name, arguments) = words.split_first()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if STUBS.contains(&name.as_str()) {
            self.started.push(record(segment));
            return Some(self.stubs_succeed);
        }
        let is_direct = segment.plan.wrappers.is_empty();
        match (name.as_str(), arguments.as_slice()) {
            ("true" | ":" | "pwd", []) | ("test", ["-d", "/"]) | ("[", ["-d", "/", "]"])
                if is_direct =>
            {
                Some(true)
            }
            ("false", _) if is_direct => Some(false),
            ("echo", _) if is_direct && self.dialect == Dialect::Bash => Some(true),
            ("echo" | "true" | ":" | "pwd" | "test" | "[" | "cd" | "false", _) => {
                self.is_exact = false;
                Some(true)
            }
            _ => None,
        }
    }
}

/// Whether every carrier is known to start its command and to come back from it.
fn carriers_pass_on(segment: &Segment) -> bool {
    let plan = &segment.plan;
    let starts: Vec<usize> = plan.wrappers.iter().map(|it| it.index).collect();
    let ends = starts.iter().skip(1).chain([&plan.execution_index]);
    starts.iter().zip(ends).all(|(&start, &end)| {
        let words = segment.argv[start..end].join(" ");
        CARRIERS_WITH_OPTIONS.contains(&words.as_str())
    })
}

fn record(segment: &Segment) -> Record {
    let words = segment.execution_argv();
    let (name, arguments) = words.split_first().expect("a command has a name");
    Record {
        name: name.clone(),
        arguments: segment.is_literal().then(|| arguments.to_vec()),
    }
}

/// Every recording program that the script names.
fn every_start(script: &Script) -> Vec<Record> {
    let mut records = Vec::new();
    for segment in &script.segments {
        match &segment.kind {
            Kind::Nested(nested) => records.extend(every_start(&nested.script)),
            Kind::Command | Kind::SafeBuiltin | Kind::PromptOnly(_) | Kind::Shell => {
                let is_stub = |name: &String| STUBS.contains(&name.as_str());
                if segment.execution_argv().first().is_some_and(is_stub) {
                    records.push(record(segment));
                }
            }
        }
    }
    records
}

impl Expectation {
    /// What about `started` is not as expected.
    pub(crate) fn difference(&self, started: &[Record]) -> Option<String> {
        let (Self::Exactly(expected) | Self::AtMost(expected)) = self;
        let mut missing: Vec<&Record> = expected.iter().collect();
        // Those whose arguments are known are looked for first.
        missing.sort_by_key(|record| record.arguments.is_none());
        for record in started {
            let Some(position) = missing
                .iter()
                .position(|expected| matches(expected, record))
            else {
                return Some(format!("unexpected {record:?}"));
            };
            missing.remove(position);
        }
        match (self, missing.first()) {
            (Self::Exactly(_), Some(record)) => Some(format!("missing {record:?}")),
            _ => None,
        }
    }
}

fn matches(expected: &Record, started: &Record) -> bool {
    expected.name == started.name
        && (expected.arguments.is_none() || expected.arguments == started.arguments)
}

/// Whether a shell without `&>`, outside or inside, may run part of the text in the background,
/// where it ends late and its status is not known.
pub(crate) fn has_background(dialect: Dialect, payload: &str) -> bool {
    payload.contains("&>") && (dialect != Dialect::Bash || payload.contains("sh "))
}

/// Checks one text against the real shells: what is called analysable they accept, and they start
/// what it is said to start.
pub(crate) fn check(
    laboratory: &Laboratory,
    dialect: Dialect,
    payload: &str,
    status: u8,
) -> Result<Outcome, String> {
    let Ok(script) = approvals::shell::analyse(payload, dialect) else {
        return Ok(Outcome::Refused);
    };
    let told = |error: io::Error| error.to_string();
    if let Some(objection) = laboratory.objection(dialect, payload).map_err(told)? {
        return Err(format!("{dialect:?} rejects {payload:?}: {objection}"));
    }
    let Some(expectation) = expectation(&script, dialect, status) else {
        return Ok(Outcome::Accepted);
    };
    if has_background(dialect, payload) {
        return Ok(Outcome::Accepted);
    }
    let started = laboratory.run(dialect, payload, status).map_err(told)?;
    match expectation.difference(&started) {
        Some(difference) => Err(format!(
            "{dialect:?} with {status}: {payload:?}: {difference}, of {expectation:?}"
        )),
        None => Ok(Outcome::Run),
    }
}

/// How far a text could be checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It is not analysable.
    Refused,
    /// The shell accepts it; it was not run.
    Accepted,
    /// The shell ran it as expected.
    Run,
}

/// Whether the shells that are needed are installed.
pub(crate) fn is_available() -> bool {
    let runs = |shell: &str| {
        let status = Command::new(OsStr::new(shell)).args(["-c", ":"]).status();
        status.is_ok_and(|status| status.success())
    };
    SHELLS.iter().all(|shell| runs(shell))
}
