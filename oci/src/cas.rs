//! Content on disk by digest: `ALGORITHM/ab/abcd…`.
//!
//! A file becomes visible only when it is whole and durable: write to a staged file, fsync it, give it the
//! name of its digest, fsync the directory. A power cut at any instant leaves either no file under the
//! digest or all of its bytes. (link(2), rename(2) and fsync(2); ext4 may otherwise keep a name of zero
//! bytes, home-assistant/operating-system#4994.)

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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
        self.rename(staged, digest)?;
        self.sync(digest)
    }

    /// The first half of [`Cas::publish`], for a file that the caller has synced: [`Cas::sync`] is the second.
    pub fn rename(&self, staged: &Path, digest: &Digest) -> io::Result<()> {
        fs::rename(staged, self.path(digest))?;
        // Of two names of one file rename(2) takes none away.
        match fs::remove_file(staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// [`Cas::rename`] that keeps the staged name: both then name the same file, so whoever writes to the
    /// staged one again must first make it a file of its own. What has the digest's name already is
    /// replaced, never missing meanwhile: by way of `spare`, a free name beside `staged`.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the file system has no hard links: nothing was done.
    pub fn link(&self, staged: &Path, digest: &Digest, spare: &Path) -> io::Result<()> {
        let path = self.path(digest);
        match fs::hard_link(staged, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Two names of one file: rename(2) would do nothing and leave the spare one.
                if same_file(staged, &path)? {
                    return Ok(());
                }
                fs::hard_link(staged, spare).map_err(no_links)?;
                fs::rename(spare, &path)
            }
            linked => linked.map_err(no_links),
        }
    }

    /// Makes the name of content durable.
    pub fn sync(&self, digest: &Digest) -> io::Result<()> {
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

    /// Removes content; how many bytes that has freed: none when another name keeps the file. `None` when there
    /// was no such content.
    pub fn remove(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let path = self.path(digest);
        let removed = fs::symlink_metadata(&path).and_then(|found| {
            fs::remove_file(&path)?;
            Ok(if found.nlink() == 1 { found.len() } else { 0 })
        });
        match removed {
            Ok(freed) => Ok(Some(freed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content whose digests begin with this byte; what is not named by a digest is passed over.
    pub fn list(&self, shard: u8) -> io::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let directory = self.root.join(algorithm.name());
            for entry in fs::read_dir(directory.join(format!("{shard:02x}")))? {
                let name = entry?.file_name();
                let digest = name
                    .to_str()
                    .and_then(|hex| format!("{algorithm}:{hex}").parse().ok());
                digests.extend(digest);
            }
        }
        Ok(digests)
    }
}

/// What link(2) says where there are no hard links, and of a file that has all that it can have.
fn no_links(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::TooManyLinks => {
            io::Error::new(io::ErrorKind::Unsupported, error)
        }
        _ => error,
    }
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
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
        Ok(()) => disinherit(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes from a new directory what it has of the one that it is in, and would hand on: a group with set-group-id, ACLs.
/// Where there is none of that nothing is asked of the file system, which may have no owners at all.
fn disinherit(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    if rustix::fs::fstat(&directory)?.st_mode & 0o2000 != 0 {
        rustix::fs::fchown(&directory, None, Some(rustix::process::getegid()))?;
        rustix::fs::fchmod(&directory, rustix::fs::Mode::RWXU)?;
    }
    Ok(drop_acls(&directory)?)
}

/// Removes a directory's own ACL and the one that it hands on, if it has them (acl(5)).
pub fn drop_acls(directory: impl AsFd) -> Result<(), Errno> {
    for acl in ["system.posix_acl_access", "system.posix_acl_default"] {
        if rustix::fs::fgetxattr(&directory, acl, &mut [0_u8; 0]).is_ok() {
            rustix::fs::fremovexattr(&directory, acl)?;
        }
    }
    Ok(())
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
        let shards = (0..=255).map(|shard| cas.list(shard).expect("list"));
        let seen: Vec<Digest> = shards.flatten().collect();
        assert_eq!(seen, std::slice::from_ref(&digest));
        assert_eq!(cas.remove(&digest).expect("remove"), Some(5));
        assert_eq!(cas.remove(&digest).expect("remove again"), None);
    }

    #[test]
    fn a_new_directory_has_nothing_of_the_one_that_it_is_in() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().expect("tempdir");
        let mode = |path: &Path| fs::metadata(path).expect("look").permissions().mode() & 0o7777;
        let shared = fs::Permissions::from_mode(0o2775);
        fs::set_permissions(dir.path(), shared).expect("chmod");
        let entry = |tag: u16, id: u32| {
            let (tag, rights) = (tag.to_le_bytes(), 7_u16.to_le_bytes());
            [&tag[..], &rights, &id.to_le_bytes()].concat()
        };
        let entries = [
            (1, u32::MAX),
            (2, 1000),
            (4, u32::MAX),
            (0x10, u32::MAX),
            (0x20, u32::MAX),
        ];
        let mut acl = 2_u32.to_le_bytes().to_vec();
        acl.extend(entries.into_iter().flat_map(|(tag, id)| entry(tag, id)));
        let (name, flags) = ("system.posix_acl_default", rustix::fs::XattrFlags::empty());
        // Not every file system has them.
        let has_acl = rustix::fs::setxattr(dir.path(), name, &acl, flags).is_ok();
        let new = dir.path().join("new");
        create_dir_durably(&new).expect("make");
        assert_eq!(mode(&new), 0o700);
        let found = rustix::fs::getxattr(&new, name, &mut [0_u8; 100]);
        assert!(found.is_err(), "{has_acl}");
        create_dir_durably(&new).expect("is there");
    }

    #[test]
    fn linked_content_replaces_what_was_there_and_stays_staged() {
        let dir = tempfile::tempdir().expect("tempdir");
        let cas = Cas::open(dir.path().join("blobs")).expect("open");
        let digest = Digest::of(b"hello");
        let (staged, spare) = (dir.path().join("staged"), dir.path().join("spare"));
        fs::write(cas.path(&digest), b"rotten").expect("write");
        fs::write(&staged, b"hello").expect("write");
        for _ in 0..2 {
            cas.link(&staged, &digest, &spare).expect("link");
            assert!(staged.exists() && !spare.exists());
            assert_eq!(fs::read(cas.path(&digest)).expect("read"), b"hello");
        }
        assert_eq!(
            cas.remove(&digest).expect("remove"),
            Some(0),
            "still staged"
        );
    }
}
