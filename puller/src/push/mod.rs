//! Pushing: which blobs the registry lacks, and sending them.
//!
//! Each blob is looked for at the target, then linked from another repository of the same registry,
//! and only then sent, by an upload that goes on where it broke off. Which digest the image will have is known
//! before anything is sent (see [`PushOptions::preserve_digests`]). Manifests follow their blobs and children, and the tag comes last, so that whoever
//! pulls meanwhile sees the old image or the new one (distribution-spec, "Push").

mod compress;
pub(crate) mod content;
mod error;
mod proof;
mod repack;
pub(crate) mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt as _;
use oci_distribution::Reference;
use strata_oci::{Descriptor, Digest};

pub use compress::{Compression, CompressionError, Format};
pub use error::PushError;
pub(crate) use repack::weigh;
pub use source::Source;

use crate::progress::{Event, How, Progress};
use crate::registry::{Mount, Purpose, Registry, RegistryOptions, Upload};
use crate::store::Store;
use content::Content;
use source::{Origins, Packing};

/// How many repositories are asked to mount a blob from, before it is sent.
const MAX_MOUNTS: usize = 3;

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// How to talk to the registry.
    pub registry: RegistryOptions,
    /// How many blobs are sent at once.
    pub parallel: usize,
    /// How layers are compressed that have to be compressed here: those of docker archives, and those of the
    /// store that no registry has any more and whose old bytes cannot be made again.
    pub compression: Compression,
    /// Compresses layers that are compressed otherwise, too. They get new digests.
    pub force_compression: bool,
    /// Fails, before anything is sent, if an image of the store would get another digest than it was pulled with.
    pub preserve_digests: bool,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            registry: RegistryOptions::default(),
            parallel: 4,
            compression: Compression::default(),
            force_compression: false,
            preserve_digests: false,
        }
    }
}

/// What a push did.
#[derive(Debug, Clone)]
pub struct PushReport {
    /// The digest of what was pushed: an index's or a manifest's.
    pub digest: Digest,
    /// The blobs, in the order of their manifests.
    pub blobs: Vec<BlobReport>,
}

/// What a push did about a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobReport {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Sent, mounted, or there already.
    pub how: How,
}

/// What is pushed: blobs, then manifests, of which the last is the image or index itself.
pub(crate) struct Plan {
    pub(crate) blobs: Vec<(Descriptor, Content)>,
    pub(crate) manifests: Vec<Document>,
}

/// A manifest on its way.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// Sends an image to `target`: only the blobs that its registry lacks.
///
/// # Errors
/// See [`PushError`]. After one, the target's tag is what it was.
pub async fn push(
    store: Arc<Store>,
    source: &Source,
    target: &Reference,
    options: &PushOptions,
    progress: Arc<dyn Progress>,
) -> Result<PushReport, PushError> {
    let registry = Registry::new(target.registry(), &options.registry)?;
    let registry = Arc::new(registry.telling(progress.clone()));
    let origins = Origins {
        store: store.clone(),
        target: Some((registry.clone(), target.repository().to_owned())),
        options: options.registry.clone(),
        progress: progress.clone(),
        silent: Mutex::default(),
    };
    let sender = Sender {
        store,
        registry,
        target,
        options,
        progress,
    };
    // Lives as long as the files that are made for this push.
    let workplace = sender.store.stage()?;
    let packing = Packing {
        compression: options.compression,
        force: options.force_compression,
        preserve_digests: options.preserve_digests,
        plain: false,
    };
    let plan = source::plan(&origins, source, &packing, workplace.path()).await?;
    let Some(root) = plan.manifests.last() else {
        return Err(PushError::Nested);
    };
    let digest = root.digest.clone();
    let name = match (target.tag(), target.digest()) {
        (_, Some(wanted)) if wanted != digest.to_string() => {
            let wanted = wanted.to_owned();
            return Err(PushError::Target {
                wanted,
                actual: digest,
            });
        }
        (Some(tag), _) => tag.to_owned(),
        (None, Some(wanted)) => wanted.to_owned(),
        (None, None) => "latest".to_owned(),
    };
    let blobs = sender.send_all(&plan.blobs).await?;
    let last = plan.manifests.len() - 1;
    for (number, document) in plan.manifests.iter().enumerate() {
        let own = document.digest.to_string();
        let reference = if number == last { &name } else { &own };
        let Document {
            media_type, bytes, ..
        } = document;
        let (repository, bytes) = (target.repository(), bytes.clone());
        sender
            .registry
            .put_manifest(repository, reference, media_type, bytes)
            .await?;
    }
    Ok(PushReport { digest, blobs })
}

/// One push.
struct Sender<'a> {
    store: Arc<Store>,
    registry: Arc<Registry>,
    target: &'a Reference,
    options: &'a PushOptions,
    progress: Arc<dyn Progress>,
}

impl Sender<'_> {
    /// Sends several at once, each once, the largest first; the first failure ends all.
    async fn send_all(
        &self,
        blobs: &[(Descriptor, Content)],
    ) -> Result<Vec<BlobReport>, PushError> {
        let mut distinct: Vec<&(Descriptor, Content)> = Vec::new();
        for blob in blobs {
            if distinct.iter().all(|d| d.0.digest != blob.0.digest) {
                distinct.push(blob);
            }
        }
        for (item, (blob, _)) in distinct.iter().enumerate() {
            let (digest, size) = (blob.digest.clone(), blob.size);
            self.progress.event(Event::Planned { item, digest, size });
        }
        let mut order: Vec<usize> = (0..distinct.len()).collect();
        order.sort_by_key(|item| std::cmp::Reverse(distinct[*item].0.size));
        let distinct = &distinct;
        let one = |item: usize| async move {
            let (blob, content) = distinct[item];
            match self.send(item, blob, content).await {
                Ok(how) => {
                    self.progress.event(Event::Done { item, how });
                    Ok((item, how))
                }
                Err(error) => {
                    self.progress.event(Event::Failed { item });
                    Err(error)
                }
            }
        };
        let parallel = self.options.parallel.max(1);
        let mut running =
            futures_util::stream::iter(order.into_iter().map(one)).buffer_unordered(parallel);
        let mut done: HashMap<usize, How> = HashMap::new();
        while let Some(result) = running.next().await {
            let (item, how) = result?;
            done.insert(item, how);
        }
        let reports = distinct.iter().enumerate().filter_map(|(item, (blob, _))| {
            Some(BlobReport {
                digest: blob.digest.clone(),
                size: blob.size,
                how: *done.get(&item)?,
            })
        });
        Ok(reports.collect())
    }

    async fn send(
        &self,
        item: usize,
        blob: &Descriptor,
        content: &Content,
    ) -> Result<How, PushError> {
        let how = self.bring(item, blob, content).await?;
        let (registry, repository) = (self.target.registry(), self.target.repository());
        self.store.add_origin(&blob.digest, registry, repository)?;
        Ok(how)
    }

    async fn bring(
        &self,
        item: usize,
        blob: &Descriptor,
        content: &Content,
    ) -> Result<How, PushError> {
        let repository = self.target.repository();
        if let Content::Registry {
            registry,
            repository: from,
        } = content
            && Arc::ptr_eq(registry, &self.registry)
            && from == repository
        {
            // It was looked for a moment ago, when the image was planned.
            return Ok(How::Reused);
        }
        let there = self
            .registry
            .has_blob(repository, &blob.digest, Purpose::Push);
        if there.await? {
            return Ok(How::Reused);
        }
        let origins = self.store.origins(&blob.digest)?;
        let here = origins
            .into_iter()
            .filter(|(registry, from)| registry == self.target.registry() && from != repository);
        let siblings: Vec<String> = here.map(|(_, from)| from).take(MAX_MOUNTS).collect();
        let mounting = self
            .registry
            .mount_from_any(repository, &blob.digest, &siblings);
        let session = match mounting.await? {
            Mount::Done => return Ok(How::Mounted),
            Mount::Begun(session) => Some(session),
            Mount::Refused => None,
        };
        let reader = content.reader(blob);
        let progress = self.progress.clone();
        let upload = Upload {
            digest: &blob.digest,
            size: blob.size,
            body: &|from| reader.chunks(from),
            progress: Arc::new(move |bytes| progress.event(Event::Moved { item, bytes })),
        };
        let _turn = content.turn().await;
        self.registry.put_blob(repository, session, &upload).await?;
        Ok(How::Uploaded)
    }
}
