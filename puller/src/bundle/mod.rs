//! Runtime bundles: a directory with a root file system and a `config.json`, which any runtime of the OCI
//! specification runs (runtime-spec, bundle.md).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::driver::{self, DriverError};
use crate::run::config::Config;
use crate::run::user::UserError;
use crate::run::write_host_files;
use crate::userns::{Mappings, Privilege};

mod annotations;
mod linux;
mod spec;

pub use annotations::annotations;
pub use spec::{Place, runtime_spec};

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Something is there.
    #[error("{0} is there already, and is not an empty directory")]
    Exists(PathBuf),
    /// The layers could not be put together.
    #[error(transparent)]
    Layers(#[from] DriverError),
    /// The container's user cannot be had.
    #[error(transparent)]
    User(#[from] UserError),
    /// The filter of system calls cannot be applied.
    #[error("{0}")]
    Seccomp(String),
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
}

impl BundleError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Writes a bundle to `directory`, which is made: a copy of the layers (top first) as `rootfs`, and a `config.json`
/// for it. Volumes that nobody named are directories of the copy. Where names are the host's, its own files are mounted,
/// else such as are written beside.
///
/// # Errors
/// The directory is not empty; a user that the image does not know; files that cannot be written.
pub fn write(
    directory: &Path,
    lowers: &[PathBuf],
    config: &Config,
    volumes: &Path,
    privilege: Privilege,
) -> Result<(), BundleError> {
    make_empty(directory)?;
    let rootfs = directory.join("rootfs");
    driver::copy_stack(lowers, &rootfs, privilege)?;
    let files = match config.names_are_the_hosts() {
        true => ["/etc/resolv.conf", "/etc/hosts"]
            .map(|path| (path.into(), path.to_owned()))
            .to_vec(),
        false => std::path::absolute(directory)
            .and_then(|directory| write_host_files(&directory, config))
            .map_err(BundleError::io("cannot write files of names in", directory))?,
    };
    let place = Place {
        root: Path::new("rootfs"),
        rootfs: &rootfs,
        volumes,
        files: &files,
        rootless: privilege == Privilege::UserNamespace,
        group: None,
        ids: match privilege {
            Privilege::Root => None,
            Privilege::UserNamespace => {
                let proc = Path::new("/proc/self/uid_map");
                Some(Mappings::here().map_err(|error| {
                    BundleError::io("cannot read", proc)(io::Error::other(error))
                })?)
            }
        },
    };
    write_spec(directory, config, &place)
}

/// Writes `config.json` into a bundle's directory.
///
/// # Errors
/// As [`runtime_spec`]; the file cannot be written.
pub fn write_spec(directory: &Path, config: &Config, place: &Place) -> Result<(), BundleError> {
    let spec = runtime_spec(config, place)?;
    let path = directory.join("config.json");
    serde_json::to_vec_pretty(&spec)
        .map_err(io::Error::from)
        .and_then(|text| fs::write(&path, text))
        .map_err(BundleError::io("cannot write", &path))
}

fn make_empty(directory: &Path) -> Result<(), BundleError> {
    let made = DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(directory);
    made.map_err(BundleError::io("cannot make", directory))?;
    let mut entries = fs::read_dir(directory).map_err(BundleError::io("cannot read", directory))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(BundleError::Exists(directory.to_owned())),
    }
}
