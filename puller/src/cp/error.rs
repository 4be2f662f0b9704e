//! Why something was not copied.

use std::io;
use std::path::PathBuf;

use crate::layer::TarError;

/// A copy that was not made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CpError {
    /// Nothing is there.
    #[error("could not find {path} in {place}", path = path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// In which file system.
        place: String,
    },
    /// There is something of another type.
    #[error("{path} in {place}: {why}", path = path.display())]
    Refused {
        /// Where it is.
        path: PathBuf,
        /// In which file system.
        place: String,
        /// What does not fit.
        why: &'static str,
    },
    /// A call failed.
    #[error("cannot {action} {path} in {place}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// In which file system.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// A name in the archive that leads out of where it is unpacked.
    #[error("the archive's entry {0:?} is refused: it leads out of the directory")]
    Escapes(String),
    /// The archive could not be passed on.
    #[error("cannot write the archive: {0}")]
    Write(#[source] io::Error),
}
