//! What is measured of a node.

use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::Result;
use crate::contestant::Contestant;
use crate::floor::{CAT, Floor, OUTPUT_BYTES, SLEEP, SLEEPERS, TRUE};
use crate::process_tree::Footprint;
use crate::samples::Samples;

/// Commands at a time in the throughput figure.
const PARALLEL: usize = 32;
/// A node is idle once it used no CPU time for this long, …
const QUIET: Duration = Duration::from_secs(2);
/// … and at the latest after this.
const QUIET_DEADLINE: Duration = Duration::from_secs(20);

/// How much is asked of a contestant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    starts: usize,
    /// Per round.
    which: usize,
    /// Per round, one at a time.
    run_true: usize,
    /// Per round, [`PARALLEL`] at a time.
    parallel: usize,
    /// Per round.
    output: usize,
}

impl Effort {
    /// For a node that takes a few milliseconds for each thing.
    pub(crate) const FAST: Self = Self {
        starts: 20,
        which: 300,
        run_true: 200,
        parallel: 300,
        output: 15,
    };
    /// For one that takes several times as long.
    pub(crate) const SLOW: Self = Self {
        starts: 4,
        which: 100,
        run_true: 30,
        parallel: 64,
        output: 8,
    };
}

/// What a contestant did.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Process start to connect frame, with the state of an earlier start on disk.
    pub(crate) starts: Samples,
    /// What it occupies while it is connected and has nothing to do.
    pub(crate) idle: Footprint,
    /// The binary, or the modules.
    pub(crate) installed_bytes: u64,
    /// `system.which`.
    pub(crate) which: Samples,
    /// `system.run /bin/true`, one at a time.
    pub(crate) run_true: Samples,
    /// CPU time of the node itself during `run_true`.
    pub(crate) run_true_cpu: Duration,
    /// `system.run /bin/true`, [`PARALLEL`] at a time: runs, and the time they took.
    pub(crate) parallel: (usize, Duration),
    /// `system.run sleep 0.2`, [`SLEEPERS`] at a time.
    pub(crate) sleepers: Samples,
    /// `system.run cat` of a file, with [`OUTPUT_BYTES`] of output.
    pub(crate) output: Samples,
}

impl Figures {
    /// Restarts the contestant again and again.
    pub(crate) async fn measure_starts(
        &mut self,
        contestant: &mut Contestant,
        effort: Effort,
    ) -> Result<()> {
        for _ in 0..effort.starts {
            self.starts.push(contestant.restart().await?);
        }
        self.installed_bytes = contestant.installed_bytes()?;
        Ok(())
    }

    /// Waits until the contestant is at rest, and looks what it occupies.
    pub(crate) async fn measure_idle(&mut self, contestant: &Contestant) -> Result<()> {
        let deadline = Instant::now() + QUIET_DEADLINE;
        loop {
            let (tree, used) = (
                contestant.process_tree()?,
                contestant.process_tree()?.cpu_time()?,
            );
            tokio::time::sleep(QUIET).await;
            let later = contestant.process_tree()?;
            let quiet = later == tree && later.cpu_time()? == used;
            if quiet || Instant::now() > deadline {
                self.idle = later.footprint()?;
                return Ok(());
            }
        }
    }

    /// Takes a turn.
    pub(crate) async fn measure_round(
        &mut self,
        contestant: &Contestant,
        floor: &Floor,
        effort: Effort,
    ) -> Result<()> {
        for _ in 0..effort.which {
            let started = Instant::now();
            contestant
                .invoke("system.which", json!({ "bins": ["sh"] }))
                .await?;
            self.which.push(started.elapsed());
        }

        let tree = contestant.process_tree()?;
        let used = tree.cpu_time()?;
        for _ in 0..effort.run_true {
            self.run_true.push(timed_run(contestant, &[TRUE]).await?);
        }
        self.run_true_cpu += tree.cpu_time()?.saturating_sub(used);

        let started = Instant::now();
        at_a_time(contestant, PARALLEL, effort.parallel, &[TRUE]).await?;
        self.parallel.0 += effort.parallel;
        self.parallel.1 += started.elapsed();

        self.sleepers
            .extend(at_a_time(contestant, SLEEPERS, SLEEPERS, &SLEEP).await?);

        let file = floor
            .printed()
            .to_str()
            .ok_or("the temporary folder's name is no text")?;
        for _ in 0..effort.output {
            let started = Instant::now();
            let output = contestant.run(&[CAT, file]).await?;
            self.output.push(started.elapsed());
            if output.len() != OUTPUT_BYTES {
                return Err(format!("{} bytes of output came back", output.len()).into());
            }
        }
        Ok(())
    }
}

async fn timed_run(contestant: &Contestant, argv: &[&str]) -> Result<Duration> {
    let started = Instant::now();
    contestant.run(argv).await?;
    Ok(started.elapsed())
}

/// Runs a command `times` times, `width` of them at any moment.
async fn at_a_time(
    contestant: &Contestant,
    width: usize,
    times: usize,
    argv: &[&str],
) -> Result<Vec<Duration>> {
    stream::iter(0..times)
        .map(|_| timed_run(contestant, argv))
        .buffer_unordered(width)
        .try_collect()
        .await
}
