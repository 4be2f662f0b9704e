//! Compressed layers, told apart by their first bytes: the media type is only what somebody said.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::error::LayerError;

/// Bytes asked from the source at once.
const INPUT: usize = 256 << 10;

/// What the tap has seen, readable while a decoder owns the tap.
#[derive(Default)]
pub(super) struct Seen {
    bytes: AtomicU64,
    failed: AtomicBool,
}

impl Seen {
    /// Compressed bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Counts what passes, and remembers whether an error was the source's own.
struct Tap<'a, R> {
    inner: R,
    seen: &'a Seen,
}

impl<R: Read> Read for Tap<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                self.seen.bytes.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.seen.failed.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

/// A layer's tar archive, whatever its compression. Reads its source to the end, all members of a
/// gzip stream and all frames of a zstd stream included.
pub(super) struct Inflater<'a, R: Read> {
    stream: Stream<'a, R>,
    seen: &'a Seen,
}

/// The first bytes are put back in front of the others.
type Input<'a, R> = BufReader<Chain<Cursor<Vec<u8>>, Tap<'a, R>>>;

// Few exist, and never in a collection: the size of the largest does not matter.
#[allow(clippy::large_enum_variant)]
enum Stream<'a, R: Read> {
    Gzip(MultiGzDecoder<Input<'a, R>>),
    Zstd(zstd::Decoder<'a, Input<'a, R>>),
    Plain(Input<'a, R>),
}

impl<'a, R: Read> Inflater<'a, R> {
    pub(super) fn new(compressed: R, seen: &'a Seen) -> Result<Self, LayerError> {
        let mut tap = Tap {
            inner: compressed,
            seen,
        };
        let magic = first_bytes(&mut tap).map_err(LayerError::Read)?;
        let input = BufReader::with_capacity(INPUT, Cursor::new(magic.clone()).chain(tap));
        let stream = match magic[..] {
            [0x1f, 0x8b, ..] => Stream::Gzip(MultiGzDecoder::new(input)),
            // A frame, or a skippable one in front of it (RFC 8878, 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let decoder = zstd::Decoder::with_buffer(input).map_err(damaged("zstd"))?;
                Stream::Zstd(decoder)
            }
            _ => Stream::Plain(input),
        };
        Ok(Self { stream, seen })
    }

    /// Fills `buffer` as far as there is something to fill it with: less only at the end.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.seen.failed.load(Ordering::Relaxed) => {
                    return Err(LayerError::Read(error));
                }
                Err(error) => return Err(damaged(self.format())(error)),
            }
        }
        Ok(filled)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Gzip(decoder) => decoder.read(buffer),
            Stream::Zstd(decoder) => decoder.read(buffer),
            Stream::Plain(input) => input.read(buffer),
        }
    }

    fn format(&self) -> &'static str {
        match self.stream {
            Stream::Gzip(_) => "gzip",
            Stream::Zstd(_) => "zstd",
            Stream::Plain(_) => "plain",
        }
    }
}

fn damaged(format: &'static str) -> impl FnOnce(io::Error) -> LayerError {
    move |source| LayerError::Compression { format, source }
}

/// The first four bytes; fewer only when there are no more. A source may give them one at a time.
fn first_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(4);
    input.take(4).read_to_end(&mut magic)?;
    Ok(magic)
}
