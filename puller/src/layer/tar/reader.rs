//! The entries of an archive, one after the other, with every byte that is not file content kept,
//! so that the identical archive can be written again.

use std::io::BufRead;

use super::error::{TarError, TarFault};
use super::header::{self, Header};
use super::pax::{self, Extended};
use super::sparse::{self, MapLines, PaxMap, Segment};
use super::{BLOCK, Time};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    Character { major: u32, minor: u32 },
    Block { major: u32, minor: u32 },
}

/// One entry with its extensions applied. Names are as written: not cleaned, possibly hostile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// The file's size, holes included.
    pub(crate) size: u64,
    /// Which parts of a sparse file are stored.
    pub(crate) sparse: Option<Vec<Segment>>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Bounds on what the reader takes into memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderLimits {
    pub(crate) entries: u64,
    /// Bytes of one name or link target.
    pub(crate) path: u64,
    /// Bytes of one PAX header.
    pub(crate) pax: u64,
    /// Segments of one sparse map.
    pub(crate) segments: u64,
}

/// Reads an archive. After [`TarReader::next`] has given an entry, [`TarReader::content`] gives the
/// bytes stored for it; after the last entry, what follows the archive's end.
pub(crate) struct TarReader<R> {
    input: R,
    limits: ReaderLimits,
    globals: Extended,
    /// What was read since the last [`TarReader::clear_raw`], content apart.
    raw: Vec<u8>,
    offset: u64,
    entries: u64,
    /// Content still to come, and the zeros after it.
    content: u64,
    padding: usize,
    ended: bool,
}

/// Extension headers that wait for their entry.
#[derive(Default)]
struct Pending {
    extended: Option<Extended>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.extended.is_none() && self.path.is_none() && self.link.is_none()
    }
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(input: R, limits: ReaderLimits) -> Self {
        Self {
            input,
            limits,
            globals: Extended::default(),
            raw: Vec::new(),
            offset: 0,
            entries: 0,
            content: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Headers, padding and end marks read since the last [`TarReader::clear_raw`].
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    pub(crate) fn clear_raw(&mut self) {
        self.raw.clear();
    }

    /// How many entries there were.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Goes to the next entry; content that was not read is skipped. `None` at the archive's end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        self.finish_content()?;
        let mut pending = Pending::default();
        while !self.ended {
            let Some(block) = self.block("a header")? else {
                self.ended = true;
                break;
            };
            if is_zero(&block) {
                self.end_mark()?;
                break;
            }
            let header = Header::parse(&block).map_err(|fault| self.fault(fault))?;
            match header.type_flag() {
                b'x' => {
                    let bytes = self.extension(&header, self.limits.pax, "bytes of PAX header")?;
                    let extended = pax::local(&bytes).map_err(|fault| self.fault(fault))?;
                    self.once(&mut pending.extended, extended, "PAX headers")?;
                }
                b'g' => {
                    if !pending.is_empty() {
                        return Err(self.fault(TarFault::Dangling));
                    }
                    let bytes = self.extension(&header, self.limits.pax, "bytes of PAX header")?;
                    pax::add_global(&mut self.globals, &bytes)
                        .map_err(|fault| self.fault(fault))?;
                }
                b'L' => {
                    let name = self.long_name(&header)?;
                    self.once(&mut pending.path, name, "GNU long names")?;
                }
                b'K' => {
                    let name = self.long_name(&header)?;
                    self.once(&mut pending.link, name, "GNU long links")?;
                }
                _ => return self.entry(&header, pending).map(Some),
            }
        }
        if pending.is_empty() {
            Ok(None)
        } else {
            Err(self.fault(TarFault::Dangling))
        }
    }

    /// The next stored bytes of the entry, or of what follows the archive's end; empty at their end.
    pub(crate) fn content(&mut self) -> Result<&[u8], TarError> {
        if self.content == 0 && !self.ended {
            return Ok(&[]);
        }
        let offset = self.offset;
        let buffer = self.input.fill_buf().map_err(TarError::Read)?;
        if self.ended {
            return Ok(buffer);
        }
        if buffer.is_empty() {
            let fault = TarFault::Truncated("a file");
            return Err(TarError::Malformed { offset, fault });
        }
        let length =
            usize::try_from(self.content).map_or(buffer.len(), |all| all.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// Marks bytes given by [`TarReader::content`] as read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.offset += count as u64;
        if !self.ended {
            self.content -= count as u64;
        }
    }

    fn fault(&self, fault: TarFault) -> TarError {
        let offset = self.offset;
        TarError::Malformed { offset, fault }
    }

    fn once<T>(&self, slot: &mut Option<T>, value: T, what: &'static str) -> Result<(), TarError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(self.fault(TarFault::Twice(what))),
        }
    }

    fn finish_content(&mut self) -> Result<(), TarError> {
        while !self.ended && self.content > 0 {
            let count = self.content()?.len();
            self.consume(count);
        }
        let padding = std::mem::take(&mut self.padding);
        self.keep(padding, "a file's padding")
    }

    /// Reads exactly `count` bytes to the end of `raw`.
    fn keep(&mut self, mut count: usize, what: &'static str) -> Result<(), TarError> {
        // Headers without an end would fill the memory: no honest entry comes near this.
        let limits = self.limits;
        let limit = (limits.pax.saturating_add(limits.path).saturating_mul(4))
            .saturating_add(limits.segments.saturating_mul(24))
            .saturating_add(1 << 16);
        if self.raw.len() as u64 + count as u64 > limit {
            let what = "bytes of headers before an entry";
            return Err(TarError::Limit { what, limit });
        }
        while count > 0 {
            let buffer = self.input.fill_buf().map_err(TarError::Read)?;
            if buffer.is_empty() {
                return Err(self.fault(TarFault::Truncated(what)));
            }
            let length = count.min(buffer.len());
            self.raw.extend_from_slice(&buffer[..length]);
            self.input.consume(length);
            self.offset += length as u64;
            count -= length;
        }
        Ok(())
    }

    /// The next block; `None` when the archive ends exactly before it.
    fn block(&mut self, what: &'static str) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.input.fill_buf().map_err(TarError::Read)?.is_empty() {
            return Ok(None);
        }
        let start = self.raw.len();
        self.keep(BLOCK, what)?;
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.raw[start..]);
        Ok(Some(block))
    }

    fn more_blocks(&mut self, what: &'static str) -> Result<[u8; BLOCK], TarError> {
        let block = self.block(what)?;
        block.ok_or_else(|| self.fault(TarFault::Truncated(what)))
    }

    /// After a block of zeros comes another one, or nothing at all.
    fn end_mark(&mut self) -> Result<(), TarError> {
        match self.block("the end mark")? {
            Some(block) if !is_zero(&block) => Err(self.fault(TarFault::LoneZeroBlock)),
            _ => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// The content of an extension header.
    fn extension(
        &mut self,
        header: &Header,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, TarError> {
        let size = header.size().map_err(|fault| self.fault(fault))?;
        if size > limit {
            return Err(TarError::Limit { what, limit });
        }
        let (start, size) = (self.raw.len(), size as usize);
        self.keep(size.next_multiple_of(BLOCK), "an extension header")?;
        Ok(self.raw[start..start + size].to_vec())
    }

    /// A GNU long name ends at its NUL.
    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let mut name =
            self.extension(header, self.limits.path.saturating_add(1), "bytes of name")?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            if name[end..].iter().any(|byte| *byte != 0) {
                return Err(self.fault(TarFault::Nul));
            }
            name.truncate(end);
        }
        Ok(name)
    }

    fn entry(&mut self, header: &Header, pending: Pending) -> Result<Entry, TarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let (what, limit) = ("entries", self.limits.entries);
            return Err(TarError::Limit { what, limit });
        }
        let mut entry = describe(header, pending.extended.as_ref(), &self.globals)
            .map_err(|fault| self.fault(fault))?;
        let flag = header.type_flag();
        let extended = pending.extended.unwrap_or_default();

        let sparse_name = extended.sparse.name.clone();
        let path = sparse_name.or(extended.path);
        if let Some(path) = self.agreed(path, pending.path, "name")? {
            entry.path = path;
        }
        if let Some(link) = self.agreed(extended.link, pending.link, "link")? {
            entry.link = link;
        }
        // Version 7 had no type for directories: their names end in a slash.
        if flag == 0 && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        if entry.path.is_empty() {
            return Err(self.fault(TarFault::NoName));
        }
        let longest = entry.path.len().max(entry.link.len()) as u64;
        if longest > self.limits.path {
            let (what, limit) = ("bytes of name", self.limits.path);
            return Err(TarError::Limit { what, limit });
        }

        let stored = match extended.size {
            Some(size) => size,
            None => header.size().map_err(|fault| self.fault(fault))?,
        };
        match entry.kind {
            Kind::File => {
                self.content = stored;
                self.padding = (stored.wrapping_neg() % BLOCK as u64) as usize;
                self.sparse(header, &extended.sparse, &mut entry)?;
            }
            // Some writers repeat the file's size in its hard links; no tool reads content there. But
            // some skip as much as a PAX record says.
            Kind::HardLink if extended.size.unwrap_or(0) == 0 => {}
            _ if stored != 0 => return Err(self.fault(TarFault::SizeWithoutContent(flag))),
            _ => {}
        }
        if entry.kind != Kind::File && extended.sparse != Default::default() {
            return Err(self.fault(TarFault::Sparse("belongs to no file")));
        }
        Ok(entry)
    }

    /// What PAX and GNU say about a name; both may speak only if they agree.
    fn agreed(
        &self,
        pax: Option<Vec<u8>>,
        gnu: Option<Vec<u8>>,
        what: &'static str,
    ) -> Result<Option<Vec<u8>>, TarError> {
        match (pax, gnu) {
            (Some(pax), Some(gnu)) if pax != gnu => Err(self.fault(TarFault::Contradiction(what))),
            (pax, gnu) => Ok(pax.or(gnu)),
        }
    }

    /// Sets the size of a file, and finds the map of a sparse one.
    fn sparse(
        &mut self,
        header: &Header,
        extended: &sparse::PaxSparse,
        entry: &mut Entry,
    ) -> Result<(), TarError> {
        let old = header.type_flag() == b'S';
        let map = extended.map().map_err(|fault| self.fault(fault))?;
        let segments = match map {
            PaxMap::None if !old => {
                entry.size = self.content;
                return Ok(());
            }
            PaxMap::None => {
                entry.size = header.real_size().map_err(|fault| self.fault(fault))?;
                self.old_map(header)?
            }
            _ if old => return Err(self.fault(TarFault::Contradiction("sparse map"))),
            PaxMap::Header(segments) => segments,
            PaxMap::Content => self.map_in_content()?,
        };
        if !old {
            entry.size = extended.real_size().map_err(|fault| self.fault(fault))?;
        }
        if segments.len() as u64 > self.limits.segments {
            let (what, limit) = ("segments in a sparse file", self.limits.segments);
            return Err(TarError::Limit { what, limit });
        }
        sparse::check(&segments, entry.size, self.content).map_err(|fault| self.fault(fault))?;
        entry.sparse = Some(segments);
        Ok(())
    }

    fn old_map(&mut self, header: &Header) -> Result<Vec<Segment>, TarError> {
        if !header.is_gnu() {
            return Err(self.fault(TarFault::Type(b'S')));
        }
        let (mut segments, mut more) = header.sparse().map_err(|fault| self.fault(fault))?;
        while more {
            let block = self.more_blocks("a sparse map")?;
            let (next, goes_on) =
                header::sparse_extension(&block).map_err(|fault| self.fault(fault))?;
            segments.extend(next);
            more = goes_on;
        }
        Ok(segments)
    }

    /// Version 1.0 keeps the map in whole blocks before the content.
    fn map_in_content(&mut self) -> Result<Vec<Segment>, TarError> {
        let mut lines = MapLines::default();
        loop {
            if self.content < BLOCK as u64 {
                return Err(self.fault(TarFault::Sparse("ends in the middle")));
            }
            let block = self.more_blocks("a sparse map")?;
            self.content -= BLOCK as u64;
            let complete = lines
                .block(&block, self.limits.segments)
                .map_err(|fault| self.fault(fault))?;
            if complete {
                return Ok(lines.segments());
            }
        }
    }
}

/// Type and metadata; names and sizes follow.
fn describe(
    header: &Header,
    local: Option<&Extended>,
    globals: &Extended,
) -> Result<Entry, TarFault> {
    let kind = match header.type_flag() {
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => {
            let (major, minor) = header.device()?;
            Kind::Character { major, minor }
        }
        b'4' => {
            let (major, minor) = header.device()?;
            Kind::Block { major, minor }
        }
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(TarFault::Type(other)),
    };
    // A PAX record takes the place of a field that may not be able to hold the value at all.
    let said = |get: fn(&Extended) -> Option<u32>| local.and_then(get).or(get(globals));
    let mtime = local.and_then(|local| local.mtime).or(globals.mtime);
    Ok(Entry {
        path: header.name(),
        kind,
        link: header.link(),
        mode: header.mode()?,
        uid: said(|from| from.uid).map_or_else(|| header.uid(), Ok)?,
        gid: said(|from| from.gid).map_or_else(|| header.gid(), Ok)?,
        mtime: mtime.map_or_else(|| header.mtime(), Ok)?,
        size: 0,
        sparse: None,
        xattrs: local.map_or_else(Vec::new, |local| local.xattrs.clone()),
    })
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}
