//! Blobs into files: whole blobs of a layout directory, taken up where an earlier try stopped, and parts of
//! an archive.
//!
//! Bytes are written as they come and hashed beside it, on another thread: for one large blob that is
//! nearly twice as fast.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strata_oci::Descriptor;
use strata_oci::layout::LayoutWriter;
use strata_oci::verify::{Verifier, VerifyError};
use tokio::sync::mpsc;

use super::CopyError;
use super::throttle::Throttle;
use crate::fetch::Partial;
use crate::progress::{Event, Progress};
use crate::push::content::Content;
use crate::registry::BlobStream;

/// Bytes that are read from a file at a time.
const CHUNK: usize = 256 * 1024;
/// Bytes that are written at a time. For more the kernel looks for larger runs of free memory, and on a
/// machine whose memory is in use that takes several times longer than the copy.
const PIECE: usize = 32 * 1024;
/// Chunks that wait for the hash.
const AHEAD: usize = 4;

/// One blob on its way into a file.
#[derive(Clone)]
pub(super) struct Receive {
    pub(super) item: usize,
    pub(super) blob: Descriptor,
    pub(super) content: Content,
    pub(super) throttle: Option<Arc<Throttle>>,
    pub(super) progress: Arc<dyn Progress>,
}

/// Ends the task with whoever waits for it.
struct Bound<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Bound<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receive {
    /// Brings the blob into a layout; `false` when another process brought it meanwhile. Gives the bytes
    /// that travelled.
    pub(super) async fn to_layout(&self, layout: &LayoutWriter) -> Result<Option<u64>, CopyError> {
        let path = layout.partial_path(&self.blob.digest);
        let failed = |source| CopyError::File {
            path: path.clone(),
            source,
        };
        let (opening, size) = (path.clone(), self.blob.size);
        let opened = tokio::task::spawn_blocking(move || Partial::open(&opening, size, 0o666));
        let partial = opened.await.map_err(|_| CopyError::Interrupted)?;
        let partial = partial.map_err(failed)?;
        if layout.has(&self.blob).map_err(failed)? {
            // Made by opening it.
            let _ = std::fs::remove_file(&path);
            return Ok(None);
        }
        let (file, kept) = partial.into_parts();
        let brought = self.bring(&file, &path, 0, kept).await;
        if let Err(CopyError::Content { .. }) = &brought {
            // Wrong bytes are of no use to another try.
            let _ = std::fs::remove_file(&path);
        }
        let travelled = brought?;
        layout.publish(&self.blob.digest).map_err(failed)?;
        Ok(Some(travelled))
    }

    /// Brings the blob into a file from `offset` on, where `kept` bytes of it are; proves the whole. Gives
    /// the bytes that travelled.
    ///
    /// A task of its own: beside the one that reads the connection, what has been read is still in the
    /// processor's cache when it is written.
    pub(super) async fn bring(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        kept: u64,
    ) -> Result<u64, CopyError> {
        let (own, path) = (self.clone(), path.to_owned());
        let file = file.try_clone().map_err(|source| CopyError::File {
            path: path.clone(),
            source,
        })?;
        let work = async move { own.transfer(&file, &path, offset, kept).await };
        let mut task = Bound(tokio::spawn(work));
        (&mut task.0).await.map_err(|_| CopyError::Interrupted)?
    }

    async fn transfer(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        kept: u64,
    ) -> Result<u64, CopyError> {
        let failed = |source| CopyError::File {
            path: path.to_owned(),
            source,
        };
        let hasher = self.hasher(file.try_clone().map_err(failed)?, offset, kept);
        if kept > 0 {
            let (item, bytes) = (self.item, kept);
            self.progress.event(Event::Resumed { item, bytes });
        }
        let mut at = kept;
        let mut travelled = kept;
        let mut incoming = self.open(kept).map_err(failed)?;
        while let Some(chunk) = incoming.next().await? {
            if let Some(throttle) = &self.throttle {
                throttle.pass(chunk.len()).await;
            }
            if hasher.chunks.send(chunk.clone()).await.is_err() {
                break;
            }
            for piece in chunk.chunks(PIECE) {
                file.write_all_at(piece, offset + at).map_err(failed)?;
                at += piece.len() as u64;
            }
            travelled = at;
            let (item, bytes) = (self.item, at);
            self.progress.event(Event::Moved { item, bytes });
        }
        drop(hasher.chunks);
        let proved = hasher.done.await.map_err(|_| CopyError::Interrupted)?;
        match proved {
            Ok(()) => Ok(travelled - kept),
            Err(Wrong::File(source)) => Err(failed(source)),
            Err(Wrong::Content(source)) => Err(CopyError::Content {
                digest: self.blob.digest.clone(),
                source,
            }),
        }
    }

    fn open(&self, from: u64) -> io::Result<Incoming> {
        Ok(match &self.content {
            Content::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                Incoming::Memory(Some(bytes.slice(from..)))
            }
            Content::File { path, offset } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset + from))?;
                Incoming::File(file.take(self.blob.size - from))
            }
            Content::Registry {
                registry,
                repository,
            } => Incoming::Registry(Box::new(BlobStream::new(
                registry.clone(),
                repository,
                &self.blob,
                from,
            ))),
            Content::Absent => return Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }

    /// A thread that hashes: first what is in the file, then what is sent to it.
    fn hasher(&self, file: File, offset: u64, kept: u64) -> Hasher {
        let (chunks, mut coming) = mpsc::channel::<Bytes>(AHEAD);
        let mut verifier = Verifier::new(self.blob.digest.clone(), self.blob.size);
        let done = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; if kept > 0 { CHUNK } else { 0 }];
            let mut at = 0;
            while at < kept {
                let most = usize::try_from(kept - at).unwrap_or(CHUNK).min(CHUNK);
                file.read_exact_at(&mut buffer[..most], offset + at)
                    .map_err(Wrong::File)?;
                verifier.update(&buffer[..most]).map_err(Wrong::Content)?;
                at += most as u64;
            }
            while let Some(chunk) = coming.blocking_recv() {
                verifier.update(&chunk).map_err(Wrong::Content)?;
            }
            verifier.finish().map_err(Wrong::Content)
        });
        Hasher { chunks, done }
    }
}

struct Hasher {
    chunks: mpsc::Sender<Bytes>,
    done: tokio::task::JoinHandle<Result<(), Wrong>>,
}

enum Wrong {
    File(io::Error),
    Content(VerifyError),
}

/// Bytes as they come, not proved yet.
enum Incoming {
    Memory(Option<Bytes>),
    File(io::Take<File>),
    Registry(Box<BlobStream>),
}

impl Incoming {
    async fn next(&mut self) -> Result<Option<Bytes>, CopyError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.take().filter(|bytes| !bytes.is_empty())),
            Self::File(file) => {
                let mut buffer = BytesMut::zeroed(CHUNK);
                let count = file.read(&mut buffer).map_err(|source| CopyError::File {
                    path: "the source".into(),
                    source,
                })?;
                buffer.truncate(count);
                Ok((count > 0).then(|| buffer.freeze()))
            }
            Self::Registry(stream) => Ok(stream.next().await?),
        }
    }
}
