//! The tree that an archive's headers describe, beside the one on disk.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use super::super::attributes::{Metadata, Xattrs, escaped, is_of_the_machine};
use super::super::meta::escape;
use super::super::model::{Model, Node, What};
use super::super::name;
use super::super::options::{Ownership, UnpackOptions};
use super::super::tar::Time;
use super::super::tree;
use super::Verdict;

/// Tells `verdict` where the tree in `dir` is not that of the model.
pub(super) fn compare(dir: &Path, model: &Model, options: &UnpackOptions, verdict: &mut Verdict) {
    let root = match rustix::fs::open(
        dir.join("fs"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) {
        Ok(root) => root,
        Err(error) => return verdict.problem(|| format!("fs cannot be opened: {error}")),
    };
    let mut comparison = Comparison {
        root,
        model,
        options,
        inodes: HashMap::new(),
        verdict,
    };
    for (path, children) in model.directories() {
        comparison.directory(path, &children);
    }
}

struct Comparison<'a> {
    root: OwnedFd,
    model: &'a Model,
    options: &'a UnpackOptions,
    /// Which inode a node of several names has.
    inodes: HashMap<usize, u64>,
    verdict: &'a mut Verdict,
}

impl Comparison<'_> {
    fn directory(&mut self, path: &[u8], children: &BTreeMap<&[u8], usize>) {
        let shown = || shown(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match tree::open(&self.root, path, flags) {
            Ok(directory) => directory,
            // That it is missing, or another thing, was told by the directory above.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => return,
            Err(error) => {
                return self
                    .verdict
                    .problem(|| format!("{} cannot be opened: {error}", shown()));
            }
        };
        if path.is_empty() {
            let stat = rustix::fs::fstat(&directory);
            if let Ok(stat) = stat {
                let own = Place::of(&directory, b".");
                self.node(path, own, &stat, self.model.root());
            }
        }
        let listed = Dir::read_from(&directory).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
                .collect::<Result<Vec<_>, Errno>>()
        });
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                return self
                    .verdict
                    .problem(|| format!("{} cannot be listed: {error}", shown()));
            }
        };
        let mut seen = 0;
        for name in &listed {
            seen += usize::from(self.child(path, &directory, name, children));
        }
        if seen < children.len() {
            for name in children.keys() {
                if !listed.iter().any(|listed| listed.to_bytes() == *name) {
                    self.verdict
                        .problem(|| format!("{} is missing", self::shown(&name::join(path, name))));
                }
            }
        }
    }

    /// Whether the name has to be there.
    fn child(
        &mut self,
        parent: &[u8],
        directory: &OwnedFd,
        name: &CStr,
        children: &BTreeMap<&[u8], usize>,
    ) -> bool {
        let name = name.to_bytes();
        if name == b"." || name == b".." {
            return false;
        }
        let path = name::join(parent, name);
        let Some(number) = children.get(name).copied() else {
            self.verdict
                .problem(|| format!("{} is not of the layer", shown(&path)));
            return false;
        };
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => {
                self.verdict
                    .problem(|| format!("{} cannot be looked at: {error}", shown(&path)));
                return true;
            }
        };
        let node = self.model.node(number);
        if !matches!(node.what, What::Directory { .. }) {
            let inode = *self.inodes.entry(number).or_insert(stat.st_ino);
            if inode != stat.st_ino {
                self.verdict
                    .problem(|| format!("{} is no link of the same file any more", shown(&path)));
            }
        }
        self.node(&path, Place::of(directory, name), &stat, node);
        true
    }

    fn node(&mut self, path: &[u8], place: Place, stat: &Stat, node: &Node) {
        let found = what(place, stat);
        let same = match (&node.what, &found) {
            (What::Directory { .. }, What::Directory { .. }) => true,
            (wanted, found) => wanted == found,
        };
        if !same {
            let wanted = &node.what;
            self.verdict
                .problem(|| format!("{} is {}, not {}", shown(path), word(&found), word(wanted)));
            return;
        }
        if node.what == What::Whiteout {
            return;
        }
        let Metadata {
            mode,
            uid,
            gid,
            mtime,
            ..
        } = node.metadata;
        let is_link = matches!(node.what, What::Symlink(_));
        let has = stat.st_mode & 0o7777;
        let mode = mode & 0o7777;
        // Set last, the ACL has the last word, where it could be set.
        let acl = node.metadata.acl_mode().map(|acl| mode & 0o7000 | acl);
        if !is_link && has != mode && Some(has) != acl {
            self.verdict
                .problem(|| format!("{} has mode {has:04o}, not {mode:04o}", shown(path)));
        }
        let owner = (stat.st_uid, stat.st_gid);
        let wanted = self.options.ownership.of(uid, gid);
        // Unpacked before ids were granted, all is root's.
        let earlier = self.options.ownership != Ownership::Keep && owner == (0, 0);
        if wanted.is_some_and(|wanted| owner != wanted) && !earlier {
            let (u, g) = owner;
            self.verdict
                .problem(|| format!("{} belongs to {u}:{g}, not {uid}:{gid}", shown(path)));
        }
        // Beyond these years a file system keeps another time than it was given.
        let kept = i32::try_from(mtime.seconds).is_ok();
        let found = Time {
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        if kept && !is_kept_as(mtime, found) {
            self.verdict.problem(|| {
                let (has, wanted) = (moment(found), moment(mtime));
                format!("{} was changed at {has}, not {wanted}", shown(path))
            });
        }
        self.xattrs(path, place, node);
    }

    fn xattrs(&mut self, path: &[u8], place: Place, node: &Node) {
        let found = match place.xattrs() {
            Ok(found) => found,
            // A file system without attributes: the extractor may have had to leave them out.
            Err(Errno::NOTSUP) => return,
            Err(error) => {
                return self
                    .verdict
                    .problem(|| format!("the attributes of {}: {error}", shown(path)));
            }
        };
        let namespace = self.options.xattrs;
        let mut wanted: Xattrs = Vec::new();
        for (name, value) in &node.metadata.xattrs {
            let name = escaped(namespace, name).into_owned();
            // The last of the same name counts.
            wanted.retain(|(other, _)| *other != name);
            wanted.push((name, value.clone()));
        }
        if node.what == (What::Directory { opaque: true }) {
            wanted.retain(|(name, _)| name != namespace.opaque());
            wanted.push((namespace.opaque().to_vec(), b"y".to_vec()));
        }
        let plain = matches!(node.what, What::File(_) | What::Directory { .. });
        let ours = |name: &[u8]| {
            if is_of_the_machine(name) {
                return false;
            }
            let spaces: [&[u8]; 4] = [b"user.", b"trusted.", b"system.", b"security.capability"];
            spaces.iter().any(|space| name.starts_with(space))
        };
        for (name, value) in wanted.iter().filter(|(name, _)| ours(name)) {
            let has = found.iter().find(|(other, _)| other == name);
            let may_lack = self.options.ownership != Ownership::Keep && name != namespace.opaque()
                || name.starts_with(b"user.") && !plain
                || name.starts_with(b"system.");
            let right = match has {
                Some((_, has)) => has == value,
                None => may_lack,
            };
            if !right {
                let name = String::from_utf8_lossy(name).into_owned();
                let what = if has.is_some() { "changed" } else { "missing" };
                self.verdict
                    .problem(|| format!("{}: attribute {name} is {what}", shown(path)));
            }
        }
        // Layers that were unpacked by earlier versions lack it.
        let holds_whiteouts = |name: &[u8], value: &[u8]| {
            name == namespace.origin() && value.is_empty() && self.model.holds_whiteouts(path)
        };
        for (name, value) in found.iter().filter(|(name, _)| ours(name)) {
            if holds_whiteouts(name, value) {
                continue;
            }
            if !wanted.iter().any(|(other, _)| other == name) {
                let name = String::from_utf8_lossy(name).into_owned();
                self.verdict
                    .problem(|| format!("{}: attribute {name} is not of the layer", shown(path)));
            }
        }
    }
}

/// A name in an open directory.
#[derive(Clone, Copy)]
pub(in crate::layer) struct Place<'a> {
    directory: BorrowedFd<'a>,
    name: &'a [u8],
}

impl<'a> Place<'a> {
    pub(in crate::layer) fn of(directory: &'a OwnedFd, name: &'a [u8]) -> Self {
        use std::os::fd::AsFd as _;
        let directory = directory.as_fd();
        Self { directory, name }
    }

    /// A path for calls that know no directory descriptors: the last part is not followed.
    fn path(self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name);
        path
    }

    /// All attributes.
    pub(in crate::layer) fn xattrs(self) -> Result<Xattrs, Errno> {
        let path = self.path();
        // Most have none: that costs one call.
        let mut short = [0u8; 64];
        if rustix::fs::llistxattr(path.as_slice(), &mut short) == Ok(0) {
            return Ok(Vec::new());
        }
        // xattr(7): neither a list nor a value can be longer.
        let mut buffer = vec![0; 1 << 16];
        let length = rustix::fs::llistxattr(path.as_slice(), &mut buffer)?;
        let names = buffer[..length].to_vec();
        let names = names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty());
        names
            .map(|name| {
                let length = rustix::fs::lgetxattr(path.as_slice(), name, &mut buffer)?;
                Ok((name.to_vec(), buffer[..length].to_vec()))
            })
            .collect()
    }
}

fn what(place: Place, stat: &Stat) -> What {
    let (major, minor) = (
        rustix::fs::major(stat.st_rdev),
        rustix::fs::minor(stat.st_rdev),
    );
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => What::Directory { opaque: false },
        FileType::RegularFile => What::File(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(place.directory, place.name, Vec::new());
            What::Symlink(target.map(|t| t.into_bytes()).unwrap_or_default())
        }
        FileType::Fifo => What::Fifo,
        FileType::CharacterDevice if (major, minor) == (0, 0) => What::Whiteout,
        FileType::CharacterDevice => What::Character(major, minor),
        _ => What::Block(major, minor),
    }
}

fn word(what: &What) -> String {
    match what {
        What::Directory { .. } => "a directory".to_owned(),
        What::File(size) => format!("a file of {size} bytes"),
        What::Symlink(target) => format!("a link to {}", shown(target)),
        What::Fifo => "a fifo".to_owned(),
        What::Character(major, minor) => format!("character device {major}:{minor}"),
        What::Block(major, minor) => format!("block device {major}:{minor}"),
        What::Whiteout => "a whiteout".to_owned(),
    }
}

/// A path in a message.
fn shown(path: &[u8]) -> String {
    match path {
        [] => "/".to_owned(),
        path => escape(path).chars().take(200).collect(),
    }
}

/// Whether a file system that was given one time may show the other: some keep fewer digits.
fn is_kept_as(given: Time, found: Time) -> bool {
    let (wanted, has) = (given.nanoseconds, found.nanoseconds);
    let mut grains = (0..=9).map(|digits| 10_u32.pow(digits));
    given.seconds == found.seconds && grains.any(|grain| has == wanted - wanted % grain)
}

fn moment(at: Time) -> String {
    use time::format_description::well_known::Rfc3339;
    let nanoseconds = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanoseconds);
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(nanoseconds);
    let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| at.seconds.to_string())
}
