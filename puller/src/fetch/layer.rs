//! One layer: its blob downloads into a file while the unpacker follows it; both must prove it. One whose blob
//! is in a file here is unpacked from there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use strata_oci::Digest;
use strata_oci::verify::VerifyingReader;

use super::error::LayerFailure;
use super::plan::LayerPlan;
use super::transfer::Download;
use crate::layer::{self, LayerError, LayerMeta, UnpackOptions};
use crate::progress::{Event, Progress};
use crate::registry::Registry;
use crate::store::{Staging, Store};
use crate::transfer::{Follower, Partial, follow};

/// What fetching layers needs.
pub(super) struct Fetcher {
    pub(super) store: Arc<Store>,
    pub(super) unpack: UnpackOptions,
    /// The layer that decides how long all takes.
    pub(super) first: Option<usize>,
    pub(super) keep_blobs: bool,
    pub(super) supply: Supply,
    pub(super) progress: Arc<dyn Progress>,
}

/// Where blobs are to be had.
pub(super) enum Supply {
    /// From a repository of a registry.
    Registry(Arc<Registry>, String),
    /// From files here, each from a byte on.
    Files(HashMap<Digest, (PathBuf, u64)>),
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
    /// Brings a layer here.
    pub(super) async fn fetch(
        &self,
        item: usize,
        layer: &LayerPlan,
    ) -> Result<Fetched, LayerFailure> {
        match &self.supply {
            Supply::Registry(registry, repository) => {
                self.download(registry, repository, item, layer).await
            }
            Supply::Files(files) => {
                let place = files.get(&layer.blob.digest).cloned();
                let place = place.ok_or(LayerFailure::Absent)?;
                self.open(place, item, layer).await
            }
        }
    }

    /// From a file here: nothing of it is kept twice.
    async fn open(
        &self,
        (path, offset): (PathBuf, u64),
        item: usize,
        layer: &LayerPlan,
    ) -> Result<Fetched, LayerFailure> {
        let (store, blob) = (self.store.clone(), layer.blob.clone());
        let options = self.options(item);
        let progress = self.progress.clone();
        let work = move || -> Result<_, LayerFailure> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            let bytes = VerifyingReader::new(file.take(blob.size), blob.digest, blob.size);
            let mut bytes = Reported {
                bytes,
                at: 0,
                report: &|bytes| progress.event(Event::Moved { item, bytes }),
            };
            let staging = store.stage()?;
            let report = |bytes| progress.event(Event::Unpacked { item, bytes });
            let unpacked = layer::unpack(&mut bytes, staging.path(), &options, &report);
            let meta = unpacked.map_err(LayerFailure::Unpack)?;
            // The unpacker may have had enough before the end, where the digest is proved.
            io::copy(&mut bytes, &mut io::sink())?;
            Ok((staging, meta))
        };
        let unpacked = tokio::task::spawn_blocking(work).await;
        let (staging, meta) = unpacked.map_err(|_| LayerFailure::Interrupted)??;
        let (staging, meta) = prove(layer, staging, meta)?;
        Ok(Fetched {
            staging,
            meta,
            travelled: layer.blob.size,
            blob: layer.blob.digest.clone(),
        })
    }

    /// Over the network. Bytes that earlier tries kept and that prove wrong are fetched again, once: a power
    /// cut can leave such.
    async fn download(
        &self,
        registry: &Arc<Registry>,
        repository: &str,
        item: usize,
        layer: &LayerPlan,
    ) -> Result<Fetched, LayerFailure> {
        let path = self.store.partial_path(&layer.blob.digest);
        let mut travelled = 0;
        loop {
            let from = (registry, repository);
            let (kept, result) = self
                .attempt(from, item, layer, path.clone(), &mut travelled)
                .await;
            match result {
                Ok((staging, meta)) => {
                    if self.keep_blobs {
                        self.store.keep_blob(&staging, &layer.blob.digest)?;
                    }
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
                    let by_mirror = registry.distrust(blob, &error.to_string());
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
        (registry, repository): (&Arc<Registry>, &str),
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
        let (writer, follower) = follow(reader, kept);
        let unpacking = self.unpack(item, follower, staging);
        let download = Download {
            registry,
            repository,
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

    fn options(&self, item: usize) -> UnpackOptions {
        UnpackOptions {
            yielding: self.first != Some(item),
            ..self.unpack.clone()
        }
    }

    async fn unpack(
        &self,
        item: usize,
        follower: Follower,
        staging: Staging,
    ) -> Result<(Staging, LayerMeta), LayerFailure> {
        let options = self.options(item);
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

/// Bytes that are told of as they pass.
struct Reported<'a, R> {
    bytes: R,
    at: u64,
    report: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Reported<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.at += count as u64;
        (self.report)(self.at);
        Ok(count)
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
