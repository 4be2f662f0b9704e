//! The file system of a container that does not run as its program would see it: with its volumes and what is mounted from
//! the host. For copies into and out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::config::{Config, Mount, Propagation, Source};
use super::mounts::{Taken, bind, place_one};
use super::sys::{self, ATTR_READ_ONLY};
use super::trees::clone_tree;

/// A copy of the mount at `root`, a container's file system, with its mounts in it, attached nowhere. File systems in
/// memory are not there, nor is what is gone from the host. An empty volume is filled from the image, as at a start.
///
/// Nobody else sees a mount: all of it is done in a namespace that goes at once.
///
/// # Errors
/// The kernel refuses a mount, or a mount point cannot be made.
pub fn view(root: &Path, config: &Config, volumes: &Path) -> io::Result<OwnedFd> {
    thread::scope(|scope| {
        let apart = scope.spawn(|| with_mounts(root, config, volumes));
        apart
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    })
}

fn with_mounts(root: &Path, config: &Config, volumes: &Path) -> io::Result<OwnedFd> {
    sys::new_mount_namespace()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags, Mode::empty())?;
    let mut mounts: Vec<&Mount> = config.mounts.iter().collect();
    // Parents before what lies in them.
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    for mount in mounts {
        let what = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("mounting at {:?}: {error}", mount.target),
            )
        };
        if let Some(taken) = take(mount, volumes).map_err(what)? {
            place_one(&top, &taken).map_err(what)?;
            if mount.read_only {
                sys::set_mount_attributes(&taken.tree, ATTR_READ_ONLY, true).map_err(what)?;
            }
        }
    }
    let whole = clone_tree(CWD, root, true)?;
    if config.read_only {
        sys::set_mount_attributes(&whole, ATTR_READ_ONLY, false)?;
    }
    Ok(whole)
}

/// What is mounted, if there is anything.
fn take(mount: &Mount, volumes: &Path) -> io::Result<Option<Taken>> {
    let (path, recursive, fill) = match &mount.source {
        Source::Bind {
            path, recursive, ..
        } => (path.clone(), *recursive, false),
        Source::Volume { name, no_copy, .. } => (volumes.join(name).join("_data"), false, !no_copy),
        Source::Tmpfs { .. } => return Ok(None),
    };
    match bind(&path, recursive, Propagation::Private) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        tree => Ok(Some(Taken {
            target: PathBuf::from(&mount.target),
            tree: tree?,
            fill,
        })),
    }
}
