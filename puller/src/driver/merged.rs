//! A stack of layers read as one tree, without mounting it: the rules of overlayfs by hand
//! (Documentation/filesystems/overlayfs.rst of Linux, "whiteouts and opaque directories").
//!
//! A path is only ever opened from a layer's root and without following a link (openat2(2)), so a
//! layer that somebody changes meanwhile leads nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::layer::{XattrNamespace, is_of_the_machine};

/// fuse-overlayfs also marks what a container removed as image layers do (image-spec, layer.md, "Whiteouts"): a
/// name behind this; no layer that was unpacked has such names.
const WHITEOUT: &[u8] = b".wh.";
/// And a directory that hides those below it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Its other notes.
const FUSE_NOTES: &[u8] = b"user.fuseoverlayfs.";
/// xattr(7): neither a list of names nor a value can be longer.
const MAX_XATTR: usize = 1 << 16;

/// An open stack.
#[derive(Debug)]
pub struct Merged {
    roots: Vec<OwnedFd>,
    namespace: XattrNamespace,
    /// Whether names may be fuse-overlayfs' marks.
    marks: bool,
}

/// A directory of the stack, and the layers that have a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Its path from the root, which is empty.
    pub path: Vec<u8>,
    /// Numbers of layers, the topmost, which also has the directory's metadata, first.
    pub parts: Vec<usize>,
}

/// What a name in a directory of the stack is.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The layer that it is seen in.
    pub layer: usize,
    /// What it is.
    pub stat: Stat,
    /// Of a directory, the layers that have a part of it.
    parts: Vec<usize>,
}

impl Entry {
    /// The type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// Where a name stands while a directory is read from the top.
struct Seen {
    /// `None`: a whiteout.
    entry: Option<Entry>,
    /// Whether layers below may still add to it.
    open: bool,
}

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

impl Merged {
    /// Opens the layers' directories, the topmost first.
    ///
    /// # Errors
    /// With the directory that cannot be opened.
    pub fn open(
        lowers: &[PathBuf],
        namespace: XattrNamespace,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |path: &PathBuf| {
            let opened = rustix::fs::open(path, flags, Mode::empty());
            opened.map_err(|error| (path.clone(), error.into()))
        };
        Ok(Self {
            roots: lowers.iter().map(open).collect::<Result<_, _>>()?,
            namespace,
            marks: true,
        })
    }

    /// Takes names that look like marks of fuse-overlayfs for names: where it never wrote, they are.
    #[must_use]
    pub fn without_marks(self) -> Self {
        let marks = false;
        Self { marks, ..self }
    }

    /// The root of the tree; no parts if there is no layer.
    pub fn top(&self) -> io::Result<Directory> {
        let mut parts = Vec::with_capacity(self.roots.len());
        for layer in 0..self.roots.len() {
            parts.push(layer);
            if self.is_opaque(layer, b"")? {
                break;
            }
        }
        Ok(Directory {
            path: Vec::new(),
            parts,
        })
    }

    /// What a directory shows, by name.
    pub fn list(&self, directory: &Directory) -> io::Result<BTreeMap<Vec<u8>, Entry>> {
        let mut seen: BTreeMap<Vec<u8>, Seen> = BTreeMap::new();
        for &layer in &directory.parts {
            let fd = self.open_directory(layer, &directory.path)?;
            let mut names = Vec::new();
            for entry in Dir::read_from(&fd)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(name.to_vec());
                }
            }
            for name in names {
                self.see(&mut seen, &fd, layer, &directory.path, name)?;
            }
        }
        let shown = seen.into_iter();
        Ok(shown
            .filter_map(|(name, seen)| Some((name, seen.entry?)))
            .collect())
    }

    fn see(
        &self,
        seen: &mut BTreeMap<Vec<u8>, Seen>,
        fd: &OwnedFd,
        layer: usize,
        directory: &[u8],
        name: Vec<u8>,
    ) -> io::Result<()> {
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| self.marks) {
            if name != OPAQUE {
                let seen = seen.entry(hidden.to_vec());
                seen.and_modify(|seen| seen.open = false).or_insert(Seen {
                    entry: None,
                    open: false,
                });
            }
            return Ok(());
        }
        let above = seen.get_mut(&name);
        if above.as_ref().is_some_and(|above| !above.open) {
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = match rustix::fs::statat(fd, name.as_slice(), flags) {
            // A container's layer may change while it is read.
            Err(Errno::NOENT) => return Ok(()),
            stat => stat?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        let is_directory = kind == FileType::Directory;
        match above {
            None => {
                let entry = (!whiteout).then(|| Entry {
                    layer,
                    stat,
                    parts: if is_directory {
                        vec![layer]
                    } else {
                        Vec::new()
                    },
                });
                let open = is_directory;
                seen.insert(name, Seen { entry, open });
            }
            Some(Seen { entry, open }) => {
                let Some(Entry { parts, .. }) = entry else {
                    return Ok(());
                };
                let last = parts.last().copied().unwrap_or(layer);
                if is_directory && !self.is_opaque(last, &join(directory, &name))? {
                    parts.push(layer);
                } else {
                    *open = false;
                }
            }
        }
        Ok(())
    }

    /// The directory that an entry of `parent` is.
    pub fn enter(parent: &Directory, name: &[u8], entry: &Entry) -> Directory {
        Directory {
            path: join(&parent.path, name),
            parts: entry.parts.clone(),
        }
    }

    /// Opens a directory in one of the layers.
    pub fn open_directory(&self, layer: usize, path: &[u8]) -> io::Result<OwnedFd> {
        let root = self.roots.get(layer).ok_or(io::ErrorKind::NotFound)?;
        Ok(open_beneath(root, path)?)
    }

    /// The attributes that the stack shows: without overlayfs' own marks, the image's own marks as the
    /// image has them (they are escaped in layers, see `layer`).
    pub fn xattrs(&self, directory: BorrowedFd, name: &[u8]) -> io::Result<Xattrs> {
        let overlay = self.namespace.overlay();
        let escape = [overlay, b"overlay."].concat();
        let mut shown = Xattrs::new();
        for (name, value) in all_xattrs(directory, name)? {
            match name.strip_prefix(escape.as_slice()) {
                Some(rest) => shown.insert([overlay, rest].concat(), value),
                None if name.starts_with(overlay) || name.starts_with(FUSE_NOTES) => None,
                None => shown.insert(name, value),
            };
        }
        Ok(shown)
    }

    fn is_opaque(&self, layer: usize, path: &[u8]) -> io::Result<bool> {
        let directory = match self.open_directory(layer, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            directory => directory?,
        };
        let mut value = [0; 2];
        match rustix::fs::fgetxattr(&directory, self.namespace.opaque(), &mut value) {
            Ok(length) if &value[..length] == b"y" => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
        if !self.marks {
            return Ok(false);
        }
        match rustix::fs::statat(&directory, OPAQUE, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A path and a name in it.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}

/// Opens a directory below `root` without following a link.
pub(super) fn open_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = match path {
        b"" => Path::new("."),
        path => Path::new(OsStr::from_bytes(path)),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // openat2(2): something was renamed meanwhile.
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

/// All attributes but the machine's of a name in a directory, which is not followed; of the directory itself for no name.
fn all_xattrs(directory: BorrowedFd, name: &[u8]) -> io::Result<Xattrs> {
    let path = in_directory(directory, name);
    read_xattrs(
        |buffer| rustix::fs::llistxattr(path.as_slice(), buffer),
        |name, buffer| rustix::fs::lgetxattr(path.as_slice(), name, buffer),
        |name| !is_of_the_machine(name),
    )
}

/// The attributes, of those that are `wanted`, of what a descriptor is of, however that was opened.
pub(crate) fn xattrs_of(
    opened: &impl AsRawFd,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Xattrs> {
    // Calls that take a descriptor do not take one that was opened with O_PATH.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    read_xattrs(
        |buffer| rustix::fs::listxattr(path.as_str(), buffer),
        |name, buffer| rustix::fs::getxattr(path.as_str(), name, buffer),
        wanted,
    )
}

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<Xattrs> {
    // Most have none: that costs one call.
    let mut short = [0u8; 64];
    if list(&mut short) == Ok(0) {
        return Ok(Xattrs::new());
    }
    let mut buffer = vec![0; MAX_XATTR];
    let length = match list(&mut buffer) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = buffer[..length].to_vec();
    let mut found = Xattrs::new();
    let names = names.split(|byte| *byte == 0).filter(|n| !n.is_empty());
    for name in names.filter(|name| wanted(name)) {
        match get(name, &mut buffer) {
            Ok(length) => found.insert(name.to_vec(), buffer[..length].to_vec()),
            // Taken away since they were listed.
            Err(Errno::NODATA) => None,
            Err(error) => return Err(error.into()),
        };
    }
    Ok(found)
}

/// A path for calls that know no directory descriptors.
pub(super) fn in_directory(directory: BorrowedFd, name: &[u8]) -> Vec<u8> {
    let name = if name.is_empty() { b"." } else { name };
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}
