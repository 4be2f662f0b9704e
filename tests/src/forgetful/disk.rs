//! The model: a tree as programs see it, and the tree that a power cut would leave.
//!
//! A file's bytes and size become durable by a sync of the file and a directory's names by a sync of that
//! directory, nothing else (fsync(2): "Calling fsync() does not necessarily ensure that the entry in
//! the directory containing the file has also reached disk. For that an explicit fsync() on a file
//! descriptor for the directory is also needed."). So a name may be durable before its file's bytes: then the
//! file is empty. A file that was moved may be durable under both names, or, when only the directory that it left
//! was synced, under none. Owners, modes and times are durable at once: nothing here depends on them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::SystemTime;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::io::Errno;

use super::content::{BLOCK, Content};
use super::{Deaf, Loss, Sync};

pub(super) const ROOT: u64 = 1;

/// A file, directory or symbolic link.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) links: u32,
    pub(super) modified: SystemTime,
    /// The name that it was last given.
    name: OsString,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Directory(Directory),
    Link(PathBuf),
}

/// The names in a directory, now and after a power cut.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Name to inode and the position in a listing, which never changes.
    now: BTreeMap<OsString, (u64, u64)>,
    durable: BTreeMap<OsString, u64>,
    /// What happened since the last sync; one change is one rename, link, unlink…
    pending: Vec<Change>,
    positions: u64,
}

type Change = Vec<(OsString, Option<u64>)>;

impl Directory {
    fn change(&mut self, change: Change) {
        for (name, inode) in &change {
            match inode {
                Some(inode) => {
                    self.positions += 1;
                    self.now.insert(name.clone(), (*inode, self.positions));
                }
                None => drop(self.now.remove(name)),
            }
        }
        self.pending.push(change);
    }

    fn keep(&mut self, changes: usize) {
        for (name, inode) in self.pending.drain(..).take(changes).flatten() {
            match inode {
                Some(inode) => self.durable.insert(name, inode),
                None => self.durable.remove(&name),
            };
        }
    }

    fn forget(&mut self, luck: Option<&mut StdRng>) {
        let kept = luck.map_or(0, |luck| luck.random_range(0..=self.pending.len()));
        self.keep(kept);
        self.now.clear();
        for (name, inode) in &self.durable {
            self.positions += 1;
            self.now.insert(name.clone(), (*inode, self.positions));
        }
    }
}

/// A disk.
pub(super) struct Disk {
    nodes: HashMap<u64, Node>,
    newest: u64,
    capacity: u64,
    used: u64,
    deaf: Option<Deaf>,
    operations: u64,
    cut_at: Option<u64>,
    cut: bool,
    fails: Option<(u64, Errno)>,
}

type Result<T> = std::result::Result<T, Errno>;

impl Disk {
    /// An empty disk for `capacity` bytes of content.
    pub(super) fn new(capacity: u64) -> Self {
        let mut disk = Self {
            nodes: HashMap::new(),
            newest: ROOT,
            capacity: capacity / BLOCK,
            used: 0,
            deaf: None,
            operations: 0,
            cut_at: None,
            cut: false,
            fails: None,
        };
        let root = Kind::Directory(Directory::default());
        disk.nodes
            .insert(ROOT, node(root, 0o755, (0, 0), OsStr::new("/")));
        disk
    }

    pub(super) fn set_deaf(&mut self, deaf: Option<Deaf>) {
        self.deaf = deaf;
    }

    /// Changes and syncs so far.
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn cut_at(&mut self, operation: u64) {
        self.cut_at = Some(operation);
    }

    pub(super) fn fail_at(&mut self, operation: u64, error: Errno) {
        self.fails = Some((operation, error));
    }

    /// No operation fails any more; whether one has.
    pub(super) fn heal(&mut self) -> bool {
        let fails = self.fails.take();
        fails.is_some_and(|(at, _)| self.operations >= at)
    }

    pub(super) fn cut(&mut self) {
        self.cut = true;
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes that can be had and that are used.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.capacity, self.used)
    }

    /// The start of an operation that changes or syncs something.
    fn operation(&mut self) -> Result<()> {
        self.operations += 1;
        self.cut |= self.cut_at.is_some_and(|at| self.operations >= at);
        match self.fails {
            Some((at, error)) if self.operations == at => Err(error),
            _ => self.powered(),
        }
    }

    fn powered(&self) -> Result<()> {
        if self.cut { Err(Errno::IO) } else { Ok(()) }
    }

    pub(super) fn node(&self, inode: u64) -> Result<&Node> {
        self.powered()?;
        self.nodes.get(&inode).ok_or(Errno::STALE)
    }

    pub(super) fn node_mut(&mut self, inode: u64) -> Result<&mut Node> {
        self.powered()?;
        self.nodes.get_mut(&inode).ok_or(Errno::STALE)
    }

    fn directory(&self, inode: u64) -> Result<&Directory> {
        match &self.node(inode)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn change(&mut self, directory: u64, change: Change) -> Result<()> {
        let node = self.node_mut(directory)?;
        let Kind::Directory(directory) = &mut node.kind else {
            return Err(Errno::NOTDIR);
        };
        directory.change(change);
        node.modified = SystemTime::now();
        Ok(())
    }

    pub(super) fn content(&self, inode: u64) -> Result<&Content> {
        match &self.node(inode)?.kind {
            Kind::File(content) => Ok(content),
            _ => Err(Errno::ISDIR),
        }
    }

    /// Changes a file's content, unless the disk would be full.
    fn alter(&mut self, inode: u64, grows: u64, alter: impl FnOnce(&mut Content)) -> Result<()> {
        self.operation()?;
        if self.used + grows.div_ceil(BLOCK) > self.capacity {
            return Err(Errno::NOSPC);
        }
        let node = self.node_mut(inode)?;
        let Kind::File(content) = &mut node.kind else {
            return Err(Errno::ISDIR);
        };
        let before = content.blocks();
        alter(content);
        let after = content.blocks();
        node.modified = SystemTime::now();
        self.used = self.used + after - before;
        Ok(())
    }

    pub(super) fn write(&mut self, inode: u64, offset: u64, data: &[u8]) -> Result<()> {
        self.alter(inode, data.len() as u64, |content| {
            content.write(offset, data)
        })
    }

    pub(super) fn resize(&mut self, inode: u64, size: u64) -> Result<()> {
        self.alter(inode, 0, |content| content.resize(size))
    }

    pub(super) fn lookup(&self, parent: u64, name: &OsStr) -> Result<u64> {
        let found = self.directory(parent)?.now.get(name);
        found.map(|(inode, _)| *inode).ok_or(Errno::NOENT)
    }

    /// Names with inodes and positions, those after `position` in order.
    pub(super) fn list(&self, inode: u64, position: u64) -> Result<Vec<(u64, u64, OsString)>> {
        let all = self.directory(inode)?.now.iter();
        let mut after: Vec<_> = all
            .map(|(name, (inode, at))| (*at, *inode, name.clone()))
            .filter(|(at, ..)| *at > position)
            .collect();
        after.sort_unstable();
        Ok(after)
    }

    /// A new name for something new.
    pub(super) fn make(
        &mut self,
        parent: u64,
        name: &OsStr,
        kind: Kind,
        mode: u32,
        owner: (u32, u32),
    ) -> Result<u64> {
        self.operation()?;
        if self.directory(parent)?.now.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.newest += 1;
        let inode = self.newest;
        self.nodes.insert(inode, node(kind, mode, owner, name));
        self.change(parent, vec![(name.to_owned(), Some(inode))])?;
        Ok(inode)
    }

    /// One more name for a file.
    pub(super) fn link(&mut self, inode: u64, parent: u64, name: &OsStr) -> Result<()> {
        self.operation()?;
        if self.directory(parent)?.now.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.node_mut(inode)?.links += 1;
        self.change(parent, vec![(name.to_owned(), Some(inode))])
    }

    /// Takes a name away. The bytes stay in memory until the next start: the name may come back.
    pub(super) fn unlink(&mut self, parent: u64, name: &OsStr, directory: bool) -> Result<()> {
        self.operation()?;
        let inode = self.lookup(parent, name)?;
        match &self.node(inode)?.kind {
            Kind::Directory(_) if !directory => return Err(Errno::ISDIR),
            Kind::Directory(found) if !found.now.is_empty() => return Err(Errno::NOTEMPTY),
            Kind::File(_) | Kind::Link(_) if directory => return Err(Errno::NOTDIR),
            _ => self.node_mut(inode)?.links -= 1,
        }
        self.change(parent, vec![(name.to_owned(), None)])
    }

    /// Moves a name, over what has the new name if that may be replaced.
    pub(super) fn rename(
        &mut self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        replace: bool,
    ) -> Result<()> {
        self.operation()?;
        let inode = self.lookup(from.0, from.1)?;
        if let Ok(replaced) = self.lookup(to.0, to.1) {
            if !replace {
                return Err(Errno::EXIST);
            }
            if replaced == inode {
                return Ok(());
            }
            if matches!(&self.node(replaced)?.kind, Kind::Directory(d) if !d.now.is_empty()) {
                return Err(Errno::NOTEMPTY);
            }
            self.node_mut(replaced)?.links -= 1;
        }
        self.node_mut(inode)?.name = to.1.to_owned();
        let (away, here) = ((from.1.to_owned(), None), (to.1.to_owned(), Some(inode)));
        if from.0 == to.0 {
            return self.change(from.0, vec![away, here]);
        }
        self.change(to.0, vec![here])?;
        self.change(from.0, vec![away])
    }

    /// Makes a file's bytes or a directory's names durable.
    pub(super) fn sync(&mut self, inode: u64) -> Result<()> {
        if let Err(error) = self.operation() {
            if let Kind::File(content) = &mut self.node_mut(inode)?.kind {
                content.lose();
            }
            return Err(error);
        }
        let deaf = self.deaf;
        let Node { kind, name, .. } = self.node_mut(inode)?;
        let name = name.to_string_lossy();
        let ignores = |sync| deaf.is_some_and(|deaf| deaf(sync));
        match kind {
            Kind::File(content) if !ignores(Sync::File(&name)) => content.sync(),
            Kind::Directory(directory) if !ignores(Sync::Directory(&name)) => {
                directory.keep(directory.pending.len());
            }
            _ => {}
        }
        Ok(())
    }

    /// The power comes back: only what was durable is there, and by luck some of the rest.
    pub(super) fn power_up(&mut self, loss: Loss) {
        self.deaf = None;
        self.cut_at = None;
        self.cut = false;
        self.fails = None;
        match loss {
            Loss::Nothing => {}
            Loss::All => self.forget(None),
            Loss::Some { seed } => self.forget(Some(StdRng::seed_from_u64(seed))),
        }
    }

    fn forget(&mut self, mut luck: Option<StdRng>) {
        let mut inodes: Vec<u64> = self.nodes.keys().copied().collect();
        inodes.sort_unstable();
        for inode in inodes {
            match self.nodes.get_mut(&inode).map(|node| &mut node.kind) {
                Some(Kind::File(content)) => content.forget(luck.as_mut()),
                Some(Kind::Directory(directory)) => directory.forget(luck.as_mut()),
                _ => {}
            }
        }
        self.collect();
    }

    /// Drops what has no name, and counts names and blocks anew.
    fn collect(&mut self) {
        let mut links: HashMap<u64, u32> = HashMap::from([(ROOT, 1)]);
        let mut doubled = HashSet::new();
        let mut left = vec![ROOT];
        while let Some(inode) = left.pop() {
            let Ok(directory) = self.directory(inode) else {
                continue;
            };
            for (name, (child, _)) in &directory.now {
                let names = links.entry(*child).or_default();
                *names += 1;
                match self.nodes.get(child).map(|node| &node.kind) {
                    Some(Kind::Directory(_)) if *names == 1 => left.push(*child),
                    // A directory that was moved has one name on any disk.
                    Some(Kind::Directory(_)) => drop(doubled.insert((inode, name.clone()))),
                    _ => {}
                }
            }
        }
        for (inode, name) in doubled {
            if let Some(Kind::Directory(directory)) =
                self.nodes.get_mut(&inode).map(|n| &mut n.kind)
            {
                directory.now.remove(&name);
                directory.durable.remove(&name);
            }
        }
        self.nodes.retain(|inode, _| links.contains_key(inode));
        self.used = 0;
        for (inode, node) in &mut self.nodes {
            node.links = links.get(inode).copied().unwrap_or(1);
            if let Kind::File(content) = &node.kind {
                self.used += content.blocks();
            }
        }
    }
}

fn node(kind: Kind, mode: u32, owner: (u32, u32), name: &OsStr) -> Node {
    Node {
        kind,
        mode: mode & 0o7777,
        owner,
        links: 1,
        modified: SystemTime::now(),
        name: name.to_owned(),
    }
}
