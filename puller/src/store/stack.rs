//! Stacks: the layers of an image as overlayfs takes them.

use std::collections::HashSet;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension as _, params};
use strata_oci::cas::sync_dir;
use strata_oci::digest::Digest;

use super::find::strings;
use super::image::{self, Image, Layer};
use super::{LayerLock, Store, StoreError};
use crate::layer;

impl Store {
    /// The directories that overlayfs stacks for the image, the topmost first; none for an image
    /// without layers.
    ///
    /// The first time, directories that layers have without an entry of their own are mended: that
    /// may write to the disk.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a layer is not where it should be, or not recorded; [`StoreError::NoSuchImage`]
    /// when the image has been removed since it was found.
    pub fn stack(&self, image: &Image) -> Result<Vec<PathBuf>, StoreError> {
        let stack = self.stack_unless_removed(image);
        if let Err(StoreError::Damaged(_) | StoreError::MissingLayers(_)) = stack
            && self.image_by_digest(&image.digest)?.is_none()
        {
            return Err(StoreError::NoSuchImage(image.id.to_string()));
        }
        stack
    }

    fn stack_unless_removed(&self, image: &Image) -> Result<Vec<PathBuf>, StoreError> {
        if image.layers.len() != image.config.rootfs.diff_ids.len() {
            return Err(StoreError::Damaged(format!(
                "the index does not have all layers of image {}: pull it again",
                image.id.short()
            )));
        }
        let layers = distinct(&image.layers);
        let mut directories: Vec<PathBuf> = layers
            .iter()
            .map(|layer| self.layer_dir(&layer.diff_id))
            .collect();
        for (directory, layer) in directories.iter().zip(&layers) {
            if !directory.join("fs").is_dir() {
                return Err(StoreError::Damaged(format!(
                    "layer {} is missing in {}; `strata system check --repair` brings it back",
                    layer.diff_id.short(),
                    directory.display()
                )));
            }
        }
        let mut stack = Vec::with_capacity(directories.len() + 1);
        if layers.len() > 1 && layers.iter().any(|layer| layer.implied > 0) {
            stack.extend(self.mended(image, &directories)?);
        }
        directories.truncate(visible(&layers));
        stack.extend(directories.into_iter().map(|layer| layer.join("fs")));
        Ok(stack)
    }

    /// What is laid on top of these layers to mend them; `None` when nothing has to be.
    fn mended(
        &self,
        image: &Image,
        layers_top_first: &[PathBuf],
    ) -> Result<Option<PathBuf>, StoreError> {
        let chain_id = &image.chain_id;
        let directory = self.root.join("stacks").join(chain_id.hex());
        let known = recorded(&self.db(), chain_id)?;
        if let Some(mended) = known
            && (!mended || directory.join("fs").is_dir())
        {
            return Ok(mended.then(|| directory.join("fs")));
        }
        // The image may be removed while its layers are read.
        let _held = self.hold_all(&image.layers)?;
        let staging = self.stage()?;
        let out = staging.path().join("fs");
        let mended = layer::mend_parents(layers_top_first, &out, &self.unpack_options())?;
        if mended {
            let sync = staging.sync_file_system();
            sync.map_err(StoreError::io("write to disk", staging.path()))?;
        }
        let _lock = self.lock_index()?;
        let db = self.db();
        let made = recorded(&db, chain_id)?;
        if made.is_none() || (made == Some(true) && !directory.join("fs").is_dir()) {
            if mended {
                self.place_one(staging, &directory)?;
                let stacks = self.root.join("stacks");
                sync_dir(&stacks).map_err(StoreError::io("sync", &stacks))?;
            }
            let insert = "INSERT INTO stacks (chain_id, mended) VALUES (?1, ?2)
                ON CONFLICT (chain_id) DO UPDATE SET mended = excluded.mended";
            db.execute(insert, params![chain_id.to_string(), mended])?;
        }
        Ok(mended.then(|| directory.join("fs")))
    }

    /// Where what mends a stack is not what would be made now: the image's name, and the differences in words. `None`:
    /// it has gone meanwhile, or its layers cannot be read, which is told of them.
    pub(super) fn unlike_mended(
        &self,
        chain_id: &Digest,
    ) -> Result<Option<(Image, Vec<String>)>, StoreError> {
        let image = {
            let db = self.db();
            let query =
                "SELECT manifest_digest FROM images WHERE chain_id = ?1 ORDER BY rowid LIMIT 1";
            let found = strings(&db, query, &[&chain_id.to_string()])?;
            match found.first().map(|digest| image::read(&db, digest)) {
                Some(Ok(image)) => image,
                None | Some(Err(_)) => return Ok(None),
            }
        };
        let Ok(_held) = self.hold_all(&image.layers) else {
            return Ok(None);
        };
        let layers = distinct(&image.layers).into_iter();
        let layers: Vec<PathBuf> = layers.map(|l| self.layer_dir(&l.diff_id)).collect();
        let directory = self.root.join("stacks").join(chain_id.hex());
        let options = self.unpack_options();
        let Ok(differences) = layer::unlike_mended(&layers, &directory, &options) else {
            return Ok(None);
        };
        let there = recorded(&self.db(), chain_id)? == Some(true);
        Ok(there.then_some((image, differences)))
    }

    /// Holds layers so that nobody removes them.
    fn hold_all(&self, layers: &[Layer]) -> Result<Vec<LayerLock>, StoreError> {
        let mut diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
        // As in [`Store::claim_layers`].
        diff_ids.sort();
        diff_ids.dedup();
        let mut held = Vec::with_capacity(diff_ids.len());
        for diff_id in diff_ids {
            match self.hold_layer(diff_id)? {
                Some(lock) => held.push(lock),
                None => return Err(StoreError::MissingLayers(vec![diff_id.clone()])),
            }
        }
        Ok(held)
    }
}

fn recorded(db: &Connection, chain_id: &Digest) -> rusqlite::Result<Option<bool>> {
    let query = "SELECT mended FROM stacks WHERE chain_id = ?1";
    db.prepare_cached(query)?
        .query_row([chain_id.to_string()], |row| row.get(0))
        .optional()
}

/// The layers, the topmost first. One that comes twice is stacked once, where it is highest: everything that the lower
/// one adds or hides the higher one adds or hides too, and overlayfs refuses the same directory twice.
fn distinct(layers: &[Layer]) -> Vec<&Layer> {
    let mut seen = HashSet::new();
    let topmost_first = layers.iter().rev();
    topmost_first
        .filter(|layer| seen.insert(&layer.diff_id))
        .collect()
}

/// How many of the layers, the topmost first, show: one whose root is opaque is the last.
fn visible(layers: &[&Layer]) -> usize {
    let last = layers.iter().position(|layer| layer.opaque);
    last.map_or(layers.len(), |last| last + 1)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::{Fixture, meta, new_image, stage};
    use super::*;

    #[test]
    fn implied_parents_are_mended_once_and_go_with_the_image() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let mut staged = vec![stage(&store, "low"), stage(&store, "high")];
        let tmp = staged[0].0.path().join("fs/tmp");
        fs::create_dir(&tmp).expect("tmp");
        fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).expect("mode");
        fs::create_dir(staged[1].0.path().join("fs/tmp")).expect("tmp");
        staged[1].1.implied = vec!["tmp".to_owned()];
        let text = serde_json::to_vec(&staged[1].1).expect("json");
        fs::write(staged[1].0.path().join("layer.json"), text).expect("layer.json");
        let image = new_image(&["low", "high"], Some("a"));
        let image = store.publish(staged, image).expect("publish");

        for _ in 0..2 {
            let stack = store.stack(&image).expect("stack");
            assert_eq!(stack.len(), 3);
            let mode = fs::metadata(stack[0].join("tmp"))
                .expect("mended")
                .permissions();
            assert_eq!(mode.mode() & 0o7777, 0o1777);
            drop(fixture.open());
        }
        assert_eq!(fixture.entries("stacks"), [image.chain_id.hex()]);
        store.remove_image("a", false).expect("remove");
        assert!(fixture.entries("stacks").is_empty());
    }

    #[test]
    fn an_image_that_was_removed_since_it_was_found_is_not_damaged() {
        let fixture = Fixture::new();
        let store = fixture.open();
        let staged = vec![stage(&store, "low"), stage(&store, "high")];
        let image = new_image(&["low", "high"], Some("a"));
        let image = store.publish(staged, image).expect("publish");
        store.remove_image("a", false).expect("remove");
        let error = store.stack(&image).expect_err("it has gone");
        assert!(matches!(error, StoreError::NoSuchImage(_)), "{error}");

        let staged = vec![stage(&store, "low"), stage(&store, "high")];
        let image = new_image(&["low", "high"], Some("a"));
        let image = store.publish(staged, image).expect("publish again");
        fs::remove_dir_all(store.layer_dir(&image.layers[0].diff_id)).expect("lose it");
        let error = store.stack(&image).expect_err("a layer is lost");
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    }

    #[test]
    fn nothing_below_an_opaque_root_is_stacked() {
        let layer = |content: &str, opaque| Layer {
            diff_id: meta(content).diff_id,
            tar_size: 0,
            content_size: 0,
            entries: 0,
            implied: 0,
            opaque,
            rebuildable: true,
        };
        let layers = [
            layer("a", false),
            layer("b", true),
            layer("c", false),
            layer("c", false),
        ];
        let all = distinct(&layers);
        let visible: Vec<_> = all[..visible(&all)].iter().map(|l| &l.diff_id).collect();
        assert_eq!(visible, [&meta("c").diff_id, &meta("b").diff_id]);
    }
}
