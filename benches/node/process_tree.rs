//! What a process and its descendants cost, as the kernel accounts for it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use crate::Result;

/// The unit of CPU time in `/proc/<pid>/stat`: `USER_HZ`, 100 on every architecture that Linux
/// still supports.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// A process with all its descendants, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessTree {
    processes: Vec<u32>,
}

/// What a tree occupies.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Footprint {
    /// Memory, with what is shared divided among its sharers.
    pub(crate) pss_bytes: u64,
    /// Processes.
    pub(crate) processes: usize,
    /// Threads of all processes.
    pub(crate) threads: usize,
}

/// Fields of `/proc/<pid>/stat` from the third on; the second, the name, may hold anything.
fn stat_fields(process: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

impl ProcessTree {
    /// The tree below `root`, which comes first.
    pub(crate) fn of(root: u32) -> Result<Self> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has ended meanwhile is nobody's child any more.
            let parent = stat_fields(process).and_then(|fields| fields.get(1)?.parse().ok());
            if let Some(parent) = parent {
                children.entry(parent).or_default().push(process);
            }
        }
        let mut processes = vec![root];
        let mut next = 0;
        while let Some(process) = processes.get(next) {
            processes.extend(children.remove(process).unwrap_or_default());
            next += 1;
        }
        Ok(Self { processes })
    }

    /// The tree without the browser and whatever that started.
    #[allow(dead_code, reason = "the browser benchmark uses it")]
    pub(crate) fn own(&self) -> Self {
        let is_own = |process: &u32| {
            let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            !words.is_empty() && !words.contains("chrom") && !words.contains("user-data-dir")
        };
        let processes = self.processes.iter().copied().filter(is_own).collect();
        Self { processes }
    }

    /// What the tree occupies now.
    pub(crate) fn footprint(&self) -> Result<Footprint> {
        let mut footprint = Footprint {
            processes: self.processes.len(),
            ..Footprint::default()
        };
        for process in &self.processes {
            let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
            let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let kibibytes = pss.and_then(|pss| pss.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            footprint.pss_bytes += kibibytes.ok_or("smaps_rollup without Pss")? * 1024;
            footprint.threads += fs::read_dir(format!("/proc/{process}/task"))?.count();
        }
        Ok(footprint)
    }

    /// User and system time of the tree's own threads, without that of ended children.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut ticks: u32 = 0;
        for process in &self.processes {
            let fields = stat_fields(*process).ok_or("a process of the tree has ended")?;
            // Fields 14 and 15 of the whole line.
            for field in fields.get(11..13).ok_or("stat without CPU times")? {
                ticks += field.parse::<u32>()?;
            }
        }
        Ok(CLOCK_TICK * ticks)
    }
}
