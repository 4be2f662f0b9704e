//! The directories of a writable layer.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Below a container's own directory: its writable layer, the kernel's scratch directory, and where
/// the two appear together with the layers below.
#[derive(Debug, Clone)]
pub struct Writable {
    /// What was changed.
    pub upper: PathBuf,
    /// Overlayfs' own.
    pub work: PathBuf,
    /// The mount point.
    pub merged: PathBuf,
}

impl Writable {
    /// The paths in `directory`.
    pub fn of(directory: &Path) -> Self {
        Self {
            upper: directory.join("upper"),
            work: directory.join("work"),
            merged: directory.join("merged"),
        }
    }

    /// Makes what is missing. The upper directory is the root that the container sees, so a new one gets
    /// mode and owner of the topmost layer's root.
    pub fn make(&self, lowers: &[PathBuf]) -> io::Result<()> {
        make(&self.work)?;
        let root = Permissions::from_mode(0o755);
        if make(&self.merged)? && lowers.is_empty() {
            // Drivers that want a layer where there is none take the mount point for it.
            fs::set_permissions(&self.merged, root.clone())?;
        }
        if !make(&self.upper)? {
            return Ok(());
        }
        let Some(lower) = lowers.first() else {
            return fs::set_permissions(&self.upper, root);
        };
        let below = fs::metadata(lower)?;
        let above = fs::metadata(&self.upper)?;
        if (below.uid(), below.gid()) != (above.uid(), above.gid()) {
            std::os::unix::fs::chown(&self.upper, Some(below.uid()), Some(below.gid()))?;
        }
        fs::set_permissions(&self.upper, Permissions::from_mode(below.mode() & 0o7777))
    }
}

/// `false` when it was there.
fn make(path: &Path) -> io::Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_looks_as_the_topmost_layer_has_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let lower = dir.path().join("lower");
        fs::create_dir(&lower).expect("mkdir");
        fs::set_permissions(&lower, Permissions::from_mode(0o1750)).expect("chmod");
        let writable = Writable::of(dir.path());
        writable.make(std::slice::from_ref(&lower)).expect("made");
        let mode = || fs::metadata(&writable.upper).expect("there").mode() & 0o7777;
        assert_eq!(mode(), 0o1750);
        fs::set_permissions(&writable.upper, Permissions::from_mode(0o700)).expect("chmod");
        writable.make(&[lower]).expect("again");
        assert_eq!(mode(), 0o700, "what the container made of it stays");
    }
}
