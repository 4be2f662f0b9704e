//! Compressed layers, told apart by their first bytes: the media type is only what somebody said.
//!
//! xz and bzip2 are what no media type names and podman takes all the same. Memory is bounded whatever a stream asks
//! for: by the library for zstd (a window of 128 MiB, `zstd --long=27`), by [`XZ_MEMORY`] for xz.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::XzReader;

use super::error::LayerError;
use crate::inflate::{Compressed, MAGIC, XZ_MEMORY};

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
    Gzip(Gzip<Input<'a, R>>),
    Zstd(zstd::Decoder<'a, Input<'a, R>>),
    Xz(Box<XzReader<Input<'a, R>>>),
    Bzip2(MultiBzDecoder<Input<'a, R>>),
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
        let stream = match Compressed::of(&magic).map_err(LayerError::Format)? {
            Some(Compressed::Gzip) => Stream::Gzip(Gzip::new(input)),
            Some(Compressed::Zstd) => {
                let decoder = zstd::Decoder::with_buffer(input).map_err(damaged("zstd"))?;
                Stream::Zstd(decoder)
            }
            Some(Compressed::Xz) => {
                let decoder = XzReader::new_mem_limit(input, true, XZ_MEMORY);
                Stream::Xz(Box::new(decoder))
            }
            Some(Compressed::Bzip2) => Stream::Bzip2(MultiBzDecoder::new(input)),
            None => Stream::Plain(input),
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
            Stream::Xz(decoder) => decoder.read(buffer),
            Stream::Bzip2(decoder) => decoder.read(buffer),
            Stream::Plain(input) => input.read(buffer),
        }
    }

    fn format(&self) -> &'static str {
        match self.stream {
            Stream::Gzip(_) => Compressed::Gzip.name(),
            Stream::Zstd(_) => Compressed::Zstd.name(),
            Stream::Xz(_) => Compressed::Xz.name(),
            Stream::Bzip2(_) => Compressed::Bzip2.name(),
            Stream::Plain(_) => "plain",
        }
    }
}

fn damaged(format: &'static str) -> impl FnOnce(io::Error) -> LayerError {
    move |source| match asks_for_too_much(format, &source) {
        true => LayerError::Memory { format, source },
        false => LayerError::Compression { format, source },
    }
}

/// Whether the decoder refused to get the memory that the stream asks for. The libraries say so in words alone.
fn asks_for_too_much(format: &str, error: &io::Error) -> bool {
    match format {
        // ZSTD_error_frameParameter_windowTooLarge.
        "zstd" => error.to_string().contains("too much memory"),
        "xz" => error.kind() == io::ErrorKind::OutOfMemory,
        _ => false,
    }
}

/// As many bytes as the longest sign of a format has; fewer only when there are no more. A source may give them one at
/// a time.
fn first_bytes(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut magic = Vec::with_capacity(MAGIC);
    input.take(MAGIC as u64).read_to_end(&mut magic)?;
    Ok(magic)
}

/// The bits of a gzip window: 32 KiB, which is all that the format allows (RFC 1952).
const WINDOW: u8 = 15;

/// A gzip stream of any number of members. Headers and checksums are left to the library, which sums
/// what it has just written while it is still in the cache.
struct Gzip<B> {
    input: B,
    member: Decompress,
    /// Whether the last member is complete.
    complete: bool,
}

impl<B: BufRead> Gzip<B> {
    fn new(input: B) -> Self {
        Self {
            input,
            member: Decompress::new_gzip(WINDOW),
            complete: false,
        }
    }
}

impl<B: BufRead> Read for Gzip<B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            if self.complete {
                if at_end {
                    return Ok(0);
                }
                self.member = Decompress::new_gzip(WINDOW);
                self.complete = false;
            }
            let before = (self.member.total_in(), self.member.total_out());
            let status = self
                .member
                .decompress(input, buffer, FlushDecompress::None)?;
            let taken = (self.member.total_in() - before.0) as usize;
            let given = (self.member.total_out() - before.1) as usize;
            self.input.consume(taken);
            self.complete = status == Status::StreamEnd;
            if given > 0 || buffer.is_empty() {
                return Ok(given);
            }
            if !self.complete && (at_end || taken == 0) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Gives its bytes a few at a time, and then fails if it is told to.
    struct Trickle<'a>(&'a [u8], usize, bool);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() && self.2 {
                return Err(io::Error::other("the network went away"));
            }
            let count = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(count);
            buffer[..count].copy_from_slice(now);
            self.0 = later;
            Ok(count)
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("in memory");
        out.finish().expect("in memory")
    }

    fn inflate(bytes: &[u8], step: usize, fail: bool) -> Result<Vec<u8>, LayerError> {
        let seen = Seen::default();
        let mut inflater = Inflater::new(Trickle(bytes, step, fail), &seen)?;
        let mut out = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            let count = inflater.fill(&mut buffer)?;
            out.extend_from_slice(&buffer[..count]);
            if count < buffer.len() {
                assert_eq!(seen.bytes(), bytes.len() as u64, "read to the end");
                return Ok(out);
            }
        }
    }

    fn content() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| (n * n).to_le_bytes()).collect()
    }

    #[test]
    fn every_compression_is_recognised_by_its_first_bytes() {
        let content = content();
        let zstd = zstd::encode_all(content.as_slice(), 1).expect("in memory");
        for step in [1, 3, 70_000] {
            for bytes in [&content, &gzip(&content), &zstd] {
                assert_eq!(inflate(bytes, step, false).expect("sound"), content);
            }
        }
        assert!(inflate(b"", 1, false).expect("nothing").is_empty());
        assert_eq!(inflate(b"ab", 1, false).expect("short"), b"ab");
    }

    #[test]
    fn all_members_and_frames_count() {
        let content = content();
        let (one, two) = content.split_at(12_345);
        let members = [gzip(one), gzip(b""), gzip(two)].concat();
        assert_eq!(inflate(&members, 4096, false).expect("sound"), content);
        let frame = |bytes| zstd::encode_all(bytes, 1).expect("in memory");
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        let frames = [skippable.clone(), frame(one), skippable, frame(two)].concat();
        assert_eq!(inflate(&frames, 4096, false).expect("sound"), content);
    }

    #[test]
    fn damage_and_a_failing_source_are_told_apart() {
        for bytes in [
            gzip(&content()),
            zstd::encode_all(content().as_slice(), 1).expect("in memory"),
        ] {
            let cut = &bytes[..bytes.len() - 5];
            let damaged = |result| matches!(result, Err(LayerError::Compression { .. }));
            assert!(damaged(inflate(cut, 4096, false)));
            assert!(damaged(inflate(
                &[&bytes, &b"garbage"[..]].concat(),
                4096,
                false
            )));
            let failing = inflate(cut, 4096, true);
            assert!(matches!(failing, Err(LayerError::Read(_))));
        }
        // The checksum of a gzip stream finds what still inflates.
        let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        stored.write_all(&content()).expect("in memory");
        let mut flipped = stored.finish().expect("in memory");
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        let result = inflate(&flipped, 4096, false);
        assert!(matches!(result, Err(LayerError::Compression { .. })));
    }
}
