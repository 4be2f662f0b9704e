//! The index: SQLite, brought up to date when a store is opened.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::lock::FileLock;
use super::{StoreError, reserve};
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

/// The lock of who makes the index or brings it up to date.
const MIGRATE: &str = "locks/migrate";

/// Locks whose files are made with the index: on a full disk it might not be possible.
const LOCKS: [&str; 3] = ["locks/index", "locks/containers", "locks/trash"];

/// Opens ROOT/strata.db. A new one is made only where there is nothing that it should name.
pub(super) fn open(
    root: &Path,
    privilege: Privilege,
    ownership: &Ownership,
) -> Result<Connection, StoreError> {
    refuse_lost(root)?;
    match connect(root, privilege, ownership) {
        // SQLite does not say why it could not make the files that it needs beside the index.
        Err(StoreError::Index(error)) if is_about_files(&error) && is_scarce(root) => {
            Err(StoreError::NoRoom {
                root: root.to_owned(),
            })
        }
        opened => opened,
    }
}

fn is_about_files(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(
        code,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}

fn is_scarce(root: &Path) -> bool {
    reserve::free(root).is_some_and(|free| free < SCARCE)
}

/// Refuses to make an index anew beside layers or containers: they would count as what crashes left, and go.
/// That SQLite finds the database empty is too late to learn it: it removes the log, which may still be of use.
fn refuse_lost(root: &Path) -> Result<(), StoreError> {
    let path = root.join("strata.db");
    let is_lost = || !fs::metadata(&path).is_ok_and(|database| database.len() > 0);
    if !is_lost() || !holds_something(root)? {
        return Ok(());
    }
    // Another process may have made the store since then.
    let _lock = lock_migration(root)?;
    match is_lost() {
        true => Err(lost(root)),
        false => Ok(()),
    }
}

fn lost(root: &Path) -> StoreError {
    StoreError::Lost {
        root: root.to_owned(),
    }
}

/// Whether there is anything that an index should name.
fn holds_something(root: &Path) -> Result<bool, StoreError> {
    for directory in ["layers", "containers"] {
        let path = root.join(directory);
        let mut entries = fs::read_dir(&path).map_err(StoreError::io("read", &path))?;
        if entries.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn lock_migration(root: &Path) -> Result<FileLock, StoreError> {
    let path = root.join(MIGRATE);
    FileLock::exclusive(&path).map_err(StoreError::io("lock", &path))
}

fn connect(
    root: &Path,
    privilege: Privilege,
    ownership: &Ownership,
) -> Result<Connection, StoreError> {
    reserve::before_mapping(root);
    let mut db = Connection::open(root.join("strata.db"))?;
    db.busy_timeout(Duration::from_secs(10))?;
    // What SQLite notes about how much of the log is in the database already is lost when the last process closes it,
    // so one that every process left as it is would never begin anew.
    let log = fs::metadata(root.join("strata.db-wal"));
    let short = log.map_or(0, |log| log.len()) < SHORT_LOG;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, short)?;
    if version(&db)? != KNOWN {
        migrate(&mut db, root)?;
    }
    if is_scarce(root) {
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
    let _lock = lock_migration(root)?;
    let found = version(db)?;
    if found == 0 && holds_something(root)? {
        return Err(lost(root));
    }
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
    for name in LOCKS {
        let path = root.join(name);
        let mut options = fs::File::options();
        let made = options.write(true).create(true).mode(0o600).open(&path);
        made.map_err(StoreError::io("make", &path))?;
    }
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
        fs::metadata(root.join("strata.db-wal")).map_or(0, |log| log.len())
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
        for name in ["locks", "layers", "containers"] {
            fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        let lengths: Vec<u64> = (0..200).map(|_| log_after_a_change(dir.path())).collect();
        let most = lengths.iter().max().expect("some");
        assert!(*most >= SHORT_LOG / 2, "it is kept: {lengths:?}");
        assert!(*most < 2 * SHORT_LOG, "it is bounded: {lengths:?}");
        let emptied = lengths.iter().filter(|length| **length == 0).count();
        assert!((1..20).contains(&emptied), "now and then: {lengths:?}");
    }

    #[test]
    fn an_index_that_is_lost_is_not_made_anew_over_what_it_named() {
        type Loss = fn(&Path);
        let losses: [(&str, Loss); 3] = [
            ("removed", |root| {
                fs::remove_file(root.join("strata.db")).expect("remove");
            }),
            ("emptied", |root| {
                fs::write(root.join("strata.db"), "").expect("empty");
            }),
            ("without tables", |root| {
                for name in ["strata.db", "strata.db-wal", "strata.db-shm"] {
                    let path = root.join(name);
                    if path.exists() {
                        fs::remove_file(path).expect("remove");
                    }
                }
                let db = Connection::open(root.join("strata.db")).expect("opens");
                db.pragma_update(None, "user_version", 1).expect("writes");
            }),
        ];
        for (how, lose) in losses {
            let dir = tempfile::tempdir().expect("tempdir");
            for name in ["locks", "layers", "containers"] {
                fs::create_dir(dir.path().join(name)).expect("mkdir");
            }
            let opened = || open(dir.path(), Privilege::Root, &Ownership::Keep);
            drop(opened().expect("a new one"));
            lose(dir.path());
            drop(opened().expect("with nothing to name"));
            fs::create_dir_all(dir.path().join("containers/one/upper")).expect("mkdir");
            drop(opened().expect("it is there"));
            lose(dir.path());
            for _ in 0..2 {
                let refused = opened().expect_err(how);
                assert!(
                    matches!(refused, StoreError::Lost { .. }),
                    "{how}: {refused}"
                );
            }
        }
    }
}
