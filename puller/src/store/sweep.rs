//! Sweeping: what dead processes left, and layers that nothing needs.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, TransactionBehavior};
use strata_oci::digest::Digest;

use super::lock::FileLock;
use super::{Store, StoreError, image, staging};

/// How long a broken download is kept for whoever asks again.
const PARTIAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Layers collected at once: each holds a descriptor.
pub(super) const BATCH: usize = 256;

/// A layer whose row is gone and whose directory goes next.
pub(super) struct CollectedLayer {
    pub(super) diff_id: Digest,
    bytes: u64,
    /// Held so that nobody counts on the layer between its row's end and its directory's.
    lock: FileLock,
}

/// What a transaction deleted the rows of.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) layers: Vec<CollectedLayer>,
    stacks: Vec<Digest>,
}

impl Collected {
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.layers.iter().map(|layer| layer.bytes);
        bytes.fold(0, u64::saturating_add)
    }
}

impl Store {
    /// Removes what dead processes left and nothing needs, unless another process is changing the store now.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let path = self.lock_path("index");
        let lock = FileLock::try_exclusive(&path).map_err(StoreError::io("lock", &path))?;
        if let Some(lock) = lock {
            let mut db = self.db();
            if has_rubbish(&db)? {
                let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let collected = self.collect(&transaction)?;
                transaction.commit()?;
                self.take_collected(collected)?;
            }
            let layers = known(&db, "SELECT diff_id FROM layers")?;
            // A row that cannot be read may have been the one of a directory that is here.
            if layers.unreadable.is_empty() {
                self.sweep_orphans("layers", &layers.names)?;
                self.sweep_locks(&layers.names)?;
            }
            let stacks = known(&db, "SELECT chain_id FROM stacks WHERE mended")?;
            self.sweep_orphans("stacks", &stacks.names)?;
            drop(db);
            let staging = self.root.join("staging");
            staging::sweep(&staging, &self.trash).map_err(StoreError::io("sweep", &staging))?;
            self.sweep_partial()?;
            drop(lock);
        }
        Ok(())
    }

    /// Deletes the rows of layers that no image has and nobody holds, and of stacks of no image.
    pub(super) fn collect(&self, db: &Connection) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let unused = "SELECT diff_id, content_size FROM layers WHERE NOT EXISTS
            (SELECT 1 FROM image_layers WHERE image_layers.diff_id = layers.diff_id)";
        let mut statement = db.prepare_cached(unused)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let unused: Vec<(String, i64)> = rows.collect::<Result<_, _>>()?;
        for (text, bytes) in unused {
            let Ok(diff_id) = image::digest(&text) else {
                // It names nothing, and nothing names it.
                db.execute("DELETE FROM layers WHERE diff_id = ?1", [&text])?;
                continue;
            };
            let path = self.lock_path(diff_id.hex());
            let lock = FileLock::try_exclusive(&path).map_err(StoreError::io("lock", &path))?;
            let Some(lock) = lock else { continue };
            db.execute("DELETE FROM layers WHERE diff_id = ?1", [&text])?;
            collected.layers.push(CollectedLayer {
                diff_id,
                bytes: u64::try_from(bytes).unwrap_or(0),
                lock,
            });
            if collected.layers.len() == BATCH {
                break;
            }
        }
        let stacks = "DELETE FROM stacks WHERE chain_id NOT IN (SELECT chain_id FROM images) RETURNING chain_id";
        let mut statement = db.prepare_cached(stacks)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            collected
                .stacks
                .extend(image::digest(&row.get::<_, String>(0)?).ok());
        }
        Ok(collected)
    }

    /// Moves collected directories into the trash.
    pub(super) fn take_collected(&self, collected: Collected) -> Result<(), StoreError> {
        for layer in collected.layers {
            self.take(&self.layer_dir(&layer.diff_id))?;
            let path = self.lock_path(layer.diff_id.hex());
            layer
                .lock
                .remove()
                .map_err(StoreError::io("remove", &path))?;
        }
        for chain_id in collected.stacks {
            self.take(&self.root.join("stacks").join(chain_id.hex()))?;
        }
        Ok(())
    }

    /// Moves what is in `directory` and is not known into the trash.
    fn sweep_orphans(&self, directory: &str, known: &HashSet<String>) -> Result<(), StoreError> {
        let path = self.root.join(directory);
        for name in names(&path).map_err(StoreError::io("read", &path))? {
            if !known.contains(&name) {
                self.take(&path.join(name))?;
            }
        }
        Ok(())
    }

    /// Removes the lock files of layers that are not here and that nobody holds.
    fn sweep_locks(&self, layers: &HashSet<String>) -> Result<(), StoreError> {
        let path = self.root.join("locks");
        let sweep = || -> io::Result<()> {
            for name in names(&path)? {
                let of_a_layer = name.len() >= 64 && !layers.contains(&name);
                if of_a_layer && let Some(lock) = FileLock::try_exclusive(&path.join(name))? {
                    lock.remove()?;
                }
            }
            Ok(())
        };
        sweep().map_err(StoreError::io("sweep", &path))
    }

    fn sweep_partial(&self) -> Result<(), StoreError> {
        for path in self.old_partials()? {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Downloads that nobody has gone on with for long.
    pub(super) fn old_partials(&self) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.root.join("partial");
        let read = || -> io::Result<Vec<PathBuf>> {
            let before = SystemTime::now().checked_sub(PARTIAL);
            let mut old = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if before.is_some_and(|before| is_older(&entry, before)) {
                    old.push(entry.path());
                }
            }
            Ok(old)
        };
        read().map_err(StoreError::io("read", &path))
    }

    fn take(&self, path: &Path) -> Result<Option<String>, StoreError> {
        self.with_room(|| {
            let taken = self.trash.take(path);
            taken.map_err(StoreError::io("move away", path))
        })
    }
}

/// Whether there is anything to collect: an ordinary start writes nothing.
fn has_rubbish(db: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM layers WHERE NOT EXISTS
            (SELECT 1 FROM image_layers WHERE image_layers.diff_id = layers.diff_id))
        OR EXISTS (SELECT 1 FROM stacks WHERE chain_id NOT IN (SELECT chain_id FROM images))";
    db.prepare_cached(query)?.query_row([], |row| row.get(0))
}

/// The directories that rows name.
#[derive(Default)]
pub(super) struct Known {
    /// The hexadecimal parts of digests.
    pub(super) names: HashSet<String>,
    /// What stands where a digest should.
    pub(super) unreadable: Vec<String>,
}

/// The directories that the digests of a query name.
pub(super) fn known(db: &Connection, query: &str) -> Result<Known, StoreError> {
    let mut statement = db.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    let mut known = Known::default();
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        match text.parse::<Digest>() {
            Ok(digest) => drop(known.names.insert(digest.hex().to_owned())),
            Err(_) => known.unreadable.push(text),
        }
    }
    Ok(known)
}

/// The names in a directory. Only we write there, in ASCII.
pub(super) fn names(path: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(path)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn is_older(entry: &fs::DirEntry, than: SystemTime) -> bool {
    let changed = entry.metadata().and_then(|m| m.modified());
    changed.is_ok_and(|changed| changed < than)
}
