//! An archive that comes as a stream, or compressed as a whole, as a plain file: what is in it is found by its place.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::layer::Limits;

/// From here on the ratio is looked at: a small archive does no harm by it.
const RATIO_FROM: u64 = 1 << 30;

/// Writes what comes into a new file at `path`, inflated if it is gzip or zstd. Bounded as a layer is: by
/// [`Limits::bytes`] and [`Limits::ratio`].
///
/// # Errors
/// What the stream or the disk says; xz, bzip2 and lz4 are named.
pub fn spool(input: impl Read, path: &Path) -> io::Result<u64> {
    let mut input = Counted {
        inner: BufReader::with_capacity(1 << 18, input),
        count: 0,
    };
    let mut magic = Vec::with_capacity(6);
    (&mut input).take(6).read_to_end(&mut magic)?;
    if magic.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
    }
    let unknown = |name: &str| {
        let text = format!("it is compressed by {name}: decompress it first");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    };
    let mut out = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
    let count = std::cell::Cell::new(0);
    let whole = io::Cursor::new(magic.clone()).chain(Told(&mut input, &count));
    let mut plain: Box<dyn Read + '_> = match magic[..] {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(whole)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return unknown("xz"),
        [b'B', b'Z', b'h', ..] => return unknown("bzip2"),
        [0x04, 0x22, 0x4d, 0x18, ..] => return unknown("lz4"),
        _ => Box::new(whole),
    };
    let limits = Limits::default();
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0u64;
    loop {
        let length = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += length as u64;
        let bomb = total > RATIO_FROM && total / limits.ratio > count.get();
        if total > limits.bytes || bomb {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it inflates to more than any honest archive does",
            ));
        }
        out.write_all(&buffer[..length])?;
    }
    out.flush()?;
    Ok(total)
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count += length as u64;
        Ok(length)
    }
}

/// Tells how many bytes have come, while somebody else reads them.
struct Told<'a, R>(&'a mut Counted<R>, &'a std::cell::Cell<u64>);

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(buffer)?;
        self.1.set(self.0.count);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_inflated_by_what_they_are() {
        let dir = tempfile::tempdir().expect("tempdir");
        let plain = b"some archive".repeat(10_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).expect("gzip");
        let forms = [
            plain.clone(),
            gzip.finish().expect("gzip"),
            zstd::encode_all(&plain[..], 1).expect("zstd"),
        ];
        for (number, form) in forms.iter().enumerate() {
            let path = dir.path().join(number.to_string());
            assert_eq!(spool(&form[..], &path).expect("spools"), plain.len() as u64);
            assert!(std::fs::read(path).expect("read") == plain);
        }
        let cut = spool(&forms[1][..forms[1].len() / 2], &dir.path().join("cut"));
        assert!(cut.is_err());
        for (bytes, words) in [
            (&b"\xfd7zXZ\0rest"[..], "xz"),
            (b"BZh91", "bzip2"),
            (b"", "empty"),
        ] {
            let error = spool(bytes, &dir.path().join(words)).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
