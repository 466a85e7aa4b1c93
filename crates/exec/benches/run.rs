//! What the runner adds to a command: a run to its end beside the standard library's own spawn and
//! wait, without any gateway or actor between.
//!
//! `cargo bench -p openclaw-node-exec --bench run`

#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run has nothing to report"
)]

use std::io::Read as _;
use std::process::Stdio;

use divan::{Bencher, black_box};
use openclaw_node_exec::environment::{BaseEnvironment, Overrides};
use openclaw_node_exec::run::{Containment, RunOutcome, RunSpec, run};
use tempfile::NamedTempFile;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Output of the command that prints, in bytes; below what a run returns whole.
const OUTPUT_BYTES: usize = 150_000;

fn main() {
    divan::main();
}

fn printed() -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    let line = format!("{}\n", "x".repeat(99));
    std::fs::write(file.path(), line.repeat(OUTPUT_BYTES / line.len())).expect("it is written");
    file
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn spec(argv: &[&str]) -> RunSpec {
    let environment = BaseEnvironment::new(std::env::vars_os());
    RunSpec {
        argv: argv.iter().map(ToString::to_string).collect(),
        program: None,
        cwd: None,
        environment: environment.with(Overrides::default()),
        timeout: None,
        held: Vec::new(),
    }
}

fn outcome(runtime: &Runtime, spec: &RunSpec) -> RunOutcome {
    let (_cancel, cancelled) = oneshot::channel();
    runtime.block_on(run(spec.clone(), &Containment::default(), cancelled))
}

#[divan::bench(sample_count = 300)]
fn true_bare() {
    let mut command = std::process::Command::new("/bin/true");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    black_box(command.status()).expect("it runs");
}

#[divan::bench(sample_count = 300)]
fn true_run(bencher: Bencher<'_, '_>) {
    let (runtime, spec) = (runtime(), spec(&["/bin/true"]));
    bencher.bench_local(|| black_box(outcome(&runtime, &spec)));
}

#[divan::bench(sample_count = 100)]
fn output_bare(bencher: Bencher<'_, '_>) {
    let file = printed();
    bencher.bench_local(|| {
        let mut command = std::process::Command::new("/bin/cat");
        let command = command
            .arg(file.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut output = Vec::new();
        let mut pipe = child.stdout.take().expect("a pipe");
        pipe.read_to_end(&mut output).expect("it is read");
        child.wait().expect("it ends");
        assert_eq!(output.len(), OUTPUT_BYTES);
        output
    });
}

#[divan::bench(sample_count = 100)]
fn output_run(bencher: Bencher<'_, '_>) {
    let file = printed();
    let path = file.path().to_str().expect("a name of text");
    let (runtime, spec) = (runtime(), spec(&["/bin/cat", path]));
    bencher.bench_local(|| {
        let outcome = outcome(&runtime, &spec);
        assert_eq!(outcome.payload.stdout.len(), OUTPUT_BYTES);
        outcome
    });
}
