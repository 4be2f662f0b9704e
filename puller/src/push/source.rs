//! What is pushed, made ready before any byte travels: which manifests, and where each blob's bytes
//! are to be had.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use strata_oci::archive::{ArchiveImage, DockerArchive};
use strata_oci::layout::{BlobPlace, Layout};
use strata_oci::manifest::MAX_MANIFEST;
use strata_oci::media::{self, ManifestKind};
use strata_oci::{Descriptor, Digest};

use super::content::Content;
use super::error::PushError;
use super::repack::{self, Packed};
use super::{Document, Plan};
use crate::layer;
use crate::progress::{Event, Progress};
use crate::registry::{Purpose, Registry, RegistryOptions};
use crate::store::{Image, Store};

/// Builders make indexes of images; some wrap one index in another. None goes deeper.
const MAX_DEPTH: usize = 3;
/// Children of all indexes together; a layout that names more is no image.
const MAX_MANIFESTS: usize = 4096;

/// An image to be pushed.
#[derive(Debug, Clone)]
pub enum Source {
    /// An image of the local store.
    Image(Box<Image>),
    /// An image or index of an OCI layout directory.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// Its name there; none: the only one.
        name: Option<String>,
    },
    /// An image or index of an OCI layout in one file.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// Its name there; none: the only one.
        name: Option<String>,
    },
    /// An image of a docker archive.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// Its reference there; none: the only one.
        reference: Option<String>,
    },
}

/// Where the blobs of the store's images are to be had: the store keeps none.
pub(crate) struct Origins {
    pub(crate) store: Arc<Store>,
    /// Where they go: what is there already need not be had.
    pub(crate) target: Option<(Arc<Registry>, String)>,
    pub(crate) options: RegistryOptions,
    pub(crate) progress: Arc<dyn Progress>,
    /// Registries that could not be asked: once is enough.
    pub(crate) silent: Mutex<HashSet<String>>,
}

impl Origins {
    fn silent(&self) -> MutexGuard<'_, HashSet<String>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self, name: &str) -> Result<Arc<Registry>, PushError> {
        match &self.target {
            Some((registry, _)) if registry.name() == name => Ok(registry.clone()),
            _ => Ok(Arc::new(Registry::new(name, &self.options)?)),
        }
    }
}

/// Finds out what there is to send.
pub(super) async fn plan(
    origins: &Origins,
    source: &Source,
    workplace: &Path,
) -> Result<Plan, PushError> {
    match source {
        Source::Image(image) => of_image(origins, image, workplace).await,
        Source::Layout { dir, name } => {
            let (dir, name) = (dir.clone(), name.clone());
            blocking(move || of_layout(&Layout::open(dir)?, name.as_deref())).await
        }
        Source::OciArchive { file, name } => {
            let (file, name) = (file.clone(), name.clone());
            blocking(move || of_layout(&Layout::open_archive(file)?, name.as_deref())).await
        }
        Source::DockerArchive { file, reference } => {
            packed(file.clone(), reference.clone(), workplace.to_owned()).await
        }
    }
}

/// What there is to send of a docker archive.
pub(crate) async fn packed(
    file: PathBuf,
    reference: Option<String>,
    workplace: PathBuf,
) -> Result<Plan, PushError> {
    blocking(move || of_archive(&file, reference.as_deref(), &workplace)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PushError> + Send + 'static,
) -> Result<T, PushError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| PushError::Interrupted)?
}

fn of_layout(layout: &Layout, name: Option<&str>) -> Result<Plan, PushError> {
    let mut plan = Plan {
        blobs: Vec::new(),
        manifests: Vec::new(),
    };
    let root = layout.find(name)?.clone();
    collect(layout, &root, 0, &mut plan)?;
    Ok(plan)
}

/// Children before their index, blobs in the manifests' order.
fn collect(
    layout: &Layout,
    descriptor: &Descriptor,
    depth: usize,
    plan: &mut Plan,
) -> Result<(), PushError> {
    if depth > MAX_DEPTH || plan.manifests.len() >= MAX_MANIFESTS {
        return Err(PushError::Nested);
    }
    let (bytes, manifest) = layout.manifest(descriptor)?;
    if manifest.kind == ManifestKind::Index {
        for child in &manifest.manifests {
            collect(layout, child, depth + 1, plan)?;
        }
    }
    for blob in manifest.required_blobs() {
        // Looked for now, so that what is missing is missed before anything is sent.
        let BlobPlace { path, offset } = layout.blob_place(blob)?;
        plan.blobs
            .push((blob.clone(), Content::File { path, offset }));
    }
    plan.manifests.push(Document {
        digest: descriptor.digest.clone(),
        media_type: manifest.media_type,
        bytes: bytes.into(),
    });
    Ok(())
}

/// A docker archive has no manifest and, mostly, no compressed layers: both are made, the same each
/// time.
fn of_archive(file: &Path, reference: Option<&str>, workplace: &Path) -> Result<Plan, PushError> {
    let archive = DockerArchive::open(file)?;
    let image = archive.image(reference)?;
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= image.layers.len() {
                return Ok::<_, PushError>(done);
            }
            let layer = archive_layer(&archive, &image, number, file, workplace)?;
            done.push((number, layer));
        }
    };
    let mut layers = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut layers = Vec::new();
        for worker in workers {
            layers.extend(worker.join().map_err(|_| PushError::Interrupted)??);
        }
        Ok::<_, PushError>(layers)
    })?;
    layers.sort_by_key(|(number, _)| *number);
    let config = Descriptor::new(
        media::OCI_CONFIG,
        Digest::of(&image.config_bytes),
        image.config_bytes.len() as u64,
    );
    let mut blobs = vec![(
        config.clone(),
        Content::Memory(image.config_bytes.clone().into()),
    )];
    blobs.extend(layers.into_iter().map(|(_, layer)| layer));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": config,
        "layers": blobs[1..].iter().map(|(blob, _)| blob).collect::<Vec<_>>(),
    });
    let bytes = Bytes::from(manifest.to_string());
    let manifests = vec![Document {
        digest: Digest::of(&bytes),
        media_type: media::OCI_MANIFEST.to_owned(),
        bytes,
    }];
    Ok(Plan { blobs, manifests })
}

fn archive_layer(
    archive: &DockerArchive,
    image: &ArchiveImage,
    number: usize,
    file: &Path,
    workplace: &Path,
) -> Result<(Descriptor, Content), PushError> {
    let span = image.layers[number];
    let local = |source| PushError::Local {
        what: "reading the archive's layers",
        source,
    };
    let open = || archive.open_span(span).map_err(local);
    let (mut suffix, mut packed) = repack::inspect(open()?).map_err(local)?;
    let expected = &image.config.rootfs.diff_ids[number];
    if packed.diff_id != *expected {
        return Err(PushError::DiffId {
            number: number + 1,
            expected: expected.clone(),
            actual: packed.diff_id,
        });
    }
    let mut content = Content::File {
        path: file.to_owned(),
        offset: span.offset,
    };
    if suffix.is_empty() {
        let path = workplace.join(format!("layer-{number}.tar.gz"));
        let mut tar = open()?;
        let copy = |out: &mut dyn std::io::Write| std::io::copy(&mut tar, out).map(drop);
        (suffix, packed) = ("+gzip", repack::gzip(&path, copy).map_err(local)?);
        content = Content::File { path, offset: 0 };
    }
    let media_type = format!("{}{suffix}", media::OCI_LAYER);
    let blob = Descriptor::new(media_type, packed.digest, packed.size);
    Ok((blob, content))
}

/// An image of the store: its blobs were dropped when it was unpacked. What the
/// target does not have and cannot mount passes through from the registry that it came from; what no
/// registry has is compressed anew from the layer, and then the manifest is a new one.
pub(crate) async fn of_image(
    origins: &Origins,
    image: &Image,
    workplace: &Path,
) -> Result<Plan, PushError> {
    let mut blobs = Vec::new();
    if let Some(config) = &image.manifest.config {
        let bytes = Bytes::from(image.config_bytes.clone());
        blobs.push((config.clone(), Content::Memory(bytes)));
    }
    let mut replaced = Vec::new();
    for (number, blob) in image.manifest.layers.iter().enumerate() {
        if media::is_nondistributable(&blob.media_type) {
            continue;
        }
        match find(origins, blob).await? {
            Some(content) => blobs.push((blob.clone(), content)),
            None => {
                let (new, content) = rebuilt(origins, image, number, workplace).await?;
                blobs.push((new.clone(), content));
                replaced.push((number, new));
            }
        }
    }
    let bytes = if replaced.is_empty() {
        Bytes::from(image.manifest_bytes.clone())
    } else {
        with_layers(image, &replaced)?
    };
    let manifests = vec![Document {
        digest: if replaced.is_empty() {
            image.digest.clone()
        } else {
            Digest::of(&bytes)
        },
        media_type: image.manifest.media_type.clone(),
        bytes,
    }];
    Ok(Plan { blobs, manifests })
}

/// Where a blob's exact bytes are to be had: at the target already, or in another registry.
async fn find(origins: &Origins, blob: &Descriptor) -> Result<Option<Content>, PushError> {
    if let Some((registry, repository)) = &origins.target {
        let there = registry.has_blob(repository, &blob.digest, Purpose::Push);
        if there.await? {
            let (registry, repository) = (registry.clone(), repository.clone());
            return Ok(Some(Content::Registry {
                registry,
                repository,
            }));
        }
    }
    for (name, repository) in origins.store.origins(&blob.digest)? {
        if origins.silent().contains(&name) {
            continue;
        }
        let registry = origins.client(&name)?;
        match registry
            .has_blob(&repository, &blob.digest, Purpose::Pull)
            .await
        {
            Ok(true) => {
                return Ok(Some(Content::Registry {
                    registry,
                    repository,
                }));
            }
            Ok(false) => origins
                .store
                .remove_origin(&blob.digest, &name, &repository)?,
            // One that cannot be asked now is no reason to fail: there are others, and the layer itself.
            Err(error) => {
                tracing::debug!(%error, registry = name, "asking for a blob");
                origins.silent().insert(name);
            }
        }
    }
    Ok(None)
}

/// Compresses a layer anew from what was unpacked.
async fn rebuilt(
    origins: &Origins,
    image: &Image,
    number: usize,
    workplace: &Path,
) -> Result<(Descriptor, Content), PushError> {
    let blob = &image.manifest.layers[number];
    let gone = |why: String| PushError::Gone {
        digest: blob.digest.clone(),
        asked: "no registry that had it has it now".to_owned(),
        why,
    };
    let Some(diff_id) = image.config.rootfs.diff_ids.get(number).cloned() else {
        return Err(gone(
            "the image's configuration does not name it".to_owned(),
        ));
    };
    let text = format!(
        "layer {} is in no registry that can be reached: compressing it anew, so the image gets a new digest",
        blob.digest
    );
    origins.progress.event(Event::Message(text));
    let path = workplace.join(format!("layer-{number}.tar.gz"));
    let (to, directory) = (path.clone(), origins.store.layer_dir(&diff_id));
    let packing = tokio::task::spawn_blocking(move || {
        repack::gzip(&to, |out| {
            layer::rebuild(&directory, out).map_err(std::io::Error::other)
        })
    });
    let packed: Packed = packing
        .await
        .map_err(|_| PushError::Interrupted)?
        .map_err(|error| gone(error.to_string()))?;
    if packed.diff_id != diff_id {
        let why = format!(
            "it is damaged: its digest is {}, not {diff_id}",
            packed.diff_id
        );
        return Err(gone(why));
    }
    let docker = image.manifest.media_type == media::DOCKER_MANIFEST;
    let media_type = if docker {
        media::DOCKER_LAYER_GZIP
    } else {
        media::OCI_LAYER_GZIP
    };
    let blob = Descriptor::new(media_type, packed.digest, packed.size);
    Ok((blob, Content::File { path, offset: 0 }))
}

/// The manifest with other blobs for some of its layers; everything else in it stays.
fn with_layers(image: &Image, replaced: &[(usize, Descriptor)]) -> Result<Bytes, PushError> {
    let local = |source| PushError::Local {
        what: "writing a new manifest",
        source,
    };
    let mut document: serde_json::Value = serde_json::from_slice(&image.manifest_bytes)
        .map_err(|error| local(std::io::Error::other(error)))?;
    for (number, blob) in replaced {
        if let Some(layer) = document.pointer_mut(&format!("/layers/{number}")) {
            *layer = serde_json::json!(blob);
        }
    }
    let bytes = Bytes::from(document.to_string());
    if bytes.len() > MAX_MANIFEST {
        return Err(local(std::io::Error::other("it would be too large")));
    }
    Ok(bytes)
}
