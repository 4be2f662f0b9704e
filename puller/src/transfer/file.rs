//! Writing a blob into a file while it is hashed: receiving, writing and hashing overlap on different threads.
//!
//! Bytes are gathered into batches; while one is gathered, the one before it is written by one thread and hashed
//! by another. A few batches are in memory, used over and over. Whole ones go to the disk past the page cache.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use strata_oci::Descriptor;
use strata_oci::direct::{ALIGN, Batch, DirectFile};
use strata_oci::verify::Verifier;
use tokio::task::{JoinHandle, spawn_blocking};

use super::follow::Writer;
use super::throttle::Throttle;
use super::{Incoming, TransferError};
use crate::few::Few;
use crate::registry::BlobStream;

/// Bytes of a batch: with more, the disk and the threads are asked less often.
const BATCH: usize = 1 << 20;
/// The same where somebody follows, who holds several, for all but a few large ones.
const FOLLOWED: usize = 256 << 10;
/// Bytes of a blob that is large.
const LARGE: u64 = 32 << 20;
/// Those large ones.
static LARGEST: Few = Few::new(2);
/// Less is not worth a thread.
const SMALL: usize = 64 << 10;
/// Bytes that are read from a file at a time.
const CHUNK: usize = 256 << 10;
/// A batch that is not full by then is written as it is: a kill costs no more than what comes in this time.
const PATIENCE: Duration = Duration::from_millis(20);
/// Bytes on their way into a file, not proved yet.
pub(crate) enum Input<'a> {
    /// In memory.
    Memory(Option<Bytes>),
    /// The rest of a file's part.
    File(io::Take<File>),
    /// From a registry, in their order.
    Stream(Box<BlobStream>),
    /// From a registry, over as many connections as help.
    Registry(Box<Incoming<'a>>),
}

impl Input<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.take().filter(|bytes| !bytes.is_empty())),
            Self::File(file) => {
                let mut buffer = BytesMut::zeroed(CHUNK);
                let count = file.read(&mut buffer)?;
                buffer.truncate(count);
                Ok((count > 0).then(|| buffer.freeze()))
            }
            Self::Stream(stream) => Ok(stream.next().await?),
            Self::Registry(incoming) => incoming.next().await,
        }
    }

    /// Bytes that came over the network, or would have.
    pub(crate) fn travelled(&self) -> Option<u64> {
        match self {
            Self::Memory(_) | Self::File(_) => None,
            Self::Stream(stream) => Some(stream.travelled()),
            Self::Registry(incoming) => Some(incoming.travelled()),
        }
    }

    /// How many bytes of the blob are here, of which `at` are given out.
    fn here(&self, at: u64) -> u64 {
        match self {
            Self::Registry(incoming) => incoming.here(),
            _ => at,
        }
    }
}

/// Where a blob goes: the bytes of a file from `offset` on.
pub(crate) struct Place {
    /// Opened for writing by nobody else, and not for appending.
    pub(crate) file: File,
    pub(crate) offset: u64,
    /// How many of the bytes are there, and the file, opened for reading.
    pub(crate) kept: Option<(u64, File)>,
}

/// Writes the bytes that follow those that are kept, and proves the whole. `follower` gets them too, not
/// proved yet; when it has gone, the transfer is [`TransferError::Interrupted`].
pub(crate) async fn write_blob(
    input: &mut Input<'_>,
    blob: &Descriptor,
    place: Place,
    throttle: Option<&Throttle>,
    follower: Option<&Writer>,
    report: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), TransferError> {
    let Place { file, offset, kept } = place;
    let mut hash = Hash::new(blob);
    let kept = match kept {
        Some((kept, reader)) => {
            hash = hash.of_kept(reader, offset, kept);
            kept
        }
        None => 0,
    };
    let mut sink = Sink::Ready(DirectFile::new(file, offset + kept));
    let turn = follower
        .filter(|_| blob.size >= LARGE)
        .and_then(|_| LARGEST.take());
    let most = match follower {
        Some(_) if turn.is_none() => FOLLOWED,
        _ => BATCH,
    };
    let size = usize::try_from(blob.size - kept).unwrap_or(most);
    let size = size.next_multiple_of(ALIGN).clamp(2 * ALIGN, most);
    let mut gather = Gather::default();
    let mut batch = Batch::new(size, offset + kept);
    let mut at = kept;
    let mut given = Vec::new();
    loop {
        let filled = gather.fill(&mut batch, input, throttle).await;
        at += batch.bytes().len() as u64;
        let full = Arc::new(batch);
        sink = sink.take(full.clone()).await?;
        hash = hash.take(full.clone()).await?;
        let followed = match follower {
            Some(follower) => follower.take(full.clone()).await,
            None => Ok(()),
        };
        report(input.here(at));
        match filled {
            Ok(_) if followed.is_err() => {
                sink.finish().await?;
                return Err(TransferError::Interrupted);
            }
            Ok(Filled::More) => {}
            Ok(Filled::Last) => break,
            Err(error) => {
                // The next try looks at how long the file is.
                sink.finish().await?;
                return Err(error);
            }
        }
        given.push(full);
        // The file and the hash are done with all but the last, a follower holds a few.
        let free = given.iter().position(|batch| Arc::strong_count(batch) == 1);
        let free = free.and_then(|free| Arc::into_inner(given.swap_remove(free)));
        batch = match free {
            Some(free) => free.emptied(size, offset + at),
            None => Batch::new(size, offset + at),
        };
    }
    sink.finish().await?;
    Ok(hash.join().await?.finish()?)
}

#[derive(PartialEq)]
enum Filled {
    More,
    Last,
}

/// What of the last chunk did not fit.
#[derive(Default)]
struct Gather(Bytes);

impl Gather {
    async fn fill(
        &mut self,
        batch: &mut Batch,
        input: &mut Input<'_>,
        throttle: Option<&Throttle>,
    ) -> Result<Filled, TransferError> {
        let began = Instant::now();
        loop {
            let taken = batch.take(&self.0);
            self.0.advance(taken);
            if batch.is_full() || (began.elapsed() > PATIENCE && !batch.bytes().is_empty()) {
                return Ok(Filled::More);
            }
            match input.next().await? {
                None => return Ok(Filled::Last),
                Some(chunk) => {
                    if let Some(throttle) = throttle {
                        throttle.pass(chunk.len()).await;
                    }
                    self.0 = chunk;
                }
            }
        }
    }
}

/// The file, or the thread that writes to it.
enum Sink {
    Ready(DirectFile),
    Busy(JoinHandle<io::Result<DirectFile>>),
}

impl Sink {
    /// Waits for the batch before, then writes this one.
    async fn take(self, batch: Arc<Batch>) -> Result<Self, TransferError> {
        let mut target = self.finish().await?;
        if batch.bytes().len() <= SMALL {
            target.write(batch.bytes())?;
            return Ok(Self::Ready(target));
        }
        Ok(Self::Busy(spawn_blocking(move || {
            target.write(batch.bytes())?;
            Ok(target)
        })))
    }

    async fn finish(self) -> Result<DirectFile, TransferError> {
        match self {
            Self::Ready(target) => Ok(target),
            Self::Busy(task) => Ok(task.await.map_err(|_| TransferError::Interrupted)??),
        }
    }
}

/// The verifier, or the thread that has it.
enum Hash {
    Ready(Box<Verifier>),
    Busy(JoinHandle<Result<Box<Verifier>, TransferError>>),
}

impl Hash {
    fn new(blob: &Descriptor) -> Self {
        Self::Ready(Box::new(Verifier::new(blob.digest.clone(), blob.size)))
    }

    /// Hashes first what is there.
    fn of_kept(self, file: File, offset: u64, kept: u64) -> Self {
        let Self::Ready(mut verifier) = self else {
            return self;
        };
        Self::Busy(spawn_blocking(move || {
            hash_kept(&file, offset, kept, &mut verifier)?;
            Ok(verifier)
        }))
    }

    /// Waits for the batch before, then hashes this one.
    async fn take(self, batch: Arc<Batch>) -> Result<Self, TransferError> {
        let mut verifier = self.join().await?;
        if batch.bytes().len() <= SMALL {
            verifier.update(batch.bytes())?;
            return Ok(Self::Ready(verifier));
        }
        Ok(Self::Busy(spawn_blocking(move || {
            verifier.update(batch.bytes())?;
            Ok(verifier)
        })))
    }

    async fn join(self) -> Result<Box<Verifier>, TransferError> {
        match self {
            Self::Ready(verifier) => Ok(verifier),
            Self::Busy(task) => task.await.map_err(|_| TransferError::Interrupted)?,
        }
    }
}

/// Hashes `kept` bytes of a file from `offset` on.
fn hash_kept(
    file: &File,
    offset: u64,
    kept: u64,
    verifier: &mut Verifier,
) -> Result<(), TransferError> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < kept {
        let most = usize::try_from(kept - at).unwrap_or(CHUNK).min(CHUNK);
        file.read_exact_at(&mut buffer[..most], offset + at)?;
        verifier.update(&buffer[..most])?;
        at += most as u64;
    }
    Ok(())
}
