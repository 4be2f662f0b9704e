//! What is pushed, made ready before any byte travels: which manifests, and where each blob's bytes
//! are to be had.

mod archive;
mod image;
mod manifest;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strata_oci::Descriptor;
use strata_oci::layout::{BlobPlace, Layout};
use strata_oci::media::ManifestKind;

pub(crate) use image::of_image;

use super::compress::{Compression, Format};
use super::content::Content;
use super::error::PushError;
use super::{Document, Plan};
use crate::progress::Progress;
use crate::registry::{Registry, RegistryOptions};
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

/// What becomes of layers that have to be compressed here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packing {
    pub(crate) compression: Compression,
    /// Also those that are compressed otherwise.
    pub(crate) force: bool,
    /// Rather fail than give the image another digest.
    pub(crate) preserve_digests: bool,
    /// Compress nothing and ask no registry: the store's layers are plain archives, and those of a docker
    /// archive stay as they are.
    pub(crate) plain: bool,
}

/// What is appended to the media type of a layer.
fn suffix(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::Gzip) => "+gzip",
        Some(Format::Zstd) => "+zstd",
        None => "",
    }
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
    packing: &Packing,
    workplace: &Path,
) -> Result<Plan, PushError> {
    match source {
        Source::Image(image) => of_image(origins, image, packing, workplace).await,
        Source::Layout { .. } | Source::OciArchive { .. } if packing.force => {
            Err(PushError::Finished)
        }
        Source::Layout { dir, name } => {
            let (dir, name) = (dir.clone(), name.clone());
            blocking(move || of_layout(&Layout::open(dir)?, name.as_deref())).await
        }
        Source::OciArchive { file, name } => {
            let (file, name) = (file.clone(), name.clone());
            blocking(move || of_layout(&Layout::open_archive(file)?, name.as_deref())).await
        }
        Source::DockerArchive { file, reference } => {
            packed(
                file.clone(),
                reference.clone(),
                *packing,
                workplace.to_owned(),
            )
            .await
        }
    }
}

/// What there is to send of a docker archive.
pub(crate) async fn packed(
    file: PathBuf,
    reference: Option<String>,
    packing: Packing,
    workplace: PathBuf,
) -> Result<Plan, PushError> {
    blocking(move || archive::of_archive(&file, reference.as_deref(), &packing, &workplace)).await
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
