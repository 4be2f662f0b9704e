//! Publishing an image: durable bytes, then names, then rows.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};
use strata_oci::cas::sync_dir;
use strata_oci::config::{ImageConfig, MAX_CONFIG};
use strata_oci::digest::{Algorithm, Digest, Digester};
use strata_oci::manifest::Manifest;
use strata_oci::media::ManifestKind;

use super::image::{self, Image};
use super::name::Name;
use super::{Staging, Store, StoreError, database, now, origins};
use crate::layer::{self, LayerMeta};

/// An image to be recorded.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Under which name; none leaves an image that is new here dangling.
    pub reference: Option<String>,
    /// What the name stands for at its registry: an index's digest or the manifest's own.
    pub resolved: Digest,
    /// The manifest's exact bytes.
    pub manifest: Vec<u8>,
    /// The media type that it came with.
    pub media_type: String,
    /// The configuration's exact bytes.
    pub config: Vec<u8>,
    /// The registry and repository that hold its blobs now.
    pub origin: Option<(String, String)>,
}

/// A [`NewImage`] whose parts fit together.
struct Checked {
    name: Option<Name>,
    digest: Digest,
    manifest: Manifest,
    config: ImageConfig,
    id: Digest,
}

impl Store {
    /// Makes staged layers and the image that is made of them and of layers that are here already
    /// visible, all at once and durably. The caller has proved that each staged directory holds its
    /// [`LayerMeta::diff_id`]. A layer that someone else published meanwhile is dropped; a name that
    /// stood for another image moves, and the other image stays, without it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when manifest and configuration do not belong together,
    /// [`StoreError::MissingLayers`] when neither the store nor `layers` has one that is needed.
    pub fn publish(
        &self,
        layers: Vec<(Staging, LayerMeta)>,
        image: NewImage,
    ) -> Result<Image, StoreError> {
        let checked = check(&image)?;
        let layers: Result<Vec<_>, StoreError> = layers
            .into_iter()
            .map(|(staging, meta)| self.look_at(staging, meta))
            .collect();
        let mut layers = layers?;
        if let Some(first) = layers.iter().map(|l| &l.staging).min_by_key(|s| s.since()) {
            let sync = first.sync_file_system();
            sync.map_err(StoreError::io("write the layers to disk in", first.path()))?;
        }
        let lock = self.lock_index()?;
        let mut db = self.db();
        refuse_missing(&db, &layers, &checked.config)?;
        let placed = self.place(&db, &mut layers)?;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        record_layers(&transaction, &placed)?;
        record_image(&transaction, &image, &checked)?;
        let image = image::read(&transaction, &checked.digest.to_string())?;
        transaction.commit()?;
        database::into_database(&db)?;
        // What was not needed is removed when others may work again.
        drop(db);
        drop(lock);
        Ok(image)
    }

    fn look_at(&self, staging: Staging, meta: LayerMeta) -> Result<StagedLayer, StoreError> {
        let xattrs = self.unpack_options().xattrs;
        let opaque = layer::hides_everything_below(staging.path(), xattrs)?;
        Ok(StagedLayer {
            staging,
            meta,
            opaque,
        })
    }

    /// Renames what is new to its place and gives the metadata of it; leaves the rest staged.
    fn place(
        &self,
        db: &Connection,
        layers: &mut Vec<StagedLayer>,
    ) -> Result<Vec<(LayerMeta, bool)>, StoreError> {
        let mut placed: Vec<(LayerMeta, bool)> = Vec::new();
        let mut unneeded = Vec::new();
        for layer in layers.drain(..) {
            let twice = placed.iter().any(|(p, _)| p.diff_id == layer.meta.diff_id);
            let diff_id = &layer.meta.diff_id;
            if twice || (has_row(db, diff_id)? && self.layer_dir(diff_id).join("fs").is_dir()) {
                unneeded.push(layer);
                continue;
            }
            let to = self.layer_dir(diff_id);
            self.place_one(layer.staging, &to)?;
            placed.push((layer.meta, layer.opaque));
        }
        *layers = unneeded;
        if !placed.is_empty() {
            let directory = self.root.join("layers");
            sync_dir(&directory).map_err(StoreError::io("sync", &directory))?;
        }
        Ok(placed)
    }

    pub(super) fn place_one(&self, staging: Staging, to: &Path) -> Result<(), StoreError> {
        if fs::symlink_metadata(to).is_ok() {
            // Without a row, it is what a crash left.
            let taken = self.trash.take(to);
            taken.map_err(StoreError::io("move away", to))?;
        }
        staging
            .rename_to(to)
            .map_err(StoreError::io("move a layer to", to))
    }
}

/// A layer that is about to be published.
struct StagedLayer {
    staging: Staging,
    meta: LayerMeta,
    opaque: bool,
}

fn refuse_missing(
    db: &Connection,
    staged: &[StagedLayer],
    config: &ImageConfig,
) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    for diff_id in &config.rootfs.diff_ids {
        let brought = staged.iter().any(|layer| layer.meta.diff_id == *diff_id);
        if !brought && !has_row(db, diff_id)? {
            missing.push(diff_id.clone());
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StoreError::MissingLayers(missing))
    }
}

fn check(image: &NewImage) -> Result<Checked, StoreError> {
    let invalid = |what: String| StoreError::Invalid(what);
    let manifest = Manifest::parse(&image.manifest, Some(&image.media_type))
        .map_err(|error| invalid(error.to_string()))?;
    let Some(config) = manifest
        .config
        .as_ref()
        .filter(|_| manifest.kind == ManifestKind::Image)
    else {
        return Err(invalid("the manifest is an index, not an image".to_owned()));
    };
    let id = config.digest.clone();
    if image.config.len() as u64 > MAX_CONFIG || !id.matches(&image.config) {
        return Err(invalid(format!("the configuration is not {id}")));
    }
    let config: ImageConfig = serde_json::from_slice(&image.config)
        .map_err(|error| invalid(format!("its configuration cannot be read: {error}")))?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(invalid(format!(
            "its manifest has {layers} layers and its configuration {diff_ids}"
        )));
    }
    Ok(Checked {
        name: image.reference.as_deref().map(Name::parse).transpose()?,
        digest: Digest::of(&image.manifest),
        manifest,
        config,
        id,
    })
}

fn has_row(db: &Connection, diff_id: &Digest) -> Result<bool, StoreError> {
    let query = "SELECT 1 FROM layers WHERE diff_id = ?1";
    Ok(db.prepare_cached(query)?.exists([diff_id.to_string()])?)
}

fn record_layers(db: &Connection, layers: &[(LayerMeta, bool)]) -> Result<(), StoreError> {
    let insert =
        "INSERT INTO layers (diff_id, tar_size, content_size, entries, implied, opaque, rebuildable, added)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (diff_id) DO UPDATE SET tar_size = excluded.tar_size,
        content_size = excluded.content_size, entries = excluded.entries, implied = excluded.implied,
        opaque = excluded.opaque, rebuildable = excluded.rebuildable";
    let mut insert = db.prepare_cached(insert)?;
    for (meta, opaque) in layers {
        insert.execute(params![
            meta.diff_id.to_string(),
            number(meta.tar_size),
            number(meta.content_size),
            number(meta.entries),
            number(meta.implied.len() as u64),
            opaque,
            meta.rebuildable,
            now(),
        ])?;
    }
    Ok(())
}

fn record_image(db: &Connection, image: &NewImage, checked: &Checked) -> Result<(), StoreError> {
    let digest = checked.digest.to_string();
    let diff_ids = &checked.config.rootfs.diff_ids;
    let insert =
        "INSERT INTO images (manifest_digest, id, chain_id, media_type, manifest, config, added)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (manifest_digest) DO UPDATE
        SET id = excluded.id, chain_id = excluded.chain_id, media_type = excluded.media_type,
            manifest = excluded.manifest, config = excluded.config
        WHERE id <> excluded.id OR chain_id <> excluded.chain_id OR manifest <> excluded.manifest
            OR config <> excluded.config";
    // What is there is what a sound index has, too: then nothing is written.
    db.execute(
        insert,
        params![
            digest,
            checked.id.to_string(),
            chain_id(diff_ids).to_string(),
            checked.manifest.media_type,
            image.manifest,
            image.config,
            now(),
        ],
    )?;
    let insert = "INSERT INTO image_layers (manifest_digest, position, diff_id) VALUES (?1, ?2, ?3)
        ON CONFLICT (manifest_digest, position) DO UPDATE SET diff_id = excluded.diff_id
        WHERE diff_id <> excluded.diff_id";
    let mut insert = db.prepare_cached(insert)?;
    for (position, diff_id) in diff_ids.iter().enumerate() {
        let position = number(position as u64);
        insert.execute(params![digest, position, diff_id.to_string()])?;
    }
    db.execute(
        "DELETE FROM image_layers WHERE manifest_digest = ?1 AND position >= ?2",
        params![digest, number(diff_ids.len() as u64)],
    )?;
    if let Some(name) = &checked.name {
        set_reference(db, name, &digest, &image.resolved)?;
    }
    if let Some((registry, repository)) = &image.origin {
        for blob in checked.manifest.required_blobs() {
            origins::add(db, &blob.digest, registry, repository)?;
        }
    }
    Ok(())
}

/// Lets `name` stand for the image of `manifest`, whatever it stood for.
pub(super) fn set_reference(
    db: &Connection,
    name: &Name,
    manifest: &str,
    resolved: &Digest,
) -> Result<(), StoreError> {
    let upsert = "INSERT INTO image_references (reference, repository, manifest_digest, resolved)
        VALUES (?1, ?2, ?3, ?4) ON CONFLICT (reference) DO UPDATE
        SET manifest_digest = excluded.manifest_digest, resolved = excluded.resolved";
    let values = params![name.full(), name.repository, manifest, resolved.to_string()];
    db.execute(upsert, values)?;
    Ok(())
}

/// The digest that stands for a whole stack (image-spec, config.md, "Layer ChainID").
pub(crate) fn chain_id(diff_ids: &[Digest]) -> Digest {
    let Some((first, rest)) = diff_ids.split_first() else {
        return Digest::of(b"");
    };
    rest.iter().fold(first.clone(), |chain, diff_id| {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(format!("{chain} {diff_id}").as_bytes());
        digester.finish()
    })
}

/// SQLite's integers are signed; no size of ours comes near the difference.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
