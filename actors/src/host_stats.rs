//! How the machine is doing, as gateways want to know it (wire protocol §11.1).

use protocol::event::HostStats;

/// Most processors that the schema allows.
const MAX_CPU_COUNT: u32 = 4096;

/// Reads the statistics; `None` where the kernel does not tell them.
pub(crate) fn read() -> Option<HostStats> {
    let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cpu_count = std::thread::available_parallelism().map_or(1, usize::from);
    parse(
        u32::try_from(cpu_count).unwrap_or(MAX_CPU_COUNT),
        &memory,
        &load,
    )
}

fn parse(cpu_count: u32, memory: &str, load: &str) -> Option<HostStats> {
    let kibibytes = |name: &str| {
        let line = memory.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let total = kibibytes("MemTotal:")?;
    // What a new process could get counts as free; a full page cache is not a full machine.
    let free = kibibytes("MemAvailable:").or_else(|| kibibytes("MemFree:"))?;
    Some(HostStats {
        cpu_count: cpu_count.clamp(1, MAX_CPU_COUNT),
        load_average: parse_load(load),
        memory_total_bytes: total.saturating_mul(1024),
        memory_free_bytes: free.min(total).saturating_mul(1024),
    })
}

fn parse_load(load: &str) -> Option<[f64; 3]> {
    let mut numbers = load.split_whitespace().map(str::parse::<f64>);
    let mut next = || {
        numbers
            .next()?
            .ok()
            .filter(|number| number.is_finite() && *number >= 0.0)
    };
    let averages = [next()?, next()?, next()?];
    averages
        .iter()
        .any(|average| *average > 0.0)
        .then_some(averages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = "MemTotal:       100 kB\nMemFree:         10 kB\nMemAvailable:    60 kB\n";

    #[test]
    fn sizes_are_bytes_and_available_memory_counts_as_free() {
        let stats = parse(2, MEMORY, "0.50 0.25 0.00 1/200 999\n").unwrap();
        assert_eq!(stats.memory_total_bytes, 102_400);
        assert_eq!(stats.memory_free_bytes, 61_440);
        assert_eq!(stats.load_average, Some([0.5, 0.25, 0.0]));
    }

    #[test]
    fn the_closed_schema_is_kept_whatever_the_kernel_says() {
        let odd = "MemTotal: 10 kB\nMemFree: 99 kB\n";
        let stats = parse(9999, odd, "0.00 0.00 0.00").unwrap();
        assert_eq!(stats.cpu_count, 4096);
        assert_eq!(stats.memory_free_bytes, stats.memory_total_bytes);
        assert_eq!(stats.load_average, None, "an all-zero load is left out");
        assert!(parse(1, "nothing", "").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_its_statistics() {
        assert!(read().unwrap().memory_total_bytes > 0);
    }
}
