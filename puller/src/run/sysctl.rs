//! Parameters of the kernel that belong to a container's namespaces (`--sysctl`; sysctl(8)).
//!
//! They are written through a /proc that nothing else can see yet, so nobody can put another file in their place
//! (CVE-2025-52881 was such a redirection).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::spec::Failure;

/// Writes them; `proc` is a new procfs.
pub(super) fn set(proc: &OwnedFd, sysctls: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in sysctls {
        set_one(proc, name, value)
            .map_err(|error| Failure::new(format!("--sysctl {name}"), error))?;
    }
    Ok(())
}

fn set_one(proc: &OwnedFd, name: &str, value: &str) -> io::Result<()> {
    let path = format!("sys/{}", name.replace('.', "/"));
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = openat2(proc, path, flags, Mode::empty(), inside)?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}
