//! Measures this node, a bare spawn-and-wait loop and, where it is installed, OpenClaw's own node
//! host, all in one run and each node through a loopback gateway of its own.
//!
//! `cargo bench --bench node` prints a Markdown table and the raw numbers behind it. It asserts
//! nothing: what a machine can do is for the reader to judge, by the floor beside it. What is
//! compared is measured in turns, so that a busy machine slows all of them alike.
//!
//! `OPENCLAW_LAB`, or `target/openclaw-lab`, is a folder with Node.js and OpenClaw releases, as
//! `tests/interop/install-openclaw.sh` fills it; without it, OpenClaw's column is left out.

mod contestant;
mod figures;
mod floor;
mod process_tree;
mod report;
mod samples;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::contestant::{Contestant, Launcher, Upstream};
use crate::figures::{Effort, Figures};
use crate::floor::{Floor, FloorFigures};
use crate::report::Report;

/// Whatever went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The OpenClaw release to compare with.
const UPSTREAM_RELEASE: &str = "2026.9.6";
/// How often everybody gets a turn.
const ROUNDS: usize = 8;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let measured = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(measure_unless_interrupted()));
    match measured {
        Ok(report) => {
            report::print(&report.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::note(&format!("benchmark failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// An interrupt drops the contestants, which ends their processes.
async fn measure_unless_interrupted() -> Result<Report> {
    tokio::select! {
        report = measure() => report,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err("interrupted".into())
        }
    }
}

async fn measure() -> Result<Report> {
    let floor = Floor::new()?;
    let mut floor_figures = FloorFigures::default();
    let mut columns = Vec::new();
    for (launcher, effort) in launchers() {
        report::note(&format!("starting {}", launcher.name()));
        let mut figures = Figures::default();
        let mut contestant = Contestant::admit(launcher).await?;
        figures.measure_starts(&mut contestant, effort).await?;
        figures.measure_idle(&contestant).await?;
        columns.push((contestant, effort, figures));
    }
    for round in 1..=ROUNDS {
        report::note(&format!("round {round} of {ROUNDS}"));
        floor_figures.measure_round(&floor)?;
        for (contestant, effort, figures) in &mut columns {
            figures.measure_round(contestant, &floor, *effort).await?;
        }
    }
    let mut measured = Vec::new();
    for (contestant, _, figures) in columns {
        measured.push((contestant.name().to_owned(), figures));
        contestant.stop().await?;
    }
    Ok(Report {
        floor: floor_figures,
        columns: measured,
    })
}

fn launchers() -> Vec<(Launcher, Effort)> {
    let ours = Launcher::ThisNode(PathBuf::from(env!("CARGO_BIN_EXE_openclaw-node")));
    let mut launchers = vec![(ours, Effort::FAST)];
    let lab = std::env::var_os("OPENCLAW_LAB").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openclaw-lab"),
        PathBuf::from,
    );
    match Upstream::find(&lab, UPSTREAM_RELEASE) {
        Ok(upstream) => launchers.push((Launcher::Upstream(upstream), Effort::SLOW)),
        Err(error) => report::note(&format!("without OpenClaw's own node host: {error}")),
    }
    launchers
}
