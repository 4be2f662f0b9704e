//! Blobs into files: whole blobs of a layout directory, taken up where an earlier try stopped, and parts of
//! an archive.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

use strata_oci::Descriptor;
use strata_oci::layout::LayoutWriter;

use super::CopyError;
use crate::progress::{Event, Progress, retrying};
use crate::push::content::Content;
use crate::registry::BlobStream;
use crate::transfer::{
    Input, Partial, Place, RANGES, Throttle, Transfer, TransferError, into_partial, write_blob,
};

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
    /// Brings the blob into a layout; `None` when another process brought it meanwhile. Gives the bytes
    /// that travelled.
    pub(super) async fn to_layout(&self, layout: &LayoutWriter) -> Result<Option<u64>, CopyError> {
        let path = layout.partial_path(&self.blob.digest);
        let failed = |source| CopyError::File {
            path: path.clone(),
            source,
        };
        let mut travelled = 0;
        loop {
            let (opening, size) = (path.clone(), self.blob.size);
            let opened = tokio::task::spawn_blocking(move || Partial::open(&opening, size, 0o666));
            let partial = opened.await.map_err(|_| CopyError::Interrupted)?;
            let partial = partial.map_err(failed)?;
            if layout.has(&self.blob).map_err(failed)? {
                // Made by opening it.
                partial.discard();
                return Ok(None);
            }
            let (kept, own) = (partial.kept(), self.clone());
            // The lock is held until the blob has its name: another process would go on with the file.
            let brought = beside(async move { (own.bring(&partial).await, partial) });
            let (brought, _held) = brought.await?;
            match brought {
                Ok(bytes) => {
                    layout.publish(&self.blob.digest).map_err(failed)?;
                    return Ok(Some(travelled + bytes));
                }
                // What an earlier try kept was wrong; a power cut or another registry can leave such.
                Err(TransferError::Content(error)) if kept > 0 => {
                    let digest = &self.blob.digest;
                    let text = format!("blob {digest}: {error}; fetching it anew");
                    self.progress.event(Event::Message(text));
                    travelled += self.blob.size.saturating_sub(kept);
                }
                Err(error) => return Err(self.failed(&path, error)),
            }
        }
    }

    async fn bring(&self, partial: &Partial) -> Result<u64, TransferError> {
        let kept = partial.kept();
        if kept > 0 {
            let (item, bytes) = (self.item, kept);
            self.progress.event(Event::Resumed { item, bytes });
        }
        let mut input = match &self.content {
            Content::Registry {
                registry,
                repository,
            } => {
                let mut transfer = Transfer::new(registry.clone(), repository, &self.blob);
                // What is slowed on purpose is not made faster.
                transfer.ranges = if self.throttle.is_some() { 1 } else { RANGES };
                transfer.retrying = Some(retrying(self.item, &self.progress));
                Input::Registry(Box::new(transfer.incoming(partial)?))
            }
            _ => self.open(kept)?,
        };
        let (throttle, report) = (self.throttle.as_deref(), self.report());
        into_partial(&mut input, &self.blob, partial, throttle, None, &report).await?;
        Ok(input.travelled().unwrap_or(self.blob.size - kept))
    }

    /// Brings the blob into the archive at `path`, from `offset` on, where `kept` bytes of it are. Gives the
    /// bytes that travelled.
    pub(super) async fn to_archive(
        &self,
        path: &Path,
        offset: u64,
        kept: u64,
    ) -> Result<u64, CopyError> {
        let (own, to) = (self.clone(), path.to_owned());
        let written = beside(async move {
            let mut input = own.open(kept)?;
            if kept > 0 {
                let (item, bytes) = (own.item, kept);
                own.progress.event(Event::Resumed { item, bytes });
            }
            let reader = (kept > 0).then(|| File::open(&to)).transpose()?;
            let place = Place {
                file: OpenOptions::new().write(true).open(&to)?,
                offset,
                kept: reader.map(|reader| (kept, reader)),
            };
            let (throttle, report) = (own.throttle.as_deref(), own.report());
            write_blob(&mut input, &own.blob, place, throttle, None, &report).await?;
            Ok(input.travelled().unwrap_or(own.blob.size - kept))
        });
        written.await?.map_err(|error| self.failed(path, error))
    }

    fn report(&self) -> impl Fn(u64) + Send + Sync {
        let (item, progress) = (self.item, self.progress.clone());
        move |bytes| progress.event(Event::Moved { item, bytes })
    }

    fn failed(&self, path: &Path, error: TransferError) -> CopyError {
        match error {
            TransferError::Registry(error) => {
                error.of(&format!("blob {}", self.blob.digest)).into()
            }
            TransferError::Content(source) => CopyError::Content {
                digest: self.blob.digest.clone(),
                source,
            },
            TransferError::File(source) => CopyError::File {
                path: path.to_owned(),
                source,
            },
            TransferError::Interrupted => CopyError::Interrupted,
        }
    }

    fn open(&self, from: u64) -> io::Result<Input<'static>> {
        Ok(match &self.content {
            Content::Memory(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
                Input::Memory(Some(bytes.slice(from..)))
            }
            Content::File { .. } | Content::Layer { .. } => {
                let file = self.content.open(from)?;
                Input::File(io::Read::take(file, self.blob.size - from))
            }
            Content::Registry {
                registry,
                repository,
            } => {
                let (registry, blob) = (registry.clone(), &self.blob);
                let stream = BlobStream::new(registry, repository, blob, from);
                let retrying = retrying(self.item, &self.progress);
                Input::Stream(Box::new(stream.telling(Some(retrying))))
            }
            Content::Absent => return Err(io::Error::from(io::ErrorKind::NotFound)),
        })
    }
}

/// Runs work as a task of its own: beside the one that reads the connection, what has been read is still in
/// the processor's cache when it is taken on.
async fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, CopyError> {
    let mut task = Bound(tokio::spawn(work));
    (&mut task.0).await.map_err(|_| CopyError::Interrupted)
}
