//! The identical archive again, from the record and the tree.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::LayerError;
use super::meta::unescape;
use super::name;
use super::record::{self, Item, Kept, RecordReader};
use super::tree::{self, KEPT};

/// Bytes read and written at once.
const BUFFER: usize = 256 << 10;

/// Writes the archive of the layer unpacked in `dir`, byte for byte as it was. The caller hashes what
/// is written: a file that was changed without changing its length shows in the digest alone.
pub fn rebuild(dir: &Path, out: &mut dyn Write) -> Result<(), LayerError> {
    rebuild_past(dir, out, &mut Err)
}

/// The same, but what cannot be read of a file's content is told to `fault`, which may let it pass: then there are zeros
/// in its place, and all other bytes are where they were.
pub(super) fn rebuild_past(
    dir: &Path,
    out: &mut dyn Write,
    fault: &mut dyn FnMut(LayerError) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let record_path = dir.join(record::FILE);
    let mut record = RecordReader::open(dir).map_err(LayerError::io("read", &record_path))?;
    let mut contents = Contents::open(dir)?;
    let mut buffer = vec![0; BUFFER];
    let mut written = 0u64;
    loop {
        match record
            .next()
            .map_err(LayerError::io("read", &record_path))?
        {
            Item::Bytes(count) => {
                record
                    .copy(count, out)
                    .map_err(LayerError::io("read", &record_path))?
                    .map_err(writing(dir))?;
                written = written.saturating_add(count);
            }
            Item::File { path, size } => {
                let mut left = size;
                let copied = contents
                    .next(&path)
                    .and_then(|file| copy(dir, &path, file, &mut left, &mut buffer, out));
                fill(copied, left, &mut buffer, dir, out, fault)?;
                written = written.saturating_add(size);
            }
            Item::Segments { path, segments } => {
                let mut left = segments.iter().map(|segment| segment.length).sum();
                written = written.saturating_add(left);
                let copied = contents.next(&path).and_then(|mut file| {
                    for segment in segments {
                        file.seek(SeekFrom::Start(segment.offset))
                            .map_err(reading(dir, &path))?;
                        let mut length = segment.length;
                        let copied = copy(dir, &path, &file, &mut length, &mut buffer, out);
                        left -= segment.length - length;
                        copied?;
                    }
                    Ok(())
                });
                fill(copied, left, &mut buffer, dir, out, fault)?;
            }
            Item::End(size) if size == written => return out.flush().map_err(writing(dir)),
            Item::End(_) => {
                let what = "its record does not add up".into();
                return Err(LayerError::Damaged {
                    path: dir.to_owned(),
                    what,
                });
            }
        }
    }
}

fn writing(dir: &Path) -> impl FnOnce(io::Error) -> LayerError {
    LayerError::io("write the archive of", dir)
}

fn reading<E: Into<io::Error>>(dir: &Path, path: &[u8]) -> impl FnOnce(E) -> LayerError {
    let what = String::from_utf8_lossy(path).into_owned();
    let path = dir.to_owned();
    move |error| LayerError::Damaged {
        path,
        what: format!("{what}: {}", error.into()),
    }
}

/// Puts zeros where nothing could be read, if that may be.
fn fill(
    copied: Result<(), LayerError>,
    mut left: u64,
    buffer: &mut [u8],
    dir: &Path,
    out: &mut dyn Write,
    fault: &mut dyn FnMut(LayerError) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    match copied {
        Err(error @ LayerError::Damaged { .. }) => fault(error)?,
        other => return other,
    }
    buffer.fill(0);
    while left > 0 {
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        out.write_all(&buffer[..count]).map_err(writing(dir))?;
        left -= count as u64;
    }
    Ok(())
}

/// Passes on exactly `left` bytes, and says how many are missing when it fails.
fn copy(
    dir: &Path,
    path: &[u8],
    mut file: impl Read,
    left: &mut u64,
    buffer: &mut [u8],
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    while *left > 0 {
        let want = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = match file.read(&mut buffer[..want]) {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(reading(dir, path)(error));
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(reading(dir, path)(error)),
        };
        out.write_all(&buffer[..count]).map_err(writing(dir))?;
        *left -= count as u64;
    }
    Ok(())
}

/// Where the contents of files are now.
struct Contents<'a> {
    dir: &'a Path,
    root: OwnedFd,
    /// What was replaced, by path: content items written before, and its number, both ascending.
    kept: HashMap<Vec<u8>, Vec<(u64, usize)>>,
    items: u64,
}

impl<'a> Contents<'a> {
    fn open(dir: &'a Path) -> Result<Self, LayerError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(dir, flags, Mode::empty()).map_err(LayerError::io("open", dir))?;
        let index = dir.join(KEPT).join(record::KEPT_INDEX);
        let kept: Vec<Kept> = match fs::read(&index) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| LayerError::Damaged {
                path: dir.to_owned(),
                what: format!("{}: {error}", record::KEPT_INDEX),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(LayerError::io("read", &index)(error)),
        };
        let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
        for (number, kept) in kept.iter().enumerate() {
            let all = by_path.entry(unescape(&kept.path)).or_default();
            all.push((kept.items, number));
        }
        Ok(Self {
            dir,
            root,
            kept: by_path,
            items: 0,
        })
    }

    /// Opens the content of the next item, whose path was `path` when it was recorded.
    fn next(&mut self, path: &[u8]) -> Result<File, LayerError> {
        let item = self.items;
        self.items += 1;
        // The first replacement after it is where it went: afterwards nothing moves any more.
        let gone = name::ancestors(path).filter_map(|above| {
            let all = self.kept.get(above)?;
            let next = all.partition_point(|(items, _)| *items <= item);
            all.get(next).map(|(_, number)| (*number, above.len()))
        });
        let real = match gone.min() {
            Some((number, above)) => {
                [format!("{KEPT}/{number}").as_bytes(), &path[above..]].concat()
            }
            None => [b"fs/", path].concat(),
        };
        let open = || -> Result<File, Errno> {
            let file = tree::open(&self.root, &real, OFlags::RDONLY | OFlags::NONBLOCK)?;
            Ok(File::from(file))
        };
        open().map_err(reading(self.dir, path))
    }
}
