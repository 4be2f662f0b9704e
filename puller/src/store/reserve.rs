//! Room that a store keeps for the day when the disk is full: who removes something has to write a little first.
//!
//! A file of one megabyte without content, ROOT/reserve, is made when there is plenty of room. Whatever has to work on a full
//! disk gives a part of it back when it fails, and is tried again. Where blocks cannot be reserved (fallocate(2)) there is none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use super::{Store, StoreError};

/// Its name in the store.
pub(super) const NAME: &str = "reserve";
const SIZE: u64 = 1024 * 1024;
/// Given back at a time, because somebody else may be filling the disk all the while: it is room for the shared memory
/// of the index (32 KiB) and a removal.
const PART: u64 = 256 * 1024;
/// With fewer bytes free, nothing is set aside.
const PLENTY: u64 = 4 * SIZE;
/// A page of memory, and the shared memory of the index with what it may grow by.
const PAGE: u64 = 4096;
const SHARED_MEMORY: u64 = 64 * 1024;

/// Bytes that can still be written at `root`, if the file system tells.
pub(super) fn free(root: &Path) -> Option<u64> {
    let room = rustix::fs::statvfs(root).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Sets the reserve aside, if it is not there and there is plenty of room.
pub(super) fn make(root: &Path) {
    let path = root.join(NAME);
    let there = fs::symlink_metadata(&path).map_or(0, |file| file.len());
    if there >= SIZE || free(root).is_none_or(|free| free < PLENTY) {
        return;
    }
    let make = || -> io::Result<()> {
        let mut options = File::options();
        let file = options.write(true).create(true).mode(0o600).open(&path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
    };
    // Without it a full disk is a nuisance, no more.
    if let Err(error) = make() {
        tracing::debug!(%error, "no room is set aside for a full disk");
    }
}

/// Gives a part of the reserve back; `false` when nothing is left.
fn release(root: &Path) -> bool {
    let path = root.join(NAME);
    let Ok(left) = fs::symlink_metadata(&path).map(|file| file.len()) else {
        return false;
    };
    let file = File::options().write(true).open(&path);
    let cut = file.and_then(|file| file.set_len(left.saturating_sub(PART)));
    left > 0 && cut.is_ok()
}

/// Makes room for the index's shared memory where it has to be there beforehand. SQLite asks for a byte in each of its
/// pages; where blocks are smaller than pages, the rest is asked for when it is written to, and the kernel kills a
/// process for which there is no room then (mmap(2), SIGBUS).
pub(super) fn before_mapping(root: &Path) {
    let has_small_blocks = rustix::fs::statvfs(root).is_ok_and(|room| room.f_frsize < PAGE);
    let seems_full = || free(root).is_some_and(|free| free < SHARED_MEMORY);
    if has_small_blocks && seems_full() && !can_grow(root) {
        release(root);
    }
}

/// Whether there is room for the shared memory of the index. Root may have more than is free for all, and nobody all
/// that is free, so only to try tells.
fn can_grow(root: &Path) -> bool {
    let try_it = || -> io::Result<()> {
        let file = File::options().write(true).open(root.join(NAME))?;
        let length = file.metadata()?.len();
        let grown = fallocate(&file, FallocateFlags::empty(), length, SHARED_MEMORY);
        file.set_len(length)?;
        Ok(grown?)
    };
    try_it().is_ok()
}

/// Does what has to be possible on a full disk, with parts of the reserve as far as it takes them.
pub(super) fn with_room<T, E>(
    root: &Path,
    is_of_a_full_disk: impl Fn(&E) -> bool,
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match work() {
            Err(error) if is_of_a_full_disk(&error) && release(root) => {}
            done => return done,
        }
    }
}

impl Store {
    /// [`with_room`] for what removes something from this store.
    pub(super) fn with_room<T>(
        &self,
        work: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        with_room(&self.root, StoreError::is_of_a_full_disk, work)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_has_no_room_gets_the_reserve_in_parts_until_it_is_used_up() {
        let dir = tempfile::tempdir().expect("tempdir");
        make(dir.path());
        let reserve = || fs::metadata(dir.path().join(NAME)).expect("reserve");
        assert_eq!(
            (reserve().len(), reserve().blocks() * 512 >= SIZE),
            (SIZE, true)
        );
        let tries = Cell::new(0);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let done = with_room(dir.path(), is_full, || {
            tries.set(tries.get() + 1);
            if tries.get() > 2 { Ok(()) } else { Err(full()) }
        });
        done.expect("the second part was enough");
        assert_eq!(reserve().len(), SIZE - 2 * PART);
        let other = with_room(dir.path(), is_full, || Err::<(), _>(io::Error::other("no")));
        assert_eq!(
            other.expect_err("something else").kind(),
            io::ErrorKind::Other
        );
        assert_eq!(
            reserve().len(),
            SIZE - 2 * PART,
            "it is for a full disk alone"
        );
        tries.set(0);
        let never = with_room(dir.path(), is_full, || {
            tries.set(tries.get() + 1);
            Err::<(), _>(full())
        });
        assert_eq!((never.is_err(), tries.get(), reserve().len()), (true, 3, 0));
        make(dir.path());
        assert_eq!(reserve().len(), SIZE, "made again when there is room");
    }
}
