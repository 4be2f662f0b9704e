//! The thread that writes a layer sees the layer's directory as `/`, and nothing else.
//!
//! A mount namespace is a thread's own if it asks for one (unshare(2)), and so is its root. A name that were
//! resolved wrongly would still end in the layer, also where the kernel has no Landlock; what else is mounted on
//! the machine is let go of at once, so nobody's umount waits for an archive.

#![allow(unsafe_code)]

use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::process::{chdir, pivot_root};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Makes `layer` the calling thread's root and working directory until it ends. Takes CAP_SYS_ADMIN over the mount
/// namespace; a seccomp filter may forbid it, and an initial ramdisk as the root of the machine cannot be left
/// (pivot_root(2)). After such an error the thread sees what it saw before.
pub(super) fn enter(layer: &Path) -> Result<(), Errno> {
    // SAFETY: NEWNS and the FS that it implies separate mounts, root, working directory and umask from the other
    // threads'; neither touches memory or file descriptors, and this thread ends with the layer.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    mount_bind(layer, layer)?;
    chdir(layer)?;
    pivot_root(".", ".")?;
    // The old root lies on the new one now.
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}
