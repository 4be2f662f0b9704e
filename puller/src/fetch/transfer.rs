//! A layer's blob into the file that the unpacker follows: hashed as it arrives, and never longer than promised.

use std::io::Write as _;
use std::sync::Arc;

use strata_oci::Descriptor;
use strata_oci::verify::Verifier;

use super::error::LayerFailure;
use super::follow::Writer;
use crate::progress::{Event, Progress, retrying};
use crate::registry::Registry;
use crate::transfer::{Partial, Transfer, TransferError};

/// A blob that is to be brought here.
pub(super) struct Download<'a> {
    pub(super) registry: &'a Arc<Registry>,
    pub(super) repository: &'a str,
    pub(super) blob: &'a Descriptor,
    pub(super) item: usize,
    pub(super) progress: &'a Arc<dyn Progress>,
}

impl Download<'_> {
    /// Brings the rest of the blob and proves the whole; only then does the reader see the end.
    /// Adds the bytes that travel to `travelled`.
    pub(super) async fn run(
        &self,
        partial: &Partial,
        writer: Writer,
        travelled: &mut u64,
    ) -> Result<(), LayerFailure> {
        let mut transfer = Transfer::new(self.registry.clone(), self.repository, self.blob);
        transfer.retrying = Some(retrying(self.item, self.progress));
        let mut verifier = Verifier::new(self.blob.digest.clone(), self.blob.size);
        let mut file = partial.file()?;
        let kept = partial.kept();
        if kept > 0 {
            writer.reached(kept);
            let reader = partial.file()?;
            let hashing = tokio::task::spawn_blocking(move || {
                crate::transfer::hash_kept(&reader, 0, kept, &mut verifier).map(|()| verifier)
            });
            verifier = hashing.await.map_err(|_| LayerFailure::Interrupted)??;
        }
        let mut incoming = transfer.incoming(partial)?;
        let (item, bytes) = (self.item, incoming.here());
        if bytes > 0 {
            self.progress.event(Event::Resumed { item, bytes });
        }
        let result = loop {
            match incoming.next().await {
                Ok(Some(_)) if writer.abandoned() => break Err(LayerFailure::Interrupted),
                Ok(Some(chunk)) => {
                    verifier.update(&chunk)?;
                    file.write_all(&chunk)?;
                    writer.reached(verifier.seen());
                    self.moved(incoming.here());
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        *travelled += incoming.travelled();
        result?;
        verifier.finish()?;
        partial.discard_pieces();
        writer.whole();
        Ok(())
    }

    fn moved(&self, bytes: u64) {
        let item = self.item;
        self.progress.event(Event::Moved { item, bytes });
    }
}

impl From<TransferError> for LayerFailure {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Registry(error) => Self::Transfer(error),
            TransferError::Content(error) => Self::Content(error),
            TransferError::File(error) => Self::Keep(error),
            TransferError::Interrupted => Self::Interrupted,
        }
    }
}
