//! A look into a server's data directory: is every row's content there and intact, and what has no row.
//!
//! The database is read from a copy, so that looking neither recovers nor changes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use strata_oci::digest::Digest;
use tempfile::TempDir;

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Rows that are not so, in words.
    pub wrong: Vec<String>,
    /// Blobs with a row.
    pub blobs: BTreeSet<String>,
    /// Files of blobs that no row names.
    pub orphan_blobs: Vec<String>,
}

/// Looks into `data`, while no server uses it.
pub fn audit(data: &Path) -> Result<Audit> {
    let mut audit = Audit::default();
    let (_copy, db) = copy_of_database(&data.join("stratad.db"))?;
    audit.wrong.extend(unsound(&db)?);
    let tables = strings(&db, "SELECT name FROM sqlite_schema WHERE name = 'blob'")?;
    if tables.is_empty() {
        // Ended in its very first start, it has acknowledged nothing yet.
        return Ok(audit);
    }
    check_blobs(&db, data, &mut audit)?;
    check_manifests(&db, &mut audit)?;
    Ok(audit)
}

/// Files of blobs that no row names and of uploads that no session names: what a server that has nothing to do will have
/// swept sooner or later.
pub fn unswept(data: &Path) -> Result<Vec<String>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = Connection::open_with_flags(data.join("stratad.db"), flags)?;
    let (files, staged) = (blob_files(data), names(&data.join("uploads")));
    let blobs = BTreeSet::from_iter(strings(&db, "SELECT digest FROM blob")?);
    let sessions = strings(&db, "SELECT id FROM upload")?;
    let orphans = files.into_iter().filter(|file| !blobs.contains(file));
    let staged = staged.into_iter().filter(|name| !sessions.contains(name));
    Ok(orphans.chain(staged).collect())
}

/// A database with its log and its journal, copied, and the directory that holds the copy. Nobody may be writing to it.
pub fn copy_of_database(path: &Path) -> Result<(TempDir, Connection)> {
    let copy = tempfile::tempdir()?;
    let copied = copy.path().join("copy.db");
    fs::copy(path, &copied).context("copy the database")?;
    // Until its first start has set the write-ahead log up, a journal is what undoes half a write.
    for beside in ["db-wal", "db-journal"] {
        let file = path.with_extension(beside);
        if file.exists() {
            fs::copy(file, copied.with_extension(beside))?;
        }
    }
    let db = Connection::open_with_flags(copied, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    Ok((copy, db))
}

/// What SQLite itself finds wrong with a database.
pub fn unsound(db: &Connection) -> Result<Vec<String>> {
    let mut wrong = strings(db, "SELECT integrity_check FROM pragma_integrity_check")?;
    wrong.retain(|found| found != "ok");
    let dangling = "SELECT 'dangling: ' || \"table\" || ' ' || rowid FROM pragma_foreign_key_check";
    wrong.extend(strings(db, dangling)?);
    Ok(wrong)
}

fn check_blobs(db: &Connection, data: &Path, audit: &mut Audit) -> Result<()> {
    let rows = strings(db, "SELECT size || ' ' || digest FROM blob")?;
    let mut files = blob_files(data);
    for row in rows {
        let (size, digest) = row.split_once(' ').context("a size and a digest")?;
        let parsed: Digest = digest.parse()?;
        let hex = parsed.hex();
        let algorithm = data.join("blobs").join(parsed.algorithm().name());
        match fs::read(algorithm.join(&hex[..2]).join(hex)) {
            Ok(bytes) if !parsed.matches(&bytes) || bytes.len().to_string() != size => {
                let length = bytes.len();
                audit
                    .wrong
                    .push(format!("{digest} of {size} bytes has {length} others"));
            }
            Ok(_) => {}
            Err(error) => audit
                .wrong
                .push(format!("{digest} has a row and no bytes: {error}")),
        }
        files.remove(digest);
        audit.blobs.insert(digest.to_owned());
    }
    audit.orphan_blobs = files.into_iter().collect();
    Ok(())
}

/// The digests that files in the blobs' directories are named by.
fn blob_files(data: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for algorithm in names(&data.join("blobs")) {
        for shard in names(&data.join("blobs").join(&algorithm)) {
            let directory = data.join("blobs").join(&algorithm).join(shard);
            files.extend(
                names(&directory)
                    .into_iter()
                    .map(|hex| format!("{algorithm}:{hex}")),
            );
        }
    }
    files
}

fn check_manifests(db: &Connection, audit: &mut Audit) -> Result<()> {
    let mut statement = db.prepare("SELECT digest, bytes FROM manifest_content")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (digest, bytes) = (row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?);
        if !digest.parse::<Digest>()?.matches(&bytes) {
            audit
                .wrong
                .push(format!("manifest {digest} has other bytes"));
        }
    }
    let missing = "SELECT m.digest || ' needs ' || n.digest FROM manifest_blob n \
                   JOIN manifest m ON m.id = n.manifest_id \
                   WHERE NOT EXISTS (SELECT 1 FROM repository_blob l JOIN blob b ON b.id = l.blob_id \
                                     WHERE l.repository_id = m.repository_id AND b.digest = n.digest)";
    audit.wrong.extend(strings(db, missing)?);
    Ok(())
}

/// The one column of all rows.
pub fn strings(db: &Connection, query: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The names in a directory; none when there is no such directory.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}
