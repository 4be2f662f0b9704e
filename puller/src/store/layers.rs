//! Layers on disk: who has them, who works on them, and the stacks they make.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use strata_oci::digest::Digest;

use super::lock::FileLock;
use super::{Image, Store, StoreError};

/// The shortest and the longest time until a layer that is neither here nor free is looked at again.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);

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
        self.claim_layers_unless(diff_ids, &AtomicBool::new(false))
    }

    /// [`Store::claim_layers`], until somebody says that nobody wants them any more.
    ///
    /// # Errors
    /// Also that: as an I/O error of the kind `Interrupted`.
    pub fn claim_layers_unless(
        &self,
        diff_ids: &[Digest],
        unwanted: &AtomicBool,
    ) -> Result<Vec<LayerClaim>, StoreError> {
        let mut diff_ids = diff_ids.to_vec();
        // The same order everywhere: two pulls never wait for each other.
        diff_ids.sort();
        diff_ids.dedup();
        let claims = diff_ids.into_iter().map(|d| self.claim(d, unwanted));
        claims.collect()
    }

    fn claim(&self, diff_id: Digest, unwanted: &AtomicBool) -> Result<LayerClaim, StoreError> {
        let path = self.lock_path(diff_id.hex());
        let failed = |error| StoreError::io("lock", &path)(error);
        let mut pause = SHORTEST;
        while !unwanted.load(Ordering::Relaxed) {
            let held = FileLock::try_shared(&path).map_err(failed)?;
            if let Some(lock) = held
                && self.has_layer(&diff_id)?
                && self.is_in_place(&diff_id)?
            {
                return Ok(LayerClaim {
                    diff_id,
                    present: true,
                    _lock: LayerLock { _lock: lock },
                });
            }
            // Whoever holds it, perhaps as long as the rest of an image takes, is not waited for: it is here by then.
            let held = FileLock::try_exclusive(&path).map_err(failed)?;
            if let Some(lock) = held
                && (!self.has_layer(&diff_id)? || !self.is_in_place(&diff_id)?)
            {
                return Ok(LayerClaim {
                    diff_id,
                    present: false,
                    _lock: LayerLock { _lock: lock },
                });
            }
            thread::sleep(pause);
            pause = LONGEST.min(pause * 2);
        }
        Err(failed(io::ErrorKind::Interrupted.into()))
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::*;
    use crate::store::tests::{Fixture, meta, new_image, publish, stage};

    #[test]
    fn a_held_layer_outlives_its_image_until_it_is_let_go() {
        let fixture = Fixture::new();
        let store = fixture.open();
        publish(&store, &["base"], Some("a"));
        let diff_ids = [meta("new").diff_id, meta("base").diff_id];
        let claims = store.claim_layers(&diff_ids).expect("claims");
        let present: Vec<_> = claims
            .iter()
            .filter(|c| c.present)
            .map(|c| &c.diff_id)
            .collect();
        assert_eq!(present, [&diff_ids[1]]);
        let removed = store.remove_image("a", false).expect("remove");
        assert!(removed.layers.is_empty());
        assert!(store.has_layer(&diff_ids[1]).expect("no error"));
        drop(fixture.open());
        let image = new_image(&["base", "new"], Some("b"));
        let staged = vec![stage(&store, "new")];
        store
            .publish(staged, image)
            .expect("the held layer is still there");
        drop(claims);
        assert_eq!(
            store.remove_image("b", false).expect("remove").layers.len(),
            2
        );
    }

    #[test]
    fn two_who_claim_the_same_layers_take_turns() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let diff_ids = [meta("x").diff_id, meta("y").diff_id];
        let first = store.claim_layers(&diff_ids).expect("claims");
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let reversed = [diff_ids[1].clone(), diff_ids[0].clone()];
                let claims = fixture.open().claim_layers(&reversed).expect("claims");
                claims.iter().filter(|claim| claim.present).count()
            });
            thread::sleep(Duration::from_millis(50));
            assert!(!other.is_finished());
            publish(&store, &["x", "y"], Some("a"));
            drop(first);
            assert_eq!(
                other.join().expect("join"),
                2,
                "the second reuses what the first brought"
            );
        });
    }

    #[test]
    fn who_waits_can_be_told_that_nobody_wants_it_any_more() {
        let fixture = Fixture::new();
        let wanted = [meta("x").diff_id];
        let claims = fixture.open().claim_layers(&wanted).expect("claims");
        let unwanted = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = || fixture.open().claim_layers_unless(&wanted, &unwanted);
            let other = scope.spawn(other);
            thread::sleep(Duration::from_millis(50));
            assert!(!other.is_finished());
            unwanted.store(true, Ordering::Relaxed);
            let error = other.join().expect("join").expect_err("not claimed");
            assert!(
                matches!(error, StoreError::Io { what: "lock", .. }),
                "{error}"
            );
        });
        drop(claims);
    }

    #[test]
    fn who_waits_for_a_layer_waits_for_its_fetch_and_for_nobody_who_uses_it() {
        const CLAIMS: usize = 8;
        const LIMIT: Duration = Duration::from_secs(20);
        let fixture = Fixture::new();
        for round in 0..10 {
            let content = format!("{round}");
            let (begin, have_it) = (Barrier::new(CLAIMS), AtomicUsize::new(0));
            let claim = || {
                let store = fixture.open();
                begin.wait();
                let wanted = [meta(&content).diff_id];
                let mut claims = store.claim_layers(&wanted).expect("claims");
                let fetches = !claims[0].present;
                if fetches {
                    publish(&store, &[&content], None);
                    drop(claims);
                    claims = store.claim_layers(&wanted).expect("claims again");
                }
                // Nobody lets go before everybody has it.
                have_it.fetch_add(1, Ordering::Relaxed);
                let since = Instant::now();
                while have_it.load(Ordering::Relaxed) < CLAIMS {
                    assert!(since.elapsed() < LIMIT, "somebody waits for us");
                    thread::sleep(Duration::from_millis(1));
                }
                drop(claims);
                usize::from(fetches)
            };
            let fetched: usize = thread::scope(|scope| {
                let claims: Vec<_> = (0..CLAIMS).map(|_| scope.spawn(claim)).collect();
                claims
                    .into_iter()
                    .map(|claim| claim.join().expect("join"))
                    .sum()
            });
            assert_eq!(fetched, 1);
        }
    }
}
