//! Receiving an upload: the socket, the disk and the hash work at the same time, on different cores.
//!
//! Bytes are gathered into batches; while one is gathered, the one before it is written by one thread
//! and hashed by another. No thread waits for a slow client, and two batches are in memory, used over and
//! over. Whole batches go to the disk past the page cache where the file system can do that
//! (open(2), O_DIRECT): that is half of the work of an upload, and it leaves the memory of the machine to
//! what is pulled.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use strata_oci::Digester;
use strata_oci::cas::sync_dir;
use strata_oci::direct::{Batch, DirectFile};
use tokio::task::{JoinHandle, spawn_blocking};

use super::batch::{End, Gather};
use super::disk::{alone, open_staged};
use super::writeback;
use super::{Appended, BlobError, ByteStream};
use crate::upload::{Position, UploadId};

/// Bytes of a batch: each is a disk's whole operation and two threads' hand-over, so that more is faster.
pub(super) const BATCH: usize = 1024 * 1024;

/// Bytes of a batch when many uploads are under way: together they take little memory.
pub(super) const SMALL_BATCH: usize = 256 * 1024;

/// Of what the page cache takes, the kernel is told to write each time this many bytes have come.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// Appends `body` at `position` to the file at `path`, in batches of `size` bytes; see
/// [`super::BlobStore::append`].
pub(super) async fn receive(
    id: &UploadId,
    path: PathBuf,
    position: Position,
    body: ByteStream,
    size: usize,
) -> Result<Appended, BlobError> {
    let start = position.offset;
    let mut sink = Sink::Closed {
        id: id.clone(),
        path: path.clone(),
        start,
    };
    let mut hash: Hash = Hash::Ready(Box::new(position.digester));
    let mut body = Gather::new(body);
    let mut batch = Batch::new(size, start);
    let mut before: Option<Arc<Batch>> = None;
    let mut interrupted = None;
    loop {
        let last = match body.fill(&mut batch).await {
            End::Full => false,
            End::Finished => true,
            End::Broken(error) => {
                interrupted = Some(error);
                true
            }
        };
        let full = Arc::new(batch);
        let written = sink.start(Arc::clone(&full), last).await;
        let written = match written {
            Ok(written) => written,
            Err(error) => return Err(rolled_back(path, start, error).await),
        };
        if last {
            // A last batch is usually short: hash it while the file is synced.
            let digester = *hash.take(full).await?.join().await?;
            return match written.finish().await {
                Ok(target) => Ok(Appended {
                    position: Position {
                        offset: target.file.offset(),
                        digester,
                    },
                    interrupted,
                }),
                Err(error) => Err(rolled_back(path, start, error).await),
            };
        }
        hash = hash.take(Arc::clone(&full)).await?;
        sink = Sink::Busy(written);
        // Both threads are done with the batch before this one.
        let free = before.replace(full).and_then(Arc::into_inner);
        batch = match free {
            Some(free) => free.emptied(size, 0),
            None => Batch::new(size, 0),
        };
    }
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
    file: DirectFile,
    path: PathBuf,
    start: u64,
    told: u64,
}

impl Sink {
    /// Waits for the batch before, then writes this one on another thread; syncs after the last.
    async fn start(self, batch: Arc<Batch>, last: bool) -> Result<Writing, BlobError> {
        let ready = match self {
            Sink::Busy(writing) => Ok(writing.finish().await?),
            Sink::Closed { id, path, start } => Err((id, path, start)),
        };
        Ok(Writing(spawn_blocking(move || {
            let mut target = match ready {
                Ok(target) => target,
                Err((id, path, start)) => {
                    Target::open(&id, path, start, !batch.bytes().is_empty())?
                }
            };
            target.write(batch.bytes())?;
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
    fn open(id: &UploadId, path: PathBuf, start: u64, grows: bool) -> Result<Self, BlobError> {
        let file = open_staged(id, &path, start)?;
        let failed = |e| BlobError::new("cannot resume", &path, e);
        let changes = grows || file.metadata().map_err(failed)?.len() > start;
        let file = alone(file, &path, start, changes)?;
        file.set_len(start).map_err(failed)?;
        Ok(Self {
            file: DirectFile::new(file, start),
            path,
            start,
            told: start,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let written = self.file.write(bytes);
        written.map_err(|e| BlobError::new("cannot write", &self.path, e))?;
        let offset = self.file.offset();
        if !self.file.is_direct() && offset - self.told >= WRITEBACK {
            writeback::start(self.file.file(), self.told, offset - self.told);
            self.told = offset;
        }
        Ok(())
    }

    /// Makes what was written durable, and the name of a file that is new: an offset is told to the client.
    fn sync(&self) -> Result<(), BlobError> {
        let synced = self
            .file
            .file()
            .sync_data()
            .and_then(|()| match self.path.parent() {
                Some(uploads) if self.start == 0 => sync_dir(uploads),
                _ => Ok(()),
            });
        synced.map_err(|e| BlobError::unsynced(&self.path, e))
    }
}

/// The digester, or the thread that has it.
enum Hash {
    Ready(Box<Digester>),
    Busy(JoinHandle<Box<Digester>>),
}

impl Hash {
    /// Waits for the batch before, then hashes this one on another thread.
    async fn take(self, batch: Arc<Batch>) -> Result<Self, BlobError> {
        let mut digester = self.join().await?;
        if batch.bytes().len() <= 16 * 1024 {
            // Less than the cost of another thread.
            digester.update(batch.bytes());
            return Ok(Hash::Ready(digester));
        }
        Ok(Hash::Busy(spawn_blocking(move || {
            digester.update(batch.bytes());
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
    if matches!(error, BlobError::Lost(_) | BlobError::Unsynced { .. }) {
        return error;
    }
    let truncate = move || File::options().write(true).open(&path)?.set_len(start);
    if let Ok(Err(failed)) = spawn_blocking(truncate).await {
        tracing::warn!("cannot free what a failed upload has written: {failed}");
    }
    error
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use strata_oci::{Algorithm, Digest};

    /// Bytes that differ at every place a batch could be misplaced by.
    fn content(length: usize) -> Vec<u8> {
        (0..length)
            .map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8)
            .collect()
    }

    fn pieces(bytes: &[u8], piece: usize) -> ByteStream {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        Box::pin(stream::iter(pieces))
    }

    #[tokio::test]
    async fn batches_make_the_whole_wherever_it_was_interrupted() {
        let dir = tempfile::tempdir().expect("tempdir");
        for (first, piece) in [(0, 100_000), (5, 333), (SMALL_BATCH + 1, SMALL_BATCH * 3)] {
            let (id, whole) = (UploadId::random(), content(SMALL_BATCH * 4 + 17));
            let path = dir.path().join(id.as_str());
            let mut position = Position {
                offset: 0,
                digester: Digester::new(Algorithm::Sha256),
            };
            let (begin, end) = whole.split_at(first);
            for part in [begin, end] {
                let body = pieces(part, piece);
                let appended = receive(&id, path.clone(), position, body, SMALL_BATCH).await;
                position = appended.expect("append").position;
            }
            assert_eq!(position.offset, whole.len() as u64);
            assert_eq!(position.digester.finish(), Digest::of(&whole));
            assert!(
                std::fs::read(&path).expect("read") == whole,
                "{first} {piece}"
            );
        }
    }

    #[tokio::test]
    async fn what_came_before_a_body_broke_off_is_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (id, whole) = (UploadId::random(), content(SMALL_BATCH * 2 + 100));
        let path = dir.path().join(id.as_str());
        let start = Position {
            offset: 0,
            digester: Digester::new(Algorithm::Sha256),
        };
        let broken = stream::iter([Err(io::ErrorKind::ConnectionReset.into())]);
        let body = Box::pin(pieces(&whole, 7777).chain(broken));
        let appended = receive(&id, path.clone(), start, body, SMALL_BATCH).await;
        let appended = appended.expect("append");
        assert!(appended.interrupted.is_some());
        assert_eq!(appended.position.offset, whole.len() as u64);
        assert_eq!(appended.position.digester.finish(), Digest::of(&whole));
        assert!(std::fs::read(&path).expect("read") == whole);
    }
}
