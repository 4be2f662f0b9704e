//! Privilege: real root, or root of a user namespace.
//!
//! Mounting needs CAP_SYS_ADMIN over the user namespace that owns the mount namespace
//! (user_namespaces(7)). Root of the machine has it; anyone else becomes root of a user namespace of
//! their own, with a mount namespace that belongs to it. Only one id can be mapped there without
//! help: the user's own, as 0.
#![allow(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, UnshareFlags};

/// What the process may do to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// CAP_SYS_ADMIN in the initial user namespace: every id exists.
    Root,
    /// Root of a user namespace: only mapped ids exist, overlayfs keeps its marks in `user.overlay.*`.
    UserNamespace,
}

/// Why a user namespace could not be had.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// The kernel refused to make one.
    #[error(
        "cannot make a user namespace ({source}), which is what working without root needs: {hint}"
    )]
    Refused {
        /// What the kernel said.
        source: io::Error,
        /// Which switch is off, or which to look at.
        hint: String,
    },
    /// The ids could not be mapped.
    #[error(
        "cannot map the user's own id in a new user namespace: writing {file} failed ({source}): {hint}"
    )]
    Map {
        /// The file of proc(5) that was written.
        file: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// Which switch is off, or which to look at.
        hint: String,
    },
    /// The process already has threads; the kernel then refuses, and it is our own mistake.
    #[error("a user namespace must be entered before the process starts threads")]
    Threads,
    /// /proc is missing or is not readable.
    #[error("cannot read {file}: {source}; is /proc mounted?")]
    Proc {
        /// The file.
        file: &'static str,
        /// What failed.
        source: io::Error,
    },
}

const UID_MAP: &str = "/proc/self/uid_map";

/// The privilege that the process has now; `None` when [`enter`] would make a new user namespace.
pub fn current() -> Result<Option<Privilege>, UsernsError> {
    if !rustix::process::geteuid().is_root() || !has_sys_admin() {
        return Ok(None);
    }
    let map = read(UID_MAP)?;
    if is_identity(&map) {
        return Ok(Some(Privilege::Root));
    }
    Ok(owns_mount_namespace().then_some(Privilege::UserNamespace))
}

/// Makes the process able to mount, before it has any thread. Real root stays what it is; an ordinary
/// user, or root without CAP_SYS_ADMIN, becomes root of a new user and mount namespace (setgroups
/// denied, as user_namespaces(7) demands for a map of one's own); root of a user namespace stays
/// there, and gets a mount namespace of its own only if the present one belongs to somebody else.
pub fn enter() -> Result<Privilege, UsernsError> {
    if let Some(privilege) = current()? {
        return Ok(privilege);
    }
    let inside = rustix::process::geteuid().is_root() && has_sys_admin();
    if inside {
        unshare(UnshareFlags::NEWNS)?;
        return Ok(Privilege::UserNamespace);
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    // Kernels before 3.19 have no such file and no such rule.
    if let Err(error) = write_map("/proc/self/setgroups", "deny")
        && !matches!(&error, UsernsError::Map { source, .. } if source.kind() == io::ErrorKind::NotFound)
    {
        return Err(error);
    }
    write_map(UID_MAP, &format!("0 {uid} 1\n"))?;
    write_map("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
    Ok(Privilege::UserNamespace)
}

/// Whether `uid` exists in the present user namespace: in a namespace of one id, only root does.
pub fn uid_is_mapped(uid: u32) -> Result<bool, UsernsError> {
    Ok(maps(&read(UID_MAP)?, uid))
}

/// Whether `gid` exists in the present user namespace.
pub fn gid_is_mapped(gid: u32) -> Result<bool, UsernsError> {
    Ok(maps(&read("/proc/self/gid_map")?, gid))
}

fn read(file: &'static str) -> Result<String, UsernsError> {
    fs::read_to_string(file).map_err(|source| UsernsError::Proc { file, source })
}

/// The lines of a map, each "inside outside length" (user_namespaces(7)).
fn ranges(map: &str) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
    map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(length))) => {
                Some((inside, outside, length))
            }
            _ => None,
        }
    })
}

fn is_identity(map: &str) -> bool {
    ranges(map).eq([(0, 0, u64::from(u32::MAX))])
}

fn maps(map: &str, id: u32) -> bool {
    ranges(map)
        .any(|(inside, _, length)| (inside..inside.saturating_add(length)).contains(&u64::from(id)))
}

fn has_sys_admin() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Whether the mount namespace belongs to the process's own user namespace. `unshare -U` alone makes a
/// process root of nothing that can be mounted on.
fn owns_mount_namespace() -> bool {
    /// `_IO(NSIO, 0x1)` of linux/nsfs.h: the user namespace that owns a namespace (ioctl_ns(2)).
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    let owner = || -> io::Result<bool> {
        let mount = fs::File::open("/proc/self/ns/mnt")?;
        // SAFETY: the descriptor is open for the whole call and the request takes no argument.
        let fd = unsafe { libc::ioctl(mount.as_raw_fd(), NS_GET_USERNS as _) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        let owner = fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) }).metadata()?;
        let own = fs::metadata("/proc/self/ns/user")?;
        Ok((owner.dev(), owner.ino()) == (own.dev(), own.ino()))
    };
    // EPERM says that the owner is out of sight, so not ours.
    owner().unwrap_or(false)
}

fn unshare(flags: UnshareFlags) -> Result<(), UsernsError> {
    // SAFETY: no other thread exists (the kernel refuses NEWUSER otherwise), so nothing relies on
    // sharing what is given up here.
    match unsafe { rustix::thread::unshare_unsafe(flags) } {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) => Err(UsernsError::Threads),
        Err(error) => Err(UsernsError::Refused {
            source: error.into(),
            hint: hint(),
        }),
    }
}

fn write_map(file: &'static str, text: &str) -> Result<(), UsernsError> {
    fs::write(file, text).map_err(|source| UsernsError::Map {
        file,
        source,
        hint: hint(),
    })
}

/// The switches that turn user namespaces off, with their state here.
fn hint() -> String {
    let switch = |name: &str, needed: &str| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = fs::read_to_string(path).ok()?;
        Some((name.to_owned(), value.trim().to_owned(), needed.to_owned()))
    };
    explain(
        &[
            switch("user.max_user_namespaces", "above 0"),
            switch("kernel.unprivileged_userns_clone", "1"),
            switch("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>(),
    )
}

/// One sentence from (switch, value, needed value).
fn explain(switches: &[(String, String, String)]) -> String {
    let mut text = String::from("check ");
    for (index, (name, value, needed)) in switches.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{name} (is {value}, must be {needed})");
    }
    if switches.is_empty() {
        text.push_str("that the kernel is built with CONFIG_USER_NS");
    }
    text.push_str(", or that a container around this one allows it; else run as root");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_range_onto_itself_is_the_initial_namespace() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("0 1000 1\n"));
        assert!(!is_identity("0 0 65536\n"));
        assert!(!is_identity("0 0 4294967295\n5 5 5\n"));
        assert!(!is_identity(""));
    }

    #[test]
    fn mapped_ids_are_those_in_a_range() {
        let map = "0 1000 1\n1 100000 65536\n";
        assert!(maps(map, 0) && maps(map, 1) && maps(map, 65536));
        assert!(!maps(map, 65537));
        assert!(!maps("0 1000 1", 1));
        assert!(!maps("rubbish", 0));
    }

    #[test]
    fn the_hint_names_every_switch_and_its_state() {
        let text = explain(&[
            (
                "user.max_user_namespaces".into(),
                "0".into(),
                "above 0".into(),
            ),
            (
                "kernel.unprivileged_userns_clone".into(),
                "0".into(),
                "1".into(),
            ),
        ]);
        assert!(
            text.contains("user.max_user_namespaces (is 0, must be above 0)"),
            "{text}"
        );
        assert!(
            text.contains("kernel.unprivileged_userns_clone (is 0"),
            "{text}"
        );
        assert!(explain(&[]).contains("CONFIG_USER_NS"));
    }
}
