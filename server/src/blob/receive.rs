//! Receiving an upload: the socket, the disk and the hash work at the same time, on different cores.
//!
//! Bytes are gathered into batches; while one is gathered, the one before it is written by one thread
//! and hashed by another. No thread waits for a slow client, and at most three batches are in
//! memory. The kernel is told to start writing early, so that the fsync at the end finds little to do.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use strata_oci::Digester;
use strata_oci::cas::sync_dir;
use tokio::task::{JoinHandle, spawn_blocking};

use super::disk::open_staged;
use super::writeback;
use super::{Appended, BlobError, ByteStream};
use crate::upload::{Position, UploadId};

/// Bytes handed to the threads at a time: much more than the hand-over costs, and little enough that they
/// are still in the processor's cache.
const BATCH: usize = 256 * 1024;

/// The kernel is told to write each time this many bytes have come.
const WRITEBACK: u64 = 8 * 1024 * 1024;

type Batch = Arc<Vec<Bytes>>;

/// Appends `body` at `position` to the file at `path`; see [`super::BlobStore::append`].
pub(super) async fn receive(
    id: &UploadId,
    path: PathBuf,
    position: Position,
    mut body: ByteStream,
) -> Result<Appended, BlobError> {
    let start = position.offset;
    let mut sink = Sink::Closed {
        id: id.clone(),
        path: path.clone(),
        start,
    };
    let mut hash: Hash = Hash::Ready(Box::new(position.digester));
    let mut interrupted = None;
    loop {
        let (batch, end) = gather(&mut body).await;
        let last = match end {
            End::Full => false,
            End::Finished => true,
            End::Broken(error) => {
                interrupted = Some(error);
                true
            }
        };
        let written = sink.start(Arc::clone(&batch), last).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => return Err(rolled_back(path, start, error).await),
        };
        if last {
            // A last batch is usually short: hash it while the file is synced.
            let digester = *hash.take(batch).await?.join().await?;
            return match written.finish().await {
                Ok(target) => Ok(Appended {
                    position: Position {
                        offset: target.offset,
                        digester,
                    },
                    interrupted,
                }),
                Err(error) => Err(rolled_back(path, start, error).await),
            };
        }
        hash = hash.take(batch).await?;
        sink = Sink::Busy(written);
    }
}

enum End {
    Full,
    Finished,
    Broken(io::Error),
}

/// The next batch of the body, and why it ends there.
async fn gather(body: &mut ByteStream) -> (Batch, End) {
    let (mut batch, mut size) = (Vec::new(), 0);
    let end = loop {
        if size >= BATCH {
            break End::Full;
        }
        match body.next().await {
            Some(Ok(bytes)) if bytes.is_empty() => {}
            Some(Ok(bytes)) => {
                size += bytes.len();
                batch.push(bytes);
            }
            Some(Err(error)) => break End::Broken(error),
            None => break End::Finished,
        }
    };
    (Arc::new(batch), end)
}

/// The file, or the thread that is writing to it.
enum Sink {
    Closed {
        id: UploadId,
        path: PathBuf,
        start: u64,
    },
    Busy(Writing),
}

struct Writing(JoinHandle<Result<Target, BlobError>>);

struct Target {
    file: File,
    path: PathBuf,
    start: u64,
    offset: u64,
    told: u64,
}

impl Sink {
    /// Waits for the batch before, then writes this one on another thread; syncs after the last.
    async fn start(self, batch: Batch, last: bool) -> Result<Writing, BlobError> {
        let ready = match self {
            Sink::Busy(writing) => Ok(writing.finish().await?),
            Sink::Closed { id, path, start } => Err((id, path, start)),
        };
        Ok(Writing(spawn_blocking(move || {
            let mut target = match ready {
                Ok(target) => target,
                Err((id, path, start)) => Target::open(&id, path, start)?,
            };
            target.write(&batch)?;
            if last {
                target.sync()?;
            }
            Ok(target)
        })))
    }
}

impl Writing {
    async fn finish(self) -> Result<Target, BlobError> {
        match self.0.await {
            Ok(outcome) => outcome,
            Err(error) => Err(BlobError::new("cannot work on", "a thread", error.into())),
        }
    }
}

impl Target {
    /// Opens the file and drops what it holds beyond `start`: bytes of a request that was cut off by a crash.
    fn open(id: &UploadId, path: PathBuf, start: u64) -> Result<Self, BlobError> {
        let mut file = open_staged(id, &path, start)?;
        file.set_len(start)
            .and_then(|()| file.seek(SeekFrom::Start(start)))
            .map_err(|e| BlobError::new("cannot resume", &path, e))?;
        Ok(Self {
            file,
            path,
            start,
            offset: start,
            told: start,
        })
    }

    fn write(&mut self, batch: &[Bytes]) -> Result<(), BlobError> {
        for bytes in batch {
            let written = self.file.write_all(bytes);
            written.map_err(|e| BlobError::new("cannot write", &self.path, e))?;
            self.offset += bytes.len() as u64;
        }
        if self.offset - self.told >= WRITEBACK {
            writeback::start(&self.file, self.told, self.offset - self.told);
            self.told = self.offset;
        }
        Ok(())
    }

    /// Makes what was written durable, and the name of a file that is new: an offset is told to the client.
    fn sync(&self) -> Result<(), BlobError> {
        let synced = self
            .file
            .sync_data()
            .and_then(|()| match self.path.parent() {
                Some(uploads) if self.start == 0 => sync_dir(uploads),
                _ => Ok(()),
            });
        synced.map_err(|e| BlobError::new("cannot sync", &self.path, e))
    }
}

/// The digester, or the thread that has it.
enum Hash {
    Ready(Box<Digester>),
    Busy(JoinHandle<Box<Digester>>),
}

impl Hash {
    /// Waits for the batch before, then hashes this one on another thread.
    async fn take(self, batch: Batch) -> Result<Self, BlobError> {
        let mut digester = self.join().await?;
        let size: usize = batch.iter().map(Bytes::len).sum();
        if size <= 16 * 1024 {
            // Less than the cost of another thread.
            batch.iter().for_each(|bytes| digester.update(bytes));
            return Ok(Hash::Ready(digester));
        }
        Ok(Hash::Busy(spawn_blocking(move || {
            batch.iter().for_each(|bytes| digester.update(bytes));
            digester
        })))
    }

    async fn join(self) -> Result<Box<Digester>, BlobError> {
        match self {
            Hash::Ready(digester) => Ok(digester),
            Hash::Busy(task) => task
                .await
                .map_err(|e| BlobError::new("cannot work on", "a thread", e.into())),
        }
    }
}

/// Frees what a failed append has written: on a full disk it would stay full.
async fn rolled_back(path: PathBuf, start: u64, error: BlobError) -> BlobError {
    if matches!(error, BlobError::Lost(_)) {
        return error;
    }
    let truncate = move || File::options().write(true).open(&path)?.set_len(start);
    if let Ok(Err(failed)) = spawn_blocking(truncate).await {
        tracing::warn!("cannot free what a failed upload has written: {failed}");
    }
    error
}
