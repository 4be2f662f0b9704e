//! How much of the machine a container uses: what its own control groups have counted, else the sum over its processes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::cgroup::Cgroup;
use super::membership::processes;

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of processors, of all processes together.
    pub processor: Duration,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of memory that it may have, if that is limited.
    pub memory_limit: Option<u64>,
    /// Bytes read from and written to block devices.
    pub read: u64,
    /// See `read`.
    pub written: u64,
    /// Processes.
    pub processes: u64,
}

/// What the container of this control group whose first process is `first` uses now.
pub fn usage(group: &Cgroup, first: i32) -> io::Result<Usage> {
    let processes = processes(first)?;
    let mut usage = Usage {
        processes: processes.len() as u64,
        ..Usage::default()
    };
    for pid in &processes {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let ticks = parse_stat(&stat).unwrap_or(0);
        usage.processor += Duration::from_millis(ticks.saturating_mul(1000 / TICKS));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        usage.memory += kilobytes(&status, "VmRSS:");
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        usage.read += value(&io, "read_bytes: ").unwrap_or(0);
        usage.written += value(&io, "write_bytes: ").unwrap_or(0);
    }
    if let Some(group) = group.directory("memory") {
        memory_of(group, &mut usage);
    }
    if let Some(group) = group
        .directory("cpuacct")
        .or_else(|| group.directory("cpu"))
    {
        let version_1 = number(&group.join("cpuacct.usage")).map(Duration::from_nanos);
        let counted = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        let version_2 = value(&counted, "usage_usec ").map(Duration::from_micros);
        usage.processor = version_1.or(version_2).unwrap_or(usage.processor);
    }
    Ok(usage)
}

/// Clock ticks of a second, as proc_pid_stat(5) counts them: 100 on every architecture that Linux has.
const TICKS: u64 = 100;

/// Clock ticks of processor time: fields 14 and 15 of proc_pid_stat(5).
fn parse_stat(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(field(14)?.saturating_add(field(15)?))
}

fn memory_of(group: &Path, usage: &mut Usage) {
    let used = number(&group.join("memory.current"))
        .or_else(|| number(&group.join("memory.usage_in_bytes")));
    let Some(used) = used else { return };
    // What is only cached is given up when it is needed, so docker does not count it either.
    let counted = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached =
        value(&counted, "total_inactive_file ").or_else(|| value(&counted, "inactive_file "));
    usage.memory = used.saturating_sub(cached.unwrap_or(0));
    let limit =
        number(&group.join("memory.max")).or_else(|| number(&group.join("memory.limit_in_bytes")));
    usage.memory_limit = limit.filter(|limit| *limit < machine_memory());
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind a word at the beginning of a line.
fn value(text: &str, word: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

/// Bytes of memory that the machine has.
pub fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kilobytes(&text, "MemTotal:")
}

/// The bytes that a line of proc(5) tells in kilobytes.
fn kilobytes(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_programs_name() {
        let text =
            "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 1 0 100 1000000 250 184467";
        assert_eq!(parse_stat(text), Some(42));
        assert_eq!(parse_stat("7 (a) S 1"), None);
        assert_eq!(value("a 1\ninactive_file 77\n", "inactive_file "), Some(77));
        assert!(machine_memory() > 1024 * 1024);
    }

    #[test]
    fn a_busy_process_is_seen() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        let used = usage(&Cgroup::default(), pid).expect("proc");
        assert!(used.processes >= 1 && used.memory > 0, "{used:?}");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
