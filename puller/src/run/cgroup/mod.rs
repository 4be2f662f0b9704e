//! Control groups: what a container may use (cgroups(7)); they also count what it has used, and can be frozen.
//!
//! A container has one directory in each hierarchy that is mounted: `strata/<id>` of root's, and without root one
//! beside our own where a session's manager has given us the right to make it. Its first process moves itself there
//! before anything else happens. A container of which nothing is limited has none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::Config;
use super::devices::{self, Limit};

mod bpf;
mod hierarchy;
mod settings;
mod view;

use hierarchy::Hierarchy;
use settings::{Setting, settings};
pub(super) use view::View;

/// A control group that is asked for and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Nothing is mounted that could do it.
    #[error(
        "{option}: no control group of this machine has a {controller} controller that strata could use"
    )]
    Missing {
        /// What was asked for.
        option: &'static str,
        /// What it needs.
        controller: &'static str,
    },
    /// A device is to be had in part, and here only whole.
    #[error(
        "--device: without root, access to a device cannot be limited to reading or to writing: leave the letters out, \
         or run as root"
    )]
    Devices,
    /// A device that is to be limited cannot be looked at.
    #[error("--device: {0}")]
    Device(io::Error),
    /// The kernel or whoever owns the groups refuses.
    #[error("{option}: {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Refused {
        /// What was asked for.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (without root, limits need control groups of version 2 that are delegated to the user, as systemd does in a \
             login session: systemd-run --user --scope -p Delegate=yes strata ...)"
        }
        io::ErrorKind::ReadOnlyFilesystem => " (control groups are mounted read-only here)",
        _ => "",
    }
}

/// The controller of version 1 that limits access to devices.
const DEVICES: &str = "devices";

/// The directories of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroup {
    directories: Vec<Directory>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    /// Of version 1 the controllers that are mounted together; of version 2 those that the group has.
    controllers: Vec<String>,
    unified: bool,
}

impl Cgroup {
    /// Makes a container's directories and sets its limits; none when nothing is limited, because to move a process
    /// costs as much time as all else that a start does (the kernel waits until no process is forking anywhere).
    ///
    /// # Errors
    /// A limit that cannot be set; nothing is left then.
    pub fn make(id: &str, rootless: bool, config: &Config) -> Result<Self, CgroupError> {
        let mut group = Self::default();
        let mut wanted = settings::controllers(&config.resources);
        let limits = devices::limits(config).map_err(CgroupError::Device)?;
        if rootless && !limits.is_empty() {
            return Err(CgroupError::Devices);
        }
        if wanted.is_empty() && limits.is_empty() {
            return Ok(group);
        }
        let mounted = hierarchy::mounted();
        if !limits.is_empty() {
            let legacy = mounted.iter().any(|known| known.has(DEVICES));
            wanted.push(if legacy { DEVICES } else { hierarchy::ANY });
        }
        for hierarchy in mounted {
            match make_directory(&hierarchy, id, rootless, &wanted) {
                Ok(Some(directory)) => group.directories.push(directory),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, ?hierarchy, "no control group"),
            }
        }
        let set = settings(&config.resources);
        let set = set.iter().try_for_each(|setting| group.set(setting));
        if let Err(error) = set.and_then(|()| group.limit_devices(&limits)) {
            group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// The directories of a container that [`make`](Self::make) made, in whatever process.
    pub fn find(id: &str, rootless: bool) -> Self {
        let directories = hierarchy::mounted().into_iter().filter_map(|hierarchy| {
            let path = hierarchy.directory(id, rootless)?;
            path.is_dir().then(|| Directory {
                controllers: controllers_of(&hierarchy, &path),
                unified: hierarchy.unified,
                path,
            })
        });
        Self {
            directories: directories.collect(),
        }
    }

    /// The files that a process writes `0` to, to move itself there.
    pub fn entrances(&self) -> Vec<PathBuf> {
        self.directories
            .iter()
            .map(|d| d.path.join("cgroup.procs"))
            .collect()
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    fn set(&self, setting: &Setting) -> Result<(), CgroupError> {
        let missing = CgroupError::Missing {
            option: setting.option,
            controller: setting.controller,
        };
        let directory = self.with(setting.controller).ok_or(missing)?;
        let (file, value) = match directory.unified {
            true => &setting.unified,
            false => &setting.legacy,
        };
        let path = directory.path.join(file);
        match fs::write(&path, value) {
            Ok(()) => Ok(()),
            // A kernel that does not count swap limits none; memory is limited all the same.
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if setting.optional && error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            Err(source) => Err(CgroupError::Refused {
                option: setting.option,
                path,
                source,
            }),
        }
    }

    /// Version 1 is told what is refused, version 2 has a program asked.
    fn limit_devices(&self, limits: &[Limit]) -> Result<(), CgroupError> {
        if limits.is_empty() {
            return Ok(());
        }
        let option = "--device";
        let refused = |path: PathBuf| {
            move |source| CgroupError::Refused {
                option,
                path,
                source,
            }
        };
        if let Some(directory) = self.with(DEVICES) {
            let file = directory.path.join("devices.deny");
            let mut denied = limits.iter().flat_map(Limit::denied);
            return denied
                .try_for_each(|line| fs::write(&file, line))
                .map_err(refused(file));
        }
        let unified = self.directories.iter().find(|d| d.unified);
        let directory = unified.ok_or(CgroupError::Missing {
            option,
            controller: DEVICES,
        })?;
        bpf::limit(&directory.path, limits).map_err(refused(directory.path.clone()))
    }

    /// Where a controller's files are. Version 2 freezes without one.
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        let unified = || {
            self.directories
                .iter()
                .find(|d| d.unified && controller == "freezer")
        };
        let found = self.with(controller).or_else(unified);
        found.map(|directory| directory.path.as_path())
    }

    fn with(&self, controller: &str) -> Option<&Directory> {
        let has = |d: &&Directory| d.controllers.iter().any(|known| known == controller);
        self.directories.iter().find(has)
    }

    /// Whether the kernel killed one of its processes because memory ran out.
    pub fn ran_out_of_memory(&self) -> bool {
        let Some(directory) = self.with("memory") else {
            return false;
        };
        let file = if directory.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        self.number_in(directory, file, "oom_kill")
            .is_some_and(|kills| kills > 0)
    }

    fn number_in(&self, directory: &Directory, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(directory.path.join(file)).ok()?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key)?.1.trim().parse().ok()
    }

    /// Removes the directories, which have no process any more, or will have none in a moment.
    pub fn remove(&self) {
        for directory in &self.directories {
            for _ in 0..50 {
                match fs::remove_dir(&directory.path) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    _ => break,
                }
            }
        }
    }
}

fn make_directory(
    hierarchy: &Hierarchy,
    id: &str,
    rootless: bool,
    wanted: &[&str],
) -> io::Result<Option<Directory>> {
    if !hierarchy.is_of_use(wanted) {
        return Ok(None);
    }
    let Some(path) = hierarchy.directory(id, rootless) else {
        return Ok(None);
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    make(parent)?;
    if hierarchy.unified {
        // From the top of what is ours; a controller that cannot be had is missed when it is needed.
        for above in [hierarchy.mount.as_path(), parent] {
            for controller in ["cpu", "cpuset", "memory", "pids"] {
                let _ = fs::write(
                    above.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
    } else if hierarchy.has("cpuset") {
        inherit_cpuset(parent)?;
    }
    make(&path)?;
    if hierarchy.has("cpuset") && !hierarchy.unified {
        inherit_cpuset(&path)?;
    }
    Ok(Some(Directory {
        controllers: controllers_of(hierarchy, &path),
        unified: hierarchy.unified,
        path,
    }))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// A new group of version 1 has no processors at all until it is told.
fn inherit_cpuset(path: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(path.join(file))?.trim().is_empty() {
            let above = path.parent().unwrap_or(Path::new("/")).join(file);
            fs::write(path.join(file), fs::read_to_string(above)?.trim())?;
        }
    }
    Ok(())
}

fn controllers_of(hierarchy: &Hierarchy, path: &Path) -> Vec<String> {
    if !hierarchy.unified {
        return hierarchy.controllers.clone();
    }
    let text = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_limits_and_is_removed_again() {
        let id = format!("test-{}", std::process::id());
        let mut config = Config::default();
        config.resources.memory = Some(64 << 20);
        config.resources.pids = Some(7);
        match Cgroup::make(&id, false, &config) {
            Ok(group) => {
                assert_eq!(Cgroup::find(&id, false), group);
                let pids = group.with("pids").expect("asked for");
                let most = fs::read_to_string(pids.path.join("pids.max")).expect("a limit");
                assert_eq!(most.trim(), "7");
                assert!(!group.ran_out_of_memory());
                group.remove();
                assert!(Cgroup::find(&id, false).is_empty());
            }
            // A machine that gives us none says why.
            Err(error) => assert!(error.to_string().starts_with("--"), "{error}"),
        }
    }

    #[test]
    fn a_refusal_names_the_option_and_what_would_help() {
        let refused = CgroupError::Refused {
            option: "--memory",
            path: "/sys/fs/cgroup/x".into(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let said = refused.to_string();
        assert!(
            said.starts_with("--memory: /sys/fs/cgroup/x") && said.contains("delegated"),
            "{said}"
        );
    }
}
