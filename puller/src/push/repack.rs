//! Compressing layers whose compressed form is not here: those of a docker archive, and those that
//! were pulled and whose blob no registry has any more.
//!
//! The output depends on the input alone (one stream, a fixed level, no name and no time in its
//! header), so that pushing the same layer twice gives the same blob (moby#30852).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use strata_oci::digest::{Algorithm, Digest, Digester};

/// gzip's own default: what the other builders write.
const LEVEL: u32 = 6;

/// A file's digest and size, and those of the tar that is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// The digest of the compressed bytes.
    pub(super) digest: Digest,
    /// Their number.
    pub(super) size: u64,
    /// The digest of the tar.
    pub(super) diff_id: Digest,
}

/// Compresses what `write` writes into a new file at `path`.
pub(super) fn gzip(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Packed> {
    let file = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
    let encoder = GzEncoder::new(Hashing::new(file), Compression::new(LEVEL));
    let mut tar = Hashing::new(encoder);
    write(&mut tar)?;
    let (encoder, diff_id, _) = tar.finish();
    let (mut file, digest, size) = encoder.finish()?.finish();
    file.flush()?;
    Ok(Packed {
        digest,
        size,
        diff_id,
    })
}

/// What a layer's file holds: the media type's suffix, and the proof of both digests.
pub(super) fn inspect(reader: impl Read) -> io::Result<(&'static str, Packed)> {
    let mut outer = HashingReader::new(BufReader::with_capacity(1 << 18, reader));
    let mut magic = [0u8; 4];
    let mut filled = 0;
    while filled < 4 {
        match outer.read(&mut magic[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let head = io::Cursor::new(magic[..filled].to_vec());
    let whole = head.chain(&mut outer);
    let (suffix, diff_id) = match magic {
        [0x1f, 0x8b, ..] => ("+gzip", digest_of(MultiGzDecoder::new(whole))?),
        [0x28, 0xb5, 0x2f, 0xfd] => ("+zstd", digest_of(zstd::Decoder::new(whole)?)?),
        _ => ("", digest_of(whole)?),
    };
    io::copy(&mut outer, &mut io::sink())?;
    let packed = Packed {
        digest: outer.digester.finish(),
        size: outer.seen,
        diff_id,
    };
    Ok((suffix, packed))
}

fn digest_of(reader: impl Read) -> io::Result<Digest> {
    let mut reader = HashingReader::new(reader);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.digester.finish())
}

struct Hashing<W> {
    inner: W,
    digester: Digester,
    written: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            digester: Digester::new(Algorithm::Sha256),
            written: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.digester.finish(), self.written)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.digester.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct HashingReader<R> {
    inner: R,
    digester: Digester,
    seen: u64,
}

impl<R: Read> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            digester: Digester::new(Algorithm::Sha256),
            seen: 0,
        }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digester.update(&buffer[..count]);
        self.seen += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_tar_gives_the_same_blob_and_both_digests() {
        let dir = tempfile::tempdir().expect("tempdir");
        let tar = vec![7u8; 300_000];
        let pack =
            |name: &str| gzip(&dir.path().join(name), |out| out.write_all(&tar)).expect("packs");
        let packed = pack("a");
        assert_eq!(packed, pack("b"));
        assert_eq!(packed.diff_id, Digest::of(&tar));
        let bytes = std::fs::read(dir.path().join("a")).expect("read");
        assert_eq!(packed.digest, Digest::of(&bytes));
        let (suffix, seen) = inspect(bytes.as_slice()).expect("reads");
        assert_eq!((suffix, &seen), ("+gzip", &packed));
        let (suffix, seen) = inspect(tar.as_slice()).expect("reads");
        assert_eq!((suffix, seen.diff_id), ("", packed.diff_id));
        let zstd = zstd::encode_all(tar.as_slice(), 1).expect("packs");
        let (suffix, seen) = inspect(zstd.as_slice()).expect("reads");
        assert_eq!((suffix, seen.size), ("+zstd", zstd.len() as u64));
        assert_eq!(seen.diff_id, Digest::of(&tar));
        assert!(inspect(&bytes[..bytes.len() / 2]).is_err());
    }
}
