//! Our own program, in a form that a container cannot write to.
//!
//! For a moment the container's first process runs this program, and an image whose entry point is
//! `/proc/self/exe` makes it run again later; whoever could then open that file for writing would own
//! the host's copy (CVE-2019-5736). So the process is started from a read-only overlay of the program's
//! directory that is attached nowhere: writing there is impossible whatever the capabilities, and nothing is
//! copied. Where such an overlay cannot be had, from a sealed copy in memory.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

const SELF: &str = "/proc/self/exe";

/// Opens the running program for execveat(2). `empty` is an empty directory; `rootless` says whether this is
/// a user namespace.
pub(super) fn open(empty: &Path, rootless: bool) -> io::Result<OwnedFd> {
    read_only_view(empty, rootless).or_else(|_| sealed_copy())
}

fn read_only_view(empty: &Path, rootless: bool) -> io::Result<OwnedFd> {
    let path = fs::read_link(SELF)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in [directory, empty] {
        let lower = rustix::fs::open(lower, flags, Mode::empty())?;
        let words = format!("/proc/self/fd/{}", lower.as_raw_fd());
        fsconfig_set_string(&context, "lowerdir+", words)?;
    }
    if rootless {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let program = rustix::fs::openat(&mount, name, flags, Mode::empty())?;
    // The file at that path may be another one by now: an upgrade, for example.
    let (running, found) = (fs::metadata(SELF)?, rustix::fs::fstat(&program)?);
    let same = running.ino() == found.st_ino
        && running.size() == found.st_size as u64
        && (running.mtime(), running.mtime_nsec()) == (found.st_mtime, found.st_mtime_nsec as i64);
    if same {
        Ok(program)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn sealed_copy() -> io::Result<OwnedFd> {
    let memory =
        rustix::fs::memfd_create("strata", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    io::copy(&mut File::open(SELF)?, &mut memory)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn cannot_be_written(program: impl AsFd) {
        let path = format!("/proc/self/fd/{}", program.as_fd().as_raw_fd());
        let error = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut f| io::Write::write(&mut f, b"x"));
        assert!(error.is_err());
    }

    #[test]
    fn the_copy_in_memory_is_whole_and_sealed() {
        let copy = sealed_copy().expect("copies");
        let size = rustix::fs::fstat(&copy).expect("stat").st_size as u64;
        assert_eq!(size, fs::metadata(SELF).expect("stat").len());
        cannot_be_written(&copy);
    }

    #[test]
    fn the_view_is_the_running_program_and_read_only() {
        let Some(privilege) = crate::userns::current().ok().flatten() else {
            return;
        };
        let empty = tempfile::tempdir().expect("tempdir");
        let rootless = privilege == crate::userns::Privilege::UserNamespace;
        cannot_be_written(read_only_view(empty.path(), rootless).expect("mounts"));
    }
}
