//! The index: SQLite, brought up to date when a store is opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::StoreError;
use super::lock::FileLock;
use crate::layer::Ownership;
use crate::userns::Privilege;

mod embedded {
    refinery::embed_migrations!("../migrations/store");
}

/// Opens ROOT/strata.db.
pub(super) fn open(
    root: &Path,
    privilege: Privilege,
    ownership: &Ownership,
) -> Result<Connection, StoreError> {
    let mut db = Connection::open(root.join("strata.db"))?;
    db.busy_timeout(Duration::from_secs(10))?;
    if version(&db)? != known() {
        migrate(&mut db, root)?;
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    let found = made_with(&db, privilege)?;
    if found != word(privilege) {
        return Err(StoreError::Privilege {
            root: root.to_owned(),
            found: owner(&found),
            wanted: owner(word(privilege)),
        });
    }
    let subordinate: bool = db.query_row("SELECT subordinate FROM store", [], |row| row.get(0))?;
    match ownership {
        Ownership::Single if subordinate => Err(StoreError::Subordinate {
            root: root.to_owned(),
        }),
        Ownership::Mapped(_) if !subordinate => {
            db.execute("UPDATE store SET subordinate = 1", [])?;
            Ok(db)
        }
        _ => Ok(db),
    }
}

/// Applies what is missing, all or nothing; one process at a time.
fn migrate(db: &mut Connection, root: &Path) -> Result<(), StoreError> {
    let lock = root.join("locks/migrate");
    let _lock = FileLock::exclusive(&lock).map_err(StoreError::io("lock", &lock))?;
    let found = version(db)?;
    if found > known() {
        return Err(StoreError::Newer {
            root: root.to_owned(),
            found,
            known: known(),
        });
    }
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    embedded::migrations::runner()
        .set_grouped(true)
        .run(db)
        .map_err(Box::new)?;
    Ok(())
}

/// The privilege that the store was made with: ours if nobody has said.
fn made_with(db: &Connection, privilege: Privilege) -> rusqlite::Result<String> {
    let read = "SELECT privilege FROM store";
    if let Some(found) = db.query_row(read, [], |row| row.get(0)).optional()? {
        return Ok(found);
    }
    let made = "INSERT INTO store (id, privilege) VALUES (1, ?1) ON CONFLICT DO NOTHING";
    db.execute(made, [word(privilege)])?;
    db.query_row(read, [], |row| row.get(0))
}

fn known() -> i64 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter();
    versions.map(|m| i64::from(m.version())).max().unwrap_or(0)
}

/// The schema's version; 0 for an empty database.
fn version(db: &Connection) -> rusqlite::Result<i64> {
    if !db.table_exists(None, "refinery_schema_history")? {
        return Ok(0);
    }
    let newest = "SELECT coalesce(max(version), 0) FROM refinery_schema_history";
    db.query_row(newest, [], |row| row.get(0))
}

fn word(privilege: Privilege) -> &'static str {
    match privilege {
        Privilege::Root => "root",
        Privilege::UserNamespace => "user namespace",
    }
}

fn owner(word: &str) -> &'static str {
    match word {
        "root" => "root",
        _ => "an ordinary user",
    }
}
