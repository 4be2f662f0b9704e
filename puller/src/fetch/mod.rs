//! Pulling: which layers are missing, and bringing them here.
//!
//! Nothing is visible before all of it is proved: each layer's size and digest, the diffID of what it
//! unpacks to, and that manifest and configuration tell one story. Then all of it becomes visible at once.

mod describe;
mod error;
mod layer;
mod load;
mod plan;
mod repair;
mod resolve;
#[cfg(test)]
mod tests;
mod transfer;
mod writeback;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use oci_distribution::Reference;
use strata_oci::config::{ImageConfig, MAX_CONFIG};
use strata_oci::{Digest, Platform};

pub use describe::{Described, describe};
pub use error::{LayerFailure, PullError};
pub(crate) use load::load;
pub use repair::{RepairError, Repaired, repair_layer};
pub use resolve::manifest;
pub(crate) use resolve::parse;

use crate::progress::{Event, How, Progress};
use crate::registry::{Registry, RegistryError, RegistryOptions};
use crate::store::{Image, LayerClaim, NewImage, Store, StoreError};
use layer::{Fetched, Fetcher, Supply};
use plan::LayerPlan;
use resolve::{Resolved, selector};
use writeback::{Arrival, Watched, Writeback};

/// What to pull and how.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which image; none: of an index the one that suits this machine best, else whatever there is.
    pub platform: Option<Platform>,
    /// How to talk to the registry.
    pub registry: RegistryOptions,
    /// How many layers are fetched at once.
    pub parallel: usize,
    /// Whether the blobs of layers that are fetched are kept beside the layers.
    pub keep_blobs: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: None,
            registry: RegistryOptions::default(),
            parallel: 4,
            keep_blobs: false,
        }
    }
}

/// What a pull did.
#[derive(Debug, Clone)]
pub struct PullReport {
    /// The image, as the store has it now.
    pub image: Image,
    /// What the reference stands for at the registry: an index's digest or the manifest's own.
    pub resolved: Digest,
    /// The layers, the lowest first.
    pub layers: Vec<LayerReport>,
    /// Bytes of layers that travelled.
    pub bytes_fetched: u64,
    /// Bytes of layers that did not have to, by the sizes of their blobs.
    pub bytes_reused: u64,
}

/// What a pull did about a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerReport {
    /// The digest of its tar.
    pub diff_id: Digest,
    /// The digest of its blob.
    pub digest: Digest,
    /// The size of its blob in bytes.
    pub size: u64,
    /// Whether it was fetched; else it was here already.
    pub fetched: bool,
}

/// Brings an image here: only the layers whose diffIDs the store lacks.
///
/// # Errors
/// See [`PullError`]. After one, nothing of the image is visible that was not before; bytes that
/// arrived are kept for the next try unless they are wrong.
pub async fn pull(
    store: Arc<Store>,
    reference: &Reference,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
) -> Result<PullReport, PullError> {
    let registry = Registry::new(reference.registry(), &options.registry)?;
    let registry = Arc::new(registry.telling(progress.clone()));
    if let Some((image, resolved)) = unchanged(&store, &registry, reference, options).await? {
        for blob in &image.manifest.layers {
            store.drop_partial(&blob.digest);
        }
        return Ok(reused(image, resolved, &*progress));
    }
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let resolved = resolve::resolve(&registry, reference, &platform).await?;
    let repository = reference.repository().to_owned();
    let config = config_bytes(&store, &registry, &repository, &resolved).await?;
    let origin = (reference.registry().to_owned(), repository.clone());
    let found = Found {
        reference: Some(reference),
        resolved,
        config,
        supply: Supply::Registry(registry, repository),
        origin: Some(origin),
    };
    bring(store, found, options, progress).await
}

/// An image whose layers are to be brought here.
struct Found<'a> {
    /// What it is to be called here.
    reference: Option<&'a Reference>,
    resolved: Resolved,
    config: Vec<u8>,
    supply: Supply,
    /// The registry and repository that have it.
    origin: Option<(String, String)>,
}

/// Brings the layers here that are missing, and shows the image when all are.
async fn bring(
    store: Arc<Store>,
    found: Found<'_>,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
) -> Result<PullReport, PullError> {
    let Found {
        reference,
        resolved,
        config,
        supply,
        origin,
    } = found;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let config_digest = Digest::of(&config);
    let parsed = plan::read_config(&config_digest, &config)?;
    let layers = plan::layers(&resolved.manifest, &config_digest, &parsed)?;
    if !suits(&platform, &parsed) {
        let (wanted, offered) = (platform, parsed.platform());
        if options.platform.is_some() {
            let offered = vec![offered];
            return Err(PullError::Platform { wanted, offered });
        }
        let text = format!("the image is for {offered}, this machine is {wanted}");
        progress.event(Event::Message(text));
    }
    for (item, layer) in layers.iter().enumerate() {
        let (digest, size) = (layer.blob.digest.clone(), layer.blob.size);
        progress.event(Event::Planned { item, digest, size });
    }
    let claims = claim(&store, &layers, &progress).await?;
    let missing = claims.iter().filter(|claim| !claim.present);
    // A layer that the image has twice is fetched once.
    let mut wanted: Vec<usize> = missing
        .filter_map(|claim| layers.iter().position(|l| l.diff_id == claim.diff_id))
        .collect();
    for item in (0..layers.len()).filter(|item| !wanted.contains(item)) {
        store.drop_partial(&layers[item].blob.digest);
        let how = How::Reused;
        progress.event(Event::Done { item, how });
    }
    // The largest decides how long all takes, so it goes first.
    wanted.sort_by_key(|item| std::cmp::Reverse(layers[*item].blob.size));
    let mut unpack = store.unpack_options();
    if !wanted.is_empty() {
        let rules = options.registry.config.load();
        unpack.limits = rules.map_err(RegistryError::from)?.limits();
    }
    let total = wanted.iter().map(|item| layers[*item].blob.size).sum();
    let arrival = Arc::new(Arrival::new(layers.len(), total));
    let fetcher = Fetcher {
        store: store.clone(),
        unpack,
        first: wanted.first().copied(),
        keep_blobs: options.keep_blobs,
        supply,
        progress: Arc::new(Watched {
            shown: progress,
            arrival: arrival.clone(),
        }),
    };
    let writeback = (!wanted.is_empty()).then(|| Writeback::begin(store.root(), arrival));
    let fetched = fetch_all(&fetcher, &layers, &wanted, options.parallel).await?;
    drop(writeback);
    let travelled = fetched.values().map(|f| f.travelled).sum();
    let image = publish(&store, reference, &resolved, config, origin, fetched).await?;
    drop(claims);
    let reports = layers.iter().enumerate().map(|(item, layer)| LayerReport {
        diff_id: layer.diff_id.clone(),
        digest: layer.blob.digest.clone(),
        size: layer.blob.size,
        fetched: wanted.contains(&item),
    });
    Ok(report(image, resolved.digest, reports.collect(), travelled))
}

/// The image, if the store has what the reference stands for at the registry now. A digest never
/// stands for anything else, so that one is not even asked for.
async fn unchanged(
    store: &Store,
    registry: &Registry,
    reference: &Reference,
    options: &PullOptions,
) -> Result<Option<(Image, Digest)>, PullError> {
    let here = match store.image_by_reference(&reference.whole()) {
        // What is brought here anew is put in its place.
        Err(StoreError::Damaged(_)) => None,
        here => here?,
    };
    let Some((image, resolved)) = here else {
        return Ok(None);
    };
    if !store.is_whole(&image)? {
        return Ok(None);
    }
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    if !suits(&platform, &image.config) {
        return Ok(None);
    }
    if reference
        .digest()
        .is_some_and(|d| d == resolved.to_string())
    {
        return Ok(Some((image, resolved)));
    }
    let head = registry.head_manifest(reference.repository(), selector(reference));
    let current = head.await?.and_then(|head| head.digest);
    Ok((current.as_ref() == Some(&resolved)).then_some((image, resolved)))
}

/// Whether the image's configuration is for the platform; one that names none is for any.
fn suits(wanted: &Platform, config: &ImageConfig) -> bool {
    let own = config.platform();
    own.os.is_empty() || own.architecture.is_empty() || wanted.suits(&own).is_some()
}

fn reused(image: Image, resolved: Digest, progress: &dyn Progress) -> PullReport {
    let pairs = image.manifest.layers.iter().zip(&image.layers);
    let layers: Vec<LayerReport> = pairs
        .enumerate()
        .map(|(item, (blob, layer))| {
            let (digest, size) = (blob.digest.clone(), blob.size);
            progress.event(Event::Planned { item, digest, size });
            let how = How::Reused;
            progress.event(Event::Done { item, how });
            LayerReport {
                diff_id: layer.diff_id.clone(),
                digest: blob.digest.clone(),
                size: blob.size,
                fetched: false,
            }
        })
        .collect();
    report(image, resolved, layers, 0)
}

fn report(image: Image, resolved: Digest, layers: Vec<LayerReport>, travelled: u64) -> PullReport {
    let here = layers.iter().filter(|layer| !layer.fetched);
    PullReport {
        bytes_reused: here.map(|layer| layer.size).sum(),
        bytes_fetched: travelled,
        image,
        resolved,
        layers,
    }
}

/// The configuration, proved: from the store if another name brought this image here before.
async fn config_bytes(
    store: &Store,
    registry: &Registry,
    repository: &str,
    resolved: &Resolved,
) -> Result<Vec<u8>, PullError> {
    let descriptor = plan::config_of(&resolved.manifest, &resolved.raw.digest)?;
    match store.image_by_digest(&resolved.raw.digest) {
        Ok(Some(image)) if descriptor.digest.matches(&image.config_bytes) => {
            return Ok(image.config_bytes);
        }
        Ok(_) | Err(StoreError::Damaged(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let bytes = registry.get_blob(repository, &descriptor, MAX_CONFIG);
    Ok(bytes.await?.to_vec())
}

/// Tells the thread that waits for others that nobody waits for it any more.
#[derive(Default)]
struct Asked {
    unwanted: Arc<AtomicBool>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }
}

/// Claims all of the image's layers: what is here stays here, what is not is ours to fetch. What another
/// process brought while this one waited is not missing any more.
async fn claim(
    store: &Arc<Store>,
    layers: &[LayerPlan],
    progress: &Arc<dyn Progress>,
) -> Result<Vec<LayerClaim>, PullError> {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| l.diff_id.clone()).collect();
    let (owned, asked) = (store.clone(), Asked::default());
    let unwanted = asked.unwanted.clone();
    let mut claiming =
        tokio::task::spawn_blocking(move || owned.claim_layers_unless(&diff_ids, &unwanted));
    let patience = Duration::from_millis(500);
    let claimed = match tokio::time::timeout(patience, &mut claiming).await {
        Ok(claimed) => claimed,
        Err(_) => {
            for item in 0..layers.len() {
                progress.event(Event::Waiting { item });
            }
            claiming.await
        }
    };
    Ok(claimed.map_err(|_| PullError::Interrupted)??)
}

/// Fetches several at once; the first failure ends all.
async fn fetch_all(
    fetcher: &Fetcher,
    layers: &[LayerPlan],
    wanted: &[usize],
    parallel: usize,
) -> Result<HashMap<usize, Fetched>, PullError> {
    let one = |item: usize| async move {
        let layer = &layers[item];
        match fetcher.fetch(item, layer).await {
            Ok(fetched) => {
                let how = How::Fetched;
                fetcher.progress.event(Event::Done { item, how });
                Ok((item, fetched))
            }
            Err(cause) => {
                fetcher.progress.event(Event::Failed { item });
                let digest = layer.blob.digest.clone();
                Err(PullError::Layer { digest, cause })
            }
        }
    };
    let mut running = futures_util::stream::iter(wanted.iter().map(|item| one(*item)))
        .buffer_unordered(parallel.max(1));
    let mut all = HashMap::new();
    while let Some(result) = running.next().await {
        let (item, fetched) = result?;
        all.insert(item, fetched);
    }
    Ok(all)
}

async fn publish(
    store: &Arc<Store>,
    reference: Option<&Reference>,
    resolved: &Resolved,
    config: Vec<u8>,
    origin: Option<(String, String)>,
    fetched: HashMap<usize, Fetched>,
) -> Result<Image, PullError> {
    let image = NewImage {
        reference: reference.map(Reference::whole),
        resolved: resolved.digest.clone(),
        manifest: resolved.raw.bytes.to_vec(),
        media_type: resolved.manifest.media_type.clone(),
        config,
        origin,
    };
    let store = store.clone();
    let work = move || {
        let mut partials = Vec::new();
        let mut layers = Vec::new();
        for (_, fetched) in fetched {
            partials.push(fetched.blob);
            layers.push((fetched.staging, fetched.meta));
        }
        let image = store.publish(layers, image)?;
        for partial in partials {
            store.drop_partial(&partial);
        }
        Ok::<_, StoreError>(image)
    };
    let published = tokio::task::spawn_blocking(work).await;
    Ok(published.map_err(|_| PullError::Interrupted)??)
}
