//! Archives that may be compressed as a whole, told apart by their first bytes: gzip, zstd, xz and bzip2, which is what
//! `docker load` and `podman load` take.
//!
//! A small file can stand for any number of bytes, and an xz file asks for as much memory as it likes: both are bounded.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::layer::Limits;

/// Memory for the dictionary of an xz file, in KiB: `xz -9` asks for 64 MiB (xz(1), "Memory usage").
pub(crate) const XZ_MEMORY: u32 = 256 << 10;
/// From here on the ratio is looked at: a small archive does no harm by it.
const RATIO_FROM: u64 = 1 << 30;
/// As many bytes as the longest sign of a format has.
pub(crate) const MAGIC: usize = 6;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressed {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// tukaani.org, "The .xz File Format".
    Xz,
    /// sourceware.org, "bzip2 and libbzip2".
    Bzip2,
}

impl Compressed {
    /// The format that a file begins as. An archive that is not compressed begins as none.
    ///
    /// # Errors
    /// lz4, which is a format of no container tool.
    pub fn of(magic: &[u8]) -> io::Result<Option<Self>> {
        Ok(Some(match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one in front of it (RFC 8878, 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0x04, 0x22, 0x4d, 0x18, ..] => {
                let text = "it is compressed by lz4: decompress it first";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            _ => return Ok(None),
        }))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }

    /// The format of a file that can be read from its beginning again.
    ///
    /// # Errors
    /// As [`Compressed::of`], and what the file says.
    pub fn of_file(file: impl Read) -> io::Result<Option<Self>> {
        let mut magic = Vec::with_capacity(MAGIC);
        file.take(MAGIC as u64).read_to_end(&mut magic)?;
        Self::of(&magic)
    }
}

/// What is in a stream, decompressed.
pub(crate) struct Inflated<'a> {
    plain: Box<dyn Read + Send + 'a>,
    /// How it is compressed, if it is.
    pub(crate) compressed: Option<Compressed>,
    taken: Arc<AtomicU64>,
    given: u64,
}

/// Looks at the first bytes of a stream.
///
/// # Errors
/// As [`Compressed::of`], and what the stream says.
pub(crate) fn inflate<'a>(mut stream: impl Read + Send + 'a) -> io::Result<Inflated<'a>> {
    let mut magic = Vec::with_capacity(MAGIC);
    (&mut stream).take(MAGIC as u64).read_to_end(&mut magic)?;
    let compressed = Compressed::of(&magic)?;
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: Cursor::new(magic).chain(stream),
        count: taken.clone(),
    };
    let whole = BufReader::with_capacity(1 << 18, counted);
    let plain: Box<dyn Read + Send + 'a> = match compressed {
        None => Box::new(whole),
        Some(Compressed::Gzip) => Box::new(MultiGzDecoder::new(whole)),
        Some(Compressed::Zstd) => Box::new(zstd::Decoder::with_buffer(whole)?),
        Some(Compressed::Xz) => Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
        Some(Compressed::Bzip2) => Box::new(MultiBzDecoder::new(whole)),
    };
    Ok(Inflated {
        plain,
        compressed,
        taken,
        given: 0,
    })
}

impl Read for Inflated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self
            .plain
            .read(buffer)
            .map_err(|error| match self.compressed {
                Some(format) if error.kind() != io::ErrorKind::Interrupted => {
                    io::Error::new(error.kind(), format!("reading {}: {error}", format.name()))
                }
                _ => error,
            })?;
        self.given += length as u64;
        let limits = Limits::default();
        let taken = self.taken.load(Ordering::Relaxed);
        let bomb = self.given > RATIO_FROM && self.given / limits.ratio > taken;
        if self.given > limits.bytes || bomb {
            let text = "it inflates to more than any honest archive does";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(length)
    }
}

/// Counts the compressed bytes, while a decoder owns their reader.
struct Counted<R> {
    inner: Chain<Cursor<Vec<u8>>, R>,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn content() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| (n * n).to_le_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).expect("gzip");
        gzip.finish().expect("gzip")
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(bytes).expect("bzip2");
        bzip2.finish().expect("bzip2")
    }

    /// By the program that people have.
    fn xz(args: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = std::process::Command::new("xz")
            .args(["-c"])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("xz(1) is installed");
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let done = child.wait_with_output().expect("xz");
        writer.join().expect("joined").expect("written");
        assert!(done.status.success());
        done.stdout
    }

    fn all(bytes: &[u8]) -> io::Result<(Vec<u8>, Option<Compressed>)> {
        let mut inflated = inflate(bytes)?;
        let mut out = Vec::new();
        inflated.read_to_end(&mut out)?;
        Ok((out, inflated.compressed))
    }

    #[test]
    fn every_format_is_told_by_its_first_bytes_and_read_to_its_end() {
        let content = content();
        let (one, two) = content.split_at(12_345);
        let zstd = |bytes| zstd::encode_all(bytes, 1).expect("zstd");
        for (bytes, format) in [
            (content.clone(), None),
            (gzip(&content), Some(Compressed::Gzip)),
            ([gzip(one), gzip(two)].concat(), Some(Compressed::Gzip)),
            ([zstd(one), zstd(two)].concat(), Some(Compressed::Zstd)),
            (bzip2(&content), Some(Compressed::Bzip2)),
            ([bzip2(one), bzip2(two)].concat(), Some(Compressed::Bzip2)),
            (xz(&[], &content), Some(Compressed::Xz)),
            (xz(&["-9e", "-T2"], &content), Some(Compressed::Xz)),
            (
                xz(&["--check=sha256", "--x86", "--lzma2"], &content),
                Some(Compressed::Xz),
            ),
            (
                [xz(&[], one), xz(&["-0"], two)].concat(),
                Some(Compressed::Xz),
            ),
        ] {
            let (plain, found) = all(&bytes).expect("sound");
            assert!(plain == content, "{format:?}");
            assert_eq!(found, format);
        }
        assert_eq!(all(b"").expect("nothing").0, b"");
        assert_eq!(all(b"BZh, a text").expect("short").1, None);
        let lz4 = all(b"\x04\x22\x4d\x18....").expect_err("refused");
        assert!(lz4.to_string().contains("lz4"), "{lz4}");
    }

    #[test]
    fn damage_is_found() {
        let content = content();
        for bytes in [
            gzip(&content),
            bzip2(&content),
            xz(&[], &content),
            zstd::encode_all(&content[..], 1).expect("zstd"),
        ] {
            assert!(all(&bytes[..bytes.len() - 9]).is_err());
            let mut flipped = bytes.clone();
            let middle = flipped.len() / 2;
            flipped[middle] ^= 0x55;
            assert!(all(&flipped).map_or(true, |(plain, _)| plain != content));
        }
    }

    #[test]
    fn an_xz_file_does_not_get_the_memory_that_it_asks_for() {
        let small = xz(&["--lzma2=dict=192MiB"], b"text");
        assert_eq!(all(&small).expect("within the bound").0, b"text");
        let large = xz(&["--lzma2=dict=1GiB"], b"text");
        let refused = all(&large).expect_err("refused");
        assert!(refused.to_string().contains("mem"), "{refused}");
    }

    #[test]
    fn what_inflates_without_end_is_stopped() {
        let nothing = io::repeat(0).take(3 << 30);
        let mut packed = Vec::new();
        let mut encoder = zstd::Encoder::new(&mut packed, 1).expect("zstd");
        io::copy(&mut { nothing }, &mut encoder).expect("zstd");
        encoder.finish().expect("zstd");
        let mut inflated = inflate(&packed[..]).expect("begins");
        let stopped = io::copy(&mut inflated, &mut io::sink()).expect_err("stopped");
        assert!(stopped.to_string().contains("honest"), "{stopped}");
    }
}
