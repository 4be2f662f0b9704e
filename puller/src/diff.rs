//! What differs between two stacks of layers, as trees: added, changed, deleted.
//!
//! A name that both stacks see in the same layer is the same, and so is a directory whose parts are the same layers:
//! what two images share is not looked at.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::driver::merged::{Directory, Entry, Merged, join};
use crate::layer::XattrNamespace;

const BUFFER: usize = 128 * 1024;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is another; of a directory, also that something in it is.
    Changed,
    /// It is no more; what was in it is not told.
    Deleted,
}

/// What differs about a path that both have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// File, directory, link, …
    Type,
    /// Permissions.
    Mode,
    /// User or group.
    Owner,
    /// The size of a file.
    Size,
    /// The bytes of a file.
    Content,
    /// Where a symbolic link leads.
    Target,
    /// Which device it is.
    Device,
    /// Extended attributes.
    Xattrs,
    /// When it was modified.
    Time,
    /// What is in a directory.
    Entries,
}

/// Differences by path from the root, which is empty; in the order of paths.
pub type Differences = BTreeMap<Vec<u8>, (Change, Vec<Aspect>)>;

/// A stack to be compared.
#[derive(Debug)]
pub struct Side {
    lowers: Vec<PathBuf>,
    stack: Merged,
}

impl Side {
    /// Opens a stack of directories, the topmost first.
    ///
    /// # Errors
    /// A directory that cannot be opened.
    pub fn open(lowers: Vec<PathBuf>, namespace: XattrNamespace) -> io::Result<Self> {
        let stack =
            Merged::open(&lowers, namespace).map_err(|(path, error)| about(&path, error))?;
        Ok(Self { lowers, stack })
    }

    fn layers<'a>(&'a self, parts: &'a [usize]) -> impl Iterator<Item = Option<&'a PathBuf>> {
        parts.iter().map(|&part| self.lowers.get(part))
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Times of modification count, too.
    pub times: bool,
    /// Paths that do not count when they are new and empty.
    pub ignored: &'a [&'a str],
}

/// Compares two stacks.
///
/// # Errors
/// What cannot be read, with its path.
pub fn compare(old: &Side, new: &Side, options: Options) -> io::Result<Differences> {
    let mut walk = Walk {
        old,
        new,
        options,
        found: Differences::new(),
        left: Vec::new(),
    };
    walk.left.push((old.stack.top()?, new.stack.top()?));
    while let Some((one, other)) = walk.left.pop() {
        let path = PathBuf::from(OsStr::from_bytes(&other.path).to_owned());
        walk.directory(&one, &other)
            .map_err(|error| about(&PathBuf::from("/").join(path), error))?;
    }
    Ok(with_parents(walk.found))
}

fn about(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Directories in which something differs, differ.
fn with_parents(found: Differences) -> Differences {
    let mut all = found;
    let paths: Vec<Vec<u8>> = all.keys().cloned().collect();
    for path in paths {
        let mut path = path.as_slice();
        while let Some(at) = path.iter().rposition(|b| *b == b'/') {
            path = &path[..at];
            match all.get_mut(path) {
                Some((Change::Changed, what)) if !what.contains(&Aspect::Entries) => {
                    what.push(Aspect::Entries);
                }
                Some(_) => break,
                None => {
                    all.insert(path.to_vec(), (Change::Changed, vec![Aspect::Entries]));
                }
            }
        }
    }
    all
}

struct Walk<'a> {
    old: &'a Side,
    new: &'a Side,
    options: Options<'a>,
    found: Differences,
    left: Vec<(Directory, Directory)>,
}

impl Walk<'_> {
    fn directory(&mut self, old: &Directory, new: &Directory) -> io::Result<()> {
        if self.old.layers(&old.parts).eq(self.new.layers(&new.parts)) {
            return Ok(());
        }
        if let (true, Some(&one), Some(&other)) =
            (new.path.is_empty(), old.parts.first(), new.parts.first())
        {
            let one = self.old.stack.open_directory(one, b"")?;
            let other = self.new.stack.open_directory(other, b"")?;
            let stats = (rustix::fs::fstat(&one)?, rustix::fs::fstat(&other)?);
            let mut what = Vec::new();
            self.metadata((&one, &stats.0), (&other, &stats.1), b"", &mut what)?;
            // A writable directory is as old as its container.
            what.retain(|aspect| *aspect != Aspect::Time);
            self.changed(Vec::new(), what);
        }
        let mut before = self.old.stack.list(old)?;
        for (name, entry) in self.new.stack.list(new)? {
            match before.remove(&name) {
                Some(was) => self.pair(old, &was, new, &entry, &name)?,
                None => self.added(new, &entry, &name)?,
            }
        }
        for name in before.into_keys() {
            self.found
                .insert(join(&old.path, &name), (Change::Deleted, Vec::new()));
        }
        Ok(())
    }

    /// A name that is new, with all that is in it.
    fn added(&mut self, directory: &Directory, entry: &Entry, name: &[u8]) -> io::Result<()> {
        let mut left = vec![(
            join(&directory.path, name),
            Merged::enter(directory, name, entry),
            entry.clone(),
        )];
        while let Some((path, inside, entry)) = left.pop() {
            let children = match entry.kind() {
                FileType::Directory => self.new.stack.list(&inside)?,
                _ => BTreeMap::new(),
            };
            let empty = match entry.kind() {
                FileType::Directory => children.is_empty(),
                FileType::RegularFile => entry.stat.st_size == 0,
                _ => false,
            };
            if empty && self.options.ignored.iter().any(|p| p.as_bytes() == path) {
                continue;
            }
            for (name, child) in children {
                left.push((
                    join(&path, &name),
                    Merged::enter(&inside, &name, &child),
                    child,
                ));
            }
            self.found.insert(path, (Change::Added, Vec::new()));
        }
        Ok(())
    }

    fn pair(
        &mut self,
        old_directory: &Directory,
        old: &Entry,
        new_directory: &Directory,
        new: &Entry,
        name: &[u8],
    ) -> io::Result<()> {
        let path = join(&new_directory.path, name);
        let kinds = (old.kind(), new.kind());
        let both_directories = kinds == (FileType::Directory, FileType::Directory);
        let same_layer = self.old.lowers.get(old.layer) == self.new.lowers.get(new.layer);
        if !same_layer {
            let mut what = Vec::new();
            if kinds.0 != kinds.1 {
                what.push(Aspect::Type);
            } else {
                let from = self
                    .old
                    .stack
                    .open_directory(old.layer, &old_directory.path)?;
                let to = self
                    .new
                    .stack
                    .open_directory(new.layer, &new_directory.path)?;
                self.metadata((&from, &old.stat), (&to, &new.stat), name, &mut what)?;
                self.content((&from, &old.stat), (&to, &new.stat), name, &mut what)?;
            }
            self.changed(path, what);
        }
        if both_directories {
            self.left.push((
                Merged::enter(old_directory, name, old),
                Merged::enter(new_directory, name, new),
            ));
        } else if kinds.1 == FileType::Directory {
            let inside = Merged::enter(new_directory, name, new);
            for (name, entry) in self.new.stack.list(&inside)? {
                self.added(&inside, &entry, &name)?;
            }
        }
        Ok(())
    }

    fn changed(&mut self, path: Vec<u8>, what: Vec<Aspect>) {
        if !what.is_empty() {
            self.found.insert(path, (Change::Changed, what));
        }
    }

    fn metadata(
        &self,
        old: (&OwnedFd, &Stat),
        new: (&OwnedFd, &Stat),
        name: &[u8],
        what: &mut Vec<Aspect>,
    ) -> io::Result<()> {
        let (one, other) = (old.1, new.1);
        if one.st_mode & 0o7777 != other.st_mode & 0o7777 {
            what.push(Aspect::Mode);
        }
        if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid) {
            what.push(Aspect::Owner);
        }
        let times = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        if self.options.times && times(one) != times(other) {
            what.push(Aspect::Time);
        }
        let before = self.old.stack.xattrs(old.0.as_fd(), name)?;
        if before != self.new.stack.xattrs(new.0.as_fd(), name)? {
            what.push(Aspect::Xattrs);
        }
        Ok(())
    }

    fn content(
        &self,
        old: (&OwnedFd, &Stat),
        new: (&OwnedFd, &Stat),
        name: &[u8],
        what: &mut Vec<Aspect>,
    ) -> io::Result<()> {
        match FileType::from_raw_mode(new.1.st_mode) {
            FileType::RegularFile if old.1.st_size != new.1.st_size => {
                what.extend([Aspect::Size, Aspect::Content]);
            }
            FileType::RegularFile if same_bytes(open(old.0, name)?, open(new.0, name)?)? => {}
            FileType::RegularFile => what.push(Aspect::Content),
            FileType::Symlink => {
                let target = |fd| rustix::fs::readlinkat(fd, name, Vec::new());
                if target(old.0)? != target(new.0)? {
                    what.push(Aspect::Target);
                }
            }
            FileType::CharacterDevice | FileType::BlockDevice if old.1.st_rdev != new.1.st_rdev => {
                what.push(Aspect::Device);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Opens what was a regular file a moment ago; a container may have put something else there.
pub(crate) fn open(directory: &OwnedFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    Ok(File::from(opened))
}

/// Whether two files hold the same.
pub(crate) fn same_bytes(one: File, other: File) -> io::Result<bool> {
    let (mut left, mut right) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
    let (mut one, mut other) = (one, other);
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(BUFFER as u64).read_to_end(&mut left)?;
        other.by_ref().take(BUFFER as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}
