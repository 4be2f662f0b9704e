//! Large files go to the disk past the page cache: what is written there need not be copied, found again and written back,
//! which is half of the kernel's work for a layer of few large files, and the sync at the end finds little to do. Who
//! starts the container reads them from the disk once; small ones, most of what a program opens, are still in memory.

use std::fs::File;
use std::io::BufRead;

use strata_oci::direct::{Batch, DirectFile, Pace};

use super::error::LayerError;
use super::tar::TarReader;

/// Bytes of a file from which on it is large.
pub(super) const FROM: u64 = 1 << 20;
/// Bytes that are written at once.
const BATCH: usize = 256 << 10;

/// Writes the content of the present entry.
pub(super) fn write<R: BufRead>(
    file: &File,
    path: &[u8],
    archive: &mut TarReader<R>,
    pace: &mut Pace,
) -> Result<(), LayerError> {
    let failed = |error| LayerError::entry("write the content", path)(error);
    let mut target = DirectFile::new(file.try_clone().map_err(failed)?, 0);
    let mut batch = Batch::new(BATCH, 0);
    loop {
        let bytes = archive.content()?;
        let count = batch.take(bytes);
        if batch.is_full() || count == 0 {
            pace.write(&mut target, batch.bytes()).map_err(failed)?;
            batch = batch.emptied(BATCH, 0);
        }
        if count == 0 {
            return Ok(());
        }
        archive.consume(count);
    }
}
