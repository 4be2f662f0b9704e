//! Everything that a request may touch, in one struct.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use strata_oci::cas::create_dir_durably;
use tokio::sync::mpsc;

use crate::auth::{Gate, Rule};
use crate::blob::{BlobError, BlobStore, Disk};
use crate::config::{Config, Live};
use crate::gc::{self, Gc};
use crate::health::Health;
use crate::meta::{MetaError, MetaStore, Sqlite};
use crate::net::Regions;
use crate::telemetry::{DatabaseMetrics, Metrics};
use crate::upload::Claims;

/// The registry.
pub struct App {
    /// What it was told, and may be told anew.
    pub config: Live,
    /// Its database.
    pub meta: Arc<dyn MetaStore>,
    /// Its blobs.
    pub blobs: Arc<dyn BlobStore>,
    /// Who may do what.
    pub gate: Gate,
    /// The upload sessions that are being written to.
    pub claims: Claims,
    /// Files that are being sent.
    pub regions: Regions,
    /// What collection shares with those who serve.
    pub gc: Gc,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long its database takes.
    pub database: Arc<DatabaseMetrics>,
    /// What is known of its health.
    pub health: Health,
    busy: mpsc::Sender<()>,
    _lock: File,
}

/// Held by work that the server's end waits for.
pub type Busy = mpsc::Sender<()>;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}: {source}{}", advice(.source))]
    Data {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has it.
    #[error("the data directory {0} is in use by another stratad")]
    InUse(PathBuf),
    /// The admin listener cannot listen.
    #[error("cannot listen on {address}, which [admin] listen says: {source}")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The blobs cannot be opened.
    #[error("cannot use the data directory: {0}")]
    Blob(#[from] BlobError),
}

/// What to do about a directory that is somebody else's.
fn advice(error: &io::Error) -> String {
    let id = rustix::process::geteuid().as_raw();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "; the server runs as user {id}: give the directory and all in it to that user, or say another with --data"
        ),
        io::ErrorKind::ReadOnlyFilesystem => "; say one that can be written with --data".to_owned(),
        _ => String::new(),
    }
}

impl App {
    /// Opens the data directory, alone, and frees uploads that a crash has left without a session.
    /// The receiver ends when no work is under way any more and the app is gone.
    pub async fn open(config: Config) -> Result<(Arc<Self>, mpsc::Receiver<()>), OpenError> {
        let data = config.storage.data.clone();
        let lock = lock(&data)?;
        let config = Live::new(config);
        let settings = config.subscribe();
        let grace = Box::new(move || settings.borrow().gc.grace);
        let meta = Sqlite::open(&data.join("stratad.db"), grace)?;
        let blobs = Disk::open(&data)?;
        let database = meta.metrics();
        Self::over(config, Arc::new(meta), Arc::new(blobs), database, lock).await
    }

    /// [`App::open`] over other stores, which belong to the data directory as its own would.
    pub async fn open_with(
        config: Config,
        meta: Arc<dyn MetaStore>,
        blobs: Arc<dyn BlobStore>,
    ) -> Result<(Arc<Self>, mpsc::Receiver<()>), OpenError> {
        let lock = lock(&config.storage.data)?;
        Self::over(Live::new(config), meta, blobs, Arc::default(), lock).await
    }

    async fn over(
        config: Live,
        meta: Arc<dyn MetaStore>,
        blobs: Arc<dyn BlobStore>,
        database: Arc<DatabaseMetrics>,
        lock: File,
    ) -> Result<(Arc<Self>, mpsc::Receiver<()>), OpenError> {
        let (busy, idle) = mpsc::channel(1);
        let app = Self {
            config,
            meta,
            blobs,
            gate: Gate::new(vec![Rule::Everyone]),
            claims: Claims::default(),
            regions: Regions::default(),
            gc: Gc::default(),
            metrics: Arc::default(),
            database,
            health: Health::default(),
            busy,
            _lock: lock,
        };
        gc::orphans(&app).await?;
        Ok((Arc::new(app), idle))
    }

    /// Marks work that the server's end waits for.
    pub fn busy(&self) -> Busy {
        self.busy.clone()
    }
}

/// Makes the data directory if need be, and takes it for this process.
fn lock(data: &Path) -> Result<File, OpenError> {
    let failed = |path: &Path, source| OpenError::Data {
        path: path.to_owned(),
        source,
    };
    make(data).map_err(|error| failed(data, error))?;
    let path = data.join("lock");
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = opened.map_err(|error| failed(&path, error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::InUse(data.to_owned())),
        Err(error) => Err(failed(&path, error.into())),
    }
}

/// Makes the directory and those above it; each name is durable before anything is below it.
fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
        && !parent.exists()
    {
        make(parent)?;
    }
    create_dir_durably(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_data_directory_has_one_server() {
        let dir = tempfile::tempdir().expect("tempdir");
        let first = App::open(Config::new(dir.path())).await.expect("open");
        let second = App::open(Config::new(dir.path())).await;
        assert!(matches!(second.map(|_| ()), Err(OpenError::InUse(_))));
        drop(first);
        assert!(App::open(Config::new(dir.path())).await.is_ok());
    }

    #[tokio::test]
    async fn a_data_directory_is_made_with_those_above_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let data = dir.path().join("a/b/data");
        assert!(App::open(Config::new(&data)).await.is_ok());
        assert!(data.is_dir());
    }

    #[tokio::test]
    async fn a_file_is_no_data_directory() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("file");
        fs::write(&path, b"").expect("write");
        let opened = App::open(Config::new(&path)).await;
        assert!(matches!(opened.map(|_| ()), Err(OpenError::Data { .. })));
    }
}
