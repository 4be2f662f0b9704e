//! The container's file system: the overlay, the kernel's file systems, devices, the host's files, and
//! the switch of the root (runtime-spec, config-linux.md, "Default Filesystems", "Default Devices").
//!
//! Everything of the host that the container needs is taken first, as mounts that are attached
//! nowhere; then the root is switched; only then are they attached, at paths that cannot lead out of
//! the container any more.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, mount_change, move_mount, open_tree,
};

use super::inroot;
use super::spec::{Failure, Spec};
use super::sys::{self, ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY, mode};
use crate::driver::{Driver as _, Overlay, Stack};
use crate::userns::{Ids, Privilege};

const NO_SUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NO_DEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NO_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// (name, major, minor).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// What tells too much about the host or lets it be steered; the same list as docker's.
const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// The root of a container that has been entered.
pub(super) struct Root {
    /// The root directory.
    pub(super) root: OwnedFd,
    /// Its /dev.
    pub(super) dev: OwnedFd,
    /// Its /dev/pts.
    pub(super) pts: OwnedFd,
}

/// Mounts everything and makes it the root of this process, whose mount namespace is its own.
/// `layers` are mounted already, or this mounts them.
pub(super) fn enter(spec: &Spec, layers: Option<OwnedFd>) -> Result<Root, Failure> {
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all).map_err(|e| Failure::new("making mounts private", e))?;
    match layers {
        None => mount_layers(spec)?,
        Some(layers) => attach_at(&layers, &spec.merged)
            .map_err(|e| Failure::new("attaching the mounted layers", e))?,
    }
    let files = take_files(spec)?;
    // Group 5 is tty by convention; a namespace with one id has no such group.
    let tty_group = Ids::here().is_ok_and(|ids| ids.has_group(5));
    let host = if spec.rootless {
        Some(HostTrees::take()?)
    } else {
        None
    };
    // A user namespace may have a new /proc only while it sees the host's, whole.
    let proc = make("proc", &[], NO_SUID | NO_DEV | NO_EXEC).map_err(|error| Failure {
        code: 125,
        message: format!(
            "mounting a new /proc: {error} (where parts of /proc are hidden, as in most containers, the \
             kernel allows no new one)"
        ),
    })?;
    switch_root(&spec.merged).map_err(|e| Failure::new("switching the root", e))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())
        .map_err(|e| Failure::new("opening the container's root", e))?;
    // Before there is a /proc whose links could lead a path elsewhere.
    for (path, tree) in files {
        place_file(&root, path, &tree).map_err(|e| Failure::new(path, e))?;
    }
    let (dev, pts) = mount_dev(&root, host.as_ref(), tty_group)?;
    mount_proc(&root, &dev, &proc)?;
    mount_sys(&root, &dev, host.as_ref())?;
    Ok(Root { root, dev, pts })
}

fn mount_layers(spec: &Spec) -> Result<(), Failure> {
    let privilege = if spec.rootless {
        Privilege::UserNamespace
    } else {
        Privilege::Root
    };
    let driver = Overlay::new(privilege);
    let driver = if spec.volatile {
        driver.volatile()
    } else {
        driver
    };
    let stack = Stack {
        lowers: &spec.lowers,
        upper: Some(&spec.upper),
        scratch: &spec.work,
        read_only: false,
    };
    driver
        .mount(&stack, &spec.merged)
        .map_err(|e| Failure::new("mounting the layers", e))
}

fn take_files(spec: &Spec) -> Result<Vec<(&str, OwnedFd)>, Failure> {
    spec.files
        .iter()
        .map(|(host, container)| match clone_tree(CWD, host, false) {
            Ok(tree) => Ok((container.as_str(), tree)),
            Err(error) => Err(Failure::new(host.to_string_lossy(), error)),
        })
        .collect()
}

/// What a user namespace cannot make for itself: device nodes, and /sys of the host's network namespace.
struct HostTrees {
    devices: Vec<(&'static str, OwnedFd)>,
    sys: OwnedFd,
}

impl HostTrees {
    fn take() -> Result<Self, Failure> {
        let take = |path: &str, recursive| {
            clone_tree(CWD, Path::new(path), recursive).map_err(|e| Failure::new(path, e))
        };
        let devices = DEVICES
            .iter()
            .map(|(name, _, _)| Ok((*name, take(&format!("/dev/{name}"), false)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            devices,
            sys: take("/sys", true)?,
        })
    }
}

/// A copy of a mount (and those below it) that is attached nowhere.
fn clone_tree(at: impl AsFd, path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    Ok(open_tree(at, path, flags)?)
}

fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}

fn attach_at(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", CWD, target, flags)?)
}

/// pivot_root(2), "pivot_root(".", ".")": the old root lands on the new one and is detached from there.
fn switch_root(merged: &Path) -> io::Result<()> {
    rustix::process::chdir(merged)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn place_file(root: &OwnedFd, path: &str, tree: &OwnedFd) -> io::Result<()> {
    let target = inroot::make_file(root, Path::new(path))?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other(
            "the image has something else than a file there",
        ));
    }
    attach(tree, target)
}

/// A new instance of one of the kernel's file systems, attached nowhere.
fn make(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let _ = fsconfig_set_string(&context, "source", kind);
    for (key, value) in options {
        match *value {
            "" => fsconfig_set_flag(&context, *key)?,
            value => fsconfig_set_string(&context, *key, value)?,
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

fn mount_at(
    root: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let mounted = || -> io::Result<OwnedFd> {
        let mount = make(kind, options, attributes)?;
        attach(&mount, inroot::mount_point(root, name)?)?;
        Ok(mount)
    };
    mounted().map_err(|e| Failure::new(format!("mounting {kind} at /{name}"), e))
}

fn mount_dev(
    root: &OwnedFd,
    host: Option<&HostTrees>,
    tty_group: bool,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let size = [("mode", "0755"), ("size", "65536k")];
    let dev = mount_at(root, "dev", "tmpfs", &size, NO_SUID)?;
    make_devices(&dev, host).map_err(|e| Failure::new("making devices in /dev", e))?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
        ("/proc/kcore", "core"),
    ];
    for (target, link) in links {
        rustix::fs::symlinkat(target, &dev, link)
            .map_err(|e| Failure::new(format!("/dev/{link}"), e))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, name, mode(0o755))
            .map_err(|e| Failure::new(format!("/dev/{name}"), e))?;
    }
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    if tty_group {
        options.push(("gid", "5"));
    }
    let pts = mount_at(&dev, "pts", "devpts", &options, NO_SUID | NO_EXEC)?;
    let shared = [("mode", "1777"), ("size", "65536k")];
    mount_at(&dev, "shm", "tmpfs", &shared, NO_SUID | NO_DEV | NO_EXEC)?;
    match make("mqueue", &[], NO_SUID | NO_DEV | NO_EXEC) {
        Ok(queues) => inroot::mount_point(&dev, "mqueue")
            .and_then(|target| attach(queues, target))
            .map_err(|e| Failure::new("mounting mqueue at /dev/mqueue", e))?,
        // A kernel without POSIX message queues.
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {}
        Err(error) => return Err(Failure::new("mounting mqueue at /dev/mqueue", error)),
    }
    Ok((dev, pts))
}

fn make_devices(dev: &OwnedFd, host: Option<&HostTrees>) -> io::Result<()> {
    match host {
        None => {
            for (name, major, minor) in DEVICES {
                let number = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode(0o666), number)?;
            }
        }
        Some(host) => {
            for (name, tree) in &host.devices {
                attach(tree, empty_file(dev, name)?)?;
            }
        }
    }
    Ok(())
}

/// A new empty file to mount something on.
pub(super) fn empty_file(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, mode(0o666))?)
}

/// Mounts the terminal over /dev/console, as docker does.
pub(super) fn mount_console(dev: &OwnedFd, slave: &OwnedFd) -> io::Result<()> {
    let tree = clone_tree(slave, Path::new(""), false)?;
    attach(tree, empty_file(dev, "console")?)
}

fn mount_proc(root: &OwnedFd, dev: &OwnedFd, proc: &OwnedFd) -> Result<(), Failure> {
    inroot::mount_point(root, "proc")
        .and_then(|target| attach(proc, target))
        .map_err(|e| Failure::new("mounting proc at /proc", e))?;
    for name in READ_ONLY_IN_PROC {
        read_only(proc, name)
            .map_err(|e| Failure::new(format!("making /proc/{name} read-only"), e))?;
    }
    mask(proc, dev, &MASKED_IN_PROC).map_err(|e| Failure::new("masking parts of /proc", e))
}

fn mount_sys(root: &OwnedFd, dev: &OwnedFd, host: Option<&HostTrees>) -> Result<(), Failure> {
    let attributes = NO_SUID | NO_DEV | NO_EXEC | READ_ONLY;
    let sys = match host {
        None => mount_at(root, "sys", "sysfs", &[], attributes)?,
        Some(host) => {
            let all = ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC | ATTR_READ_ONLY;
            let attached = || -> io::Result<()> {
                sys::set_mount_attributes(&host.sys, all, true)?;
                attach(&host.sys, inroot::mount_point(root, "sys")?)
            };
            attached().map_err(|e| Failure::new("mounting the host's /sys read-only", e))?;
            inroot::open_path(root, Path::new("sys"))
                .map_err(|e| Failure::new("opening /sys", e))?
        }
    };
    mask(&sys, dev, &MASKED_IN_SYS).map_err(|e| Failure::new("masking parts of /sys", e))
}

fn open_in(directory: &OwnedFd, name: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read_only(proc: &OwnedFd, name: &str) -> io::Result<()> {
    let Some(target) = open_in(proc, name)? else {
        return Ok(());
    };
    let tree = clone_tree(&target, Path::new(""), false)?;
    let all = ATTR_READ_ONLY | ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC;
    sys::set_mount_attributes(&tree, all, false)?;
    attach(tree, target)
}

/// Hides files behind /dev/null and directories behind an empty one.
fn mask(directory: &OwnedFd, dev: &OwnedFd, names: &[&str]) -> io::Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for name in names {
        let Some(target) = open_in(directory, name)? else {
            continue;
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
        let cover = if kind != FileType::Directory {
            clone_tree(dev, Path::new("null"), false)?
        } else if let Some(empty) = &empty {
            clone_tree(empty, Path::new(""), false)?
        } else {
            let new = make(
                "tmpfs",
                &[("size", "0")],
                NO_SUID | NO_DEV | NO_EXEC | READ_ONLY,
            )?;
            attach(&new, &target)?;
            empty = Some(new);
            continue;
        };
        attach(cover, target)?;
    }
    Ok(())
}
