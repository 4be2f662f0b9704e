//! Several layers of an image as one: what lower ones hold and higher ones hide or replace is gone.

use std::collections::BTreeMap;

use strata_oci::config::History;
use strata_oci::{Descriptor, Digest};

use super::changes::{self, Tree, Trees};
use super::config::Draft;
use super::error::CommitError;
use super::manifest;
use super::{CommitOptions, archive, pack};
use crate::store::{Image, NewImage, Store};

/// Makes an image whose layers are the lowest `kept` ones of another, and one more in the place of all above.
///
/// # Errors
/// See [`CommitError`]. After one, nothing of the image is in the store.
pub fn squash(
    store: &Store,
    image: &Image,
    kept: usize,
    options: &CommitOptions,
) -> Result<Image, CommitError> {
    let form = options.form_on(image)?;
    let diff_ids = &image.config.rootfs.diff_ids;
    let kept = kept.min(diff_ids.len());
    let _held = store.claim_layers(diff_ids)?;
    let mut base = image.clone();
    base.layers.truncate(kept);
    base.config.rootfs.diff_ids.truncate(kept);
    base.chain_id = crate::store::chain_id(&diff_ids[..kept]);
    let namespace = store.unpack_options().xattrs;
    let old = Tree::open(store.stack(&base)?, namespace, false)?;
    let new = Tree::open(store.stack(image)?, namespace, false)?;
    let found = changes::find(Trees {
        old: &old,
        new: &new,
        links_tell: false,
        any_name: false,
        mount_points: &[],
    })?;
    let owners = super::owners(store, image)?;
    let layer = match found.is_empty() {
        true => None,
        false => Some(pack::pack(store, options.compression, |out| {
            archive::write(&new.merged, &found, &owners, options.moment.latest, out)
        })?),
    };
    let mut layers: Vec<Descriptor> = image.manifest.layers[..kept].to_vec();
    layers.extend(layer.iter().map(|layer| layer.blob.clone()));
    let mut all: Vec<Digest> = diff_ids[..kept].to_vec();
    all.extend(layer.iter().map(|layer| layer.meta.diff_id.clone()));
    let mut draft = Draft::of(&image.config_bytes)?;
    draft.created(&options.moment.created);
    draft.author(options.author.as_deref());
    draft.layers(&all[..kept], &steps(&image.config.history, kept));
    // The new one is named by its step.
    let step = History {
        created: Some(options.moment.created.clone()),
        created_by: Some("strata image squash".to_owned()),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    };
    draft.step(step, all.get(kept));
    let config = draft.bytes()?;
    let written = manifest::write(form, &config, &layers, &BTreeMap::new())?;
    let staged = layer.map(|layer| (layer.staging, layer.meta));
    let new = NewImage {
        reference: options.reference.clone(),
        resolved: Digest::of(&written.bytes),
        manifest: written.bytes,
        media_type: written.media_type.to_owned(),
        config,
        origin: None,
    };
    Ok(store.publish(staged.into_iter().collect(), new)?)
}

/// The steps so far; those whose layers are no more made none.
fn steps(history: &[History], kept: usize) -> Vec<History> {
    let mut layers = 0;
    let steps = history.iter().map(|step| {
        layers += usize::from(!step.empty_layer);
        History {
            empty_layer: step.empty_layer || layers > kept,
            ..step.clone()
        }
    });
    steps.collect()
}
