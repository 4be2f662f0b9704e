//! Files that are being sent, as regions of the address space.
//!
//! hyper passes response bodies on as slices of memory and knows no sendfile(2). So a file is mapped, but
//! never read through the mapping: the connection recognises a slice by its address and lets the kernel
//! send the same bytes from the file. No page is touched, so no page fault blocks a thread and a
//! file that shrinks cannot raise SIGBUS.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use memmap2::Mmap;

/// The files that are mapped now, by the address of their first byte.
#[derive(Debug, Clone, Default)]
pub struct Regions(Arc<RwLock<BTreeMap<usize, Region>>>);

#[derive(Debug, Clone)]
struct Region {
    length: usize,
    file: Arc<File>,
}

impl Regions {
    /// All of a file, as bytes that a connection of these regions sends without reading them.
    pub fn map(&self, file: File) -> io::Result<Bytes> {
        // SAFETY: memory under a mapping must not change while it is borrowed. The file is content by
        // digest: it is written before it gets its name and never after; removal keeps the inode.
        let map = unsafe { Mmap::map(&file)? };
        let base = map.as_ptr() as usize;
        let region = Region {
            length: map.len(),
            file: Arc::new(file),
        };
        let mut regions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        regions.insert(base, region);
        drop(regions);
        Ok(Bytes::from_owner(Mapped {
            map,
            regions: self.clone(),
        }))
    }

    /// The file that `slice` is mapped from, and its offset there.
    pub(super) fn find(&self, slice: &[u8]) -> Option<(Arc<File>, u64)> {
        let address = slice.as_ptr() as usize;
        let regions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (base, region) = regions.range(..=address).next_back()?;
        let offset = address - base;
        let inside = offset
            .checked_add(slice.len())
            .is_some_and(|end| end <= region.length);
        inside.then(|| (Arc::clone(&region.file), offset as u64))
    }
}

/// Forgets the region before it is unmapped, so that its address can be given anew.
struct Mapped {
    map: Mmap,
    regions: Regions,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let base = self.map.as_ptr() as usize;
        let regions = &self.regions.0;
        let mut regions = regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.remove(&base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn slices_are_found_by_address_until_they_are_dropped() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&vec![7; 100_000]).expect("write");
        let regions = Regions::default();
        let all = regions.map(file).expect("map");
        let part = all.slice(5000..6000);
        drop(all);
        let (_, offset) = regions.find(&part).expect("found");
        assert_eq!(offset, 5000);
        assert!(regions.find(b"elsewhere").is_none());
        drop(part);
        assert!(regions.0.read().expect("lock").is_empty());
    }
}
