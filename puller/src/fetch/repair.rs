//! Bringing a damaged layer back: from its own record and files if those are proved, else from a
//! registry that has its blob.
//!
//! The layer is held exclusively, as while it is fetched for the first time: a pull that needs it waits
//! and reuses it. What was brought is proved before it takes the place of what was damaged.

use std::sync::Arc;

use strata_oci::Digest;

use super::PullError;
use super::layer::{Fetcher, Supply};
use super::plan::LayerPlan;
use crate::layer::LayerMeta;
use crate::progress::{Event, How, Progress};
use crate::registry::{Registry, RegistryOptions};
use crate::store::{ReplaceError, Staging, Store, StoreError};

/// How a layer was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// Unpacked again from its own record and files.
    Unpacked,
    /// Fetched again.
    Fetched,
}

/// Why a damaged layer stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// No place is known that may have its blob.
    #[error(
        "no registry is known to have it: remove the images that have it (strata rmi) and bring them here again"
    )]
    Nowhere,
    /// None of the places could give it.
    #[error("it cannot be fetched again: {}", .0.join("; "))]
    Unavailable(Vec<String>),
    /// It could not be exchanged.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of ours ended early.
    #[error("interrupted")]
    Interrupted,
}

/// Puts a damaged layer right. `proven`: a check has just found its content whole, so that only what
/// stands around it has to be made again. `item` is its number for `progress`.
///
/// # Errors
/// See [`RepairError`]; then the layer is as it was.
pub async fn repair_layer(
    store: &Arc<Store>,
    diff_id: &Digest,
    proven: bool,
    item: usize,
    options: &RegistryOptions,
    progress: &Arc<dyn Progress>,
) -> Result<Repaired, RepairError> {
    let (owned, wanted) = (store.clone(), diff_id.clone());
    let locking = tokio::task::spawn_blocking(move || owned.lock_layer(&wanted));
    let lock = locking.await.map_err(|_| RepairError::Interrupted)??;
    let own = match proven {
        true => again(store, diff_id).await?,
        false => None,
    };
    let (repaired, (staging, meta)) = match own {
        Some(own) => (Repaired::Unpacked, own),
        None => {
            let fetched = fetched(store, diff_id, item, options, progress).await?;
            (Repaired::Fetched, fetched)
        }
    };
    let (owned, blob) = (store.clone(), staging);
    let replacing = tokio::task::spawn_blocking(move || owned.replace_layer(&lock, blob, &meta));
    replacing.await.map_err(|_| RepairError::Interrupted)??;
    Ok(repaired)
}

/// From its own files; `None` when those do not give it.
async fn again(
    store: &Arc<Store>,
    diff_id: &Digest,
) -> Result<Option<(Staging, LayerMeta)>, RepairError> {
    let (owned, wanted) = (store.clone(), diff_id.clone());
    let unpacking = tokio::task::spawn_blocking(move || match owned.unpack_again(&wanted) {
        Ok((staging, meta)) if meta.diff_id == wanted => Ok(Some((staging, meta))),
        Ok(_) | Err(StoreError::Layer(_)) => Ok(None),
        Err(error) => Err(error),
    });
    Ok(unpacking.await.map_err(|_| RepairError::Interrupted)??)
}

async fn fetched(
    store: &Arc<Store>,
    diff_id: &Digest,
    item: usize,
    options: &RegistryOptions,
    progress: &Arc<dyn Progress>,
) -> Result<(Staging, LayerMeta), RepairError> {
    let mut failures = Vec::new();
    for found in store.blobs_of_layer(diff_id)? {
        let (digest, size) = (found.blob.digest.clone(), found.blob.size);
        progress.event(Event::Planned { item, digest, size });
        let plan = LayerPlan {
            diff_id: diff_id.clone(),
            blob: found.blob.clone(),
        };
        for (name, repository) in found.places {
            let registry = match Registry::new(&name, options) {
                Ok(registry) => Arc::new(registry.telling(progress.clone())),
                Err(error) => {
                    failures.push(error.to_string());
                    continue;
                }
            };
            let fetcher = Fetcher {
                store: store.clone(),
                unpack: store.unpack_options(),
                first: Some(item),
                keep_blobs: false,
                supply: Supply::Registry(registry, repository.clone()),
                progress: progress.clone(),
            };
            match fetcher.fetch(item, &plan).await {
                Ok(fetched) => {
                    store.drop_partial(&fetched.blob);
                    let how = How::Fetched;
                    progress.event(Event::Done { item, how });
                    return Ok((fetched.staging, fetched.meta));
                }
                Err(cause) => {
                    let digest = plan.blob.digest.clone();
                    let error = in_one_line(&PullError::Layer { digest, cause });
                    failures.push(format!("{name}/{repository}: {error}"));
                }
            }
        }
        progress.event(Event::Failed { item });
    }
    match failures.is_empty() {
        true => Err(RepairError::Nowhere),
        false => Err(RepairError::Unavailable(failures)),
    }
}

/// An error with its causes.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
