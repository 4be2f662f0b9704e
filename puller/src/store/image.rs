//! Images as the index keeps them.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use strata_oci::config::ImageConfig;
use strata_oci::digest::Digest;
use strata_oci::manifest::Manifest;

use super::{Store, StoreError};

/// An image of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The digest of the configuration: what people call the image id.
    pub id: Digest,
    /// The digest of the manifest: what the index knows the image by.
    pub digest: Digest,
    /// The manifest's exact bytes.
    pub manifest_bytes: Vec<u8>,
    /// Their parsed view.
    pub manifest: Manifest,
    /// The configuration's exact bytes.
    pub config_bytes: Vec<u8>,
    /// Their parsed view.
    pub config: ImageConfig,
    /// Names in full (`docker.io/library/debian:latest`), in alphabetical order; none: dangling.
    pub references: Vec<String>,
    /// `repository@digest` in full of each repository that it came from.
    pub repo_digests: Vec<String>,
    /// The layers, the lowest first; the same one may come twice.
    pub layers: Vec<Layer>,
    /// The digest over all its diffIDs.
    pub chain_id: Digest,
    /// When it came into the store, in seconds since 1970.
    pub added: i64,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of the uncompressed archive.
    pub tar_size: u64,
    /// The sum of the regular files' bytes.
    pub content_size: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Directories that no entry names.
    pub implied: u64,
    /// Whether its root hides all layers below it.
    pub opaque: bool,
    /// Whether the identical archive can be written again.
    pub rebuildable: bool,
}

impl Image {
    /// The sum of all layers' files in bytes, whether or not other images share them.
    pub fn size(&self) -> u64 {
        let sizes = self.layers.iter().map(|l| l.content_size);
        sizes.fold(0, u64::saturating_add)
    }

    /// When it was built, if its configuration says so.
    pub fn created(&self) -> Option<time::OffsetDateTime> {
        let format = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(self.config.created.as_deref()?, format).ok()
    }
}

impl Store {
    /// All images, those that came last first.
    pub fn images(&self) -> Result<Vec<Image>, StoreError> {
        let mut db = self.db();
        let db = db.transaction()?;
        let digests: Vec<String> = db
            .prepare_cached("SELECT manifest_digest FROM images ORDER BY added DESC, rowid DESC")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        digests.iter().map(|digest| read(&db, digest)).collect()
    }

    /// The image of this manifest.
    pub fn image_by_digest(&self, manifest: &Digest) -> Result<Option<Image>, StoreError> {
        let mut db = self.db();
        let db = db.transaction()?;
        let digest = manifest.to_string();
        let there = "SELECT 1 FROM images WHERE manifest_digest = ?1";
        if !db.prepare_cached(there)?.exists([&digest])? {
            return Ok(None);
        }
        read(&db, &digest).map(Some)
    }
}

/// The image of a manifest that is known to be there. Call it in a transaction.
pub(super) fn read(db: &Connection, manifest_digest: &str) -> Result<Image, StoreError> {
    let query = "SELECT id, chain_id, media_type, manifest, config, added FROM images WHERE manifest_digest = ?1";
    let raw = db
        .prepare_cached(query)?
        .query_row([manifest_digest], |row| {
            Ok(Raw {
                id: row.get(0)?,
                chain_id: row.get(1)?,
                media_type: row.get(2)?,
                manifest: row.get(3)?,
                config: row.get(4)?,
                added: row.get(5)?,
            })
        })
        .optional()?;
    let raw = raw.ok_or_else(|| {
        StoreError::Damaged(format!(
            "the index has a name or a container of image {manifest_digest}, but not the image: pull it again"
        ))
    })?;
    let damaged = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Damaged(format!("{what} of image {manifest_digest}: {error}"))
    };
    let manifest = Manifest::parse(&raw.manifest, Some(&raw.media_type));
    let config = serde_json::from_slice(&raw.config);
    let (references, repo_digests) = names(db, manifest_digest)?;
    Ok(Image {
        id: digest(&raw.id)?,
        digest: digest(manifest_digest)?,
        manifest: manifest.map_err(|e| damaged("the manifest", &e))?,
        manifest_bytes: raw.manifest,
        config: config.map_err(|e| damaged("the configuration", &e))?,
        config_bytes: raw.config,
        references,
        repo_digests,
        layers: layers(db, manifest_digest)?,
        chain_id: digest(&raw.chain_id)?,
        added: raw.added,
    })
}

struct Raw {
    id: String,
    chain_id: String,
    media_type: String,
    manifest: Vec<u8>,
    config: Vec<u8>,
    added: i64,
}

fn names(db: &Connection, manifest: &str) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let query = "SELECT reference, repository, resolved FROM image_references
        WHERE manifest_digest = ?1 ORDER BY reference";
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query([manifest])?;
    let (mut references, mut repo_digests) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        references.push(row.get(0)?);
        let (repository, resolved): (String, String) = (row.get(1)?, row.get(2)?);
        repo_digests.push(format!("{repository}@{resolved}"));
    }
    repo_digests.sort();
    repo_digests.dedup();
    Ok((references, repo_digests))
}

fn layers(db: &Connection, manifest: &str) -> Result<Vec<Layer>, StoreError> {
    let query = "SELECT diff_id, tar_size, content_size, entries, implied, opaque, rebuildable
        FROM image_layers JOIN layers USING (diff_id) WHERE manifest_digest = ?1 ORDER BY position";
    let mut statement = db.prepare_cached(query)?;
    let rows = statement.query_map(params![manifest], |row| Ok(layer(row)))?;
    rows.map(|layer| layer?).collect()
}

fn layer(row: &Row) -> Result<Layer, StoreError> {
    let number = |index: usize| -> rusqlite::Result<u64> {
        row.get(index).map(|n: i64| u64::try_from(n).unwrap_or(0))
    };
    Ok(Layer {
        diff_id: digest(&row.get::<_, String>(0)?)?,
        tar_size: number(1)?,
        content_size: number(2)?,
        entries: number(3)?,
        implied: number(4)?,
        opaque: row.get(5)?,
        rebuildable: row.get(6)?,
    })
}

/// A digest that was checked when it was written.
pub(super) fn digest(text: &str) -> Result<Digest, StoreError> {
    text.parse()
        .map_err(|error| StoreError::Damaged(format!("in the index: {error}")))
}
