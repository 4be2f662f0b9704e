//! A directory tree as data, entry by entry, and the differences between two of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use strata_oci::digest::{Algorithm, Digest, Digester};

/// What one name in a tree is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type, with the target of a link, the digest of a file or the numbers of a device.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// User and group id.
    pub owner: (u32, u32),
    /// Size in bytes, of regular files.
    pub size: u64,
    /// Modification time in seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name, in order, of the same inode, when that is another one.
    pub same_as: Option<PathBuf>,
}

/// The type of a [`Node`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file by its content.
    File(Digest),
    /// A symbolic link by its target.
    Link(PathBuf),
    /// A device, pipe or socket: its letter in ls(1) and the device number.
    Special(char, u64),
}

/// A tree by path, relative to its top; the top itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

impl Tree {
    /// Reads a whole tree. Links are not followed.
    #[track_caller]
    pub fn read(top: &Path) -> Self {
        match Self::try_read(top) {
            Ok(tree) => tree,
            Err(error) => panic!("cannot read {}: {error}", top.display()),
        }
    }

    /// [`Tree::read`] for those who handle the error.
    pub fn try_read(top: &Path) -> io::Result<Self> {
        let mut nodes = BTreeMap::new();
        let mut inodes = BTreeMap::new();
        visit(top, Path::new(""), &mut nodes, &mut inodes)?;
        // Which name of an inode is the first depends on the order of the whole, not of the walk.
        for node in nodes.values_mut() {
            node.same_as = None;
        }
        for names in inodes.into_values() {
            let names: Vec<PathBuf> = names;
            if let Some(first) = names.iter().min().cloned() {
                for name in names.iter().filter(|name| **name != first) {
                    if let Some(node) = nodes.get_mut(name) {
                        node.same_as = Some(first.clone());
                    }
                }
            }
        }
        Ok(Self(nodes))
    }

    /// One digest for all of it.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{:?}", self.0).as_bytes())
    }

    /// The node at `path`.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(Path::new(path))
    }

    /// Every owner set to root: what is left of owners where only one id is mapped.
    pub fn without_owners(mut self) -> Self {
        for node in self.0.values_mut() {
            node.owner = (0, 0);
        }
        self
    }

    /// The times of whiteouts left out: a whiteout is as old as its unpacking.
    pub fn without_whiteout_times(mut self) -> Self {
        for node in self.0.values_mut() {
            if node.kind == Kind::Special('c', 0) {
                node.mtime = (0, 0);
            }
        }
        self
    }

    /// Without times of directories: others set them before they remove what whiteouts name.
    pub fn without_times_of_directories(mut self) -> Self {
        let nodes = self.0.values_mut();
        for node in nodes.filter(|node| node.kind == Kind::Directory) {
            node.mtime = (0, 0);
        }
        self
    }

    /// Without attributes of directories: podman keeps those that a lower layer gave, where the layer's own entry has none.
    pub fn without_attributes_of_directories(mut self) -> Self {
        let nodes = self.0.values_mut();
        for node in nodes.filter(|node| node.kind == Kind::Directory) {
            node.xattrs.clear();
        }
        self
    }

    /// Asserts that two trees are the same but for the top directory itself, naming each difference.
    #[track_caller]
    pub fn assert_same(&self, other: &Tree) {
        let differences = self.differences(other);
        let shown: Vec<&str> = differences.iter().take(30).map(String::as_str).collect();
        assert!(
            differences.is_empty(),
            "{} differences (left, right):\n{}",
            differences.len(),
            shown.join("\n")
        );
    }

    /// Each difference as a line; the top directory itself is left out.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut found = Vec::new();
        for (path, left) in self.0.iter().skip(1) {
            match other.0.get(path) {
                None => found.push(format!("{}: only left", path.display())),
                Some(right) if left != right => {
                    found.push(format!("{}: {left} | {right}", path.display()));
                }
                Some(_) => {}
            }
        }
        for path in other.0.keys().skip(1) {
            if !self.0.contains_key(path) {
                found.push(format!("{}: only right", path.display()));
            }
        }
        found
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group) = self.owner;
        let (seconds, nanos) = self.mtime;
        write!(
            f,
            "{:?} {:o} {user}:{group} {} {seconds}.{nanos:09}",
            self.kind, self.mode, self.size
        )?;
        for (name, value) in &self.xattrs {
            write!(f, " {}={value:02x?}", String::from_utf8_lossy(name))?;
        }
        match &self.same_as {
            Some(name) => write!(f, " = {}", name.display()),
            None => Ok(()),
        }
    }
}

type Inodes = BTreeMap<(u64, u64), Vec<PathBuf>>;

fn visit(
    top: &Path,
    name: &Path,
    nodes: &mut BTreeMap<PathBuf, Node>,
    inodes: &mut Inodes,
) -> io::Result<()> {
    let path = if name.as_os_str().is_empty() {
        top.to_owned()
    } else {
        top.join(name)
    };
    let data = fs::symlink_metadata(&path)?;
    let kind = data.file_type();
    if !kind.is_dir() && data.nlink() > 1 {
        inodes
            .entry((data.dev(), data.ino()))
            .or_default()
            .push(name.to_owned());
    }
    let special = [
        (kind.is_char_device(), 'c'),
        (kind.is_block_device(), 'b'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 's'),
    ];
    let what = if kind.is_dir() {
        Kind::Directory
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(&path)?)
    } else if kind.is_file() {
        Kind::File(digest_of(&path)?)
    } else {
        let letter = special.iter().find(|(is, _)| *is).map_or('?', |(_, c)| *c);
        Kind::Special(letter, data.rdev())
    };
    let node = Node {
        size: if kind.is_file() { data.len() } else { 0 },
        kind: what,
        mode: data.mode() & 0o7777,
        owner: (data.uid(), data.gid()),
        mtime: (data.mtime(), data.mtime_nsec()),
        xattrs: xattrs(&path)?,
        same_as: None,
    };
    nodes.insert(name.to_owned(), node);
    if kind.is_dir() {
        for entry in fs::read_dir(&path)? {
            visit(top, &name.join(entry?.file_name()), nodes, inodes)?;
        }
    }
    Ok(())
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    struct Hashed(Digester);
    impl io::Write for Hashed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashed = Hashed(Digester::new(Algorithm::Sha256));
    io::copy(&mut fs::File::open(path)?, &mut hashed)?;
    Ok(hashed.0.finish())
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 65536];
    let count = match rustix::fs::llistxattr(path, &mut names) {
        Ok(count) => count,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = BTreeMap::new();
    for name in names[..count]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65536];
        let name_of = std::ffi::OsString::from_vec(name.to_vec());
        let size = rustix::fs::lgetxattr(path, name_of.as_os_str().as_bytes(), &mut value)?;
        value.truncate(size);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    #[test]
    fn each_kind_of_difference_is_seen() {
        let (one, two) = (Place::new(), Place::new());
        for place in [&one, &two] {
            fs::write(place.join("file"), "text").expect("write");
            fs::hard_link(place.join("file"), place.join("twin")).expect("link");
            std::os::unix::fs::symlink("file", place.join("link")).expect("link");
            let time = std::time::UNIX_EPOCH;
            for name in ["file", "link"] {
                set_mtime(&place.join(name), time);
            }
        }
        let same = Tree::read(one.path());
        assert!(same.differences(&Tree::read(two.path())).is_empty());
        fs::write(two.join("new"), "").expect("write");
        fs::remove_file(two.join("twin")).expect("remove");
        fs::copy(two.join("file"), two.join("twin")).expect("copy");
        let found = same.differences(&Tree::read(two.path()));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    fn set_mtime(path: &Path, time: std::time::SystemTime) {
        let since = time
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let stamp = rustix::fs::Timespec {
            tv_sec: since.as_secs() as i64,
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: stamp,
            last_modification: stamp,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).expect("set times");
    }
}
