//! Collection: taking rows away that nothing needs any more.
//!
//! Only what may have come out of use is looked at, by `leased_until` (migration V2): a link whose lease
//! has ended is either named by a manifest of its repository, and then rests as [`IN_USE`] until such a manifest is
//! deleted, or it goes; a blob whose last link has gone has [`UNUSED`] and goes next. So a pass costs
//! what has changed, not what there is.

use rusqlite::{Connection, params};
use strata_oci::{Digest, Repository};

use super::super::{Collected, MetaError, Result};
use super::read::{self, parsed};

/// Was in use when it was last looked at.
pub(super) const IN_USE: i64 = i64::MAX;

/// Nothing links it, and nobody can see it: no lease is needed.
const UNUSED: i64 = 0;

/// Looks at no more than `limit` links and `limit` blobs.
pub(super) fn collect(db: &Connection, time: i64, limit: usize) -> Result<Collected> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (links, kept_links) = collect_links(db, time, limit)?;
    let (blobs, kept_blobs) = collect_blobs(db, time, limit)?;
    Ok(Collected {
        more: links as i64 + kept_links == limit || blobs.len() as i64 + kept_blobs == limit,
        links,
        blobs,
    })
}

fn collect_links(db: &Connection, time: i64, limit: i64) -> Result<(u64, i64)> {
    // The constant is written out for the partial index to be used.
    let mut ended = db.prepare_cached(
        "SELECT l.repository_id, l.blob_id,
             EXISTS (SELECT 1 FROM manifest_blob WHERE digest = b.digest AND repository_id = l.repository_id)
             OR EXISTS (SELECT 1 FROM manifest_child WHERE digest = b.digest AND repository_id = l.repository_id)
         FROM repository_blob l JOIN blob b ON b.id = l.blob_id
         WHERE l.leased_until < 9223372036854775807 AND l.leased_until < ?1
         ORDER BY l.leased_until LIMIT ?2",
    )?;
    let rows = ended.query_map([time, limit], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    let rows: Vec<(i64, i64, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut rest = db.prepare_cached(
        "UPDATE repository_blob SET leased_until = ?3 WHERE repository_id = ?1 AND blob_id = ?2",
    )?;
    let (mut gone, mut kept) = (0, 0);
    for (repository, blob, named) in rows {
        if named {
            rest.execute(params![repository, blob, IN_USE])?;
            kept += 1;
        } else {
            unlink(db, repository, blob)?;
            gone += 1;
        }
    }
    Ok((gone, kept))
}

fn collect_blobs(db: &Connection, time: i64, limit: i64) -> Result<(Vec<Digest>, i64)> {
    let mut ended = db.prepare_cached(
        "SELECT id, digest, EXISTS (SELECT 1 FROM repository_blob WHERE blob_id = blob.id) FROM blob
         WHERE leased_until < 9223372036854775807 AND leased_until < ?1
         ORDER BY leased_until LIMIT ?2",
    )?;
    let rows = ended.query_map([time, limit], |row| {
        Ok((row.get(0)?, parsed(row, 1)?, row.get(2)?))
    })?;
    let rows: Vec<(i64, Digest, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut rest = db.prepare_cached("UPDATE blob SET leased_until = ?2 WHERE id = ?1")?;
    let mut delete = db.prepare_cached("DELETE FROM blob WHERE id = ?1")?;
    let (mut gone, mut kept) = (Vec::new(), 0);
    for (id, digest, linked) in rows {
        if linked {
            rest.execute([id, IN_USE])?;
            kept += 1;
        } else {
            delete.execute([id])?;
            gone.push(digest);
        }
    }
    Ok((gone, kept))
}

/// Takes a link away; with the last one the blob is free to be collected.
pub(super) fn unlink(db: &Connection, repository: i64, blob: i64) -> Result<()> {
    let mut delete =
        db.prepare_cached("DELETE FROM repository_blob WHERE repository_id = ?1 AND blob_id = ?2")?;
    delete.execute([repository, blob])?;
    let mut free = db.prepare_cached(
        "UPDATE blob SET leased_until = ?2 WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE blob_id = ?1)",
    )?;
    free.execute([blob, UNUSED])?;
    Ok(())
}

/// Before a manifest is deleted: the links to what it names are looked at again when this lease has ended, and
/// not before, because a client may just have been told that they are there.
pub(super) fn release(
    db: &Connection,
    repository: &Repository,
    manifest: &str,
    until: i64,
) -> Result<()> {
    for edges in ["manifest_blob", "manifest_child"] {
        let sql = format!(
            "UPDATE repository_blob SET leased_until =
                 CASE leased_until WHEN 9223372036854775807 THEN ?3 ELSE max(leased_until, ?3) END
             WHERE repository_id = (SELECT id FROM repository WHERE name = ?1)
             AND blob_id IN (SELECT b.id FROM manifest m
                 JOIN {edges} n ON n.manifest_id = m.id JOIN blob b ON b.digest = n.digest
                 WHERE m.repository_id = (SELECT id FROM repository WHERE name = ?1) AND m.digest = ?2)"
        );
        let mut update = db.prepare_cached(&sql)?;
        update.execute(params![repository.as_str(), manifest, until])?;
    }
    Ok(())
}

/// Lets a link's lease run until `until` at least; the blob's size, `None` when there is no link.
pub(super) fn hold(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
    until: i64,
) -> Result<Option<u64>> {
    let mut update = db.prepare_cached(
        "UPDATE repository_blob SET leased_until = max(leased_until, ?3)
         WHERE repository_id = (SELECT id FROM repository WHERE name = ?1)
         AND blob_id = (SELECT id FROM blob WHERE digest = ?2)",
    )?;
    update.execute(params![repository.as_str(), digest.to_string(), until])?;
    read::blob(db, repository, digest)
}

/// Removes the repositories that hold nothing among the `limit` ones after the row `after`, and where to go on.
pub(super) fn collect_repositories(
    db: &Connection,
    after: i64,
    limit: usize,
) -> Result<(u64, Option<i64>)> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut last = db.prepare_cached(
        "SELECT max(id), count(*) FROM (SELECT id FROM repository WHERE id > ?1 ORDER BY id LIMIT ?2)",
    )?;
    let (last, count): (Option<i64>, i64) =
        last.query_row([after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else {
        return Ok((0, None));
    };
    let mut delete = db.prepare_cached(
        "DELETE FROM repository WHERE id > ?1 AND id <= ?2
         AND NOT EXISTS (SELECT 1 FROM manifest WHERE repository_id = repository.id)
         AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_id = repository.id)",
    )?;
    let gone = delete.execute([after, last])?;
    let gone = u64::try_from(gone).map_err(|e| MetaError::Failed(e.into()))?;
    Ok((gone, (count == limit).then_some(last)))
}
