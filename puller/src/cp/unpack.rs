//! An archive becomes files below a directory, and nowhere else.
//!
//! On the machine no link below that directory is followed: what comes out of a container may hold any. In a container links
//! lead to where a program in it would get.

use std::fs::File;
use std::io::{BufRead, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::error::CpError;
use super::place::{Place, is_directory};
use crate::driver::merged::join;
use crate::layer::Limits;
use crate::layer::tar::{Entry, Kind, Segment, TarReader};

const SET_ID: u32 = 0o6000;
/// capabilities(7), "File capabilities": a right, as set-id bits are.
const CAPABILITIES: &[u8] = b"security.capability";

/// Whether an extended attribute is the file's own: what users and capabilities(7) say of it. The others belong to a
/// machine's policy, or to a file system.
pub(super) fn travels(name: &[u8]) -> bool {
    name == CAPABILITIES || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

/// Where an archive is unpacked.
pub(super) struct Target<'a> {
    pub(super) place: &'a Place,
    /// A directory that is there.
    pub(super) directory: &'a [u8],
    /// Whether owners are the archive's; else they are those of whoever copies, root in a container. Set-id bits and
    /// capabilities are kept in a container, and on the machine only with their owners.
    pub(super) keep_owners: bool,
}

/// What was unpacked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes in files.
    pub bytes: u64,
    /// Devices that were left out.
    pub devices: u64,
}

/// Unpacks all entries.
pub(super) fn unpack<R: BufRead>(archive: R, target: &Target) -> Result<Copied, CpError> {
    let place = target.place;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let directory = place.open(target.directory, flags);
    let mut unpacker = Unpacker {
        target,
        directory: directory.map_err(place.failed("open", target.directory))?,
        reader: TarReader::new(archive, Limits::of_accepted().reader()),
        parent: None,
        made: Vec::new(),
        copied: Copied::default(),
    };
    while let Some(entry) = unpacker.reader.next()? {
        unpacker.reader.clear_raw();
        unpacker.entry(&entry)?;
    }
    unpacker.finish()?;
    Ok(unpacker.copied)
}

struct Unpacker<'a, R> {
    target: &'a Target<'a>,
    directory: OwnedFd,
    reader: TarReader<R>,
    /// The parent of the last entry, by its path.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories that were made: they get their rights and times when all is in them.
    made: Vec<Entry>,
    copied: Copied,
}

impl<R: BufRead> Unpacker<'_, R> {
    fn entry(&mut self, entry: &Entry) -> Result<(), CpError> {
        let path = cleaned(&entry.path)?;
        let (above, last) = split(&path);
        // The directory itself is there.
        if last.is_empty() {
            return Ok(());
        }
        let parent = self.parent(above)?;
        match entry.kind {
            Kind::Directory => return self.make_directory(&parent, &path, last, entry),
            Kind::Character { .. } | Kind::Block { .. } if !self.target.place.is_container() => {
                // A device of a container's making would open the machine's.
                self.copied.devices += 1;
                return Ok(());
            }
            _ => {}
        }
        let failed = |action| self.failed(action, &path);
        match rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if is_directory(&there) => {
                let why = "a directory is there, and is not replaced by what is none";
                return Err(self.refused(&path, why));
            }
            Ok(_) => {
                rustix::fs::unlinkat(&parent, last, AtFlags::empty()).map_err(failed("replace"))?
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("look at")(error)),
        }
        match entry.kind {
            Kind::File => return self.file(&parent, &path, last, entry),
            Kind::Symlink => rustix::fs::symlinkat(entry.link.as_slice(), &parent, last)
                .map_err(failed("make the link"))?,
            Kind::HardLink => {
                let first = cleaned(&entry.link)?;
                let (above, first) = split(&first);
                let from = self
                    .open(above)
                    .map_err(failed("find the file of the link"))?;
                return rustix::fs::linkat(&from, first, &parent, last, AtFlags::empty())
                    .map_err(failed("make the link"));
            }
            kind => {
                let (kind, device) = match kind {
                    Kind::Character { major, minor } => {
                        (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
                    }
                    Kind::Block { major, minor } => {
                        (FileType::BlockDevice, rustix::fs::makedev(major, minor))
                    }
                    _ => (FileType::Fifo, 0),
                };
                match rustix::fs::mknodat(&parent, last, kind, Mode::RUSR | Mode::WUSR, device) {
                    // No unprivileged user may make devices.
                    Err(Errno::PERM) if kind != FileType::Fifo => {
                        self.copied.devices += 1;
                        return Ok(());
                    }
                    made => made.map_err(failed("make"))?,
                }
            }
        }
        self.describe_at(&parent, last, entry)
            .map_err(self.failed("set the metadata of", &path))
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        last: &[u8],
        entry: &Entry,
    ) -> Result<(), CpError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, last, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(self.failed("make", path))?);
        self.content(&file, path, entry)?;
        self.copied.bytes += entry.size;
        self.describe(&file.into(), entry)
            .map_err(self.failed("set the metadata of", path))
    }

    fn content(&mut self, mut file: &File, path: &[u8], entry: &Entry) -> Result<(), CpError> {
        let place = self.target.place;
        let whole = join(self.target.directory, path);
        let failed = || place.failed("write", &whole);
        let Some(segments) = &entry.sparse else {
            loop {
                let bytes = self.reader.content()?;
                if bytes.is_empty() {
                    return Ok(());
                }
                let count = bytes.len();
                file.write_all(bytes).map_err(failed())?;
                self.reader.consume(count);
            }
        };
        file.set_len(entry.size).map_err(failed())?;
        for Segment { offset, length } in segments {
            let (mut at, mut left) = (*offset, *length);
            while left > 0 {
                let bytes = self.reader.content()?;
                let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                file.write_all_at(&bytes[..count], at).map_err(failed())?;
                self.reader.consume(count);
                at += count as u64;
                left -= count as u64;
            }
        }
        Ok(())
    }

    /// One that is there stays as it is.
    fn make_directory(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        last: &[u8],
        entry: &Entry,
    ) -> Result<(), CpError> {
        match rustix::fs::mkdirat(parent, last, Mode::RWXU) {
            Ok(()) => {
                if !entry.xattrs.is_empty() {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    rustix::fs::openat(parent, last, flags, Mode::empty())
                        .and_then(|directory| self.set_xattrs(&directory, entry))
                        .map_err(self.failed("set the extended attributes of", path))?;
                }
                self.made.push(Entry {
                    path: path.to_vec(),
                    link: Vec::new(),
                    xattrs: Vec::new(),
                    sparse: None,
                    ..*entry
                });
                Ok(())
            }
            Err(Errno::EXIST) => match self.open(path) {
                Ok(_) => Ok(()),
                Err(_) => {
                    let why = "something is there that is no directory, and is not replaced by one";
                    Err(self.refused(path, why))
                }
            },
            Err(error) => Err(self.failed("make the directory", path)(error)),
        }
    }

    /// The directory that an entry is in; made, with those above it, if it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, CpError> {
        let known = self.parent.take().filter(|(known, _)| known == path);
        let directory = match known {
            Some((_, directory)) => directory,
            None => self.open_or_make(path)?,
        };
        let copy = directory.as_fd().try_clone_to_owned();
        let copy = copy.map_err(self.failed("open", path))?;
        self.parent = Some((path.to_vec(), directory));
        Ok(copy)
    }

    fn open_or_make(&self, path: &[u8]) -> Result<OwnedFd, CpError> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(self.refused(path, "it is no directory"));
            }
            opened => return opened.map_err(self.failed("open", path)),
        }
        let (above, last) = split(path);
        let parent = self.open_or_make(above)?;
        let mode = Mode::from_raw_mode(0o755);
        match rustix::fs::mkdirat(&parent, last, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed("make the directory", path)(error)),
        }
        self.open(path).map_err(self.failed("open", path))
    }

    /// Opens a directory below the one that is unpacked into.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        if self.target.place.is_container() {
            return self
                .target
                .place
                .open(&join(self.target.directory, path), flags);
        }
        let path = if path.is_empty() { b"." } else { path };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }

    fn finish(&mut self) -> Result<(), CpError> {
        for entry in std::mem::take(&mut self.made).into_iter().rev() {
            let described = || -> Result<(), Errno> {
                let (above, last) = split(&entry.path);
                let parent = self.open(above)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = rustix::fs::openat(&parent, last, flags, Mode::empty())?;
                self.describe(&directory, &entry)
            };
            match described() {
                // Somebody in the container took it away.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(self.failed("set the metadata of", &entry.path)(error)),
            }
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry) -> Option<(Uid, Gid)> {
        match (self.target.keep_owners, self.target.place.is_container()) {
            (true, _) => Some((Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))),
            // Whatever the directory that it is in passes on.
            (false, true) => Some((Uid::ROOT, Gid::ROOT)),
            (false, false) => None,
        }
    }

    /// Whether what gives rights to whoever runs a file is kept.
    fn keeps_rights(&self) -> bool {
        self.target.keep_owners || self.target.place.is_container()
    }

    fn set_xattrs(&self, opened: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| travels(name)) {
            if name == CAPABILITIES && !self.keeps_rights() {
                continue;
            }
            let flags = XattrFlags::empty();
            match rustix::fs::fsetxattr(opened, name.as_slice(), value, flags) {
                // This user may not, or the file system has none.
                Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn mode(&self, entry: &Entry) -> Mode {
        let dropped = if self.keeps_rights() { 0 } else { SET_ID };
        Mode::from_raw_mode(entry.mode & !dropped)
    }

    fn describe(&self, file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner(entry) {
            may_lack(rustix::fs::fchown(file, Some(uid), Some(gid)))?;
        }
        rustix::fs::fchmod(file, self.mode(entry))?;
        // chown(2) takes capabilities away.
        self.set_xattrs(file, entry)?;
        rustix::fs::futimens(file, &times(entry))
    }

    fn describe_at(&self, parent: &OwnedFd, last: &[u8], entry: &Entry) -> Result<(), Errno> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(entry) {
            may_lack(rustix::fs::chownat(
                parent,
                last,
                Some(uid),
                Some(gid),
                nofollow,
            ))?;
        }
        rustix::fs::utimensat(parent, last, &times(entry), nofollow)
    }

    fn refused(&self, path: &[u8], why: &'static str) -> CpError {
        let place = self.target.place;
        place.refused(&join(self.target.directory, path), why)
    }

    fn failed<E: Into<std::io::Error>>(
        &self,
        action: &'static str,
        path: &[u8],
    ) -> impl FnOnce(E) -> CpError + use<E, R> {
        let place = self.target.place;
        place.failed(action, &join(self.target.directory, path))
    }
}

/// Owners that do not exist here, or that this user may not give.
fn may_lack(set: Result<(), Errno>) -> Result<(), Errno> {
    match set {
        Err(Errno::PERM | Errno::INVAL) => Ok(()),
        set => set,
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.seconds,
        tv_nsec: i64::from(entry.mtime.nanoseconds),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A name without `.` and doubled slashes; one with `..` is refused.
fn cleaned(name: &[u8]) -> Result<Vec<u8>, CpError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let shown = String::from_utf8_lossy(name);
                return Err(CpError::Escapes(shown.chars().take(200).collect()));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
