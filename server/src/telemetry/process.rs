//! The numbers of the process that every Prometheus client gives, as proc(5) tells them.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::text::Exposition;

/// Clock ticks in a second, as the kernel tells times to programs on every architecture that we run on.
const TICKS: f64 = 100.0;

/// Writes what can be found out.
pub fn write(text: &mut Exposition) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    if let Some(kilobytes) = value(&status, "VmRSS:") {
        let help = "Resident memory.";
        text.gauge("process_resident_memory_bytes", help, kilobytes * 1024);
    }
    if let Some(kilobytes) = value(&status, "VmSize:") {
        let help = "Virtual memory.";
        text.gauge("process_virtual_memory_bytes", help, kilobytes * 1024);
    }
    if let Some(threads) = value(&status, "Threads:") {
        text.gauge("process_threads", "Threads.", threads);
    }
    if let Some((cpu, started)) = times(&read("/proc/self/stat")) {
        let help = "Processor time, of user and system.";
        text.counter("process_cpu_seconds_total", help, cpu);
        if let Some(boot) = value(&read("/proc/stat"), "btime") {
            let help = "When it started, in seconds since 1970.";
            let started = boot as f64 + started;
            text.gauge("process_start_time_seconds", help, started);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is this directory.
        let count = open.count().saturating_sub(1);
        text.gauge("process_open_fds", "Open files and connections.", count);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        text.gauge("process_max_fds", "How many may be open.", limit);
    }
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Seconds of processor time, and seconds from the system's start to the process's. The second
/// field is the program's name, which may hold anything: count from its end.
fn times(stat: &str) -> Option<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(((field(14)? + field(15)?) / TICKS, field(22)? / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 12345 1 2";
        assert_eq!(times(stat), Some((2.0, 123.45)));
        assert_eq!(times("7 (a"), None);
        assert_eq!(value("VmPeak: 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }
}
