//! What can go wrong with a push or a pull, in the registry's own words; [`crate::http`] says them in HTTP.

use std::{fmt, io};

use strata_oci::Digest;
use strata_oci::manifest::ManifestError;

use crate::blob::BlobError;
use crate::meta::MetaError;

/// Why a push or a pull was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository has no such blob.
    #[error("this repository has no blob {0}")]
    BlobUnknown(Digest),
    /// The repository has no such manifest.
    #[error("this repository has no manifest {0}")]
    ManifestUnknown(String),
    /// There is no such repository.
    #[error("there is no repository {0}")]
    RepositoryUnknown(String),
    /// There is no such session, or it is another repository's or owner's.
    #[error("there is no such upload: it was finished, cancelled or has expired; start a new one")]
    UploadUnknown,
    /// Another request writes to the session.
    #[error("another request is writing to this upload: wait for it, then ask how far it has come")]
    UploadBusy,
    /// A chunk does not begin where the upload is.
    #[error("the chunk begins at byte {start}, the upload is at byte {expected}")]
    OutOfOrder {
        /// Where the chunk begins.
        start: u64,
        /// How many bytes there are.
        expected: u64,
    },
    /// A chunk is not as long as its range.
    #[error("the chunk has {actual} bytes, its Content-Range says {expected}")]
    ChunkSize {
        /// What the range says.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The client broke off.
    #[error("the request's body ended early: {0}")]
    Interrupted(#[source] io::Error),
    /// Content has another digest than was promised.
    #[error("the content has digest {actual}, not {expected}: nothing was stored")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Not a manifest that is accepted.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest names what the repository lacks.
    #[error("the manifest names content that is not in this repository")]
    MissingContent(Vec<Digest>),
    /// The request's condition (If-Match, If-None-Match) is not met.
    #[error("the condition of the request does not hold: {of} is {}; fetch it again and decide anew", At(.current))]
    Condition {
        /// Of which tag or digest.
        of: String,
        /// What is there.
        current: Option<Digest>,
    },
    /// The database did not answer.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The blob store did not do it.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

/// What a condition has met, in words.
struct At<'a>(&'a Option<Digest>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(digest) => write!(f, "at {digest}"),
            None => f.write_str("not there"),
        }
    }
}
