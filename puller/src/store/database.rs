//! The index: SQLite, brought up to date when a store is opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _};

use super::StoreError;
use super::lock::FileLock;
use crate::layer::Ownership;
use crate::userns::Privilege;

mod embedded {
    refinery::embed_migrations!("../migrations/store");
}

/// The newest of the embedded migrations. They would tell themselves, but their names are taken apart by a regular
/// expression, and to build that costs more than the rest of what opening a store takes.
const KNOWN: i64 = 4;

/// A log that is longer is brought into the database by the next process that closes it as the last one. Every process
/// reads the log anew when nobody else has it open, so it must not get long; and to empty it costs three fsync(2),
/// which a command that changes one row should not pay.
const SHORT_LOG: u64 = 256 * 1024;

/// With fewer bytes left on the disk, the log is used again from its beginning: what is full must be removable.
const SCARCE: u64 = 1024 * 1024;

/// Opens ROOT/strata.db.
pub(super) fn open(
    root: &Path,
    privilege: Privilege,
    ownership: &Ownership,
) -> Result<Connection, StoreError> {
    let mut db = Connection::open(root.join("strata.db"))?;
    db.busy_timeout(Duration::from_secs(10))?;
    // What SQLite notes about how much of the log is in the database already is lost when the last process closes it,
    // so one that every process left as it is would never begin anew.
    let log = std::fs::metadata(root.join("strata.db-wal"));
    let short = log.map_or(0, |log| log.len()) < SHORT_LOG;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, short)?;
    if version(&db)? != KNOWN {
        migrate(&mut db, root)?;
    }
    let free = rustix::fs::statvfs(root).map(|room| room.f_bavail.saturating_mul(room.f_frsize));
    if free.is_ok_and(|free| free < SCARCE) {
        make_room(&db);
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
    if found > KNOWN {
        return Err(StoreError::Newer {
            root: root.to_owned(),
            found,
            known: KNOWN,
        });
    }
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    embedded::migrations::runner()
        .set_grouped(true)
        .run(db)
        .map_err(Box::new)?;
    into_database(db)
}

/// What has been committed is brought from the log into the database when the last process closes it, or by the next
/// change of this kind: later changes of what is there then need no room on the disk.
pub(super) fn into_database(db: &Connection) -> Result<(), StoreError> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
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

/// Brings the log into the database without making it shorter, so that the next change needs no room on the disk.
fn make_room(db: &Connection) {
    let brought = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        row.get::<_, i64>(0)
    });
    if let Err(error) = brought {
        tracing::debug!(%error, "the index's log stays as long as it is");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn log_after_a_change(root: &Path) -> u64 {
        let db = open(root, Privilege::Root, &Ownership::Keep).expect("opens");
        db.execute("UPDATE store SET subordinate = NOT subordinate", [])
            .expect("writes");
        drop(db);
        std::fs::metadata(root.join("strata.db-wal")).map_or(0, |log| log.len())
    }

    #[test]
    fn the_newest_migration_is_known() {
        let runner = embedded::migrations::runner();
        let versions = runner.get_migrations().iter();
        assert_eq!(versions.map(|m| i64::from(m.version())).max(), Some(KNOWN));
    }

    #[test]
    fn a_short_log_stays_when_the_index_is_closed_and_a_long_one_goes() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("locks")).expect("mkdir");
        let lengths: Vec<u64> = (0..200).map(|_| log_after_a_change(dir.path())).collect();
        let most = lengths.iter().max().expect("some");
        assert!(*most >= SHORT_LOG / 2, "it is kept: {lengths:?}");
        assert!(*most < 2 * SHORT_LOG, "it is bounded: {lengths:?}");
        let emptied = lengths.iter().filter(|length| **length == 0).count();
        assert!((1..20).contains(&emptied), "now and then: {lengths:?}");
    }
}
