//! The bare floor: what the same commands cost without any node, spawned and waited for by this
//! process itself. No node can be faster on the same machine at the same moment.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::Result;
use crate::samples::Samples;

/// The command that does nothing.
pub(crate) const TRUE: &str = "/bin/true";
/// The command that prints a file.
pub(crate) const CAT: &str = "/bin/cat";
/// What the printing command prints, in bytes; below the 200 000 that a node returns.
pub(crate) const OUTPUT_BYTES: usize = 150_000;

/// Commands at a time in the waiting figure, and the command.
pub(crate) const SLEEPERS: usize = 64;
pub(crate) const SLEEP: [&str; 2] = ["/bin/sleep", "0.2"];

const TRUE_PER_ROUND: usize = 100;
const WORKERS: usize = 2;
const TRUE_PER_WORKER: usize = 100;
const OUTPUT_PER_ROUND: usize = 15;

/// The file that is printed.
pub(crate) struct Floor {
    printed: NamedTempFile,
}

impl Floor {
    /// Writes the file.
    pub(crate) fn new() -> Result<Self> {
        let mut printed = NamedTempFile::new()?;
        let line = format!("{}\n", "x".repeat(99));
        printed.write_all(line.repeat(OUTPUT_BYTES / line.len()).as_bytes())?;
        Ok(Self { printed })
    }

    /// The file whose content is [`OUTPUT_BYTES`] long.
    pub(crate) fn printed(&self) -> &Path {
        self.printed.path()
    }
}

/// What the floor did.
#[derive(Debug, Default)]
pub(crate) struct FloorFigures {
    /// `/bin/true`, one at a time.
    pub(crate) run_true: Samples,
    /// `/bin/true` with [`WORKERS`] threads: runs, and the time they took.
    pub(crate) parallel: (usize, Duration),
    /// [`SLEEPERS`] times [`SLEEP`], started by [`WORKERS`] threads: from the first start to each end.
    pub(crate) sleepers: Samples,
    /// Reading the printed file from the command's pipe.
    pub(crate) output: Samples,
}

impl FloorFigures {
    /// Takes a turn.
    pub(crate) fn measure_round(&mut self, floor: &Floor) -> Result<()> {
        self.run_true.extend(run_true(TRUE_PER_ROUND)?);
        let started = Instant::now();
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| thread::spawn(|| run_true(TRUE_PER_WORKER).map_err(|error| error.to_string())))
            .collect();
        for worker in workers {
            worker.join().map_err(|_| "a floor worker panicked")??;
        }
        self.parallel.0 += WORKERS * TRUE_PER_WORKER;
        self.parallel.1 += started.elapsed();
        let started = Instant::now();
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                thread::spawn(move || run_sleepers(started).map_err(|error| error.to_string()))
            })
            .collect();
        for worker in workers {
            let ends = worker.join().map_err(|_| "a floor worker panicked")??;
            self.sleepers.extend(ends);
        }
        for _ in 0..OUTPUT_PER_ROUND {
            self.output.push(read_output(floor.printed())?);
        }
        Ok(())
    }
}

/// One worker's part of the sleepers. They end in the order in which they were started.
fn run_sleepers(started: Instant) -> Result<Vec<Duration>> {
    let [program, time] = SLEEP;
    let mut children = Vec::with_capacity(SLEEPERS / WORKERS);
    for _ in 0..SLEEPERS / WORKERS {
        let child = Command::new(program)
            .arg(time)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        children.push(child);
    }
    let mut ends = Vec::with_capacity(children.len());
    for mut child in children {
        let status = child.wait()?;
        ends.push(started.elapsed());
        if !status.success() {
            return Err(format!("{program} ended with {status}").into());
        }
    }
    Ok(ends)
}

fn run_true(times: usize) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        let status = Command::new(TRUE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        samples.push(started.elapsed());
        if !status.success() {
            return Err(format!("{TRUE} ended with {status}").into());
        }
    }
    Ok(samples)
}

fn read_output(file: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut child = Command::new(CAT)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut output)?;
    }
    let status = child.wait()?;
    let took = started.elapsed();
    if !status.success() || output.len() != OUTPUT_BYTES {
        return Err(format!("{CAT} ended with {status} after {} bytes", output.len()).into());
    }
    Ok(took)
}
