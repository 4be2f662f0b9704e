//! Why the store could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("the store's index strata.db failed: {0}")]
    Index(#[from] rusqlite::Error),
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
        !matches!(
            self,
            Self::Io { .. } | Self::Index(_) | Self::Migrate(_) | Self::Layer(_) | Self::Damaged(_)
        )
    }
}

fn list(digests: &[Digest]) -> String {
    let short: Vec<&str> = digests.iter().map(Digest::short).collect();
    short.join(", ")
}
