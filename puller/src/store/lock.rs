//! Locks between processes: flock(2) on files that may be removed.
//!
//! The kernel lets go of a lock when its holder dies, so none is ever stale. A lock file may be
//! unlinked by whoever holds it; who waited for it then holds a file without a name, which locks
//! nobody out, and starts again with the file that has the name now.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Waits until nobody else holds the lock in any way.
    pub(crate) fn exclusive(path: &Path) -> io::Result<Self> {
        loop {
            if let Some(lock) = attempt(path, FlockOperation::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// Waits until nobody holds the lock exclusively.
    pub(crate) fn shared(path: &Path) -> io::Result<Self> {
        loop {
            if let Some(lock) = attempt(path, FlockOperation::LockShared)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock if nobody else holds it.
    pub(crate) fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        unless_held(attempt(path, FlockOperation::NonBlockingLockExclusive))
    }

    /// Takes the lock if nobody holds it exclusively.
    pub(crate) fn try_shared(path: &Path) -> io::Result<Option<Self>> {
        unless_held(attempt(path, FlockOperation::NonBlockingLockShared))
    }

    /// Lets go of an exclusive lock and removes its file.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn unless_held(attempt: io::Result<Option<FileLock>>) -> io::Result<Option<FileLock>> {
    match attempt {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other,
    }
}

/// `None`: the file lost its name while we waited.
fn attempt(path: &Path, operation: FlockOperation) -> io::Result<Option<FileLock>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let held = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => Ok(Some(FileLock {
            path: path.to_owned(),
            _file: file,
        })),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_lock_file_locks_nobody_out() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("lock");
        let first = FileLock::exclusive(&path).expect("lock");
        assert!(FileLock::try_exclusive(&path).expect("try").is_none());
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || FileLock::exclusive(&path).expect("lock after wait")
        });
        first.remove().expect("remove");
        let second = waiter.join().expect("join");
        assert!(path.exists(), "the waiter holds a file that has a name");
        assert!(FileLock::try_exclusive(&path).expect("try").is_none());
        drop(second);
        let reader = FileLock::shared(&path).expect("shared");
        let _other = FileLock::shared(&path).expect("shared twice");
        assert!(FileLock::try_exclusive(&path).expect("try").is_none());
        drop(reader);
    }
}
