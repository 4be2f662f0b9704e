//! A stack of layers as one archive: what a container sees, without its layers.
//!
//! Directories are merged as overlayfs does (kernel documentation, overlayfs): of each name the topmost counts, unless
//! all are directories; a whiteout hides what is below it, an opaque directory all that lower ones hold. Neither is
//! in the archive, so that whoever unpacks it has the tree. Names come in the order of their bytes, so the same tree
//! gives the same archive.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::Xattrs;
use super::content::{self, CopyError};
use super::error::LayerError;
use super::name;
use super::options::XattrNamespace;
use super::tar::{self, Entry, Kind, Time};
use super::tree;
use super::verify::Place;

/// Writes the archive of what these trees show together, the topmost first. Sockets are left out, as by all who
/// write archives. What changes meanwhile is in it as it was seen, file by file.
pub fn flatten(
    trees_top_first: &[PathBuf],
    namespace: XattrNamespace,
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    let open = |path: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(LayerError::io("open", path))
    };
    let roots: Vec<OwnedFd> = trees_top_first.iter().map(open).collect::<Result<_, _>>()?;
    let mut flattening = Flattening {
        roots: &roots,
        shown: trees_top_first,
        namespace,
        links: HashMap::new(),
        out,
    };
    let all: Vec<usize> = (0..roots.len()).collect();
    flattening.directory(b"", &all)?;
    tar::end(flattening.out).map_err(writing)?;
    flattening.out.flush().map_err(writing)
}

fn writing(error: io::Error) -> LayerError {
    LayerError::io("write the archive to", Path::new("its target"))(error)
}

/// What is at a name, from the top down.
enum Seen {
    /// A whiteout, or something that is no directory: what is below does not count.
    Hidden,
    Other(usize, Stat),
    Directory {
        /// Metadata of the topmost.
        stat: Stat,
        /// The trees that have it.
        trees: Vec<usize>,
        /// Whether lower ones count.
        open: bool,
    },
}

struct Flattening<'a> {
    roots: &'a [OwnedFd],
    shown: &'a [PathBuf],
    namespace: XattrNamespace,
    /// Files of several names, by tree and inode, under their first name.
    links: HashMap<(usize, u64), Vec<u8>>,
    out: &'a mut dyn Write,
}

impl Flattening<'_> {
    fn directory(&mut self, path: &[u8], trees: &[usize]) -> Result<(), LayerError> {
        let mut seen: BTreeMap<Vec<u8>, Seen> = BTreeMap::new();
        for tree in trees {
            self.list(path, *tree, &mut seen)?;
        }
        for (last, seen) in seen {
            let path = name::join(path, &last);
            match seen {
                Seen::Hidden => {}
                Seen::Other(tree, stat) => self.other(&path, tree, &stat)?,
                Seen::Directory { stat, trees, .. } => {
                    let entry = self.entry(&path, trees[0], Kind::Directory, &stat)?;
                    tar::write_entry(&entry, self.out).map_err(writing)?;
                    self.directory(&path, &trees)?;
                }
            }
        }
        Ok(())
    }

    fn list(
        &self,
        path: &[u8],
        tree: usize,
        seen: &mut BTreeMap<Vec<u8>, Seen>,
    ) -> Result<(), LayerError> {
        let directory = self.open(path, tree, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let entries = Dir::read_from(&directory).map_err(self.failed("list", path, tree))?;
        for entry in entries {
            let entry = entry.map_err(self.failed("list", path, tree))?;
            let last = entry.file_name().to_bytes();
            if last == b"." || last == b".." {
                continue;
            }
            let whole = name::join(path, last);
            let failed = |action| self.failed(action, &whole, tree);
            let stat = match rustix::fs::statat(&directory, last, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed since the directory was read: a container runs.
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(failed("look at"))?,
            };
            let is_directory = tree::is_directory(&stat);
            let goes_on = is_directory && {
                let value = Place::of(&directory, last).xattr(self.namespace.opaque());
                value.map_err(failed("read the attributes of"))?.as_deref() != Some(b"y")
            };
            match seen.get_mut(last) {
                None => {
                    let new = match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Directory => Seen::Directory {
                            stat,
                            trees: vec![tree],
                            open: goes_on,
                        },
                        FileType::CharacterDevice if stat.st_rdev == 0 => Seen::Hidden,
                        _ => Seen::Other(tree, stat),
                    };
                    seen.insert(last.to_vec(), new);
                }
                Some(Seen::Directory { trees, open, .. }) if *open => {
                    if is_directory {
                        trees.push(tree);
                    }
                    *open = goes_on;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Anything but a directory.
    fn other(&mut self, path: &[u8], tree: usize, stat: &Stat) -> Result<(), LayerError> {
        let device = (
            rustix::fs::major(stat.st_rdev),
            rustix::fs::minor(stat.st_rdev),
        );
        let (major, minor) = device;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::Character { major, minor },
            FileType::BlockDevice => Kind::Block { major, minor },
            _ => return Ok(()),
        };
        if stat.st_nlink > 1 {
            // What two layers share (`dedup`) are two files of the image.
            let key = (tree, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let link = first.clone();
                let mut entry = self.entry(path, tree, Kind::HardLink, stat)?;
                entry.link = link;
                entry.xattrs.clear();
                return tar::write_entry(&entry, self.out).map_err(writing);
            }
            self.links.insert(key, path.to_vec());
        }
        let mut entry = self.entry(path, tree, kind, stat)?;
        let (parent, last) = name::split(path);
        match kind {
            Kind::Symlink => {
                let directory = self.open(parent, tree, OFlags::PATH | OFlags::DIRECTORY)?;
                let target = rustix::fs::readlinkat(&directory, last, Vec::new());
                entry.link = target
                    .map_err(self.failed("read the link", path, tree))?
                    .into_bytes();
                tar::write_entry(&entry, self.out).map_err(writing)
            }
            Kind::File => {
                let file = File::from(self.open(path, tree, OFlags::RDONLY | OFlags::NONBLOCK)?);
                entry.size = u64::try_from(stat.st_size).unwrap_or(0);
                tar::write_entry(&entry, self.out).map_err(writing)?;
                self.content(path, tree, &file, stat, entry.size)
            }
            _ => tar::write_entry(&entry, self.out).map_err(writing),
        }
    }

    fn content(
        &mut self,
        path: &[u8],
        tree: usize,
        file: &File,
        stat: &Stat,
        size: u64,
    ) -> Result<(), LayerError> {
        content::copy(file, stat, size, self.out).map_err(|error| match error {
            CopyError::Read(error) => self.failed("read", path, tree)(error),
            CopyError::Write(error) => writing(error),
        })?;
        tar::padding(size, self.out).map_err(writing)
    }

    fn entry(
        &self,
        path: &[u8],
        tree: usize,
        kind: Kind,
        stat: &Stat,
    ) -> Result<Entry, LayerError> {
        let (parent, last) = name::split(path);
        let directory = self.open(parent, tree, OFlags::PATH | OFlags::DIRECTORY)?;
        let xattrs = match Place::of(&directory, last).xattrs() {
            Ok(found) => self.own(found),
            Err(Errno::NOTSUP) => Vec::new(),
            Err(error) => return Err(self.failed("read the attributes of", path, tree)(error)),
        };
        Ok(Entry {
            path: path.to_vec(),
            kind,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time {
                seconds: stat.st_mtime,
                nanoseconds: stat.st_mtime_nsec as u32,
            },
            size: 0,
            sparse: None,
            xattrs,
        })
    }

    /// The tree's own attributes, as its author gave them: without overlayfs' marks, and without labels, which
    /// belong to the machine.
    fn own(&self, found: Xattrs) -> Xattrs {
        let overlay = self.namespace.overlay();
        let escape = [overlay, b"overlay."].concat();
        let own = found.into_iter().filter_map(|(name, value)| {
            if let Some(rest) = name.strip_prefix(escape.as_slice()) {
                return Some(([overlay, rest].concat(), value));
            }
            let foreign = name.starts_with(overlay)
                || (name.starts_with(b"security.") && name != b"security.capability");
            (!foreign).then_some((name, value))
        });
        own.collect()
    }

    fn open(&self, path: &[u8], tree: usize, flags: OFlags) -> Result<OwnedFd, LayerError> {
        tree::open(&self.roots[tree], path, flags).map_err(self.failed("open", path, tree))
    }

    fn failed<E: Into<io::Error>>(
        &self,
        action: &'static str,
        path: &[u8],
        tree: usize,
    ) -> impl FnOnce(E) -> LayerError + use<E> {
        let path = self.shown[tree].join(tree::as_path(path));
        move |error| LayerError::io(action, &path)(error)
    }
}
