//! Where a blob is known to be: what a push can mount instead of sending.

use rusqlite::{Connection, params};
use strata_oci::digest::Digest;

use super::{Store, StoreError, now};

/// Places remembered for one blob: the ones seen last.
const PLACES: u32 = 16;

impl Store {
    /// Notes that a repository of a registry has a blob.
    pub fn add_origin(
        &self,
        blob: &Digest,
        registry: &str,
        repository: &str,
    ) -> Result<(), StoreError> {
        add(&self.db(), blob, registry, repository)
    }

    /// The registries and repositories that had the blob, the one seen last first.
    pub fn origins(&self, blob: &Digest) -> Result<Vec<(String, String)>, StoreError> {
        let db = self.db();
        let query = "SELECT registry, repository FROM origins WHERE blob = ?1 ORDER BY seen DESC, registry, repository";
        let mut statement = db.prepare_cached(query)?;
        let rows = statement.query_map([blob.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets a place that turned out not to have the blob.
    pub fn remove_origin(
        &self,
        blob: &Digest,
        registry: &str,
        repository: &str,
    ) -> Result<(), StoreError> {
        let delete = "DELETE FROM origins WHERE blob = ?1 AND registry = ?2 AND repository = ?3";
        let values = params![blob.to_string(), registry, repository];
        self.db().execute(delete, values)?;
        Ok(())
    }
}

pub(super) fn add(
    db: &Connection,
    blob: &Digest,
    registry: &str,
    repository: &str,
) -> Result<(), StoreError> {
    let blob = blob.to_string();
    let upsert = "INSERT INTO origins (blob, registry, repository, seen) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET seen = excluded.seen";
    db.prepare_cached(upsert)?
        .execute(params![blob, registry, repository, now()])?;
    let forget = "DELETE FROM origins WHERE blob = ?1 AND (registry, repository) NOT IN
        (SELECT registry, repository FROM origins WHERE blob = ?1 ORDER BY seen DESC LIMIT ?2)";
    db.prepare_cached(forget)?.execute(params![blob, PLACES])?;
    Ok(())
}
