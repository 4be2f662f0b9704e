//! Union mounts: read-only layers below, one writable layer on top.

use std::io;
use std::path::{Path, PathBuf};

pub mod overlay;
mod probe;
mod writable;

pub use overlay::Overlay;
pub use writable::Writable;

/// What is stacked.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Read-only directories, the topmost first. None at all is an empty image.
    pub lowers: &'a [PathBuf],
    /// The writable directory and the kernel's scratch directory beside it, on one file system.
    /// Without them the mount is read-only.
    pub writable: Option<(&'a Path, &'a Path)>,
}

/// A way to mount stacks. All calls are synchronous and act on the caller's mount namespace.
pub trait Driver {
    /// The name that a person sees.
    fn name(&self) -> &'static str;
    /// Tries a small real mount below `dir` and takes it away again; the error says what is missing.
    fn probe(&self, dir: &Path) -> Result<(), DriverError>;
    /// Mounts `stack` at `target`, an existing, empty directory.
    fn mount(&self, stack: &Stack, target: &Path) -> Result<(), DriverError>;
    /// Unmounts what [`Driver::mount`] mounted. `lazy` takes it out of sight at once, while processes
    /// that still use it keep it alive (umount2(2), MNT_DETACH).
    fn unmount(&self, target: &Path, lazy: bool) -> Result<(), DriverError>;
}

/// Why a stack could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The stack is higher than the kernel takes.
    #[error(
        "{layers} layers cannot be stacked: overlayfs takes at most {max}; squash the image or rebuild it with fewer layers"
    )]
    TooManyLayers {
        /// How many were asked for.
        layers: usize,
        /// How many are possible (`OVL_MAX_STACK` of the kernel).
        max: usize,
    },
    /// A directory of the stack cannot be opened.
    #[error("cannot open {path} of the stack: {source}", path = path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The place to mount at is not an empty directory.
    #[error("{path} is not an empty directory: nothing is mounted over existing files", path = path.display())]
    Target {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused the mount.
    #[error("overlayfs cannot be mounted at {target}: {step}: {source}{}", kernel_says(log), target = target.display())]
    Mount {
        /// Where.
        target: PathBuf,
        /// Which call or option.
        step: String,
        /// What the kernel answered.
        source: io::Error,
        /// What it wrote into the mount's log, often empty.
        log: String,
    },
    /// Something uses the mount.
    #[error("{target} is in use (open files, or a shell inside it): leave it first, or unmount lazily with -f", target = target.display())]
    Busy {
        /// Where.
        target: PathBuf,
    },
    /// The kernel refused to unmount.
    #[error("cannot unmount {target}: {source}", target = target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Nothing can be mounted here at all.
    #[error("overlay mounts do not work in {dir}: {missing}", dir = dir.display())]
    Unusable {
        /// The store's directory.
        dir: PathBuf,
        /// What is missing, and what to do.
        missing: String,
    },
}

/// Whether something is mounted at `path`, in the mount namespace of this process.
pub fn is_mounted(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn kernel_says(log: &str) -> String {
    match log {
        "" => String::new(),
        log => format!(" (the kernel says: {log})"),
    }
}
