//! The hierarchies of control groups that are mounted, and where in them a container's group goes.

use std::fs;
use std::path::{Path, PathBuf};

/// Controllers that are used without being asked for: to count, to freeze, to find out what was killed.
const USEFUL: [&str; 5] = ["memory", "pids", "freezer", "cpuacct", "cpu"];

/// Wanted when a group of version 2 is, whatever controllers it has.
pub(super) const ANY: &str = "cgroup2";

/// One that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where.
    pub(super) mount: PathBuf,
    /// The controllers of one of version 1.
    pub(super) controllers: Vec<String>,
    /// Whether it is the one of version 2.
    pub(super) unified: bool,
    /// Our own group in it, as a path from its mount.
    own: String,
}

impl Hierarchy {
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }

    /// Whether a container should have a group here. One of version 2 that has no controllers, because those
    /// of version 1 have them, freezes no better than theirs does.
    pub(super) fn is_of_use(&self, wanted: &[&str]) -> bool {
        match self.unified {
            true if wanted.contains(&ANY) => true,
            true => {
                let there = fs::read_to_string(self.mount.join("cgroup.controllers"));
                let there = there.unwrap_or_default();
                let mut names = there.split_whitespace();
                names.any(|name| USEFUL.contains(&name) || wanted.contains(&name))
            }
            false => USEFUL.iter().chain(wanted).any(|name| self.has(name)),
        }
    }

    /// The directory of a container's group; `None` where there can be none.
    pub(super) fn directory(&self, id: &str, rootless: bool) -> Option<PathBuf> {
        if !rootless {
            return Some(self.mount.join("strata").join(id));
        }
        // Of version 1, nothing can be delegated safely.
        if !self.unified {
            return None;
        }
        let own = self.own.trim_start_matches('/');
        let above = Path::new(own).parent().filter(|_| !own.is_empty())?;
        Some(self.mount.join(above).join(format!("strata-{id}")))
    }
}

/// Those of this machine.
pub(super) fn mounted() -> Vec<Hierarchy> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// Reads proc_pid_mountinfo(5) and the process's own groups (cgroups(7), "/proc files").
fn parse(mountinfo: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4) else {
            continue;
        };
        let mut fields = file_system.split(' ');
        let (kind, options) = (fields.next().unwrap_or(""), fields.nth(1).unwrap_or(""));
        let unified = match kind {
            "cgroup" => false,
            "cgroup2" => true,
            _ => continue,
        };
        let controllers: Vec<String> = options
            .split(',')
            .filter(|word| !unified && !word.contains('=') && !matches!(*word, "rw" | "ro"))
            .map(str::to_owned)
            .collect();
        let own = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let ours = match unified {
                true => names.is_empty(),
                false => {
                    !names.is_empty()
                        && names.split(',').all(|n| controllers.iter().any(|c| c == n))
                }
            };
            ours.then(|| path.to_owned())
        });
        let known = |one: &Hierarchy| one.unified == unified && one.controllers == controllers;
        if !found.iter().any(known) {
            found.push(Hierarchy {
                mount: PathBuf::from(point),
                controllers,
                unified,
                own: own.unwrap_or_default(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_from_the_tables() {
        let table = "24 1 0:5 / /proc rw - proc proc rw\n\
            30 24 0:26 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n\
            31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            32 24 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
            33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
            34 24 0:26 / /elsewhere rw - cgroup cgroup rw,memory\n";
        let own = "5:memory:/a/b\n4:cpu,cpuacct:/\n1:name=systemd:/x\n0::/user.slice/u.service/app.scope\n";
        let found = parse(table, own);
        assert_eq!(found.len(), 4);
        assert_eq!(
            (found[0].has("memory"), found[0].own.as_str()),
            (true, "/a/b")
        );
        assert!(found[1].has("cpuacct") && !found[1].unified);
        let directory = |n: usize, rootless| found[n].directory("id", rootless);
        assert_eq!(
            directory(0, false),
            Some("/sys/fs/cgroup/memory/strata/id".into())
        );
        assert_eq!(directory(0, true), None);
        let beside = "/sys/fs/cgroup/unified/user.slice/u.service/strata-id";
        assert_eq!(directory(3, true), Some(beside.into()));
        assert!(parse("garbage\n - \n1 2 - cgroup2 x y", "").is_empty());
    }

    #[test]
    fn at_the_top_nothing_can_be_made_beside_us() {
        let table = "33 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(parse(table, "0::/\n")[0].directory("id", true), None);
    }
}
