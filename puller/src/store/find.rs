//! What a person means by a name or an id.

use rusqlite::{Connection, OptionalExtension as _, ToSql};
use strata_oci::digest::Digest;

use super::image::{self, Image};
use super::name::{Name, Target};
use super::{Store, StoreError};

/// Fewer digits of an id are taken for a name only.
const SHORTEST_ID: usize = 4;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A name that the index has, and its image's manifest.
    Reference { name: Name, manifest: String },
    /// An image by its id or digest: all manifests of that id, the latest first.
    Image { manifests: Vec<String> },
}

impl Store {
    /// The image that a name (`debian`, `localhost:5000/app:v1`, `app@sha256:…`), an image id or at
    /// least four digits of one stands for. A name goes before an id.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] for digits that several images' ids begin with.
    pub fn image(&self, name_or_id: &str) -> Result<Option<Image>, StoreError> {
        let mut db = self.db();
        let db = db.transaction()?;
        let manifest = match find(&db, name_or_id)? {
            None => return Ok(None),
            Some(Found::Reference { manifest, .. }) => manifest,
            Some(Found::Image { manifests }) => match manifests.into_iter().next() {
                Some(manifest) => manifest,
                None => return Ok(None),
            },
        };
        image::read(&db, &manifest).map(Some)
    }

    /// The image that a full reference names here, and what the registry last resolved it to: an
    /// index's digest or the manifest's.
    pub fn image_by_reference(&self, full: &str) -> Result<Option<(Image, Digest)>, StoreError> {
        let full = Name::parse(full)?.full();
        let mut db = self.db();
        let db = db.transaction()?;
        let query = "SELECT manifest_digest, resolved FROM image_references WHERE reference = ?1";
        let row: Option<(String, String)> = db
            .prepare_cached(query)?
            .query_row([full], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((manifest, resolved)) = row else {
            return Ok(None);
        };
        Ok(Some((
            image::read(&db, &manifest)?,
            image::digest(&resolved)?,
        )))
    }
}

pub(super) fn find(db: &Connection, text: &str) -> Result<Option<Found>, StoreError> {
    if let Ok(name) = Name::parse(text)
        && let Some(found) = by_name(db, name)?
    {
        return Ok(Some(found));
    }
    by_id(db, text)
}

fn by_name(db: &Connection, name: Name) -> Result<Option<Found>, StoreError> {
    let exact = "SELECT manifest_digest FROM image_references WHERE reference = ?1";
    let manifest: Option<String> = db
        .prepare_cached(exact)?
        .query_row([name.full()], |row| row.get(0))
        .optional()?;
    if let Some(manifest) = manifest {
        return Ok(Some(Found::Reference { name, manifest }));
    }
    let Target::Digest(digest) = &name.target else {
        return Ok(None);
    };
    let query = "SELECT DISTINCT manifest_digest FROM image_references
        WHERE repository = ?1 AND ?2 IN (resolved, manifest_digest)";
    let manifests = strings(db, query, &[&name.repository, &digest.to_string()])?;
    Ok((!manifests.is_empty()).then_some(Found::Image { manifests }))
}

fn by_id(db: &Connection, text: &str) -> Result<Option<Found>, StoreError> {
    let (algorithm, digits) = text.split_once(':').unwrap_or(("", text));
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let plausible = (SHORTEST_ID..=128).contains(&digits.len())
        && digits.bytes().all(hexadecimal)
        && matches!(algorithm, "" | "sha256" | "sha512");
    if !plausible {
        return Ok(None);
    }
    let pattern = match algorithm {
        "" => format!("sha???:{digits}*"),
        algorithm => format!("{algorithm}:{digits}*"),
    };
    let ids = "SELECT DISTINCT id FROM images WHERE id GLOB ?1 OR manifest_digest GLOB ?1";
    let ids = strings(db, ids, &[&pattern])?;
    match ids.as_slice() {
        [] => Ok(None),
        [id] => {
            let query =
                "SELECT manifest_digest FROM images WHERE id = ?1 ORDER BY added DESC, rowid DESC";
            let manifests = strings(db, query, &[id])?;
            Ok(Some(Found::Image { manifests }))
        }
        _ => Err(StoreError::Ambiguous(text.to_owned())),
    }
}

/// The first column of what a query gives.
pub(super) fn strings(
    db: &Connection,
    query: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare_cached(query)?;
    let rows = statement.query_map(values, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
