//! Tags, and removing images with the layers that nothing else needs.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use strata_oci::digest::Digest;

use super::find::{Found, find};
use super::image::{self, Image};
use super::lock::FileLock;
use super::name::{Name, Target};
use super::sweep::{BATCH, Collected};
use super::{Store, StoreError, familiar, publish};

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that stand for nothing now, in full.
    pub untagged: Vec<String>,
    /// Ids of images that are gone.
    pub images: Vec<Digest>,
    /// Layers that are gone.
    pub layers: Vec<Digest>,
    /// The bytes that the layers' files took.
    pub freed: u64,
}

/// A name that was given to an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The image that the name stood for before and that no name stands for now.
    pub dangling: Option<Digest>,
}

impl Store {
    /// Gives the image another name. A name that stood for another image moves.
    pub fn tag(&self, image: &Image, reference: &str) -> Result<Tagged, StoreError> {
        let name = Name::parse(reference)?;
        if let Target::Digest(_) = name.target {
            return Err(StoreError::Reference {
                text: reference.to_owned(),
                reason: "a new name needs a tag, not a digest".to_owned(),
            });
        }
        let mut db = self.db();
        let db = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let manifest = image.digest.to_string();
        let there = "SELECT 1 FROM images WHERE manifest_digest = ?1";
        if !db.prepare_cached(there)?.exists([&manifest])? {
            return Err(StoreError::NoSuchImage(image.id.to_string()));
        }
        let before = "SELECT manifest_digest FROM image_references WHERE reference = ?1";
        let before: Option<String> = db
            .query_row(before, [name.full()], |row| row.get(0))
            .optional()?;
        publish::set_reference(&db, &name, &manifest, &image.digest)?;
        let dangling = match before {
            Some(before) if references(&db, &before)?.is_empty() => {
                Some(image::read(&db, &before)?.id)
            }
            _ => None,
        };
        db.commit()?;
        Ok(Tagged { dangling })
    }

    /// Removes a name, and with its last name the image; or an image by its id. Layers that no other
    /// image has go with it, into the trash: see [`Store::empty_trash`]. `force` lets an id with several names go; nothing lets an image go that a
    /// container stands on.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`], [`StoreError::Conflict`], [`StoreError::Ambiguous`].
    pub fn remove_image(&self, name_or_id: &str, force: bool) -> Result<Removed, StoreError> {
        let (removed, collected, lock) = self.with_room(|| self.remove_rows(name_or_id, force))?;
        self.finish_removal(removed, collected, lock)
    }

    fn remove_rows(
        &self,
        name_or_id: &str,
        force: bool,
    ) -> Result<(Removed, Collected, FileLock), StoreError> {
        let lock = self.lock_index()?;
        let mut db = self.db();
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let removed = match find(&transaction, name_or_id)? {
            None => return Err(StoreError::NoSuchImage(name_or_id.to_owned())),
            Some(Found::Reference { name, manifest }) => {
                remove_reference(&transaction, &name, &manifest)?
            }
            Some(Found::Image { manifests }) => {
                remove_by_id(&transaction, name_or_id, &manifests, force)?
            }
        };
        let collected = self.collect(&transaction)?;
        transaction.commit()?;
        Ok((removed, collected, lock))
    }

    /// Takes away what a transaction has collected, and what it left because it was too much at once.
    pub(super) fn finish_removal(
        &self,
        mut removed: Removed,
        mut collected: Collected,
        mut lock: FileLock,
    ) -> Result<Removed, StoreError> {
        loop {
            let full = collected.layers.len() == BATCH;
            let layers = collected.layers.iter().map(|layer| layer.diff_id.clone());
            removed.layers.extend(layers);
            removed.freed = removed.freed.saturating_add(collected.bytes());
            self.take_collected(collected)?;
            drop(lock);
            if !full {
                return Ok(removed);
            }
            lock = self.lock_index()?;
            let mut db = self.db();
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            collected = self.collect(&transaction)?;
            transaction.commit()?;
        }
    }
}

fn remove_reference(db: &Connection, name: &Name, manifest: &str) -> Result<Removed, StoreError> {
    let full = name.full();
    let others = references(db, manifest)?.len() > 1;
    if !others {
        refuse_used(db, &name.familiar(), manifest)?;
    }
    db.execute("DELETE FROM image_references WHERE reference = ?1", [&full])?;
    let mut removed = Removed {
        untagged: vec![full],
        ..Removed::default()
    };
    if !others {
        removed.images.push(delete(db, manifest)?);
    }
    Ok(removed)
}

fn remove_by_id(
    db: &Connection,
    id: &str,
    manifests: &[String],
    force: bool,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    for manifest in manifests {
        refuse_used(db, id, manifest)?;
        removed.untagged.extend(references(db, manifest)?);
    }
    if removed.untagged.len() > 1 && !force {
        let names: Vec<String> = removed.untagged.iter().map(|full| familiar(full)).collect();
        return Err(StoreError::Conflict {
            name: id.to_owned(),
            reason: format!(
                "it has several names ({}): remove those, or use -f",
                names.join(", ")
            ),
        });
    }
    for manifest in manifests {
        let id = delete(db, manifest)?;
        if !removed.images.contains(&id) {
            removed.images.push(id);
        }
    }
    Ok(removed)
}

/// Deletes the image's row with its names and gives its id.
pub(super) fn delete(db: &Connection, manifest: &str) -> Result<Digest, StoreError> {
    let delete = "DELETE FROM images WHERE manifest_digest = ?1 RETURNING id";
    let id: String = db.query_row(delete, [manifest], |row| row.get(0))?;
    image::digest(&id)
}

pub(super) fn references(db: &Connection, manifest: &str) -> Result<Vec<String>, StoreError> {
    let query =
        "SELECT reference FROM image_references WHERE manifest_digest = ?1 ORDER BY reference";
    let mut statement = db.prepare_cached(query)?;
    let rows = statement.query_map([manifest], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn refuse_used(db: &Connection, name: &str, manifest: &str) -> Result<(), StoreError> {
    if !db.table_exists(None, "containers")? {
        return Ok(());
    }
    let query =
        "SELECT id, name, kind FROM containers WHERE manifest_digest = ?1 ORDER BY kind LIMIT 1";
    let container: Option<(String, Option<String>, String)> = db
        .query_row(query, params![manifest], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, container, kind)) = container else {
        return Ok(());
    };
    let short: String = id.chars().take(12).collect();
    let called = container.unwrap_or_else(|| short.clone());
    Err(StoreError::Conflict {
        name: name.to_owned(),
        reason: match &*kind {
            "container" => format!(
                "container {called} ({short}) uses it: remove it first with `strata rm {called}`"
            ),
            kind => format!(
                "{kind} {called} ({short}) uses it: end it first with `strata umount {called}`"
            ),
        },
    })
}
