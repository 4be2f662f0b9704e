//! Layers on disk: who has them, who works on them, and the stacks they make.

use std::path::PathBuf;

use strata_oci::digest::Digest;

use super::lock::FileLock;
use super::{Image, Store, StoreError};

/// A layer held by its lock file. While it is held exclusively nobody else fetches the layer; while
/// it is held in any way nobody removes it.
#[derive(Debug)]
pub struct LayerLock {
    _lock: FileLock,
}

/// A layer that an image needs, held until the claim is dropped.
#[derive(Debug)]
pub struct LayerClaim {
    /// Which layer.
    pub diff_id: Digest,
    /// Whether it is in the store. If it is not, nobody else may fetch it meanwhile.
    pub present: bool,
    _lock: LayerLock,
}

impl Store {
    /// Whether the layer is here, whole and durable.
    pub fn has_layer(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let db = self.db();
        let query = "SELECT 1 FROM layers WHERE diff_id = ?1";
        Ok(db.prepare_cached(query)?.exists([diff_id.to_string()])?)
    }

    /// Takes the layer for oneself; blocks while anyone holds it. Two processes that take several
    /// must do so in the same order: see [`Store::claim_layers`].
    pub fn lock_layer(&self, diff_id: &Digest) -> Result<LayerLock, StoreError> {
        self.layer_lock(diff_id, FileLock::exclusive)
    }

    /// Holds a layer that is here so that nobody removes it; `None` when it is not here.
    pub fn hold_layer(&self, diff_id: &Digest) -> Result<Option<LayerLock>, StoreError> {
        let lock = self.layer_lock(diff_id, FileLock::shared)?;
        Ok(self.has_layer(diff_id)?.then_some(lock))
    }

    /// Claims all layers of an image: those that are here cannot be removed, those that are not are
    /// ours to fetch. Blocks while another process fetches one of them, and reuses it then. Keep the
    /// claims until the image is published. Repeated digests are claimed once.
    pub fn claim_layers(&self, diff_ids: &[Digest]) -> Result<Vec<LayerClaim>, StoreError> {
        let mut diff_ids = diff_ids.to_vec();
        // The same order everywhere: two pulls never wait for each other.
        diff_ids.sort();
        diff_ids.dedup();
        diff_ids.into_iter().map(|d| self.claim(d)).collect()
    }

    fn claim(&self, diff_id: Digest) -> Result<LayerClaim, StoreError> {
        loop {
            if let Some(lock) = self.hold_layer(&diff_id)?
                && self.is_in_place(&diff_id)?
            {
                return Ok(LayerClaim {
                    diff_id,
                    present: true,
                    _lock: lock,
                });
            }
            let lock = self.lock_layer(&diff_id)?;
            if !self.has_layer(&diff_id)? || !self.is_in_place(&diff_id)? {
                return Ok(LayerClaim {
                    diff_id,
                    present: false,
                    _lock: lock,
                });
            }
        }
    }

    /// Whether the tree of a layer that has a row is there: people remove what they should not. Nothing of it is read.
    ///
    /// # Errors
    /// The tree is there, and what is known about it is not: a container may show the tree, so nobody replaces it
    /// unasked.
    pub(super) fn is_in_place(&self, diff_id: &Digest) -> Result<bool, StoreError> {
        let directory = self.layer_dir(diff_id);
        let there = directory.join("fs").is_dir();
        if there && !directory.join("layer.json").exists() {
            let short = diff_id.short();
            return Err(StoreError::Damaged(format!(
                "layer {short} has no layer.json; `strata system check --repair` brings it back"
            )));
        }
        Ok(there)
    }

    /// Whether all layers of an image are recorded as its, and in their places.
    ///
    /// # Errors
    /// As a pull that reuses them.
    pub fn is_whole(&self, image: &Image) -> Result<bool, StoreError> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let recorded = image.layers.iter().map(|layer| &layer.diff_id);
        if !recorded.eq(diff_ids) || image.manifest.layers.len() != diff_ids.len() {
            return Ok(false);
        }
        for diff_id in diff_ids {
            if !self.is_in_place(diff_id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn layer_lock(
        &self,
        diff_id: &Digest,
        take: fn(&std::path::Path) -> std::io::Result<FileLock>,
    ) -> Result<LayerLock, StoreError> {
        let path = self.lock_path(diff_id.hex());
        let lock = take(&path).map_err(StoreError::io("lock", &path))?;
        Ok(LayerLock { _lock: lock })
    }

    /// Where the layer is if it is here: `fs` in it is the tree.
    pub fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }
}
