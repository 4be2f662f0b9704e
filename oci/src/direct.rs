//! Writing large files past the page cache (open(2), O_DIRECT), where the file system can do that.
//!
//! The page cache costs a copy and the allocation of every page: half of the work of receiving a large
//! blob. What is written once and read much later, or by somebody else, gains nothing from it; the
//! memory of the machine is left to what is read.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

/// What memory, offset and length must be multiples of to be written past the page cache.
pub const ALIGN: usize = 4096;

/// Fewer bytes are not worth it.
const WORTH: usize = 256 * 1024;

/// Bytes that are written together, in memory that starts at a multiple of [`ALIGN`].
pub struct Batch {
    memory: Vec<u8>,
    begin: usize,
    room: usize,
}

impl Batch {
    /// Room for `size` bytes (a multiple of [`ALIGN`]), or for fewer so that the next batch of a file,
    /// of which this one begins at `offset`, starts at a multiple of [`ALIGN`].
    pub fn new(size: usize, offset: u64) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(size + ALIGN);
        let begin = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        memory.resize(begin, 0);
        Self {
            memory,
            begin,
            room: room(size, offset),
        }
    }

    /// The same memory for a batch that begins at `offset`; `size` as it was in [`Batch::new`].
    #[must_use]
    pub fn emptied(mut self, size: usize, offset: u64) -> Self {
        self.memory.truncate(self.begin);
        let room = room(size, offset);
        Self { room, ..self }
    }

    /// Takes what fits, and says how many bytes that were.
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room);
        self.memory.extend_from_slice(&bytes[..count]);
        self.room -= count;
        count
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.room == 0
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..]
    }
}

fn room(size: usize, offset: u64) -> usize {
    size - (offset % ALIGN as u64) as usize
}

/// Whether a file is open for writing past the page cache.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direct {
    On,
    Off,
    /// The file system does not do that, or it is not wanted.
    Never,
}

/// A file that is written from an offset on: whole batches past the page cache, the rest through it.
pub struct DirectFile {
    file: File,
    offset: u64,
    direct: Direct,
}

impl DirectFile {
    /// Writes to `file` from `offset` on. Nobody else may write through the same open file description
    /// (open(2)) meanwhile: the flag belongs to that. It must not be open for appending.
    pub fn new(file: File, offset: u64) -> Self {
        Self {
            file,
            offset,
            direct: Direct::Off,
        }
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the last write went past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct == Direct::On
    }

    /// From now on everything goes through the page cache.
    fn through_cache(&mut self) {
        self.set(false);
        self.direct = Direct::Never;
    }

    /// Writes all of `bytes`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let whole = bytes.len() >= WORTH && bytes.len().is_multiple_of(ALIGN);
        self.set(whole && self.offset.is_multiple_of(ALIGN as u64));
        let mut written = self.file.write_all_at(bytes, self.offset);
        if self.is_direct() && matches!(&written, Err(e) if e.kind() == io::ErrorKind::InvalidInput)
        {
            self.through_cache();
            written = self.file.write_all_at(bytes, self.offset);
        }
        written?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn set(&mut self, wanted: bool) {
        let wanted = if wanted { Direct::On } else { Direct::Off };
        if self.direct == wanted || self.direct == Direct::Never {
            return;
        }
        let set = fcntl_getfl(&self.file).and_then(|mut flags| {
            flags.set(OFlags::DIRECT, wanted == Direct::On);
            fcntl_setfl(&self.file, flags)
        });
        self.direct = if set.is_ok() { wanted } else { Direct::Never };
    }
}

/// `RWF_DONTCACHE` of pwritev2(2) (Linux 6.14): what is written goes to the disk at once, and out of the page cache
/// as soon as it is there, so the next file is written to the same memory.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Writes all of `bytes` at the beginning of a new file, and waits for nothing: for files that are too small to be
/// worth a wait for the disk, which is what going past the page cache means. Where kernel or file system cannot do
/// that, it is like any other write. One call a file, so that nothing is ever added to a page that is being dropped: the
/// first kernels that had this lost such bytes.
pub fn write_through(file: &File, bytes: &[u8]) -> io::Result<()> {
    static LACKING: AtomicBool = AtomicBool::new(false);
    let mut written = 0;
    if !LACKING.load(Ordering::Relaxed) {
        match pwritev2(file, &[IoSlice::new(bytes)], 0, DONTCACHE) {
            Ok(count) => written = count,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                LACKING.store(true, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match bytes.get(written..) {
        Some(rest) if !rest.is_empty() => file.write_all_at(rest, written as u64),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::time::Duration;

    use rustix::io::preadv2;

    use super::*;

    #[test]
    fn batches_of_any_beginning_make_the_whole() {
        let whole: Vec<u8> = (0..3 * WORTH + 777).map(|i| (i ^ (i >> 9)) as u8).collect();
        for begin in [0, 5, ALIGN] {
            let file = tempfile::tempfile().expect("a file");
            let mut target = DirectFile::new(file, begin as u64);
            target
                .file()
                .write_all_at(&whole[..begin], 0)
                .expect("write");
            let mut batch = Batch::new(WORTH, begin as u64);
            let mut rest = &whole[begin..];
            while !rest.is_empty() {
                rest = &rest[batch.take(rest)..];
                assert_eq!(
                    batch.is_full(),
                    !rest.is_empty() || batch.bytes().len() == WORTH
                );
                target.write(batch.bytes()).expect("write");
                batch = batch.emptied(WORTH, target.offset());
            }
            target.through_cache();
            assert!(!target.is_direct());
            let mut read = vec![0; whole.len()];
            target.file().read_exact_at(&mut read, 0).expect("read");
            assert!(read == whole, "{begin}");
        }
    }

    #[test]
    fn what_is_written_through_is_all_there() {
        for size in [0, 1, 4095, 4096, 70_001, 3 * WORTH + 777] {
            let whole: Vec<u8> = (0..size).map(|i| (i ^ (i >> 9)) as u8).collect();
            let file = tempfile::tempfile_in(".").expect("a file");
            write_through(&file, &whole).expect("write");
            let mut read = vec![0; size];
            file.read_exact_at(&mut read, 0).expect("read");
            assert!(read == whole, "{size}");
            assert_eq!(file.metadata().expect("look").len(), size as u64);
        }
        let (reader, _writer) = io::pipe().expect("a pipe");
        let closed = File::from(std::os::fd::OwnedFd::from(reader));
        assert!(write_through(&closed, b"bytes").is_err());
    }

    #[test]
    fn what_is_written_through_does_not_stay_in_the_cache() {
        type Write = fn(&File, &[u8]) -> io::Result<()>;
        let file = || tempfile::tempfile_in(".").expect("a file");
        let bytes = vec![7; 100_000];
        // Whether a read finds something without asking the disk. It asks only once: that brings it back.
        let stays = |write: Write| {
            let file = file();
            write(&file, &bytes).expect("write");
            file.sync_all().expect("sync");
            std::thread::sleep(Duration::from_millis(20));
            let mut buffer = [0; 4096];
            let (buffer, nowait) = (&mut [IoSliceMut::new(&mut buffer)], ReadWriteFlags::NOWAIT);
            !matches!(preadv2(file, buffer, 0, nowait), Err(Errno::AGAIN))
        };
        assert!(stays(|file, bytes| file.write_all_at(bytes, 0)));
        let able = pwritev2(file(), &[IoSlice::new(&bytes)], 0, DONTCACHE).is_ok();
        let drops = (0..50).any(|_| !stays(write_through));
        assert_eq!(drops, able);
    }
}
