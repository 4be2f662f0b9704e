//! Work that is not yet published: private directories that vanish unless they are.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::lock::FileLock;
use super::trash::{Trash, random_name};

/// A private directory on the store's file system, removed on drop unless it is published.
///
/// Beside it lies a lock file that its owner holds: who can take that lock knows that the owner is
/// dead and may sweep the directory.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Opened before anything is written: a later syncfs(2) reports every write error since then.
    directory: File,
    since: Instant,
    trash: Arc<Trash>,
    published: bool,
    lock: Option<FileLock>,
}

impl Staging {
    pub(super) fn new(staging: &Path, trash: Arc<Trash>) -> io::Result<Self> {
        let since = Instant::now();
        let name = random_name();
        let lock = FileLock::exclusive(&staging.join(format!("{name}.lock")))?;
        let path = staging.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        let directory = File::open(&path)?;
        Ok(Self {
            path,
            directory,
            since,
            trash,
            published: false,
            lock: Some(lock),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When it was made.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Makes everything written to the file system since this directory was made durable.
    pub(super) fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.directory)?)
    }

    /// Renames the directory to where it stays.
    pub(super) fn rename_to(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What fails here is swept when the store is opened next.
        if !self.published {
            let _ = self.trash.remove(&self.path);
        }
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove();
        }
    }
}

/// What dead owners left.
pub(super) fn dead(staging: &Path) -> io::Result<Vec<PathBuf>> {
    let mut dead = Vec::new();
    for entry in fs::read_dir(staging)? {
        let path = entry?.path();
        // A lock file that nobody holds goes with its directory, which may be gone already.
        if path.extension().is_some_and(|ext| ext == "lock")
            && FileLock::try_exclusive(&path)?.is_some()
        {
            dead.push(path.with_extension(""));
        }
    }
    Ok(dead)
}

/// Moves what dead owners left into the trash.
pub(super) fn sweep(staging: &Path, trash: &Trash) -> io::Result<()> {
    for entry in fs::read_dir(staging)? {
        let name = entry?.file_name();
        let path = staging.join(&name);
        let owner = match name.to_str() {
            Some(name) if name.ends_with(".lock") => path.clone(),
            Some(name) => staging.join(format!("{name}.lock")),
            None => continue,
        };
        // A directory's lock is there, and held, before the directory is.
        let Some(lock) = FileLock::try_exclusive(&owner)? else {
            continue;
        };
        trash.take(&owner.with_extension(""))?;
        lock.remove()?;
    }
    Ok(())
}
