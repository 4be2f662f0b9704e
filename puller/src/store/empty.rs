//! Deleting what was removed, by whoever has time for it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::lock::FileLock;
use super::trash::Trash;
use super::{Store, StoreError};

/// How often to look whether layers are being unpacked, in entries deleted.
const LOOK: u32 = 64;
/// How long nothing must have been unpacked.
const QUIET: Duration = Duration::from_secs(2);
/// How long to wait for that at most: what is never deleted fills the disk.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(100);

/// How urgent the space is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Now: the caller waits.
    Now,
    /// When nobody unpacks layers, at most some minutes from now.
    WhenQuiet,
}

impl Store {
    /// Whether something that was removed still takes space.
    pub fn has_trash(&self) -> bool {
        trash_of(&self.root).is_some()
    }

    /// Deletes what was removed from the store. See [`empty_trash`].
    pub fn empty_trash(&self, urgency: Urgency) -> Result<(), StoreError> {
        empty_trash(&self.root, urgency)
    }
}

/// Whether something that was removed from the store at `root` waits to be deleted, and how urgent that is: with less
/// than a tenth of the file system free, space goes before time.
pub fn trash_of(root: &Path) -> Option<Urgency> {
    let mut trash = fs::read_dir(root.join("trash")).ok()?;
    trash.next()?.ok()?;
    let short = rustix::fs::statvfs(root).is_ok_and(|fs| fs.f_bavail < fs.f_blocks / 10);
    Some(match short {
        true => Urgency::Now,
        false => Urgency::WhenQuiet,
    })
}

/// Deletes what was removed from the store at `root`, which need not be open. Removing anything only takes it
/// out of sight, so somebody has to call this: the `strata` command does, in a process of its own, after each
/// command that finds something. Blocking; returns at once when another process is at it, or when there is
/// no store any more.
pub fn empty_trash(root: &Path, urgency: Urgency) -> Result<(), StoreError> {
    let trash = root.join("trash");
    if !trash.is_dir() {
        return Ok(());
    }
    let began = Instant::now();
    if urgency == Urgency::WhenQuiet {
        // Nothing is held open meanwhile, so that the file system can be unmounted.
        wait(root, began, QUIET);
    }
    let path = root.join("locks/trash");
    if !trash.is_dir() {
        return Ok(());
    }
    let lock = match urgency {
        Urgency::Now => FileLock::exclusive(&path).map(Some),
        Urgency::WhenQuiet => FileLock::try_exclusive(&path),
    };
    let Some(_lock) = lock.map_err(StoreError::io("lock", &path))? else {
        return Ok(());
    };
    let mut deleted = 0;
    let mut go_on = || {
        deleted += 1;
        if urgency == Urgency::WhenQuiet && deleted % LOOK == 0 {
            wait(root, began, Duration::ZERO);
        }
        true
    };
    let emptied = Trash::new(trash.clone()).empty(&mut go_on);
    emptied.map_err(StoreError::io("empty", &trash))
}

/// Waits until nothing has been unpacked for a while.
fn wait(root: &Path, began: Instant, quiet: Duration) {
    let mut since = Instant::now();
    while began.elapsed() < PATIENCE {
        if is_unpacking(root) {
            since = Instant::now();
        } else if since.elapsed() >= quiet {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether something is staged. What a crash left looks the same: the next who opens the store sweeps it.
fn is_unpacking(root: &Path) -> bool {
    let staged = fs::read_dir(root.join("staging"));
    staged.is_ok_and(|mut staged| staged.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, publish, stage};
    use super::*;

    #[test]
    fn what_is_removed_is_out_of_sight_at_once_and_deleted_when_nobody_unpacks() {
        let fixture = Fixture::new();
        let store = fixture.open();
        publish(&store, &["base"], Some("a"));
        let live = stage(&store, "live");
        store.remove_image("a", false).expect("remove");
        assert!(fixture.entries("layers").is_empty());
        assert!(store.has_trash());
        // Whoever opens the store next does not wait for it either.
        drop(fixture.open());
        assert!(store.has_trash());
        std::thread::scope(|scope| {
            let emptying = scope.spawn(|| store.empty_trash(Urgency::WhenQuiet));
            std::thread::sleep(QUIET + Duration::from_millis(500));
            assert!(store.has_trash(), "a layer is being unpacked");
            drop(live);
            emptying.join().expect("join").expect("empty");
        });
        assert!(!store.has_trash());
    }

    #[test]
    fn who_needs_the_space_does_not_wait_and_a_store_that_is_gone_is_no_error() {
        let fixture = Fixture::new();
        let store = fixture.open();
        publish(&store, &["base"], Some("a"));
        let _live = stage(&store, "live");
        store.remove_image("a", false).expect("remove");
        store.empty_trash(Urgency::Now).expect("empty");
        assert!(!store.has_trash());
        empty_trash(&fixture.root().join("none"), Urgency::Now).expect("nothing to do");
    }
}
