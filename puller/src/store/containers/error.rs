//! What may go wrong with containers, and the words for it.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::{StoreError, is_of_a_full_disk};

/// Why a container could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A name that no container may have.
    #[error(
        "invalid container name {0:?}: 2 to 128 characters of a-z A-Z 0-9 _ . -, the first a letter or digit"
    )]
    Name(String),
    /// The name is taken.
    #[error(
        "conflict: the container name {name:?} is already in use by container {id:?}: remove (strata rm) or rename that container, or choose another name"
    )]
    Conflict {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Somebody removed the image between its being found and its being used.
    #[error("the image {0} was removed meanwhile: pull it again")]
    ImageGone(String),
    /// Nothing is called that.
    #[error("no such container: {0}; `strata ps -a` lists them")]
    NoSuch(String),
    /// The beginning of several ids.
    #[error("{0:?} is the beginning of several containers' ids: give more digits")]
    Ambiguous(String),
    /// It is in use.
    #[error("container {name} is running: stop it first, or remove it with -f")]
    Running {
        /// Its name.
        name: String,
    },
    /// A file operation failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ContainerError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// Whether the disk has no room.
    pub(super) fn is_of_a_full_disk(&self) -> bool {
        match self {
            Self::Store(error) => error.is_of_a_full_disk(),
            Self::Io { source, .. } => is_of_a_full_disk(source),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for ContainerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}
