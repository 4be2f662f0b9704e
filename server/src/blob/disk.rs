//! [`BlobStore`] on a local file system: `blobs/ALGORITHM/ab/abcd…` and, on the same one, `uploads/ID`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strata_oci::cas::{create_dir_durably, sync_dir};
use strata_oci::{Algorithm, Cas, Digest, Digester};
use tokio::task::spawn_blocking;

use super::receive::{BATCH, SMALL_BATCH, receive};
use super::{Appended, BlobContent, BlobError, BlobStore, ByteStream};
use crate::upload::{Position, UploadId};

/// Up to this size a blob is read into memory: cheaper than mapping its file.
const SMALL: u64 = 32 * 1024;

/// Up to this many uploads at a time have large batches.
const FEW: usize = 8;

/// A directory of blobs.
#[derive(Debug, Clone)]
pub struct Disk {
    cas: Cas,
    uploads: PathBuf,
    /// Held once by each upload that is under way, beside this.
    receiving: Arc<()>,
}

impl Disk {
    /// Opens or makes `blobs` and `uploads` under `data`.
    pub fn open(data: &Path) -> Result<Self, BlobError> {
        let (blobs, uploads) = (data.join("blobs"), data.join("uploads"));
        let cas = Cas::open(&blobs).map_err(|e| BlobError::new("cannot open", &blobs, e))?;
        create_dir_durably(&uploads).map_err(|e| BlobError::new("cannot open", &uploads, e))?;
        // Whoever made these may have been killed before it made their names durable.
        let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
        let made = algorithms.map(|algorithm| blobs.join(algorithm.name()));
        for directory in made.iter().map(PathBuf::as_path).chain([&*blobs, data]) {
            sync_dir(directory).map_err(|e| BlobError::new("cannot sync", directory, e))?;
        }
        Ok(Self {
            cas,
            uploads,
            receiving: Arc::default(),
        })
    }

    fn staged_path(&self, id: &UploadId) -> PathBuf {
        self.uploads.join(id.as_str())
    }
}

/// Runs what blocks on another thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(BlobError::new("cannot work on", "a thread", error.into())),
    }
}

#[async_trait]
impl BlobStore for Disk {
    async fn read(&self, digest: &Digest) -> Result<Option<BlobContent>, BlobError> {
        let (cas, digest) = (self.cas.clone(), digest.clone());
        blocking(move || {
            let failed = |e| BlobError::new("cannot read", cas.path(&digest), e);
            let Some((mut file, size)) = cas.open_blob(&digest).map_err(failed)? else {
                return Ok(None);
            };
            if size > SMALL {
                return Ok(Some(BlobContent::File { file, size }));
            }
            let mut bytes = Vec::with_capacity(SMALL.min(size) as usize);
            file.read_to_end(&mut bytes).map_err(failed)?;
            Ok(Some(BlobContent::Memory(Bytes::from(bytes))))
        })
        .await
    }

    async fn append(
        &self,
        id: &UploadId,
        position: Position,
        body: ByteStream,
    ) -> Result<Appended, BlobError> {
        let receiving = Arc::clone(&self.receiving);
        let few = Arc::strong_count(&receiving) <= FEW + 1;
        let size = if few { BATCH } else { SMALL_BATCH };
        let appended = receive(id, self.staged_path(id), position, body, size).await;
        drop(receiving);
        appended
    }

    async fn rehash(
        &self,
        id: &UploadId,
        size: u64,
        mut digester: Digester,
    ) -> Result<Digest, BlobError> {
        let (id, path) = (id.clone(), self.staged_path(id));
        blocking(move || {
            let failed = |e| BlobError::new("cannot read", &path, e);
            let mut rest = open_staged(&id, &path, size)?.take(size);
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match rest.read(&mut buffer).map_err(failed)? {
                    0 if rest.limit() > 0 => return Err(BlobError::Lost(id)),
                    0 => return Ok(digester.finish()),
                    count => digester.update(&buffer[..count]),
                }
            }
        })
        .await
    }

    async fn commit(
        &self,
        id: &UploadId,
        size: u64,
        digest: &Digest,
        keep: bool,
    ) -> Result<(), BlobError> {
        let (id, path) = (id.clone(), self.staged_path(id));
        // A name of an upload that there is not: what a crash leaves of it is swept as such.
        let spare = self.staged_path(&UploadId::random());
        let (cas, digest) = (self.cas.clone(), digest.clone());
        blocking(move || {
            let failed = |e| BlobError::new("cannot store", cas.path(&digest), e);
            let unsynced = |e| BlobError::unsynced(&path, e);
            let mut file = open_staged(&id, &path, size)?;
            // What was appended is synced already; an empty file never was, nor is a shortened one.
            if size == 0 || file.metadata().map_err(failed)?.len() > size {
                file = alone(file, &path, size, true)?;
                file.set_len(size).map_err(failed)?;
                file.sync_all().map_err(unsynced)?;
            }
            let linked = if keep {
                cas.link(&path, &digest, &spare).inspect_err(|_| {
                    drop(fs::remove_file(&spare));
                })
            } else {
                Err(io::ErrorKind::Unsupported.into())
            };
            match linked {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => cas.rename(&path, &digest),
                linked => linked,
            }
            .map_err(failed)?;
            cas.sync(&digest).map_err(unsynced)
        })
        .await
    }

    async fn delete(&self, digest: &Digest) -> Result<Option<u64>, BlobError> {
        let (cas, digest) = (self.cas.clone(), digest.clone());
        blocking(move || {
            let removed = cas.remove(&digest);
            removed.map_err(|e| BlobError::new("cannot remove", cas.path(&digest), e))
        })
        .await
    }

    async fn list(&self, shard: u8) -> Result<Vec<Digest>, BlobError> {
        let cas = self.cas.clone();
        blocking(move || {
            let listed = cas.list(shard);
            listed.map_err(|e| BlobError::new("cannot list", "blobs", e))
        })
        .await
    }

    async fn abort(&self, id: &UploadId) -> Result<(), BlobError> {
        let path = self.staged_path(id);
        blocking(move || match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(BlobError::new("cannot remove", &path, e))
            }
            _ => Ok(()),
        })
        .await
    }

    async fn staged(&self) -> Result<Vec<UploadId>, BlobError> {
        let uploads = self.uploads.clone();
        blocking(move || {
            let failed = |e| BlobError::new("cannot list", &uploads, e);
            let mut ids = Vec::new();
            for entry in fs::read_dir(&uploads).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                ids.extend(name.to_str().and_then(|name| name.parse().ok()));
            }
            Ok(ids)
        })
        .await
    }
}

/// Opens a staged upload that must hold `size` bytes; one of no bytes is made on demand.
pub(super) fn open_staged(id: &UploadId, path: &Path, size: u64) -> Result<File, BlobError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(size == 0)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(BlobError::Lost(id.clone())),
        opened => opened.map_err(|e| BlobError::new("cannot open", path, e))?,
    };
    let held = file.metadata();
    let held = held.map_err(|e| BlobError::new("cannot read", path, e))?;
    if held.len() < size {
        return Err(BlobError::Lost(id.clone()));
    }
    Ok(file)
}

/// A staged file under no other name, so that writing to it changes no blob: a crash or an error after
/// [`BlobStore::commit`] leaves one file under both names. `changes` says whether anything will be written. The
/// first `size` bytes are copied; they, and the name, are as durable as they were.
pub(super) fn alone(file: File, path: &Path, size: u64, changes: bool) -> Result<File, BlobError> {
    let failed = |e| BlobError::new("cannot copy", path, e);
    if !changes || file.metadata().map_err(failed)?.nlink() < 2 {
        return Ok(file);
    }
    let spare = path.with_file_name(UploadId::random().as_str());
    let copy = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut copy = options.open(&spare)?;
        io::copy(&mut (&file).take(size), &mut copy)?;
        copy.sync_all()?;
        fs::rename(&spare, path)?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(copy)
    };
    copy().map_err(|error| {
        drop(fs::remove_file(&spare));
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_a_blob_store() {
        let dir = tempfile::tempdir().expect("tempdir");
        let make = || Disk::open(dir.path()).expect("open");
        crate::blob::suite::check(make).await;
    }
}
