//! The benchmark's output: a Markdown table, and the raw numbers behind it.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use crate::figures::Figures;
use crate::floor::FloorFigures;
use crate::samples::Samples;

/// Writes to standard output.
pub(crate) fn print(text: &str) {
    // A reader that went away has all it wanted.
    std::io::stdout().lock().write_all(text.as_bytes()).ok();
}

/// Says on standard error how far things are.
pub(crate) fn note(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

/// Everything that was measured.
pub(crate) struct Report {
    /// The bare loop.
    pub(crate) floor: FloorFigures,
    /// The contestants with their names.
    pub(crate) columns: Vec<(String, Figures)>,
}

/// A line of the table: what the floor reached, if it has such a thing, and each contestant.
struct Row {
    figure: &'static str,
    floor: Option<String>,
    cells: Vec<String>,
}

fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.2}"),
        10.0..100.0 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

fn p50(samples: &Samples) -> String {
    format!("{} ms", millis(samples.p50()))
}

fn p50_p99(samples: &Samples) -> String {
    format!("{} / {} ms", millis(samples.p50()), millis(samples.p99()))
}

fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 100.0 {
        format!("{mebibytes:.1} MiB")
    } else {
        format!("{mebibytes:.0} MiB")
    }
}

fn per_second((runs, time): (usize, Duration)) -> f64 {
    runs as f64 / time.as_secs_f64()
}

fn ratio(value: Duration, floor: Duration) -> String {
    format!("{:.2} × floor", value.as_secs_f64() / floor.as_secs_f64())
}

impl Report {
    fn row(
        &self,
        figure: &'static str,
        floor: Option<String>,
        cell: impl Fn(&Figures) -> String,
    ) -> Row {
        Row {
            figure,
            floor,
            cells: self
                .columns
                .iter()
                .map(|(_, figures)| cell(figures))
                .collect(),
        }
    }

    fn rows(&self) -> Vec<Row> {
        let floor = &self.floor;
        let floor_rate = per_second(floor.parallel);
        vec![
            self.row("process start → connect frame sent, median", None, |it| {
                p50(&it.starts)
            }),
            self.row("idle memory (PSS, connected)", None, |it| {
                mebibytes(it.idle.pss_bytes)
            }),
            self.row("idle processes / threads", None, |it| {
                format!("{} / {}", it.idle.processes, it.idle.threads)
            }),
            self.row("`system.which`, p50 / p99", None, |it| p50_p99(&it.which)),
            self.row(
                "`system.run /bin/true`, one at a time, p50 / p99",
                Some(p50_p99(&floor.run_true)),
                |it| {
                    let ratio = ratio(it.run_true.p50(), floor.run_true.p50());
                    format!("{} ({ratio})", p50_p99(&it.run_true))
                },
            ),
            self.row(
                "`system.run /bin/true`, 32 at a time (floor: 2 workers)",
                Some(format!("{floor_rate:.0} /s")),
                |it| {
                    let rate = per_second(it.parallel);
                    format!("{rate:.0} /s ({:.2} × floor)", rate / floor_rate)
                },
            ),
            self.row(
                "64 × `sleep 0.2` at a time, p50 / p99 (floor: 2 workers)",
                Some(p50_p99(&floor.sleepers)),
                |it| p50_p99(&it.sleepers),
            ),
            self.row("150 kB of output, p50", Some(p50(&floor.output)), |it| {
                format!(
                    "{} ({})",
                    p50(&it.output),
                    ratio(it.output.p50(), floor.output.p50())
                )
            }),
            self.row("CPU of the node itself per run", None, |it| {
                let runs = u32::try_from(it.run_true.len()).unwrap_or(u32::MAX).max(1);
                format!("{} ms", millis(it.run_true_cpu / runs))
            }),
            self.row("on disk (stripped binary; modules)", None, |it| {
                mebibytes(it.installed_bytes)
            }),
        ]
    }

    fn raw(&self) -> Vec<(String, &'static str, &Samples)> {
        let mut raw = vec![
            ("floor".to_owned(), "run /bin/true", &self.floor.run_true),
            ("floor".to_owned(), "sleep 0.2 x64", &self.floor.sleepers),
            ("floor".to_owned(), "150 kB output", &self.floor.output),
        ];
        for (name, it) in &self.columns {
            for (figure, samples) in [
                ("start to connect", &it.starts),
                ("system.which", &it.which),
                ("run /bin/true", &it.run_true),
                ("run sleep 0.2 x64", &it.sleepers),
                ("150 kB output", &it.output),
            ] {
                raw.push((name.clone(), figure, samples));
            }
        }
        raw
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "Measured on {}.\n", machine())?;
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        writeln!(formatter, "| figure | bare loop | {} |", names.join(" | "))?;
        writeln!(formatter, "|---|---|{}", "---|".repeat(names.len()))?;
        for row in self.rows() {
            let floor = row.floor.as_deref().unwrap_or("–");
            writeln!(
                formatter,
                "| {} | {floor} | {} |",
                row.figure,
                row.cells.join(" | ")
            )?;
        }
        writeln!(formatter, "\nRaw numbers in milliseconds:\n\n```text")?;
        let heads = [
            "who", "figure", "samples", "min", "p50", "p90", "p99", "max",
        ];
        writeln!(formatter, "{}", heads.join("\t"))?;
        for (who, figure, samples) in self.raw() {
            write!(formatter, "{who}\t{figure}\t{}", samples.len())?;
            for percent in [0, 50, 90, 99, 100] {
                let millis = samples.percentile(percent).as_secs_f64() * 1000.0;
                write!(formatter, "\t{millis:.3}")?;
            }
            writeln!(formatter)?;
        }
        writeln!(formatter, "```")
    }
}

/// The machine, in one line.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
