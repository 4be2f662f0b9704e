//! No union at all: the stack is copied into one tree, and that is mounted by a bind mount. Slow and
//! large, but needs nothing of the kernel or the file system; where files can share their blocks
//! (xfs, btrfs, bcachefs) a copy costs only its inodes.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Stat, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::merged::{Directory, Entry, Merged, Xattrs, in_directory, join, open_beneath};
use super::{Driver, DriverError, Name, Stack, probe, unmount};
use crate::layer::XattrNamespace;
use crate::run::sys;
use crate::userns::Privilege;

const BUFFER: usize = 128 * 1024;

/// Copies of whole stacks.
#[derive(Debug, Clone, Copy)]
pub struct Vfs {
    namespace: XattrNamespace,
}

impl Vfs {
    /// The driver for layers that a process of this privilege unpacked.
    pub fn new(privilege: Privilege) -> Self {
        let namespace = match privilege {
            Privilege::Root => XattrNamespace::Trusted,
            Privilege::UserNamespace => XattrNamespace::User,
        };
        Self { namespace }
    }

    /// Copies the stack to `out`, which is not there.
    fn flatten(&self, lowers: &[PathBuf], out: &Path) -> Result<(), DriverError> {
        let stack = Merged::open(lowers, self.namespace)
            .map_err(|(path, source)| DriverError::Open { path, source })?;
        Copy::new(&stack, out)?.all()
    }
}

impl Driver for Vfs {
    fn name(&self) -> Name {
        Name::Vfs
    }

    fn probe(&self, dir: &Path) -> Result<(), DriverError> {
        probe::probe(self, dir)
    }

    /// What was copied once for a writable layer stays, and is mounted again; `upper` has the whole tree.
    fn mount(&self, stack: &Stack, target: &Path) -> Result<(), DriverError> {
        super::must_be_empty(target)?;
        let copy = stack.scratch.join("copy");
        let whole = stack.scratch.join("whole");
        let failed = |path: &Path| DriverError::copy(path);
        if !whole.exists() {
            remove_tree(&copy).map_err(failed(&copy))?;
            self.flatten(stack.lowers, &copy)?;
            if let Some(upper) = stack.upper {
                // Nothing was ever written there: no mount has been made of it yet.
                let exchange = RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &copy, CWD, upper, exchange)
                    .map_err(|error| failed(upper)(error.into()))?;
                remove_tree(&copy).map_err(failed(&copy))?;
            }
            fs::write(&whole, "").map_err(failed(&whole))?;
        }
        let tree = stack.upper.unwrap_or(&copy);
        let mounted = || -> io::Result<()> {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let mount = open_tree(CWD, tree, flags)?;
            if !stack.is_writable() {
                sys::set_mount_attributes(&mount, sys::ATTR_READ_ONLY, false)?;
            }
            let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            Ok(move_mount(&mount, "", CWD, target, empty)?)
        };
        mounted().map_err(|source| DriverError::Mount {
            driver: self.name(),
            target: target.to_owned(),
            step: "a bind mount of the copy".to_owned(),
            source,
            log: String::new(),
        })
    }

    fn unmount(&self, target: &Path, lazy: bool) -> Result<(), DriverError> {
        unmount(target, lazy)
    }
}

/// Copies a stack of layers (top first) to `out`, which is not there, as one tree that stands alone.
pub fn copy_stack(lowers: &[PathBuf], out: &Path, privilege: Privilege) -> Result<(), DriverError> {
    Vfs::new(privilege).flatten(lowers, out)
}

/// A copy under way.
struct Copy<'a> {
    stack: &'a Merged,
    out: &'a Path,
    root: OwnedFd,
    /// Inodes with several names, by where they were copied to first.
    links: HashMap<(usize, u64), Vec<u8>>,
    /// Whether files can share blocks here, as far as is known.
    shares: Cell<bool>,
}

impl<'a> Copy<'a> {
    fn new(stack: &'a Merged, out: &'a Path) -> Result<Self, DriverError> {
        let made = || -> Result<OwnedFd, Errno> {
            rustix::fs::mkdir(out, Mode::RWXU)?;
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(out, flags, Mode::empty())
        };
        Ok(Self {
            stack,
            out,
            root: made().map_err(|error| DriverError::copy(out)(error.into()))?,
            links: HashMap::new(),
            shares: Cell::new(true),
        })
    }

    fn all(mut self) -> Result<(), DriverError> {
        let failed =
            |out: &Path, path: &[u8]| DriverError::copy(&out.join(OsStr::from_bytes(path)));
        let top = self.stack.top().map_err(failed(self.out, b""))?;
        let mut left = vec![top];
        let mut directories = Vec::new();
        while let Some(directory) = left.pop() {
            self.directory(&directory, &mut left)
                .map_err(failed(self.out, &directory.path))?;
            directories.push(directory);
        }
        // Times last: what is made in a directory changes them.
        for directory in directories.iter().rev() {
            self.finish(directory)
                .map_err(failed(self.out, &directory.path))?;
        }
        Ok(())
    }

    /// Copies what is in a directory; directories in it are made, and are left to be copied.
    fn directory(&mut self, from: &Directory, left: &mut Vec<Directory>) -> io::Result<()> {
        let to = open_beneath(&self.root, &from.path)?;
        let mut source: Option<(usize, OwnedFd)> = None;
        for (name, entry) in self.stack.list(from)? {
            if entry.kind() == FileType::Directory {
                rustix::fs::mkdirat(&to, name.as_slice(), Mode::RWXU)?;
                left.push(Merged::enter(from, &name, &entry));
                continue;
            }
            let fd = match source.take() {
                Some((layer, fd)) if layer == entry.layer => fd,
                _ => self.stack.open_directory(entry.layer, &from.path)?,
            };
            self.one(&fd, &to, &from.path, &name, &entry)?;
            source = Some((entry.layer, fd));
        }
        Ok(())
    }

    fn one(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        directory: &[u8],
        name: &[u8],
        entry: &Entry,
    ) -> io::Result<()> {
        let stat = &entry.stat;
        if stat.st_nlink > 1 {
            // What two layers share (`layer::Duplicates`) are two files of the image.
            let inode = (entry.layer, stat.st_ino);
            if let Some(first) = self.links.get(&inode) {
                let (parent, base) = match first.iter().rposition(|b| *b == b'/') {
                    Some(at) => (&first[..at], &first[at + 1..]),
                    None => (&b""[..], first.as_slice()),
                };
                let parent = open_beneath(&self.root, parent)?;
                return Ok(rustix::fs::linkat(
                    &parent,
                    base,
                    to,
                    name,
                    AtFlags::empty(),
                )?);
            }
            self.links.insert(inode, join(directory, name));
        }
        match entry.kind() {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                self.content(&source, &target, stat.st_size as u64)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target.as_c_str(), to, name)?;
            }
            // Nobody listens behind a socket's name any more.
            FileType::Socket => return Ok(()),
            kind => {
                rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
            }
        }
        let xattrs = self.stack.xattrs(from.as_fd(), name)?;
        self.metadata(to, name, stat, &xattrs)
    }

    fn finish(&self, directory: &Directory) -> io::Result<()> {
        let to = open_beneath(&self.root, &directory.path)?;
        let Some(&layer) = directory.parts.first() else {
            // No layer at all.
            return Ok(rustix::fs::fchmod(&to, Mode::from_raw_mode(0o755))?);
        };
        let from = self.stack.open_directory(layer, &directory.path)?;
        let xattrs = self.stack.xattrs(from.as_fd(), b"")?;
        self.metadata(&to, b".", &rustix::fs::fstat(&from)?, &xattrs)
    }

    /// Owner, mode, attributes, times, in the order that keeps all: chown(2) takes set-id bits and
    /// capabilities away.
    fn metadata(&self, to: &OwnedFd, name: &[u8], stat: &Stat, xattrs: &Xattrs) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let made = rustix::fs::statat(to, name, nofollow)?;
        if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::chownat(to, name, Some(uid), Some(gid), nofollow)?;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
        }
        let path = in_directory(to.as_fd(), name);
        for (name, value) in xattrs {
            rustix::fs::lsetxattr(path.as_slice(), name.as_slice(), value, XattrFlags::empty())?;
        }
        let time = |seconds, nanoseconds| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds as _,
        };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(rustix::fs::utimensat(to, name, &times, nofollow)?)
    }

    /// Shares the blocks where the file system can, else copies what is no hole.
    fn content(&self, from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        if self.shares.get() {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(_) => self.shares.set(false),
            }
        }
        rustix::fs::ftruncate(to, size)?;
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(from, SeekFrom::Data(at)) {
                Ok(data) => data,
                // Nothing but a hole is left.
                Err(Errno::NXIO) => break,
                Err(_) => at,
            };
            let end = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(size);
            copy_range(from, to, data, end.min(size))?;
            at = end.max(data + 1);
        }
        Ok(())
    }
}

/// Removes what may be there.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> io::Result<()> {
    while at < end {
        let (mut read, mut write) = (at, at);
        let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), length) {
            Ok(0) | Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => break,
            Ok(copied) => at += copied as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut buffer = vec![0; if at < end { BUFFER } else { 0 }];
    while at < end {
        let length = buffer
            .len()
            .min(usize::try_from(end - at).unwrap_or(BUFFER));
        let count =
            rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..length], at))?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut written = 0;
        while written < count {
            let part = &buffer[written..count];
            written +=
                rustix::io::retry_on_intr(|| rustix::io::pwrite(to, part, at + written as u64))?;
        }
        at += count as u64;
    }
    Ok(())
}
