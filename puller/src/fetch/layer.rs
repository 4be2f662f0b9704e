//! One layer: its blob downloads into a file while the unpacker follows it; both must prove it.

use std::path::PathBuf;
use std::sync::Arc;

use strata_oci::Digest;

use super::error::LayerFailure;
use super::follow::{Follower, follow};
use super::plan::LayerPlan;
use super::transfer::Download;
use crate::layer::{self, LayerError, LayerMeta};
use crate::progress::{Event, Progress};
use crate::registry::Registry;
use crate::store::{Staging, Store};
use crate::transfer::Partial;

/// What fetching layers needs.
pub(super) struct Fetcher {
    pub(super) store: Arc<Store>,
    pub(super) registry: Arc<Registry>,
    pub(super) repository: String,
    pub(super) progress: Arc<dyn Progress>,
}

/// A layer that is proved and waits for its image to be published.
pub(super) struct Fetched {
    pub(super) staging: Staging,
    pub(super) meta: LayerMeta,
    /// Bytes that travelled: less than the blob's size where an earlier try had brought some.
    pub(super) travelled: u64,
    /// Whose bytes are kept until then.
    pub(super) blob: Digest,
}

impl Fetcher {
    /// Brings a layer here. Bytes that earlier tries kept and that prove wrong are fetched again,
    /// once: a power cut can leave such.
    pub(super) async fn fetch(
        &self,
        item: usize,
        layer: &LayerPlan,
    ) -> Result<Fetched, LayerFailure> {
        let path = self.store.partial_path(&layer.blob.digest);
        let mut travelled = 0;
        loop {
            let (kept, result) = self
                .attempt(item, layer, path.clone(), &mut travelled)
                .await;
            match result {
                Ok((staging, meta)) => {
                    return Ok(Fetched {
                        staging,
                        meta,
                        travelled,
                        blob: layer.blob.digest.clone(),
                    });
                }
                Err(error) if error.is_of_the_bytes() => {
                    self.store.drop_partial(&layer.blob.digest);
                    let blob = &layer.blob.digest;
                    let by_mirror = self.registry.distrust(blob, &error.to_string());
                    if kept == 0 && !by_mirror {
                        return Err(error);
                    }
                    let text = format!("layer {}: {error}; fetching it anew", layer.blob.digest);
                    self.progress.event(Event::Message(text));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        item: usize,
        layer: &LayerPlan,
        path: PathBuf,
        travelled: &mut u64,
    ) -> (u64, Result<(Staging, LayerMeta), LayerFailure>) {
        let (store, size) = (self.store.clone(), layer.blob.size);
        let opened = tokio::task::spawn_blocking(move || {
            let partial = Partial::open(&path, size, 0o600)?;
            let reader = partial.file()?;
            Ok::<_, LayerFailure>((partial, reader, store.stage()?))
        });
        let (partial, reader, staging) = match opened.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return (0, Err(error)),
            Err(_) => return (0, Err(LayerFailure::Interrupted)),
        };
        let kept = partial.kept();
        let (writer, follower) = follow(reader);
        let unpacking = self.unpack(item, follower, staging);
        let download = Download {
            registry: &self.registry,
            repository: &self.repository,
            blob: &layer.blob,
            item,
            progress: &self.progress,
        };
        let moving = download.run(&partial, writer, travelled);
        let (moved, unpacked) = tokio::join!(moving, unpacking);
        let result = match (moved, unpacked) {
            (Ok(()), Ok((staging, meta))) => prove(layer, staging, meta),
            // The reader fails because the transfer did, and the transfer stops when the reader has gone.
            (Err(LayerFailure::Interrupted) | Ok(()), Err(error)) => Err(error),
            (Err(error), _) => Err(error),
        };
        (kept, result)
    }

    async fn unpack(
        &self,
        item: usize,
        follower: Follower,
        staging: Staging,
    ) -> Result<(Staging, LayerMeta), LayerFailure> {
        let options = self.store.unpack_options();
        let progress = self.progress.clone();
        let work = move || -> Result<_, LayerError> {
            let report = |bytes| progress.event(Event::Unpacked { item, bytes });
            let meta = layer::unpack(follower, staging.path(), &options, &report)?;
            Ok((staging, meta))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(unpacked) => unpacked.map_err(LayerFailure::Unpack),
            Err(_) => Err(LayerFailure::Interrupted),
        }
    }
}

/// The third proof, after size and digest of the blob: the configuration's diffID. One of another
/// algorithm than the unpacker's is not proved, so it counts as wrong.
fn prove(
    layer: &LayerPlan,
    staging: Staging,
    meta: LayerMeta,
) -> Result<(Staging, LayerMeta), LayerFailure> {
    if meta.diff_id != layer.diff_id {
        return Err(LayerFailure::DiffId {
            expected: layer.diff_id.clone(),
            actual: meta.diff_id,
        });
    }
    Ok((staging, meta))
}
