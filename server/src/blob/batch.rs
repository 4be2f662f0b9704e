//! Filling batches from a body whose pieces have any size.

use std::io;
use std::mem;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use strata_oci::direct::Batch;

use super::ByteStream;

/// Why a batch has no more.
pub(super) enum End {
    Full,
    Finished,
    Broken(io::Error),
}

/// A body, and what of its last piece did not fit a batch.
pub(super) struct Gather {
    body: ByteStream,
    rest: Bytes,
}

impl Gather {
    pub(super) fn new(body: ByteStream) -> Self {
        let rest = Bytes::new();
        Self { body, rest }
    }

    /// Fills the batch, and says why it ends there.
    pub(super) async fn fill(&mut self, batch: &mut Batch) -> End {
        loop {
            let taken = batch.take(&self.rest);
            self.rest.advance(taken);
            if batch.is_full() {
                return End::Full;
            }
            // Given back before the next is waited for: the connection reads into the same memory again.
            drop(mem::take(&mut self.rest));
            match self.body.next().await {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return End::Broken(error),
                None => return End::Finished,
            }
        }
    }
}
