//! Why stored credentials cannot be read or written.

use std::io;
use std::path::PathBuf;

/// A store of credentials that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither a host nor a repository on one.
    #[error("{0:?} is not a registry: expected HOST[:PORT], or a repository or namespace on one")]
    Key(String),
    /// A file that cannot be read.
    #[error("the credentials in {} cannot be read: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("the credentials cannot be stored in {}: {source}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of another form.
    #[error("{} is not a file of credentials: {why}", .path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong; says nothing of the content.
        why: String,
    },
    /// A credential helper that failed.
    #[error("the credential helper {program} (named in {}) {why}", .file.display())]
    Helper {
        /// The program.
        program: String,
        /// The file that names it.
        file: PathBuf,
        /// What happened.
        why: String,
    },
    /// There is no place to store them.
    #[error("no place to store credentials: set HOME, or say --authfile FILE")]
    NoPlace,
    /// A worker thread ended without an answer.
    #[error("looking for credentials was interrupted")]
    Interrupted,
}
