//! A umask of 0 for a single thread, so that files get their mode when they are made.

#![allow(unsafe_code)]

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a umask of its own, 0; false when the system does not let it (a seccomp
/// filter may forbid unshare(2)): modes then have to be set afterwards.
pub(super) fn neutral() -> bool {
    // SAFETY: CLONE_FS separates umask, root and working directory from the other threads'; it does
    // not touch memory or file descriptors, and this thread ends with the layer.
    let own = unsafe { unshare_unsafe(UnshareFlags::FS) }.is_ok();
    if own {
        umask(Mode::empty());
    }
    own
}
