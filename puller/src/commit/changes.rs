//! What a container changed: two trees, its image's and its own, and the paths that a layer between them has to name.
//!
//! An upper directory alone does not say it: since Linux 4.10 every directory that is made anew is marked opaque, whether
//! or not it hides anything, and what was only touched lies there beside what was changed. So the two trees are
//! compared, as they show. A layer then depends on the trees alone, and not on how a driver keeps notes.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::error::CommitError;
use crate::diff::{open, same_bytes};
use crate::driver::merged::{Directory, Entry, Merged, Xattrs, join};
use crate::layer::XattrNamespace;

/// What a layer says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is removed.
    Gone,
    /// It is as this layer of the new tree has it.
    Here(usize),
}

/// Changes by path from the root, which is empty; in the order of paths, so that a directory comes before what is
/// in it.
pub(super) type Changes = BTreeMap<Vec<u8>, Change>;

/// A stack of layers as one tree.
pub(super) struct Tree {
    layers: Vec<PathBuf>,
    pub(super) merged: Merged,
}

impl Tree {
    /// Opens the layers, the topmost first; `marks`: see [`Merged::without_marks`].
    pub(super) fn open(
        layers: Vec<PathBuf>,
        namespace: XattrNamespace,
        marks: bool,
    ) -> Result<Self, CommitError> {
        let merged = Merged::open(&layers, namespace);
        let merged = merged.map_err(|(path, source)| CommitError::Open { path, source })?;
        Ok(Self {
            layers,
            merged: if marks {
                merged
            } else {
                merged.without_marks()
            },
        })
    }
}

/// The trees to be compared.
pub(super) struct Trees<'a> {
    /// What is below: the image's.
    pub(super) old: &'a Tree,
    /// What is to come of it: the container's.
    pub(super) new: &'a Tree,
    /// Whether a file is another one if it has another number of names. In a copy of the image, it is not.
    pub(super) links_tell: bool,
    /// Whether what comes of it is no layer, so that names may be any.
    pub(super) any_name: bool,
    /// Mount points that were made for the container: they do not count while they are empty.
    pub(super) mount_points: &'a [Vec<u8>],
}

/// Compares the trees.
///
/// # Errors
/// What cannot be read, and names that a layer cannot hold.
pub(super) fn find(trees: Trees) -> Result<Changes, CommitError> {
    let mut walk = Walk {
        trees,
        found: Changes::new(),
        links: HashMap::new(),
        left: Vec::new(),
        directories: HashMap::new(),
    };
    walk.root().map_err(reading(b""))?;
    while let Some(pair) = walk.left.pop() {
        walk.directory(&pair)?;
    }
    walk.complete_links();
    walk.add_parents();
    Ok(walk.found)
}

/// An error about a path of the container's.
pub(super) fn reading<E: Into<io::Error>>(path: &[u8]) -> impl FnOnce(E) -> CommitError + use<E> {
    let path = shown(path);
    move |error| CommitError::Read {
        path,
        source: error.into(),
    }
}

fn shown(path: &[u8]) -> PathBuf {
    Path::new("/").join(OsStr::from_bytes(path))
}

/// A directory that both trees have.
struct Pair {
    old: Directory,
    new: Directory,
    /// Whether it was modified at another time.
    aged: bool,
}

/// A path in a layer.
type Named = (Vec<u8>, usize);

struct Walk<'a> {
    trees: Trees<'a>,
    found: Changes,
    /// The names of files that have several, by layer and inode: what two layers share on the disk are two files.
    links: HashMap<(usize, u64), Vec<Named>>,
    left: Vec<Pair>,
    /// The layers of directories that both trees have.
    directories: HashMap<Vec<u8>, usize>,
}

impl Walk<'_> {
    /// The root's own metadata; its age is that of the container.
    fn root(&mut self) -> io::Result<()> {
        let (below, above) = (&self.trees.old.merged, &self.trees.new.merged);
        let (old, new) = (below.top()?, above.top()?);
        let stat = |tree: &Merged, top: &Directory| -> io::Result<Option<(OwnedFd, Stat)>> {
            let Some(&layer) = top.parts.first() else {
                return Ok(None);
            };
            let fd = tree.open_directory(layer, b"")?;
            let stat = rustix::fs::fstat(&fd)?;
            Ok(Some((fd, stat)))
        };
        let (below, above) = (stat(below, &old)?, stat(above, &new)?);
        let changed = match (&below, &above) {
            (Some(below), Some(above)) => {
                let xattrs = self.xattrs(self.trees.new, &above.0, b"")?;
                // A new writable layer starts with mode and owner of the one below, and without attributes.
                rights(&below.1) != rights(&above.1)
                    || !xattrs.is_empty() && xattrs != self.xattrs(self.trees.old, &below.0, b"")?
            }
            (None, Some(above)) => rights(&above.1) != (0o755, 0, 0),
            (_, None) => false,
        };
        if let Some(&layer) = new.parts.first().filter(|_| changed) {
            self.found.insert(Vec::new(), Change::Here(layer));
        }
        let aged = false;
        self.left.push(Pair { old, new, aged });
        Ok(())
    }

    fn directory(&mut self, pair: &Pair) -> Result<(), CommitError> {
        let path = &pair.new.path;
        let mut before = self
            .trees
            .old
            .merged
            .list(&pair.old)
            .map_err(reading(path))?;
        let mut only_a_mount_point = false;
        for (name, entry) in self
            .trees
            .new
            .merged
            .list(&pair.new)
            .map_err(reading(path))?
        {
            let whole = join(path, &name);
            self.must_be_possible(&name, &whole)?;
            match before.remove(&name) {
                Some(was) => self.pair(pair, &was, &entry, &name)?,
                None if self.is_mount_point(&pair.new, &name, &entry)? => only_a_mount_point = true,
                None => self.added(&pair.new, &name, &entry)?,
            }
        }
        for name in before.into_keys() {
            self.found.insert(join(path, &name), Change::Gone);
        }
        // Making a mount point in it is nothing that the container did.
        if let Some(&layer) = pair.new.parts.first() {
            self.directories.insert(path.clone(), layer);
            if pair.aged && !only_a_mount_point {
                self.found.insert(path.clone(), Change::Here(layer));
            }
        }
        Ok(())
    }

    /// In a layer, such a name would remove something (image-spec, layer.md, "Whiteouts").
    fn must_be_possible(&self, name: &[u8], path: &[u8]) -> Result<(), CommitError> {
        match name.starts_with(b".wh.") && !self.trees.any_name {
            true => Err(CommitError::Marked { path: shown(path) }),
            false => Ok(()),
        }
    }

    /// Whether a new name is nothing but a place for a mount.
    fn is_mount_point(
        &self,
        parent: &Directory,
        name: &[u8],
        entry: &Entry,
    ) -> Result<bool, CommitError> {
        let path = join(&parent.path, name);
        if !self.trees.mount_points.contains(&path) {
            return Ok(false);
        }
        match entry.kind() {
            FileType::Directory => {
                let inside = Merged::enter(parent, name, entry);
                let inside = self
                    .trees
                    .new
                    .merged
                    .list(&inside)
                    .map_err(reading(&path))?;
                Ok(inside.is_empty())
            }
            FileType::RegularFile => Ok(entry.stat.st_size == 0),
            _ => Ok(false),
        }
    }

    /// A name that is new, with all that is in it.
    fn added(&mut self, parent: &Directory, name: &[u8], entry: &Entry) -> Result<(), CommitError> {
        let mut left = vec![(parent.clone(), name.to_vec(), entry.clone())];
        while let Some((parent, name, entry)) = left.pop() {
            let path = join(&parent.path, &name);
            self.must_be_possible(&name, &path)?;
            match entry.kind() {
                // Nobody listens behind a socket's name in another container.
                FileType::Socket => continue,
                FileType::Directory => {
                    let inside = Merged::enter(&parent, &name, &entry);
                    for (name, child) in self
                        .trees
                        .new
                        .merged
                        .list(&inside)
                        .map_err(reading(&path))?
                    {
                        if !self.is_mount_point(&inside, &name, &child)? {
                            left.push((inside.clone(), name, child));
                        }
                    }
                }
                _ => self.note_link(&entry, &path),
            }
            self.found.insert(path, Change::Here(entry.layer));
        }
        Ok(())
    }

    /// A name that both trees have.
    fn pair(
        &mut self,
        pair: &Pair,
        was: &Entry,
        entry: &Entry,
        name: &[u8],
    ) -> Result<(), CommitError> {
        // What is below the same layer is the same, too.
        if self.trees.old.layers.get(was.layer) == self.trees.new.layers.get(entry.layer) {
            return Ok(());
        }
        let path = join(&pair.new.path, name);
        let kinds = (was.kind(), entry.kind());
        if kinds == (FileType::Directory, FileType::Directory) {
            if !self
                .same_metadata(pair, was, entry, name)
                .map_err(reading(&path))?
            {
                self.found.insert(path, Change::Here(entry.layer));
            }
            self.left.push(Pair {
                old: Merged::enter(&pair.old, name, was),
                new: Merged::enter(&pair.new, name, entry),
                aged: modified(&was.stat) != modified(&entry.stat),
            });
            return Ok(());
        }
        if kinds.1 == FileType::Socket {
            self.found.insert(path, Change::Gone);
            return Ok(());
        }
        if kinds.0 != kinds.1 {
            return self.added(&pair.new, name, entry);
        }
        self.note_link(entry, &path);
        let same = modified(&was.stat) == modified(&entry.stat)
            && (!self.trees.links_tell || was.stat.st_nlink == entry.stat.st_nlink)
            && self
                .same_metadata(pair, was, entry, name)
                .map_err(reading(&path))?
            && self
                .same_content(pair, was, entry, name)
                .map_err(reading(&path))?;
        if !same {
            self.found.insert(path, Change::Here(entry.layer));
        }
        Ok(())
    }

    fn parents(&self, pair: &Pair, was: &Entry, entry: &Entry) -> io::Result<(OwnedFd, OwnedFd)> {
        let from = self
            .trees
            .old
            .merged
            .open_directory(was.layer, &pair.old.path)?;
        let to = self
            .trees
            .new
            .merged
            .open_directory(entry.layer, &pair.new.path)?;
        Ok((from, to))
    }

    fn same_metadata(
        &self,
        pair: &Pair,
        was: &Entry,
        entry: &Entry,
        name: &[u8],
    ) -> io::Result<bool> {
        if rights(&was.stat) != rights(&entry.stat) {
            return Ok(false);
        }
        let (from, to) = self.parents(pair, was, entry)?;
        let before = self.xattrs(self.trees.old, &from, name)?;
        Ok(before == self.xattrs(self.trees.new, &to, name)?)
    }

    fn same_content(
        &self,
        pair: &Pair,
        was: &Entry,
        entry: &Entry,
        name: &[u8],
    ) -> io::Result<bool> {
        let (one, other) = (&was.stat, &entry.stat);
        let (from, to) = self.parents(pair, was, entry)?;
        Ok(match entry.kind() {
            FileType::RegularFile => {
                one.st_size == other.st_size && same_bytes(open(&from, name)?, open(&to, name)?)?
            }
            FileType::Symlink => {
                let target = |fd| rustix::fs::readlinkat(fd, name, Vec::new());
                target(&from)? == target(&to)?
            }
            _ => one.st_rdev == other.st_rdev,
        })
    }

    fn xattrs(&self, tree: &Tree, directory: &OwnedFd, name: &[u8]) -> io::Result<Xattrs> {
        Ok(of_the_image(tree.merged.xattrs(directory.as_fd(), name)?))
    }

    fn note_link(&mut self, entry: &Entry, path: &[u8]) {
        let stat = &entry.stat;
        if stat.st_nlink > 1 {
            let names = self.links.entry((entry.layer, stat.st_ino)).or_default();
            names.push((path.to_vec(), entry.layer));
        }
    }

    /// A file with several names is in the layer with all of them or with none: a link can only name a file of the
    /// same layer.
    fn complete_links(&mut self) {
        for names in std::mem::take(&mut self.links).into_values() {
            if names.iter().any(|(name, _)| self.found.contains_key(name)) {
                for (name, layer) in names {
                    self.found.insert(name, Change::Here(layer));
                }
            }
        }
    }

    /// The directories that a change is in, as docker has them, too: who unpacks the layer alone would have to
    /// invent their metadata.
    fn add_parents(&mut self) {
        let paths: Vec<Vec<u8>> = self.found.keys().cloned().collect();
        for path in paths {
            let mut path = path.as_slice();
            while let Some(at) = path.iter().rposition(|b| *b == b'/') {
                path = &path[..at];
                // Those that are new are there already.
                let Some(&layer) = self.directories.get(path) else {
                    break;
                };
                if self
                    .found
                    .insert(path.to_vec(), Change::Here(layer))
                    .is_some()
                {
                    break;
                }
            }
        }
    }
}

/// Attributes without labels, which belong to the machine.
pub(super) fn of_the_image(mut xattrs: Xattrs) -> Xattrs {
    xattrs.retain(|name, _| !name.starts_with(b"security.") || name == b"security.capability");
    xattrs
}

fn rights(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

fn modified(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime, stat.st_mtime_nsec as i64)
}
