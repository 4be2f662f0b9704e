//! Which processes belong to a container (proc_pid_stat(5)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

/// A process as proc_pid_stat(5) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    zombie: bool,
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field, the program's name, may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some(Stat {
        parent: fields.next()?.parse().ok()?,
        zombie: matches!(state, "Z" | "X"),
    })
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The parent of a process, which may have ended and not been waited for; `None` when there is no such process.
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|stat| stat.parent)
}

/// The processes of the container whose first process is `first`, in ascending order: what descends from its
/// monitor, which is the parent of whatever was started in it from outside, too.
pub fn processes(first: i32) -> io::Result<Vec<i32>> {
    let Some(monitor) = stat(first).map(|stat| stat.parent) else {
        return Ok(Vec::new());
    };
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // One that has ended meanwhile is none.
        if let Some((pid, stat)) = pid.and_then(|pid| Some((pid, stat(pid)?)))
            && !stat.zombie
        {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = HashSet::new();
    let mut left = children.remove(&monitor).unwrap_or_default();
    while let Some(pid) = left.pop() {
        if found.insert(pid) {
            left.extend(children.remove(&pid).unwrap_or_default());
        }
    }
    let mut found: Vec<i32> = found.into_iter().collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_name_cannot_pretend_to_be_fields() {
        let stat = parse_stat("7 (a) Z 1 2) S 42 7 7").expect("parses");
        assert_eq!((stat.parent, stat.zombie), (42, false));
        assert!(parse_stat("7 (a) Z 42 7").expect("parses").zombie);
        assert!(parse_stat("").is_none() && parse_stat("7 (a) S x").is_none());
    }

    #[test]
    fn what_was_started_beside_a_process_is_found_with_its_children() {
        let mut one = std::process::Command::new("sh")
            .args(["-c", "sleep 100 & wait"])
            .spawn()
            .expect("sh");
        let pid = i32::try_from(one.id()).expect("pid");
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while processes(pid).expect("proc").len() < 2 {
            assert!(std::time::Instant::now() < limit);
        }
        let found = processes(pid).expect("proc");
        assert!(found.contains(&pid));
        for pid in found {
            // Only what descends from the one that this test has started: others may run beside it.
            let mut at = pid;
            while at != i32::try_from(one.id()).expect("pid") && at > 1 {
                at = stat(at).map_or(0, |stat| stat.parent);
            }
            if at > 1 && pid != i32::try_from(one.id()).expect("pid") {
                let pid = rustix::process::Pid::from_raw(pid).expect("pid");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
            }
        }
        one.wait().expect("wait");
    }
}
