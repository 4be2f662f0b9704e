//! Why the configuration of registries is of no use.

use std::io;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used, or that forbids what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that says something else than it should.
    #[error("{}: {why}", .path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A name that must not be asked for.
    #[error("{name} is blocked by {}", .path.display())]
    Blocked {
        /// Host and repository.
        name: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// A short name that could mean several images, or none.
    #[error("{name} is a short name: {why}")]
    Short {
        /// As it was typed.
        name: String,
        /// What it could be, and what to do.
        why: String,
    },
}

impl ConfigError {
    pub(super) fn form(path: &Path, why: impl ToString) -> Self {
        Self::Form {
            path: path.to_owned(),
            why: why.to_string(),
        }
    }
}
