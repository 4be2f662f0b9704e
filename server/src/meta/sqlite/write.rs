//! Changes. Each runs inside a transaction that the writer thread commits durably.

use rusqlite::{Connection, OptionalExtension, params};
use strata_oci::{Digest, Repository};

use super::super::{DeleteManifest, MetaError, NewManifest, PutManifest, Result, now};
use super::collect::{self, IN_USE};
use super::read;
use crate::condition::Condition;
use crate::route::Reference;
use crate::upload::{Position, Upload, UploadId};

/// A hostile manifest may name very many blobs; this many of those that are missing are told.
const MISSING_TOLD: usize = 100;

pub(super) fn start_upload(db: &Connection, upload: &Upload, expires_at: i64) -> Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO upload (id, repository, owner, received, hash_state, started_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![
        upload.id.as_str(),
        upload.repository.as_str(),
        upload.owner,
        signed(upload.position.offset)?,
        upload.position.digester.save(),
        now(),
        expires_at
    ])?;
    Ok(())
}

pub(super) fn advance_upload(
    db: &Connection,
    id: &UploadId,
    from: u64,
    to: &Position,
    expires_at: i64,
) -> Result<bool> {
    let mut update = db.prepare_cached(
        "UPDATE upload SET received = ?3, hash_state = ?4, expires_at = ?5
         WHERE id = ?1 AND received = ?2",
    )?;
    let changed = update.execute(params![
        id.as_str(),
        signed(from)?,
        signed(to.offset)?,
        to.digester.save(),
        expires_at
    ])?;
    Ok(changed > 0)
}

pub(super) fn finish_upload(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
    size: u64,
    session: Option<&UploadId>,
    until: i64,
) -> Result<()> {
    if let Some(id) = session {
        drop_upload(db, id)?;
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO blob (digest, size, created_at, leased_until) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (digest) DO UPDATE SET leased_until = excluded.leased_until
         RETURNING id",
    )?;
    let arguments = params![digest.to_string(), signed(size)?, now(), IN_USE];
    let blob: i64 = insert.query_row(arguments, |row| row.get(0))?;
    let repository = repository_id(db, repository)?;
    link(db, repository, blob, until)
}

pub(super) fn drop_upload(db: &Connection, id: &UploadId) -> Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM upload WHERE id = ?1")?;
    Ok(delete.execute([id.as_str()])? > 0)
}

pub(super) fn expire_upload(db: &Connection, id: &UploadId, time: i64) -> Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM upload WHERE id = ?1 AND expires_at < ?2")?;
    Ok(delete.execute(params![id.as_str(), time])? > 0)
}

pub(super) fn mount(
    db: &Connection,
    from: &Repository,
    to: &Repository,
    digest: &Digest,
    until: i64,
) -> Result<bool> {
    let Some((_, blob)) = linked_blob(db, from, digest)? else {
        return Ok(false);
    };
    let to = repository_id(db, to)?;
    link(db, to, blob, until)?;
    Ok(true)
}

pub(super) fn put_manifest(db: &Connection, new: &NewManifest, until: i64) -> Result<PutManifest> {
    if let Some(refused) = refused(db, new)? {
        return Ok(refused);
    }
    let missing = missing(db, new)?;
    if !new.sparse && !missing.is_empty() {
        return Ok(PutManifest::Missing(missing));
    }
    let repository = repository_id(db, &new.repository)?;
    let manifest = insert_manifest(db, repository, new, until)?;
    let mut move_tag = db.prepare_cached(
        "INSERT INTO tag (repository_id, name, manifest_id, updated_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (repository_id, name)
         DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = excluded.updated_at",
    )?;
    for tag in &new.tags {
        move_tag.execute(params![repository, tag.as_str(), manifest, now()])?;
    }
    Ok(match missing.len() {
        0 => PutManifest::Stored,
        count => PutManifest::Sparse(count),
    })
}

/// The first of the tags, or the manifest when there are none, of which the condition does not hold.
fn refused(db: &Connection, new: &NewManifest) -> Result<Option<PutManifest>> {
    if new.condition.is_empty() {
        return Ok(None);
    }
    let mut written: Vec<Reference> = new.tags.iter().cloned().map(Reference::Tag).collect();
    if written.is_empty() {
        written.push(Reference::Digest(new.digest.clone()));
    }
    for reference in written {
        let current = current(db, &new.repository, &reference)?;
        if !new.condition.allows(current.as_ref()) {
            let of = reference.to_string();
            return Ok(Some(PutManifest::Refused { of, current }));
        }
    }
    Ok(None)
}

/// The digest of the manifest that is there.
fn current(
    db: &Connection,
    repository: &Repository,
    reference: &Reference,
) -> Result<Option<Digest>> {
    let found = read::manifest(db, repository, reference, false)?;
    Ok(found.map(|manifest| manifest.digest))
}

/// What the manifest names and the repository lacks.
fn missing(db: &Connection, new: &NewManifest) -> Result<Vec<Digest>> {
    // Nothing is linked to the row that does not exist.
    let repository = find_repository(db, &new.repository)?.unwrap_or(0);
    let mut linked = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM blob b
         JOIN repository_blob l ON l.repository_id = ?1 AND l.blob_id = b.id WHERE b.digest = ?2)",
    )?;
    let mut held = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM manifest WHERE repository_id = ?1 AND digest = ?2)",
    )?;
    let mut missing = Vec::new();
    let blobs = new.manifest.required_blobs().map(|d| (&d.digest, false));
    let children = new.manifest.manifests.iter().map(|d| (&d.digest, true));
    for (digest, child) in blobs.chain(children) {
        let arguments = params![repository, digest.to_string()];
        // An index may name a plain blob too.
        let there = linked.query_row(arguments, |row| row.get::<_, bool>(0))?
            || (child && held.query_row(arguments, |row| row.get::<_, bool>(0))?);
        if !there && !missing.contains(digest) {
            missing.push(digest.clone());
            if missing.len() == MISSING_TOLD {
                break;
            }
        }
    }
    Ok(missing)
}

fn insert_manifest(db: &Connection, repository: i64, new: &NewManifest, until: i64) -> Result<i64> {
    let digest = new.digest.to_string();
    let mut content = db.prepare_cached(
        "INSERT INTO manifest_content (digest, bytes) VALUES (?1, ?2)
         ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING id",
    )?;
    let content: i64 = content.query_row(params![digest, new.bytes.as_ref()], |row| row.get(0))?;
    let view = &new.manifest;
    let annotations = match (&view.subject, view.annotations.is_empty()) {
        (Some(_), false) => Some(
            serde_json::to_string(&view.annotations)
                .map_err(|error| MetaError::Failed(error.into()))?,
        ),
        _ => None,
    };
    let mut insert = db.prepare_cached(
        "INSERT INTO manifest (repository_id, digest, content_id, media_type, size, pushed_at,
             leased_until, subject, artifact_type, annotations)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (repository_id, digest) DO UPDATE SET media_type = excluded.media_type,
             pushed_at = excluded.pushed_at, leased_until = excluded.leased_until,
             subject = excluded.subject, artifact_type = excluded.artifact_type,
             annotations = excluded.annotations
         RETURNING id",
    )?;
    let arguments = params![
        repository,
        digest,
        content,
        view.media_type,
        signed(new.bytes.len() as u64)?,
        now(),
        until,
        view.subject.as_ref().map(|s| s.digest.to_string()),
        view.effective_artifact_type(),
        annotations
    ];
    let id: i64 = insert.query_row(arguments, |row| row.get(0))?;
    let edges = [
        (
            "INSERT OR IGNORE INTO manifest_blob (manifest_id, repository_id, digest) VALUES (?1, ?2, ?3)",
            true,
        ),
        (
            "INSERT OR IGNORE INTO manifest_child (manifest_id, repository_id, digest) VALUES (?1, ?2, ?3)",
            false,
        ),
    ];
    for (sql, blobs) in edges {
        let mut insert = db.prepare_cached(sql)?;
        let config = view.config.iter().filter(|_| blobs);
        let listed = if blobs { &view.layers } else { &view.manifests };
        for descriptor in config.chain(listed) {
            insert.execute(params![id, repository, descriptor.digest.to_string()])?;
        }
    }
    Ok(id)
}

pub(super) fn delete_manifest(
    db: &Connection,
    repository: &Repository,
    reference: &Reference,
    condition: &Condition,
    until: i64,
) -> Result<DeleteManifest> {
    if !condition.is_empty()
        && let Some(current) = current(db, repository, reference)?
        && !condition.allows(Some(&current))
    {
        return Ok(DeleteManifest::Refused(current));
    }
    let of_repository = "repository_id = (SELECT id FROM repository WHERE name = ?1)";
    let digest = match reference {
        Reference::Tag(tag) => {
            let sql = format!("DELETE FROM tag WHERE {of_repository} AND name = ?2");
            let mut delete = db.prepare_cached(&sql)?;
            let deleted = delete.execute(params![repository.as_str(), tag.as_str()])?;
            return Ok(match deleted {
                0 => DeleteManifest::Unknown,
                _ => DeleteManifest::Deleted,
            });
        }
        Reference::Digest(digest) => digest.to_string(),
    };
    collect::release(db, repository, &digest, until)?;
    // Tags and edges go with it (ON DELETE CASCADE).
    let sql =
        format!("DELETE FROM manifest WHERE {of_repository} AND digest = ?2 RETURNING content_id");
    let mut delete = db.prepare_cached(&sql)?;
    let deleted = delete.query_row(params![repository.as_str(), digest], |row| {
        row.get::<_, i64>(0)
    });
    let Some(content) = deleted.optional()? else {
        return Ok(DeleteManifest::Unknown);
    };
    let mut sweep = db.prepare_cached(
        "DELETE FROM manifest_content WHERE id = ?1
         AND NOT EXISTS (SELECT 1 FROM manifest WHERE content_id = ?1)",
    )?;
    sweep.execute([content])?;
    Ok(DeleteManifest::Deleted)
}

pub(super) fn unlink_blob(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
) -> Result<bool> {
    let Some((repository, blob)) = linked_blob(db, repository, digest)? else {
        return Ok(false);
    };
    collect::unlink(db, repository, blob)?;
    Ok(true)
}

fn linked_blob(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<(i64, i64)>> {
    let mut find = db.prepare_cached(
        "SELECT r.id, b.id FROM repository r
         JOIN blob b ON b.digest = ?2
         JOIN repository_blob l ON l.repository_id = r.id AND l.blob_id = b.id
         WHERE r.name = ?1",
    )?;
    let arguments = params![repository.as_str(), digest.to_string()];
    let found = find.query_row(arguments, |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?)
}

/// The repository's row, made if it is the first time.
fn repository_id(db: &Connection, repository: &Repository) -> Result<i64> {
    if let Some(id) = find_repository(db, repository)? {
        return Ok(id);
    }
    let mut insert =
        db.prepare_cached("INSERT INTO repository (name, created_at) VALUES (?1, ?2)")?;
    Ok(insert.insert(params![repository.as_str(), now()])?)
}

fn find_repository(db: &Connection, repository: &Repository) -> Result<Option<i64>> {
    let mut find = db.prepare_cached("SELECT id FROM repository WHERE name = ?1")?;
    let found = find.query_row([repository.as_str()], |row| row.get(0));
    Ok(found.optional()?)
}

fn link(db: &Connection, repository: i64, blob: i64, until: i64) -> Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO repository_blob (repository_id, blob_id, linked_at, leased_until)
         VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET leased_until = max(leased_until, excluded.leased_until)",
    )?;
    insert.execute(params![repository, blob, now(), until])?;
    Ok(())
}

pub(super) fn probe(db: &Connection) -> Result<()> {
    let mut update = db.prepare_cached("UPDATE probe SET probed_at = ?1")?;
    update.execute([now()])?;
    Ok(())
}

/// SQLite's integers are signed.
fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|error| MetaError::Failed(error.into()))
}
