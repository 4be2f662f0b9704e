//! Where the bytes of blobs are.
//!
//! An upload is staged under its id and becomes content under its digest only when it is whole, proved and
//! durable. A store knows nothing of repositories: who may see a blob is the database's to say.

mod batch;
mod disk;
mod receive;
#[cfg(test)]
mod suite;
mod writeback;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use strata_oci::{Digest, Digester};

use crate::upload::{Position, UploadId};

pub use disk::Disk;

/// Bytes as they come from a client; an error is the end of what comes.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// No room.
    #[error("the disk that holds the blobs is full")]
    Full(#[source] io::Error),
    /// A staged upload has fewer bytes than were recorded.
    #[error("the staged upload {0} has lost bytes")]
    Lost(UploadId),
    /// What was written may not be on the disk, and no second try could tell: after a failed fsync(2) the kernel takes
    /// the pages for written (<https://lwn.net/Articles/752063/>). The staged upload must go.
    #[error("cannot make {path} durable: {source}")]
    Unsynced {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else that failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BlobError {
    fn unsynced(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Unsynced { path, source }
    }

    fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full(source);
        }
        let path = path.into();
        Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Whether there is no room, for anyone or for this user.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// A blob to be sent, in the form that costs its store least.
#[derive(Debug)]
pub enum BlobContent {
    /// All of a small one.
    Memory(Bytes),
    /// An open file, to be sent by the kernel.
    File {
        /// Never changed as long as it is open.
        file: File,
        /// Its bytes.
        size: u64,
    },
}

impl BlobContent {
    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

/// What came of [`BlobStore::append`].
pub struct Appended {
    /// How far the upload is now; durable.
    pub position: Position,
    /// Why the stream ended before its end, if it did; what came until then is kept.
    pub interrupted: Option<io::Error>,
}

/// A place for blobs.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// A blob's content; `None` when it is not here.
    async fn read(&self, digest: &Digest) -> Result<Option<BlobContent>, BlobError>;
    /// Appends to a staged upload at `position`, dropping what it may hold beyond it; what was
    /// received is durable afterwards. On an error the upload is at `position` as before, but for
    /// [`BlobError::Unsynced`].
    async fn append(
        &self,
        id: &UploadId,
        position: Position,
        body: ByteStream,
    ) -> Result<Appended, BlobError>;
    /// Passes the first `size` bytes of a staged upload through `digester` (for a digest of another algorithm).
    async fn rehash(
        &self,
        id: &UploadId,
        size: u64,
        digester: Digester,
    ) -> Result<Digest, BlobError>;
    /// Makes the `size` bytes of a staged upload content, durably; the caller has proved `digest`.
    /// Doing it twice, or at once from two uploads, is harmless: what was there is replaced, never missing
    /// meanwhile. With `keep` it stays staged as well, if the store can do that, so that its session goes on from
    /// where it was when what follows fails.
    async fn commit(
        &self,
        id: &UploadId,
        size: u64,
        digest: &Digest,
        keep: bool,
    ) -> Result<(), BlobError>;
    /// Removes a blob that nothing names; how many bytes that has freed, `None` when it was not there.
    async fn delete(&self, digest: &Digest) -> Result<Option<u64>, BlobError>;
    /// The blobs whose digests begin with this byte.
    async fn list(&self, shard: u8) -> Result<Vec<Digest>, BlobError>;
    /// Frees a staged upload; fine if there is none.
    async fn abort(&self, id: &UploadId) -> Result<(), BlobError>;
    /// Every staged upload.
    async fn staged(&self) -> Result<Vec<UploadId>, BlobError>;
}
