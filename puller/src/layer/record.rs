//! The record of a layer's archive: all of its bytes but the content of files, which is in the tree.
//!
//! Registries and clients name a layer by the digest of its archive, and no two programs write the
//! same archive for the same tree; so pushing a layer whose blob was not kept needs the archive's
//! own headers. The record is a zstd stream: a magic line, then items, numbers as LEB128:
//!
//! | tag | follows | stands for |
//! |---|---|---|
//! | 1 | length, bytes | these bytes |
//! | 2 | path length, path, length | the whole content of the file at this path |
//! | 3 | path length, path, count, (offset, length)… | these segments of the file |
//! | 0 | the archive's size | the end |
//!
//! Paths are relative to `fs/` and without links. Where a later entry replaced a file, or one of its
//! parents, the old one was moved to `kept/NUMBER`, and `kept/index.json` says when.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::tar::Segment;

const MAGIC: &[u8] = b"strata-record-1\n";
/// Headers compress 20-fold at the lowest level already.
const LEVEL: i32 = 1;

/// The record's name in a layer directory.
pub(super) const FILE: &str = "record.zst";

/// The name of the list of [`Kept`].
pub(super) const KEPT_INDEX: &str = "index.json";

/// Something that a later entry replaced: content items before `items` that are at `path` or below
/// it have their files under `kept/NUMBER`, the number being the place in the index.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Escaped, see [`super::meta::escape`].
    pub(super) path: String,
    /// How many content items had been written.
    pub(super) items: u64,
}

/// Writes a record while the archive passes.
pub(super) struct RecordWriter {
    out: zstd::Encoder<'static, BufWriter<File>>,
    size: u64,
    items: u64,
}

impl RecordWriter {
    pub(super) fn create(layer: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create_new(layer.join(FILE))?);
        let mut out = zstd::Encoder::new(file, LEVEL)?;
        out.write_all(MAGIC)?;
        Ok(Self {
            out,
            size: 0,
            items: 0,
        })
    }

    /// How many files' contents were recorded.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Bytes that are nowhere else.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.size += bytes.len() as u64;
        self.out.write_all(&[1])?;
        self.number(bytes.len() as u64)?;
        self.out.write_all(bytes)
    }

    /// The content of a file of `size` bytes, or the stored parts of it.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        size: u64,
        sparse: Option<&[Segment]>,
    ) -> io::Result<()> {
        self.items += 1;
        self.out
            .write_all(&[if sparse.is_some() { 3 } else { 2 }])?;
        self.number(path.len() as u64)?;
        self.out.write_all(path)?;
        let Some(segments) = sparse else {
            self.size += size;
            return self.number(size);
        };
        self.number(segments.len() as u64)?;
        for segment in segments {
            self.size += segment.length;
            self.number(segment.offset)?;
            self.number(segment.length)?;
        }
        Ok(())
    }

    /// Ends the record; the archive's size for comparison.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.out.write_all(&[0])?;
        let size = self.size;
        self.number(size)?;
        self.out.finish()?.flush()?;
        Ok(size)
    }

    fn number(&mut self, mut value: u64) -> io::Result<()> {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = (value & 0x7f) as u8;
            value >>= 7;
            if value > 0 {
                bytes[length] |= 0x80;
            }
            length += 1;
            if value == 0 {
                return self.out.write_all(&bytes[..length]);
            }
        }
    }
}

/// One item of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// So many bytes come next from [`RecordReader::copy`].
    Bytes(u64),
    File {
        path: Vec<u8>,
        size: u64,
    },
    Segments {
        path: Vec<u8>,
        segments: Vec<Segment>,
    },
    /// The archive's size.
    End(u64),
}

/// See [`RecordReader::headers`].
pub(super) struct Headers {
    record: RecordReader,
    /// How many bytes of the record, or zeros, come next.
    bytes: u64,
    zeros: u64,
    ended: bool,
}

const ZEROS: &[u8] = &[0; 64 << 10];

impl BufRead for Headers {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.bytes == 0 && self.zeros == 0 && !self.ended {
            match self.record.next()? {
                Item::Bytes(count) => self.bytes = count,
                Item::File { size, .. } => self.zeros = size,
                Item::Segments { segments, .. } => {
                    let lengths = segments.iter().map(|segment| segment.length);
                    self.zeros = lengths.fold(0, u64::saturating_add);
                }
                Item::End(_) => self.ended = true,
            }
        }
        let up_to = |count: u64, most: usize| usize::try_from(count).unwrap_or(most).min(most);
        if self.bytes == 0 {
            return Ok(&ZEROS[..up_to(self.zeros, ZEROS.len())]);
        }
        let buffer = self.record.input.fill_buf()?;
        if buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&buffer[..up_to(self.bytes, buffer.len())])
    }

    fn consume(&mut self, count: usize) {
        if self.bytes == 0 {
            self.zeros -= count as u64;
        } else {
            self.record.input.consume(count);
            self.bytes -= count as u64;
        }
    }
}

impl Read for Headers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

/// Reads a record again.
pub(super) struct RecordReader {
    input: BufReader<zstd::Decoder<'static, BufReader<File>>>,
}

impl RecordReader {
    pub(super) fn open(layer: &Path) -> io::Result<Self> {
        let decoder = zstd::Decoder::new(File::open(layer.join(FILE))?)?;
        let mut input = BufReader::with_capacity(128 << 10, decoder);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(malformed());
        }
        Ok(Self { input })
    }

    pub(super) fn next(&mut self) -> io::Result<Item> {
        match self.byte()? {
            0 => Ok(Item::End(self.number()?)),
            1 => Ok(Item::Bytes(self.number()?)),
            2 => Ok(Item::File {
                path: self.path()?,
                size: self.number()?,
            }),
            3 => {
                let path = self.path()?;
                let count = self.number()?;
                // Collected one by one: a damaged count runs into the record's end, not out of memory.
                let segments = (0..count)
                    .map(|_| {
                        Ok(Segment {
                            offset: self.number()?,
                            length: self.number()?,
                        })
                    })
                    .collect::<io::Result<_>>()?;
                Ok(Item::Segments { path, segments })
            }
            _ => Err(malformed()),
        }
    }

    /// Passes on the bytes of an [`Item::Bytes`]. The outer error is the record's, the inner one the
    /// writer's.
    pub(super) fn copy(
        &mut self,
        mut count: u64,
        out: &mut dyn Write,
    ) -> io::Result<io::Result<()>> {
        while count > 0 {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let length =
                usize::try_from(count).map_or(buffer.len(), |count| count.min(buffer.len()));
            if let Err(error) = out.write_all(&buffer[..length]) {
                return Ok(Err(error));
            }
            self.input.consume(length);
            count -= length as u64;
        }
        Ok(Ok(()))
    }

    /// The archive without what is in its files: zeros stand there.
    pub(super) fn headers(self) -> Headers {
        Headers {
            record: self,
            bytes: 0,
            zeros: 0,
            ended: false,
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits > u64::MAX >> shift {
                return Err(malformed());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed())
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        // Paths behind links can be longer than the names in the archive, but not without bound.
        let length = self.number()?;
        if length > 1 << 20 {
            return Err(malformed());
        }
        let mut path = vec![0; length as usize];
        self.input.read_exact(&mut path)?;
        Ok(path)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the record is malformed")
}
