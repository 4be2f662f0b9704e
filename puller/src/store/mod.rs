//! The local store: images, layers and containers on disk, indexed in SQLite.
//!
//! Any number of processes share a store. Bytes are durable before the index names them, and rows
//! leave the index before their bytes do: whatever is killed, a row never names a missing directory,
//! and a directory without a row is rubbish that the next [`Store::open`] sweeps.
//!
//! Below the root: `strata.db`, `layers/<hex of diffID>/`, `staging/`, `trash/`, `partial/<hex of a
//! blob's digest>` (downloads that broke), `stacks/<hex of chainID>/`, `locks/`, `blobs/`, `containers/`, `volumes/`,
//! `reserve` (room for the day when the disk is full).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use rustix::fs::StatVfsMountFlags;
use strata_oci::cas::create_dir_durably;
use strata_oci::digest::Digest;

use crate::layer::{Limits, Ownership, UnpackOptions, XattrNamespace};
use crate::userns::{Ids, Privilege};

mod check;
pub mod containers;
mod database;
mod dedup;
mod empty;
mod error;
mod filter;
mod find;
mod image;
mod kept;
mod layers;
mod lock;
mod name;
mod origins;
mod prune;
mod publish;
mod remove;
mod repair;
mod reserve;
mod stack;
mod staging;
mod sweep;
mod trash;
mod usage;
pub mod volumes;

pub use check::{CheckOptions, CheckReport, Finding, Subject};
pub use dedup::{DedupError, DedupOptions, DedupReport};
pub use empty::{Urgency, empty_trash, trash_of};
pub use error::{StoreError, is_of_a_full_disk};
pub(crate) use filter::duration;
pub use filter::{Filter, FilterError, moment_nanos};
pub use image::{Image, Layer};
pub use layers::{LayerClaim, LayerLock};
pub use name::{Name, Target};
pub use prune::{BrokenDownload, PruneOptions, disk_usage};
pub use publish::NewImage;
pub(crate) use publish::chain_id;
pub use remove::{Removed, Tagged};
pub use repair::ReplaceError;
pub use staging::Staging;
pub use usage::{ImageUsage, Usage};

use lock::FileLock;
use trash::Trash;

const DIRECTORIES: [&str; 9] = [
    "layers",
    "staging",
    "trash",
    "partial",
    "locks",
    "stacks",
    "blobs",
    "containers",
    "volumes",
];

/// A store on disk. Share it between threads as `Arc<Store>`; its calls block on files.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    privilege: Privilege,
    ownership: Ownership,
    trash: Arc<Trash>,
    db: Mutex<Connection>,
}

impl Store {
    /// Opens the store at `root`, makes it when there is none, brings its index up to date and sweeps
    /// what dead processes left.
    ///
    /// # Errors
    /// A newer version's index, a store made with the other privilege or with ids that do not exist now, a
    /// directory that holds something else, an index that is lost, and what the file system refuses.
    pub fn open(root: &Path, privilege: Privilege) -> Result<Self, StoreError> {
        let store = Self::open_unswept(root, privilege)?;
        store.with_room(|| store.sweep())?;
        Ok(store)
    }

    /// The same, but what dead processes left stays where it is, to be looked at.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_unswept(root: &Path, privilege: Privilege) -> Result<Self, StoreError> {
        make_root(root)?;
        for name in DIRECTORIES {
            let path = root.join(name);
            create_dir_durably(&path).map_err(StoreError::io("make", &path))?;
        }
        let ownership = ownership(privilege)?;
        let db = reserve::with_room(root, StoreError::is_of_a_full_disk, || {
            database::open(root, privilege, &ownership)
        })?;
        reserve::make(root);
        Ok(Self {
            root: root.to_owned(),
            privilege,
            ownership,
            trash: Arc::new(Trash::new(root.join("trash"))),
            db: Mutex::new(db),
        })
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who made it.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// How layers are unpacked for this store, and proved there; who brings a new one sets limits.
    pub fn unpack_options(&self) -> UnpackOptions {
        let xattrs = match self.privilege {
            Privilege::Root => XattrNamespace::Trusted,
            Privilege::UserNamespace => XattrNamespace::User,
        };
        UnpackOptions {
            ownership: self.ownership.clone(),
            xattrs,
            holes: false,
            limits: Limits::of_accepted(),
            yielding: false,
        }
    }

    /// A new private directory on the store's file system.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        let staging = self.root.join("staging");
        Staging::new(&staging, Arc::clone(&self.trash))
            .map_err(StoreError::io("make a directory in", &staging))
    }

    /// Where the bytes of a blob's download are kept until its layer is published. The directory is
    /// there; the file may be. What nobody has touched for a week is swept.
    pub fn partial_path(&self, blob: &Digest) -> PathBuf {
        self.root.join("partial").join(blob.hex())
    }

    /// Removes what a download of `blob` left. A pull that is killed right after its image became visible
    /// leaves such; whoever finds the blob's layer here calls this.
    pub fn drop_partial(&self, blob: &Digest) {
        // What stays is swept when it is old.
        crate::transfer::discard(&self.partial_path(blob));
    }

    /// The index. A thread that panicked with it has rolled its transaction back.
    pub(crate) fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while directories and the rows that name them change together. Taken before
    /// [`Store::db`], never after.
    fn lock_index(&self) -> Result<FileLock, StoreError> {
        let path = self.lock_path("index");
        FileLock::exclusive(&path).map_err(StoreError::io("lock", &path))
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(name)
    }
}

/// Whose the files of new layers are.
fn ownership(privilege: Privilege) -> Result<Ownership, StoreError> {
    if privilege == Privilege::Root {
        return Ok(Ownership::Keep);
    }
    let ids = Ids::here()?;
    // Made for a user namespace from outside of one, nobody has granted anything.
    Ok(match ids.is_single() || ids.is_whole() {
        true => Ownership::Single,
        false => Ownership::Mapped(ids),
    })
}

/// Makes the root with its parents; an existing directory must be a store or empty, so that a
/// mistyped `--root` does not strew directories over someone's home.
fn make_root(root: &Path) -> Result<(), StoreError> {
    if root.join("strata.db").exists() {
        let mounted = rustix::fs::statvfs(root);
        if mounted.is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            let root = root.to_owned();
            return Err(StoreError::ReadOnly { root });
        }
        return Ok(());
    }
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(StoreError::io("make", parent))?;
    }
    create_dir_durably(root).map_err(StoreError::io("make", root))?;
    for entry in fs::read_dir(root).map_err(StoreError::io("read", root))? {
        let entry = entry.map_err(StoreError::io("read", root))?.file_name();
        let entry = entry.to_string_lossy();
        let ours = DIRECTORIES.contains(&&*entry)
            || entry.starts_with("strata.db")
            || entry == reserve::NAME;
        if !ours && entry != "lost+found" {
            return Err(StoreError::NotAStore {
                root: root.to_owned(),
                entry: entry.into_owned(),
            });
        }
    }
    Ok(())
}

/// A full reference as people know it.
fn familiar(full: &str) -> String {
    name::familiar_repository(full).to_owned()
}

/// Seconds since 1970.
fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests;
