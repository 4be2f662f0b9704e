//! The entries of a layer become files, in the order in which they come.
//!
//! Whiteouts and the metadata of directories wait until the end (see `finish`): whiteouts only
//! concern lower layers, so their place among the entries must not matter (image-spec, layer.md,
//! "Whiteouts"), and a directory's time changes while files are made in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Metadata, Thread};
use super::confine;
use super::error::{LayerError, Refusal};
use super::large;
use super::meta::{escape, write_json};
use super::name::{self, Name};
use super::options::{Ownership, UnpackOptions};
use super::record::{self, Kept, RecordWriter};
use super::tar::{Entry, Kind, Segment, TarReader};
use super::tree::{self, Directory, Found, KEPT, Tree};
use super::umask;

/// What was unpacked.
pub(super) struct Extracted {
    pub(super) content_size: u64,
    pub(super) entries: u64,
    /// Directories that no entry names, by path; empty for the root.
    pub(super) implied: BTreeSet<Vec<u8>>,
    /// Bytes of the archive that the record stands for.
    pub(super) recorded: u64,
}

/// Unpacks an archive into `layer/fs` and `layer/record.zst`. To be called on a thread that ends
/// afterwards: it gets a umask and a root of its own, and gives up its rights.
pub(super) fn extract<R: BufRead>(
    archive: R,
    layer: &Path,
    options: &UnpackOptions,
) -> Result<Extracted, LayerError> {
    let mut thread = Thread {
        exact_modes: umask::neutral(),
        own_root: false,
    };
    thread.own_root = confine::to(layer).own_root;
    match thread.own_root {
        true => write(archive, Path::new("/"), options, thread).map_err(|error| error.below(layer)),
        false => write(archive, layer, options, thread),
    }
}

/// Unpacks into a layer by its path as this thread sees it.
fn write<R: BufRead>(
    archive: R,
    layer: &Path,
    options: &UnpackOptions,
    thread: Thread,
) -> Result<Extracted, LayerError> {
    let record_path = layer.join(record::FILE);
    let record = RecordWriter::create(layer).map_err(LayerError::io("write", &record_path))?;
    let mut extractor = Extractor {
        layer,
        options,
        reader: TarReader::new(archive, options.limits.reader()),
        tree: Tree::create(layer, options.limits.names)?,
        record,
        attributes: Attributes::new(options, thread),
        directories: BTreeMap::new(),
        removed: BTreeSet::new(),
        opaque: BTreeSet::new(),
        left_out: BTreeSet::new(),
        kept: Vec::new(),
        content_size: 0,
        gathered: Vec::new(),
    };
    while let Some(entry) = extractor.reader.next()? {
        extractor.record_raw()?;
        extractor.entry(entry)?;
    }
    // What follows the archive's end is part of the layer's digest all the same.
    extractor.record_raw()?;
    extractor.record_content()?;
    extractor.finish()
}

pub(super) struct Extractor<'a, R> {
    layer: &'a Path,
    options: &'a UnpackOptions,
    reader: TarReader<R>,
    pub(super) tree: Tree,
    record: RecordWriter,
    pub(super) attributes: Attributes,
    /// Directories that entries name, by real path.
    pub(super) directories: BTreeMap<Vec<u8>, Metadata>,
    /// Paths that are whited out, and directories whose lower content is.
    pub(super) removed: BTreeSet<Vec<u8>>,
    pub(super) opaque: BTreeSet<Vec<u8>>,
    /// Devices that could not be made, and links to them, by real path.
    left_out: BTreeSet<Vec<u8>>,
    kept: Vec<Kept>,
    content_size: u64,
    /// Room for a file of middle size.
    gathered: Vec<u8>,
}

impl<R: BufRead> Extractor<'_, R> {
    fn entry(&mut self, entry: Entry) -> Result<(), LayerError> {
        let refused = |reason| LayerError::refused(&entry.path, reason);
        match name::classify(&entry.path).map_err(refused)? {
            Name::Plain(path) => self.plain(&path, entry),
            Name::Whiteout(path) => {
                self.tree.hold(&path)?;
                self.removed.insert(path);
                self.record_content()
            }
            Name::Opaque(path) => {
                self.tree.hold(&path)?;
                self.opaque.insert(path);
                self.record_content()
            }
            Name::Ignored => self.record_content(),
        }
    }

    fn plain(&mut self, path: &[u8], entry: Entry) -> Result<(), LayerError> {
        let metadata = Metadata {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
        };
        if entry.kind == Kind::Directory {
            return self.directory(path, metadata);
        }
        if path.is_empty() {
            return Err(LayerError::refused(&entry.path, Refusal::Root));
        }
        match entry.kind {
            Kind::Directory => Ok(()),
            Kind::File => self.file(path, entry.size, entry.sparse.as_deref(), &metadata),
            Kind::HardLink => self.hard_link(path, &entry.link),
            Kind::Symlink => self.symlink(path, &entry.link, &metadata),
            Kind::Fifo => self.node(path, FileType::Fifo, 0, 0, &metadata),
            // What overlayfs itself takes for a whiteout, and nothing else could be done with.
            Kind::Character { major: 0, minor: 0 } => {
                self.tree.hold(path)?;
                self.removed.insert(path.to_vec());
                Ok(())
            }
            // No unprivileged user may make devices; podman and docker leave them out too.
            Kind::Character { .. } | Kind::Block { .. }
                if self.options.ownership != Ownership::Keep =>
            {
                self.leave_out(path)
            }
            Kind::Character { major, minor } => {
                self.node(path, FileType::CharacterDevice, major, minor, &metadata)
            }
            Kind::Block { major, minor } => {
                self.node(path, FileType::BlockDevice, major, minor, &metadata)
            }
        }
    }

    /// A directory over a directory merges; over anything else it takes the place.
    fn directory(&mut self, path: &[u8], metadata: Metadata) -> Result<(), LayerError> {
        self.tree.hold(path)?;
        if path.is_empty() {
            self.directories.insert(Vec::new(), metadata);
            return Ok(());
        }
        let failed = |action| LayerError::entry::<Errno>(action, path);
        let parent = self.tree.parent(path)?;
        let last = name::split(path).1;
        let make = || rustix::fs::mkdirat(&parent, last, Mode::RWXU);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = tree::stat(&parent, last).map_err(failed("look"))?;
                if !there.is_some_and(|stat| tree::is_directory(&stat)) {
                    self.displace(&parent, last)?;
                    make().map_err(failed("make the directory"))?;
                }
            }
            Err(error) => return Err(failed("make the directory")(error)),
        }
        let real = name::join(&parent.path, last);
        self.tree.implied.remove(&real);
        self.directories.insert(real, metadata);
        Ok(())
    }

    fn file(
        &mut self,
        path: &[u8],
        size: u64,
        sparse: Option<&[Segment]>,
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        self.content_size = self.content_size.saturating_add(size);
        let limit = self.options.limits.bytes;
        if self.content_size > limit {
            let what = "bytes in files";
            return Err(LayerError::Limit { what, limit });
        }
        let (parent, fd) = self.make(path, "make the file", |parent, last| {
            let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mode = Attributes::first_mode(metadata.mode);
            rustix::fs::openat(parent, last, OFlags::WRONLY | new, mode)
        })?;
        let file = File::from(fd);
        let real = name::join(&parent.path, name::split(path).1);
        if size > 0 {
            self.record
                .file(&real, size, sparse)
                .map_err(LayerError::io("write", &self.layer.join(record::FILE)))?;
        }
        match sparse {
            None if size >= large::FROM && !self.options.holes => {
                large::write(&file, path, size, &mut self.reader)?;
            }
            None if size >= large::MIDDLE && !self.options.holes => {
                let (gathered, reader) = (&mut self.gathered, &mut self.reader);
                large::write_middle(&file, path, size, reader, gathered)?;
            }
            None => self.content(&file, path, size)?,
            Some(segments) => self.segments(&file, path, size, segments)?,
        }
        self.attributes.set(&file, path, metadata, false)
    }

    /// Nothing is preallocated: it gains no time on ext4, and a header may claim any size.
    fn content(&mut self, mut file: &File, path: &[u8], size: u64) -> Result<(), LayerError> {
        let mut ends_in_a_hole = false;
        loop {
            let bytes = self.reader.content()?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len();
            ends_in_a_hole = self.options.holes && is_hole(bytes);
            let written = match ends_in_a_hole {
                true => file.seek(SeekFrom::Current(count as i64)).map(drop),
                false => file.write_all(bytes),
            };
            written.map_err(LayerError::entry("write the content", path))?;
            self.reader.consume(count);
        }
        if ends_in_a_hole {
            file.set_len(size)
                .map_err(LayerError::entry("set the size", path))?;
        }
        Ok(())
    }

    /// The reader has checked that the segments are as long as what is stored.
    fn segments(
        &mut self,
        file: &File,
        path: &[u8],
        size: u64,
        segments: &[Segment],
    ) -> Result<(), LayerError> {
        file.set_len(size)
            .map_err(LayerError::entry("set the size", path))?;
        for segment in segments {
            let (mut offset, mut left) = (segment.offset, segment.length);
            while left > 0 {
                let bytes = self.reader.content()?;
                let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                file.write_all_at(&bytes[..count], offset)
                    .map_err(LayerError::entry("write the content", path))?;
                self.reader.consume(count);
                offset += count as u64;
                left -= count as u64;
            }
        }
        Ok(())
    }

    /// The target keeps its metadata: writers repeat the same in every link.
    fn hard_link(&mut self, path: &[u8], link: &[u8]) -> Result<(), LayerError> {
        let refused = |reason| LayerError::refused(path, reason);
        let target = name::clean(link).map_err(|_| refused(Refusal::LinkEscapes))?;
        let (target_parent, target_last) = name::split(&target);
        let Found::Directory(from) = self.tree.find(target_parent, false)? else {
            return match self.left_out.contains(&target) {
                true => self.leave_out(path),
                false => Err(refused(Refusal::LinkTarget)),
            };
        };
        let there = tree::stat(&from, target_last)
            .map_err(LayerError::entry("look at the link's target", path))?;
        if there.is_none() && self.left_out.contains(&name::join(&from.path, target_last)) {
            return self.leave_out(path);
        }
        let parent = self.tree.parent(path)?;
        let last = name::split(path).1;
        let to = name::join(&parent.path, last);
        // Taking the place of what it links to, or of a directory around it, would be a link to nothing.
        let itself = name::is_within(&name::join(&from.path, target_last), &to);
        let is_file = there.is_some_and(|stat| !tree::is_directory(&stat));
        if target_last.is_empty() || itself || !is_file {
            return Err(refused(Refusal::LinkTarget));
        }
        self.make(path, "make the hard link", |parent, last| {
            rustix::fs::linkat(&from, target_last, parent, last, AtFlags::empty())
        })?;
        Ok(())
    }

    /// Makes nothing at a path, and no parents for it; links to it will be left out too.
    fn leave_out(&mut self, path: &[u8]) -> Result<(), LayerError> {
        let (parent, last) = name::split(path);
        let path = match self.tree.find(parent, false)? {
            Found::Directory(parent) => name::join(&parent.path, last),
            Found::Missing | Found::NotDirectory => path.to_vec(),
        };
        self.tree.hold(&path)?;
        self.left_out.insert(path);
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], link: &[u8], metadata: &Metadata) -> Result<(), LayerError> {
        if link.is_empty() {
            return Err(LayerError::refused(path, Refusal::NoTarget));
        }
        let (parent, ()) = self.make(path, "make the symbolic link", |parent, last| {
            rustix::fs::symlinkat(link, parent, last)
        })?;
        let last = name::split(path).1;
        self.attributes
            .set_at(parent.as_ref(), last, path, metadata, true)
    }

    fn node(
        &mut self,
        path: &[u8],
        kind: FileType,
        major: u32,
        minor: u32,
        metadata: &Metadata,
    ) -> Result<(), LayerError> {
        let (parent, ()) = self.make(path, "make the special file", |parent, last| {
            let mode = Attributes::first_mode(metadata.mode);
            let device = rustix::fs::makedev(major, minor);
            rustix::fs::mknodat(parent, last, kind, mode, device)
        })?;
        let last = name::split(path).1;
        self.attributes
            .set_at(parent.as_ref(), last, path, metadata, false)
    }

    /// Makes something new at a path; what an earlier entry made there goes out of the way.
    fn make<T>(
        &mut self,
        path: &[u8],
        action: &'static str,
        make: impl Fn(&Directory, &[u8]) -> Result<T, Errno>,
    ) -> Result<(Rc<Directory>, T), LayerError> {
        let parent = self.tree.parent(path)?;
        let last = name::split(path).1;
        let made = match make(&parent, last) {
            Err(Errno::EXIST) => {
                self.displace(&parent, last)?;
                make(&parent, last)
            }
            other => other,
        };
        let made = made.map_err(LayerError::entry(action, path))?;
        Ok((parent, made))
    }

    fn displace(&mut self, parent: &Directory, last: &[u8]) -> Result<(), LayerError> {
        let path = name::join(&parent.path, last);
        self.tree.hold(&path)?;
        self.tree.displace(parent, last, self.kept.len())?;
        // Found, not looked for: an archive can replace as much as it likes.
        let below = self.directories.range(name::below(&path));
        let below: Vec<Vec<u8>> = below.map(|(directory, _)| directory.clone()).collect();
        for directory in below.iter().chain([&path]) {
            self.directories.remove(directory);
        }
        self.kept.push(Kept {
            path: escape(&path),
            items: self.record.items(),
        });
        Ok(())
    }

    fn record_raw(&mut self) -> Result<(), LayerError> {
        let written = self.record.bytes(self.reader.raw());
        self.reader.clear_raw();
        written.map_err(LayerError::io("write", &self.layer.join(record::FILE)))
    }

    /// Content that becomes no file is only in the record.
    fn record_content(&mut self) -> Result<(), LayerError> {
        loop {
            let bytes = self.reader.content()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let count = bytes.len();
            self.record
                .bytes(bytes)
                .map_err(LayerError::io("write", &self.layer.join(record::FILE)))?;
            self.reader.consume(count);
        }
    }

    fn finish(mut self) -> Result<Extracted, LayerError> {
        self.white_out()?;
        self.set_directories()?;
        if !self.kept.is_empty() {
            let index = self.layer.join(KEPT).join(record::KEPT_INDEX);
            write_json(&index, &self.kept)?;
        }
        let recorded = self.record.finish();
        let recorded = recorded.map_err(LayerError::io("write", &self.layer.join(record::FILE)))?;
        let mut implied = self.tree.implied;
        if !self.directories.contains_key(&b""[..]) {
            implied.insert(Vec::new());
        }
        Ok(Extracted {
            content_size: self.content_size,
            entries: self.reader.entries(),
            implied,
            recorded,
        })
    }
}

/// Whether bytes of a file are worth a hole: whole pages of nothing but zeros.
fn is_hole(bytes: &[u8]) -> bool {
    const PAGE: [u8; 4096] = [0; 4096];
    bytes.len() >= PAGE.len()
        && bytes
            .chunks(PAGE.len())
            .all(|part| part == &PAGE[..part.len()])
}
