//! One copy on disk of what several layers have. Layers are unpacked on their own, so a file that an upgrade brings
//! again unchanged, or that two images install, is there twice.
//!
//! Files of the same content share their blocks where the file system can do that (FIDEDUPERANGE, ioctl_fideduperange(2)):
//! the kernel compares them once more, each keeps its metadata, and whoever has one open notices nothing. Elsewhere
//! they can be made one file of several names, if their metadata are the same too.

mod blocks;
mod search;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use strata_oci::digest::{Algorithm, Digest, Digester};

use super::error::LayerError;
use super::verify::Place;
use super::{name, tree};
use search::Found;

/// How files come to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The same blocks (reflink).
    Blocks,
    /// The same file (hard link), where mode, owner, time and attributes are the same.
    Links,
}

/// What may share with what.
#[derive(Debug)]
pub struct Duplicates {
    roots: Vec<OwnedFd>,
    shown: Vec<PathBuf>,
    files: Vec<Found>,
    /// (of which, from which), by the tree of the first.
    pairs: BTreeMap<usize, Vec<(usize, usize)>>,
    sharing: Sharing,
}

/// What was shared, or would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shared {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Duplicates {
    /// Looks for files of at least `least` bytes that are in several of these trees. Reads what has a size that another
    /// file has too. Blocking.
    pub fn find(trees: &[PathBuf], least: u64, sharing: Sharing) -> Result<Self, LayerError> {
        let open = |path: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(LayerError::io("open", path))
        };
        let roots: Vec<OwnedFd> = trees.iter().map(open).collect::<Result<_, _>>()?;
        let mut duplicates = Self {
            files: search::same_sizes(&roots, trees, least)?,
            roots,
            shown: trees.to_vec(),
            pairs: BTreeMap::new(),
            sharing,
        };
        duplicates.pair()?;
        Ok(duplicates)
    }

    /// The trees, by number, of which files would share with others'.
    pub fn trees(&self) -> Vec<usize> {
        self.pairs.keys().copied().collect()
    }

    /// What would be shared of a tree.
    pub fn of(&self, tree: usize) -> Shared {
        let mut all = Shared::default();
        for (file, _) in self.pairs.get(&tree).into_iter().flatten() {
            all.add(self.files[*file].size);
        }
        all
    }

    /// Shares what can be of a tree. `scratch` is a directory on the same file system that nobody else uses. With
    /// [`Sharing::Links`] nothing may be mounted that shows the tree.
    ///
    /// # Errors
    /// [`LayerError::Io`] of kind [`io::ErrorKind::Unsupported`] when the file system cannot share blocks.
    pub fn share(&self, tree: usize, scratch: &std::path::Path) -> Result<Shared, LayerError> {
        let mut all = Shared::default();
        for (to, from) in self.pairs.get(&tree).into_iter().flatten() {
            let (to, from) = (&self.files[*to], &self.files[*from]);
            let path = self.path(to);
            let failed = LayerError::io("share the content of", &path);
            let done = match self.sharing {
                Sharing::Blocks => self.share_blocks(to, from),
                Sharing::Links => self.link(to, from, scratch),
            };
            match done {
                Ok(true) => all.add(to.size),
                Ok(false) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(all)
    }

    fn path(&self, file: &Found) -> PathBuf {
        self.shown[file.tree].join(tree::as_path(&file.path))
    }

    fn open(&self, file: &Found) -> io::Result<File> {
        let opened = tree::open(&self.roots[file.tree], &file.path, OFlags::RDONLY);
        Ok(File::from(opened?))
    }

    /// Same size, then same content, then (for links) same metadata.
    fn pair(&mut self) -> Result<(), LayerError> {
        let mut names: HashSet<(usize, u64)> = HashSet::new();
        names.extend(self.files.iter().map(|file| (file.tree, file.inode)));
        let mut begin = 0;
        while begin < self.files.len() {
            let size = self.files[begin].size;
            let same = self.files[begin..].partition_point(|file| file.size == size);
            let mut groups: HashMap<(Digest, Option<Metadata>), Vec<usize>> = HashMap::new();
            let mut known: HashMap<u64, Digest> = HashMap::new();
            for number in begin..begin + same {
                let file = &self.files[number];
                let digest = match known.get(&file.inode) {
                    Some(digest) => digest.clone(),
                    None => self
                        .open(file)
                        .and_then(hash)
                        .map_err(LayerError::io("read", &self.path(file)))?,
                };
                known.insert(file.inode, digest.clone());
                let metadata = match self.sharing {
                    Sharing::Blocks => None,
                    Sharing::Links => Some(self.metadata(file)?),
                };
                groups.entry((digest, metadata)).or_default().push(number);
            }
            for group in groups.into_values() {
                self.pair_group(&group, &mut names);
            }
            begin += same;
        }
        for pairs in self.pairs.values_mut() {
            // Directory by directory: each is touched, and put right, in one go.
            pairs.sort_by(|a, b| self.files[a.0].path.cmp(&self.files[b.0].path));
        }
        Ok(())
    }

    fn pair_group(&mut self, group: &[usize], names: &mut HashSet<(usize, u64)>) {
        // The one with the most names already: a second run then finds nothing more to do.
        let Some(first) = group
            .iter()
            .copied()
            .max_by_key(|n| (self.files[*n].links, std::cmp::Reverse(*n)))
        else {
            return;
        };
        let from = (self.files[first].tree, self.files[first].inode);
        let mut done: HashSet<u64> = HashSet::from([from.1]);
        for number in group.iter().copied() {
            let file = &self.files[number];
            let suits = match self.sharing {
                // Once for each file, whatever its names.
                Sharing::Blocks => done.insert(file.inode),
                // Links of one layer are its own: two files must stay two there.
                Sharing::Links => {
                    file.links == 1
                        && file.tree != from.0
                        && file.inode != from.1
                        && names.insert((file.tree, from.1))
                }
            };
            if suits {
                let pairs = self.pairs.entry(file.tree).or_default();
                pairs.push((number, first));
            }
        }
    }

    fn metadata(&self, file: &Found) -> Result<Metadata, LayerError> {
        let failed = |error: Errno| LayerError::io("look at", &self.path(file))(error);
        let (parent, last) = self.parent(file).map_err(failed)?;
        let stat = rustix::fs::statat(&parent, last, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let mut xattrs = Place::of(&parent, last).xattrs().map_err(failed)?;
        xattrs.sort();
        Ok(Metadata {
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            time: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            ),
            xattrs,
        })
    }

    fn parent<'a>(&self, file: &'a Found) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let (parent, last) = name::split(&file.path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok((tree::open(&self.roots[file.tree], parent, flags)?, last))
    }

    fn share_blocks(&self, to: &Found, from: &Found) -> io::Result<bool> {
        blocks::share(&self.open(from)?, &self.open(to)?, to.size)
    }

    /// The new name takes the old one's place at once; the directory's time, which the layer's author set, stays.
    fn link(&self, to: &Found, from: &Found, scratch: &std::path::Path) -> io::Result<bool> {
        let (source, source_last) = self.parent(from)?;
        let (parent, last) = self.parent(to)?;
        let new = scratch.join("link");
        match rustix::fs::linkat(
            &source,
            source_last,
            rustix::fs::CWD,
            &new,
            AtFlags::empty(),
        ) {
            Ok(()) => {}
            // As many names as a file can have.
            Err(Errno::MLINK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let before = rustix::fs::fstat(&parent)?;
        rustix::fs::renameat(rustix::fs::CWD, &new, &parent, last)?;
        rustix::fs::futimens(&parent, &times(&before))?;
        Ok(true)
    }
}

impl Shared {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What a file of several names has once.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Metadata {
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    xattrs: super::attributes::Xattrs,
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn hash(mut file: File) -> io::Result<Digest> {
    let mut digester = Digester::new(Algorithm::Sha256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digester.finish()),
            count => digester.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests;
