//! What a layer's tree has to be, worked out in memory from the entries of its archive.
//!
//! This is what the extractor does, without a disk: names go through the links that are there at that
//! moment, later entries take the place of earlier ones, whiteouts come last. Who compares a tree
//! with it sees all that the archive's digest alone cannot show, because headers are in the record
//! and not in the tree: types, modes, owners, times, links and attributes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::attributes::Metadata;
use super::name::{self, Name};
use super::options::Ownership;
use super::tar::{Entry, Kind};

/// As many links as the kernel follows (path_resolution(7)).
const LINKS: u32 = 40;

/// What is at a name, without its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Directory {
        /// Whether it hides the ones below it.
        opaque: bool,
    },
    /// Of this many bytes.
    File(u64),
    /// To this target.
    Symlink(Vec<u8>),
    Fifo,
    Character(u32, u32),
    Block(u32, u32),
    Whiteout,
}

/// Something in the tree; names that are hard links of each other share it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) what: What,
    pub(super) metadata: Metadata,
}

/// A whole tree: real paths, the root's empty, and what is there.
#[derive(Debug)]
pub(super) struct Model {
    nodes: Vec<Node>,
    paths: BTreeMap<Vec<u8>, usize>,
    removed: BTreeSet<Vec<u8>>,
    opaque: BTreeSet<Vec<u8>>,
    /// Directories with whiteouts in them.
    holding: BTreeSet<Vec<u8>>,
}

enum Found {
    Directory(Vec<u8>),
    Missing,
    NotDirectory,
}

impl Model {
    pub(super) fn new() -> Self {
        let mut model = Self {
            nodes: Vec::new(),
            paths: BTreeMap::new(),
            removed: BTreeSet::new(),
            opaque: BTreeSet::new(),
            holding: BTreeSet::new(),
        };
        model.add(Vec::new(), implied());
        model
    }

    /// What each directory holds: names and numbers for [`Model::node`].
    pub(super) fn directories(&self) -> BTreeMap<&[u8], BTreeMap<&[u8], usize>> {
        let mut all: BTreeMap<&[u8], BTreeMap<&[u8], usize>> = BTreeMap::new();
        for (path, number) in &self.paths {
            if matches!(self.nodes[*number].what, What::Directory { .. }) {
                all.entry(path).or_default();
            }
            if !path.is_empty() {
                let (parent, last) = name::split(path);
                all.entry(parent).or_default().insert(last, *number);
            }
        }
        all
    }

    /// All real paths and what is there, parents before children.
    pub(super) fn all(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        let paths = self.paths.iter();
        paths.map(|(path, number)| (path.as_slice(), &self.nodes[*number]))
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// Whether a directory has whiteouts in it.
    pub(super) fn holds_whiteouts(&self, path: &[u8]) -> bool {
        self.holding.contains(path)
    }

    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// Takes the next entry. One that the extractor would refuse changes nothing: it is not in a layer
    /// that was unpacked, so the archive's digest will tell.
    pub(super) fn entry(&mut self, entry: Entry, ownership: &Ownership) {
        match name::classify(&entry.path) {
            Ok(Name::Plain(path)) => self.plain(path, entry, ownership),
            Ok(Name::Whiteout(path)) => {
                self.removed.insert(path);
            }
            Ok(Name::Opaque(path)) => {
                self.opaque.insert(path);
            }
            Ok(Name::Ignored) | Err(_) => {}
        }
    }

    fn plain(&mut self, path: Vec<u8>, entry: Entry, ownership: &Ownership) {
        let metadata = Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
        };
        let what = match entry.kind {
            Kind::Directory => return self.directory(&path, metadata),
            Kind::HardLink => return self.hard_link(&path, &entry.link),
            Kind::Character { major: 0, minor: 0 } => {
                self.removed.insert(path);
                return;
            }
            Kind::Character { .. } | Kind::Block { .. } if *ownership != Ownership::Keep => return,
            Kind::File => What::File(entry.size),
            Kind::Symlink => What::Symlink(entry.link),
            Kind::Fifo => What::Fifo,
            Kind::Character { major, minor } => What::Character(major, minor),
            Kind::Block { major, minor } => What::Block(major, minor),
        };
        let node = Node { what, metadata };
        if let Some(real) = self.place(&path) {
            self.displace(&real);
            self.add(real, node);
        }
    }

    fn directory(&mut self, path: &[u8], metadata: Metadata) {
        let real = match path {
            [] => Some(Vec::new()),
            path => self.place(path),
        };
        let Some(real) = real else { return };
        if let Some(number) = self.paths.get(&real).copied()
            && matches!(self.nodes[number].what, What::Directory { .. })
        {
            self.nodes[number].metadata = metadata;
            return;
        }
        self.displace(&real);
        let what = What::Directory { opaque: false };
        self.add(real, Node { what, metadata });
    }

    fn hard_link(&mut self, path: &[u8], link: &[u8]) {
        let Ok(target) = name::clean(link) else {
            return;
        };
        let (parent, last) = name::split(&target);
        let Found::Directory(from) = self.find(parent, false) else {
            return;
        };
        let there = self.paths.get(&name::join(&from, last)).copied();
        // A link to a device that was left out is left out, and makes no directories.
        if let Some(number) = there
            && let Some(real) = self.place(path)
        {
            self.displace(&real);
            self.paths.insert(real, number);
        }
    }

    /// The real path of a new name, its parents made.
    fn place(&mut self, path: &[u8]) -> Option<Vec<u8>> {
        let (parent, last) = name::split(path);
        match self.find(parent, true) {
            Found::Directory(real) if !last.is_empty() => Some(name::join(&real, last)),
            _ => None,
        }
    }

    fn add(&mut self, path: Vec<u8>, node: Node) {
        self.paths.insert(path, self.nodes.len());
        self.nodes.push(node);
    }

    /// Takes away what is at a path, with all that is in it.
    fn displace(&mut self, path: &[u8]) {
        if self.paths.remove(path).is_none() {
            return;
        }
        let below = [path, b"/"].concat();
        let within = self.paths.range(below.clone()..);
        let within = within.take_while(|(path, _)| path.starts_with(&below));
        let within: Vec<Vec<u8>> = within.map(|(path, _)| path.clone()).collect();
        for path in within {
            self.paths.remove(&path);
        }
    }

    fn find(&mut self, path: &[u8], create: bool) -> Found {
        let mut todo: VecDeque<Vec<u8>> = name::parts(path).map(<[u8]>::to_vec).collect();
        let mut here = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                here = name::split(&here).0.to_vec();
                continue;
            }
            let next = name::join(&here, &part);
            let number = self.paths.get(&next).copied();
            here = match number.map(|number| &self.nodes[number].what) {
                Some(What::Directory { .. }) => next,
                None if create => {
                    self.add(next.clone(), implied());
                    next
                }
                None => return Found::Missing,
                Some(What::Symlink(target)) => {
                    links += 1;
                    if links > LINKS {
                        return Found::NotDirectory;
                    }
                    for part in name::parts(target).rev().filter(|part| *part != b".") {
                        todo.push_front(part.to_vec());
                    }
                    match target.first() {
                        Some(b'/') => Vec::new(),
                        _ => here,
                    }
                }
                Some(_) => return Found::NotDirectory,
            };
        }
        Found::Directory(here)
    }

    /// Whether a path that leads to nothing, or to no directory, is or goes through a symbolic link.
    fn is_behind_link(&self, path: &[u8]) -> bool {
        for part in name::ancestors(path) {
            let number = self.paths.get(part);
            match number.map(|number| &self.nodes[*number].what) {
                Some(What::Directory { .. }) => {}
                Some(What::Symlink(_)) => return true,
                Some(_) => return part == path,
                None => return false,
            }
        }
        false
    }

    /// After the last entry: whiteouts and opaque marks.
    pub(super) fn finish(&mut self) {
        let mut opaque = BTreeSet::new();
        for path in std::mem::take(&mut self.opaque) {
            let removed = name::ancestors(&path).any(|path| self.removed.contains(path));
            let create = !removed && !self.is_behind_link(&path);
            if let Found::Directory(real) = self.find(&path, create) {
                opaque.insert(real);
            }
        }
        for path in std::mem::take(&mut self.removed) {
            self.remove(&path, &mut opaque);
        }
        for path in opaque {
            if let Some(number) = self.paths.get(&path) {
                self.nodes[*number].what = What::Directory { opaque: true };
            }
        }
    }

    fn remove(&mut self, path: &[u8], opaque: &mut BTreeSet<Vec<u8>>) {
        let (parent, last) = name::split(path);
        let parent = match self.find(parent, false) {
            Found::Directory(real) => real,
            Found::NotDirectory => return,
            Found::Missing if self.is_behind_link(parent) => return,
            Found::Missing => match self.find(parent, true) {
                Found::Directory(real) => real,
                Found::Missing | Found::NotDirectory => return,
            },
        };
        if name::ancestors(&parent).any(|above| opaque.contains(above)) {
            return;
        }
        let real = name::join(&parent, last);
        match self.paths.get(&real).map(|n| &self.nodes[*n].what) {
            Some(What::Directory { .. }) => {
                opaque.insert(real);
            }
            Some(_) => {}
            None => {
                self.holding.insert(parent);
                let (what, metadata) = (What::Whiteout, Metadata::default());
                self.add(real, Node { what, metadata });
            }
        }
    }
}

/// A directory that no entry names.
fn implied() -> Node {
    Node {
        what: What::Directory { opaque: false },
        metadata: Metadata {
            mode: 0o755,
            ..Metadata::default()
        },
    }
}
