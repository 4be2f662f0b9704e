//! A file's bytes twice: as programs see them and as they would be found after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

/// What a disk writes as a whole, in bytes.
pub(super) const BLOCK: u64 = 4096;

/// Bytes in blocks; a block that is missing is zeros.
#[derive(Debug, Clone, Default)]
struct Bytes {
    blocks: BTreeMap<u64, Arc<Vec<u8>>>,
    size: u64,
}

impl Bytes {
    /// Takes over one block of another state.
    fn adopt(&mut self, other: &Self, block: u64) {
        match other.blocks.get(&block) {
            Some(bytes) => self.blocks.insert(block, bytes.clone()),
            None => self.blocks.remove(&block),
        };
    }

    /// Sets the size; nothing beyond it stays.
    fn cut(&mut self, size: u64) {
        self.size = size;
        self.blocks.split_off(&size.div_ceil(BLOCK));
        let (last, kept) = (size / BLOCK, (size % BLOCK) as usize);
        if let Some(block) = self.blocks.get_mut(&last) {
            Arc::make_mut(block)[kept..].fill(0);
        }
    }
}

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    now: Bytes,
    durable: Bytes,
    dirty: BTreeSet<u64>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.now.size
    }

    /// Blocks that hold something.
    pub(super) fn blocks(&self) -> u64 {
        self.now.blocks.len() as u64
    }

    pub(super) fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = offset.saturating_add(length).min(self.now.size);
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let (block, from) = (at / BLOCK, (at % BLOCK) as usize);
            let to = (end - block * BLOCK).min(BLOCK) as usize;
            match self.now.blocks.get(&block) {
                Some(block) => bytes.extend_from_slice(&block[from..to]),
                None => bytes.resize(bytes.len() + to - from, 0),
            }
            at += (to - from) as u64;
        }
        bytes
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut left = data;
        let mut at = offset;
        while !left.is_empty() {
            let (block, from) = (at / BLOCK, (at % BLOCK) as usize);
            let length = left.len().min(BLOCK as usize - from);
            let (piece, rest) = left.split_at(length);
            let empty = || Arc::new(vec![0; BLOCK as usize]);
            let bytes = self.now.blocks.entry(block).or_insert_with(empty);
            Arc::make_mut(bytes)[from..from + length].copy_from_slice(piece);
            self.dirty.insert(block);
            (left, at) = (rest, at + length as u64);
        }
        self.now.size = self.now.size.max(at);
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.now.size {
            let gone = self.now.blocks.range(size / BLOCK..);
            self.dirty.extend(gone.map(|(block, _)| *block));
        }
        self.now.cut(size);
    }

    /// Makes the bytes and the size durable.
    pub(super) fn sync(&mut self) {
        for block in std::mem::take(&mut self.dirty) {
            self.durable.adopt(&self.now, block);
        }
        self.durable.cut(self.now.size);
    }

    /// A sync has failed: what was to become durable is taken for written, as kernels do, and never will be unless
    /// it is written again.
    pub(super) fn lose(&mut self) {
        self.dirty.clear();
    }

    /// Leaves what is durable; with `luck`, also any part of what is not: each block for itself, and the
    /// size for itself.
    pub(super) fn forget(&mut self, luck: Option<&mut StdRng>) {
        if let Some(luck) = luck {
            if luck.random() {
                self.durable.size = self.now.size;
            }
            for block in &self.dirty {
                if luck.random() {
                    self.durable.adopt(&self.now, *block);
                }
            }
            self.durable.cut(self.durable.size);
        }
        self.dirty.clear();
        self.now = self.durable.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let mut content = Content::default();
        content.write(4090, b"across a border");
        assert_eq!(content.size(), 4105);
        assert_eq!(content.read(4088, 100), b"\0\0across a border");
        content.resize(4092);
        content.resize(4096);
        assert_eq!(content.read(4089, 100), b"\0ac\0\0\0\0");
        assert!(content.read(4096, 1).is_empty());
    }

    #[test]
    fn only_what_was_synced_stays() {
        let mut content = Content::default();
        content.write(0, b"first");
        content.sync();
        content.write(0, b"other and longer");
        content.forget(None);
        assert_eq!(content.read(0, 100), b"first");
        content.resize(0);
        content.forget(None);
        assert_eq!(content.read(0, 100), b"first");
        content.resize(2);
        content.sync();
        content.forget(None);
        assert_eq!(content.read(0, 100), b"fi");
    }

    #[test]
    fn a_second_sync_does_not_mend_one_that_failed() {
        let mut content = Content::default();
        content.write(0, b"lost");
        content.lose();
        content.sync();
        assert_eq!(content.read(0, 4), b"lost");
        content.forget(None);
        assert_eq!(content.read(0, 4), [0; 4]);
    }

    #[test]
    fn luck_keeps_any_part() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(0, &[b'a'; 2 * BLOCK as usize]);
            content.sync();
            content.write(0, &[b'b'; 3 * BLOCK as usize]);
            content.forget(Some(&mut StdRng::seed_from_u64(seed)));
            let at = |block: u64| content.read(block * BLOCK, 1);
            seen.insert((at(0), at(1), at(2)));
        }
        // Two blocks of either kind, and a third that is absent, zeros or written.
        assert_eq!(seen.len(), 12);
    }
}
