//! All processes of a container held still: by the freezer of its own control group, or, where it has none, by
//! SIGSTOP to each.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Cgroup;
use super::membership;

/// A freezer takes as long as the slowest system call of the group.
const LIMIT: Duration = Duration::from_secs(10);

/// Freezes or thaws the container of this control group whose first process is `first`.
pub(super) fn set(group: &Cgroup, first: i32, frozen: bool) -> io::Result<()> {
    let Some(group) = group.directory("freezer") else {
        return signal_all(first, if frozen { Signal::STOP } else { Signal::CONT });
    };
    let version_2 = group.join("cgroup.freeze");
    if version_2.exists() {
        fs::write(version_2, if frozen { "1" } else { "0" })?;
        let line = if frozen { "frozen 1" } else { "frozen 0" };
        return wait(&group.join("cgroup.events"), line);
    }
    let word = if frozen { "FROZEN" } else { "THAWED" };
    fs::write(group.join("freezer.state"), word)?;
    wait(&group.join("freezer.state"), word)
}

/// Waits until a file has this line.
fn wait(file: &Path, line: &str) -> io::Result<()> {
    let limit = Instant::now() + LIMIT;
    while !fs::read_to_string(file)?
        .lines()
        .any(|found| found.trim() == line)
    {
        if Instant::now() > limit {
            return Err(io::Error::other(format!(
                "the control group does not get {line:?}"
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Until no process is found that has not got it: one may be made by another that had not got it yet.
fn signal_all(first: i32, signal: Signal) -> io::Result<()> {
    let mut reached = HashSet::new();
    loop {
        let found = membership::processes(first)?;
        let new: Vec<i32> = found
            .into_iter()
            .filter(|pid| reached.insert(*pid))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        for pid in new {
            let Some(pid) = Pid::from_raw(pid) else {
                continue;
            };
            match kill_process(pid, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
