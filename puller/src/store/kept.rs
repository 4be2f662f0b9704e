//! Blobs that are kept: the compressed layers as they were fetched, each in its layer's directory, so that it comes
//! and goes with it. Nothing needs them but a push, save or copy that is to give the very same bytes without asking
//! a registry, whoever compressed them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strata_oci::Descriptor;
use strata_oci::digest::Digest;

use super::sweep::names;
use super::{Staging, Store, StoreError};

/// In front of the hexadecimal digits of the blob's digest.
const PREFIX: &str = "blob-";

impl Store {
    /// Keeps a blob whose download is whole and proved with the layer that was unpacked from it.
    pub(crate) fn keep_blob(&self, staging: &Staging, blob: &Digest) -> io::Result<()> {
        let to = staging.path().join(format!("{PREFIX}{}", blob.hex()));
        // The download keeps its name until the image is published.
        fs::hard_link(self.partial_path(blob), to)
    }

    /// The file of a blob that was kept with its layer.
    pub(crate) fn kept_blob(&self, diff_id: &Digest, blob: &Descriptor) -> Option<PathBuf> {
        let name = format!("{PREFIX}{}", blob.digest.hex());
        let path = self.layer_dir(diff_id).join(name);
        let found = fs::symlink_metadata(&path).ok()?;
        (found.is_file() && found.len() == blob.size).then_some(path)
    }

    /// All kept blobs with the bytes that they take on disk.
    pub fn kept_blobs(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let layers = self.root.join("layers");
        let read = |path: &Path| names(path).map_err(StoreError::io("read", path));
        let mut kept = Vec::new();
        for layer in read(&layers)? {
            let directory = layers.join(layer);
            // A layer may be removed meanwhile.
            for name in names(&directory).unwrap_or_default() {
                let path = directory.join(&name);
                let found = fs::symlink_metadata(&path);
                if let (true, Ok(found)) = (name.starts_with(PREFIX), found) {
                    kept.push((path, found.blocks() * 512));
                }
            }
        }
        Ok(kept)
    }

    /// Removes all kept blobs, or only tells what they take; gives how many there were and their bytes.
    pub fn drop_kept_blobs(&self, dry_run: bool) -> Result<(usize, u64), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        for (path, size) in self.kept_blobs()? {
            if !dry_run {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::io("remove", &path)(error));
                    }
                    _ => {}
                }
            }
            count += 1;
            bytes += size;
        }
        Ok((count, bytes))
    }
}
