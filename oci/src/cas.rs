//! Content on disk by digest: `ALGORITHM/ab/abcd…`.
//!
//! A file becomes visible only when it is whole and durable: write to a staged file, fsync it, rename it
//! to its digest, fsync the directory. A power cut at any instant leaves either no file under the
//! digest or all of its bytes. (rename(2) and fsync(2); ext4 may otherwise keep a name of zero bytes,
//! home-assistant/operating-system#4994.)

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest};

/// A directory of content by digest. Staged files belong to the caller, on the same file system.
#[derive(Debug, Clone)]
pub struct Cas {
    root: PathBuf,
}

impl Cas {
    /// Opens or makes the directory with all of its shards: made on demand, a shard could be seen by
    /// a second writer before the first has made its name durable.
    pub fn open(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        create_dir_durably(&root)?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let directory = root.join(algorithm.name());
            create_dir_durably(&directory)?;
            let mut made = false;
            for shard in 0..=255u8 {
                made |= create_dir(&directory.join(format!("{shard:02x}")))?;
            }
            if made {
                sync_dir(&directory)?;
            }
        }
        Ok(Self { root })
    }

    /// Where content of this digest is, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.hex())
    }

    fn shard(&self, digest: &Digest) -> PathBuf {
        let algorithm = self.root.join(digest.algorithm().name());
        algorithm.join(&digest.hex()[..2])
    }

    /// Makes a staged file visible under `digest`, durably. The caller has proved that the content
    /// matches. Doing it twice, or at once from two places, is harmless: the bytes are the same.
    pub fn publish(&self, staged: &Path, digest: &Digest) -> io::Result<()> {
        File::open(staged)?.sync_all()?;
        self.publish_synced(staged, digest)
    }

    /// [`Cas::publish`] for a file that the caller has already synced.
    pub fn publish_synced(&self, staged: &Path, digest: &Digest) -> io::Result<()> {
        fs::rename(staged, self.path(digest))?;
        sync_dir(&self.shard(digest))
    }

    /// Opens content with its size in bytes; `None` when it is not there.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes content; `false` when there was none.
    pub fn remove(&self, digest: &Digest) -> io::Result<bool> {
        match fs::remove_file(self.path(digest)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Calls `visit` for each digest on disk; what is not named by a digest is passed over.
    pub fn for_each(&self, mut visit: impl FnMut(Digest) -> io::Result<()>) -> io::Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for shard in fs::read_dir(self.root.join(algorithm.name()))? {
                for entry in fs::read_dir(shard?.path())? {
                    let name = entry?.file_name();
                    let text = format!("{algorithm}:{}", name.to_string_lossy());
                    if let Ok(digest) = text.parse() {
                        visit(digest)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Makes a directory (mode 0700) and its name durable; fine if it exists.
pub fn create_dir_durably(path: &Path) -> io::Result<()> {
    if !create_dir(path)? {
        return Ok(());
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes a directory; `false` when it was there.
fn create_dir(path: &Path) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable (fsync(2): a file's fsync does not cover its name).
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_content_is_found_by_digest_and_only_whole() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cas = Cas::open(dir.path().join("blobs")).expect("open");
        let digest = Digest::of(b"hello");
        assert!(cas.open_blob(&digest).expect("no error").is_none());
        for _ in 0..2 {
            let staged = dir.path().join("staged");
            fs::write(&staged, b"hello").expect("write");
            cas.publish(&staged, &digest).expect("publish");
            assert!(!staged.exists());
        }
        let (_, size) = cas.open_blob(&digest).expect("no error").expect("there");
        assert_eq!(size, 5);
        let expected = format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex());
        assert!(dir.path().join(expected).is_file());
        let mut seen = Vec::new();
        cas.for_each(|d| {
            seen.push(d);
            Ok(())
        })
        .expect("list");
        assert_eq!(seen, std::slice::from_ref(&digest));
        assert!(cas.remove(&digest).expect("remove"));
        assert!(!cas.remove(&digest).expect("remove again"));
    }
}
