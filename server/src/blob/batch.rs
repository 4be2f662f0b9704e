//! Batches: what is written and hashed at a time, in memory that the kernel can hand to the disk.

use std::io;
use std::mem;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;

use super::ByteStream;

/// What memory, offset and length must be multiples of to be written past the page cache.
pub(super) const ALIGN: usize = 4096;

/// Bytes that are written and hashed together, in memory that starts at a multiple of [`ALIGN`].
pub(super) struct Batch {
    memory: Vec<u8>,
    begin: usize,
    room: usize,
}

impl Batch {
    /// Room for `size` bytes, or for fewer so that the file's next batch starts at a multiple of [`ALIGN`].
    pub(super) fn new(size: usize, offset: u64) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(size + ALIGN);
        let begin = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        memory.resize(begin, 0);
        Self {
            memory,
            begin,
            room: size - (offset % ALIGN as u64) as usize,
        }
    }

    pub(super) fn emptied(mut self, size: usize) -> Self {
        self.memory.truncate(self.begin);
        Self { room: size, ..self }
    }

    /// Takes what fits.
    fn take(&mut self, bytes: &mut Bytes) {
        let count = bytes.len().min(self.room);
        self.memory.extend_from_slice(&bytes[..count]);
        self.room -= count;
        bytes.advance(count);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..]
    }
}

/// Why a batch has no more.
pub(super) enum End {
    Full,
    Finished,
    Broken(io::Error),
}

/// A body, and what of its last piece did not fit a batch.
pub(super) struct Gather {
    body: ByteStream,
    rest: Bytes,
}

impl Gather {
    pub(super) fn new(body: ByteStream) -> Self {
        let rest = Bytes::new();
        Self { body, rest }
    }

    /// Fills the batch, and says why it ends there.
    pub(super) async fn fill(&mut self, batch: &mut Batch) -> End {
        loop {
            batch.take(&mut self.rest);
            if batch.room == 0 {
                return End::Full;
            }
            // Given back before the next is waited for: the connection reads into the same memory again.
            drop(mem::take(&mut self.rest));
            match self.body.next().await {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return End::Broken(error),
                None => return End::Finished,
            }
        }
    }
}
