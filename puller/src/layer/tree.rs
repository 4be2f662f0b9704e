//! The directory that a layer is unpacked into, and the only way to name things in it.
//!
//! A parent directory is found as the container will find it: symbolic links count, absolute ones
//! start at the layer's root. The kernel is only ever asked to open paths without links
//! (openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_SYMLINKS); links are followed by hand, from the root,
//! so nothing outside can be reached, and the real path of everything is known. The last part of a
//! name is used with *at(2) calls that follow nothing. Nobody else writes here: the directory is in
//! a private staging directory.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::{LayerError, Refusal};
use super::name;

/// Directories kept open: the parents of neighbouring entries.
const OPEN_DIRECTORIES: usize = 64;
/// As many links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

/// An open directory of the layer.
pub(super) struct Directory {
    fd: OwnedFd,
    /// Where it is, without links; empty for the root.
    pub(super) path: Vec<u8>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a path without its last part leads to.
pub(super) enum Found {
    Directory(Rc<Directory>),
    Missing,
    /// A parent is a file.
    NotDirectory,
}

/// The layer's tree under `fs/`.
pub(super) struct Tree {
    root: OwnedFd,
    open: HashMap<Vec<u8>, Rc<Directory>>,
    /// Directories made because something is in them, by real path.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// What later entries took the place of is moved here.
    kept: PathBuf,
    kept_fd: Option<OwnedFd>,
    /// Bytes of names that are held in memory, and how many may be.
    held: u64,
    limit: u64,
}

impl Tree {
    /// Makes `layer/fs`, private until its owner and mode are set at the end.
    /// `limit` is in bytes of names held in memory.
    pub(super) fn create(layer: &Path, limit: u64) -> Result<Self, LayerError> {
        let path = layer.join("fs");
        let failed = |action| LayerError::io::<Errno>(action, &path);
        rustix::fs::mkdir(&path, Mode::RWXU).map_err(failed("make the directory"))?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(failed("open"))?;
        // A set-group-id bit or default ACL of the store would be inherited by everything below.
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        rustix::fs::fchown(&root, Some(uid), Some(gid)).map_err(failed("set the owner of"))?;
        rustix::fs::fchmod(&root, Mode::RWXU).map_err(failed("set the mode of"))?;
        strata_oci::cas::drop_acls(&root).map_err(failed("remove the ACLs of"))?;
        Ok(Self {
            root,
            open: HashMap::new(),
            implied: BTreeSet::new(),
            kept: layer.join(KEPT),
            kept_fd: None,
            held: 0,
            limit,
        })
    }

    /// Counts a name that is kept until the end, with what it costs beside its bytes.
    pub(super) fn hold(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.held += path.len() as u64 + 64;
        if self.held > self.limit {
            let (what, limit) = ("bytes of directory and whiteout names", self.limit);
            return Err(LayerError::Limit { what, limit });
        }
        Ok(())
    }

    /// Opens a directory by its real path, for its metadata.
    pub(super) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Finds the directory that a cleaned path names, following links; `create` makes what is missing.
    pub(super) fn find(&mut self, path: &[u8], create: bool) -> Result<Found, LayerError> {
        if let Some(directory) = self.open.get(path) {
            return Ok(Found::Directory(Rc::clone(directory)));
        }
        match self.open_real(path) {
            Ok(directory) => Ok(Found::Directory(directory)),
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => self.walk(path, create),
            Err(error) => Err(LayerError::entry("open the parent directory", path)(error)),
        }
    }

    /// The directory that a new entry goes into: made, if no entry has named it.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<Directory>, LayerError> {
        match self.find(name::split(path).0, true) {
            Ok(Found::Directory(directory)) => Ok(directory),
            Ok(_) => Err(LayerError::refused(path, Refusal::ParentNotDirectory)),
            // The entry's own name, not the parent's.
            Err(LayerError::Refused { reason, .. }) => Err(LayerError::refused(path, reason)),
            Err(error) => Err(error),
        }
    }

    /// Whether a cleaned path that leads to nothing, or to no directory, is or goes through a symbolic link.
    pub(super) fn is_behind_link(&self, path: &[u8]) -> bool {
        match open(&self.root, path, OFlags::PATH) {
            Ok(found) => rustix::fs::fstat(&found).is_ok_and(|stat| !is_directory(&stat)),
            Err(error) => error == Errno::LOOP,
        }
    }

    fn open_real(&mut self, path: &[u8]) -> Result<Rc<Directory>, Errno> {
        if let Some(directory) = self.open.get(path) {
            return Ok(Rc::clone(directory));
        }
        let fd = open(&self.root, path, OFlags::PATH | OFlags::DIRECTORY)?;
        let directory = Rc::new(Directory {
            fd,
            path: path.to_vec(),
        });
        self.remember(path, &directory);
        Ok(directory)
    }

    fn remember(&mut self, name: &[u8], directory: &Rc<Directory>) {
        if self.open.len() >= OPEN_DIRECTORIES {
            self.open.clear();
        }
        self.open.insert(name.to_vec(), Rc::clone(directory));
    }

    /// Goes through a path part by part.
    fn walk(&mut self, path: &[u8], create: bool) -> Result<Found, LayerError> {
        let failed = |action| LayerError::entry::<Errno>(action, path);
        let mut todo: VecDeque<Vec<u8>> = name::parts(path).map(<[u8]>::to_vec).collect();
        let mut links = 0;
        let root = self.open_real(b"").map_err(failed("open the root"))?;
        let mut here = Rc::clone(&root);
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                let parent = name::split(&here.path).0.to_vec();
                here = self.open_real(&parent).map_err(failed("open a parent"))?;
                continue;
            }
            let next = name::join(&here.path, &part);
            here = match self.open_real(&next) {
                Ok(directory) => directory,
                Err(Errno::NOENT) if create => {
                    self.hold(&next)?;
                    rustix::fs::mkdirat(&here, &part, Mode::RWXU)
                        .map_err(failed("make a parent directory"))?;
                    self.implied.insert(next.clone());
                    self.open_real(&next).map_err(failed("open a parent"))?
                }
                Err(Errno::NOENT) => return Ok(Found::Missing),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let Ok(target) = rustix::fs::readlinkat(&here, &part, Vec::new()) else {
                        return Ok(Found::NotDirectory);
                    };
                    links += 1;
                    if links > LINKS {
                        return Err(LayerError::refused(path, Refusal::LinkLoop));
                    }
                    let target = target.into_bytes();
                    for part in name::parts(&target).rev().filter(|part| *part != b".") {
                        todo.push_front(part.to_vec());
                    }
                    if target.starts_with(b"/") {
                        Rc::clone(&root)
                    } else {
                        here
                    }
                }
                Err(error) => return Err(failed("open a parent")(error)),
            };
        }
        self.remember(path, &here);
        Ok(Found::Directory(here))
    }

    /// Moves what is at a name out of the tree, to [`KEPT`] under `number`. Rebuilding the archive
    /// needs its content, and a whole directory goes as fast as a file.
    pub(super) fn displace(
        &mut self,
        parent: &Directory,
        last: &[u8],
        number: usize,
    ) -> Result<(), LayerError> {
        let failed = |action| LayerError::io::<Errno>(action, &self.kept);
        let kept = match self.kept_fd.take() {
            Some(fd) => fd,
            None => {
                rustix::fs::mkdir(&self.kept, Mode::RWXU).map_err(failed("make the directory"))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&self.kept, flags, Mode::empty()).map_err(failed("open"))?
            }
        };
        rustix::fs::renameat(parent, last, &kept, number.to_string())
            .map_err(LayerError::entry("replace an earlier entry", last))?;
        self.kept_fd = Some(kept);
        // Names that led through it lead elsewhere now.
        self.open.clear();
        let path = name::join(&parent.path, last);
        let below: Vec<Vec<u8>> = self.implied.range(name::below(&path)).cloned().collect();
        for implied in below.iter().chain([&path]) {
            self.implied.remove(implied);
        }
        Ok(())
    }
}

/// The folder beside `fs/` for files that later entries of the same layer replaced.
pub(super) const KEPT: &str = "kept";

/// Opens a path without links below `root`.
pub(super) fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// What is at a name, links not followed.
pub(super) fn stat(parent: impl AsFd, last: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A layer's path as the system's. The root's is empty.
pub(super) fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
