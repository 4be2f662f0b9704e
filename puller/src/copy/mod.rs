//! Copying images between registries, OCI layouts, archives and the local store, without unpacking them.
//!
//! Manifests travel to the byte, so every digest stays what it was; blobs travel one by one, several at
//! once, hashed on the way, and only those that the target lacks: it is asked first, then told to
//! mount what another of its repositories has. Children come before their index, names last, so that
//! whoever reads meanwhile sees the old image or the new one (distribution-spec, "Push").

mod choice;
mod contents;
mod error;
mod file;
mod plan;
mod reader;
mod rebase;
mod sink;
mod spool;
mod target;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use oci_distribution::Reference;
use strata_oci::layout::Layout;
use strata_oci::{Descriptor, Digest};

pub use choice::Platforms;
pub use contents::{Held, contents};
pub use error::CopyError;
pub use spool::spool;

use crate::progress::{Event, How, Progress};
use crate::push::BlobReport;
use crate::push::content::Content;
use crate::push::source::{Origins, Packing, of_image, packed};
use crate::registry::{Registry, RegistryOptions};
use crate::store::{Image, Store};
use crate::transfer::Throttle;
use plan::{Found, Wanted};
use reader::{Opened, Reader};
use sink::{Item, Known, Sink};

/// What is copied.
#[derive(Clone)]
pub enum Source {
    /// An image or index in a registry.
    Registry(Reference),
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
    /// An image of a docker archive. It has no manifest, so one is made, the same each time.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// Its reference there; none: the only one.
        reference: Option<String>,
    },
    /// An image of the local store. It keeps no blobs: they come from the registries that had
    /// them, or are compressed anew, and then the manifest is a new one.
    Store {
        /// The store.
        store: Arc<Store>,
        /// The image.
        image: Box<Image>,
    },
}

/// Where one image goes.
#[derive(Debug, Clone)]
pub enum Target {
    /// A tag or digest of a registry.
    Registry(Reference),
    /// An OCI layout directory, made if need be. What is there stays.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// The image's name there.
        name: Option<String>,
    },
}

/// Which kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// An OCI layout.
    Oci,
    /// An OCI layout that is a docker archive too, for `docker load` and `podman load`: one image of one
    /// platform under each name. The layers stay compressed as they are.
    Docker,
}

/// How to copy.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How to talk to the source's registry.
    pub source: RegistryOptions,
    /// How to talk to the target's registry.
    pub target: RegistryOptions,
    /// Which images of an index.
    pub platforms: Platforms,
    /// Also the signatures, SBOMs and other artifacts that belong to the image.
    pub referrers: bool,
    /// How many blobs travel at once.
    pub parallel: usize,
    /// At most so many bytes a second, all together.
    pub rate: Option<NonZeroU64>,
    /// Layers of the store go as plain archives, written again from their records, and no registry is asked; those of
    /// a docker archive go as they are.
    pub plain: bool,
    /// What a failed copy leaves of an archive stays, for the next try to take up.
    pub resumable: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            source: RegistryOptions::default(),
            target: RegistryOptions::default(),
            platforms: Platforms::All,
            referrers: false,
            parallel: 4,
            rate: None,
            plain: false,
            resumable: true,
        }
    }
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// The digest of what was copied: an index's or a manifest's; of several, of the last.
    pub digest: Option<Digest>,
    /// The target's name stood for that digest already, so nothing was looked at.
    pub unchanged: bool,
    /// How many manifests were sent or written.
    pub manifests: usize,
    /// How many of them are signatures, SBOMs and the like.
    pub referrers: usize,
    /// The blobs, in the order of their manifests. Those of manifests that the target had are not
    /// looked at.
    pub blobs: Vec<BlobReport>,
    /// Bytes of blobs that travelled: less than the blobs' sizes where a broken copy is taken up.
    pub bytes: u64,
}

impl CopyReport {
    /// The number of blobs that came to the target in one of these ways, and their sizes' sum.
    pub fn total(&self, ways: &[How]) -> (usize, u64) {
        let blobs = self.blobs.iter().filter(|blob| ways.contains(&blob.how));
        blobs.fold((0, 0), |(n, bytes), blob| (n + 1, bytes + blob.size))
    }
}

/// Copies one image or index.
///
/// # Errors
/// See [`CopyError`]. After one, the target's name stands for what it stood for; bytes that
/// arrived in a layout are kept for the next try unless they are wrong.
pub async fn copy(
    source: &Source,
    target: &Target,
    options: CopyOptions,
    progress: Arc<dyn Progress>,
) -> Result<CopyReport, CopyError> {
    Copier::new(options, progress).copy(source, target).await
}

/// Copies image after image, or several at once: connections and tokens are shared, and what one
/// repository of the target was given is mounted into the next.
pub struct Copier {
    options: CopyOptions,
    progress: Arc<dyn Progress>,
    shared: Arc<Shared>,
}

/// What all copies of a run share.
struct Shared {
    throttle: Option<Arc<Throttle>>,
    /// By name, and whether the registry is a target.
    registries: Mutex<HashMap<(String, bool), Arc<Registry>>>,
    known: Known,
    items: AtomicUsize,
}

impl Copier {
    /// Nothing is sent yet.
    pub fn new(options: CopyOptions, progress: Arc<dyn Progress>) -> Self {
        let throttle = options.rate.map(|rate| Arc::new(Throttle::new(rate.get())));
        Self {
            options,
            progress,
            shared: Arc::new(Shared {
                throttle,
                registries: Mutex::default(),
                known: Known::default(),
                items: AtomicUsize::new(0),
            }),
        }
    }

    /// The same, with other wishes about what belongs to an image.
    pub fn with(&self, platforms: Platforms, referrers: bool) -> Self {
        let options = CopyOptions {
            platforms,
            referrers,
            ..self.options.clone()
        };
        Self {
            options,
            progress: self.progress.clone(),
            shared: self.shared.clone(),
        }
    }

    /// The client for a registry that is copied from, or to.
    ///
    /// # Errors
    /// The name is not a host with an optional port.
    pub fn registry(&self, name: &str, target: bool) -> Result<Arc<Registry>, CopyError> {
        let all = self.shared.registries.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), target);
        if let Some(known) = all.get(&key) {
            return Ok(known.clone());
        }
        let options = match target {
            true => &self.options.target,
            false => &self.options.source,
        };
        let made = Registry::new(name, options)?.telling(self.progress.clone());
        let made = Arc::new(made);
        all.insert(key, made.clone());
        Ok(made)
    }

    /// The reader of a source that has manifests of its own, and the name in it.
    async fn reader(&self, source: &Source) -> Result<(Reader, Option<String>), CopyError> {
        let (path, name, packed) = match source {
            Source::Registry(reference) => {
                let registry = self.registry(reference.registry(), false)?;
                let repository = reference.repository().to_owned();
                let name = reference.digest().or(reference.tag()).map(str::to_owned);
                let reader = Reader::Registry {
                    registry,
                    repository,
                };
                return Ok((reader, name));
            }
            Source::Layout { dir, name } => (dir.clone(), name.clone(), false),
            Source::OciArchive { file, name } => (file.clone(), name.clone(), true),
            Source::DockerArchive { .. } | Source::Store { .. } => {
                return Err(CopyError::Interrupted);
            }
        };
        let opening = tokio::task::spawn_blocking(move || match packed {
            true => Layout::open_archive(path),
            false => Layout::open(path),
        });
        let layout = opening.await.map_err(|_| CopyError::Interrupted)??;
        // What belongs to the image stands beside it under a name that begins as its own does.
        let only = layout.find(name.as_deref())?;
        let own = strata_oci::layout::ref_name(only).map(str::to_owned);
        // One that was named by its digest may have no name, or the same as another.
        let name = match name {
            Some(digest) if own.as_ref() != Some(&digest) => Some(digest),
            _ => own,
        };
        Ok((Reader::Layout(Opened::new(layout)), name))
    }

    /// What there is to copy. `workplace` lives as long as the files that are made for it.
    async fn find(
        &self,
        source: &Source,
        workplace: &mut Option<tempfile::TempDir>,
        nondistributable: bool,
        present: impl AsyncFn(&Digest) -> Result<bool, CopyError>,
    ) -> Result<Found, CopyError> {
        let made = |source| CopyError::File {
            path: std::env::temp_dir(),
            source,
        };
        let packing = Packing {
            plain: self.options.plain,
            ..Packing::default()
        };
        let plan = match source {
            Source::DockerArchive { file, reference } => {
                let dir = workplace.insert(tempfile::tempdir().map_err(made)?);
                let (file, reference) = (file.clone(), reference.clone());
                packed(file, reference, packing, dir.path().to_owned()).await?
            }
            Source::Store { store, image } => {
                let dir = workplace.insert(tempfile::tempdir().map_err(made)?);
                let origins = Origins {
                    store: store.clone(),
                    target: None,
                    options: self.options.source.clone(),
                    progress: self.progress.clone(),
                    silent: Mutex::default(),
                };
                of_image(&origins, image, &packing, dir.path()).await?
            }
            _ => {
                let (reader, name) = self.reader(source).await?;
                let wanted = Wanted {
                    platforms: &self.options.platforms,
                    referrers: self.options.referrers,
                    nondistributable,
                };
                return plan::find(&reader, name.as_deref(), wanted, present).await;
            }
        };
        let last = plan.manifests.last().ok_or(CopyError::Interrupted)?;
        let size = last.bytes.len() as u64;
        let root = Descriptor::new(&last.media_type, last.digest.clone(), size);
        let companions = Vec::new();
        Ok(Found {
            plan,
            root,
            companions,
        })
    }

    /// Brings blobs to the target, several at once, the largest first; what the source does not have
    /// before all others, so that nothing travels in vain. The first failure ends all.
    async fn send_all(
        &self,
        sink: &Sink<'_>,
        blobs: &[(Descriptor, Content)],
    ) -> Result<(Vec<BlobReport>, u64), CopyError> {
        let first = self.shared.items.fetch_add(blobs.len(), Ordering::Relaxed);
        for (number, (blob, _)) in blobs.iter().enumerate() {
            let (item, digest, size) = (first + number, blob.digest.clone(), blob.size);
            self.progress.event(Event::Planned { item, digest, size });
        }
        let is_absent = |number: &usize| matches!(blobs[*number].1, Content::Absent);
        let (absent, mut order): (Vec<usize>, Vec<usize>) = (0..blobs.len()).partition(is_absent);
        order.sort_by_key(|number| std::cmp::Reverse(blobs[*number].0.size));
        let one = |number: usize| async move {
            let (blob, content) = &blobs[number];
            let item = first + number;
            let on_its_way = Item {
                number: item,
                blob,
                content,
                throttle: self.shared.throttle.as_ref(),
                progress: &self.progress,
            };
            match sink.bring(&on_its_way).await {
                Ok((how, bytes)) => {
                    self.progress.event(Event::Done { item, how });
                    Ok((number, how, bytes))
                }
                Err(error) => {
                    self.progress.event(Event::Failed { item });
                    Err(error)
                }
            }
        };
        let parallel = self.options.parallel.max(1);
        let mut done: HashMap<usize, How> = HashMap::new();
        let mut travelled = 0;
        let mut missing: Vec<Descriptor> = Vec::new();
        for order in [absent, order] {
            let mut running =
                futures_util::stream::iter(order.into_iter().map(one)).buffer_unordered(parallel);
            while let Some(result) = running.next().await {
                match result {
                    Ok((number, how, bytes)) => {
                        done.insert(number, how);
                        travelled += bytes;
                    }
                    Err(CopyError::Missing(blobs)) => missing.extend(blobs),
                    Err(error) => return Err(error),
                }
            }
            if !missing.is_empty() {
                return Err(CopyError::Missing(missing));
            }
        }
        let reports = blobs.iter().enumerate().filter_map(|(number, (blob, _))| {
            Some(BlobReport {
                digest: blob.digest.clone(),
                size: blob.size,
                how: *done.get(&number)?,
            })
        });
        Ok((reports.collect(), travelled))
    }
}
