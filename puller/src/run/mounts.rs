//! What the person mounts into a container: files and directories of the host, volumes, file systems in memory, and
//! our copies of resolv.conf, hosts and hostname.
//!
//! Sources are taken while the host is in sight, as mounts that are attached nowhere; targets are looked up when the
//! root is the container's, by openat2(2) inside it, so that no link of an image or of a shared directory leads
//! a mount elsewhere, however fast somebody changes it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, fstat, fstatfs};
use rustix::mount::MountPropagationFlags;

use super::config::{Mount, Propagation, Source};
use super::spec::{Failure, Spec};
use super::sys::{self, ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY};
use super::trees::{attach, clone_tree, kind_of, make};
use super::{devices, fill, inroot, propagation};

/// PROC_SUPER_MAGIC of linux/magic.h.
const PROC: u64 = 0x9fa0;
/// Files of /proc that a container may be given others for, as lxcfs makes them: they tell of resources, and nothing
/// is decided by them.
const REPLACEABLE: [&str; 8] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// A mount that is attached nowhere yet.
pub(super) struct Taken {
    pub(super) target: PathBuf,
    pub(super) tree: OwnedFd,
    /// A volume that is to be filled from what the image has at the target.
    pub(super) fill: bool,
}

/// Takes everything that is to be mounted, parents before what lies in them. Before mounts of this namespace are made
/// private: what is to be shared with the host must come from one that is.
pub(super) fn take(spec: &Spec) -> Result<Vec<Taken>, Failure> {
    let config = &spec.config;
    let mut taken = Vec::new();
    for (host, target) in &spec.files {
        // The person's own file goes before ours.
        if config.mounts.iter().any(|mount| mount.target == *target) {
            continue;
        }
        let tree = bind(host, false, Propagation::Private);
        // They are part of the root, as far as somebody can see who was promised that it cannot be written.
        let tree = tree.and_then(|tree| match config.read_only {
            true => sys::set_mount_attributes(&tree, ATTR_READ_ONLY, false).map(|()| tree),
            false => Ok(tree),
        });
        let tree = tree.map_err(|e| Failure::new(host.to_string_lossy(), e))?;
        taken.push(Taken {
            target: target.into(),
            tree,
            fill: false,
        });
    }
    if config.shares_ipc {
        for directory in ["/dev/shm", "/dev/mqueue"] {
            taken.extend(shared(Path::new(directory)).map_err(|e| Failure::new(directory, e))?);
        }
    }
    for mount in &config.mounts {
        let what = || format!("mounting at {:?}", mount.target);
        taken.push(take_one(spec, mount).map_err(|e| Failure::new(what(), e))?);
    }
    taken.sort_by_key(|t| t.target.components().count());
    Ok(taken)
}

/// A directory of the host's at its own place; `None` where the host has none.
fn shared(directory: &Path) -> io::Result<Option<Taken>> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let tree = bind(directory, false, Propagation::Private)?;
    sys::set_mount_attributes(&tree, ATTR_NO_DEV | ATTR_NO_EXEC | ATTR_NO_SUID, false)?;
    Ok(Some(Taken {
        target: directory.to_owned(),
        tree,
        fill: false,
    }))
}

fn take_one(spec: &Spec, mount: &Mount) -> io::Result<Taken> {
    let lax = spec.rootless || spec.config.security.privileged;
    let mut attributes = 0;
    for word in &mount.options {
        attributes |= match word.as_str() {
            "nosuid" => ATTR_NO_SUID,
            "nodev" => ATTR_NO_DEV,
            "noexec" => ATTR_NO_EXEC,
            _ => 0,
        };
    }
    if mount.read_only {
        attributes |= ATTR_READ_ONLY;
    }
    let mut device = false;
    let mut recursively = false;
    let (tree, fill) = match &mount.source {
        Source::Bind {
            path,
            recursive,
            propagation,
        } => {
            device = devices::is_default(path);
            propagation::check(path, *propagation, spec.rootless).map_err(|e| missing(path, e))?;
            recursively = *recursive;
            let tree = bind(path, *recursive, *propagation).map_err(|e| missing(path, e))?;
            (tree, false)
        }
        Source::Volume { name, no_copy, .. } => {
            let path = spec.volumes.join(name).join("_data");
            let tree = bind(&path, false, Propagation::Private)
                .map_err(|error| io::Error::other(format!("volume {name}: {error}")))?;
            (tree, !no_copy)
        }
        Source::Tmpfs { size, mode } => (tmpfs(mount, *size, *mode)?, false),
    };
    if !lax && !device {
        attributes |= ATTR_NO_DEV;
    }
    // A volume is filled through its own mount, before that is read-only.
    let later = if fill { ATTR_READ_ONLY } else { 0 };
    if attributes & !later != 0 {
        sys::set_mount_attributes(&tree, attributes & !later, recursively)?;
    }
    Ok(Taken {
        target: PathBuf::from(&mount.target),
        tree,
        fill,
    })
}

/// What failed on a source.
fn missing(path: &Path, error: io::Error) -> io::Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other(format!("bind source path does not exist: {path}"))
        }
        _ => io::Error::other(format!("{path}: {error}")),
    }
}

pub(super) fn bind(path: &Path, recursive: bool, propagation: Propagation) -> io::Result<OwnedFd> {
    let tree = clone_tree(CWD, path, recursive)?;
    let kind = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Shared => MountPropagationFlags::SHARED,
    };
    sys::set_mount_propagation(&tree, kind, recursive)?;
    Ok(tree)
}

fn tmpfs(mount: &Mount, size: Option<u64>, mode: Option<u32>) -> io::Result<OwnedFd> {
    let mut options = vec![("mode".to_owned(), format!("{:o}", mode.unwrap_or(0o1777)))];
    options.extend(size.map(|bytes| ("size".to_owned(), bytes.to_string())));
    for word in &mount.options {
        if let Some((key, value)) = word.split_once('=') {
            options.push((key.to_owned(), value.to_owned()));
        }
    }
    let options: Vec<(&str, &str)> = options
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    make("tmpfs", &options, rustix::mount::MountAttrFlags::empty())
}

/// Attaches them in the container, whose root this process is in.
pub(super) fn place(spec: &Spec, root: &OwnedFd, taken: &[Taken]) -> Result<(), Failure> {
    for mount in taken {
        let target = mount.target.display();
        place_one(root, mount).map_err(|e| Failure::new(format!("mounting at \"{target}\""), e))?;
        let read_only = mount.fill
            && spec
                .config
                .mounts
                .iter()
                .any(|known| known.read_only && Path::new(&known.target) == mount.target);
        if read_only {
            sys::set_mount_attributes(&mount.tree, ATTR_READ_ONLY, false)
                .map_err(|e| Failure::new(format!("making \"{target}\" read-only"), e))?;
        }
    }
    Ok(())
}

pub(super) fn place_one(root: &OwnedFd, mount: &Taken) -> io::Result<()> {
    let directory = kind_of(&mount.tree)? == FileType::Directory;
    let mismatch = || {
        io::Error::other(
            "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists \
             and is the expected type",
        )
    };
    let target = match directory {
        true => inroot::make_dir_all(root, &mount.target),
        false => inroot::make_file(root, &mount.target),
    };
    let target = target.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR) => mismatch(),
        _ => error,
    })?;
    if (kind_of(&target)? == FileType::Directory) != directory {
        return Err(mismatch());
    }
    let (there, top) = (fstat(&target)?, fstat(root)?);
    if (there.st_dev, there.st_ino) == (top.st_dev, top.st_ino) {
        return Err(io::Error::other("this path of the image leads to its root"));
    }
    let named = REPLACEABLE
        .iter()
        .any(|path| mount.target == Path::new(path));
    if fstatfs(&target)?.f_type as u64 == PROC && !named {
        return Err(io::Error::other(
            "nothing can be mounted inside /proc: what protects the host is there",
        ));
    }
    if mount.fill {
        fill::fill(&target, &mount.tree)?;
    }
    attach(&mount.tree, target)
}
