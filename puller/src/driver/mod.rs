//! Union mounts: read-only layers below, one writable layer on top.
//!
//! Three drivers give the same tree: the kernel's overlayfs, as root or in a user namespace; fuse-overlayfs, where
//! the kernel's is refused; copies, where nothing else works. [`Chooser`] takes the best one that does.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree};

mod choice;
mod fuse;
pub mod merged;
mod name;
pub mod overlay;
mod probe;
pub mod session;
#[cfg(test)]
mod tests;
mod vfs;
mod writable;

pub use choice::{Choice, Chooser};
pub use fuse::FuseOverlayfs;
pub use name::{Name, UnknownDriver};
pub use overlay::Overlay;
pub use vfs::{Vfs, copy_stack};
pub use writable::Writable;

/// What is stacked.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Read-only directories, the topmost first. None at all is an empty image.
    pub lowers: &'a [PathBuf],
    /// The writable directory; without one only the layers below are shown, read-only.
    pub upper: Option<&'a Path>,
    /// A directory of the driver's own, on the same file system: overlayfs' scratch directory, or copies.
    pub scratch: &'a Path,
    /// Show what is in the writable directory, and let nobody write.
    pub read_only: bool,
}

impl Stack<'_> {
    /// Whether the mount can be written to.
    pub fn is_writable(&self) -> bool {
        self.upper.is_some() && !self.read_only
    }
}

/// A way to mount stacks. All calls are synchronous and act on the caller's mount namespace.
pub trait Driver {
    /// What it is called.
    fn name(&self) -> Name;
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
        "{layers} layers cannot be stacked: overlayfs takes at most {max}; squash the image, rebuild it with fewer layers, or use --driver vfs"
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
    /// The stack could not be copied.
    #[error("copying the layers to {path}: {source}", path = path.display())]
    Copy {
        /// What was to be made.
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
    /// The mount was refused.
    #[error("{driver} cannot mount at {target}: {step}: {source}{}", kernel_says(log), target = target.display())]
    Mount {
        /// Which driver tried.
        driver: Name,
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
    /// The driver does not work here at all.
    #[error("{driver} does not work in {dir}: {missing}", dir = dir.display())]
    Unusable {
        /// Which driver.
        driver: Name,
        /// The store's directory.
        dir: PathBuf,
        /// What is missing, and what to do.
        missing: String,
    },
}

impl DriverError {
    /// Whether another driver may do better: the machine refused, not the stack or its place.
    pub fn is_of_the_driver(&self) -> bool {
        matches!(self, Self::Mount { .. } | Self::Unusable { .. })
    }

    fn copy(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Copy { path, source }
    }
}

/// What is at a place where a stack may be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Unmounted,
    /// A stack.
    Mounted,
    /// What a program left that served a mount and has died; it can only be unmounted.
    Dead,
}

/// What is at `path`, in the mount namespace of this process.
pub fn state(path: &Path) -> State {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    // What the kernel remembers of a mount outlives the program that serves it.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_FORCE_SYNC;
    match statx(CWD, path, flags, StatxFlags::BASIC_STATS) {
        Ok(found) if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) => State::Mounted,
        Err(Errno::NOTCONN | Errno::CONNABORTED) => State::Dead,
        _ => State::Unmounted,
    }
}

/// Whether something is mounted at `path`, dead or alive, in the mount namespace of this process.
pub fn is_mounted(path: &Path) -> bool {
    state(path) != State::Unmounted
}

/// Unmounts what any driver mounted; see [`Driver::unmount`].
pub fn unmount(target: &Path, lazy: bool) -> Result<(), DriverError> {
    let how = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    match rustix::mount::unmount(target, how | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(DriverError::Busy {
            target: target.to_owned(),
        }),
        Err(error) => Err(DriverError::Unmount {
            target: target.to_owned(),
            source: error.into(),
        }),
    }
}

/// Mounts `stack` so that nobody sees it: `target` is used for a moment. Whoever has the descriptor attaches
/// it somewhere (move_mount(2)); it is gone with the last place and descriptor.
pub fn mount_detached(
    driver: &dyn Driver,
    stack: &Stack,
    target: &Path,
) -> Result<OwnedFd, DriverError> {
    driver.mount(stack, target)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let taken = open_tree(CWD, target, flags);
    driver.unmount(target, true)?;
    taken.map_err(|error| DriverError::Mount {
        driver: driver.name(),
        target: target.to_owned(),
        step: "open_tree".to_owned(),
        source: error.into(),
        log: String::new(),
    })
}

/// Nothing is mounted over existing files.
fn must_be_empty(target: &Path) -> Result<(), DriverError> {
    match fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none()) {
        true => Ok(()),
        false => Err(DriverError::Target {
            path: target.to_owned(),
        }),
    }
}

/// Each directory once: images may well repeat a layer, which overlayfs refuses (ELOOP); the topmost decides
/// everything that the others could.
fn distinct(lowers: &[PathBuf]) -> Vec<&Path> {
    let mut seen = HashSet::new();
    let mut distinct: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
    distinct.retain(|lower| seen.insert(*lower));
    distinct
}

fn kernel_says(log: &str) -> String {
    match log {
        "" => String::new(),
        log => format!(" (the kernel says: {log})"),
    }
}
