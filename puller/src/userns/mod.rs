//! Privilege: real root, or root of a user namespace.
//!
//! Mounting needs CAP_SYS_ADMIN over the user namespace that owns the mount namespace
//! (user_namespaces(7)). Root of the machine has it; anyone else becomes root of a user namespace of
//! their own, with a mount namespace that belongs to it. The user's own id is 0 there; further ids exist if the
//! machine grants the user some (subuid(5)), otherwise there is no other.
#![allow(unsafe_code)]

mod ids;
mod subordinate;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, UnshareFlags};

pub use ids::{Ids, Mappings};
use subordinate::Subordinate;

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
/// user, or root without CAP_SYS_ADMIN, becomes root of a new user and mount namespace, with the subordinate
/// ids that the machine grants, else alone (setgroups denied, as user_namespaces(7) demands for a map of one's
/// own); root of a user namespace stays
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
    let unshare_both = || unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
    match Subordinate::of(uid, gid) {
        Ok(ids) => match mapped_from_outside(&ids, unshare_both)? {
            Ok(()) => return Ok(Privilege::UserNamespace),
            Err(why) => tracing::debug!(%why, "subordinate ids cannot be mapped"),
        },
        Err(why) => {
            tracing::debug!(%why, "no subordinate ids");
            unshare_both()?;
        }
    }
    map_own(uid, gid)?;
    Ok(Privilege::UserNamespace)
}

/// Maps the user's own ids alone; what is mapped already stays.
fn map_own(uid: u32, gid: u32) -> Result<(), UsernsError> {
    const GID_MAP: &str = "/proc/self/gid_map";
    if read(GID_MAP)?.trim().is_empty() {
        // Kernels before 3.19 have no such file and no such rule.
        if let Err(error) = write_map("/proc/self/setgroups", "deny")
            && !matches!(&error, UsernsError::Map { source, .. } if source.kind() == io::ErrorKind::NotFound)
        {
            return Err(error);
        }
        write_map(GID_MAP, &format!("0 {gid} 1\n"))?;
    }
    match read(UID_MAP)?.trim().is_empty() {
        true => write_map(UID_MAP, &format!("0 {uid} 1\n")),
        false => Ok(()),
    }
}

/// Enters new namespaces by `enter` and has a child that stays outside map the ids: newuidmap(1) has its
/// privilege there alone. The inner error says why they could not be mapped; the namespaces are entered then
/// all the same.
fn mapped_from_outside(
    ids: &Subordinate,
    enter: impl FnOnce() -> Result<(), UsernsError>,
) -> Result<Result<(), String>, UsernsError> {
    let pid = std::process::id();
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let refused = |source: io::Error| UsernsError::Refused {
        source,
        hint: "no process or pipe could be made for mapping ids".to_owned(),
    };
    let (go_from, go) = pipe().map_err(|e| refused(e.into()))?;
    let (said_from, said) = pipe().map_err(|e| refused(e.into()))?;
    // SAFETY: no other thread exists ([`unshare`] finds out if one does), so the child may go on as any process.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    if child == 0 {
        drop((go, said_from));
        let mut byte = [0];
        // Nothing to read: the other side failed, and is gone.
        let wanted = matches!(rustix::io::read(&go_from, &mut byte), Ok(1));
        if wanted && let Err(why) = ids.map(pid) {
            let mut said = fs::File::from(said);
            // Whoever cannot be told learns of it from the map.
            let _ = io::Write::write_all(&mut said, why.as_bytes());
        }
        // SAFETY: ends the child at once, without what the parent has registered to run at its end.
        unsafe { libc::_exit(0) };
    }
    drop((go_from, said));
    let entered = enter();
    if entered.is_ok() {
        rustix::io::write(&go, b"x").map_err(|e| refused(e.into()))?;
    }
    drop(go);
    let mut why = String::new();
    let told = io::Read::read_to_string(&mut fs::File::from(said_from), &mut why);
    reap(child);
    entered?;
    told.map_err(refused)?;
    let whole = !read(UID_MAP)?.trim().is_empty() && !read("/proc/self/gid_map")?.trim().is_empty();
    Ok(match whole && why.is_empty() {
        true => Ok(()),
        false => Err(why),
    })
}

/// Waits for a child that is ending.
fn reap(child: libc::pid_t) {
    loop {
        // SAFETY: waits for a child of ours and asks for no status.
        let ended = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        if ended >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
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
