//! What a container sees of its control groups: its own, read-only at /sys/fs/cgroup, so that programs find out how
//! much they may use.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use crate::run::inroot;
use crate::run::sys::{self, ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY, mode};
use crate::run::trees::{NO_DEV, NO_EXEC, NO_SUID, attach, clone_tree, make};

/// A container's groups as mounts that are attached nowhere, by the names of their hierarchies; of version 2 there is
/// one, without a name.
pub(in crate::run) struct View(Vec<(Option<String>, OwnedFd)>);

impl View {
    /// Takes them while the host is in sight; `entrances` are those of the container's directories.
    pub(in crate::run) fn take(entrances: &[PathBuf]) -> io::Result<Self> {
        let mut taken = Vec::new();
        for directory in entrances.iter().filter_map(|file| file.parent()) {
            let tree = clone_tree(CWD, directory, false)?;
            let all = ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC;
            sys::set_mount_attributes(&tree, all, false)?;
            let unified = directory.join("cgroup.controllers").exists();
            taken.push((name(directory).filter(|_| !unified), tree));
        }
        Ok(Self(taken))
    }

    /// Mounts them over the directory that the kernel has for them in `root`'s /sys.
    pub(in crate::run) fn place(self, root: &OwnedFd) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let target = inroot::open_path(root, Path::new("/sys/fs/cgroup"))?;
        let named = self.0.iter().any(|(name, _)| name.is_some());
        if !named {
            return self
                .0
                .iter()
                .try_for_each(|(_, tree)| attach(tree, &target));
        }
        let list = make("tmpfs", &[("mode", "0755")], NO_SUID | NO_DEV | NO_EXEC)?;
        attach(&list, &target)?;
        for (name, tree) in &self.0 {
            let Some(name) = name else {
                continue;
            };
            rustix::fs::mkdirat(&list, name, mode(0o755))?;
            attach(tree, inroot::open_path(&list, Path::new(name))?)?;
        }
        sys::set_mount_attributes(&list, ATTR_READ_ONLY, false)
    }
}

/// The name that a hierarchy is mounted by: its directory above `strata/<id>`.
fn name(directory: &Path) -> Option<String> {
    let mount = directory.parent()?.parent()?;
    Some(mount.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_called_as_it_is_mounted() {
        let path = Path::new("/sys/fs/cgroup/cpu,cpuacct/strata/0123");
        assert_eq!(name(path).as_deref(), Some("cpu,cpuacct"));
        assert_eq!(name(Path::new("/")), None);
    }
}
