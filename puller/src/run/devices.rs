//! /dev: the devices that every container has, those of the host that it was given, terminals and shared memory
//! (runtime-spec, config-linux.md, "Default Devices").
//!
//! A device node opens a device of the host whoever made it, and a container may make nodes. So nothing but the
//! devices that are meant can be opened: every mount of the container is `nodev`, and each device is mounted over
//! its own name from one that is not. This needs no control group, and so holds everywhere. In a user namespace
//! nobody can make nodes; there, the host's are mounted. Only for a device that may be read and not written, or the other
//! way round, a control group is needed: modes and read-only mounts keep nobody from it who has CAP_DAC_OVERRIDE.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::config::Config;
use super::inroot;
use super::spec::Failure;
use super::sys::{self, ATTR_NO_DEV, mode};
use super::trees::{NO_DEV, NO_EXEC, NO_SUID, attach, clone_tree, make, mount_at};

/// (name, major, minor).
pub(super) const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// What a container has of its own in /dev, also when it gets all of the host's.
const OWN: [&str; 8] = [
    "console", "core", "fd", "mqueue", "ptmx", "pts", "shm", "stdin",
];
/// The name in /dev of a device that belongs elsewhere, while it is being made.
const ELSEWHERE: &str = ".elsewhere";
/// Directories in /dev are not deeper.
const DEEPEST: usize = 8;

/// A device that a container is to have.
pub(super) struct Device {
    /// The path in the container.
    path: PathBuf,
    origin: Origin,
}

enum Origin {
    /// A node to be made.
    Node {
        kind: FileType,
        number: u64,
        mode: Mode,
        owner: (u32, u32),
    },
    /// The host's, a mount that is attached nowhere.
    Tree(OwnedFd),
}

/// Takes them from the host, while it is in sight.
pub(super) fn take(config: &Config, rootless: bool) -> Result<Vec<Device>, Failure> {
    let mut devices = Vec::new();
    for (name, major, minor) in DEFAULT {
        let path = Path::new("/dev").join(name);
        let origin = match rootless {
            true => tree(&path)?,
            false => Origin::Node {
                kind: FileType::CharacterDevice,
                number: rustix::fs::makedev(major, minor),
                mode: mode(0o666),
                owner: (0, 0),
            },
        };
        devices.push(Device { path, origin });
    }
    for (host, inside, _) in &config.devices {
        take_all(host, Path::new(inside), rootless, &mut devices)?;
    }
    if config.security.privileged {
        let all = Path::new("/dev");
        take_all(all, all, rootless, &mut devices)?;
    }
    Ok(devices)
}

/// Which of a device's numbers a container may not read or not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Whether it is a block device.
    pub(super) block: bool,
    pub(super) major: u32,
    pub(super) minor: u32,
    /// Whether it may be read.
    pub(super) read: bool,
    /// Whether it may be written.
    pub(super) write: bool,
}

impl Limit {
    /// What it refuses, in the words of `devices.deny` (Documentation/admin-guide/cgroup-v1/devices.rst of Linux).
    pub(super) fn denied(&self) -> Option<String> {
        let kind = if self.block { 'b' } else { 'c' };
        let letters = match (self.read, self.write) {
            (true, true) => return None,
            (true, false) => "w",
            (false, true) => "r",
            (false, false) => "rw",
        };
        Some(format!("{kind} {}:{} {letters}", self.major, self.minor))
    }
}

/// What is to be refused of the devices that a container gets. `m` is not asked for: nodes that a container makes open
/// nothing. Another runtime sees to it itself, and a privileged container has all of every device.
pub(super) fn limits(config: &Config) -> io::Result<Vec<Limit>> {
    let mut limits: Vec<Limit> = Vec::new();
    if config.security.privileged || config.runtime.is_some() {
        return Ok(limits);
    }
    let whole = |access: &str| access.contains('r') && access.contains('w');
    for (host, inside, access) in config.devices.iter().filter(|(.., a)| !whole(a)) {
        let found = found_at(host, Path::new(inside))
            .map_err(|(path, error)| io::Error::other(format!("{}: {error}", path.display())))?;
        limits.extend(found.iter().map(|(_, _, found)| Limit {
            block: found.file_type().is_block_device(),
            major: rustix::fs::major(found.rdev()),
            minor: rustix::fs::minor(found.rdev()),
            read: access.contains('r'),
            write: access.contains('w'),
        }));
    }
    Ok(limits)
}

/// (its path, the container's, what it is).
pub(crate) type Found = (PathBuf, PathBuf, std::fs::Metadata);

/// The device at `host`, or all of a directory, to be at `inside`.
///
/// # Errors
/// What is no device, or cannot be looked at.
pub(crate) fn found_at(host: &Path, inside: &Path) -> Result<Vec<Found>, (PathBuf, io::Error)> {
    let mut devices = Vec::new();
    let mut left = vec![(host.to_owned(), inside.to_owned(), 0)];
    while let Some((path, target, depth)) = left.pop() {
        // The one that was named may be a link; what is found in a directory may not.
        let found = match depth {
            0 => std::fs::metadata(&path).map_err(|error| (path.clone(), error))?,
            _ => match std::fs::symlink_metadata(&path) {
                Ok(found) => found,
                Err(_) => continue,
            },
        };
        if found.is_dir() && depth < DEEPEST {
            let entries = std::fs::read_dir(&path).map_err(|error| (path.clone(), error))?;
            for entry in entries.flatten() {
                let name = entry.file_name();
                let own = host == Path::new("/dev") && depth == 0;
                if !(own && OWN.iter().any(|known| name == *known)) {
                    left.push((entry.path(), target.join(name), depth + 1));
                }
            }
            continue;
        }
        let kind = found.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            devices.push((path, target, found));
        } else if depth == 0 {
            return Err((path, io::Error::other("it is no device node")));
        }
    }
    Ok(devices)
}

/// Takes the device at `host`, or all of a directory.
fn take_all(
    host: &Path,
    inside: &Path,
    rootless: bool,
    devices: &mut Vec<Device>,
) -> Result<(), Failure> {
    let found = found_at(host, inside)
        .map_err(|(path, error)| Failure::new(format!("device {}", path.display()), error))?;
    for (path, target, found) in found {
        if devices.iter().any(|known| known.path == target) {
            continue;
        }
        let origin = match rootless {
            // One that cannot be had is not among all that can.
            true if path != host => match tree(&path) {
                Ok(origin) => origin,
                Err(_) => continue,
            },
            true => tree(&path)?,
            false => Origin::Node {
                kind: FileType::from_raw_mode(found.mode()),
                number: found.rdev(),
                mode: mode(found.mode() & 0o7777),
                owner: (found.uid(), found.gid()),
            },
        };
        devices.push(Device {
            path: target,
            origin,
        });
    }
    Ok(())
}

fn tree(path: &Path) -> Result<Origin, Failure> {
    let tree = clone_tree(CWD, path, false);
    tree.map(Origin::Tree)
        .map_err(|e| Failure::new(path.to_string_lossy(), e))
}

/// Makes /dev: the directory itself and its pts. `tty_group` tells whether there is a group 5.
pub(super) fn mount(
    root: &OwnedFd,
    config: &Config,
    devices: &[Device],
    tty_group: bool,
) -> Result<(OwnedFd, OwnedFd), Failure> {
    let size = [("mode", "0755"), ("size", "65536k")];
    let dev = mount_at(root, "dev", "tmpfs", &size, NO_SUID)?;
    place(root, &dev, devices, config.security.privileged)?;
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
    let shm_size = config.shm_size.unwrap_or(64 << 20).to_string();
    let shared = [("mode", "1777"), ("size", shm_size.as_str())];
    mount_at(&dev, "shm", "tmpfs", &shared, NO_SUID | NO_DEV | NO_EXEC)?;
    match make("mqueue", &[], NO_SUID | NO_DEV | NO_EXEC) {
        // The host's own come later.
        _ if config.shares_ipc => {}
        Ok(queues) => inroot::mount_point(&dev, "mqueue")
            .and_then(|target| attach(queues, target))
            .map_err(|e| Failure::new("mounting mqueue at /dev/mqueue", e))?,
        // A kernel without POSIX message queues.
        Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {}
        Err(error) => return Err(Failure::new("mounting mqueue at /dev/mqueue", error)),
    }
    Ok((dev, pts))
}

/// Puts the devices at their places; afterwards no other node can be opened in /dev.
fn place(
    root: &OwnedFd,
    dev: &OwnedFd,
    devices: &[Device],
    privileged: bool,
) -> Result<(), Failure> {
    let failed = |device: &Device| {
        let what = format!("making device {}", device.path.display());
        move |error: io::Error| Failure::new(what, error)
    };
    let mut opened = Vec::new();
    for device in devices {
        let tree = match &device.origin {
            Origin::Tree(_) => None,
            Origin::Node { .. } => node(root, dev, device).map_err(failed(device))?,
        };
        opened.push((device, tree));
    }
    if !privileged {
        sys::set_mount_attributes(dev, ATTR_NO_DEV, false)
            .map_err(|e| Failure::new("making /dev nodev", e))?;
    }
    for (device, made) in &opened {
        let tree = match (&device.origin, made) {
            (Origin::Tree(tree), _) => tree,
            (_, Some(tree)) => tree,
            (_, None) => continue,
        };
        let target = match device.path.strip_prefix("/dev") {
            Ok(inside) => inroot::make_file(dev, &Path::new("/").join(inside)),
            Err(_) => inroot::make_file(root, &device.path),
        };
        target
            .and_then(|target| attach(tree, target))
            .map_err(failed(device))?;
    }
    Ok(())
}

/// Makes a node in /dev, and gives a mount of it that is not `nodev`, to be put over it. One that belongs elsewhere is
/// put there at once, and loses its name in /dev.
fn node(root: &OwnedFd, dev: &OwnedFd, device: &Device) -> io::Result<Option<OwnedFd>> {
    let Origin::Node {
        kind,
        number,
        mode,
        owner: (uid, gid),
    } = &device.origin
    else {
        return Ok(None);
    };
    let inside = device.path.strip_prefix("/dev").ok();
    let name = match inside {
        Some(inside) => inside.file_name().ok_or(Errno::INVAL)?.to_owned(),
        None => ELSEWHERE.into(),
    };
    let above = inside.and_then(Path::parent).unwrap_or(Path::new(""));
    let directory = inroot::make_dir_all(dev, &Path::new("/").join(above))?;
    rustix::fs::mknodat(&directory, name.as_bytes(), *kind, *mode, *number)?;
    let owner = (Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&directory, name.as_bytes(), owner.0, owner.1, nofollow)?;
    let tree = clone_tree(&directory, Path::new(&name), false)?;
    if inside.is_some() {
        return Ok(Some(tree));
    }
    attach(&tree, inroot::make_file(root, &device.path)?)?;
    rustix::fs::unlinkat(&directory, name.as_bytes(), AtFlags::empty())?;
    Ok(None)
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

/// Whether a file of the host is one of the devices that every container has.
pub(super) fn is_default(path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else {
        return false;
    };
    let number = found.rdev();
    found.file_type().is_char_device()
        && DEFAULT
            .iter()
            .any(|(_, major, minor)| number == rustix::fs::makedev(*major, *minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_not_given_is_refused() {
        let denied = |access: &str| {
            let config = Config {
                devices: vec![("/dev/zero".into(), "/dev/x".into(), access.into())],
                ..Config::default()
            };
            let limits = limits(&config).expect("there");
            limits.iter().find_map(Limit::denied)
        };
        assert_eq!(denied("r").as_deref(), Some("c 1:5 w"));
        assert_eq!(denied("wm").as_deref(), Some("c 1:5 r"));
        assert_eq!(denied("m").as_deref(), Some("c 1:5 rw"));
        assert_eq!((denied("rw"), denied("rwm")), (None, None));
        let mut config = Config {
            devices: vec![("/dev/null/x".into(), "/dev/x".into(), "r".into())],
            ..Config::default()
        };
        assert!(limits(&config).is_err());
        config.security.privileged = true;
        assert_eq!(limits(&config).expect("all is allowed"), []);
    }
}
