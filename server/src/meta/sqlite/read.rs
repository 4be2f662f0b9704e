//! Queries. Each is one statement, so it sees one state of the database.

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use strata_oci::{Digest, Digester, Repository};

use super::super::{Listed, MetaError, Page, Referrer, Result, StoredManifest, Totals};
use crate::route::Reference;
use crate::upload::{Position, Upload, UploadId};

/// The lists, each a walk of an index from where the page before ended.
const TAGS: &str =
    "SELECT name FROM tag WHERE repository_id = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
const REPOSITORIES: &str = "SELECT name FROM repository r
     WHERE name > ?1 AND EXISTS (SELECT 1 FROM manifest WHERE repository_id = r.id)
     ORDER BY name LIMIT ?2";
const REFERRERS: &str =
    "SELECT m.digest, m.media_type, m.size, m.artifact_type, m.annotations FROM repository r
     JOIN manifest m ON m.repository_id = r.id AND m.subject = ?2 AND m.digest > ?3
     WHERE r.name = ?1 AND (?4 IS NULL OR m.artifact_type = ?4)
     ORDER BY m.digest LIMIT ?5";

/// What clients wrote into the referrers of one page, in bytes, beyond the first of them: annotations can be as
/// long as a manifest, and clients read a page as they read a manifest, 4 MiB at most.
const REFERRERS_BYTES: usize = 3 * 1024 * 1024;

pub(super) fn blob(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<u64>> {
    let mut statement = db.prepare_cached(
        "SELECT b.size FROM repository r
         JOIN blob b ON b.digest = ?2
         JOIN repository_blob l ON l.repository_id = r.id AND l.blob_id = b.id
         WHERE r.name = ?1",
    )?;
    let size = statement.query_row(params![repository.as_str(), digest.to_string()], |row| {
        unsigned(row, 0)
    });
    Ok(size.optional()?)
}

/// The size of a blob that the repository links, and until when that is leased.
pub(super) fn leased_blob(
    db: &Connection,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<(u64, i64)>> {
    let mut statement = db.prepare_cached(
        "SELECT b.size, l.leased_until FROM repository r
         JOIN blob b ON b.digest = ?2
         JOIN repository_blob l ON l.repository_id = r.id AND l.blob_id = b.id
         WHERE r.name = ?1",
    )?;
    let found = statement.query_row(params![repository.as_str(), digest.to_string()], |row| {
        Ok((unsigned(row, 0)?, row.get(1)?))
    });
    Ok(found.optional()?)
}

/// Those of the digests that no blob has.
pub(super) fn unnamed(db: &Connection, digests: Vec<Digest>) -> Result<Vec<Digest>> {
    let mut named = db.prepare_cached("SELECT EXISTS (SELECT 1 FROM blob WHERE digest = ?1)")?;
    let mut unnamed = Vec::new();
    for digest in digests {
        if !named.query_row([digest.to_string()], |row| row.get(0))? {
            unnamed.push(digest);
        }
    }
    Ok(unnamed)
}

pub(super) fn manifest(
    db: &Connection,
    repository: &Repository,
    reference: &Reference,
    with_bytes: bool,
) -> Result<Option<StoredManifest>> {
    let sql = match (reference, with_bytes) {
        (Reference::Tag(_), true) => {
            "SELECT m.digest, m.media_type, m.size, c.bytes FROM repository r
             JOIN tag t ON t.repository_id = r.id AND t.name = ?2
             JOIN manifest m ON m.id = t.manifest_id
             JOIN manifest_content c ON c.id = m.content_id
             WHERE r.name = ?1"
        }
        (Reference::Tag(_), false) => {
            "SELECT m.digest, m.media_type, m.size, x'' FROM repository r
             JOIN tag t ON t.repository_id = r.id AND t.name = ?2
             JOIN manifest m ON m.id = t.manifest_id
             WHERE r.name = ?1"
        }
        (Reference::Digest(_), true) => {
            "SELECT m.digest, m.media_type, m.size, c.bytes FROM repository r
             JOIN manifest m ON m.repository_id = r.id AND m.digest = ?2
             JOIN manifest_content c ON c.id = m.content_id
             WHERE r.name = ?1"
        }
        (Reference::Digest(_), false) => {
            "SELECT m.digest, m.media_type, m.size, x'' FROM repository r
             JOIN manifest m ON m.repository_id = r.id AND m.digest = ?2
             WHERE r.name = ?1"
        }
    };
    let name = match reference {
        Reference::Tag(tag) => tag.as_str().to_owned(),
        Reference::Digest(digest) => digest.to_string(),
    };
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_row(params![repository.as_str(), name], |row| {
        Ok(StoredManifest {
            digest: parsed(row, 0)?,
            media_type: row.get(1)?,
            size: unsigned(row, 2)?,
            bytes: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        })
    });
    Ok(found.optional()?)
}

pub(super) fn tags(
    db: &Connection,
    repository: &Repository,
    page: &Page,
) -> Result<Option<Listed<String>>> {
    let mut find = db.prepare_cached("SELECT id FROM repository WHERE name = ?1")?;
    let found = find.query_row([repository.as_str()], |row| row.get::<_, i64>(0));
    let Some(id) = found.optional()? else {
        return Ok(None);
    };
    let after = page.after.as_deref().unwrap_or("");
    let names = names(db, TAGS, params![id, after, one_more(page)])?;
    Ok(Some(Listed::cut(names, page.limit)))
}

pub(super) fn repositories(db: &Connection, page: &Page) -> Result<Listed<String>> {
    let after = page.after.as_deref().unwrap_or("");
    let names = names(db, REPOSITORIES, params![after, one_more(page)])?;
    Ok(Listed::cut(names, page.limit))
}

pub(super) fn referrers(
    db: &Connection,
    repository: &Repository,
    subject: &Digest,
    artifact_type: Option<&str>,
    page: &Page,
) -> Result<Listed<Referrer>> {
    let mut statement = db.prepare_cached(REFERRERS)?;
    let after = page.after.as_deref().unwrap_or("");
    let arguments = params![
        repository.as_str(),
        subject.to_string(),
        after,
        artifact_type,
        one_more(page)
    ];
    let mut rows = statement.query_map(arguments, |row| {
        Ok(Referrer {
            digest: parsed(row, 0)?,
            media_type: row.get(1)?,
            size: unsigned(row, 2)?,
            artifact_type: row.get(3)?,
            annotations: row.get(4)?,
        })
    })?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while let Some(referrer) = rows.next().transpose()? {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        bytes += text(&referrer.artifact_type) + text(&referrer.annotations);
        if bytes > REFERRERS_BYTES && !entries.is_empty() {
            return Ok(Listed {
                entries,
                more: true,
            });
        }
        entries.push(referrer);
    }
    Ok(Listed::cut(entries, page.limit))
}

pub(super) fn holders(db: &Connection, digest: &Digest, limit: usize) -> Result<Vec<Repository>> {
    let mut statement = db.prepare_cached(
        "SELECT r.name FROM blob b
         JOIN repository_blob l ON l.blob_id = b.id
         JOIN repository r ON r.id = l.repository_id
         WHERE b.digest = ?1 LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![digest.to_string(), limit], |row| parsed(row, 0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn upload(
    db: &Connection,
    id: &UploadId,
    repository: &Repository,
    owner: &str,
) -> Result<Option<Upload>> {
    let mut statement = db.prepare_cached(
        "SELECT received, hash_state FROM upload WHERE id = ?1 AND repository = ?2 AND owner = ?3",
    )?;
    let found = statement.query_row(params![id.as_str(), repository.as_str(), owner], |row| {
        Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?))
    });
    let Some((offset, state)) = found.optional()? else {
        return Ok(None);
    };
    let digester = Digester::restore(&state)
        .map_err(|error| MetaError::Damaged(format!("upload {id}: {error}")))?;
    Ok(Some(Upload {
        id: id.clone(),
        repository: repository.clone(),
        owner: owner.to_owned(),
        position: Position { offset, digester },
    }))
}

pub(super) fn expired_uploads(db: &Connection, time: i64, limit: usize) -> Result<Vec<UploadId>> {
    let mut statement = db.prepare_cached(
        "SELECT id FROM upload WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![time, limit], |row| parsed(row, 0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(super) fn upload_ids(db: &Connection) -> Result<Vec<UploadId>> {
    let mut statement = db.prepare_cached("SELECT id FROM upload")?;
    let rows = statement.query_map([], |row| parsed(row, 0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn names(db: &Connection, sql: &str, arguments: &[&dyn ToSql]) -> Result<Vec<String>> {
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(arguments, |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// One entry beyond the page says whether there are more.
fn one_more(page: &Page) -> i64 {
    i64::try_from(page.limit).map_or(i64::MAX, |limit| limit.saturating_add(1))
}

/// A column that holds a value's text.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse()
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// SQLite's integers are signed; sizes never are.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn totals(db: &Connection) -> Result<Totals> {
    let mut find = db.prepare_cached(
        "SELECT repositories, manifests, manifest_bytes, tags, blobs, blob_bytes, links,
             linked_bytes, uploads FROM totals",
    )?;
    let totals = find.query_row([], |row| {
        Ok(Totals {
            repositories: unsigned(row, 0)?,
            manifests: unsigned(row, 1)?,
            manifest_bytes: unsigned(row, 2)?,
            tags: unsigned(row, 3)?,
            blobs: unsigned(row, 4)?,
            blob_bytes: unsigned(row, 5)?,
            links: unsigned(row, 6)?,
            linked_bytes: unsigned(row, 7)?,
            uploads: unsigned(row, 8)?,
        })
    });
    Ok(totals?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_costs_the_same_wherever_it_begins() {
        let dir = tempfile::tempdir().expect("tempdir");
        let db = super::super::open::writer(&dir.path().join("db")).expect("open");
        for sql in [TAGS, REPOSITORIES, REFERRERS] {
            let mut plan = db
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .expect("plan");
            let mut rows = plan.raw_query();
            let mut steps = 0;
            while let Some(row) = rows.next().expect("row") {
                let step: String = row.get(3).expect("detail");
                // SCAN reads all rows, USE TEMP B-TREE sorts them; both grow with the list.
                let grows = step.starts_with("SCAN") || step.contains("TEMP B-TREE");
                assert!(!grows, "{step}: {sql}");
                steps += usize::from(step.starts_with("SEARCH"));
            }
            assert!(steps > 0, "{sql}");
        }
    }
}
