//! The layer's archive: what was changed, in the order of paths (image-spec, layer.md).
//!
//! Removed names are explicit whiteouts, as the specification prefers, and all the same whoever removed them when. Holes
//! of sparse files are written as zeros: readers of archives differ too much about anything else (ibid., "File
//! Types").

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::changes::{Change, Changes, of_the_image, reading};
use super::error::CommitError;
use crate::driver::merged::Merged;
use crate::layer::Owners;
use crate::layer::content::{self, CopyError};
use crate::layer::tar::{self, Entry, Kind, Time};

/// Writes the archive, with the original `owners`; no file in it is younger than `latest`, in seconds since 1970. What a
/// container that runs removes meanwhile is left out.
///
/// # Errors
/// What cannot be read of the container's, and what `out` says.
pub(super) fn write(
    tree: &Merged,
    changes: &Changes,
    owners: &Owners,
    latest: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), CommitError> {
    let mut writer = Writer {
        tree,
        owners,
        latest,
        parent: None,
        links: HashMap::new(),
        out,
    };
    for (path, change) in changes {
        match change {
            Change::Gone => writer.whiteout(path)?,
            Change::Here(layer) => writer.entry(*layer, path)?,
        }
    }
    tar::end(writer.out).map_err(CommitError::Write)?;
    writer.out.flush().map_err(CommitError::Write)
}

struct Writer<'a> {
    tree: &'a Merged,
    owners: &'a Owners,
    latest: Option<i64>,
    /// The directory that is open, with its layer and path.
    parent: Option<(usize, Vec<u8>, OwnedFd)>,
    /// Files of several names, by layer and inode, under their first name.
    links: HashMap<(usize, u64), Vec<u8>>,
    out: &'a mut dyn Write,
}

impl Writer<'_> {
    fn whiteout(&mut self, path: &[u8]) -> Result<(), CommitError> {
        let (parent, last) = split(path);
        let marked = [b".wh.", last].concat();
        let entry = Entry {
            path: crate::driver::merged::join(parent, &marked),
            kind: Kind::File,
            link: Vec::new(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        };
        self.head(&entry)
    }

    fn head(&mut self, entry: &Entry) -> Result<(), CommitError> {
        tar::write_entry(entry, self.out).map_err(CommitError::Write)
    }

    fn entry(&mut self, layer: usize, path: &[u8]) -> Result<(), CommitError> {
        let (parent, last) = split(path);
        let last = if path.is_empty() { b"." } else { last };
        self.enter(layer, parent)?;
        let Some((_, _, directory)) = &self.parent else {
            return Ok(());
        };
        let stat = match rustix::fs::statat(directory, last, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(reading(path))?,
        };
        let (major, minor) = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::RegularFile => return self.file(layer, path, last, &stat),
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Character { major, minor },
            FileType::BlockDevice => Kind::Block { major, minor },
            _ => return Ok(()),
        };
        if let Some(link) = self.link(layer, path, &stat) {
            return self.head(&link);
        }
        let mut entry = self.described(path, last, kind, &stat)?;
        if kind == Kind::Symlink
            && let Some((_, _, directory)) = &self.parent
        {
            let target = rustix::fs::readlinkat(directory, last, Vec::new());
            entry.link = target.map_err(reading(path))?.into_bytes();
        }
        self.head(&entry)
    }

    /// Opens the directory of a layer that the next entries are in.
    fn enter(&mut self, layer: usize, parent: &[u8]) -> Result<(), CommitError> {
        let is_open = |(at, path, _): &(usize, Vec<u8>, OwnedFd)| *at == layer && path == parent;
        if self.parent.as_ref().is_some_and(is_open) {
            return Ok(());
        }
        self.parent = match self.tree.open_directory(layer, parent) {
            Ok(directory) => Some((layer, parent.to_vec(), directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(reading(parent)(error)),
        };
        Ok(())
    }

    /// A further name of a file that is in the archive.
    fn link(&mut self, layer: usize, path: &[u8], stat: &Stat) -> Option<Entry> {
        if stat.st_nlink < 2 || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return None;
        }
        let key = (layer, stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, path.to_vec());
            return None;
        };
        let mut entry = self.plain(path, Kind::HardLink, stat);
        entry.link.clone_from(first);
        Some(entry)
    }

    fn file(
        &mut self,
        layer: usize,
        path: &[u8],
        last: &[u8],
        stat: &Stat,
    ) -> Result<(), CommitError> {
        let Some((_, _, directory)) = &self.parent else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(directory, last, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(reading(path)(error)),
        };
        let opened = rustix::fs::fstat(&file).map_err(reading(path))?;
        // A container that runs may have put something else there.
        if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
            return Ok(());
        }
        if let Some(link) = self.link(layer, path, &opened) {
            return self.head(&link);
        }
        let mut entry = self.described(path, last, Kind::File, &opened)?;
        entry.size = u64::try_from(opened.st_size).unwrap_or(0);
        self.head(&entry)?;
        content::copy(&file, &opened, entry.size, self.out).map_err(|error| match error {
            CopyError::Read(error) => reading(path)(error),
            CopyError::Write(error) => CommitError::Write(error),
        })?;
        tar::padding(entry.size, self.out).map_err(CommitError::Write)
    }

    fn described(
        &self,
        path: &[u8],
        last: &[u8],
        kind: Kind,
        stat: &Stat,
    ) -> Result<Entry, CommitError> {
        let mut entry = self.plain(path, kind, stat);
        if let Some((_, _, directory)) = &self.parent {
            let found = self.tree.xattrs(directory.as_fd(), last);
            entry.xattrs = of_the_image(found.map_err(reading(path))?)
                .into_iter()
                .collect();
        }
        Ok(entry)
    }

    fn plain(&self, path: &[u8], kind: Kind, stat: &Stat) -> Entry {
        let mut mtime = Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        if let Some(latest) = self.latest.filter(|latest| mtime.seconds >= *latest) {
            mtime = Time {
                seconds: latest,
                nanoseconds: 0,
            };
        }
        let (uid, gid) = self.owners.original(path, (stat.st_uid, stat.st_gid));
        Entry {
            path: if path.is_empty() { b"." } else { path }.to_vec(),
            kind,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime,
            size: 0,
            sparse: None,
            xattrs: Vec::new(),
        }
    }
}

/// Parent and last part. The root has neither.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
