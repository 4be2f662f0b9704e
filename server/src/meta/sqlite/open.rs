//! Opening the database: settings, migrations, and the refusal of one that a later version wrote.

use std::path::Path;
use std::time::Duration;

use refinery::embed_migrations;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::{MetaError, Result};

embed_migrations!("../migrations/registry");

/// Every statement of [`super::read`] and [`super::write`] stays prepared.
const STATEMENTS: usize = 64;

/// A burst of writes makes the write-ahead log larger; afterwards it is cut to this many bytes.
const WAL_KEPT: i64 = 64 * 1024 * 1024;

/// The connection that writes, with the schema brought up to date.
pub(super) fn writer(path: &Path) -> Result<Connection> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(10))?;
    refuse_newer(&db, path)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
    keep_plans(&db)?;
    // The schema and the record that it is there, in one transaction: between two, a crash would leave a
    // database that no later start can bring up to date.
    let runner = migrations::runner().set_grouped(true);
    runner
        .run(&mut db)
        .map_err(|error| MetaError::Failed(error.into()))?;
    Ok(db)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(10))?;
    keep_plans(&db)?;
    Ok(db)
}

/// Keeps statements prepared, whatever is bound to them: without the query planner's stability
/// guarantee (<https://sqlite.org/queryplanner-ng.html#qpsg>) those that touch a table with a
/// partial index are planned anew each time.
fn keep_plans(db: &Connection) -> Result<()> {
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn refuse_newer(db: &Connection, path: &Path) -> Result<()> {
    let known = migrations::runner();
    let known = known
        .get_migrations()
        .iter()
        .map(|m| i64::from(m.version()));
    let known = known.max().unwrap_or(0);
    let found: i64 = if db.table_exists(None, "refinery_schema_history")? {
        let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
        db.query_row(newest, [], |row| row.get(0))?
    } else {
        0
    };
    if found > known {
        let path = path.display().to_string();
        return Err(MetaError::Newer { path, found, known });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("stratad.db");
        let db = writer(&path).expect("open");
        let later = "INSERT INTO refinery_schema_history VALUES (9999, 'later', '2030-01-01T00:00:00Z', '1')";
        db.execute(later, []).expect("insert");
        drop(db);
        let error = writer(&path).map(|_| ()).expect_err("newer");
        assert!(
            matches!(error, MetaError::Newer { found: 9999, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("stratad.db");
        std::fs::write(&path, vec![b'x'; 8192]).expect("write");
        let error = writer(&path).map(|_| ()).expect_err("no database");
        assert!(matches!(error, MetaError::Damaged(_)), "{error}");
    }
}
