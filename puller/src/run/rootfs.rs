//! The container's file system: the overlay, the kernel's file systems, devices, the host's files, and
//! the switch of the root (runtime-spec, config-linux.md, "Default Filesystems", "Default Devices").
//!
//! Everything of the host that the container needs is taken first, as mounts that are attached
//! nowhere; then the root is switched; only then are they attached, at paths that cannot lead out of
//! the container any more.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change};

use super::cgroup::View;
use super::config::Network;
use super::spec::{Failure, Spec};
use super::sys::{self, ATTR_NO_DEV, ATTR_NO_EXEC, ATTR_NO_SUID, ATTR_READ_ONLY};
use super::trees::{NO_DEV, NO_EXEC, NO_SUID, attach, attach_at, clone_tree, kind_of, make};
use super::{devices, inroot, mounts, sysctl, trees};
use crate::driver::{Driver as _, Overlay, Stack};
use crate::userns::{Ids, Privilege};

/// What tells too much about the host or lets it be steered, and is hidden; the same list as docker's.
pub(crate) const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// What cannot be written.
pub(crate) const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The names of a list that are below a directory.
fn below<'a>(list: &'a [&'a str], directory: &'a str) -> impl Iterator<Item = &'a str> {
    list.iter()
        .filter_map(move |path| path.strip_prefix(directory))
}

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
    let security = &spec.config.security;
    let taken = mounts::take(spec)?;
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all).map_err(|e| Failure::new("making mounts private", e))?;
    match layers {
        None => mount_layers(spec)?,
        Some(layers) => attach_at(&layers, &spec.merged)
            .map_err(|e| Failure::new("attaching the mounted layers", e))?,
    }
    // Group 5 is tty by convention; a namespace with one id has no such group.
    let tty_group = Ids::here().is_ok_and(|ids| ids.has_group(5));
    let devices = devices::take(&spec.config, spec.rootless)?;
    // A user namespace may have a new /proc and /sys only while it sees the host's, whole.
    let new_sys = make_sys(spec);
    let groups = View::take(&spec.cgroups).map_err(|e| Failure::new("control groups", e))?;
    let proc = make("proc", &[], NO_SUID | NO_DEV | NO_EXEC).map_err(|error| Failure {
        code: 125,
        message: format!(
            "mounting a new /proc: {error} (where parts of /proc are hidden, as in most containers, the \
             kernel allows no new one)"
        ),
    })?;
    sysctl::set(&proc, &spec.config.sysctls)?;
    switch_root(&spec.merged).map_err(|e| Failure::new("switching the root", e))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty())
        .map_err(|e| Failure::new("opening the container's root", e))?;
    if !spec.rootless && !security.privileged {
        sys::set_mount_attributes(&root, ATTR_NO_DEV, false)
            .map_err(|e| Failure::new("making the root nodev", e))?;
    }
    let (dev, pts) = devices::mount(&root, &spec.config, &devices, tty_group)?;
    mount_proc(spec, &root, &dev, &proc)?;
    mount_sys(spec, &root, &dev, new_sys)?;
    groups
        .place(&root)
        .map_err(|e| Failure::new("mounting control groups at /sys/fs/cgroup", e))?;
    mounts::place(spec, &root, &taken)?;
    Ok(Root { root, dev, pts })
}

/// Makes the root read-only if it is to be; nothing is made in it afterwards.
pub(super) fn seal(spec: &Spec, root: &Root) -> Result<(), Failure> {
    if !spec.config.read_only {
        return Ok(());
    }
    sys::set_mount_attributes(&root.root, ATTR_READ_ONLY, false)
        .map_err(|e| Failure::new("making the root read-only", e))
}

pub(super) fn mount_layers(spec: &Spec) -> Result<(), Failure> {
    let privilege = if spec.rootless {
        Privilege::UserNamespace
    } else {
        Privilege::Root
    };
    let driver = Overlay::new(privilege);
    let driver = if spec.config.ephemeral {
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

/// pivot_root(2), "pivot_root(".", ".")": the old root lands on the new one and is detached from there.
fn switch_root(merged: &Path) -> io::Result<()> {
    rustix::process::chdir(merged)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

fn mount_proc(spec: &Spec, root: &OwnedFd, dev: &OwnedFd, proc: &OwnedFd) -> Result<(), Failure> {
    inroot::mount_point(root, "proc")
        .and_then(|target| attach(proc, target))
        .map_err(|e| Failure::new("mounting proc at /proc", e))?;
    if !spec.is_masked() {
        return Ok(());
    }
    for name in below(&READ_ONLY, "/proc/") {
        read_only(proc, name)
            .map_err(|e| Failure::new(format!("making /proc/{name} read-only"), e))?;
    }
    mask(proc, dev, below(&HIDDEN, "/proc/")).map_err(|e| Failure::new("masking parts of /proc", e))
}

/// A new /sys, which shows the network that this process is in. In a user namespace, the host's network has none but
/// the host's /sys.
fn make_sys(spec: &Spec) -> io::Result<OwnedFd> {
    let writable = spec.config.security.privileged;
    let quiet = NO_SUID | NO_DEV | NO_EXEC;
    let attributes = if writable {
        quiet
    } else {
        quiet | trees::READ_ONLY
    };
    if !spec.rootless || spec.config.network == Network::None {
        match make("sysfs", &[], attributes) {
            Err(error) if spec.rootless && error.kind() == io::ErrorKind::PermissionDenied => {}
            made => return made,
        }
    }
    let tree = clone_tree(CWD, Path::new("/sys"), true)?;
    let quiet = ATTR_NO_SUID | ATTR_NO_DEV | ATTR_NO_EXEC;
    let all = if writable {
        quiet
    } else {
        quiet | ATTR_READ_ONLY
    };
    sys::set_mount_attributes(&tree, all, true)?;
    Ok(tree)
}

fn mount_sys(
    spec: &Spec,
    root: &OwnedFd,
    dev: &OwnedFd,
    tree: io::Result<OwnedFd>,
) -> Result<(), Failure> {
    let attached = || -> io::Result<OwnedFd> {
        attach(tree?, inroot::mount_point(root, "sys")?)?;
        inroot::open_path(root, Path::new("sys"))
    };
    let sys = attached().map_err(|e| Failure::new("mounting /sys", e))?;
    if !spec.is_masked() {
        return Ok(());
    }
    mask(&sys, dev, below(&HIDDEN, "/sys/")).map_err(|e| Failure::new("masking parts of /sys", e))
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
fn mask<'a>(
    directory: &OwnedFd,
    dev: &OwnedFd,
    names: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for name in names {
        let Some(target) = open_in(directory, name)? else {
            continue;
        };
        let kind = kind_of(&target)?;
        let cover = if kind != FileType::Directory {
            clone_tree(dev, Path::new("null"), false)?
        } else if let Some(empty) = &empty {
            clone_tree(empty, Path::new(""), false)?
        } else {
            let new = make(
                "tmpfs",
                &[("size", "0")],
                NO_SUID | NO_DEV | NO_EXEC | trees::READ_ONLY,
            )?;
            attach(&new, &target)?;
            empty = Some(new);
            continue;
        };
        attach(cover, target)?;
    }
    Ok(())
}
