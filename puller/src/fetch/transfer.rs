//! A layer's blob into the file that keeps it, while the unpacker follows: hashed as it arrives, and never
//! longer than promised.

use std::sync::Arc;

use strata_oci::Descriptor;

use super::error::LayerFailure;
use crate::progress::{Event, Progress, retrying};
use crate::registry::Registry;
use crate::transfer::{Input, Partial, Transfer, TransferError, Writer, into_partial};

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
        let item = self.item;
        transfer.retrying = Some(retrying(item, self.progress));
        let incoming = transfer.incoming(partial)?;
        let bytes = incoming.here();
        if bytes > 0 {
            self.progress.event(Event::Resumed { item, bytes });
        }
        let report = |bytes| self.progress.event(Event::Moved { item, bytes });
        let mut input = Input::Registry(Box::new(incoming));
        let brought = into_partial(&mut input, self.blob, partial, None, Some(writer), &report);
        let brought = brought.await;
        *travelled += input.travelled().unwrap_or_default();
        Ok(brought?)
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
