//! Why the store could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use strata_oci::digest::Digest;

use crate::layer::LayerError;
use crate::userns::UsernsError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index failed.
    #[error("the store's index strata.db failed: {}{}", .0, advice(.0))]
    Index(#[from] rusqlite::Error),
    /// The index has gone, and what it named is there.
    #[error(
        "the index of the store at {root} (strata.db) is gone or empty, but there are layers or containers, so nothing was \
         touched: put strata.db back from a backup; or move {root} away and pull again: what containers wrote is in its \
         containers/*/upper", root = root.display()
    )]
    Lost {
        /// The store's directory.
        root: PathBuf,
    },
    /// Whoever uses a store locks it and writes to its index, also to read.
    #[error(
        "the store at {root} is on a file system that is mounted read-only: remount it for writing, or copy the store \
         to another", root = root.display()
    )]
    ReadOnly {
        /// The store's directory.
        root: PathBuf,
    },
    /// There is no room for the files that the index needs beside it.
    #[error("the index of the store at {root} cannot be opened: No space left on device", root = root.display())]
    NoRoom {
        /// The store's directory.
        root: PathBuf,
    },
    /// The schema could not be brought up to date.
    #[error("the store's index strata.db cannot be brought up to date: {0}")]
    Migrate(#[from] Box<refinery::Error>),
    /// A later version of this program made the index.
    #[error(
        "the store at {root} was made by a newer strata (its schema is {found}, this program knows {known}): use that version, or another --root", root = root.display()
    )]
    Newer {
        /// The store's directory.
        root: PathBuf,
        /// The database's schema version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// Made as root and opened as a user, or the other way round: the trees' owners and marks differ.
    #[error(
        "the store at {root} belongs to {found} and this is {wanted}: run strata as the one who made it, or use another --root", root = root.display()
    )]
    Privilege {
        /// The store's directory.
        root: PathBuf,
        /// Who made it.
        found: &'static str,
        /// Who opens it.
        wanted: &'static str,
    },
    /// Files of subordinate ids are in it, and those ids do not exist now.
    #[error(
        "the store at {root} holds files of subordinate ids (subuid(5)), and none could be mapped now: newuidmap and \
         newgidmap must be installed and allowed to gain privilege (not under no_new_privs), and /etc/subuid and \
         /etc/subgid must still grant the ids; or use another --root", root = root.display()
    )]
    Subordinate {
        /// The store's directory.
        root: PathBuf,
    },
    /// Which ids exist here could not be found out.
    #[error(transparent)]
    Ids(#[from] UsernsError),
    /// Something else is in the directory.
    #[error(
        "{root} is not a store and is not empty ({entry:?} is in it): choose an empty or a new directory for --root", root = root.display()
    )]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// A file or directory in it.
        entry: String,
    },
    /// A text is no image name.
    #[error("{text:?} is not an image name: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No such image.
    #[error("no such image: {0}; `strata images` lists what is here, `strata pull` fetches more")]
    NoSuchImage(String),
    /// The beginning of an id fits several images.
    #[error("{0:?} is the beginning of several images' ids: give more digits")]
    Ambiguous(String),
    /// A name is also needed by something else.
    #[error("conflict: cannot remove {name}: {reason}")]
    Conflict {
        /// What was to be removed.
        name: String,
        /// What stands in the way and what to do.
        reason: String,
    },
    /// An image whose parts do not fit together.
    #[error("the image is not valid: {0}")]
    Invalid(String),
    /// Layers that were here a moment ago have been removed since.
    #[error(
        "layers of the image were removed meanwhile ({}): pull it again", list(.0)
    )]
    MissingLayers(Vec<Digest>),
    /// A layer on disk could not be read, or directories to mend its parents could not be made.
    #[error("a layer of the store: {0}")]
    Layer(#[from] LayerError),
    /// What is on disk is not what was written there.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the request was refused for a reason that the message gives, as against a failure of
    /// the machine or of this program.
    pub fn is_refusal(&self) -> bool {
        let failed = matches!(
            self,
            Self::Io { .. } | Self::Index(_) | Self::Migrate(_) | Self::Layer(_) | Self::Damaged(_)
        );
        !failed || self.is_of_a_full_disk()
    }

    /// Whether there was no room on the disk, or none for this user.
    pub fn is_of_a_full_disk(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Index(error) => is_of_a_full_disk(error),
            Self::Io { source, .. } => is_of_a_full_disk(source),
            Self::Layer(error) => is_of_a_full_disk(error),
            _ => false,
        }
    }
}

/// Whether an error, or what caused it, is that there was no room on a disk, or none for this user.
pub fn is_of_a_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        if let Some(error) = error.downcast_ref::<rusqlite::Error>() {
            return error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        }
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        })
    })
}

/// What to do about an index that fails, if anything can be done.
fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            ": put strata.db back from a backup, and remove strata.db-wal and strata.db-shm; or move the store away and \
             pull again: what containers wrote is in its containers/*/upper"
        }
        _ => "",
    }
}

fn list(digests: &[Digest]) -> String {
    let short: Vec<&str> = digests.iter().map(Digest::short).collect();
    short.join(", ")
}
