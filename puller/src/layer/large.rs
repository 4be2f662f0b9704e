//! Large files go to the disk past the page cache: what is written there need not be copied, found again and written back,
//! which is half of the kernel's work for a layer of few large files, and the sync at the end finds little to do. Who
//! starts the container reads them from the disk once; small ones, most of what a program opens, are still in memory.
//! Those between go through the cache and do not stay there: memory that is used again and again is cheaper than fresh
//! memory for each of them, far cheaper in a virtual machine whose host takes back what is free.
//!
//! The disk takes its time for each batch, so the next one is gathered meanwhile. Of many layers at once only the first
//! few do so: the others keep the processors busy anyway, and memory is bounded.

use std::fs::File;
use std::io::{self, BufRead};
use std::panic::resume_unwind;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use strata_oci::direct::{Batch, DirectFile, write_through};

use super::error::LayerError;
use super::tar::TarReader;
use crate::few::Few;

/// Bytes of a file from which on it is large.
pub(super) const FROM: u64 = 1 << 20;
/// Bytes of a file from which on it does not stay in the page cache: with fewer, asking the disk for each file takes
/// longer than fresh memory does.
pub(super) const MIDDLE: u64 = 64 << 10;
/// Bytes that are written at once.
const BATCH: usize = 256 << 10;
/// Bytes of a file from which on a thread of its own is worth it.
const BEHIND_FROM: u64 = 4 << 20;
/// Bytes that such a thread writes at once, while as many are gathered.
const BEHIND: usize = 1 << 20;
/// Those that have such a thread.
static BEHIND_OF: Few = Few::new(2);

/// Writes the content of the present entry, which has `size` bytes.
pub(super) fn write<R: BufRead>(
    file: &File,
    path: &[u8],
    size: u64,
    archive: &mut TarReader<R>,
) -> Result<(), LayerError> {
    let failed = |error| LayerError::entry("write the content", path)(error);
    let mut target = DirectFile::new(file.try_clone().map_err(failed)?, 0);
    let turn = (size >= BEHIND_FROM).then(|| BEHIND_OF.take()).flatten();
    if turn.is_none() {
        let mut batch = Batch::new(BATCH, 0);
        while gather(archive, &mut batch)? {
            target.write(batch.bytes()).map_err(failed)?;
            batch = batch.emptied(BATCH, 0);
        }
        return Ok(());
    }
    thread::scope(|scope| {
        let (full, written) = sync_channel::<Batch>(0);
        let (give_back, empty) = channel();
        let writing = scope.spawn(move || {
            for batch in written {
                target.write(batch.bytes())?;
                // At the end nobody waits for it.
                let _ = give_back.send(batch);
            }
            Ok::<_, io::Error>(())
        });
        let mut batch = Batch::new(BEHIND, 0);
        let mut spare = Some(Batch::new(BEHIND, 0));
        let gathered = loop {
            match gather(archive, &mut batch) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
            // Where the thread has ended, what it says is the reason.
            if full.send(batch).is_err() {
                break Ok(());
            }
            batch = match spare.take().or_else(|| empty.recv().ok()) {
                Some(batch) => batch.emptied(BEHIND, 0),
                None => break Ok(()),
            };
        };
        drop(full);
        let written = writing.join().unwrap_or_else(|panic| resume_unwind(panic));
        gathered.and(written.map_err(failed))
    })
}

/// Writes the content of the present entry, a file that is not small and has `size` bytes, fewer than [`FROM`].
/// What comes in parts is `gathered` first.
pub(super) fn write_middle<R: BufRead>(
    file: &File,
    path: &[u8],
    size: u64,
    archive: &mut TarReader<R>,
    gathered: &mut Vec<u8>,
) -> Result<(), LayerError> {
    let failed = |error| LayerError::entry("write the content", path)(error);
    let bytes = archive.content()?;
    let count = bytes.len();
    if count as u64 == size {
        write_through(file, bytes).map_err(failed)?;
        archive.consume(count);
        return Ok(());
    }
    gathered.clear();
    loop {
        let bytes = archive.content()?;
        let count = bytes.len();
        if count == 0 {
            return write_through(file, gathered).map_err(failed);
        }
        gathered.extend_from_slice(bytes);
        archive.consume(count);
    }
}

/// Fills `batch` with what comes next. Says whether there was anything.
fn gather<R: BufRead>(archive: &mut TarReader<R>, batch: &mut Batch) -> Result<bool, LayerError> {
    while !batch.is_full() {
        let bytes = archive.content()?;
        let count = batch.take(bytes);
        if count == 0 {
            break;
        }
        archive.consume(count);
    }
    Ok(!batch.bytes().is_empty())
}
