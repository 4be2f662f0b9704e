//! Bringing blobs here: nothing is fetched twice, and nothing is taken for proved that is not.
//!
//! A blob's bytes are kept in a file that grows at its end, beside it pieces of what came ahead of its turn. Whatever ends a
//! try, the next one, in this process or another, goes on with what is missing (RFC 9110, 14.2); the digest that is
//! computed over all of it, kept bytes included, is the proof that they belong together, so no ETag is
//! needed. One connection fetches the blob in its order; where the network holds it back, others fetch
//! later parts (`width`), as long as that helps.

mod ahead;
mod file;
mod follow;
mod incoming;
mod partial;
#[cfg(test)]
mod tests;
mod throttle;
mod width;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_oci::Descriptor;
use strata_oci::verify::VerifyError;

use crate::registry::{Registry, RegistryError, Retrying};

pub(crate) use file::{Input, Place, write_blob};
pub(crate) use follow::{Follower, Writer, follow};
pub(crate) use incoming::Incoming;
pub(crate) use partial::{Partial, discard};
pub(crate) use throttle::Throttle;

/// How many connections one blob may have at most.
pub const RANGES: usize = 4;

/// A blob that is to be brought into a file.
#[derive(Clone)]
pub struct Transfer {
    /// Where it is.
    pub registry: Arc<Registry>,
    /// The repository that shows it.
    pub repository: String,
    /// Its digest and size.
    pub blob: Descriptor,
    /// How many connections may fetch it at once; 1 for a registry that is not to be asked for ranges.
    pub ranges: usize,
    /// Told of each try that broke off.
    pub retrying: Option<Retrying>,
}

/// Why a blob could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The registry.
    #[error(transparent)]
    Registry(RegistryError),
    /// The bytes are not those that the digest names. They are removed.
    #[error("the registry's {0}")]
    Content(#[from] VerifyError),
    /// The file cannot be read or written.
    #[error("the download cannot be kept: {0}")]
    File(#[from] io::Error),
    /// A worker thread ended without an answer.
    #[error("it was interrupted")]
    Interrupted,
}

impl From<RegistryError> for TransferError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Content { source, .. } => Self::Content(source),
            error => Self::Registry(error),
        }
    }
}

impl Transfer {
    /// A blob of a repository, over as many connections as help.
    pub fn new(registry: Arc<Registry>, repository: &str, blob: &Descriptor) -> Self {
        Self {
            registry,
            repository: repository.to_owned(),
            blob: blob.clone(),
            ranges: RANGES,
            retrying: None,
        }
    }

    /// Brings the blob into the file at `path`, which has its beginning or is made; gives the bytes that
    /// travelled. Another process that brings the same blob to the same place is waited for. `report` is told
    /// how many bytes are here.
    ///
    /// # Errors
    /// See [`TransferError`]. What arrived is kept for the next try unless it is wrong.
    pub async fn to_file(
        &self,
        path: &Path,
        report: impl Fn(u64) + Send + Sync,
    ) -> Result<u64, TransferError> {
        let (to, size) = (PathBuf::from(path), self.blob.size);
        let opened = tokio::task::spawn_blocking(move || Partial::open(&to, size, 0o666));
        let partial = opened.await.map_err(|_| TransferError::Interrupted)??;
        let mut input = Input::Registry(Box::new(self.incoming(&partial)?));
        let written = into_partial(&mut input, &self.blob, &partial, None, None, &report).await;
        written.map(|()| input.travelled().unwrap_or_default())
    }

    /// The bytes that follow those that are kept.
    pub(crate) fn incoming<'a>(&self, partial: &'a Partial) -> io::Result<Incoming<'a>> {
        Incoming::new(self, partial)
    }
}

/// Writes what comes behind what is kept, and proves the whole. Whoever follows sees it from its beginning
/// on, and its end when it is proved.
pub(crate) async fn into_partial(
    input: &mut Input<'_>,
    blob: &Descriptor,
    partial: &Partial,
    throttle: Option<&Throttle>,
    follower: Option<Writer>,
    report: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), TransferError> {
    let kept = partial.kept();
    let place = Place {
        file: partial.writer()?,
        offset: 0,
        kept: (kept > 0)
            .then(|| partial.file().map(|file| (kept, file)))
            .transpose()?,
    };
    let written = write_blob(input, blob, place, throttle, follower.as_ref(), report).await;
    match written {
        Ok(()) => {
            partial.discard_pieces();
            if let Some(follower) = follower {
                follower.whole();
            }
        }
        // Wrong bytes are of no use to another try.
        Err(TransferError::Content(_)) => partial.discard(),
        Err(_) => {}
    }
    written
}
